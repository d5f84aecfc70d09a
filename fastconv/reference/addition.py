"""The sum of two arrays."""

from .activation import relu
from .arrays import Array, finish, float64
from .convolution import Activation


def add(x: Array, y: Array, *, activation: Activation = None, out: Array | None = None) -> Array:
    """``x + y``, then perhaps ReLU.

    Examples
    --------
    >>> import numpy as np
    >>> add(np.array([1.0, -5.0]), np.array([2.0, 3.0]), activation="relu")
    array([3., 0.])
    """
    dtype, (x, y) = float64(x=x, y=y)
    total = x + y
    return finish(relu(total) if activation == "relu" else total, dtype, None, out)
