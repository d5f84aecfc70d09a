"""The sum of two arrays: where branches of a network meet, and where their gradients do."""

from __future__ import annotations

from typing import Literal

from numpy.typing import ArrayLike

from fastconv._core import elementwise as _elementwise

from .types import Array


def add(
    x: ArrayLike,
    y: ArrayLike,
    *,
    activation: Literal["relu"] | None = None,
    out: Array | None = None,
) -> Array:
    """``x + y``, with ReLU in the same pass over memory.

    Its gradient is dy for both, or with an activation what `relu_backward` makes of dy and of the
    result.

    Parameters
    ----------
    x : array, at most 4 dimensions
    y : array like x
    activation : None or "relu"
        Applied to the sum.
    out : array like x, optional
        Where to put the result; may be x or y itself.

    Returns
    -------
    array like x

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.add(np.array([1., -5.]), np.array([2., 3.]), activation="relu")
    array([3., 0.])
    """
    return _elementwise.add(x, y, activation, out)
