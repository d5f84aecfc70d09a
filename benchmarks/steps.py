"""How each library does what a training step needs besides its layers: losses, optimizers, dropout.

As in ``operations.py``, every function returns makers by the name of the contender.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from arrays import in_order
from operations import Call, Makers, contend, random
from peers import to_torch, torch

import fastconv

# ---- losses with their gradients ---------------------------------------------------------------

LOSSES: dict[str, Callable[..., tuple[float, np.ndarray]]] = {
    "cross entropy": fastconv.softmax_cross_entropy,
    "binary cross entropy": fastconv.binary_cross_entropy,
    "squared error": fastconv.mean_squared_error,
    "huber": fastconv.huber,
}


def loss(shape: Sequence[int], name: str) -> Makers:
    """The mean loss of a batch, and its gradient with respect to the outputs."""
    ours, theirs = (partial(f, shape, name) for f in (our_loss, torch_loss))
    return contend([""], fastconv=ours, torch=theirs if torch else None)


def loss_operands(shape: Sequence[int], name: str) -> list[np.ndarray]:
    outputs, targets = random(shape, shape)
    if name == "cross entropy":
        return [outputs, np.arange(shape[0]) * 7 % shape[1]]
    return [outputs, np.abs(np.tanh(targets))]  # a probability is a number like others


def our_loss(shape: Sequence[int], name: str, order: str) -> Call:
    operands = loss_operands(shape, name)
    return lambda: LOSSES[name](*operands)[1]


def torch_loss(shape: Sequence[int], name: str, order: str) -> Call:
    outputs, targets = map(torch.from_numpy, loss_operands(shape, name))
    outputs.requires_grad_()
    F = torch.nn.functional
    mean = {
        "cross entropy": F.cross_entropy,
        "binary cross entropy": F.binary_cross_entropy_with_logits,
        "squared error": F.mse_loss,
        "huber": F.huber_loss,
    }[name]

    @torch.enable_grad()
    def call() -> Any:
        return torch.autograd.grad(mean(outputs, targets), outputs)[0]

    return call


# ---- optimizers --------------------------------------------------------------------------------

RATE = 1e-6  # so small that thousands of steps change nothing that takes time
OPTIMIZERS: dict[str, tuple[Callable[[], fastconv.optim.Optimizer], int]] = {  # passes over memory
    "SGD": (lambda: fastconv.SGD(RATE, momentum=0.9), 5),
    "Adam": (lambda: fastconv.Adam(RATE), 7),
    "RMSprop": (lambda: fastconv.RMSprop(RATE, beta=0.99), 5),
}


def step(shapes: Sequence[tuple[int, ...]], name: str) -> Makers:
    """One step over all parameters, in every way that PyTorch has for it on a CPU."""
    makers = contend([""], fastconv=partial(our_update, shapes, name))
    ways = ["loop", "foreach"] + ["fused"] * (name != "RMSprop")
    return makers | contend(ways, torch=partial(torch_update, shapes, name) if torch else None)


def step_operands(shapes: Sequence[tuple[int, ...]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    values = random(*shapes, *shapes)
    return [value.copy() for value in values[: len(shapes)]], values[len(shapes) :]


def our_update(shapes: Sequence[tuple[int, ...]], name: str, order: str) -> Call:
    values, grads = step_operands(shapes)
    parameters = [(str(i), *pair) for i, pair in enumerate(zip(values, grads, strict=True))]
    optimizer = OPTIMIZERS[name][0]()

    def call() -> np.ndarray:
        optimizer.update(parameters)
        return values[0]

    return call


def torch_update(shapes: Sequence[tuple[int, ...]], name: str, way: str) -> Call:
    values, grads = step_operands(shapes)
    parameters = [torch.nn.Parameter(torch.from_numpy(value)) for value in values]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = torch.from_numpy(grad)
    how = {"foreach": way == "foreach"} | ({"fused": True} if way == "fused" else {})
    momentum = {"momentum": 0.9} if name == "SGD" else {}
    optimizer = getattr(torch.optim, name)(parameters, lr=RATE, **how, **momentum)

    def call() -> Any:
        optimizer.step()
        return parameters[0].detach()

    return call


# ---- dropout -----------------------------------------------------------------------------------


def dropout(shape: Sequence[int], operation: str) -> Makers:
    """A training forward pass of a layer that drops a quarter: values, or whole channels.

    Everyone drops others, so that the results agree in nothing but their shape.
    """
    ours, theirs = (partial(f, shape, operation) for f in (our_dropout, torch_dropout))
    return contend(fastconv=ours, torch=theirs if torch else None)


def our_dropout(shape: Sequence[int], operation: str, order: str) -> Call:
    x = in_order(*random(shape), order)
    layer = fastconv.SpatialDropout(0.25) if "spatial" in operation else fastconv.Dropout(0.25)
    layer.build(tuple(shape[1:]), np.random.default_rng(0), x.dtype)

    def call() -> tuple[int, ...]:
        return layer.forward(x, training=True).shape

    return call


def torch_dropout(shape: Sequence[int], operation: str, order: str) -> Call:
    x = to_torch(random(shape)[0], order)
    F = torch.nn.functional
    drop = F.dropout2d if "spatial" in operation else F.dropout

    def call() -> tuple[int, ...]:
        return tuple(drop(x, 0.25, True).shape)

    return call
