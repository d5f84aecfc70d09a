"""One value for each plane, and the gradient.

Planes have no order in memory once they are numbers, so a gradient says by an argument in which
order the images were.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastconv._core import average as _average
from fastconv._core import pooling as _pooling
from fastconv._core import unpooling as _unpooling
from fastconv.arguments import as_array, boolean

from .types import Array


def global_avg_pool2d(x: ArrayLike) -> Array:
    """Mean of each plane.

    Parameters
    ----------
    x : array (N, C, H, W) or (C, H, W)

    Returns
    -------
    array (N, C) or (C,)

    See Also
    --------
    adaptive_avg_pool2d : with ``output_size=1`` the same as (N, C, 1, 1).

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.global_avg_pool2d(np.array([[[1., 2.], [3., 6.]]]))
    array([3.])
    """
    return _average.adaptive_avg_pool2d(x, 1)[..., 0, 0]


def global_avg_pool2d_backward(
    dy: ArrayLike, input_shape: tuple[int, ...], *, channels_last: bool = False
) -> Array:
    """Gradient of the global mean: each pixel of a plane gets an equal share.

    Parameters
    ----------
    dy : array (N, C) or (C,)
        Gradient with respect to the output.
    input_shape : tuple
        ``(N, C, H, W)`` or ``(C, H, W)``.
    channels_last : bool
        Memory order of the result.

    Returns
    -------
    array of input_shape

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.global_avg_pool2d_backward(np.array([8.]), (1, 2, 2))
    array([[[2., 2.],
            [2., 2.]]])
    """
    return _average.global_avg_pool2d_backward(
        _planes("dy", dy, channels_last), input_shape, channels_last
    )


def global_max_pool2d(x: ArrayLike, *, return_indices: bool = False) -> Array | tuple[Array, Array]:
    """Largest value of each plane; a NaN in it wins.

    Parameters
    ----------
    x : array (N, C, H, W) or (C, H, W)
    return_indices : bool
        Also return where the values came from.

    Returns
    -------
    y : array (N, C) or (C,)
    indices : int32 array like y, only with `return_indices`
        Flat position ``h*W + w`` of each value within its plane; the first of equal ones.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.global_max_pool2d(np.array([[[1., 2.], [7., 6.]]]), return_indices=True)
    (array([7.]), array([2], dtype=int32))
    """
    found = _pooling.global_max_pool2d(x, return_indices)
    if not return_indices:
        return found[..., 0, 0]
    y, indices = found
    return y[..., 0, 0], indices[..., 0, 0]


def global_max_pool2d_backward(
    dy: ArrayLike,
    indices: ArrayLike,
    input_shape: tuple[int, ...],
    *,
    channels_last: bool = False,
) -> Array:
    """Gradient of the global maximum: each dy goes where its plane had the maximum.

    Parameters
    ----------
    dy : array (N, C) or (C,)
        Gradient with respect to the output.
    indices : integer array like dy
        From ``global_max_pool2d(..., return_indices=True)``.
    input_shape : tuple
        ``(N, C, H, W)`` or ``(C, H, W)``.
    channels_last : bool
        Memory order of the result.

    Returns
    -------
    array of input_shape

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.global_max_pool2d_backward(np.array([5.]), np.array([2]), (1, 2, 2))
    array([[[0., 0.],
            [5., 0.]]])
    """
    return _unpooling.max_pool2d_backward(
        _planes("dy", dy, channels_last),
        _planes("indices", indices, channels_last),
        input_shape,
    )


def _planes(name: str, values: ArrayLike, channels_last: bool) -> Array:
    """Values (N, C) or (C,) as planes of one pixel, in a memory order."""
    values = as_array(values, name)
    boolean("channels_last", channels_last)
    if values.ndim not in (1, 2):
        raise ValueError(f"{name}: expected shape (N, C) or (C,), got {values.shape}")
    if channels_last:
        return np.moveaxis(np.ascontiguousarray(values)[..., None, None, :], -1, -3)
    # Not by None: an axis without a stride would leave the order open.
    return np.ascontiguousarray(values).reshape(*values.shape, 1, 1)
