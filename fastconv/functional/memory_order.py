"""Arrays in either memory order, and from recycled memory."""

from __future__ import annotations

from numpy.typing import ArrayLike, DTypeLike

from fastconv._core import elementwise as _elementwise

from .types import Array


def as_channels_last(x: ArrayLike) -> Array:
    """The same images with their channels innermost in memory.

    Parameters
    ----------
    x : array (N, C, H, W) or (C, H, W)

    Returns
    -------
    array like x
        `x` itself if it already is so.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.as_channels_last(np.zeros((1, 2, 4, 4))).strides
    (256, 8, 64, 16)
    """
    return _elementwise.as_channels_last(x)


def as_contiguous(x: ArrayLike) -> Array:
    """The same images in C order: rows innermost in memory.

    Parameters
    ----------
    x : array (N, C, H, W) or (C, H, W)

    Returns
    -------
    array like x
        `x` itself if it already is so.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.as_contiguous(np.zeros((1, 4, 4, 2)).transpose(0, 3, 1, 2)).strides
    (256, 128, 32, 8)
    """
    return _elementwise.as_contiguous(x)


def empty(
    shape: tuple[int, ...], dtype: DTypeLike = "float32", channels_last: bool = False
) -> Array:
    """An array with arbitrary contents, from memory that is used again.

    Parameters
    ----------
    shape : tuple of at most 4 sizes
    dtype : float32 or float64
    channels_last : bool
        Put the third axis from the end, the channels, innermost in memory.

    Returns
    -------
    array of that shape

    Raises
    ------
    ValueError, TypeError, MemoryError

    Examples
    --------
    >>> import fastconv
    >>> fastconv.empty((2, 3), "float32").shape
    (2, 3)
    """
    return _elementwise.empty(shape, dtype, channels_last)
