# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""How the gradient of a kernel is cut: the plan that ``kernel_gradient`` runs.

What fills the lanes and what the rows of a tile is chosen by counted cycles, as in ``plan``: output
channels and input channels, or the other way round; with few input channels the taps are rows too;
in a depthwise convolution, or with groups so small that several share a vector, lanes meet lanes.

Pixels are cut into blocks by the caches and into chunks by the problem's shape, never by the number
of threads, and neither follows from the memory order: both decide about the order of a sum.
"""

from libc.stdlib cimport free

from fastconv._core.caches cimport L2_BYTES
from fastconv._core.geometry cimport all_inside, forward_axis, most_see_the_border
from fastconv._core.isa cimport FC_LANEWISE_NR, FC_SLIDE
from fastconv._core.pack cimport spread_table
from fastconv._core.partials cimport partial_size
from fastconv._core.plan cimport (
    ASK_BYTES, FEW_CHANNELS, PACKED_LANES, best_width, ceil_div, cheapest_leaves, cut_lanes,
    lanewise_leaves, may_share_vectors, shared_cycles, tallest_tile)

# A block: enough pixels to load and store the tile for; a task: enough blocks to be handed out.
cdef Py_ssize_t BLOCK_PIXELS = 256
# As few steps a call has for its cost: it is one tile, which adds to what lies in memory, and
# whose operands come from the L2 cache.
cdef Py_ssize_t CALL_STEPS = BLOCK_PIXELS // 8
cdef Py_ssize_t SCRATCH_BYTES = 2 * L2_BYTES
cdef Py_ssize_t WHOLE_BYTES = 262144
cdef Py_ssize_t ENOUGH_TASKS = 16
cdef Py_ssize_t PARTIAL_BYTES = 4194304
# Pixels this far apart, or a multiple of it, share so few sets of the L1 cache that a pixel's lines
# are gone before all of their channels were read.  A 1x1 kernel reads them once for all tiles.  A
# pixel of a panel is worth copying for so many vector multiply-adds.
cdef Py_ssize_t PANEL_BYTES = 2048
cdef Py_ssize_t PANEL_STEPS = 240
# Cycles of a step of groups that share vectors, and where rows hand theirs on.
cdef double SHARED_STEP = 2
cdef double FOLLOWING_STEP = 1.4


cdef class KernelGradientPlan:
    """Owner of a plan's tables."""

    def __dealloc__(self):
        free(self.p.lanes)
        free(self.p.spread.index)


