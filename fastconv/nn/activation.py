"""Activations as layers, for where they cannot be fused into the layer before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastconv import functional as F
from fastconv.arguments import as_array

from .layer import Layer, Shape


class ReLU(Layer):
    """``max(x, 0)``. Cheaper as ``activation="relu"`` of the layer before it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ReLU
    >>> ReLU().forward(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        y = F.relu(x)
        if training:
            self.saved = (y,)
        return y

    def hand_over_relu(self) -> bool:
        self.saved = (None,)
        return True

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        (y,) = self.take_saved()
        if not need_dx:
            return None
        return as_array(dy, "dy") if y is None else F.relu_backward(dy, y)


class Softmax(Layer):
    """Probabilities from scores: (N, classes) to (N, classes), rows summing to one.

    The loss ``"softmax_cross_entropy"`` takes scores, so a classifier trained with it ends in a
    `Dense` layer, without this one.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Softmax
    >>> Softmax().forward(np.zeros((1, 4)))
    array([[0.25, 0.25, 0.25, 0.25]])
    """

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        if len(input_shape) != 1:
            raise ValueError(
                f"Softmax: expected an input of shape (N, classes), got (N, "
                f"{', '.join(map(str, input_shape))})"
            )
        return input_shape

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        y = F.softmax(x)
        if training:
            self.saved = y
        return y

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        y, dy = self.take_saved(), as_array(dy, "dy")
        return y * (dy - (dy * y).sum(axis=1, keepdims=True)) if need_dx else None
