"""Borders and enlargement as layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import functional as F

from .layer import Layer, Shape, check_image_shape


class Pad2D(Layer):
    """A border around images: (N, C, H, W) to (N, C, top + H + bottom, left + W + right).

    Parameters
    ----------
    padding, mode, value
        As in `fastconv.pad2d`.

    Examples
    --------
    >>> from fastconv import Pad2D, Sequential
    >>> Sequential([Pad2D(2, mode="reflect")], input_shape=(8, 32, 32)).output_shape
    (8, 36, 36)
    """

    def __init__(self, padding: Any, *, mode: str = "constant", value: float = 0) -> None:
        super().__init__()
        self.padding = padding
        self.mode = mode
        self.value = value

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        check_image_shape(self, input_shape)
        return self.forward(np.empty((0, *input_shape), dtype)).shape[1:]

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        return F.pad2d(x, self.padding, self.mode, self.value)

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        return F.pad2d_backward(dy, self.padding, self.mode) if need_dx else None


class Upsample(Layer):
    """Larger images: (N, C, H, W) to (N, C, H * scale, W * scale).

    Parameters
    ----------
    scale, mode, align_corners
        As in `fastconv.upsample2d`.

    Examples
    --------
    >>> from fastconv import Sequential, Upsample
    >>> Sequential([Upsample(2, mode="bilinear")], input_shape=(8, 16, 16)).output_shape
    (8, 32, 32)
    """

    def __init__(
        self,
        scale: int | tuple[int, int],
        *,
        mode: str = "nearest",
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.mode = mode
        self.align_corners = align_corners

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        check_image_shape(self, input_shape)
        return self.forward(np.empty((0, *input_shape), dtype)).shape[1:]

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        return F.upsample2d(x, **self.config())

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        return F.upsample2d_backward(dy, **self.config()) if need_dx else None
