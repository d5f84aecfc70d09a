"""Losses with their gradients."""

import numpy as np

from .activation import log_softmax, softmax
from .arrays import Array, float64


def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """Mean negative log-likelihood of the labels, and its gradient with respect to the logits.

        loss           = -mean over n of log_softmax(logits)[n, labels[n]]
        dlogits[n, c]  = (softmax(logits)[n, c] - (1 if c == labels[n] else 0)) / N

    Examples
    --------
    >>> loss, dlogits = softmax_cross_entropy(np.array([[0.0, 0.0]]), np.array([1]))
    >>> round(loss, 4), dlogits
    (0.6931, array([[ 0.5, -0.5]]))
    """
    dtype, (logits,) = float64(logits=logits)
    labels = np.asarray(labels)
    N, classes = logits.shape
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"labels: expected classes 0 to {classes - 1}")
    likelihood = log_softmax(logits)[np.arange(N), labels]
    target = np.eye(classes)[labels]
    return float(-likelihood.mean()), ((softmax(logits) - target) / N).astype(dtype)
