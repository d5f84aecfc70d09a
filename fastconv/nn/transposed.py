"""Transposed convolution as a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import functional as F
from fastconv.arguments import as_array, boolean

from .conv import kernel_size_of
from .initializers import glorot_uniform, he_uniform
from .layer import Layer, Shape, check_activation, check_image_shape, positive_int


class Conv2DTranspose(Layer):
    """Transposed convolution of (N, IC, IH, IW) to (N, filters, OH, OW), with bias and ReLU fused.

    Parameters
    ----------
    filters : int
        Output channels OC.
    kernel_size : int or pair of int
        KH and KW.
    stride, padding, output_padding, dilation, groups
        As in `fastconv.conv_transpose2d`; ``padding="same"`` gives ``OH = IH * stride``.
    bias : bool
        Whether to add one number per filter.
    activation : None or "relu"
        Applied while the result is stored, at no cost.

    Notes
    -----
    ``params["kernel"]`` is (IC, filters // groups, KH, KW), ``params["bias"]`` is (filters,).

    Examples
    --------
    >>> from fastconv import Conv2DTranspose, Sequential
    >>> model = Sequential([Conv2DTranspose(3, 4, stride=2, padding=1)], input_shape=(8, 16, 16))
    >>> model.output_shape
    (3, 32, 32)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: Any = 0,
        output_padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        activation: str | None = None,
    ) -> None:
        super().__init__()
        self.filters = positive_int("filters", filters)
        self.kernel_size = kernel_size_of(kernel_size)
        self.stride = stride
        self.padding = padding
        self.output_padding = output_padding
        self.dilation = dilation
        self.groups = positive_int("groups", groups)
        self.bias = boolean("bias", bias)
        self.activation = check_activation(activation)

    @property
    def _geometry(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "output_padding": self.output_padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        check_image_shape(self, input_shape)
        IC, OC = input_shape[0], self.filters
        KH, KW = (self.kernel_size,) * 2 if isinstance(self.kernel_size, int) else self.kernel_size
        if IC % self.groups or OC % self.groups:
            raise ValueError(
                f"Conv2DTranspose: groups: expected a divisor of the input's {IC} and the layer's "
                f"{OC} channels, got {self.groups}"
            )
        shape = (IC, OC // self.groups, KH, KW)
        fan_in, fan_out = IC // self.groups * KH * KW, OC // self.groups * KH * KW

        def initial() -> NDArray:
            if self.activation == "relu":
                return he_uniform(shape, fan_in, rng, dtype)
            return glorot_uniform(shape, fan_in, fan_out, rng, dtype)

        kernel = self.add_parameter("kernel", shape, initial)
        if self.bias:
            self.add_parameter("bias", (OC,), lambda: np.zeros(OC, dtype))
        # As in `Conv2D`: the geometry is checked by an empty batch.
        empty = F.conv_transpose2d(np.empty((0, *input_shape), dtype), kernel, **self._geometry)
        self.multiply_adds = input_shape[1] * input_shape[2] * kernel.size
        return empty.shape[1:]

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        x = as_array(x, "x")
        y = F.conv_transpose2d(
            x,
            self.params["kernel"],
            self.params.get("bias"),
            activation=self.activation,
            **self._geometry,
        )
        if training:
            self.saved = x, (y if self.activation == "relu" else None)
        return y

    def hand_over_relu(self) -> bool:
        x, y = self.saved
        self.saved = x, None
        return y is not None

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        x, y = self.take_saved()
        kernel = self.params["kernel"]
        if y is not None:
            dy = F.relu_backward(dy, y)
        self.grads["kernel"] = F.conv_transpose2d_backward_kernel(
            dy, x, kernel.shape, **self._geometry
        )
        if self.bias:
            self.grads["bias"] = F.conv2d_backward_bias(dy)
        if not need_dx:
            return None
        return F.conv_transpose2d_backward_input(dy, kernel, x.shape, **self._geometry)
