"""Losses with their gradients: weighted means, ``sum(weight * loss) / sum(weight)``.

The gradient has the type of the outputs, whatever type the targets have.
"""

import numpy as np

from .activation import log_softmax, softmax
from .arrays import Array, float64


def softmax_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    label_smoothing: float = 0.0,
    class_weights: Array | None = None,
    ignore_label: int | None = None,
    sample_weights: Array | None = None,
) -> tuple[float, Array]:
    """Mean negative log-likelihood of the labels, and its gradient with respect to the logits.

        own[n, c]      = (1 - smoothing) * (1 if c == labels[n] else 0) + smoothing / classes
        wanted[n, c]   = class_weights[c] * own[n, c]
        weight[n]      = sample_weights[n] * class_weights[labels[n]]    the mean is over these
        share[n]       = sample_weights[n] / sum(weight)
        loss           = -sum over n, c of share[n] * wanted[n, c] * log_softmax(logits)[n, c]
        dlogits[n, c]  = share[n] * (softmax(logits)[n, c] * sum(wanted[n]) - wanted[n, c])

    A sample that is ignored, or has no weight, or whose class has none, takes no part.

    Examples
    --------
    >>> loss, dlogits = softmax_cross_entropy(np.array([[0.0, 0.0]]), np.array([1]))
    >>> round(loss, 4), dlogits
    (0.6931, array([[ 0.5, -0.5]]))
    """
    dtype, (logits,) = float64(logits=logits)
    labels = np.asarray(labels)
    N, classes = logits.shape
    of_classes = np.ones(classes) if class_weights is None else np.asarray(class_weights, float)
    of_samples = np.ones(N) if sample_weights is None else np.array(sample_weights, float)
    if ignore_label is not None:
        of_samples = np.where(labels == ignore_label, 0, of_samples)
        labels = np.where(labels == ignore_label, 0, labels)
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"labels: expected classes 0 to {classes - 1}")
    own = (1 - label_smoothing) * np.eye(classes)[labels] + label_smoothing / classes
    wanted = of_classes * own
    total = np.sum(of_samples * of_classes[labels])
    counts = (of_samples > 0) & (wanted > 0).any(axis=1)
    dlogits = np.zeros((N, classes))
    if total == 0:
        return 0.0, dlogits.astype(dtype)
    logits, wanted, share = logits[counts], wanted[counts], of_samples[counts, None] / total
    # An unwanted class may have a likelihood of -inf.
    likelihood = np.where(wanted > 0, log_softmax(logits), 0)
    loss = -np.sum(share * wanted * likelihood)
    dlogits[counts] = share * (softmax(logits) * wanted.sum(axis=1, keepdims=True) - wanted)
    return float(loss), dlogits.astype(dtype)


def binary_cross_entropy(
    logits: Array,
    targets: Array,
    *,
    pos_weight: Array | None = None,
    sample_weights: Array | None = None,
) -> tuple[float, Array]:
    """Mean of p * t * log(1 + exp(-x)) + (1 - t) * log(1 + exp(x)), and its gradient.

        dx = (1 - t) * sigmoid(x) - p * t * sigmoid(-x)

    Examples
    --------
    >>> loss, dlogits = binary_cross_entropy(np.array([[0.0, 0.0]]), np.array([[1, 0]]))
    >>> round(loss, 4), dlogits
    (0.6931, array([[-0.25,  0.25]]))
    """
    dtype, (x,) = float64(logits=logits)
    t, p = np.asarray(targets, float), 1.0 if pos_weight is None else np.asarray(pos_weight, float)
    losses = p * t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x)
    derivative = (1 - t) * np.exp(-np.logaddexp(0, -x)) - p * t * np.exp(-np.logaddexp(0, x))
    return _weighted_mean(losses, derivative, sample_weights, dtype)


def mean_squared_error(
    outputs: Array, targets: Array, *, sample_weights: Array | None = None
) -> tuple[float, Array]:
    """Mean of d**2 with d = outputs - targets, and its gradient 2 d.

    Examples
    --------
    >>> mean_squared_error(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
    (2.0, array([[0., 2.]]))
    """
    dtype, (x,) = float64(outputs=outputs)
    d = x - np.asarray(targets, float)
    return _weighted_mean(d**2, 2 * d, sample_weights, dtype)


def huber(
    outputs: Array, targets: Array, *, delta: float = 1.0, sample_weights: Array | None = None
) -> tuple[float, Array]:
    """Mean of d**2 / 2 where abs(d) <= delta and of delta * (abs(d) - delta / 2) elsewhere.

    Examples
    --------
    >>> huber(np.array([[1.0, 3.0]]), np.array([[1.0, 0.0]]), delta=2.0)
    (2.0, array([[0., 1.]]))
    """
    dtype, (x,) = float64(outputs=outputs)
    d = x - np.asarray(targets, float)
    losses = np.where(np.abs(d) <= delta, d**2 / 2, delta * (np.abs(d) - delta / 2))
    return _weighted_mean(losses, np.clip(d, -delta, delta), sample_weights, dtype)


def _weighted_mean(
    losses: Array, derivative: Array, sample_weights: Array | None, dtype: np.dtype
) -> tuple[float, Array]:
    """The mean over all elements, samples counting as much as their weights, and its gradient."""
    weights = np.ones(len(losses)) if sample_weights is None else np.asarray(sample_weights, float)
    if not weights.any():
        return 0.0, np.zeros_like(losses, dtype)
    share = weights / weights.sum() / losses[0].size
    share = share.reshape(-1, *[1] * (losses.ndim - 1))
    with np.errstate(invalid="ignore"):
        loss = np.sum(np.where(share > 0, share * losses, 0))
        gradient = np.where(share > 0, share * derivative, 0)
    return float(loss), gradient.astype(dtype)
