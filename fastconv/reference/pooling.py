"""Max pooling and its gradient."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrays import Array, finish, float64
from .windows import Pair, axes_of, pair, taps_of


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
