"""What training makes small, with its gradient."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastconv._core import softmax as _softmax

from .activation import scores
from .types import Array


def softmax_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> tuple[float, Array]:
    """Mean of ``-log(softmax(logits))[label]`` over the batch, and its gradient.

    Parameters
    ----------
    logits : array (N, classes)
        Scores, not probabilities.
    labels : integer array (N,)
        From 0 to classes - 1.

    Returns
    -------
    loss : float
    dlogits : array (N, classes)
        ``(softmax(logits) - onehot(labels)) / N``.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> loss, dlogits = fastconv.softmax_cross_entropy(np.array([[0., 0.]]), np.array([1]))
    >>> round(loss, 4), dlogits
    (0.6931, array([[ 0.5, -0.5]]))
    """
    return _softmax.cross_entropy(scores(logits, "logits"), labels)
