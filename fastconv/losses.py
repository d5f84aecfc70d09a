"""Losses by name and by setting: what training makes small.

A loss is anything that can be called with (outputs, targets) and returns the mean loss over the
batch and its gradient with respect to the outputs. To be used with weights it also takes
``sample_weights=``. The losses themselves are functions of `fastconv.functional`; an object here is
one of them with its settings, `LOSSES` names them with their defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from numpy.typing import ArrayLike, NDArray

from fastconv import functional as F

Loss = Callable[..., tuple[float, NDArray]]


@dataclass(frozen=True, eq=False)
class SoftmaxCrossEntropy:
    """`fastconv.softmax_cross_entropy` with settings.

    Parameters
    ----------
    label_smoothing : float
    class_weights : array_like (classes,), optional
    ignore_label : int, optional

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.losses import SoftmaxCrossEntropy
    >>> loss = SoftmaxCrossEntropy(ignore_label=-1)
    >>> loss
    SoftmaxCrossEntropy(label_smoothing=0.0, class_weights=None, ignore_label=-1)
    >>> loss(np.zeros((2, 2)), np.array([1, -1]))[1]
    array([[ 0.5, -0.5],
           [ 0. ,  0. ]])
    """

    label_smoothing: float = 0.0
    class_weights: ArrayLike | None = None
    ignore_label: int | None = None

    def __call__(
        self, outputs: ArrayLike, targets: ArrayLike, *, sample_weights: ArrayLike | None = None
    ) -> tuple[float, NDArray]:
        return F.softmax_cross_entropy(
            outputs,
            targets,
            label_smoothing=self.label_smoothing,
            class_weights=self.class_weights,
            ignore_label=self.ignore_label,
            sample_weights=sample_weights,
        )


@dataclass(frozen=True, eq=False)
class BinaryCrossEntropy:
    """`fastconv.binary_cross_entropy` with a setting.

    Parameters
    ----------
    pos_weight : float or array_like, optional

    Examples
    --------
    >>> from fastconv.losses import BinaryCrossEntropy
    >>> BinaryCrossEntropy(pos_weight=3.0)([[0.0]], [[1.0]])[1]
    array([[-1.5]])
    """

    pos_weight: ArrayLike | None = None

    def __call__(
        self, outputs: ArrayLike, targets: ArrayLike, *, sample_weights: ArrayLike | None = None
    ) -> tuple[float, NDArray]:
        return F.binary_cross_entropy(
            outputs, targets, pos_weight=self.pos_weight, sample_weights=sample_weights
        )


@dataclass(frozen=True)
class Huber:
    """`fastconv.huber` with a setting.

    Parameters
    ----------
    delta : float

    Examples
    --------
    >>> from fastconv.losses import Huber
    >>> Huber(delta=0.5)([[3.0]], [[0.0]])
    (1.375, array([[0.5]]))
    """

    delta: float = 1.0

    def __call__(
        self, outputs: ArrayLike, targets: ArrayLike, *, sample_weights: ArrayLike | None = None
    ) -> tuple[float, NDArray]:
        return F.huber(outputs, targets, delta=self.delta, sample_weights=sample_weights)


LOSSES: dict[str, Loss] = {
    "softmax_cross_entropy": F.softmax_cross_entropy,
    "binary_cross_entropy": F.binary_cross_entropy,
    "mse": F.mean_squared_error,
    "huber": F.huber,
}


def get_loss(loss: str | Loss) -> Loss:
    """Return the loss with this name; a callable is returned as it is."""
    if callable(loss):
        return loss
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ValueError(f"loss: expected one of {sorted(LOSSES)} or a callable, got {loss!r}")
    return LOSSES[loss]
