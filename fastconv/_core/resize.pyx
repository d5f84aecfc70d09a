# cython: language_level=3
"""Borders and enlargement: the doors. Arguments are checked and become tables (``axis_map``)."""

cimport numpy as cnp

from fastconv.arguments import boolean, one_of, real

from fastconv._core.arguments cimport pads, pair, shape_text
from fastconv._core.axis_map import padded, upsampled
from fastconv._core.resample cimport image_argument, resampled, room

cnp.import_array()

cdef tuple PADDINGS = ("constant", "reflect", "replicate", "circular")
cdef tuple ENLARGEMENTS = ("nearest", "bilinear")


cdef tuple borders(Py_ssize_t H, Py_ssize_t W, object padding, object mode):
    """What `padded` is given for rows and for columns of a border around H x W pixels."""
    cdef Py_ssize_t top, bottom, left, right, most
    one_of("mode", mode, PADDINGS)
    pads(padding, &top, &bottom, &left, &right)
    for n, before, after, axis in ((H, top, bottom, "height"), (W, left, right, "width")):
        # A border is made of other pixels of the image: there must be so many.
        most = max(before, after)
        if mode == "reflect" and most >= n or mode == "circular" and most > n:
            raise ValueError(f"padding: expected {'less than' if mode == 'reflect' else 'at most'} "
                             f"the {axis} {n} for mode {mode!r}, got {padding!r}")
    return (H, top, bottom, mode), (W, left, right, mode)


def pad2d(x_, padding, mode, value):
    cdef cnp.ndarray x = image_argument(x_, "x", "C, H, W")
    H, W = x.shape[x.ndim - 2], x.shape[x.ndim - 1]
    h, w = borders(H, W, padding, mode)
    real("value", value)
    if mode != "constant" and value != 0:
        raise ValueError(f"value: expected 0 for mode {mode!r}, got {value!r}")
    y = room(x, "x", H + h[1] + h[2], W + w[1] + w[2])
    return resampled(x, "x", padded(*h), padded(*w), value) if y is None else y


def pad2d_backward(dy_, padding, mode):
    cdef cnp.ndarray dy = image_argument(dy_, "dy", "C, OH, OW")
    cdef Py_ssize_t top, bottom, left, right
    cdef Py_ssize_t H = dy.shape[dy.ndim - 2], W = dy.shape[dy.ndim - 1]
    pads(padding, &top, &bottom, &left, &right)
    if H <= top + bottom or W <= left + right:
        raise ValueError(
            f"dy: expected more pixels than the padding {padding!r}, got {shape_text(dy)}")
    h, w = borders(H - top - bottom, W - left - right, padding, mode)
    return resampled(dy, "dy", padded(*h).transposed(), padded(*w).transposed(), 0)


cdef bint is_bilinear(object mode, object align_corners) except -1:
    cdef bint bilinear = one_of("mode", mode, ENLARGEMENTS) == "bilinear"
    boolean("align_corners", align_corners)
    if align_corners and not bilinear:
        raise ValueError(f'align_corners: expected False for mode "nearest", got {align_corners}')
    return bilinear


cdef tuple scales(Py_ssize_t H, Py_ssize_t W, Py_ssize_t sh, Py_ssize_t sw, object mode,
                  object align_corners):
    """What `upsampled` is given for rows and for columns."""
    bilinear = bool(is_bilinear(mode, align_corners))
    return (H, sh, bilinear, bool(align_corners)), (W, sw, bilinear, bool(align_corners))


def upsample2d(x_, scale, mode, align_corners):
    cdef cnp.ndarray x = image_argument(x_, "x", "C, H, W")
    cdef Py_ssize_t sh, sw
    pair(scale, "scale", 1, &sh, &sw)
    H, W = x.shape[x.ndim - 2], x.shape[x.ndim - 1]
    h, w = scales(H, W, sh, sw, mode, align_corners)
    y = room(x, "x", H * <object>sh, W * <object>sw)
    return resampled(x, "x", upsampled(*h), upsampled(*w), 0) if y is None else y


def upsample2d_backward(dy_, scale, mode, align_corners):
    cdef cnp.ndarray dy = image_argument(dy_, "dy", "C, OH, OW")
    cdef Py_ssize_t sh, sw, H = dy.shape[dy.ndim - 2], W = dy.shape[dy.ndim - 1]
    pair(scale, "scale", 1, &sh, &sw)
    if H % sh or W % sw:
        raise ValueError(f"dy: expected multiples of {scale!r} pixels, got {shape_text(dy)}")
    h, w = scales(H // sh, W // sw, sh, sw, mode, align_corners)
    return resampled(dy, "dy", upsampled(*h).transposed(), upsampled(*w).transposed(), 0)
