# cython: language_level=3, cdivision=True
"""Transposed convolution: the doors.

It is the gradient of a convolution with respect to its input, taken as an operation of its own: x
stands where the convolution has its results, and the result where that has its input. So a kernel
(IC, OC / groups, KH, KW) is that convolution's, the forward pass is its input's gradient with a
bias, and the gradient with respect to the input is its forward pass. Nothing is computed in another
way than there (``run``), and no zeros are inserted.
"""

cimport numpy as cnp

from fastconv.arguments import as_tuple

from fastconv._core.algorithm cimport DIRECT
from fastconv._core.arguments cimport (
    LARGEST, array, c_destination, check_bias, contiguous, destination, finish, float_type, image,
    image_array, integer, is_channels_last, is_relu, pair, shape_text, window)
from fastconv._core.geometry cimport Geometry
from fastconv._core.pack cimport Image
from fastconv._core.resample cimport image_argument
from fastconv._core.run cimport (
    FORWARD, INPUT, KERNEL, Key, run_correlation, run_kernel_gradient)

cnp.import_array()


cdef int transposed_geometry(
    Geometry* g, tuple x_shape, tuple kernel_shape, str kernel_name, object stride, object padding,
    object output_padding, object dilation, object groups
) except -1:
    """The convolution whose results have x's shape; g.IC, g.IH, g.IW are the result's sizes."""
    cdef Py_ssize_t more_h, more_w, extent_h, extent_w
    cdef bint same = isinstance(padding, str) and padding == "same"
    cdef Py_ssize_t OH, OW
    g.N, g.OC, OH, OW = x_shape
    g.G = integer(groups, "groups", 1)
    if min(kernel_shape) < 1:
        raise ValueError(f"{kernel_name}: expected no empty dimension, got {kernel_shape}")
    if kernel_shape[0] != g.OC:
        raise ValueError(f"{kernel_name}: expected shape (IC, OC // groups, KH, KW) with IC = "
                         f"{g.OC}, got {kernel_shape}")
    if g.OC % g.G:
        raise ValueError(f"groups: expected a divisor of the {g.OC} input channels, got {g.G}")
    g.IC, g.KH, g.KW = kernel_shape[1] * g.G, kernel_shape[2], kernel_shape[3]
    pair(stride, "stride", 1, &g.stride_h, &g.stride_w)
    pair(dilation, "dilation", 1, &g.dil_h, &g.dil_w)
    pair(output_padding, "output_padding", 0, &more_h, &more_w)
    if more_h >= max(g.stride_h, g.dil_h) or more_w >= max(g.stride_w, g.dil_w):
        raise ValueError(
            f"output_padding: expected less than the stride {stride!r} or the dilation "
            f"{dilation!r}, got {output_padding!r}")
    if same and (more_h or more_w):
        raise ValueError(
            f'output_padding: expected 0 with padding "same", got {output_padding!r}')
    # Large enough for any window, or, for "same", what that means for the convolution.
    if <double>OH * g.stride_h + <double>OW * g.stride_w > LARGEST:
        raise ValueError(f"stride: expected a result of at most {LARGEST} rows and columns, "
                         f"got {stride!r} for ({OH}, {OW})")
    extent_h, extent_w = (g.KH - 1) * g.dil_h + 1, (g.KW - 1) * g.dil_w + 1
    g.IH = OH * g.stride_h if same else (OH - 1) * g.stride_h + extent_h
    g.IW = OW * g.stride_w if same else (OW - 1) * g.stride_w + extent_w
    window(g, kernel_name, stride, padding, dilation, groups)
    if not same:
        g.IH += more_h - g.pad_t - g.pad_b
        g.IW += more_w - g.pad_l - g.pad_r
        if g.IH < 1 or g.IW < 1:
            raise ValueError(
                f"padding: expected to leave a row and a column of the result, got {padding!r}")
    g.OH, g.OW = OH, OW
    return 0


cdef tuple batched(tuple shape):
    return shape if len(shape) == 4 else (1, *shape)


cdef cnp.ndarray kernel_array(object kernel):
    cdef cnp.ndarray value = array(kernel, "kernel")
    if value.ndim != 4:
        raise ValueError(
            f"kernel: expected shape (IC, OC // groups, KH, KW), got {shape_text(value)}")
    return value


cdef tuple sizes(object value, str name, int count):
    """A tuple of so many sizes."""
    value = as_tuple(name, value)
    if len(value) != count:
        raise ValueError(f"{name}: expected {count} sizes, got {value}")
    # Only the batch may be empty.
    return tuple([integer(value[i], name, 0 if count == 4 and i == 0 else 1)
                  for i in range(count)])


