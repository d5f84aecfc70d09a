"""Losses: what training makes small.

A loss is anything that can be called with (outputs, targets) and returns the mean loss over the
batch and its gradient with respect to the outputs. Two of them have names.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import functional as F
from fastconv.arguments import as_array

Loss = Callable[[NDArray, NDArray], tuple[float, NDArray]]


def mean_squared_error(outputs: ArrayLike, targets: ArrayLike) -> tuple[float, NDArray]:
    """Mean over all elements of (outputs - targets)², and its gradient.

    Parameters
    ----------
    outputs : ndarray
        Any shape.
    targets : ndarray
        The same shape: no broadcasting, which would hide a missing axis.

    Returns
    -------
    loss : float
    doutputs : ndarray
        In the shape and type of `outputs`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.losses import mean_squared_error
    >>> mean_squared_error(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
    (2.0, array([[0., 2.]]))
    """
    outputs, targets = as_array(outputs, "outputs"), as_array(targets, "targets")
    if targets.shape != outputs.shape:
        raise ValueError(f"targets: expected shape {outputs.shape}, got {targets.shape}")
    difference = np.subtract(outputs, targets, dtype=outputs.dtype)
    loss = float(np.mean(difference * difference, dtype=np.float64))
    return loss, difference * outputs.dtype.type(2 / max(1, outputs.size))


LOSSES: dict[str, Loss] = {
    "softmax_cross_entropy": F.softmax_cross_entropy,
    "mse": mean_squared_error,
}


def get_loss(loss: str | Loss) -> Loss:
    """Return the loss with this name; a callable is returned as it is."""
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss: expected one of {sorted(LOSSES)} or a callable, got {loss!r}")
    return LOSSES[loss]
