"""Borders around images, and larger images."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastconv._core import resize as _resize

from .types import Array, Border, Pair


def pad2d(x: ArrayLike, padding: Border, mode: str = "constant", value: float = 0) -> Array:
    """Put rows and columns around images.

    Parameters
    ----------
    x : array (N, C, H, W) or (C, H, W)
    padding : int, (int, int) or ((top, bottom), (left, right))
        How many rows and columns.
    mode : "constant", "reflect", "replicate" or "circular"
        What is in them: `value`; the image mirrored at its first and last pixels, which are not
        repeated; copies of these; or the image again from its other end.
    value : float
        For "constant".

    Returns
    -------
    array (N, C, top + H + bottom, left + W + right), or without N
        In x's memory order.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.array([[[1., 2., 3.]]])
    >>> fastconv.pad2d(x, (0, 2), "reflect")
    array([[[3., 2., 1., 2., 3., 2., 1.]]])
    >>> fastconv.pad2d(x, ((0, 0), (1, 0)), value=9)
    array([[[9., 1., 2., 3.]]])
    """
    return _resize.pad2d(x, padding, mode, value)


def pad2d_backward(dy: ArrayLike, padding: Border, mode: str = "constant") -> Array:
    """Gradient of `pad2d`: a pixel gets what all its copies got.

    Parameters
    ----------
    dy : array (N, C, OH, OW) or (C, OH, OW)
        Gradient with respect to the output.
    padding, mode
        As in `pad2d`.

    Returns
    -------
    array (N, C, H, W) or (C, H, W)
        In dy's memory order.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.pad2d_backward(np.array([[[5., 1., 2., 3., 7.]]]), (0, 1), "replicate")
    array([[[ 6.,  2., 10.]]])
    """
    return _resize.pad2d_backward(dy, padding, mode)


def upsample2d(
    x: ArrayLike, scale: Pair, mode: str = "nearest", align_corners: bool = False
) -> Array:
    """Enlarge images by whole factors.

    Parameters
    ----------
    x : array (N, C, H, W) or (C, H, W)
    scale : int or (int, int)
        Factors of height and width.
    mode : "nearest" or "bilinear"
        Repeat pixels, or interpolate between the four that are next.
    align_corners : bool
        For "bilinear": whether the centres of the corner pixels stay at the corners, as
        ``ih = oh * (H - 1) / (OH - 1)``. Otherwise the edges of the images coincide,
        ``ih = (oh + 0.5) / scale - 0.5``, and nothing is extrapolated. Both as in PyTorch.

    Returns
    -------
    array (N, C, H * scale, W * scale) or (C, H * scale, W * scale)
        In x's memory order.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.array([[[0., 4.]]])
    >>> fastconv.upsample2d(x, (1, 2))
    array([[[0., 0., 4., 4.]]])
    >>> fastconv.upsample2d(x, (1, 2), "bilinear")
    array([[[0., 1., 3., 4.]]])
    """
    return _resize.upsample2d(x, scale, mode, align_corners)


def upsample2d_backward(
    dy: ArrayLike, scale: Pair, mode: str = "nearest", align_corners: bool = False
) -> Array:
    """Gradient of `upsample2d`.

    Parameters
    ----------
    dy : array (N, C, OH, OW) or (C, OH, OW)
        Gradient with respect to the output.
    scale, mode, align_corners
        As in `upsample2d`.

    Returns
    -------
    array (N, C, OH // scale, OW // scale) or without N
        In dy's memory order.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.upsample2d_backward(np.array([[[1., 2., 3., 4.]]]), (1, 2))
    array([[[3., 7.]]])
    """
    return _resize.upsample2d_backward(dy, scale, mode, align_corners)