cdef int check_gradient(cnp.ndarray dy, Geometry* g) except -1:
    """dy must have the shape of the forward pass's result."""
    cdef tuple expected = (g.N, g.IC, g.IH, g.IW)
    if batched((<object>dy).shape) != expected:
        raise ValueError(f"dy: expected shape {expected[4 - dy.ndim:]}, got {shape_text(dy)}")
    return 0


def conv_transpose2d(
    x_, kernel_, bias_, stride, padding, output_padding, dilation, groups, activation, out
):
    cdef Key key
    cdef Geometry* g = &key.geometry
    cdef Image src, dst
    cdef Py_ssize_t shape[4]
    cdef int typenum
    cdef bint relu = is_relu(activation)
    cdef cnp.ndarray x = image_argument(x_, "x", "IC, IH, IW")
    cdef cnp.ndarray kernel = kernel_array(kernel_)
    cdef cnp.ndarray bias = None if bias_ is None else array(bias_, "bias")
    cdef cnp.ndarray y
    transposed_geometry(g, batched((<object>x).shape), (<object>kernel).shape, "kernel", stride,
                        padding, output_padding, dilation, groups)
    check_bias(bias, g.IC)
    if bias is None:
        typenum = float_type([x, kernel], ["x", "kernel"])
    else:
        typenum = float_type([x, kernel, bias], ["x", "kernel", "bias"])
        bias = contiguous(bias, typenum)
    key.direction, key.algorithm = INPUT, DIRECT
    key.itemsize = 4 if typenum == cnp.NPY_FLOAT32 else 8
    shape[0], shape[1], shape[2], shape[3] = g.N, g.IC, g.IH, g.IW
    y = destination(out, x.ndim, shape, typenum, is_channels_last(x), (x_, kernel_, bias_),
                    ("x", "kernel", "bias"))
    if g.N:
        x = image_array(x, typenum)
        src, dst = image(x), image(y)
        run_correlation(&key, &src, contiguous(kernel, typenum), bias, &dst, relu)
    return finish(y, out)


def conv_transpose2d_backward_input(
    dy_, kernel_, input_shape, stride, padding, output_padding, dilation, groups, out
):
    cdef Key key
    cdef Geometry* g = &key.geometry
    cdef Image src, dst
    cdef Py_ssize_t shape[4]
    cdef int typenum
    cdef cnp.ndarray dy = image_argument(dy_, "dy", "OC, OH, OW")
    cdef cnp.ndarray kernel = kernel_array(kernel_)
    cdef cnp.ndarray dx
    transposed_geometry(g, batched(sizes(input_shape, "input_shape", dy.ndim)),
                        (<object>kernel).shape, "kernel", stride, padding, output_padding,
                        dilation, groups)
    check_gradient(dy, g)
    typenum = float_type([dy, kernel], ["dy", "kernel"])
    key.direction, key.algorithm = FORWARD, DIRECT
    key.itemsize = 4 if typenum == cnp.NPY_FLOAT32 else 8
    shape[0], shape[1], shape[2], shape[3] = g.N, g.OC, g.OH, g.OW
    dx = destination(out, dy.ndim, shape, typenum, is_channels_last(dy), (dy_, kernel_),
                     ("dy", "kernel"))
    if g.N:
        dy = image_array(dy, typenum)
        src, dst = image(dy), image(dx)
        run_correlation(&key, &src, contiguous(kernel, typenum), None, &dst, False)
    return finish(dx, out)


def conv_transpose2d_backward_kernel(
    dy_, x_, kernel_shape, stride, padding, output_padding, dilation, groups, out
):
    cdef Key key
    cdef Geometry* g = &key.geometry
    cdef Py_ssize_t shape[4]
    cdef int typenum
    cdef cnp.ndarray dy = image_argument(dy_, "dy", "OC, OH, OW")
    cdef cnp.ndarray x = image_argument(x_, "x", "IC, IH, IW")
    cdef cnp.ndarray dkernel
    if x.ndim != dy.ndim:
        raise ValueError(f"dy: expected {x.ndim} dimensions like x, got {shape_text(dy)}")
    kernel_shape = sizes(kernel_shape, "kernel_shape", 4)
    transposed_geometry(g, batched((<object>x).shape), kernel_shape, "kernel_shape", stride,
                        padding, output_padding, dilation, groups)
    check_gradient(dy, g)
    typenum = float_type([dy, x], ["dy", "x"])
    key.direction, key.algorithm = KERNEL, DIRECT
    key.itemsize = 4 if typenum == cnp.NPY_FLOAT32 else 8
    shape[0], shape[1], shape[2], shape[3] = kernel_shape
    dkernel = c_destination(out, 4, shape, typenum, (dy_, x_), ("dy", "x"))
    if g.N:
        run_kernel_gradient(&key, dy, x, dkernel, typenum)
    else:
        dkernel.fill(0)
    return finish(dkernel, out)
