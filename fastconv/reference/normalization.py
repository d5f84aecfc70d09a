"""Values brought to mean 0 and variance 1, over a batch or within a sample."""

import numpy as np

from .arrays import Array, finish, float64
from .convolution import Activation


def per_channel(values: Array, x: Array) -> Array:
    """``(C,)`` values beside ``x``'s channels: axis 0 of a single image, else axis 1."""
    after = x.ndim - 1 if x.ndim == 3 else x.ndim - 2
    return values.reshape(values.shape + (1,) * after)


def ordered(y: Array, dtype: np.dtype, like: Array) -> Array:
    """``y`` in the result's dtype and the memory order of ``like``."""
    if y.ndim != 4:
        return y.astype(dtype) if y.ndim == 2 else finish(y[None], dtype, np.asarray(like), None)
    return finish(y, dtype, np.asarray(like), None)


def batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    variance: Array,
    *,
    epsilon: float = 1e-5,
    activation: Activation = None,
) -> Array:
    """``(x - mean) / sqrt(variance + epsilon) * gamma + beta``, each channel with its own numbers.

    Examples
    --------
    >>> one = np.ones(1)
    >>> batch_norm(np.array([[5.0], [9.0]]), one, one, 7 * one, 4 * one, epsilon=0)
    array([[0.],
           [2.]])
    """
    like = x
    dtype, (x, *vectors) = float64(x=x, gamma=gamma, beta=beta, mean=mean, variance=variance)
    gamma, beta, mean, variance = (per_channel(values, x) for values in vectors)
    y = (x - mean) / np.sqrt(variance + epsilon) * gamma + beta
    return ordered(np.maximum(y, 0) if activation == "relu" else y, dtype, like)


def batch_norm_train(
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    epsilon: float = 1e-5,
    activation: Activation = None,
) -> tuple[Array, Array, Array]:
    """`batch_norm` with the mean and the (biased) variance of x, which are returned too.

    Examples
    --------
    >>> y, mean, variance = batch_norm_train(
    ...     np.array([[5.0], [9.0]]), np.ones(1), np.zeros(1), epsilon=0)
    >>> y[:, 0], mean, variance
    (array([-1.,  1.]), array([7.]), array([4.]))
    """
    dtype, (exact, g, b) = float64(x=x, gamma=gamma, beta=beta)
    pixels = tuple(axis for axis in range(exact.ndim) if axis != (0 if exact.ndim == 3 else 1))
    mean, variance = exact.mean(axis=pixels), exact.var(axis=pixels)
    y = batch_norm(exact, g, b, mean, variance, epsilon=epsilon, activation=activation)
    return ordered(y, dtype, x), mean.astype(dtype), variance.astype(dtype)


