"""Dropout: while training, forget a random part of the activations, or of the channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastconv.arguments import as_array, real

from .layer import Layer, Shape, check_image_shape


class Dropout(Layer):
    """Zero each activation with probability `rate` and scale the others by 1 / (1 - rate).

    Outside training the input passes through untouched. The draws come from the model's
    generator, so a seeded model drops the same activations every time.

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

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= real("rate", rate) < 1:
            raise ValueError(f"rate: expected a number in [0, 1), got {rate!r}")
        self.rate = float(rate)

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        self._rng = rng
        return input_shape

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        x = as_array(x, "x")
        if not training:
            return x
        # The mask has x's memory order: its draws run along memory and the products below need
        # no transposition. It holds 0 or 1 / (1 - rate).
        mask = np.empty_like(x)
        draws = mask.ravel(order="K")
        self._rng.random(out=draws, dtype=draws.dtype.type)
        np.greater_equal(draws, self.rate, out=draws)
        draws *= 1 / (1 - self.rate)
        self.saved = mask
        return x * mask

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        mask = self.take_saved()
        return as_array(dy, "dy") * mask if need_dx else None


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

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        check_image_shape(self, input_shape)
        return super().build(input_shape, rng, dtype)

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        x = as_array(x, "x")
        if not training:
            return x
        draws = self._rng.random(x.shape[:2], dtype=x.dtype.type)
        self.saved = (draws >= self.rate) * x.dtype.type(1 / (1 - self.rate))
        return _by_channel(x, self.saved)

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        factors = self.take_saved()
        return _by_channel(as_array(dy, "dy"), factors) if need_dx else None


def _by_channel(x: NDArray, factors: NDArray) -> NDArray:
    """Multiply each plane by its factor: channels-last, a row of pixels at a time."""
    n, c, h, w = x.shape
    rows = x.transpose(0, 2, 3, 1)
    if not rows.flags.c_contiguous:
        return x * factors[:, :, None, None]
    products = rows.reshape(n, h, w * c) * np.tile(factors[:, None], w)
    return products.reshape(n, h, w, c).transpose(0, 3, 1, 2)
