# cython: language_level=3, cdivision=True
"""The doors of the convolution: arguments in, checked; a plan found; the nest run without the GIL.

``conv2d`` and ``conv2d_backward_input`` are one sum (``nests``), ``conv2d_backward_kernel``
has its own, and ``dense`` is a 1x1 convolution whose pixels are the samples.
"""

cimport numpy as cnp
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcpy, memset

import numpy as np

from fastconv._core.arguments cimport (
    array, check_out, contiguous, float_type, image, image_array, integer,
    is_channels_last, is_planar, shape_text, window, writable_in_place)
from fastconv._core.pack cimport Box, Image, pack_pixels
from fastconv._core.describe cimport (
    describe_correlation, describe_kernel_gradient, inside, stand_in)
from fastconv._core.geometry cimport Axis, Geometry, forward_axis
from fastconv._core.isa cimport fc_leaves, leaves, vector_cycles
from fastconv._core.kernel_gradient cimport (
    KernelGradientPlan, kernel_gradient, kernel_scratch_bytes, make_kernel_plan)
from fastconv._core.memory cimport Block, new_array, take
from fastconv._core.nests cimport make_plan, run_nest
from fastconv._core.plan cimport CorrelationPlan
from fastconv._core.task cimport scratch_bytes
from fastconv._core.threads cimport parallel_for, team_size

cnp.import_array()

cdef enum:
    FORWARD, INPUT, KERNEL
    MOST_PLANS = 1024

cdef struct Key:
    # All that a plan depends on.
    Geometry geometry
    Py_ssize_t direction, itemsize, src_planar, dst_planar, pixels_contiguous
    const fc_leaves* leaves

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


# ---- arguments shared by the three passes ------------------------------------------------------

cdef bint is_relu(object activation) except -1:
    if activation is None:
        return False
    if isinstance(activation, str) and activation == "relu":
        return True
    raise ValueError(f'activation: expected None or "relu", got {activation!r}')


cdef int check_images(cnp.ndarray value, str name, str letters) except -1:
    if value.ndim != 3 and value.ndim != 4:
        raise ValueError(
            f"{name}: expected shape (N, {letters}) or ({letters}), got {shape_text(value)}")
    return 0


cdef int shape_argument(
    object value, str name, str letters, bint batched, Py_ssize_t* shape
) except -1:
    """A tuple of 4 sizes, or of 3 where there is no batch."""
    cdef Py_ssize_t length, i
    try:
        value = tuple(value)
    except TypeError:
        raise TypeError(f"{name}: expected a tuple {letters}, got {value!r}") from None
    length = len(value)
    if length == 3 and not batched:
        shape[0] = 1
    elif length != 4 or not batched:
        raise ValueError(f"{name}: expected {letters}, got {value}")
    for i in range(length):
        shape[4 - length + i] = integer(value[i], name, 0)
    return 0


cdef int check_kernel(Geometry* g, const Py_ssize_t* shape, str name) except -1:
    """Channels of the kernel (OC, IC / G, KH, KW) against the groups and the input."""
    if g.IC % g.G:
        raise ValueError(f"groups: expected a divisor of the {g.IC} input channels, got {g.G}")
    if g.OC % g.G:
        raise ValueError(f"groups: expected a divisor of the {g.OC} output channels, got {g.G}")
    if shape[1] * g.G != g.IC:
        raise ValueError(
            f"{name}: expected shape (OC, IC // groups, KH, KW) with IC // groups = "
            f"{g.IC // g.G}, got ({shape[0]}, {shape[1]}, {shape[2]}, {shape[3]})")
    return 0


cdef int kernel_sizes(Geometry* g, const Py_ssize_t* shape, str name) except -1:
    cdef int i
    for i in range(4):
        if shape[i] < 1:
            raise ValueError(f"{name}: expected no empty dimension, got ({shape[0]}, {shape[1]}, "
                             f"{shape[2]}, {shape[3]})")
    g.OC, g.KH, g.KW = shape[0], shape[2], shape[3]
    return 0


