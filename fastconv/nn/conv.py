"""Convolution as a layer: parameters and bookkeeping around ``functional.conv2d``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import functional as F
from fastconv.arguments import as_array, boolean, one_of
from fastconv.inference import PackedKernel, conv2d_packed

from .initializers import glorot_uniform, he_uniform
from .layer import Layer, Shape, check_activation, check_image_shape, positive_int


class Conv2D(Layer):
    """2-D convolution of (N, IC, IH, IW) to (N, filters, OH, OW), with bias and ReLU fused.

    Parameters
    ----------
    filters : int
        Output channels OC.
    kernel_size : int or pair of int
        KH and KW.
    stride, padding, dilation, groups
        As in `fastconv.conv2d`; `padding` also takes ``"same"`` and ``"valid"``.
    padding_mode : "zeros", "reflect", "replicate" or "circular"
        What the padding holds, as in `fastconv.pad2d`.
    bias : bool
        Whether to add one number per filter.
    activation : None or "relu"
        Applied while the result is stored, at no cost.
    algorithm : "auto", "direct" or "winograd"
        As in `fastconv.conv2d`, but that in a model "auto" is the faster of the two unless the user
        chose one.

    Notes
    -----
    ``params["kernel"]`` is (filters, IC // groups, KH, KW), He-initialised when the activation is
    ReLU and Glorot-initialised otherwise; ``params["bias"]`` is (filters,), zero at first.

    Examples
    --------
    >>> from fastconv import Conv2D, Sequential
    >>> model = Sequential([Conv2D(8, 3, padding="same", activation="relu")],
    ...                    input_shape=(3, 32, 32))
    >>> model.output_shape
    (8, 32, 32)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        bias: bool = True,
        activation: str | None = None,
        algorithm: str = "auto",
    ) -> None:
        super().__init__()
        self.filters = positive_int("filters", filters)
        self.kernel_size = kernel_size_of(kernel_size)
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = positive_int("groups", groups)
        modes = ("zeros", "reflect", "replicate", "circular")
        self.padding_mode = one_of("padding_mode", padding_mode, modes)
        self.bias = boolean("bias", bias)
        self.activation = check_activation(activation)
        self.algorithm = algorithm
        self.packed: PackedKernel | None = None

    @property
    def _geometry(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding if self.padding_mode == "zeros" else 0,
            "dilation": self.dilation,
            "groups": self.groups,
            "algorithm": self.algorithm,
        }

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        check_image_shape(self, input_shape)
        IC, OC = input_shape[0], self.filters
        KH, KW = (self.kernel_size,) * 2 if isinstance(self.kernel_size, int) else self.kernel_size
        if IC % self.groups or OC % self.groups:
            raise ValueError(
                f"Conv2D: groups: expected a divisor of the input's {IC} and the layer's {OC} "
                f"channels, got {self.groups}"
            )
        shape = (OC, IC // self.groups, KH, KW)
        fan_in, fan_out = IC // self.groups * KH * KW, OC // self.groups * KH * KW

        def initial() -> NDArray:
            if self.activation == "relu":
                return he_uniform(shape, fan_in, rng, dtype)
            return glorot_uniform(shape, fan_in, fan_out, rng, dtype)

        kernel = self.add_parameter("kernel", shape, initial)
        if self.bias:
            self.add_parameter("bias", (OC,), lambda: np.zeros(OC, dtype))
        # An empty batch costs nothing and leaves the formula for (OH, OW), and every check of
        # the geometry, in one place.
        nothing = np.empty((0, *input_shape), dtype)
        geometry = {**self._geometry, "padding": self.padding}
        _, _, OH, OW = F.conv2d(nothing, kernel, **geometry).shape
        self._bordered(nothing)
        self.multiply_adds = OH * OW * kernel.size
        return OC, OH, OW

    def _bordered(self, x: NDArray) -> tuple[NDArray, Any]:
        """The image to convolve without further padding, and its border, if that is not zeros."""
        if self.padding_mode == "zeros":
            return x, None
        border = self.padding
        if isinstance(border, str):
            border = tuple(
                self._same(axis, x.shape[2 + axis]) if border == "same" else (0, 0)
                for axis in range(2)
            )
        return F.pad2d(x, border, self.padding_mode), border

    def _same(self, axis: int, length: int) -> tuple[int, int]:
        """What "same" adds before and after an axis."""
        taps, step, spread = (
            value[axis] if isinstance(value, (tuple, list)) else value
            for value in (self.kernel_size, self.stride, self.dilation)
        )
        total = max((-(-length // step) - 1) * step + (taps - 1) * spread + 1 - length, 0)
        return total // 2, total - total // 2

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        x, border = self._bordered(as_array(x, "x"))
        kernel, bias = self.params["kernel"], self.params.get("bias")
        options = {"activation": self.activation, **self._geometry}
        if not training:
            self.packed = self.packed or PackedKernel()
            return conv2d_packed(x, kernel, bias, self.packed, **options)
        self.packed = None  # the kernel will change
        y = F.conv2d(x, kernel, bias, **options)
        self.saved = x, border, (y if self.activation == "relu" else None)
        return y

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"packed": None}

    def hand_over_relu(self) -> bool:
        x, border, y = self.saved
        self.saved = x, border, None
        return y is not None

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        x, border, y = self.take_saved()
        kernel = self.params["kernel"]
        if y is not None:
            dy = F.relu_backward(dy, y)
        self.grads["kernel"] = F.conv2d_backward_kernel(dy, x, kernel.shape, **self._geometry)
        if self.bias:
            self.grads["bias"] = F.conv2d_backward_bias(dy)
        if not need_dx:
            return None
        dx = F.conv2d_backward_input(dy, kernel, x.shape, **self._geometry)
        return dx if border is None else F.pad2d_backward(dx, border, self.padding_mode)


def kernel_size_of(kernel_size: Any) -> int | tuple[int, int]:
    """Return `kernel_size` when it is a positive integer or a pair of them."""
    if not isinstance(kernel_size, (tuple, list)):
        return positive_int("kernel_size", kernel_size)
    if len(kernel_size) != 2:
        raise ValueError(f"kernel_size: expected an integer or a pair, got {kernel_size!r}")
    KH, KW = (positive_int("kernel_size", size) for size in kernel_size)
    return KH, KW
