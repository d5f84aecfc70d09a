"""What training makes small, with its gradient.

Every loss is a mean over what counts: with weights of samples (and of classes) a weighted mean,
``sum(weight * loss) / sum(weight)``. A sample of weight 0 is not looked at, and where nothing
counts the loss and its gradient are 0. Gradients have the type of the scores or outputs.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastconv._core import loss as _loss
from fastconv._core import softmax as _softmax

from .activation import scores
from .types import Array


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    class_weights: ArrayLike | None = None,
    ignore_label: int | None = None,
    sample_weights: ArrayLike | None = None,
) -> tuple[float, Array]:
    """Mean of ``-log(softmax(logits))[label]`` over the batch, and its gradient.

    Parameters
    ----------
    logits : array (N, classes)
        Scores, not probabilities.
    labels : integer array (N,)
        From 0 to classes - 1, or `ignore_label`.
    label_smoothing : float
        In [0, 1): the share of each label that is spread evenly over all classes.
    class_weights : array (classes,), optional
        How much a sample of each class counts in the mean. What smoothing spreads over a class is
        multiplied by its weight, as PyTorch does.
    ignore_label : int, optional
        Samples with this label do not count.
    sample_weights : array (N,), optional
        How much each sample counts in the mean.

    Returns
    -------
    loss : float
    dlogits : array (N, classes)
        ``(softmax(logits) - onehot(labels)) / N`` where nothing else is asked for.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> loss, dlogits = fastconv.softmax_cross_entropy(np.array([[0., 0.]]), np.array([1]))
    >>> round(loss, 4), dlogits
    (0.6931, array([[ 0.5, -0.5]]))
    """
    return _softmax.cross_entropy(
        scores(logits, "logits"),
        labels,
        label_smoothing,
        class_weights,
        ignore_label,
        sample_weights,
    )


def binary_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    sample_weights: ArrayLike | None = None,
) -> tuple[float, Array]:
    """Mean of ``-log(sigmoid(x))`` where the target is 1, ``-log(sigmoid(-x))`` where it is 0.

    Any number of yes-or-no questions for each sample, from scores; with its gradient.

    Parameters
    ----------
    logits : array (N, ...)
        Scores, not probabilities.
    targets : array like logits
        From 0 to 1; values between are probabilities.
    pos_weight : float or array, optional
        How much a 1 counts, for all questions or for each: an array that fits one sample.
    sample_weights : array (N,), optional
        How much each sample counts in the mean.

    Returns
    -------
    loss : float
    dlogits : array like logits

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> loss, dlogits = fastconv.binary_cross_entropy(np.array([[0., 0.]]), np.array([[1, 0]]))
    >>> round(loss, 4), dlogits
    (0.6931, array([[-0.25,  0.25]]))
    """
    return _loss.logistic(logits, targets, sample_weights, pos_weight)


def mean_squared_error(
    outputs: ArrayLike, targets: ArrayLike, *, sample_weights: ArrayLike | None = None
) -> tuple[float, Array]:
    """Mean over all elements of ``(outputs - targets)**2``, and its gradient.

    Parameters
    ----------
    outputs : array (N, ...)
    targets : array like outputs
        The same shape: no broadcasting, which would hide a missing axis.
    sample_weights : array (N,), optional
        How much each sample counts in the mean.

    Returns
    -------
    loss : float
    doutputs : array like outputs

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.mean_squared_error(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
    (2.0, array([[0., 2.]]))
    """
    return _loss.squared(outputs, targets, sample_weights)


def huber(
    outputs: ArrayLike,
    targets: ArrayLike,
    *,
    delta: float = 1.0,
    sample_weights: ArrayLike | None = None,
) -> tuple[float, Array]:
    """Mean squared error for small differences, linear for large ones, and its gradient.

    With ``d = abs(outputs - targets)`` it is ``d**2 / 2`` up to `delta` and
    ``delta * (d - delta / 2)`` from there: an outlier pulls no harder than delta.

    Parameters
    ----------
    outputs : array (N, ...)
    targets : array like outputs
    delta : float
        Above 0.
    sample_weights : array (N,), optional
        How much each sample counts in the mean.

    Returns
    -------
    loss : float
    doutputs : array like outputs

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.huber(np.array([[1.0, 3.0]]), np.array([[1.0, 0.0]]), delta=2.0)
    (2.0, array([[0., 1.]]))
    """
    return _loss.huber(outputs, targets, sample_weights, delta)
