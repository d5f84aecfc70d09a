"""Borders around images, larger images, and their gradients.

Every pixel of the result is a weighted sum of pixels along both axes, so an axis is a matrix of
weights, ``(O, I)``, and the two operations and their gradients are products with two of them.
"""

from typing import Literal

import numpy as np

from .arrays import Array, finish, float64
from .windows import Pair, pair

Border = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]
Mode = Literal["constant", "reflect", "replicate", "circular"]
MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _both(images: Array, rows: Array, columns: Array) -> Array:
    return np.einsum("...hw,oh,pw->...op", images, rows, columns, optimize=True)


def _pads(padding: Border) -> tuple[tuple[int, int], tuple[int, int]]:
    if np.ndim(padding) == 2:
        return pair(padding[0]), pair(padding[1])  # type: ignore[index]
    h, w = pair(padding)
    return (h, h), (w, w)


def pad2d(x: Array, padding: Border, mode: str = "constant", value: float = 0) -> Array:
    """The images with a border, as `numpy.pad` makes it.

    Its modes are named as in PyTorch: "replicate" is NumPy's "edge", "circular" its "wrap".

    Examples
    --------
    >>> pad2d(np.array([[[1.0, 2.0, 3.0]]]), (0, 2), "reflect")
    array([[[3., 2., 1., 2., 3., 2., 1.]]])
    """
    dtype, (images,) = float64(x=x)
    pads = ((0, 0),) * (images.ndim - 2) + _pads(padding)
    rest = {"constant_values": value} if mode == "constant" else {}
    y = np.pad(images, pads, MODES[mode], **rest)  # type: ignore[call-overload]
    return finish(y if y.ndim == 4 else y[None], dtype, x, None)


def pad2d_backward(dy: Array, padding: Border, mode: str = "constant") -> Array:
    """Gradient with respect to the input of `pad2d`: each pixel sums what its copies got.

    Examples
    --------
    >>> pad2d_backward(np.array([[[5.0, 1.0, 2.0, 3.0, 7.0]]]), (0, 1), "replicate")
    array([[[ 6.,  2., 10.]]])
    """
    dtype, (gradients,) = float64(dy=dy)
    gradients = gradients if gradients.ndim == 4 else gradients[None]
    copies = []
    for length, (before, after) in zip(gradients.shape[2:], _pads(padding), strict=True):
        one_hot = np.eye(length - before - after)
        rest = ((before, after), (0, 0))
        copies.append(np.pad(one_hot, rest, MODES[mode]).T)  # type: ignore[call-overload]
    return finish(_both(gradients, *copies), dtype, dy, None)


def _weights(length: int, scale: int, mode: str, align_corners: bool) -> Array:
    """The weight (O, I) of every pixel along an axis in each of the enlarged axis."""
    count = length * scale
    weights = np.zeros((count, length))
    for o in range(count):
        if mode == "nearest":
            at = float(o // scale)
        elif align_corners:
            at = o * (length - 1) / (count - 1) if count > 1 else 0.0
        else:
            at = min(max((o + 0.5) / scale - 0.5, 0.0), length - 1.0)
        low = min(int(at), length - 1)
        weights[o, low] += 1 - (at - low)
        weights[o, min(low + 1, length - 1)] += at - low
    return weights


def upsample2d(
    x: Array, scale: Pair, mode: str = "nearest", align_corners: bool = False
) -> Array:
    """The images, enlarged by whole factors.

    "nearest" repeats pixels. "bilinear" interpolates at ``ih = (oh + 0.5) / scale - 0.5``, not past
    the first and last pixel, or with ``align_corners`` at ``ih = oh * (H - 1) / (OH - 1)``.

    Examples
    --------
    >>> upsample2d(np.array([[[0.0, 4.0]]]), (1, 2), "bilinear")
    array([[[0., 1., 3., 4.]]])
    """
    dtype, (images,) = float64(x=x)
    images = images if images.ndim == 4 else images[None]
    weights = [
        _weights(length, factor, mode, align_corners)
        for length, factor in zip(images.shape[2:], pair(scale), strict=True)
    ]
    return finish(_both(images, *weights), dtype, x, None)


def upsample2d_backward(
    dy: Array, scale: Pair, mode: str = "nearest", align_corners: bool = False
) -> Array:
    """Gradient with respect to the input of `upsample2d`: the same weights, transposed.

    Examples
    --------
    >>> upsample2d_backward(np.array([[[1.0, 2.0, 3.0, 4.0]]]), (1, 2))
    array([[[3., 7.]]])
    """
    dtype, (gradients,) = float64(dy=dy)
    gradients = gradients if gradients.ndim == 4 else gradients[None]
    weights = [
        _weights(length // factor, factor, mode, align_corners).T
        for length, factor in zip(gradients.shape[2:], pair(scale), strict=True)
    ]
    return finish(_both(gradients, *weights), dtype, dy, None)
