# cython: language_level=3, cdivision=True
"""Running a checked problem: its key, its plan from a bounded cache, its memory, its nest.

The doors (``conv``, ``dense``) bring arrays here whose shapes and types they have checked.
"""

cimport numpy as cnp
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcmp, memcpy, memset

import numpy as np

from fastconv._core.algorithm cimport DIRECT, WINOGRAD
from fastconv._core.arguments cimport image, image_array, is_planar
from fastconv._core.geometry cimport Geometry
from fastconv._core.isa cimport leaves
from fastconv._core.kernel_gradient cimport kernel_gradient
from fastconv._core.kernel_plan cimport (
    KernelGradientPlan, KernelPlan, kernel_scratch_bytes, make_kernel_plan)
from fastconv._core.memory cimport Block, take
from fastconv._core.nests cimport make_plan, run_nest
from fastconv._core.pack cimport Image
from fastconv._core.partials cimport partial_size
from fastconv._core.plan cimport CorrelationPlan, Plan
from fastconv._core.task cimport scratch_bytes
from fastconv._core.threads cimport team_size
from fastconv._core.winograd cimport (
    Winograd, WinogradPlan, fits_winograd, plan_winograd, winograd, winograd_scratch_bytes)
from fastconv._core.winograd_gradient cimport (
    WinogradGradient, WinogradGradientPlan, plan_winograd_gradient, winograd_gradient,
    winograd_gradient_scratch_bytes)

cnp.import_array()

cdef enum:
    MOST_PLANS = 1024

# Counted cycles are that far from measured ones: what is not surely faster is computed directly.
cdef double SURELY = 0.75
# Fewer channels are mostly transforms.
cdef Py_ssize_t FEW_CHANNELS = 8

cdef dict plans = {}


cdef object find_plan(const Key* key):
    """The plan for a problem, from a bounded cache."""
    cdef bytes name = PyBytes_FromStringAndSize(<const char*>key, sizeof(Key))
    plan = plans.get(name)
    if plan is None:
        if key.direction == KERNEL:
            plan = make_gradient_plan(key)
        else:
            plan = make_correlation_plan(key)
        if len(plans) >= MOST_PLANS:
            plans.clear()
        plans[name] = plan
    return plan


