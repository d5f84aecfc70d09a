"""Dropout: while training, forget a random part of the activations, or of the channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastconv.arguments import as_array, real
from fastconv.training import dropout

from .layer import Layer, Shape, check_image_shape


class Dropout(Layer):
    """Zero each activation with probability `rate` and scale the others by 1 / (1 - rate).

    Outside training the input passes through untouched. A key for each step comes from the
    model's generator, so a seeded model drops the same activations every time, whatever their
    memory order.

    Parameters
    ----------
    rate : float
        Probability of being dropped, at least 0 and below 1.

    Examples
    --------
    >>> from fastconv import Dropout
    >>> Dropout(0.5)
    Dropout(0.5)
    """

    by_channel = False

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= real("rate", rate) < 1:
            raise ValueError(f"rate: expected a number in [0, 1), got {rate!r}")
        self.rate = float(rate)

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        self._rng = rng
        return input_shape

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        if not training:
            return as_array(x, "x")
        key = int(self._rng.integers(1 << 63))
        y = dropout(x, self.rate, key, by_channel=self.by_channel)
        self.saved = key, y.shape
        return y

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        key, shape = self.take_saved()
        if not need_dx:
            return None
        dy = as_array(dy, "dy")
        if dy.shape != shape:
            raise ValueError(f"dy: expected shape {shape}, got {dy.shape}")
        return dropout(dy, self.rate, key, by_channel=self.by_channel)


class SpatialDropout(Dropout):
    """Zero each channel of each image with probability `rate`, and scale the others.

    Neighbouring pixels know much of each other: dropping single ones hides little.

    Parameters
    ----------
    rate : float
        Probability of being dropped, at least 0 and below 1.

    Examples
    --------
    >>> from fastconv import SpatialDropout
    >>> SpatialDropout(0.1)
    SpatialDropout(0.1)
    """

    by_channel = True

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        check_image_shape(self, input_shape)
        return super().build(input_shape, rng, dtype)
