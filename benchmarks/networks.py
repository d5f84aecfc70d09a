"""Small networks, the same in every library: one training step, and inference.

All sides start from fastconv's weights and see the same batch, so that the first loss and the first
scores of all must agree. A step is that of stochastic gradient descent with momentum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from operations import Call, Makers, contend, random
from peers import onnx, onnx_call, to_torch, torch

import fastconv

POOL = (0, 0, 0)


@dataclass(frozen=True)
class Network:
    """Convolutions (filters, kernel size, padding) with ReLU, POOL between them; dense units."""

    input_shape: tuple[int, int, int]
    convolutions: tuple[tuple[int, int, int], ...]
    units: tuple[int, ...]


NETWORKS = {
    "lenet5": Network((1, 28, 28), ((6, 5, 2), POOL, (16, 5, 0), POOL), (120, 84, 10)),
    "mnist_cnn": Network((1, 28, 28), ((32, 3, 1), POOL, (64, 3, 1), POOL), (128, 10)),
    "vgg6": Network(
        (3, 32, 32),
        (
            *((64, 3, 1), (64, 3, 1), POOL),
            *((128, 3, 1), (128, 3, 1), POOL),
            *((256, 3, 1), (256, 3, 1), POOL),
        ),
        (256, 10),
    ),
}


def training(network: Network, batch: int) -> Makers:
    """The call takes one step and returns the loss."""
    makers = contend([""], fastconv=partial(our_step, network, batch))
    return makers | contend(torch=partial(torch_step, network, batch) if torch else None)


def inference(network: Network, batch: int) -> Makers:
    """The call returns the scores of a batch."""
    makers = contend([""], fastconv=partial(our_inference, network, batch))
    makers |= contend(torch=partial(torch_inference, network, batch) if torch else None)
    if onnx:
        makers["onnxruntime"] = partial(onnx_inference, network, batch)
    return makers


def flops(network: Network) -> tuple[int, int]:
    """Multiplications and additions of an image's inference and of its training step."""
    work = [2 * layer.multiply_adds for layer in our_model(network).layers]
    # Nobody wants the gradient of the images.
    return sum(work), 3 * sum(work) - work[0]


def training_batch(network: Network, batch: int) -> tuple[np.ndarray, np.ndarray]:
    return random((batch, *network.input_shape))[0], np.arange(batch) % 10


def our_model(network: Network) -> fastconv.Sequential:
    layers: list[fastconv.Layer] = []
    for filters, size, padding in network.convolutions:
        if filters:
            layers.append(fastconv.Conv2D(filters, size, padding=padding, activation="relu"))
        else:
            layers.append(fastconv.MaxPool(2))
    layers.append(fastconv.Flatten())
    layers += [fastconv.Dense(count, activation="relu") for count in network.units[:-1]]
    layers.append(fastconv.Dense(network.units[-1]))
    return fastconv.Sequential(layers, input_shape=network.input_shape, seed=0)


def our_step(network: Network, batch: int, order: str) -> Call:
    x, y = training_batch(network, batch)
    optimizer = fastconv.SGD(0.01, momentum=0.9)
    return partial(our_model(network).train_batch, x, y, optimizer=optimizer)


def our_inference(network: Network, batch: int, order: str) -> Call:
    return partial(our_model(network).forward, training_batch(network, batch)[0])


def torch_model(network: Network, order: str) -> torch.nn.Module:
    layers: list[torch.nn.Module] = []
    for filters, size, padding in network.convolutions:
        if filters:
            layers += [torch.nn.LazyConv2d(filters, size, padding=padding), torch.nn.ReLU()]
        else:
            layers.append(torch.nn.MaxPool2d(2))
    layers.append(torch.nn.Flatten())
    for count in network.units[:-1]:
        layers += [torch.nn.LazyLinear(count), torch.nn.ReLU()]
    layers.append(torch.nn.LazyLinear(network.units[-1]))
    model = torch.nn.Sequential(*layers)
    model(torch.zeros(1, *network.input_shape))  # gives the lazy layers their sizes
    for theirs, ours in zip(model.parameters(), our_model(network).parameters(), strict=True):
        theirs.copy_(torch.from_numpy(ours.value))
    last = order == "channels_last"
    return model.to(memory_format=torch.channels_last) if last else model


def torch_step(network: Network, batch: int, order: str) -> Call:
    images, labels = training_batch(network, batch)
    x, y, model = to_torch(images, order), torch.from_numpy(labels), torch_model(network, order)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    @torch.enable_grad()
    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torch_inference(network: Network, batch: int, order: str) -> Call:
    x = to_torch(training_batch(network, batch)[0], order)
    return torch.inference_mode()(partial(torch_model(network, order).eval(), x))


def onnx_inference(network: Network, batch: int) -> Call:
    values = [parameter.value for parameter in our_model(network).parameters()]
    weights: dict[str, np.ndarray] = {}
    nodes: list[onnx.NodeProto] = []
    at = "x"

    def append(kind: str, *parameters: str, **attributes: Any) -> None:
        nonlocal at
        name = f"{len(nodes)}"
        nodes.append(onnx.helper.make_node(kind, [at, *parameters], [name], **attributes))
        at = name

    def take() -> tuple[str, str]:
        """The names of the next kernel and bias."""
        names = (f"kernel{len(weights)}", f"bias{len(weights)}")
        weights.update(zip(names, (values.pop(0), values.pop(0)), strict=True))
        return names

    for filters, _, padding in network.convolutions:
        if filters:
            append("Conv", *take(), pads=(padding,) * 4)
            append("Relu")
        else:
            append("MaxPool", kernel_shape=(2, 2), strides=(2, 2))
    append("Flatten")
    for _ in network.units:
        append("Gemm", *take(), transB=1)
        append("Relu")
    nodes.pop()  # no ReLU after the last
    nodes[-1].output[0] = "y"
    return onnx_call(nodes, training_batch(network, batch)[0], weights)
