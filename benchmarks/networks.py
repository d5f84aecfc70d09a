"""Small networks, the same in every library: one training step, and inference.

All sides start from fastconv's weights and see the same batch, so that the first loss and the first
scores of all must agree. A step is that of stochastic gradient descent with momentum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from operations import Call, Makers, contend, random
from peers import onnx, onnx_call, to_torch, torch

import fastconv
from fastconv import models

# A network is one of `fastconv.models`, of convolutions, poolings and dense layers only.
Network = Callable[..., fastconv.Sequential]
NETWORKS: dict[str, Network] = {
    "lenet5": models.lenet5,
    "mnist_cnn": models.mnist_cnn,
    "vgg6": models.vgg6,
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
    shape = our_model(network).input_shape
    assert shape is not None  # models are built
    return random((batch, *shape))[0], np.arange(batch) % 10


def our_model(network: Network) -> fastconv.Sequential:
    return network(seed=0)


def our_step(network: Network, batch: int, order: str) -> Call:
    x, y = training_batch(network, batch)
    optimizer = fastconv.SGD(0.01, momentum=0.9)
    return partial(our_model(network).train_batch, x, y, optimizer=optimizer)


def our_inference(network: Network, batch: int, order: str) -> Call:
    return partial(our_model(network).forward, training_batch(network, batch)[0])


def torch_model(network: Network, order: str) -> torch.nn.Module:
    ours = our_model(network)
    layers: list[torch.nn.Module] = []
    for layer in ours.layers:
        match layer:
            case fastconv.Conv2D():
                size = layer.kernel_size
                layers.append(torch.nn.LazyConv2d(layer.filters, size, padding=layer.padding))
            case fastconv.MaxPool():
                layers.append(torch.nn.MaxPool2d(layer.size))
            case fastconv.Flatten():
                layers.append(torch.nn.Flatten())
            case fastconv.Dense():
                layers.append(torch.nn.LazyLinear(layer.units))
        if getattr(layer, "activation", None):
            layers.append(torch.nn.ReLU())
    model = torch.nn.Sequential(*layers)
    model(torch.zeros(1, *ours.input_shape))  # gives the lazy layers their sizes
    for theirs, parameter in zip(model.parameters(), ours.parameters(), strict=True):
        theirs.copy_(torch.from_numpy(parameter.value))
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
    weights: dict[str, np.ndarray] = {}
    nodes: list[onnx.NodeProto] = []
    at = "x"

    def append(kind: str, *parameters: str, **attributes: Any) -> None:
        nonlocal at
        name = f"{len(nodes)}"
        nodes.append(onnx.helper.make_node(kind, [at, *parameters], [name], **attributes))
        at = name

    for position, layer in enumerate(our_model(network).layers):
        names = [f"kernel{position}", f"bias{position}"]
        weights |= dict(zip(names, layer.params.values(), strict=False))
        match layer:
            case fastconv.Conv2D():
                append("Conv", *names, pads=(layer.padding,) * 4)
            case fastconv.MaxPool():
                append("MaxPool", kernel_shape=(layer.size,) * 2, strides=(layer.size,) * 2)
            case fastconv.Flatten():
                append("Flatten")
            case fastconv.Dense():
                append("Gemm", *names, transB=1)
        if getattr(layer, "activation", None):
            append("Relu")
    nodes[-1].output[0] = "y"
    return onnx_call(nodes, training_batch(network, batch)[0], weights)
