"""Weighted sums of all features, and their gradients."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastconv._core import dense as _dense

from .types import Array


def dense(
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    activation: str | None = None,
    out: Array | None = None,
) -> Array:
    """Weighted sums of all features: ``y = x @ kernel.T + bias``.

    Parameters
    ----------
    x : array (N, in_features)
    kernel : array (out_features, in_features)
    bias : array (out_features,), optional
    activation : None or "relu"
        Applied as the result is stored.
    out : array (N, out_features), optional
        Where to put the result; shares no memory with the operands.

    Returns
    -------
    array (N, out_features)

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.dense(np.array([[1., 2.]]), np.array([[3., 4.], [5., 6.]]))
    array([[11., 17.]])
    """
    return _dense.dense(x, kernel, bias, activation, out)


def dense_backward(
    dy: ArrayLike, x: ArrayLike, kernel: ArrayLike, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """Gradients of `dense` with respect to its input, kernel and bias.

    Parameters
    ----------
    dy : array (N, out_features)
        Gradient with respect to the output.
    x : array (N, in_features)
    kernel : array (out_features, in_features)
    need_dx : bool
        Without it dx is None, and no time is spent on it.

    Returns
    -------
    dx : array (N, in_features)
    dkernel : array (out_features, in_features)
    dbias : array (out_features,)

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.dense_backward(np.array([[2.]]), np.array([[1., 3.]]), np.array([[4., 5.]]))
    (array([[ 8., 10.]]), array([[2., 6.]]), array([2.]))
    """
    return _dense.dense_backward(dy, x, kernel, need_dx)
