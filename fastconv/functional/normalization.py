"""Values brought to mean 0 and variance 1, over a batch or within a sample, and the gradients."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastconv._core import normalization as _normalization
from fastconv.arguments import boolean

from .types import Array


def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    *,
    epsilon: float = 1e-5,
    activation: str | None = None,
) -> Array:
    """Batch normalisation with a given mean and variance: as a trained network infers.

    ``y[n, c] = (x[n, c] - mean[c]) / sqrt(variance[c] + epsilon) * gamma[c] + beta[c]``.

    Parameters
    ----------
    x : array (N, C, H, W), (C, H, W) or (N, C)
    gamma, beta, mean, variance : array (C,)
    epsilon : float
        At least 0.
    activation : None or "relu"
        Applied as the result is stored.

    Returns
    -------
    array like x
        In x's memory order.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> one = np.ones(1)
    >>> fastconv.batch_norm(np.array([[5.], [9.]]), one, one, [7.], [4.], epsilon=0)
    array([[0.],
           [2.]])
    """
    vectors = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    return _normalization.normalize(x, vectors, True, None, epsilon, activation)[0]


def batch_norm_train(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    *,
    epsilon: float = 1e-5,
    activation: str | None = None,
) -> tuple[Array, Array, Array]:
    """Batch normalisation with the batch's own mean and variance: as a network trains.

    Parameters
    ----------
    x : array (N, C, H, W), (C, H, W) or (N, C)
        With at least one value of each channel.
    gamma, beta : array (C,)
    epsilon, activation
        As in `batch_norm`.

    Returns
    -------
    y : array like x
        In x's memory order.
    mean : array (C,)
        Of each channel, over images and pixels.
    variance : array (C,)
        The mean of the squares of what deviates: biased, so that y has variance 1.  For n values
        of a channel ``variance * n / (n - 1)`` estimates that of the population.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> one, zero = np.ones(1), np.zeros(1)
    >>> y, mean, variance = fastconv.batch_norm_train(np.array([[5.], [9.]]), one, zero, epsilon=0)
    >>> y[:, 0], mean, variance
    (array([-1.,  1.]), array([7.]), array([4.]))
    """
    vectors = {"gamma": gamma, "beta": beta}
    return _normalization.normalize(x, vectors, True, None, epsilon, activation)


def batch_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    *,
    epsilon: float = 1e-5,
    activation: str | None = None,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Gradients of `batch_norm_train` with respect to x, gamma and beta.

    Parameters
    ----------
    dy : array like x
        Gradient with respect to the output.
    x : array (N, C, H, W), (C, H, W) or (N, C)
    gamma, beta : array (C,)
    mean, variance : array (C,)
        Those that `batch_norm_train` returned.
    epsilon, activation
        As they were given to it.  The ReLU's mask is found in x: the output is not needed.
    need_dx : bool
        Without it dx is None, and no time is spent on it.

    Returns
    -------
    dx : array like x
        In x's memory order.
    dgamma, dbeta : array (C,)

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x, one, zero = np.array([[5.], [9.]]), np.ones(1), np.zeros(1)
    >>> dy = np.array([[0.], [1.]])
    >>> dx, dgamma, dbeta = fastconv.batch_norm_backward(dy, x, one, zero, [7.], [4.], epsilon=0)
    >>> dgamma, dbeta
    (array([1.]), array([1.]))
    """
    vectors = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    return _normalization.backward(dy, x, vectors, True, None, epsilon, activation, need_dx)


