"""Functions of one value, and of the scores of a sample."""

import math

import numpy as np

from .arrays import Array, finish, float64


def relu(x: Array, *, out: Array | None = None) -> Array:
    """``max(x, 0)`` of every element; NaN stays NaN.

    Examples
    --------
    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    dtype, (x,) = float64(x=x)
    return finish(np.maximum(x, 0), dtype, None, out)


def relu_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    """Gradient of `relu`, from its result ``y``: ``dy`` where ``y > 0``, else 0.

    Examples
    --------
    >>> relu_backward(np.array([5.0, 6.0]), np.array([0.0, 2.0]))
    array([0., 6.])
    """
    dtype, (dy, y) = float64(dy=dy, y=y)
    return finish(np.where(y > 0, dy, 0), dtype, None, out)


def leaky_relu(x: Array, slope: float = 0.01, *, out: Array | None = None) -> Array:
    """``x`` where it is positive, ``slope * x`` elsewhere.

    Examples
    --------
    >>> leaky_relu(np.array([-100.0, 2.0]))
    array([-1.,  2.])
    """
    dtype, (x,) = float64(x=x)
    return finish(np.where(x < 0, slope * x, x), dtype, None, out)


def leaky_relu_backward(
    dy: Array, y: Array, slope: float = 0.01, *, out: Array | None = None
) -> Array:
    """Gradient of `leaky_relu`: ``dy`` where ``y > 0``, else ``slope * dy``.

    Examples
    --------
    >>> leaky_relu_backward(np.array([100.0, 2.0]), np.array([-1.0, 2.0]))
    array([1., 2.])
    """
    dtype, (dy, y) = float64(dy=dy, y=y)
    return finish(np.where(y > 0, dy, slope * dy), dtype, None, out)


def logistic(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, with the exponential of a negative number only."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    """``1 / (1 + exp(-x))``.

    Examples
    --------
    >>> sigmoid(np.array([0.0, -np.inf]))
    array([0.5, 0. ])
    """
    dtype, (x,) = float64(x=x)
    return finish(logistic(x), dtype, None, out)


def sigmoid_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    """Gradient of `sigmoid`: ``dy * y * (1 - y)``.

    Examples
    --------
    >>> sigmoid_backward(np.array([4.0]), np.array([0.5]))
    array([1.])
    """
    dtype, (dy, y) = float64(dy=dy, y=y)
    return finish(dy * y * (1 - y), dtype, None, out)


def tanh(x: Array, *, out: Array | None = None) -> Array:
    """The hyperbolic tangent.

    Examples
    --------
    >>> tanh(np.array([0.0, np.inf]))
    array([0., 1.])
    """
    dtype, (x,) = float64(x=x)
    return finish(np.tanh(x), dtype, None, out)


def tanh_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    """Gradient of `tanh`: ``dy * (1 - y**2)``.

    Examples
    --------
    >>> tanh_backward(np.array([4.0]), np.array([0.5]))
    array([3.])
    """
    dtype, (dy, y) = float64(dy=dy, y=y)
    return finish(dy * (1 - y) * (1 + y), dtype, None, out)


def silu(x: Array, *, out: Array | None = None) -> Array:
    """``x * sigmoid(x)``, and its limits at both infinities.

    Examples
    --------
    >>> silu(np.array([0.0, 100.0]))
    array([  0., 100.])
    """
    dtype, (x,) = float64(x=x)
    return finish(np.maximum(x, -1000) * logistic(x), dtype, None, out)


def silu_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """Gradient of `silu`: with ``s = sigmoid(x)``, ``dy * s * (1 + x * (1 - s))``.

    Examples
    --------
    >>> silu_backward(np.array([4.0]), np.array([0.0]))
    array([2.])
    """
    dtype, (dy, x) = float64(dy=dy, x=x)
    x = np.clip(x, -1000, 1000)
    return finish(dy * logistic(x) * (1 + x * logistic(-x)), dtype, None, out)


def normal(x: Array) -> Array:
    """The share of a normal distribution below x: ``erfc(-x / sqrt(2)) / 2``."""
    return np.vectorize(lambda value: math.erfc(-value / math.sqrt(2)) / 2, otypes=[float])(x)


def cubic(x: Array) -> Array:
    """``2 u`` where ``(1 + tanh(u)) / 2 = sigmoid(2 u)`` is nearly `normal`."""
    return 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def gelu(x: Array, *, approximate: str = "none", out: Array | None = None) -> Array:
    """``x`` times the share of a normal distribution below x, and its limits at both infinities.

    Examples
    --------
    >>> gelu(np.array([0.0, 100.0]))
    array([  0., 100.])
    """
    dtype, (x,) = float64(x=x)
    share = normal(x) if approximate == "none" else logistic(cubic(x))
    return finish(np.maximum(x, -1000) * share, dtype, None, out)


def gelu_backward(
    dy: Array, x: Array, *, approximate: str = "none", out: Array | None = None
) -> Array:
    """Gradient of `gelu`: the share below x plus x times its derivative, times dy.

    Examples
    --------
    >>> gelu_backward(np.array([4.0]), np.array([0.0]))
    array([2.])
    """
    dtype, (dy, x) = float64(dy=dy, x=x)
    x = np.clip(x, -1000, 1000)
    if approximate == "none":
        share, slope = normal(x), np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    else:
        share = logistic(cubic(x))
        du = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
        slope = share * logistic(-cubic(x)) * du
    return finish(dy * (share + x * slope), dtype, None, out)


def softmax(x: Array) -> Array:
    """``exp(x) / sum(exp(x))`` along the last axis of ``(..., classes)`` scores.

    Adding a number to a whole row changes nothing; subtracting its maximum keeps exp from
    overflowing.

    Examples
    --------
    >>> softmax(np.array([[1000.0, 1000.0]]))
    array([[0.5, 0.5]])
    """
    dtype, (x,) = float64(x=x)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True)).astype(dtype)


def log_softmax(x: Array) -> Array:
    """``log(softmax(x))`` as ``x - log(sum(exp(x)))``, exact also where `softmax` rounds to 0.

    Examples
    --------
    >>> log_softmax(np.array([[0.0, 1000.0]]))
    array([[-1000.,     0.]])
    """
    dtype, (x,) = float64(x=x)
    x = x - x.max(axis=-1, keepdims=True)
    return (x - np.log(np.exp(x).sum(axis=-1, keepdims=True))).astype(dtype)


def softmax_backward(dy: Array, y: Array) -> Array:
    """Gradient of `softmax`: ``y * (dy - sum(y * dy))``.

    Raising one score takes from all others of its row, in proportion to what they have.

    Examples
    --------
    >>> softmax_backward(np.array([[4.0, 0.0]]), np.array([[0.5, 0.5]]))
    array([[ 1., -1.]])
    """
    dtype, (dy, y) = float64(dy=dy, y=y)
    return (y * (dy - (y * dy).sum(axis=-1, keepdims=True))).astype(dtype)


def log_softmax_backward(dy: Array, y: Array) -> Array:
    """Gradient of `log_softmax`: ``dy - exp(y) * sum(dy)``.

    Examples
    --------
    >>> log_softmax_backward(np.array([[4.0, 0.0]]), np.log([[0.5, 0.5]]))
    array([[ 2., -2.]])
    """
    dtype, (dy, y) = float64(dy=dy, y=y)
    return (dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)).astype(dtype)
