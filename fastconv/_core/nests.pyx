# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Which nest a correlation gets: the forward pass and the gradient of the input are one sum.

Output channels fill the lanes (``correlate``), where they do: narrow vectors where wide ones would
stay half empty, or where the count of cycles says so.  In a depthwise convolution, or with groups
so small that several share a vector, lanes meet lanes (``depthwise``).  Where output channels would
leave many lanes empty (a first layer's input gradient), the roles swap and lanes are neighbouring
pixels of packed planes (``planes``): a choice by counted cycles, as all in ``plan``.

A call that moves more than a share of the last cache streams its result past the caches and asks
ahead for its source.
"""

from fastconv._core.correlate cimport correlate, plan_correlate
from fastconv._core.depthwise cimport depthwise, plan_depthwise
from fastconv._core.geometry cimport Axis, Geometry, forward_axis, gradient_axes
from fastconv._core.isa cimport fc_leaves
from fastconv._core.pack cimport Image
from fastconv._core.plan cimport (
    ASK_BYTES, FEW_CHANNELS, STREAM_BYTES, CorrelationPlan, Plan, best_width, border_cycles,
    ceil_div, cheapest_leaves, lanewise_leaves, max_taps, may_share_vectors, shared_cycles, table,
    valid_rows)
from fastconv._core.planes cimport correlate_planes, cycles_by_pixels, plan_planes

# So many rows that it does not matter how the last of them are cut.
cdef Py_ssize_t MANY_ROWS = 1024
# Cycles of a step of groups that share vectors: it loads, or hands on, a vector of its own.  And of
# a pixel: there are more calls for it.
cdef double SHARED_STEP = 1.25
cdef double SHARED_PIXEL = 15


cdef CorrelationPlan make_plan(
    const Geometry* g, bint backward, const fc_leaves* leaves, int itemsize,
    bint src_planar, bint dst_planar, bint pixels_contiguous
):
    cdef CorrelationPlan plan = CorrelationPlan.__new__(CorrelationPlan)
    cdef Plan* p = &plan.p
    cdef Py_ssize_t OH = g.OH, OW = g.OW, IH = g.IH, IW = g.IW, N = g.N
    cdef double by_channels = 0, by_pixels, inside, by_parts, by_zeros
    cdef Py_ssize_t depth, run
    cdef double bytes
    cdef int width
    p.leaves, p.itemsize, p.vf = leaves, itemsize, leaves.vf
    p.G, p.KH, p.KW, p.flipped = g.G, g.KH, g.KW, backward
    p.cost = (<double>g.N * g.OH * g.OW * g.KH * g.KW) * g.OC * (g.IC // g.G)
    if pixels_contiguous:
        # A 1x1 kernel does not see rows or images: all their pixels are one row.
        if src_planar or dst_planar:
            OH, OW, IH, IW = 1, OH * OW, 1, IH * IW
        else:
            N, OH, OW, IH, IW = 1, 1, N * OH * OW, 1, N * IH * IW
    p.N = N
    if backward:
        p.CI, p.CO = g.OC // g.G, g.IC // g.G
        p.src_h, p.src_w, p.dst_h, p.dst_w = OH, OW, IH, IW
        p.n_h, p.n_w = <int>min(g.stride_h, max(IH, 1)), <int>min(g.stride_w, max(IW, 1))
    else:
        p.CI, p.CO = g.IC // g.G, g.OC // g.G
        p.src_h, p.src_w, p.dst_h, p.dst_w = IH, IW, OH, OW
        p.n_h = p.n_w = 1
    p.h = <Axis*>table(p.n_h, sizeof(Axis))
    p.w = <Axis*>table(p.n_w, sizeof(Axis))
    if backward:
        gradient_axes(p.h, IH, OH, g.KH, g.stride_h, g.pad_t, g.dil_h)
        gradient_axes(p.w, IW, OW, g.KW, g.stride_w, g.pad_l, g.dil_w)
    else:
        forward_axis(p.h, IH, OH, g.KH, g.stride_h, g.pad_t, g.dil_h)
        forward_axis(p.w, IW, OW, g.KW, g.stride_w, g.pad_l, g.dil_w)

    valid_rows(p)

    bytes = p.itemsize * g.N * (
        <double>g.IC * g.IH * g.IW + <double>g.OC * g.OH * g.OW)
    p.asks, p.streams = bytes >= ASK_BYTES, bytes >= STREAM_BYTES
    run = max(p.CI * max_taps(p.w, p.n_w), 1)
    depth = max(p.CI * max_taps(p.h, p.n_h) * max_taps(p.w, p.n_w), 1)
    # The rows of a 1x1 kernel may be the whole batch, which its leaves must not follow from.
    p.leaves = cheapest_leaves(
        leaves, p.CO, MANY_ROWS if g.KH * g.KW == 1 else p.w[0].n, depth, run, 0.95)
    p.vf = p.leaves.vf
    p.V = ceil_div(p.CO, p.vf)
    width = best_width(p.leaves, p.V, p.w[0].n, depth, run, True, True, &by_channels)
    by_channels *= depth
    if p.CI >= FEW_CHANNELS and p.w[0].n > 0:
        # Pixels in the lanes do not skip padding.
        border_cycles(p, width, &inside, &by_parts, &by_zeros)
        by_channels *= min(by_parts, by_zeros) / inside
    by_pixels = cycles_by_pixels(p, leaves, depth)
    p.lanewise = is_lanewise(p, leaves, depth, min(by_channels, by_pixels))
    p.pixel_lanes = not p.lanewise and by_pixels < 0.85 * by_channels
    if p.pixel_lanes:
        p.streams = False
        plan_planes(p, leaves)
    elif p.lanewise:
        plan_depthwise(p, leaves, src_planar, dst_planar)
    else:
        plan_correlate(p, width, src_planar, dst_planar)
    if not (p.pixel_lanes or p.lanewise):
        p.cycles = by_channels * p.h[0].n * p.N * p.G + 0.5 * p.packed_size
    return plan


cdef bint is_lanewise(
    const Plan* p, const fc_leaves* wide, Py_ssize_t depth, double by_groups
) noexcept nogil:
    """Whether lanes meet lanes: in a depthwise convolution, or where groups share vectors in fewer
    cycles than they take one by one."""
    cdef double sources = <double>p.h[0].stride * p.w[0].stride / (p.n_h * p.n_w), shared
    if p.CI == p.CO == 1:
        return p.G > 1
    if not may_share_vectors(p.G, p.CI, p.CO, p.KH * p.KW, wide.vf):
        return False
    shared = SHARED_PIXEL + shared_cycles(
        lanewise_leaves(wide, p.G * p.CO), p.G * p.CO, p.CI, depth, SHARED_STEP, sources)
    # Groups one by one are packed too.
    return shared * p.w[0].n < p.G * (by_groups + 4 * sources * p.w[0].n)


cdef int run_nest(
    const Plan* p, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* packed, char* scratch, int team
) except -1 nogil:
    if p.pixel_lanes:
        correlate_planes(p, src, kernel, bias, dst, relu, scratch, team)
    elif p.lanewise:
        depthwise(p, src, kernel, bias, dst, relu, packed, scratch, team)
    else:
        correlate(p, src, kernel, bias, dst, relu, packed, scratch, team)
    return 0
