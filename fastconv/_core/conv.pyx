# cython: language_level=3, cdivision=True
"""The doors of the convolution: arguments in, checked; a plan found; the nest run without the GIL.

``conv2d`` and ``conv2d_backward_input`` are one sum (``nests``), ``conv2d_backward_kernel``
has its own (``kernel_gradient``), and a bias is a kernel over an image that is 1 everywhere.
``explain`` goes as far as the plan and says what it holds.  What comes after the checks is ``run``.
"""

cimport numpy as cnp

import numpy as np

from fastconv.arguments import as_tuple

from fastconv._core.algorithm cimport DIRECT, algorithm_code
from fastconv._core.arguments cimport (
    array, c_destination, check_bias, contiguous, destination, finish, float_type, image,
    image_array, integer, is_channels_last, is_relu, shape_text, window)
from fastconv._core.describe cimport (
    describe_correlation, describe_kernel_gradient, describe_winograd,
    describe_winograd_gradient, inside, stand_in)
from fastconv._core.elementwise cimport reordered
from fastconv._core.geometry cimport Axis, Geometry, forward_axis
from fastconv._core.isa cimport vector_cycles
from fastconv._core.kernel_plan cimport KernelGradientPlan
from fastconv._core.memory cimport new_array
from fastconv._core.pack cimport Image
from fastconv._core.plan cimport CorrelationPlan
from fastconv._core.run cimport (
    FORWARD, INPUT, KERNEL, Key, PackedKernel, correlation_plan, is_dense, kernel_gradient_plan,
    pixels, run_correlation, run_kernel_gradient)
from fastconv._core.threads cimport team_size
from fastconv._core.winograd cimport WinogradPlan, fits_winograd
from fastconv._core.winograd_gradient cimport WinogradGradientPlan

cnp.import_array()

# ---- arguments shared by the three passes ------------------------------------------------------

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
    if type(value) is not tuple:
        value = as_tuple(name, value)
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


cdef int set_algorithm(Key* key, object algorithm) except -1:
    cdef Geometry* g = &key.geometry
    key.algorithm = algorithm_code(algorithm)
    if algorithm == "winograd" and not fits_winograd(g):
        raise ValueError(
            "algorithm: 'winograd' expects a 3x3 kernel, stride 1 and dilation 1, got a "
            f"{g.KH}x{g.KW} kernel, stride {(g.stride_h, g.stride_w)} and dilation "
            f"{(g.dil_h, g.dil_w)}")
    return 0


# ---- the three passes --------------------------------------------------------------------------

def conv2d(x_, kernel_, bias_, stride, padding, dilation, groups, activation, out, algorithm,
           PackedKernel kept=None):
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
    check_bias(bias, g.OC)
    if bias is None:
        typenum = float_type([x, kernel], ["x", "kernel"])
    else:
        typenum = float_type([x, kernel, bias], ["x", "kernel", "bias"])
        bias = contiguous(bias, typenum)
    set_algorithm(&key, algorithm)
    key.direction, key.itemsize = FORWARD, 4 if typenum == cnp.NPY_FLOAT32 else 8
    shape[0], shape[1], shape[2], shape[3] = g.N, g.OC, g.OH, g.OW
    y = destination(out, x.ndim, shape, typenum, is_channels_last(x), (x_, kernel_, bias_),
                    ("x", "kernel", "bias"))
    if g.N:
        x = image_array(x, typenum)
        src, dst = image(x), image(y)
        run_correlation(&key, &src, contiguous(kernel, typenum), bias, &dst, relu, kept)
    return finish(y, out)


def conv2d_backward_input(dy_, kernel_, input_shape, stride, padding, dilation, groups, out,
                          algorithm):
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
    set_algorithm(&key, algorithm)
    key.direction, key.itemsize = INPUT, 4 if typenum == cnp.NPY_FLOAT32 else 8
    dx = destination(out, dy.ndim, shape, typenum, is_channels_last(dy), (dy_, kernel_),
                     ("dy", "kernel"))
    if g.N:
        dy = image_array(dy, typenum)
        src, dst = image(dy), image(dx)
        run_correlation(&key, &src, contiguous(kernel, typenum), None, &dst, False)
    return finish(dx, out)


def conv2d_backward_kernel(dy_, x_, kernel_shape, stride, padding, dilation, groups, out,
                           algorithm):
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
    set_algorithm(&key, algorithm)
    key.direction, key.itemsize = KERNEL, 4 if typenum == cnp.NPY_FLOAT32 else 8
    dkernel = c_destination(out, 4, kshape, typenum, (dy_, x_), ("dy", "x"))
    if g.N:
        run_kernel_gradient(&key, x, dy, dkernel, typenum)
    else:
        dkernel.fill(0)
    return finish(dkernel, out)


cpdef cnp.ndarray conv2d_backward_bias(object dy_):
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
    key.algorithm = DIRECT
    key.direction, key.itemsize = KERNEL, 4 if typenum == cnp.NPY_FLOAT32 else 8
    if dy.size == 0:
        sums = new_array(1, shape + 1, <int>key.itemsize, False)
        sums.fill(0)
        return sums
    dy = image_array(dy, typenum)
    if dy.ndim == 3:
        dy = (<object>dy)[np.newaxis]
    grad = image(dy)
    if not is_dense(&grad, shape[1], shape[2], shape[3]):
        dy = reordered(dy, True)
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


# ---- what would run ----------------------------------------------------------------------------

cdef dict DIRECTIONS = {
    "conv2d": FORWARD, "conv2d_backward_input": INPUT, "conv2d_backward_kernel": KERNEL}


def explain(operation, input_shape, kernel_shape, stride, padding, dilation, groups,
            dtype, channels_last, algorithm):
    """What the plan of one of the passes says, as a dict; without a plan for an empty batch."""
    cdef Key key
    cdef Geometry* g = &key.geometry
    cdef Axis h, w
    cdef Image x, y
    cdef Py_ssize_t shape[4]
    cdef Py_ssize_t kshape[4]
    cdef object plan
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
    set_algorithm(&key, algorithm)
    key.direction, key.itemsize = DIRECTIONS[operation], dtype.itemsize
    source, result = found["input_shape"], found["output_shape"]
    if key.direction == INPUT:
        source, result = result, source
    first = stand_in(source, dtype, channels_last)
    second = stand_in(result, dtype, channels_last if key.direction == KERNEL else
                      is_channels_last(first))
    x, y = image(first), image(second)
    if key.direction == KERNEL:
        plan = kernel_gradient_plan(&key, &x, &y)
        if type(plan) is WinogradGradientPlan:
            found.update(describe_winograd_gradient(&(<WinogradGradientPlan>plan).p))
            cost = (<WinogradGradientPlan>plan).p.cost
        else:
            found.update(describe_kernel_gradient(&(<KernelGradientPlan>plan).p))
            cost = (<KernelGradientPlan>plan).p.cost
    else:
        y.data = NULL      # results are aligned
        plan = correlation_plan(&key, &x, &y)
        if type(plan) is WinogradPlan:
            found.update(describe_winograd(&(<WinogradPlan>plan).p))
            cost = (<WinogradPlan>plan).p.cost
        else:
            found.update(describe_correlation(&(<CorrelationPlan>plan).p, &y))
            cost = (<CorrelationPlan>plan).p.cost
    # Plans count in cycles of the widest vectors, whichever they use.
    found["lanes_per_cycle"] = key.leaves.vf / vector_cycles(key.leaves)
    found["threads"] = min(team_size(cost), found["tasks"])
    return found