cdef KernelGradientPlan make_kernel_plan(
    const Geometry* g, const fc_leaves* leaves, int itemsize,
    bint x_planar, bint dy_planar, bint dense
):
    cdef KernelGradientPlan plan = KernelGradientPlan.__new__(KernelGradientPlan)
    cdef KernelPlan* p = &plan.p
    cdef Py_ssize_t N = g.N, OH = g.OH, OW = g.OW, IH = g.IH, IW = g.IW
    cdef Py_ssize_t R, blocks, tasks, most, enough
    cdef double cycles = 0
    cdef int width
    p.leaves, p.itemsize, p.vf = leaves, itemsize, leaves.vf
    p.N, p.G, p.KH, p.KW = N, g.G, g.KH, g.KW
    p.CI, p.CO = g.IC // g.G, g.OC // g.G
    forward_axis(&p.h, IH, OH, g.KH, g.stride_h, g.pad_t, g.dil_h)
    forward_axis(&p.w, IW, OW, g.KW, g.stride_w, g.pad_l, g.dil_w)
    p.cost = (<double>g.N * g.OH * g.OW * g.KH * g.KW) * g.OC * p.CI

    p.lanewise = is_lanewise(p, leaves)
    if p.lanewise:
        p.spread.CI, p.spread.CO = p.CI, p.CO
        p.cost *= 4 if p.CI * p.CO == 1 else 2       # each product loads its own vector
        p.G, p.CO = 1, g.G * p.CO
        leaves = lanewise_leaves(leaves, p.CO)
    else:
        p.swapped = is_swapped(p, leaves)
        leaves = channel_leaves(p, leaves, p.swapped)
    p.in_rows, p.in_lanes = (p.CO, p.CI) if p.swapped else (p.CI, p.CO)
    p.leaves, p.vf = leaves, leaves.vf
    p.V = ceil_div(p.in_lanes, p.vf)
    p.by_taps = p.lanewise or (p.CI < FEW_CHANNELS and g.KH * g.KW > 1)
    p.padded = p.by_taps and not (all_inside(&p.h, 0, OH) and all_inside(&p.w, 0, OW)) and (
        not p.lanewise or most_see_the_border(&p.w))
    p.packs_x = x_planar or p.padded
    # The last vector of lanes reaches past a pixel's channels.
    p.packs_last = p.in_lanes % p.vf != 0
    p.packs_dy = dy_planar or (p.packs_last and not dense and not p.swapped)
    p.packs_x |= p.packs_last and not dense and p.swapped
    if p.lanewise and p.packs_dy and p.packs_last:
        p.packs_x = True
    if p.lanewise and p.CI * p.spread.CO > 1:
        p.packs_x = True
        p.spread.pitch = p.V * p.vf
        p.spread.index = spread_table(p.CI, p.spread.CO, p.CO, p.spread.pitch, itemsize)
    R = p.in_rows * p.KH * p.KW
    p.unit_rows = R if p.by_taps else p.in_rows
    width = best_width(
        leaves, p.V, p.unit_rows, CALL_STEPS, CALL_STEPS, False, True, &cycles)
    if p.lanewise:
        width = <int>min(p.V, FC_LANEWISE_NR)
    p.cycles = cycles * N * OH * OW * p.G * (1 if p.by_taps else p.KH * p.KW)
    p.n_lanes = cut_lanes(leaves, p.V, p.in_lanes, width, &p.lanes)
    most = tallest_tile(leaves, p.lanes, p.n_lanes)
    p.n_tiles = ceil_div(p.unit_rows, most)
    p.tile_rows = ceil_div(p.unit_rows, p.n_tiles)
    p.n_tiles = ceil_div(p.unit_rows, p.tile_rows)
    p.n_units = p.n_tiles if p.by_taps else p.n_tiles * p.KH * p.KW
    p.panels = (g.KH * g.KW == g.stride_h * g.stride_w == 1
                and not p.swapped and p.CO <= p.CI and g.IC * itemsize % PANEL_BYTES == 0)
    p.packs_x |= p.panels
    p.packs_dy |= p.panels and g.OC * itemsize % PANEL_BYTES == 0
    # A lane-wise task packs the channels of its lanes and no others.
    p.split = 1
    if p.panels:
        p.split = worthy_blocks(p)
    if p.lanewise:
        p.split = max(PACKED_LANES // (p.lanes[0].nr * p.vf), 1)
        if (OW - 1) * p.w.stride + (p.KW - 1) * p.w.offset_step + 1 <= WHOLE_BYTES // (
                p.V * p.vf * itemsize * (p.h.stride + (p.KH - 1) * p.h.offset_step)):
            p.split = p.n_lanes     # whole pixels are one copy a row
    # Shared operands that no cache holds are asked for in time.
    p.asks = dense and not (x_planar or dy_planar) and p.G == 1 and p.h.stride <= p.KH and (
        itemsize * g.N * (<double>g.IC * IH * IW + <double>g.OC * OH * OW) >= ASK_BYTES)
    p.x_channels = p.CI
    if p.lanewise:
        p.x_channels *= min(p.split * p.lanes[0].nr, p.V) * p.vf
    elif p.panels:
        p.x_channels = p.n_tiles * p.tile_rows
    elif p.swapped:
        p.x_channels = p.V * p.vf

    # Blocks of pixels.
    enough = BLOCK_PIXELS
    if p.panels:
        enough = max(min(enough, L2_BYTES // 4 // (p.CI * itemsize)), BLOCK_PIXELS // 4)
    if p.G * R * p.V * p.vf * itemsize > L2_BYTES // 2:
        enough *= 4      # each block reads and writes a partial kernel that no L2 cache holds
    p.columns = max(OW, 1)
    if OH == 1 and p.KH == 1 and p.KW == 1:
        p.columns = max(min(OW, enough), 1)
    p.rows = max(min(enough // p.columns, OH), 1)
    while p.rows > 1 and x_elements(p, 1) * itemsize > SCRATCH_BYTES:
        p.rows -= 1
    p.rows = ceil_div(OH, ceil_div(OH, p.rows)) if OH else 1
    p.images = 1
    if p.rows >= OH and p.columns >= OW:
        p.images = max(min(enough // max(p.rows * p.columns, 1),
                           SCRATCH_BYTES // max(x_elements(p, 1) * itemsize, 1)), 1)
        p.images = min(p.images, max(N, 1))
    p.n_images, p.n_rows = ceil_div(N, p.images), ceil_div(OH, p.rows)
    p.n_columns = ceil_div(OW, p.columns)
    p.n_blocks = p.n_images * p.n_rows * p.n_columns
    blocks = max(p.n_blocks, 1)

    # Tasks: lanes and groups first, then chunks of pixels, then units.
    if p.swapped:
        # All of them share dy, which is smaller.
        p.split = max(p.n_lanes // ceil_div(ENOUGH_TASKS, p.G * blocks), 1)
    p.partials.leaves, p.partials.itemsize = leaves, itemsize
    p.partials.G, p.partials.rows = p.G, R
    p.partials.width, p.partials.lanes = p.V * p.vf, p.in_lanes
    p.partials.taps = p.KH * p.KW if p.swapped else 0
    if R < 128 and not (p.lanewise or p.swapped):
        p.split = p.n_lanes     # packing x again for other lanes would cost more than it shares
    tasks = p.G * ceil_div(p.n_lanes, p.split)
    p.n_chunks = max(min(blocks, ceil_div(ENOUGH_TASKS, tasks)), 1)
    most = PARTIAL_BYTES // max(partial_size(&p.partials) * itemsize, 1)
    p.n_chunks = max(min(p.n_chunks, most), 1)
    p.chunk = ceil_div(blocks, p.n_chunks)
    p.n_chunks = ceil_div(blocks, p.chunk)
    p.partials.count = p.n_chunks
    if packs_again(p, x_planar):
        p.split = max(p.split, min(
            worthy_blocks(p), p.n_lanes // max(ENOUGH_TASKS // 4 // (p.G * p.n_chunks), 1)))
    p.n_splits = ceil_div(p.n_lanes, p.split)
    tasks = p.G * p.n_splits * p.n_chunks
    p.n_parts = 1
    if R >= 128 and not packs_again(p, x_planar):
        p.n_parts = max(min(ceil_div(ENOUGH_TASKS, tasks), p.n_units), 1)
    p.units = ceil_div(p.n_units, p.n_parts)
    p.n_parts = ceil_div(p.n_units, p.units)
    p.n_tasks = tasks * p.n_parts
    # A depthwise tile's last vector may read past the last packed pixel.
    p.x_scratch = 0
    if p.packs_x or ((p.lanewise or p.swapped) and p.packs_last):
        p.x_scratch = x_elements(p, p.images) + FC_LANEWISE_NR * p.vf
    p.panel = x_elements(p, p.images) // p.n_tiles
    if p.spread.index != NULL and x_planar:
        p.row_scratch = IW * g.IC
    p.dy_scratch = 0
    if p.packs_dy or p.packs_last:
        p.dy_scratch = p.images * p.rows * p.columns * (
            p.CO if p.swapped else min(p.split * p.lanes[0].nr, p.V) * p.vf)
    return plan


cdef const fc_leaves* channel_leaves(
    const KernelPlan* p, const fc_leaves* wide, bint swapped
) noexcept nogil:
    """The leaves for lanes that are a group's channels."""
    cdef Py_ssize_t lanes = p.CI if swapped else p.CO
    # Lower tiles read the pixels more often.
    return cheapest_leaves(wide, lanes, group_rows(p, swapped), BLOCK_PIXELS, BLOCK_PIXELS, 0.85)


cdef Py_ssize_t group_rows(const KernelPlan* p, bint swapped) noexcept nogil:
    """Rows that a group's tiles have to cover, of a tap or of all."""
    if swapped:
        return p.CO
    return p.CI if p.CI >= FEW_CHANNELS else p.CI * p.KH * p.KW


cdef double group_cycles(const KernelPlan* p, const fc_leaves* wide, bint swapped) noexcept nogil:
    """Cycles of a pixel of a group, of a tap or of all."""
    cdef const fc_leaves* leaves = channel_leaves(p, wide, swapped)
    cdef Py_ssize_t lanes = p.CI if swapped else p.CO
    cdef double cycles = 0
    best_width(leaves, ceil_div(lanes, leaves.vf), group_rows(p, swapped), CALL_STEPS, CALL_STEPS,
               False, True, &cycles)
    return cycles


cdef bint is_swapped(const KernelPlan* p, const fc_leaves* wide) noexcept nogil:
    """Whether input channels fill the lanes clearly better than output channels."""
    return p.CI >= FEW_CHANNELS and (
        group_cycles(p, wide, True) < 0.85 * group_cycles(p, wide, False))


cdef bint is_lanewise(const KernelPlan* p, const fc_leaves* wide) noexcept nogil:
    """Whether lanes meet lanes: in a depthwise convolution, or where groups share vectors in fewer
    cycles than they take one by one."""
    cdef Py_ssize_t R = p.CI * p.KH * p.KW
    cdef double sources = <double>p.h.stride * p.w.stride, shared
    if p.CI == p.CO == 1:
        return p.G > 1
    if not may_share_vectors(p.G, p.CI, p.CO, p.KH * p.KW, wide.vf):
        return False
    shared = shared_cycles(
        lanewise_leaves(wide, p.G * p.CO), p.G * p.CO, p.CI, R,
        FOLLOWING_STEP if p.KW == FC_SLIDE and p.w.stride == 1 else SHARED_STEP, sources)
    # Groups one by one are packed too.
    return shared < p.G * (group_cycles(p, wide, False) + 4 * (1 + sources))


cdef Py_ssize_t worthy_blocks(const KernelPlan* p) noexcept nogil:
    """Blocks of lanes that a tile's channels of a pixel are worth copying for."""
    return ceil_div(PANEL_STEPS, p.lanes[0].nr * p.tile_rows * p.KH * p.KW)


cdef bint packs_again(const KernelPlan* p, bint x_planar) noexcept nogil:
    """Whether each task turns planes into pixels of which a kernel makes little use."""
    return x_planar and not (p.by_taps or p.swapped or p.panels) and worthy_blocks(p) > 1


cdef Py_ssize_t x_elements(const KernelPlan* p, Py_ssize_t images) noexcept nogil:
    cdef Py_ssize_t n_rows, n_columns
    n_rows = (p.rows - 1) * p.h.stride + (p.KH - 1) * p.h.offset_step + 1
    n_columns = (p.columns - 1) * p.w.stride + (p.KW - 1) * p.w.offset_step + 1
    if not p.padded:
        n_rows, n_columns = min(n_rows, p.h.source), min(n_columns, p.w.source)
    return images * n_rows * n_columns * p.x_channels


cdef Py_ssize_t kernel_scratch_bytes(const KernelPlan* p) noexcept nogil:
    """Bytes of scratch that one thread needs, a whole number of cache lines."""
    return ((p.x_scratch + p.row_scratch + p.dy_scratch) * p.itemsize + 127) // 64 * 64