cdef int input_sizes(Geometry* g, const Py_ssize_t* shape, str name) except -1:
    g.N, g.IC, g.IH, g.IW = shape[0], shape[1], shape[2], shape[3]
    if g.IC < 1 or g.IH < 1 or g.IW < 1:
        raise ValueError(f"{name}: expected at least one channel, row and column, got "
                         f"({g.N}, {g.IC}, {g.IH}, {g.IW})")
    return 0


cdef void batched_shape(cnp.ndarray value, Py_ssize_t* shape) noexcept:
    cdef int i, missing = 4 - value.ndim
    shape[0] = 1
    for i in range(value.ndim):
        shape[missing + i] = value.shape[i]


cdef cnp.ndarray kernel_array(object kernel):
    cdef cnp.ndarray value = array(kernel, "kernel")
    if value.ndim != 4:
        raise ValueError(
            f"kernel: expected shape (OC, IC // groups, KH, KW), got {shape_text(value)}")
    return value


cdef int check_gradient(cnp.ndarray dy, Geometry* g) except -1:
    """dy must have the shape that the forward pass gives."""
    cdef Py_ssize_t shape[4]
    batched_shape(dy, shape)
    if shape[0] != g.N or shape[1] != g.OC or shape[2] != g.OH or shape[3] != g.OW:
        raise ValueError(
            f"dy: expected shape {(g.N, g.OC, g.OH, g.OW)[4 - dy.ndim:]}, got {shape_text(dy)}")
    return 0


# ---- the three passes --------------------------------------------------------------------------

def conv2d(x_, kernel_, bias_, stride, padding, dilation, groups, activation, out):
    cdef Key key
    cdef Geometry* g = &key.geometry
    cdef Image src, dst
    cdef Py_ssize_t shape[4]
    cdef int typenum
    cdef bint relu = is_relu(activation)
    cdef cnp.ndarray x = array(x_, "x")
    cdef cnp.ndarray kernel = kernel_array(kernel_)
    cdef cnp.ndarray bias = None if bias_ is None else array(bias_, "bias")
    cdef cnp.ndarray y
    check_images(x, "x", "IC, IH, IW")
    batched_shape(x, shape)
    input_sizes(g, shape, "x")
    kernel_sizes(g, <const Py_ssize_t*>kernel.shape, "kernel")
    window(g, "kernel", stride, padding, dilation, groups)
    check_kernel(g, <const Py_ssize_t*>kernel.shape, "kernel")
    if bias is not None and (bias.ndim != 1 or bias.shape[0] != g.OC):
        raise ValueError(f"bias: expected shape ({g.OC},), got {shape_text(bias)}")
    if bias is None:
        typenum = float_type([x, kernel], ["x", "kernel"])
    else:
        typenum = float_type([x, kernel, bias], ["x", "kernel", "bias"])
        bias = contiguous(bias, typenum)
    key.direction, key.itemsize = FORWARD, 4 if typenum == cnp.NPY_FLOAT32 else 8
    shape[0], shape[1], shape[2], shape[3] = g.N, g.OC, g.OH, g.OW
    y = destination(out, x.ndim, shape, typenum, is_channels_last(x), (x_, kernel_, bias_),
                    ("x", "kernel", "bias"))
    if g.N:
        x = image_array(x, typenum)
        src, dst = image(x), image(y)
        run_correlation(&key, &src, contiguous(kernel, typenum), bias, &dst, relu)
    return finish(y, out)


