"""Pooling: the largest value or the mean of each window, and the gradients."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .arrays import Array, as_channels_last, as_contiguous, empty, finish, float64
from .windows import Axis, Pair, axes_of, pair, taps_of


def max_pool2d(
    x: Array,
    size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value under each window, plane by plane.

        y[n, c, oh, ow] = max over kh, kw of x[n, c, ih, iw]        (ih, iw as in `conv2d`)

    ``stride=None`` means windows side by side (the stride is the size). The padding never wins.
    A NaN wins over everything, so a window with a NaN gives NaN. Among equals the first in
    row-major order wins, among several NaN the last. With ``return_indices`` the winner's place
    ``ih * IW + iw`` in its plane comes along, as int32.

    Examples
    --------
    >>> max_pool2d(np.arange(16.0).reshape(1, 4, 4), 2, return_indices=True)
    (array([[[ 5.,  7.],
            [13., 15.]]]), array([[[ 5,  7],
            [13, 15]]], dtype=int32))
    """
    dtype, (images,) = float64(x=x)
    images = images if images.ndim == 4 else images[None]
    N, C, IH, IW = images.shape
    stride = size if stride is None else stride
    rows, columns = axes_of((IH, IW), pair(size), stride, padding, dilation, ceil_mode)

    place = np.arange(IH * IW, dtype=np.int32).reshape(IH, IW)
    y = np.full((N, C, rows.out, columns.out), -np.inf)
    indices = np.full(y.shape, -1, np.int32)
    for _, _, at_y, at_x in taps_of(rows, columns):
        value, best = images[at_x], y[at_y]
        wins = (value > best) | np.isnan(value) | (indices[at_y] < 0)
        y[at_y] = np.where(wins, value, best)
        indices[at_y] = np.where(wins, place[at_x], indices[at_y])
    if (indices < 0).any():
        raise ValueError("padding: a window lies wholly outside the image")

    y = finish(y, dtype, x, None)
    return (y, finish(indices, indices.dtype, x, None)) if return_indices else y


def max_pool2d_backward(dy: Array, indices: Array, input_shape: Sequence[int]) -> Array:
    """Gradient with respect to the input of `max_pool2d`: each window's goes to its winner.

        dx[n, c, i] = sum of dy[n, c, oh, ow] over the windows with indices[n, c, oh, ow] == i

    where ``i`` is the place ``ih * IW + iw`` in the plane. Windows that overlap add up.

    Examples
    --------
    >>> y, indices = max_pool2d(np.arange(9.0).reshape(1, 3, 3), 2, stride=1, return_indices=True)
    >>> max_pool2d_backward(np.ones_like(y), indices, (1, 3, 3))
    array([[[0., 0., 0.],
            [0., 1., 1.],
            [0., 1., 1.]]])
    """
    dtype, (gradients,) = float64(dy=dy)
    indices = np.asarray(indices)
    *planes, IH, IW = input_shape
    if indices.size and not (indices.min() >= 0 and indices.max() < IH * IW):
        raise ValueError(f"indices: expected places in a plane of {IH}x{IW} pixels")
    dx = np.zeros((*planes, IH * IW))
    for plane in np.ndindex(*planes):
        np.add.at(dx[plane], indices[plane], gradients[plane])
    return finish(dx.reshape((1, *input_shape)[-4:]), dtype, dy, None)


