"""Types and memory orders of arguments and results."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]


def float64(**arrays: Array | None) -> tuple[np.dtype[Any], list[Any]]:
    """The result's dtype, and every array (or None) in native float64."""
    dtypes = []
    for name, array in arrays.items():
        dtype = np.asarray(array).dtype if array is not None else np.dtype(bool)
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise TypeError(f"{name}: expected real numbers of at most 64 bits, got {dtype}")
        dtypes.append(dtype)
    floats = [dtype for dtype in dtypes if dtype.kind == "f"]
    single = floats and all(dtype.itemsize < 8 for dtype in floats)
    converted = [a if a is None else np.asarray(a).astype(np.float64) for a in arrays.values()]
    return np.dtype(np.float32 if single else np.float64), converted


def is_channels_last(x: Array) -> bool:
    return bool(np.moveaxis(x, -3, -1).flags.c_contiguous and not x.flags.c_contiguous)


def finish(y: Array, dtype: np.dtype[Any], like: Array | None, out: Array | None) -> Array:
    """``y`` in the result's dtype: written to ``out``, or new, in the memory order of ``like``."""
    if like is not None and np.ndim(like) == 3:
        y = y[0]
    if out is None:
        channels_last = like is not None and is_channels_last(np.asarray(like))
        out = empty(y.shape, dtype, channels_last)
    elif out.shape != y.shape or out.dtype != dtype:
        raise ValueError(f"out: expected {y.shape} of {dtype}, got {out.shape} of {out.dtype}")
    out[...] = y
    return out


def empty(shape: Sequence[int], dtype: DTypeLike = "float32", channels_last: bool = False) -> Array:
    """A new array whose values are not set.

    ``channels_last`` lays out a logical ``(N, C, H, W)`` or ``(C, H, W)`` array as ``(N, H, W, C)``
    or ``(H, W, C)`` in memory: the channels of one pixel lie side by side.

    Examples
    --------
    >>> empty((2, 3, 4, 5), np.float32, channels_last=True).strides
    (240, 4, 60, 12)
    """
    if not channels_last:
        return np.empty(shape, dtype)
    *batch, c, h, w = shape
    return np.moveaxis(np.empty((*batch, h, w, c), dtype), -1, -3)


def as_channels_last(x: Array) -> Array:
    """The same values with the channels of a pixel side by side; ``x`` itself if they are already.

    Examples
    --------
    >>> as_channels_last(np.zeros((2, 3, 4, 5), np.float32)).strides
    (240, 4, 60, 12)
    """
    if np.moveaxis(x, -3, -1).flags.c_contiguous:
        return x
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -3, -1)), -1, -3)


def as_contiguous(x: Array) -> Array:
    """The same values in C order; ``x`` itself if it already is.

    Examples
    --------
    >>> as_contiguous(empty((2, 3, 4, 5), np.float32, channels_last=True)).strides
    (240, 80, 20, 4)
    """
    return np.ascontiguousarray(x)
