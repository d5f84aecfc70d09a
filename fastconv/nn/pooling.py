"""Max pooling as a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import functional as F
from fastconv import training as T
from fastconv.arguments import as_array

from .layer import Layer, Shape, check_image_shape


class MaxPool(Layer):
    """Largest value of every window: (N, C, IH, IW) to (N, C, OH, OW).

    Parameters
    ----------
    size : int or pair of int
        Height and width of the window.
    stride : int or pair of int, optional
        Distance between windows; `size` when not given.
    padding, dilation, ceil_mode
        As in `fastconv.max_pool2d`.

    Examples
    --------
    >>> from fastconv import MaxPool, Sequential
    >>> Sequential([MaxPool(2)], input_shape=(8, 32, 32)).output_shape
    (8, 16, 16)
    """

    takes_relu = True

    def __init__(
        self,
        size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] | None = None,
        padding: Any = 0,
        dilation: int | tuple[int, int] = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.size = size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        check_image_shape(self, input_shape)
        return self.forward(np.empty((0, *input_shape), dtype)).shape[1:]

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        x = as_array(x, "x")
        if not training:
            pooled: Any = F.max_pool2d(x, **self.config())
            return pooled
        y, taps = T.max_pool2d_taps(x, **self.config())
        self.saved = x.shape, taps, y, False
        return y

    def take_relu(self) -> None:
        input_shape, taps, y, _ = self.saved
        self.saved = input_shape, taps, y, True

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        input_shape, taps, y, relu = self.take_saved()
        if not need_dx:
            return None
        return T.max_pool2d_taps_backward(
            dy,
            taps,
            input_shape,
            self.size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            y=y if relu else None,
        )
