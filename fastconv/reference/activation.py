"""Functions of one value, and of the scores of a sample."""

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
