"""Dense layers."""

import numpy as np

from .arrays import Array, finish, float64
from .convolution import Activation


def dense(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    activation: Activation = None,
    out: Array | None = None,
) -> Array:
    """A fully connected layer.

        y[n, o] = bias[o] + sum over i of kernel[o, i] * x[n, i]

    Examples
    --------
    >>> dense(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0], [-7.0, 0.0]]))
    array([[11., 17., -7.]])
    """
    dtype, (x, kernel, bias) = float64(x=x, kernel=kernel, bias=bias)
    if activation not in (None, "relu"):
        raise ValueError(f"activation: expected None or 'relu', got {activation!r}")
    y = x @ kernel.T
    if bias is not None:
        y = y + bias
    if activation == "relu":
        y = np.maximum(y, 0)
    return finish(y, dtype, None, out)


def dense_backward(
    dy: Array, x: Array, kernel: Array, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """Gradients of `dense` with respect to its input, kernel and bias.

        dx[n, i]      = sum over o of dy[n, o] * kernel[o, i]
        dkernel[o, i] = sum over n of dy[n, o] * x[n, i]
        dbias[o]      = sum over n of dy[n, o]

    Examples
    --------
    >>> dx, dkernel, dbias = dense_backward(np.ones((1, 2)), np.array([[3.0]]), np.ones((2, 1)))
    >>> dx, dkernel.T, dbias
    (array([[2.]]), array([[3., 3.]]), array([1., 1.]))
    """
    dtype, (dy, x, kernel) = float64(dy=dy, x=x, kernel=kernel)
    dx = (dy @ kernel).astype(dtype) if need_dx else None
    return dx, (dy.T @ x).astype(dtype), dy.sum(axis=0).astype(dtype)
