"""Operations on arrays that only a training step needs: pooling by taps, dropout, the updates.

They stand beside `fastconv.functional`, under the same rules for arguments, types and memory
order, and are what the layers and the optimizers are made of.
"""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastconv._core import elementwise as _elementwise
from fastconv._core import pooling as _pooling
from fastconv._core import unpooling as _unpooling
from fastconv._core import update as _update
from fastconv.functional.types import Array, Pair

__all__ = [
    "adam_update",
    "dropout",
    "max_pool2d_taps",
    "max_pool2d_taps_backward",
    "rmsprop_update",
    "sgd_update",
    "square_sum",
]


def max_pool2d_taps(
    x: ArrayLike,
    size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """`fastconv.max_pool2d` that also tells which tap of its window each value came from.

    A tap takes a quarter of the memory of an index in the plane, and its gradient is faster.

    Parameters
    ----------
    x : array (N, C, H, W) or (C, H, W)
    size, stride, padding, dilation, ceil_mode
        As in `fastconv.max_pool2d`.

    Returns
    -------
    y : array (N, C, OH, OW) or (C, OH, OW)
        In x's memory order.
    taps : uint8 array like y
        ``kh*KW + kw``, the first of equal ones; channels-last in memory.  int32 for windows of
        more than 256 taps.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.training import max_pool2d_taps
    >>> max_pool2d_taps(np.array([[[1., 5., 2., 3.]]]), (1, 2))
    (array([[[5., 3.]]]), array([[[1, 1]]], dtype=uint8))
    """
    return _pooling.max_pool2d_taps(x, size, stride, padding, dilation, ceil_mode)


def max_pool2d_taps_backward(
    dy: ArrayLike,
    taps: ArrayLike,
    input_shape: tuple[int, ...],
    size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    y: ArrayLike | None = None,
) -> Array:
    """Gradient of `max_pool2d_taps`, and of a ReLU before it.

    Parameters
    ----------
    dy : array (N, C, OH, OW) or (C, OH, OW)
        Gradient with respect to the output.
    taps : uint8 (or int32) array like dy
        From `max_pool2d_taps`.
    input_shape : tuple
        ``(N, C, H, W)`` or ``(C, H, W)``.
    size, stride, padding, dilation
        As they were given to `max_pool2d_taps`.
    y : array like dy, optional
        The pooled result of a ReLU.  With it the gradient with respect to the ReLU's argument is
        returned: dy counts where y is positive, which is the same as `fastconv.relu_backward` on
        the full image, at the size of the pooled one.

    Returns
    -------
    array of input_shape
        In dy's memory order.

    Raises
    ------
    ValueError, TypeError
        Also when a tap is none of its window's, or lies in the padding.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.training import max_pool2d_taps_backward
    >>> taps = np.array([[[1, 0]]], np.uint8)
    >>> max_pool2d_taps_backward(np.array([[[7., 8.]]]), taps, (1, 1, 4), (1, 2))
    array([[[0., 7., 8., 0.]]])
    """
    return _unpooling.max_pool2d_taps_backward(
        dy, taps, input_shape, size, stride, padding, dilation, y
    )


def dropout(x: ArrayLike, rate: float, key: int, *, by_channel: bool = False) -> Array:
    """Zero some elements, and multiply the others by 1 / (1 - rate).

    Which ones is a function of the key and of an element's place in x's shape: the same for any
    memory order, type and number of threads. So the gradient is the same call on dy, and nothing
    need be kept but the key.

    Parameters
    ----------
    x : array, at most 4 dimensions
    rate : float
        Probability of being dropped, at least 0 and below 1.
    key : int
        Of 64 bits, not negative; a random one for each step.
    by_channel : bool
        Drop whole planes of an array (N, C, H, W) or (C, H, W).

    Returns
    -------
    array like x

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.training import dropout
    >>> dropout(np.ones(8), 0.5, key=1)
    array([0., 2., 0., 2., 2., 2., 2., 0.])
    """
    return _elementwise.dropout(x, rate, key, by_channel)


def sgd_update(
    value: NDArray[Any],
    grad: ArrayLike,
    velocity: NDArray[Any] | None = None,
    *,
    rate: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    grad_scale: float = 1.0,
    grad_limit: float = math.inf,
) -> None:
    """Take one step of gradient descent, in place.

    The gradient is multiplied by `grad_scale`, then cut to +- `grad_limit`.
    With ``g = grad + weight_decay * value`` and ``velocity = momentum * velocity + g`` it
    subtracts ``rate * velocity`` from the value; ``rate * (g + momentum * velocity)`` with
    Nesterov; ``rate * g`` without a velocity.

    Parameters
    ----------
    value : float32 or float64 array
        The parameter; C-contiguous, changed in place.
    grad : array like value
        Converted to value's type.
    velocity : array like value, optional
        Changed in place.
    rate, momentum, weight_decay, grad_scale, grad_limit : float
    nesterov : bool

    Raises
    ------
    ValueError, TypeError

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.training import sgd_update
    >>> value = np.array([1., 2.])
    >>> sgd_update(value, np.array([1., 0.]), rate=0.5)
    >>> value
    array([0.5, 2. ])
    """
    _update.sgd(
        value, grad, velocity, rate, momentum, nesterov, weight_decay, grad_scale, grad_limit
    )


def adam_update(
    value: NDArray[Any],
    grad: ArrayLike,
    mean: NDArray[Any],
    square: NDArray[Any],
    *,
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    decay: float = 0.0,
    grad_scale: float = 1.0,
    grad_limit: float = math.inf,
) -> None:
    """Take one step of Adam, in place; corrections for the start are part of `rate`.

    The gradient is multiplied by `grad_scale`, then cut to +- `grad_limit`.
    ``mean += (1 - beta1) * (grad - mean)``, ``square += (1 - beta2) * (grad**2 - square)``,
    ``value = value * (1 - decay) - rate * mean / (sqrt(square) + epsilon)``.

    Parameters
    ----------
    value : float32 or float64 array
        The parameter; C-contiguous, changed in place.
    grad : array like value
        Converted to value's type.
    mean, square : array like value
        Changed in place.
    rate, beta1, beta2, epsilon, decay, grad_scale, grad_limit : float

    Raises
    ------
    ValueError, TypeError

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.training import adam_update
    >>> value, mean, square = np.array([1.]), np.zeros(1), np.zeros(1)
    >>> adam_update(value, np.array([4.]), mean, square, rate=1, beta1=0.5, beta2=0.75, epsilon=0)
    >>> value, mean, square
    (array([0.]), array([2.]), array([4.]))
    """
    _update.adam(
        value, grad, mean, square, rate, beta1, beta2, epsilon, decay, grad_scale,
        grad_limit,
    )  # fmt: skip


def rmsprop_update(
    value: NDArray[Any],
    grad: ArrayLike,
    square: NDArray[Any],
    velocity: NDArray[Any] | None = None,
    *,
    rate: float,
    beta: float,
    epsilon: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    grad_scale: float = 1.0,
    grad_limit: float = math.inf,
) -> None:
    """Take one step of RMSprop, in place.

    The gradient is multiplied by `grad_scale`, then cut to +- `grad_limit`. With
    ``g = grad + weight_decay * value``, ``square += (1 - beta) * (g**2 - square)`` and
    ``velocity = momentum * velocity + g / (sqrt(square) + epsilon)`` it subtracts
    ``rate * velocity`` from the value; without a velocity the quotient is subtracted itself.

    Parameters
    ----------
    value : float32 or float64 array
        The parameter; C-contiguous, changed in place.
    grad : array like value
        Converted to value's type.
    square : array like value
        Changed in place.
    velocity : array like value, optional
        Changed in place.
    rate, beta, epsilon, momentum, weight_decay, grad_scale, grad_limit : float

    Raises
    ------
    ValueError, TypeError

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.training import rmsprop_update
    >>> value, square = np.array([1.]), np.zeros(1)
    >>> rmsprop_update(value, np.array([4.]), square, rate=0.25, beta=0.75, epsilon=0)
    >>> value, square
    (array([0.5]), array([4.]))
    """
    _update.rmsprop(
        value, grad, square, velocity, rate, beta, momentum, epsilon, weight_decay, grad_scale,
        grad_limit,
    )  # fmt: skip


def square_sum(x: ArrayLike) -> float:
    """Sum of the squares of all elements, in double; the same bits for any number of threads.

    Parameters
    ----------
    x : float32 or float64 array

    Returns
    -------
    float

    Examples
    --------
    >>> from fastconv.training import square_sum
    >>> square_sum([[3.0, 4.0]])
    25.0
    """
    return _update.square_sum(x)