def conv2d_backward_input(dy_, kernel_, input_shape, stride, padding, dilation, groups, out):
    cdef Key key
    cdef Geometry* g = &key.geometry
    cdef Image src, dst
    cdef Py_ssize_t shape[4]
    cdef int typenum
    cdef cnp.ndarray dy = array(dy_, "dy")
    cdef cnp.ndarray kernel = kernel_array(kernel_)
    cdef cnp.ndarray dx
    check_images(dy, "dy", "OC, OH, OW")
    shape_argument(input_shape, "input_shape",
                   "(N, IC, IH, IW)" if dy.ndim == 4 else "(IC, IH, IW)", dy.ndim == 4, shape)
    input_sizes(g, shape, "input_shape")
    kernel_sizes(g, <const Py_ssize_t*>kernel.shape, "kernel")
    window(g, "kernel", stride, padding, dilation, groups)
    check_kernel(g, <const Py_ssize_t*>kernel.shape, "kernel")
    check_gradient(dy, g)
    typenum = float_type([dy, kernel], ["dy", "kernel"])
    key.direction, key.itemsize = INPUT, 4 if typenum == cnp.NPY_FLOAT32 else 8
    dx = destination(out, dy.ndim, shape, typenum, is_channels_last(dy), (dy_, kernel_),
                     ("dy", "kernel"))
    if g.N:
        dy = image_array(dy, typenum)
        src, dst = image(dy), image(dx)
        run_correlation(&key, &src, contiguous(kernel, typenum), None, &dst, False)
    return finish(dx, out)


def conv2d_backward_kernel(dy_, x_, kernel_shape, stride, padding, dilation, groups, out):
    cdef Key key
    cdef Geometry* g = &key.geometry
    cdef Py_ssize_t shape[4]
    cdef Py_ssize_t kshape[4]
    cdef int typenum
    cdef cnp.ndarray dy = array(dy_, "dy")
    cdef cnp.ndarray x = array(x_, "x")
    cdef cnp.ndarray dkernel
    check_images(x, "x", "IC, IH, IW")
    check_images(dy, "dy", "OC, OH, OW")
    if x.ndim != dy.ndim:
        raise ValueError(f"dy: expected {x.ndim} dimensions like x, got {shape_text(dy)}")
    batched_shape(x, shape)
    input_sizes(g, shape, "x")
    shape_argument(kernel_shape, "kernel_shape", "(OC, IC // groups, KH, KW)", 1, kshape)
    kernel_sizes(g, kshape, "kernel_shape")
    window(g, "kernel_shape", stride, padding, dilation, groups)
    check_kernel(g, kshape, "kernel_shape")
    check_gradient(dy, g)
    typenum = float_type([dy, x], ["dy", "x"])
    key.direction, key.itemsize = KERNEL, 4 if typenum == cnp.NPY_FLOAT32 else 8
    if out is not None:
        check_out(out, "out", 4, kshape, typenum, (dy_, x_), ("dy", "x"))
    if out is not None and cnp.PyArray_IS_C_CONTIGUOUS(out) and cnp.PyArray_ISBEHAVED(out):
        dkernel = out
    else:
        dkernel = new_array(4, kshape, <int>key.itemsize, False)
    if g.N:
        run_kernel_gradient(&key, x, dy, dkernel, typenum)
    else:
        dkernel.fill(0)
    return finish(dkernel, out)


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


