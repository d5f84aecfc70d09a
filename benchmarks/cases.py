"""What the benchmarks measure: layers of known networks, and whole training steps.

A `Case` is one piece of work together with everyone who can do it, the *contenders*: fastconv on
each memory order and, where it is installed, PyTorch on each memory format. ``bench_*.py`` time
the contenders with pytest-benchmark, ``compare.py`` lets them race; both take their cases here, so
that a name means the same work everywhere.

Contenders get equal values in arrays of their own, and allocate their results the way they do for
any caller.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastconv

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from arrays import ORDERS, in_order, real_operands
from shapes import LAYERS, Problem

try:
    import torch
    from torch.nn import functional as torch_F
except ImportError:
    torch = None
else:
    torch.set_grad_enabled(False)  # training steps turn it on for themselves

# Bounds of a batch.
MOST_IMAGES = 64
MOST_FLOPS = 1.0e9
MOST_BYTES = 6.4e7

ITEM = 4  # bytes of a float32

Call = Callable[[], Any]
Make = Callable[[str], Call]


@dataclass(frozen=True)
class Case:
    """One piece of work: how much it is, and how each contender does it."""

    name: str
    operation: str
    batch: int
    flops: float  # 0 where the arithmetic does not count
    bytes: float  # every array read or written once; 0 where that says nothing
    makers: dict[str, Callable[[], Call]]  # by contender: makes the arrays, returns what to time

    def __str__(self) -> str:
        return f"{self.name} {self.operation} n={self.batch}"


def set_num_threads(threads: int) -> None:
    """For all contenders."""
    fastconv.set_num_threads(threads)
    if torch:
        torch.set_num_threads(threads)


def contend(
    ours: Make, theirs: Make, orders: Sequence[str] = ORDERS, their_orders: Sequence[str] = ORDERS
) -> dict[str, Callable[[], Call]]:
    """The makers of a case from fastconv's and PyTorch's, one contender for each memory order."""
    sides = [("fastconv", ours, orders)] + [("torch", theirs, their_orders)] * bool(torch)
    return {
        f"{side} {order}".strip(): partial(make, order)
        for side, make, orders in sides
        for order in orders
    }


def to_torch(array: np.ndarray, order: str):
    last = order == "channels_last"
    memory = torch.channels_last if last else torch.contiguous_format
    return torch.from_numpy(array).contiguous(memory_format=memory)


def random(*shapes: Sequence[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


# ---- convolution -----------------------------------------------------------------------------


def convolution() -> list[Case]:
    """The three passes over every layer of tests/shapes.py."""
    cases = []
    for name, layer in LAYERS.items():
        most = min(MOST_IMAGES, MOST_FLOPS / layer.flops, MOST_BYTES / traffic(layer))
        problem = layer.with_batch(1 << int(math.log2(max(most, 1))))
        for operation in ("forward", "input gradient", "kernel gradient"):
            makers = contend(
                partial(our_convolution, problem, operation),
                partial(torch_convolution, problem, operation),
            )
            work = (flops(problem), traffic(problem))
            cases.append(Case(name, operation, problem.n, *work, makers))
    return cases


def flops(problem: Problem) -> int:
    """Multiplications and additions of one pass, without those with the padding."""

    def inside(size: int, taps: int, stride: int, before: int, dilation: int, outputs: int) -> int:
        at = np.add.outer(np.arange(outputs) * stride - before, np.arange(taps) * dilation)
        return int(np.count_nonzero((at >= 0) & (at < size)))

    (sh, sw), (dh, dw), ((top, _), (left, _)) = problem.stride, problem.dilation, problem.pads
    _, _, OH, OW = problem.y_shape
    rows = inside(problem.ih, problem.kh, sh, top, dh, OH)
    columns = inside(problem.iw, problem.kw, sw, left, dw, OW)
    return 2 * problem.n * problem.oc * (problem.ic // problem.groups) * rows * columns


def traffic(problem: Problem) -> int:
    """Bytes of the images, the kernel and the result; each pass reads two and writes one."""
    return ITEM * sum(map(math.prod, (problem.x_shape, problem.kernel_shape, problem.y_shape)))


def our_convolution(problem: Problem, operation: str, order: str) -> Call:
    x, kernel, _, dy = real_operands(problem)
    x, dy = in_order(x, order), in_order(dy, order)
    calls = {
        "forward": partial(fastconv.conv2d, x, kernel),
        "input gradient": partial(fastconv.conv2d_backward_input, dy, kernel, x.shape),
        "kernel gradient": partial(fastconv.conv2d_backward_kernel, dy, x, kernel.shape),
    }
    return partial(calls[operation], **problem.keywords)


def torch_convolution(problem: Problem, operation: str, order: str) -> Call:
    x, kernel, _, dy = real_operands(problem)
    x, kernel, dy = (to_torch(array, order) for array in (x, kernel, dy))
    (top, bottom), (left, right) = problem.pads
    assert (top, left) == (bottom, right), "PyTorch pads both sides alike"
    window = (problem.stride, (top, left), problem.dilation)
    if operation == "forward":
        return partial(torch_F.conv2d, x, kernel, None, *window, problem.groups)
    wanted = [operation == "input gradient", operation == "kernel gradient", False]
    rest = (False, (0, 0), problem.groups, wanted)  # not transposed
    return partial(torch.ops.aten.convolution_backward, dy, x, kernel, None, *window, *rest)


# ---- pooling ---------------------------------------------------------------------------------

POOLS = {  # (N, C, H, W); size, stride, padding
    "lenet5.pool1": ((64, 6, 28, 28), (2, 2, 0)),
    "mnist_cnn.pool1": ((64, 32, 28, 28), (2, 2, 0)),
    "mnist_cnn.pool2": ((64, 64, 14, 14), (2, 2, 0)),
    "vgg16.pool1": ((1, 64, 224, 224), (2, 2, 0)),
    "resnet50.pool": ((4, 64, 112, 112), (3, 2, 1)),
}


def pooling() -> list[Case]:
    """Max pooling with indices, and its gradient."""
    cases = []
    for name, (shape, window) in POOLS.items():
        pixels = math.prod(shape)
        bytes = ITEM * (pixels + 2 * pixels / window[1] ** 2)  # a value and an index per result
        for operation in ("max pool", "max pool gradient"):
            makers = contend(
                partial(our_pooling, shape, window, operation),
                partial(torch_pooling, shape, window, operation),
            )
            cases.append(Case(name, operation, shape[0], 0, bytes, makers))
    return cases


def our_pooling(shape: tuple, window: tuple, operation: str, order: str) -> Call:
    (size, stride, padding), x = window, in_order(*random(shape), order)
    rest = {"stride": stride, "padding": padding, "return_indices": True}
    forward = partial(fastconv.max_pool2d, x, size, **rest)
    if operation == "max pool":
        return forward
    return partial(fastconv.max_pool2d_backward, *forward(), shape)


def torch_pooling(shape: tuple, window: tuple, operation: str, order: str) -> Call:
    x = to_torch(*random(shape), order)
    forward = partial(torch_F.max_pool2d, x, *window, return_indices=True)
    if operation == "max pool":
        return forward
    y, indices = forward()
    size, stride, padding = ((value, value) for value in window)
    gradient = torch.ops.aten.max_pool2d_with_indices_backward
    return partial(gradient, y, x, size, stride, padding, (1, 1), False, indices)


# ---- dense layers ----------------------------------------------------------------------------

MATRICES = {  # inputs, outputs
    "lenet5.dense1": (400, 120),
    "mnist_cnn.dense1": (3136, 128),
    "resnet50.dense": (2048, 1000),
    "vgg16.dense2": (4096, 4096),
}


def dense() -> list[Case]:
    """A batch through a dense layer, and its three gradients."""
    cases = []
    N = MOST_IMAGES
    for name, (inputs, outputs) in MATRICES.items():
        shapes = ((N, inputs), (outputs, inputs), (N, outputs))
        flops, bytes = 2 * N * inputs * outputs, ITEM * sum(map(math.prod, shapes))
        for operation, times in (("dense", 1), ("dense gradients", 2)):
            makers = contend(
                partial(our_dense, shapes, operation),
                partial(torch_dense, shapes, operation),
                orders=[""],
                their_orders=[""],
            )
            cases.append(Case(name, operation, N, times * flops, times * bytes, makers))
    return cases


def our_dense(shapes: tuple, operation: str, order: str) -> Call:
    x, kernel, dy = random(*shapes)
    if operation == "dense":
        return partial(fastconv.dense, x, kernel)
    return partial(fastconv.dense_backward, dy, x, kernel)


def torch_dense(shapes: tuple, operation: str, order: str) -> Call:
    x, kernel, dy = map(torch.from_numpy, random(*shapes))
    if operation == "dense":
        return partial(torch_F.linear, x, kernel)
    return lambda: (dy @ kernel, dy.T @ x, dy.sum(0))


# ---- training steps --------------------------------------------------------------------------

NETWORKS = {  # of 28 x 28 images: (filters, kernel size, padding) of convolutions; units
    "lenet5": (((6, 5, 2), (16, 5, 0)), (120, 84, 10)),
    "mnist_cnn": (((32, 3, 1), (64, 3, 1)), (128, 10)),
}


def training() -> list[Case]:
    """One step of stochastic gradient descent with momentum."""
    cases = []
    for name, network in NETWORKS.items():
        work = [layer.multiply_adds for layer in our_network(*network).layers]
        # Nobody wants the gradient of the images.
        flops = 2 * MOST_IMAGES * (3 * sum(work) - work[0])
        makers = contend(partial(our_step, network), partial(torch_step, network), orders=[""])
        cases.append(Case(name, "training step", MOST_IMAGES, flops, 0, makers))
    return cases


def our_network(convolutions: tuple, units: tuple) -> fastconv.Sequential:
    layers: list[fastconv.Layer] = []
    for filters, size, padding in convolutions:
        layers.append(fastconv.Conv2D(filters, size, padding=padding, activation="relu"))
        layers.append(fastconv.MaxPool(2))
    layers.append(fastconv.Flatten())
    layers += [fastconv.Dense(count, activation="relu") for count in units[:-1]]
    layers.append(fastconv.Dense(units[-1]))
    return fastconv.Sequential(layers, input_shape=(1, 28, 28), seed=0)


def torch_network(convolutions: tuple, units: tuple):
    layers: list[torch.nn.Module] = []
    for filters, size, padding in convolutions:
        layers.append(torch.nn.LazyConv2d(filters, size, padding=padding))
        layers += [torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    layers.append(torch.nn.Flatten())
    for count in units[:-1]:
        layers += [torch.nn.LazyLinear(count), torch.nn.ReLU()]
    layers.append(torch.nn.LazyLinear(units[-1]))
    return torch.nn.Sequential(*layers)


def training_batch() -> tuple[np.ndarray, np.ndarray]:
    images = random((MOST_IMAGES, 1, 28, 28))[0]
    return images, np.arange(MOST_IMAGES) % 10


def our_step(network: tuple, order: str) -> Call:
    x, y = training_batch()
    optimizer = fastconv.SGD(0.01, momentum=0.9)
    return partial(our_network(*network).train_batch, x, y, optimizer=optimizer)


def torch_step(network: tuple, order: str) -> Call:
    images, labels = training_batch()
    x, y, model = to_torch(images, order), torch.from_numpy(labels), torch_network(*network)
    model(x)  # gives the lazy layers their sizes
    if order == "channels_last":
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    @torch.enable_grad()
    def step() -> float:
        optimizer.zero_grad()
        loss = torch_F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
