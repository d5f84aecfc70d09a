"""Batch normalisation folded into the layer before it, for inference.

Outside training a `BatchNorm` is an affine map of each channel: ``scale * y + shift`` with
``scale = gamma / sqrt(variance + epsilon)`` and ``shift = beta - scale * mean``. What it follows is
linear in its kernel and bias, so ``scale`` times the kernel and ``scale * bias + shift`` give the
same numbers, up to rounding, without another pass over memory. Its ReLU goes with it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from .conv import Conv2D
from .dense import Dense
from .layer import Layer
from .normalization import BatchNorm
from .separable import DepthwiseConv2D, SeparableConv2D

if TYPE_CHECKING:
    from .sequential import Sequential

# Layers that can take a BatchNorm in, and the array whose first axis is their output's channels.
KERNELS: dict[type[Layer], str] = {
    Conv2D: "kernel",
    DepthwiseConv2D: "kernel",
    SeparableConv2D: "pointwise",
    Dense: "kernel",
}


def folded(model: Sequential, chains: type[Sequential]) -> Sequential:
    """Return a copy in which layers took in the `BatchNorm` after them; see `Sequential.folded`."""
    model = copy.deepcopy(model)
    for _, layer in reversed(list(model.walk())):  # inner chains first
        if isinstance(layer, chains):
            kept: list[Layer] = []
            for child in layer.layers:
                if not (kept and isinstance(child, BatchNorm) and _take_in(_last(kept[-1]), child)):
                    kept.append(child)
            layer.layers = kept
    return model


def _last(layer: Layer) -> Layer:
    """The layer whose result is that of `layer`: chains end in another one."""
    while layers := getattr(layer, "layers", None):
        layer = layers[-1]
    return layer


def _take_in(layer: Layer, norm: BatchNorm) -> bool:
    """Fold `norm` into `layer`, unless it is of another kind or ends in an activation."""
    name = KERNELS.get(type(layer))
    if name is None or getattr(layer, "activation", None) is not None:
        return False
    wide = {key: np.float64(value) for key, value in (norm.params | norm.state).items()}
    scale = wide["gamma"] / np.sqrt(wide["variance"] + norm.epsilon)
    kernel = layer.params[name]
    bias = layer.params.get("bias", 0) * scale + wide["beta"] - scale * wide["mean"]
    layer.params["bias"] = bias.astype(kernel.dtype)
    kernel[...] = kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1))
    layer.bias, layer.activation = True, norm.activation  # type: ignore[attr-defined]
    return True