def group_norm(
    x: ArrayLike,
    groups: int,
    gamma: ArrayLike,
    beta: ArrayLike,
    *,
    epsilon: float = 1e-5,
    activation: str | None = None,
    return_moments: bool = False,
) -> Array | tuple[Array, Array, Array]:
    """Normalise each group of neighbouring channels of each sample by its own mean and variance.

    Parameters
    ----------
    x : array (N, C, H, W), (C, H, W) or (N, C)
    groups : int
        Divides C.
    gamma, beta : array (C,)
        Factor and summand of each channel, applied afterwards.
    epsilon : float
        Added to the variance; at least 0.
    activation : None or "relu"
        Applied as the result is stored.
    return_moments : bool
        Also return what the gradient needs.

    Returns
    -------
    y : array like x
        In x's memory order.
    mean, variance : array (N, groups) or (groups,), only with `return_moments`
        Over (C // groups, H, W); the variance is biased, so that y has variance 1.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.array([[1., 3., 10., 30.]])
    >>> fastconv.group_norm(x, 2, np.ones(4), np.zeros(4), epsilon=0)
    array([[-1.,  1., -1.,  1.]])
    """
    vectors = {"gamma": gamma, "beta": beta}
    results = _normalization.normalize(x, vectors, False, groups, epsilon, activation)
    return results if boolean("return_moments", return_moments) else results[0]


def group_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    groups: int,
    gamma: ArrayLike,
    beta: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    *,
    epsilon: float = 1e-5,
    activation: str | None = None,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Gradients of `group_norm` with respect to x, gamma and beta.

    Parameters
    ----------
    dy : array like x
        Gradient with respect to the output.
    x : array (N, C, H, W), (C, H, W) or (N, C)
    groups : int
    gamma, beta : array (C,)
    mean, variance : array (N, groups) or (groups,)
        From ``group_norm(..., return_moments=True)``.
    epsilon, activation
        As they were given to it.  The ReLU's mask is found in x: the output is not needed.
    need_dx : bool
        Without it dx is None, and no time is spent on it.

    Returns
    -------
    dx : array like x
        In x's memory order.
    dgamma, dbeta : array (C,)

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x, dy = np.array([[1., 3.]]), np.array([[0., 1.]])
    >>> one, zero = np.ones(2), np.zeros(2)
    >>> fastconv.group_norm_backward(dy, x, 1, one, zero, [[2.]], [[1.]], epsilon=0)
    (array([[0., 0.]]), array([0., 1.]), array([0., 1.]))
    """
    vectors = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    return _normalization.backward(dy, x, vectors, False, groups, epsilon, activation, need_dx)


def layer_norm(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    *,
    epsilon: float = 1e-5,
    activation: str | None = None,
    return_moments: bool = False,
) -> Array | tuple[Array, Array, Array]:
    """Normalise each sample by its own mean and variance: `group_norm` with a single group.

    Parameters
    ----------
    x : array (N, C, H, W), (C, H, W) or (N, C)
    gamma, beta : array (C,)
        Factor and summand of each channel, as in `group_norm`.
    epsilon, activation, return_moments
        As in `group_norm`.

    Returns
    -------
    y : array like x
        In x's memory order.
    mean, variance : array (N, 1) or (1,), only with `return_moments`

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.layer_norm(np.array([[1., 3.]]), np.ones(2), np.zeros(2), epsilon=0)
    array([[-1.,  1.]])
    """
    return group_norm(
        x, 1, gamma, beta,
        epsilon=epsilon, activation=activation, return_moments=return_moments,
    )  # fmt: skip


def layer_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    *,
    epsilon: float = 1e-5,
    activation: str | None = None,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Gradients of `layer_norm` with respect to x, gamma and beta.

    Parameters
    ----------
    dy : array like x
        Gradient with respect to the output.
    x : array (N, C, H, W), (C, H, W) or (N, C)
    gamma, beta : array (C,)
    mean, variance : array (N, 1) or (1,)
        From ``layer_norm(..., return_moments=True)``.
    epsilon, activation, need_dx
        As in `group_norm_backward`.

    Returns
    -------
    dx : array like x
        In x's memory order.
    dgamma, dbeta : array (C,)

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x, dy = np.array([[1., 3.]]), np.array([[0., 1.]])
    >>> one, zero = np.ones(2), np.zeros(2)
    >>> fastconv.layer_norm_backward(dy, x, one, zero, [[2.]], [[1.]], epsilon=0)
    (array([[0., 0.]]), array([0., 1.]), array([0., 1.]))
    """
    return group_norm_backward(
        dy, x, 1, gamma, beta, mean, variance,
        epsilon=epsilon, activation=activation, need_dx=need_dx,
    )  # fmt: skip