def conv2d_backward_bias(dy_):
    cdef Key key
    cdef Image grad
    cdef Py_ssize_t shape[4]
    cdef Py_ssize_t group
    cdef int typenum
    cdef cnp.ndarray dy = array(dy_, "dy")
    cdef cnp.ndarray sums
    check_images(dy, "dy", "OC, OH, OW")
    typenum = float_type([dy], ["dy"])
    batched_shape(dy, shape)
    key.direction, key.itemsize = KERNEL, 4 if typenum == cnp.NPY_FLOAT32 else 8
    if dy.size == 0:
        sums = new_array(1, shape + 1, <int>key.itemsize, False)
        sums.fill(0)
        return sums
    dy = image_array(dy, typenum)
    grad = image(dy)
    if not is_dense(&grad, shape[1], shape[2], shape[3]):
        dy = packed_copy(&grad, shape, <int>key.itemsize)
    # The gradient of a 1x1 kernel over one channel that is 1 everywhere.  Some pixels together
    # are one of so many more channels: vectors of lanes are full, and there are several of them.
    group = pixels_together(shape[1], shape[2] * shape[3], key.itemsize)
    dy = (<object>dy).transpose(0, 2, 3, 1).reshape(
        shape[0], shape[2] * shape[3] // group, 1, group * shape[1]).transpose(0, 3, 1, 2)
    sums = new_array(2, [group, shape[1]], <int>key.itemsize, False)
    pixels(&key.geometry, shape[0], 1, group * shape[1], dy.shape[2], 1)
    run_kernel_gradient(&key, None, dy, sums, typenum)
    return (<object>sums)[0] if group == 1 else (<object>sums).sum(axis=0)


cdef Py_ssize_t pixels_together(Py_ssize_t C, Py_ssize_t P, Py_ssize_t itemsize) noexcept:
    """The largest divisor of P pixels that makes C channels at most as wide as a tile."""
    cdef Py_ssize_t group = max(min(256 // itemsize // C, P), 1)
    while P % group:
        group -= 1
    return group


cdef cnp.ndarray packed_copy(const Image* src, const Py_ssize_t* shape, int itemsize):
    """All pixels of an image in channels-last order."""
    cdef cnp.ndarray copy = new_array(4, shape, itemsize, True)
    cdef Box box
    cdef Image view
    box.n0 = box.c0 = box.r0 = box.x0 = 0
    box.n1, box.c1, box.r1, box.x1 = shape[0], shape[1], shape[2], shape[3]
    box.pitch, box.H, box.W = shape[1], shape[2], shape[3]
    with nogil:
        pack_pixels(leaves(itemsize), itemsize, src, &box, <char*>cnp.PyArray_DATA(copy), &view)
    return copy


cdef void pixels(
    Geometry* g, Py_ssize_t N, Py_ssize_t IC, Py_ssize_t OC, Py_ssize_t H, Py_ssize_t W
) noexcept:
    """The geometry of a 1x1 convolution."""
    g.N, g.IC, g.OC, g.G = N, IC, OC, 1
    g.IH = g.OH = H
    g.IW = g.OW = W
    g.KH = g.KW = g.stride_h = g.stride_w = g.dil_h = g.dil_w = 1
    g.pad_t = g.pad_b = g.pad_l = g.pad_r = 0


# ---- what would run ----------------------------------------------------------------------------

cdef dict DIRECTIONS = {
    "conv2d": FORWARD, "conv2d_backward_input": INPUT, "conv2d_backward_kernel": KERNEL}


def explain(operation, input_shape, kernel_shape, stride, padding, dilation, groups,
            dtype, channels_last):
    """What the plan of one of the passes says, as a dict; without a plan for an empty batch."""
    cdef Key key
    cdef Geometry* g = &key.geometry
    cdef Axis h, w
    cdef Image x, y
    cdef Py_ssize_t shape[4]
    cdef Py_ssize_t kshape[4]
    cdef CorrelationPlan plan
    cdef KernelGradientPlan kernel_plan
    cdef double cost
    cdef bint batched = not (isinstance(input_shape, (tuple, list)) and len(input_shape) == 3)
    shape_argument(input_shape, "input_shape", "(N, IC, IH, IW) or (IC, IH, IW)", batched, shape)
    input_sizes(g, shape, "input_shape")
    shape_argument(kernel_shape, "kernel_shape", "(OC, IC // groups, KH, KW)", 1, kshape)
    kernel_sizes(g, kshape, "kernel_shape")
    window(g, "kernel_shape", stride, padding, dilation, groups)
    check_kernel(g, kshape, "kernel_shape")
    forward_axis(&h, g.IH, g.OH, g.KH, g.stride_h, g.pad_t, g.dil_h)
    forward_axis(&w, g.IW, g.OW, g.KW, g.stride_w, g.pad_l, g.dil_w)
    found = {
        "input_shape": (g.N, g.IC, g.IH, g.IW),
        "kernel_shape": (g.OC, g.IC // g.G, g.KH, g.KW),
        "output_shape": (g.N, g.OC, g.OH, g.OW),
        # Pairs of an output pixel and a tap that lies inside the image.
        "inside": int(inside(&h) * inside(&w)),
    }
    if g.N == 0:
        return found
    key.direction, key.itemsize = DIRECTIONS[operation], dtype.itemsize
    source, result = found["input_shape"], found["output_shape"]
    if key.direction == INPUT:
        source, result = result, source
    first = stand_in(source, dtype, channels_last)
    second = stand_in(result, dtype, channels_last if key.direction == KERNEL else
                      is_channels_last(first))
    x, y = image(first), image(second)
    if key.direction == KERNEL:
        kernel_plan = kernel_gradient_plan(&key, &x, &y)
        found.update(describe_kernel_gradient(&kernel_plan.p))
        cost = kernel_plan.p.cost
    else:
        y.data = NULL      # results are aligned
        plan = correlation_plan(&key, &x, &y)
        found.update(describe_correlation(&plan.p, &y))
        cost = plan.p.cost
    # Plans count in cycles of the widest vectors, whichever they use.
    found["lanes_per_cycle"] = key.leaves.vf / vector_cycles(key.leaves)
    found["threads"] = min(team_size(cost), found["tasks"])
    return found


# ---- dense layers: samples are the pixels of a 1x1 convolution --------------------------------

cdef Image rows_of_pixels(cnp.ndarray value) noexcept:
    """A contiguous (N, features) array as N pixels of one row."""
    cdef Image view
    view.data = <char*>cnp.PyArray_DATA(value)
    view.sc, view.sw = 1, value.shape[1]
    view.sh = view.sn = value.shape[0] * value.shape[1]
    return view


cdef cnp.ndarray samples(cnp.ndarray value):
    """A contiguous (N, features) array as N images of one pixel."""
    return (<object>value).reshape(value.shape[0], value.shape[1], 1, 1)


cdef cnp.ndarray matrix(object value, str name, str letters):
    cdef cnp.ndarray checked = array(value, name)
    if checked.ndim != 2:
        raise ValueError(f"{name}: expected shape ({letters}), got {shape_text(checked)}")
    return checked


def dense(x_, kernel_, bias_, activation):
    cdef Key key
    cdef Image src, dst
    cdef Py_ssize_t shape[2]
    cdef int typenum
    cdef bint relu = is_relu(activation)
    cdef cnp.ndarray x = matrix(x_, "x", "N, in_features")
    cdef cnp.ndarray kernel = matrix(kernel_, "kernel", "out_features, in_features")
    cdef cnp.ndarray bias = None if bias_ is None else array(bias_, "bias")
    cdef cnp.ndarray y
    check_features(x, kernel, "x")
    if bias is not None and (bias.ndim != 1 or bias.shape[0] != kernel.shape[0]):
        raise ValueError(f"bias: expected shape ({kernel.shape[0]},), got {shape_text(bias)}")
    if bias is None:
        typenum = float_type([x, kernel], ["x", "kernel"])
    else:
        typenum = float_type([x, kernel, bias], ["x", "kernel", "bias"])
        bias = contiguous(bias, typenum)
    key.direction, key.itemsize = FORWARD, 4 if typenum == cnp.NPY_FLOAT32 else 8
    shape[0], shape[1] = x.shape[0], kernel.shape[0]
    y = new_array(2, shape, <int>key.itemsize, False)
    if shape[0]:
        x = contiguous(x, typenum)
        pixels(&key.geometry, 1, x.shape[1], kernel.shape[0], 1, x.shape[0])
        src, dst = rows_of_pixels(x), rows_of_pixels(y)
        run_correlation(&key, &src, contiguous(kernel, typenum), bias, &dst, relu)
    return y


def dense_backward(dy_, x_, kernel_, need_dx):
    cdef Key key
    cdef Image grad, dst
    cdef cnp.ndarray dy = matrix(dy_, "dy", "N, out_features")
    cdef cnp.ndarray x = matrix(x_, "x", "N, in_features")
    cdef cnp.ndarray kernel = matrix(kernel_, "kernel", "out_features, in_features")
    cdef cnp.ndarray dx = None
    cdef cnp.ndarray dkernel
    cdef int typenum
    if not isinstance(need_dx, (bool, np.bool_)):
        raise TypeError(f"need_dx: expected a bool, got {need_dx!r}")
    check_features(x, kernel, "x")
    if dy.shape[0] != x.shape[0] or dy.shape[1] != kernel.shape[0]:
        raise ValueError(
            f"dy: expected shape ({x.shape[0]}, {kernel.shape[0]}), got {shape_text(dy)}")
    typenum = float_type([dy, x, kernel], ["dy", "x", "kernel"])
    key.itemsize = 4 if typenum == cnp.NPY_FLOAT32 else 8
    if need_dx:
        dx = new_array(2, <const Py_ssize_t*>x.shape, <int>key.itemsize, False)
    dkernel = new_array(2, <const Py_ssize_t*>kernel.shape, <int>key.itemsize, False)
    dy, x = contiguous(dy, typenum), contiguous(x, typenum)
    if x.shape[0] == 0:
        dkernel.fill(0)
    else:
        if need_dx:
            pixels(&key.geometry, 1, x.shape[1], kernel.shape[0], 1, x.shape[0])
            grad, dst = rows_of_pixels(dy), rows_of_pixels(dx)
            key.direction = INPUT
            run_correlation(&key, &grad, contiguous(kernel, typenum), None, &dst, False)
        if x.shape[0] == 1:
            outer_product(dy, x, dkernel)
        else:
            pixels(&key.geometry, x.shape[0], x.shape[1], kernel.shape[0], 1, 1)
            key.direction = KERNEL
            run_kernel_gradient(&key, samples(x), samples(dy), dkernel, typenum)
    return dx, dkernel, conv2d_backward_bias(samples(dy))


cdef struct Outer:
    const fc_leaves* leaves
    Py_ssize_t row                # bytes of a row of dkernel
    int itemsize
    const char* dy
    const char* x
    char* dkernel


cdef void outer_task(void* context, Py_ssize_t o, int thread) noexcept nogil:
    cdef Outer* run = <Outer*>context
    run.leaves.scale(run.dkernel + o * run.row, run.x, run.dy + o * run.itemsize,
                     run.row // run.itemsize)


cdef void outer_product(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray dkernel) noexcept:
    """The kernel gradient of one sample: no sum, so all that counts is to write it once."""
    cdef Outer run
    cdef Py_ssize_t outputs = dkernel.shape[0]
    run.itemsize = <int>cnp.PyArray_ITEMSIZE(x)
    run.leaves, run.row = leaves(run.itemsize), x.shape[1] * run.itemsize
    run.dy, run.x = <const char*>cnp.PyArray_DATA(dy), <const char*>cnp.PyArray_DATA(x)
    run.dkernel = <char*>cnp.PyArray_DATA(dkernel)
    cdef int team = team_size(4.0 * outputs * x.shape[1])
    with nogil:
        parallel_for(outputs, team, outer_task, &run)


cdef int check_features(cnp.ndarray x, cnp.ndarray kernel, str name) except -1:
    if kernel.shape[0] < 1 or kernel.shape[1] < 1:
        raise ValueError(f"kernel: expected no empty dimension, got {shape_text(kernel)}")
    if x.shape[1] != kernel.shape[1]:
        raise ValueError(
            f"{name}: expected shape (N, {kernel.shape[1]}), got {shape_text(x)}")
    return 0


# ---- results ----------------------------------------------------------------------------------

cdef cnp.ndarray destination(
    object out, int ndim, const Py_ssize_t* shape, int typenum, bint channels_last,
    tuple inputs, tuple names
):
    """The array to compute into: `out` where the nest can write it, else a new one."""
    cdef int size = 4 if typenum == cnp.NPY_FLOAT32 else 8
    if out is not None:
        check_out(out, "out", ndim, shape + 4 - ndim, typenum, inputs, names)
        if writable_in_place(out):
            return out
        channels_last = is_channels_last(out)
    return new_array(ndim, shape + 4 - ndim, size, channels_last)


cdef cnp.ndarray finish(cnp.ndarray computed, object out):
    """Bring the result to where the caller wants it."""
    if out is None or out is computed:
        return computed
    out[...] = computed
    return out
