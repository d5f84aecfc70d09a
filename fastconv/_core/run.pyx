# cython: language_level=3, cdivision=True
"""Running a checked problem: its key, its plan from a bounded cache, its memory, its nest.

The doors (``conv``, ``dense``) bring arrays here whose shapes and types they have checked.
"""

cimport numpy as cnp
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcpy, memset

import numpy as np

from fastconv._core.arguments cimport image, image_array, is_planar
from fastconv._core.geometry cimport Geometry
from fastconv._core.isa cimport leaves
from fastconv._core.kernel_gradient cimport (
    KernelGradientPlan, kernel_gradient, kernel_scratch_bytes, make_kernel_plan)
from fastconv._core.memory cimport Block, take
from fastconv._core.nests cimport make_plan, run_nest
from fastconv._core.pack cimport Image
from fastconv._core.plan cimport CorrelationPlan
from fastconv._core.task cimport scratch_bytes
from fastconv._core.threads cimport team_size

cnp.import_array()

cdef enum:
    MOST_PLANS = 1024

cdef dict plans = {}


cdef object find_plan(const Key* key):
    """The plan for a problem, from a bounded cache."""
    cdef bytes name = PyBytes_FromStringAndSize(<const char*>key, sizeof(Key))
    plan = plans.get(name)
    if plan is None:
        if key.direction == KERNEL:
            plan = make_kernel_plan(&key.geometry, key.leaves, <int>key.itemsize,
                                    key.src_planar, key.dst_planar, key.pixels_contiguous)
        else:
            plan = make_plan(&key.geometry, key.direction == INPUT, key.leaves,
                             <int>key.itemsize, key.src_planar, key.dst_planar,
                             key.pixels_contiguous)
        if len(plans) >= MOST_PLANS:
            plans.clear()
        plans[name] = plan
    return plan


cdef bint is_pointwise(const Geometry* g) noexcept:
    """A 1x1 kernel that meets every pixel once: it does not see rows or columns."""
    return g.KH * g.KW == 1 and g.stride_h * g.stride_w == 1 and (
        g.pad_t + g.pad_b + g.pad_l + g.pad_r == 0)


cdef bint one_row(const Geometry* g, const Image* a, const Image* b) noexcept:
    """Whether a 1x1 kernel may walk all pixels as one row."""
    if not is_pointwise(g) or a.sh != g.IW * a.sw or b.sh != g.IW * b.sw:
        return False
    if is_planar(a) or is_planar(b):
        return True
    return g.N == 1 or (a.sn == g.IH * a.sh and b.sn == g.IH * b.sh)


cdef CorrelationPlan correlation_plan(Key* key, const Image* src, const Image* dst):
    key.src_planar, key.dst_planar = is_planar(src), is_planar(dst)
    key.pixels_contiguous = one_row(&key.geometry, src, dst)
    key.leaves = leaves(<int>key.itemsize)
    return find_plan(key)


cdef int run_correlation(
    Key* key, Image* src, cnp.ndarray kernel, cnp.ndarray bias, Image* dst, bint relu
) except -1:
    cdef CorrelationPlan plan = correlation_plan(key, src, dst)
    cdef int team = team_size(plan.p.cost)
    cdef Py_ssize_t size = key.itemsize, g
    cdef Py_ssize_t lanes = plan.p.CO if plan.p.pixel_lanes else plan.p.V * plan.p.vf
    cdef Py_ssize_t packed_bytes = (plan.p.packed_size * size + 63) // 64 * 64
    cdef Py_ssize_t bias_bytes = (plan.p.G * lanes * size + 63) // 64 * 64
    cdef Block block = take(packed_bytes + bias_bytes + team * scratch_bytes(&plan.p))
    cdef char* packed = block.data
    cdef char* padded_bias = NULL
    cdef char* scratch = packed + packed_bytes + bias_bytes
    cdef const char* k = <const char*>cnp.PyArray_DATA(kernel)
    if bias is not None:
        padded_bias = packed + packed_bytes
        memset(padded_bias, 0, bias_bytes)
        for g in range(plan.p.G):
            memcpy(padded_bias + g * lanes * size,
                   <char*>cnp.PyArray_DATA(bias) + g * plan.p.CO * size, plan.p.CO * size)
    with nogil:
        run_nest(&plan.p, src, k, padded_bias, dst, relu, packed, scratch, team)
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
    cdef KernelGradientPlan plan = kernel_gradient_plan(key, &src, &grad)
    # A plain sum waits for memory, not for its additions.
    cdef int team = team_size(plan.p.cost * (8 if x is None else 1))
    cdef Py_ssize_t partials = plan.p.partial_size * plan.p.n_chunks * key.itemsize
    partials = (partials + 63) // 64 * 64
    cdef Block block = take(partials + team * kernel_scratch_bytes(&plan.p))
    cdef char* data = <char*>cnp.PyArray_DATA(dkernel)
    with nogil:
        kernel_gradient(&plan.p, &src, &grad, data, block.data, block.data + partials, team)
    return 0


cdef KernelGradientPlan kernel_gradient_plan(Key* key, Image* src, Image* grad):
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
