"""Fully connected layers, and the step from images to vectors that leads to them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastconv import functional as F
from fastconv.arguments import as_array, boolean

from .initializers import glorot_uniform, he_uniform
from .layer import Layer, Shape, check_activation, positive_int


class Dense(Layer):
    """Linear map of (N, features) to (N, units), with bias and ReLU fused.

    Parameters
    ----------
    units : int
        Number of outputs.
    bias : bool
        Whether to add one number per unit.
    activation : None or "relu"
        Applied to the result.

    Notes
    -----
    ``params["kernel"]`` is (units, features), He-initialised when the activation is ReLU and
    Glorot-initialised otherwise; ``params["bias"]`` is (units,), zero at first.

    Examples
    --------
    >>> from fastconv import Dense, Sequential
    >>> Sequential([Dense(10)], input_shape=(64,)).layers[0].params["kernel"].shape
    (10, 64)
    """

    def __init__(self, units: int, *, bias: bool = True, activation: str | None = None) -> None:
        super().__init__()
        self.units = positive_int("units", units)
        self.bias = boolean("bias", bias)
        self.activation = check_activation(activation)

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        if len(input_shape) != 1:
            raise ValueError(
                f"Dense: expected an input of shape (N, features), got (N, "
                f"{', '.join(map(str, input_shape))}); put a Flatten() before it"
            )
        shape = self.units, input_shape[0]

        def initial() -> NDArray:
            if self.activation == "relu":
                return he_uniform(shape, input_shape[0], rng, dtype)
            return glorot_uniform(shape, input_shape[0], self.units, rng, dtype)

        kernel = self.add_parameter("kernel", shape, initial)
        if self.bias:
            self.add_parameter("bias", (self.units,), lambda: np.zeros(self.units, dtype))
        self.multiply_adds = kernel.size
        return (self.units,)

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        x = as_array(x, "x")
        y = F.dense(
            x, self.params["kernel"], self.params.get("bias"), activation=self.activation
        )
        if training:
            self.saved = x, (y if self.activation == "relu" else None)
        return y

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        x, y = self.take_saved()
        if y is not None:
            dy = F.relu_backward(dy, y)
        dx, self.grads["kernel"], dbias = F.dense_backward(
            dy, x, self.params["kernel"], need_dx=need_dx
        )
        if self.bias:
            self.grads["bias"] = dbias
        return dx


class Flatten(Layer):
    """One vector per sample, in the logical order (C, H, W) whatever the memory order.

    Examples
    --------
    >>> from fastconv import Flatten, Sequential
    >>> Sequential([Flatten()], input_shape=(8, 4, 4)).output_shape
    (128,)
    """

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        self.input_shape = input_shape
        return (math.prod(input_shape),)

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        x = as_array(x, "x")
        if training:
            self.saved = x.shape
        return F.as_contiguous(x).reshape(len(x), math.prod(x.shape[1:]))

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        shape = self.take_saved()
        if not need_dx:
            return None
        dx = as_array(dy, "dy").reshape(shape)
        return F.as_channels_last(dx) if dx.ndim == 4 else dx