def batch_norm_backward(
    dy: Array,
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    variance: Array,
    *,
    epsilon: float = 1e-5,
    activation: Activation = None,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Gradients of `batch_norm_train` with respect to x, gamma and beta.

    With ``z = (x - mean) / s`` and ``s = sqrt(variance + epsilon)``, for the n values of a channel,

        dbeta  = sum of dy
        dgamma = sum of dy * z
        dx     = gamma / s * (dy - dbeta / n - z * dgamma / n)

    since moving one x moves the mean and the variance too. A ReLU passes dy where y > 0.

    Examples
    --------
    >>> x, one, zero = np.array([[5.0], [9.0]]), np.ones(1), np.zeros(1)
    >>> dy = np.array([[0.0], [1.0]])
    >>> batch_norm_backward(dy, x, one, zero, 7 * one, 4 * one, epsilon=0)[1:]
    (array([1.]), array([1.]))
    """
    like = x
    dtype, (dy, x, *vectors) = float64(
        dy=dy, x=x, gamma=gamma, beta=beta, mean=mean, variance=variance
    )
    gamma, beta, mean, variance = (per_channel(values, x) for values in vectors)
    pixels = tuple(axis for axis in range(x.ndim) if axis != (0 if x.ndim == 3 else 1))
    s = np.sqrt(variance + epsilon)
    z = (x - mean) / s
    if activation == "relu":
        dy = np.where(z * gamma + beta > 0, dy, 0)
    dbeta, dgamma = dy.sum(axis=pixels), (dy * z).sum(axis=pixels)
    dx = None
    if need_dx:
        n = max(x.size // max(dbeta.size, 1), 1)
        dx = gamma / s * (dy - per_channel(dbeta, x) / n - z * per_channel(dgamma, x) / n)
        dx = ordered(dx, dtype, like)
    return dx, dgamma.astype(dtype), dbeta.astype(dtype)


def group_norm(
    x: Array,
    groups: int,
    gamma: Array,
    beta: Array,
    *,
    epsilon: float = 1e-5,
    activation: Activation = None,
    return_moments: bool = False,
) -> Array | tuple[Array, Array, Array]:
    """Normalise each group of channels of each sample by its own mean and variance.

    Examples
    --------
    >>> x = np.array([[1.0, 3.0, 10.0, 30.0]])
    >>> group_norm(x, 2, np.ones(4), np.zeros(4), epsilon=0)
    array([[-1.,  1., -1.,  1.]])
    """
    dtype, (exact, gamma, beta) = float64(x=x, gamma=gamma, beta=beta)
    grouped = in_groups(exact, groups)
    mean, variance = grouped.mean(axis=-1), grouped.var(axis=-1)
    z = (grouped - mean[..., None]) / np.sqrt(variance[..., None] + epsilon)
    z = z.reshape(exact.shape) if exact.size else exact
    y = z * per_channel(gamma, exact) + per_channel(beta, exact)
    y = ordered(np.maximum(y, 0) if activation == "relu" else y, dtype, x)
    moments = (a[0] if exact.ndim == 3 else a for a in (mean, variance))
    return (y, *(a.astype(dtype) for a in moments)) if return_moments else y


def in_groups(x: Array, groups: int) -> Array:
    """``(N, groups, values)``: what has a mean of its own, along the last axis."""
    N = 1 if x.ndim == 3 else len(x)
    return x.reshape(N, groups, -1) if x.size else np.zeros((N, groups, 1))


def group_norm_backward(
    dy: Array,
    x: Array,
    groups: int,
    gamma: Array,
    beta: Array,
    mean: Array,
    variance: Array,
    *,
    epsilon: float = 1e-5,
    activation: Activation = None,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Gradients of `group_norm` with respect to x, gamma and beta.

    With ``z = (x - mean) / s``, ``dz = dy * gamma``, and the n values of a group,

        dx = (dz - sum(dz) / n - z * sum(dz * z) / n) / s

    while gamma and beta, each of one channel, gather ``dy * z`` and ``dy`` of all samples.

    Examples
    --------
    >>> x, dy = np.array([[1.0, 3.0]]), np.array([[0.0, 1.0]])
    >>> mean, variance = np.array([[2.0]]), np.array([[1.0]])
    >>> group_norm_backward(dy, x, 1, np.ones(2), np.zeros(2), mean, variance, epsilon=0)
    (array([[0., 0.]]), array([0., 1.]), array([0., 1.]))
    """
    like = x
    dtype, (dy, x, gamma, beta, mean, variance) = float64(
        dy=dy, x=x, gamma=gamma, beta=beta, mean=mean, variance=variance
    )
    shape, pixels = x.shape, tuple(a for a in range(x.ndim) if a != (0 if x.ndim == 3 else 1))
    s = np.sqrt(variance.reshape(-1, groups, 1) + epsilon)
    z = (in_groups(x, groups) - mean.reshape(-1, groups, 1)) / s
    flat = z.reshape(shape) if x.size else x
    if activation == "relu":
        dy = np.where(flat * per_channel(gamma, x) + per_channel(beta, x) > 0, dy, 0)
    dgamma, dbeta = (dy * flat).sum(axis=pixels), dy.sum(axis=pixels)
    dx = None
    if need_dx:
        dz = in_groups(dy * per_channel(gamma, x), groups)
        means = dz.mean(axis=-1, keepdims=True), (dz * z).mean(axis=-1, keepdims=True)
        dx = (dz - means[0] - z * means[1]) / s
        dx = ordered(dx.reshape(shape) if x.size else x, dtype, like)
    return dx, dgamma.astype(dtype), dbeta.astype(dtype)


def layer_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    epsilon: float = 1e-5,
    activation: Activation = None,
    return_moments: bool = False,
) -> Array | tuple[Array, Array, Array]:
    """`group_norm` with a single group: each sample by its own mean and variance.

    Examples
    --------
    >>> layer_norm(np.array([[1.0, 3.0]]), np.ones(2), np.zeros(2), epsilon=0)
    array([[-1.,  1.]])
    """
    return group_norm(
        x, 1, gamma, beta,
        epsilon=epsilon, activation=activation, return_moments=return_moments,
    )  # fmt: skip


def layer_norm_backward(
    dy: Array,
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    variance: Array,
    *,
    epsilon: float = 1e-5,
    activation: Activation = None,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Gradients of `layer_norm`: those of `group_norm` with a single group.

    Examples
    --------
    >>> x, dy = np.array([[1.0, 3.0]]), np.array([[0.0, 1.0]])
    >>> mean, variance = np.array([[2.0]]), np.array([[1.0]])
    >>> layer_norm_backward(dy, x, np.ones(2), np.zeros(2), mean, variance, epsilon=0)[0]
    array([[0., 0.]])
    """
    return group_norm_backward(
        dy, x, 1, gamma, beta, mean, variance,
        epsilon=epsilon, activation=activation, need_dx=need_dx,
    )  # fmt: skip