def avg_pool2d(
    x: Array,
    size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The mean of each window, plane by plane.

        y[n, c, oh, ow] = (sum over kh, kw of x[n, c, ih, iw]) / count[oh, ow]

    ``count`` is the number of the window's pixels that lie in the image, or in the image and the
    padding that was asked for (``count_include_pad``). What a window of ``ceil_mode`` holds beyond
    that never counts.

    Examples
    --------
    >>> avg_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    """
    dtype, (images,) = float64(x=x)
    images = images if images.ndim == 4 else images[None]
    N, C, IH, IW = images.shape
    rows, columns, count = _windows((IH, IW), size, stride, padding, ceil_mode, count_include_pad)
    y = np.zeros((N, C, rows.out, columns.out))
    for _, _, at_y, at_x in taps_of(rows, columns):
        y[at_y] += images[at_x]
    return finish(y / count, dtype, x, None)


def avg_pool2d_backward(
    dy: Array,
    input_shape: Sequence[int],
    size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Gradient with respect to the input of `avg_pool2d`.

        dx[n, c, ih, iw] = sum over the windows that hold the pixel of dy[oh, ow] / count[oh, ow]

    Examples
    --------
    >>> avg_pool2d_backward(np.array([[[4.0, 8.0]]]), (1, 1, 4), (1, 2))
    array([[[2., 2., 4., 4.]]])
    """
    dtype, (gradients,) = float64(dy=dy)
    gradients = gradients if gradients.ndim == 4 else gradients[None]
    rows, columns, count = _windows(
        input_shape[-2:], size, stride, padding, ceil_mode, count_include_pad
    )
    dx = np.zeros((1, *input_shape)[-4:])
    for _, _, at_y, at_x in taps_of(rows, columns):
        dx[at_x] += (gradients / count)[at_y]
    return finish(dx, dtype, dy, None)


def _windows(
    image: Sequence[int],
    size: Pair,
    stride: Pair | None,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
) -> tuple[Axis, Axis, Array]:
    """Rows, columns, and what each window's sum is divided by."""
    stride = size if stride is None else stride
    axes = axes_of(image, pair(size), stride, padding, 1, ceil_mode)
    counts = []
    for axis, margin in zip(axes, pair(padding), strict=True):
        pixels = np.arange(axis.taps) + np.arange(axis.out)[:, None] * axis.stride - margin
        margin = margin if count_include_pad else 0
        counts.append(((pixels >= -margin) & (pixels < axis.size + margin)).sum(axis=1))
    return *axes, np.multiply.outer(*counts)


def adaptive_avg_pool2d(x: Array, output_size: Pair) -> Array:
    """The means of OH x OW windows that cover the image, plane by plane.

    Window ``o`` of ``O`` along an axis of ``I`` pixels holds pixels ``floor(o * I / O)`` up to, and
    without, ``ceil((o + 1) * I / O)``.

    Examples
    --------
    >>> adaptive_avg_pool2d(np.arange(9.0).reshape(1, 3, 3), 2)
    array([[[2., 3.],
            [5., 6.]]])
    """
    dtype, (images,) = float64(x=x)
    images = images if images.ndim == 4 else images[None]
    OH, OW = pair(output_size)
    y = np.empty((*images.shape[:2], OH, OW))
    for oh, ow, window in _cover(images.shape[2:], (OH, OW)):
        y[..., oh, ow] = images[(..., *window)].mean(axis=(2, 3))
    return finish(y, dtype, x, None)


def adaptive_avg_pool2d_backward(dy: Array, input_shape: Sequence[int]) -> Array:
    """Gradient with respect to the input of `adaptive_avg_pool2d`: equal shares of each dy.

    Examples
    --------
    >>> adaptive_avg_pool2d_backward(np.array([[[2.0, 6.0]]]), (1, 1, 3))
    array([[[1., 4., 3.]]])
    """
    dtype, (gradients,) = float64(dy=dy)
    gradients = gradients if gradients.ndim == 4 else gradients[None]
    dx = np.zeros((1, *input_shape)[-4:])
    for oh, ow, window in _cover(dx.shape[2:], gradients.shape[2:]):
        here = dx[(..., *window)]
        here += gradients[..., oh, ow, None, None] / (here.shape[2] * here.shape[3])
    return finish(dx, dtype, dy, None)


def _cover(image: Sequence[int], out: Sequence[int]) -> Iterator[tuple[int, int, Any]]:
    """Each window of an adaptive pooling, with the pixels that it holds."""
    for places in np.ndindex(*out):
        yield (
            *places,
            tuple(
                slice(o * size // count, -(-(o + 1) * size // count))
                for o, size, count in zip(places, image, out, strict=True)
            ),
        )  # fmt: skip


def global_avg_pool2d(x: Array) -> Array:
    """The mean of each plane: (N, C, H, W) to (N, C).

    Examples
    --------
    >>> global_avg_pool2d(np.arange(8.0).reshape(2, 2, 2))
    array([1.5, 5.5])
    """
    dtype, (images,) = float64(x=x)
    return images.mean(axis=(-2, -1)).astype(dtype)


def global_avg_pool2d_backward(
    dy: Array, input_shape: Sequence[int], *, channels_last: bool = False
) -> Array:
    """Gradient of `global_avg_pool2d`: each pixel of a plane gets dy / (H * W).

    Examples
    --------
    >>> global_avg_pool2d_backward(np.array([8.0]), (1, 2, 2))
    array([[[2., 2.],
            [2., 2.]]])
    """
    dtype, (gradients,) = float64(dy=dy)
    H, W = input_shape[-2:]
    dx = empty(input_shape, dtype, channels_last)
    dx[...] = gradients[..., None, None] / (H * W)
    return dx


def global_max_pool2d(x: Array, *, return_indices: bool = False) -> Any:
    """The largest value of each plane: (N, C, H, W) to (N, C), as `max_pool2d` with one window.

    Examples
    --------
    >>> global_max_pool2d(np.arange(8.0).reshape(2, 2, 2), return_indices=True)
    (array([3., 7.]), array([3, 3], dtype=int32))
    """
    y, indices = max_pool2d(x, np.shape(x)[-2:], return_indices=True)
    return (y[..., 0, 0], indices[..., 0, 0]) if return_indices else y[..., 0, 0]


def global_max_pool2d_backward(
    dy: Array, indices: Array, input_shape: Sequence[int], *, channels_last: bool = False
) -> Array:
    """Gradient of `global_max_pool2d`: it goes to the winner.

    Examples
    --------
    >>> global_max_pool2d_backward(np.array([5.0]), np.array([2]), (1, 2, 2))
    array([[[0., 0.],
            [5., 0.]]])
    """
    planes = np.asarray(dy)[..., None, None]
    dx = max_pool2d_backward(planes, np.asarray(indices)[..., None, None], input_shape)
    return as_channels_last(dx) if channels_last else as_contiguous(dx)