cdef bint may_be_winograd(const Key* key) noexcept:
    cdef const Geometry* g = &key.geometry
    return key.algorithm == WINOGRAD or (
        key.algorithm != DIRECT and fits_winograd(g)
        and min(g.IC, g.OC) // g.G >= FEW_CHANNELS)


cdef object make_correlation_plan(const Key* key):
    cdef WinogradPlan fast = None
    cdef CorrelationPlan direct
    if may_be_winograd(key):
        fast = plan_winograd(&key.geometry, key.direction == INPUT, key.leaves,
                             <int>key.itemsize, key.src_planar, key.dst_planar)
        if key.algorithm == WINOGRAD:
            return fast
    direct = make_plan(&key.geometry, key.direction == INPUT, key.leaves, <int>key.itemsize,
                       key.src_planar, key.dst_planar, key.pixels_contiguous)
    if fast is not None and fast.p.cycles < SURELY * direct.p.cycles:
        return fast
    return direct


cdef object make_gradient_plan(const Key* key):
    cdef WinogradGradientPlan fast = None
    cdef KernelGradientPlan direct
    if may_be_winograd(key):
        fast = plan_winograd_gradient(&key.geometry, key.leaves, <int>key.itemsize,
                                      key.src_planar, key.dst_planar)
        if key.algorithm == WINOGRAD:
            return fast
    direct = make_kernel_plan(&key.geometry, key.leaves, <int>key.itemsize,
                              key.src_planar, key.dst_planar, key.pixels_contiguous)
    if fast is not None and fast.p.cycles < SURELY * direct.p.cycles:
        return fast
    return direct


cdef bint is_pointwise(const Geometry* g) noexcept:
    """A 1x1 kernel that meets every pixel once: it does not see rows or columns."""
    # (A product of huge strides could wrap around to 1.)
    return g.KH == g.KW == g.stride_h == g.stride_w == 1 and (
        g.pad_t + g.pad_b + g.pad_l + g.pad_r == 0)


cdef bint one_row(const Geometry* g, const Image* a, const Image* b) noexcept:
    """Whether a 1x1 kernel may walk all pixels as one row."""
    if not is_pointwise(g) or a.sh != g.IW * a.sw or b.sh != g.IW * b.sw:
        return False
    if is_planar(a) or is_planar(b):
        return True
    return g.N == 1 or (a.sn == g.IH * a.sh and b.sn == g.IH * b.sh)


cdef object correlation_plan(Key* key, const Image* src, const Image* dst):
    key.src_planar, key.dst_planar = is_planar(src), is_planar(dst)
    key.pixels_contiguous = one_row(&key.geometry, src, dst)
    key.leaves = leaves(<int>key.itemsize)
    return find_plan(key)


cdef struct Needs:
    # What a plan takes: multiply-adds; lanes of a group's bias; packed kernel; a thread's scratch.
    double cost
    Py_ssize_t G, CO, lanes, packed_size, scratch_bytes


cdef Needs needs_of(object plan) noexcept:
    cdef Needs needs
    cdef const Plan* p
    cdef const Winograd* w
    if type(plan) is WinogradPlan:
        w = &(<WinogradPlan>plan).p
        needs.cost, needs.G, needs.CO, needs.lanes = w.cost, w.G, w.CO, w.V * w.vf
        needs.packed_size, needs.scratch_bytes = w.packed_size, winograd_scratch_bytes(w)
    else:
        p = &(<CorrelationPlan>plan).p
        needs.cost, needs.G, needs.CO, needs.lanes = p.cost, p.G, p.CO, p.V * p.vf
        if p.pixel_lanes:
            needs.lanes = p.CO
        needs.packed_size, needs.scratch_bytes = p.packed_size, scratch_bytes(p)
    return needs


cdef class PackedKernel:
    """A kernel as a plan packed it, for calls to come with the same plan and the same values."""


cdef bint holds(PackedKernel kept, object plan, cnp.ndarray kernel) noexcept:
    """Whether these are the values that were packed, byte for byte: anyone may have changed them.
    """
    return (kept is not None and kept.plan is plan
            and memcmp(cnp.PyArray_DATA(kept.kernel), cnp.PyArray_DATA(kernel),
                       cnp.PyArray_NBYTES(kernel)) == 0)


cdef int run_correlation(
    Key* key, Image* src, cnp.ndarray kernel, cnp.ndarray bias, Image* dst, bint relu,
    PackedKernel kept=None
) except -1:
    """With `kept` the packed kernel is taken from there, or left there."""
    cdef object plan = correlation_plan(key, src, dst)
    cdef Needs needs = needs_of(plan)
    cdef int team = team_size(needs.cost)
    cdef Py_ssize_t size = key.itemsize, g
    cdef Py_ssize_t packed_bytes = (needs.packed_size * size + 63) // 64 * 64
    cdef Py_ssize_t bias_bytes = (needs.G * needs.lanes * size + 63) // 64 * 64
    cdef bint ready = holds(kept, plan, kernel)
    cdef Block panels = kept.block if ready else take(packed_bytes)
    cdef Block block = take(bias_bytes + team * needs.scratch_bytes)
    cdef char* packed = panels.data
    cdef char* padded_bias = NULL
    cdef char* scratch = block.data + bias_bytes
    cdef const char* k = NULL if ready else <const char*>cnp.PyArray_DATA(kernel)
    cdef cnp.ndarray copy = None
    cdef const Plan* direct = NULL
    cdef const Winograd* fast = NULL
    if needs.packed_size == 0:
        kept = None     # the plan reads the kernel as it lies
    if kept is not None and not ready:
        copy = kernel.copy()
    if bias is not None:
        padded_bias = block.data
        memset(padded_bias, 0, bias_bytes)
        for g in range(needs.G):
            memcpy(padded_bias + g * needs.lanes * size,
                   <char*>cnp.PyArray_DATA(bias) + g * needs.CO * size, needs.CO * size)
    if type(plan) is WinogradPlan:
        fast = &(<WinogradPlan>plan).p
    else:
        direct = &(<CorrelationPlan>plan).p
    with nogil:
        if fast != NULL:
            winograd(fast, src, k, padded_bias, dst, relu, packed, scratch, team)
        else:
            run_nest(direct, src, k, padded_bias, dst, relu, packed, scratch, team)
    if copy is not None:
        kept.plan, kept.kernel, kept.block = plan, copy, panels
    return 0


cdef int run_kernel_gradient(
    Key* key, cnp.ndarray x, cnp.ndarray dy, cnp.ndarray dkernel, int typenum
) except -1:
    """x None: one channel that is 1 everywhere."""
    cdef Geometry* g = &key.geometry
    cdef Image src, grad
    cdef double one64 = 1
    cdef float one32 = 1
    dy = flat_rows(image_array(dy, typenum), g)
    grad = image(dy)
    if x is None:
        src.data = <char*>&one32 if key.itemsize == 4 else <char*>&one64
        src.sn = src.sh = src.sw = 0
        src.sc = 1
    else:
        x = flat_rows(image_array(x, typenum), g)
        src = image(x)
    cdef object plan = kernel_gradient_plan(key, &src, &grad)
    cdef const KernelPlan* direct = NULL
    cdef const WinogradGradient* fast = NULL
    cdef Py_ssize_t partials, scratch
    cdef double cost
    if type(plan) is WinogradGradientPlan:
        fast = &(<WinogradGradientPlan>plan).p
        cost, scratch = fast.cost, winograd_gradient_scratch_bytes(fast)
        partials = partial_size(&fast.partials) * fast.partials.count
    else:
        direct = &(<KernelGradientPlan>plan).p
        # A plain sum waits for memory, not for its additions.
        cost, scratch = direct.cost * (8 if x is None else 1), kernel_scratch_bytes(direct)
        partials = partial_size(&direct.partials) * direct.partials.count
    cdef int team = team_size(cost)
    partials = (partials * key.itemsize + 63) // 64 * 64
    cdef Block block = take(partials + team * scratch)
    cdef char* data = <char*>cnp.PyArray_DATA(dkernel)
    with nogil:
        if fast != NULL:
            winograd_gradient(fast, &src, &grad, data, block.data, block.data + partials, team)
        else:
            kernel_gradient(direct, &src, &grad, data, block.data, block.data + partials, team)
    return 0


cdef object kernel_gradient_plan(Key* key, Image* src, Image* grad):
    """The plan; a 1x1 kernel's pixels become one row, of `key` and of the images."""
    cdef Geometry* g = &key.geometry
    key.pixels_contiguous = is_dense(grad, g.OC, g.OH, g.OW) and (
        src.sw == 0 or is_dense(src, g.IC, g.IH, g.IW))
    if is_pointwise(g):
        # What is summed in which order must not depend on the memory's order: here images stay
        # apart unless they are single pixels.
        if g.IH * g.IW == 1:
            g.IW, g.N = g.N, 1
            src.sw, grad.sw = src.sn, grad.sn
        else:
            g.IW, g.IH = g.IH * g.IW, 1
        g.OH, g.OW = g.IH, g.IW
    key.src_planar, key.dst_planar = is_planar(src), is_planar(grad)
    key.leaves = leaves(<int>key.itemsize)
    return find_plan(key)


cdef bint is_dense(const Image* a, Py_ssize_t C, Py_ssize_t H, Py_ssize_t W) noexcept:
    """Whether pixels of C channels follow each other without a gap."""
    return a.sc == 1 and a.sw == C and a.sh == W * C and a.sn == H * W * C


cdef cnp.ndarray flat_rows(cnp.ndarray value, const Geometry* g):
    """For a 1x1 kernel, an array whose pixels can be walked as one row."""
    cdef Image view = image(value)
    if not is_pointwise(g) or (
            not is_planar(&view) if g.IH * g.IW == 1 else view.sh == g.IW * view.sw):
        return value
    return np.ascontiguousarray(value)


cdef void pixels(
    Geometry* g, Py_ssize_t N, Py_ssize_t IC, Py_ssize_t OC, Py_ssize_t H, Py_ssize_t W
) noexcept:
    """The geometry of a 1x1 convolution."""
    g.N, g.IC, g.OC, g.G = N, IC, OC, 1
    g.IH = g.OH = H
    g.IW = g.OW = W
    g.KH = g.KW = g.stride_h = g.stride_w = g.dil_h = g.dil_w = 1
    g.pad_t = g.pad_b = g.pad_l = g.pad_r = 0
