"""How good a classifier is: plain functions of (outputs, targets), the order losses have.

`outputs` are scores or probabilities of every class, ``(N, classes)``, of which the largest counts,
or predicted labels ``(N,)``; `targets` are the true labels. What is returned for single classes
stands at their number. A ratio without cases, such as the recall of a class that does not occur,
is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv.arguments import as_array, positive_int

Metric = Callable[[NDArray, NDArray], float]


def accuracy(outputs: ArrayLike, targets: ArrayLike) -> float:
    """Share of samples whose label is predicted.

    Parameters
    ----------
    outputs : array (N, classes) or integer array (N,)
    targets : integer array (N,)

    Returns
    -------
    float

    Examples
    --------
    >>> from fastconv.metrics import accuracy
    >>> accuracy([[0.1, 0.9], [0.8, 0.2]], [1, 1])
    0.5
    """
    predicted, true = _labels(outputs, targets)
    return float(np.mean(predicted == true))


def top_k_accuracy(outputs: ArrayLike, targets: ArrayLike, k: int = 5) -> float:
    """Share of samples whose label is among the k largest scores; of equals the first count.

    Parameters
    ----------
    outputs : array (N, classes)
    targets : integer array (N,)
    k : int

    Returns
    -------
    float

    Examples
    --------
    >>> from fastconv.metrics import top_k_accuracy
    >>> top_k_accuracy([[0.1, 0.6, 0.3], [0.5, 0.3, 0.2]], [2, 2], k=2)
    0.5
    """
    scores, k = as_array(outputs, "outputs"), positive_int("k", k)
    if scores.ndim != 2:
        raise ValueError(f"outputs: expected scores (N, classes), got shape {scores.shape}")
    _, true = _labels(scores, targets, scores.shape[1])
    own = scores[np.arange(len(scores)), true][:, None]
    before = np.arange(scores.shape[1]) < true[:, None]
    better = np.count_nonzero((scores > own) | (scores == own) & before, axis=1)
    # A score that is no number is in no place.
    return float(np.mean((better < k) & ~np.isnan(own[:, 0])))


def confusion_matrix(
    outputs: ArrayLike, targets: ArrayLike, *, classes: int | None = None
) -> NDArray:
    """Count samples by true label (rows) and predicted one (columns).

    Parameters
    ----------
    outputs : array (N, classes) or integer array (N,)
    targets : integer array (N,)
    classes : int, optional
        Rows and columns; as many as there are scores, or labels up to the largest, if not given.

    Returns
    -------
    int64 array (classes, classes)

    Examples
    --------
    >>> from fastconv.metrics import confusion_matrix
    >>> confusion_matrix([0, 1, 1, 1], [0, 0, 1, 1])
    array([[1, 1],
           [0, 2]])
    """
    predicted, true = _labels(outputs, targets)
    if classes is None:
        scores = as_array(outputs, "outputs")
        largest = max(predicted.max(initial=-1), true.max(initial=-1)) + 1
        classes = max(scores.shape[1], largest) if scores.ndim == 2 else largest
    else:
        classes = positive_int("classes", classes)
        if classes > 1 << 20:
            raise ValueError(f"classes: expected at most {1 << 20}, got {classes}")
        _labels(predicted, true, classes)
    pairs = true * classes + predicted
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


class ClassScores(NamedTuple):
    """What `precision_recall_f1` returns: arrays (classes,)."""

    precision: NDArray
    recall: NDArray
    f1: NDArray
    support: NDArray


def precision_recall_f1(
    outputs: ArrayLike, targets: ArrayLike, *, classes: int | None = None
) -> ClassScores:
    """Say how well each class is found.

    Parameters
    ----------
    outputs : array (N, classes) or integer array (N,)
    targets : integer array (N,)
    classes : int, optional
        See `confusion_matrix`.

    Returns
    -------
    ClassScores
        By class: `precision`, the share of what is predicted to be it that is; `recall`, the share
        of it that is predicted to be; `f1`, their harmonic mean; `support`, how often it occurs.

    Examples
    --------
    >>> from fastconv.metrics import precision_recall_f1
    >>> scores = precision_recall_f1([0, 1, 1, 1], [0, 0, 1, 1])
    >>> scores.precision.round(2), scores.recall, scores.support
    (array([1.  , 0.67]), array([0.5, 1. ]), array([2, 2]))
    """
    counts = confusion_matrix(outputs, targets, classes=classes)
    hits, predicted, support = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    return ClassScores(
        hits / np.maximum(predicted, 1),
        hits / np.maximum(support, 1),
        2 * hits / np.maximum(predicted + support, 1),
        support,
    )


def macro_f1(outputs: ArrayLike, targets: ArrayLike) -> float:
    """Mean F1 of the classes that occur, among targets or predictions.

    Parameters
    ----------
    outputs : array (N, classes) or integer array (N,)
    targets : integer array (N,)

    Returns
    -------
    float

    Examples
    --------
    >>> from fastconv.metrics import macro_f1
    >>> round(macro_f1([0, 1, 1, 1], [0, 0, 1, 1]), 4)
    0.7333
    """
    counts = confusion_matrix(outputs, targets)
    cases = counts.sum(axis=0) + counts.sum(axis=1)
    return float(np.mean(2 * counts.diagonal()[cases > 0] / cases[cases > 0]))


METRICS: dict[str, Metric] = {
    metric.__name__: metric for metric in (accuracy, top_k_accuracy, macro_f1)
}


def get_metric(metric: str | Metric) -> tuple[str, Metric]:
    """Return a metric and its name; a callable of one's own has the name of its function."""
    if callable(metric):
        name = getattr(metric, "__name__", None)
        if not name or not name.isidentifier():
            raise ValueError(f"metrics: expected functions with a name, got {metric!r}")
        return name, metric
    if not isinstance(metric, str) or metric not in METRICS:
        raise ValueError(
            f"metrics: expected one of {sorted(METRICS)} or a function, got {metric!r}"
        )
    return metric, METRICS[metric]


def _labels(
    outputs: ArrayLike, targets: ArrayLike, classes: int | None = None
) -> tuple[NDArray, NDArray]:
    """Predicted and true labels, checked, as int64."""
    predicted, true = as_array(outputs, "outputs"), as_array(targets, "targets")
    if predicted.ndim == 2 and predicted.dtype.kind in "biuf" and predicted.shape[1]:
        predicted = predicted.argmax(axis=1)
    if predicted.ndim == true.ndim == 1 and (len(predicted) != len(true) or not len(true)):
        raise ValueError(
            f"targets: expected one label for each of at least one sample, got {len(true)} for "
            f"{len(predicted)}"
        )
    for name, labels in (("outputs", predicted), ("targets", true)):
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{name}: expected integer labels (N,){' or scores' * (name == 'outputs')}, got "
                f"shape {labels.shape} of {labels.dtype}"
            )
        least, most = labels.min(initial=0), labels.max(initial=0)
        if least < 0 or (classes is not None and most >= classes):
            raise ValueError(
                f"{name}: expected labels from 0{f' to {classes - 1}' if classes else ''}, got "
                f"{least} to {most}"
            )
    return predicted.astype(np.int64), true.astype(np.int64)
