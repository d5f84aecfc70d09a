"""Average and global pooling as layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import functional as F
from fastconv.arguments import as_array

from .layer import Layer, Shape, check_image_shape


class AvgPool(Layer):
    """Mean of every window: (N, C, IH, IW) to (N, C, OH, OW).

    Parameters
    ----------
    size : int or pair of int
        Height and width of the window.
    stride : int or pair of int, optional
        Distance between windows; `size` when not given.
    padding, ceil_mode, count_include_pad
        As in `fastconv.avg_pool2d`.

    Examples
    --------
    >>> from fastconv import AvgPool, Sequential
    >>> Sequential([AvgPool(2)], input_shape=(8, 32, 32)).output_shape
    (8, 16, 16)
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.size = size
        self.stride = stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        check_image_shape(self, input_shape)
        return self.forward(np.empty((0, *input_shape), dtype)).shape[1:]

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        x = as_array(x, "x")
        if training:
            self.saved = x.shape
        return F.avg_pool2d(x, **self.config())

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        input_shape = self.take_saved()
        return F.avg_pool2d_backward(dy, input_shape, **self.config()) if need_dx else None


class AdaptiveAvgPool(Layer):
    """Means of so many windows that cover the image: (N, C, IH, IW) to (N, C, OH, OW).

    Parameters
    ----------
    output_size : int or pair of int
        OH and OW.

    Examples
    --------
    >>> from fastconv import AdaptiveAvgPool, Sequential
    >>> Sequential([AdaptiveAvgPool((2, 3))], input_shape=(8, 32, 32)).output_shape
    (8, 2, 3)
    """

    def __init__(self, output_size: int | tuple[int, int]) -> None:
        super().__init__()
        self.output_size = output_size

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        check_image_shape(self, input_shape)
        return self.forward(np.empty((0, *input_shape), dtype)).shape[1:]

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        x = as_array(x, "x")
        if training:
            self.saved = x.shape
        return F.adaptive_avg_pool2d(x, self.output_size)

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        input_shape = self.take_saved()
        return F.adaptive_avg_pool2d_backward(dy, input_shape) if need_dx else None


class GlobalAvgPool(Layer):
    """Mean of every plane: (N, C, H, W) to (N, C).

    Examples
    --------
    >>> from fastconv import GlobalAvgPool, Sequential
    >>> Sequential([GlobalAvgPool()], input_shape=(8, 32, 32)).output_shape
    (8,)
    """

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        check_image_shape(self, input_shape)
        return input_shape[:1]

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        x = as_array(x, "x")
        if training:
            self.saved = x.shape, not x.flags.c_contiguous
        return F.global_avg_pool2d(x)

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        input_shape, channels_last = self.take_saved()
        if not need_dx:
            return None
        return F.global_avg_pool2d_backward(dy, input_shape, channels_last=channels_last)


class GlobalMaxPool(Layer):
    """Largest value of every plane: (N, C, H, W) to (N, C).

    Examples
    --------
    >>> from fastconv import GlobalMaxPool, Sequential
    >>> Sequential([GlobalMaxPool()], input_shape=(8, 32, 32)).output_shape
    (8,)
    """

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        check_image_shape(self, input_shape)
        return input_shape[:1]

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        x = as_array(x, "x")
        if not training:
            largest: Any = F.global_max_pool2d(x)
            return largest
        y, indices = F.global_max_pool2d(x, return_indices=True)
        self.saved = indices, x.shape, not x.flags.c_contiguous
        return y

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        indices, input_shape, channels_last = self.take_saved()
        if not need_dx:
            return None
        return F.global_max_pool2d_backward(dy, indices, input_shape, channels_last=channels_last)
