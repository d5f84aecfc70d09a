# cython: language_level=3
"""Average pooling: the doors. Arguments are checked and become tables (``axis_map``)."""

cimport numpy as cnp

import numpy as np

from fastconv.arguments import boolean

from fastconv._core.arguments cimport (
    array, as_type, float_type, gradient_shape, pair, shape_text)
from fastconv._core.axis_map cimport AxisMap
from fastconv._core.axis_map import adaptive, pooled
from fastconv._core.elementwise import empty
from fastconv._core.geometry cimport Axis
from fastconv._core.pooling cimport Window, pool_axis, window_of
from fastconv._core.resample cimport image_argument, reserve, resampled, room

cnp.import_array()


cdef tuple windows(
    object size, object stride, object padding, object ceil_mode, object count_include_pad,
    Py_ssize_t H, Py_ssize_t W
):
    """What `pooled` is given for rows and for columns."""
    cdef Window k
    cdef Axis h, w
    boolean("ceil_mode", ceil_mode)
    window_of(&k, size, stride, padding, 1)
    pool_axis(&h, H, k.KH, k.sh, k.ph, 1, ceil_mode)
    pool_axis(&w, W, k.KW, k.sw, k.pw, 1, ceil_mode)
    included = boolean("count_include_pad", count_include_pad)
    return (H, h.n, k.KH, k.sh, k.ph, included), (W, w.n, k.KW, k.sw, k.pw, included)


cdef object spread(cnp.ndarray dy, AxisMap h, AxisMap w):
    """The gradient with respect to what `h` and `w` averaged to dy."""
    if dy.shape[dy.ndim - 2] != h.n or dy.shape[dy.ndim - 1] != w.n:
        raise ValueError(f"dy: expected {h.n} x {w.n} windows, got {shape_text(dy)}")
    return resampled(dy, "dy", h.transposed(), w.transposed(), 0)


cdef cnp.ndarray gradient_argument(object dy_, object input_shape, Py_ssize_t* H, Py_ssize_t* W):
    """dy, and rows and columns of an `input_shape` that fits it."""
    cdef Py_ssize_t shape[4]
    cdef cnp.ndarray dy = array(dy_, "dy")
    gradient_shape(dy, input_shape, shape)
    dy = image_argument(dy, "dy", "C, OH, OW")
    H[0], W[0] = shape[2], shape[3]
    if H[0] < 1 or W[0] < 1:
        raise ValueError(f"input_shape: expected at least one row and column, got {input_shape}")
    reserve(dy, H[0], W[0])
    return dy


def avg_pool2d(x_, size, stride, padding, ceil_mode, count_include_pad):
    cdef cnp.ndarray x = image_argument(x_, "x", "C, H, W")
    h, w = windows(size, stride, padding, ceil_mode, count_include_pad,
                   x.shape[x.ndim - 2], x.shape[x.ndim - 1])
    y = room(x, "x", h[1], w[1])
    return resampled(x, "x", pooled(*h), pooled(*w), 0) if y is None else y


def avg_pool2d_backward(dy_, input_shape, size, stride, padding, ceil_mode, count_include_pad):
    cdef Py_ssize_t H, W
    cdef cnp.ndarray dy = gradient_argument(dy_, input_shape, &H, &W)
    h, w = windows(size, stride, padding, ceil_mode, count_include_pad, H, W)
    return spread(dy, pooled(*h), pooled(*w))


def adaptive_avg_pool2d(x_, output_size):
    cdef cnp.ndarray x = image_argument(x_, "x", "C, H, W")
    cdef Py_ssize_t OH, OW
    pair(output_size, "output_size", 1, &OH, &OW)
    y = room(x, "x", OH, OW)
    if y is not None:
        return y
    return resampled(x, "x", adaptive(x.shape[x.ndim - 2], OH), adaptive(x.shape[x.ndim - 1], OW),
                     0)


def adaptive_avg_pool2d_backward(dy_, input_shape):
    cdef Py_ssize_t H, W
    cdef cnp.ndarray dy = gradient_argument(dy_, input_shape, &H, &W)
    return spread(dy, adaptive(H, dy.shape[dy.ndim - 2]), adaptive(W, dy.shape[dy.ndim - 1]))


def global_avg_pool2d_backward(dy_, input_shape, channels_last):
    """`dy_` as planes of one pixel."""
    cdef Py_ssize_t H, W
    cdef cnp.ndarray dy = gradient_argument(dy_, input_shape, &H, &W)
    cdef int typenum = float_type([dy], ["dy"])
    dx = empty(tuple(input_shape), np.float32 if typenum == cnp.NPY_FLOAT32 else np.float64,
               channels_last)
    # Every pixel the same: there is nothing to add, and NumPy writes as fast as memory takes it.
    dx[...] = as_type(dy, typenum) / (H * W)
    return dx
