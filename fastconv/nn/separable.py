"""Convolutions in two parts: filters for each channel, and mixtures of channels.

A depthwise convolution has filters of its own for each input channel; a separable one mixes their
results by a 1x1 convolution, in which the bias and the activation are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import functional as F
from fastconv.arguments import as_array, boolean

from .conv import Conv2D, kernel_size_of
from .initializers import glorot_uniform, he_uniform
from .layer import Layer, Shape, check_activation, check_image_shape, positive_int


class DepthwiseConv2D(Conv2D):
    """Convolution of each channel by itself: (N, C, IH, IW) to (N, C * depth_multiplier, OH, OW).

    Parameters
    ----------
    kernel_size : int or pair of int
        KH and KW.
    depth_multiplier : int
        Filters for each channel; their results lie side by side.
    stride, padding, dilation, padding_mode, bias, activation
        As in `Conv2D`.

    Notes
    -----
    ``params["kernel"]`` is (C * depth_multiplier, 1, KH, KW), as in a `Conv2D` with ``groups=C``.

    Examples
    --------
    >>> from fastconv import DepthwiseConv2D, Sequential
    >>> Sequential([DepthwiseConv2D(3, padding="same")], input_shape=(8, 32, 32)).output_shape
    (8, 32, 32)
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        *,
        depth_multiplier: int = 1,
        stride: int | tuple[int, int] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, int] = 1,
        padding_mode: str = "zeros",
        bias: bool = True,
        activation: str | None = None,
    ) -> None:
        self.depth_multiplier = positive_int("depth_multiplier", depth_multiplier)
        # How many filters and groups there are, the input will say.
        super().__init__(
            self.depth_multiplier,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            padding_mode=padding_mode,
            bias=bias,
            activation=activation,
        )

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        check_image_shape(self, input_shape)
        self.groups, self.filters = input_shape[0], input_shape[0] * self.depth_multiplier
        return super().build(input_shape, rng, dtype)


class SeparableConv2D(Layer):
    """Depthwise, then 1x1 convolution: (N, IC, IH, IW) to (N, filters, OH, OW).

    Parameters
    ----------
    filters : int
        Output channels OC.
    kernel_size : int or pair of int
        KH and KW of the depthwise part.
    depth_multiplier : int
        Filters for each input channel.
    stride, padding, dilation
        Of the depthwise part, as in `Conv2D`.
    bias, activation
        Of the 1x1 part, as in `Conv2D`; nothing stands between the two.

    Notes
    -----
    ``params["depthwise"]`` is (IC * depth_multiplier, 1, KH, KW), ``params["pointwise"]`` is
    (filters, IC * depth_multiplier, 1, 1), ``params["bias"]`` is (filters,).

    Examples
    --------
    >>> from fastconv import SeparableConv2D, Sequential
    >>> model = Sequential([SeparableConv2D(16, 3, padding=1)], input_shape=(8, 32, 32))
    >>> model.output_shape
    (16, 32, 32)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        *,
        depth_multiplier: int = 1,
        stride: int | tuple[int, int] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
        activation: str | None = None,
    ) -> None:
        super().__init__()
        self.filters = positive_int("filters", filters)
        self.kernel_size = kernel_size_of(kernel_size)
        self.depth_multiplier = positive_int("depth_multiplier", depth_multiplier)
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.bias = boolean("bias", bias)
        self.activation = check_activation(activation)
        self.groups = 1

    @property
    def _geometry(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        check_image_shape(self, input_shape)
        IC, OC = input_shape[0], self.filters
        KH, KW = (self.kernel_size,) * 2 if isinstance(self.kernel_size, int) else self.kernel_size
        middle = IC * self.depth_multiplier
        self.groups = IC

        def depthwise() -> NDArray:
            fans = KH * KW, self.depth_multiplier * KH * KW
            return glorot_uniform((middle, 1, KH, KW), *fans, rng, dtype)

        def pointwise() -> NDArray:
            if self.activation == "relu":
                return he_uniform((OC, middle, 1, 1), middle, rng, dtype)
            return glorot_uniform((OC, middle, 1, 1), middle, OC, rng, dtype)

        kernel = self.add_parameter("depthwise", (middle, 1, KH, KW), depthwise)
        self.add_parameter("pointwise", (OC, middle, 1, 1), pointwise)
        if self.bias:
            self.add_parameter("bias", (OC,), lambda: np.zeros(OC, dtype))
        _, _, OH, OW = F.conv2d(np.empty((0, *input_shape), dtype), kernel, **self._geometry).shape
        self.multiply_adds = OH * OW * middle * (KH * KW + OC)
        return OC, OH, OW

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        x = as_array(x, "x")
        middle = F.conv2d(x, self.params["depthwise"], **self._geometry)
        y = F.conv2d(
            middle,
            self.params["pointwise"],
            self.params.get("bias"),
            activation=self.activation,
        )
        if training:
            self.saved = x, middle, (y if self.activation == "relu" else None)
        return y

    def hand_over_relu(self) -> bool:
        x, middle, y = self.saved
        self.saved = x, middle, None
        return y is not None

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        x, middle, y = self.take_saved()
        depthwise, pointwise = self.params["depthwise"], self.params["pointwise"]
        if y is not None:
            dy = F.relu_backward(dy, y)
        self.grads["pointwise"] = F.conv2d_backward_kernel(dy, middle, pointwise.shape)
        if self.bias:
            self.grads["bias"] = F.conv2d_backward_bias(dy)
        dy = F.conv2d_backward_input(dy, pointwise, middle.shape)
        self.grads["depthwise"] = F.conv2d_backward_kernel(dy, x, depthwise.shape, **self._geometry)
        if not need_dx:
            return None
        return F.conv2d_backward_input(dy, depthwise, x.shape, **self._geometry)
