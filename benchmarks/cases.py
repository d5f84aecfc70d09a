"""What the benchmarks measure: layers of known networks, sweeps over sizes, whole networks.

A `Case` is one piece of work together with everyone who can do it, the *contenders*. The suites
``bench_*.py`` time the contenders with pytest-benchmark, ``compare.py`` lets them race; both take
their cases here, so that a name means the same work everywhere.

Batches of layers are filled up to 64 images, 1 GFLOP or 64 MB, whichever comes first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import networks
import numpy as np
import operations
import steps
from operations import PASSES, Makers, Window
from resampling import RESAMPLINGS, TRANSPOSED
from resampling import resampling as resampling_makers
from resampling import transposed as transposed_makers
from shapes import LAYERS, Problem

import fastconv

# Bounds of a batch.
MOST_IMAGES = 64
MOST_FLOPS = 1.0e9
MOST_BYTES = 6.4e7

# Bounds of a case that a quick run takes.
QUICK_FLOPS = 4.0e7
QUICK_BYTES = 4.0e6

ITEM_SIZES = {"float32": 4, "float64": 8}


@dataclass(frozen=True)
class Case:
    """One piece of work: how much it is, and how each contender does it."""

    group: str  # the part of the report
    name: str
    operation: str
    batch: int
    flops: float  # 0 where the arithmetic does not count
    bytes: float  # every array read or written once; 0 where that says nothing
    makers: Makers  # by contender: makes the arrays, returns what to time
    at: int = 0  # where it stands in a sweep

    def __str__(self) -> str:
        return f"{self.name} {self.operation} n={self.batch}"

    @property
    def is_quick(self) -> bool:
        return self.flops <= QUICK_FLOPS and self.bytes <= QUICK_BYTES


def everything() -> list[Case]:
    return [
        *convolution(),
        *pooling(),
        *resampling(),
        *transposed(),
        *dense(),
        *normalization(),
        *activations(),
        *step_parts(),
        *training((1, 64, 256)),
        *inference(),
        *filters(),
        *tiny(),
        *float64(),
        *tiers(),
        *sweeps(),
    ]


# ---- convolution -----------------------------------------------------------------------------


def convolution() -> list[Case]:
    """The three passes over every layer of tests/shapes.py."""
    return _passes("layers", LAYERS)


def filters() -> list[Case]:
    """One filter on one picture: what SciPy is for."""
    problems = {
        f"{k}x{k} on 512x512": Problem(1, 1, 512, 512, 1, k, k, padding=k // 2) for k in (3, 7, 15)
    }
    return _passes("filters", problems, ["forward"], fill=False)


def tiny() -> list[Case]:
    """Calls whose arithmetic takes no time: what remains is the way to it."""
    problems = {
        "3x3 1→1 at 8x8": Problem(1, 1, 8, 8, 1, 3, 3),
        "3x3 3→8 at 8x8": Problem(1, 3, 8, 8, 8, 3, 3),
    }
    cases = _passes("tiny", problems, fill=False)
    for operation in ("dense", "dense gradients"):
        makers = operations.dense(1, 16, 10, operation)
        cases.append(Case("tiny", "16→10", operation, 1, 0, 0, makers))
    return cases


def float64() -> list[Case]:
    names = (
        *("lenet5.conv2", "mnist_cnn.conv2", "resnet50.stage2_3x3", "resnet50.stage2_expand"),
        "mobilenetv2.depthwise56",
    )
    return _passes("float64", {name: LAYERS[name] for name in names}, dtype="float64")


def tiers() -> list[Case]:
    """Every instruction set of this processor on the same layers."""
    names = (
        *("lenet5.conv1", "lenet5.conv2", "mnist_cnn.conv2", "resnet50.conv1"),
        *("resnet50.stage2_3x3", "resnet50.stage2_expand", "mobilenetv2.depthwise56"),
    )
    cases = []
    for name in names:
        problem = _filled(LAYERS[name])
        for operation in PASSES:
            makers: Makers = {
                isa: partial(
                    operations.our_convolution_on, isa, problem, operation, "channels_last"
                )
                for isa in fastconv.available_isas()
            }
            work = (problem.n, flops(problem), traffic(problem))
            cases.append(Case("tiers", name, operation, *work, makers))
    return cases


SWEEPS = {
    "channels": (1, 2, 3, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512),
    "image size": (4, 7, 8, 14, 16, 28, 32, 56, 112, 224),
    "batch": (1, 2, 4, 8, 16, 32, 64, 128),
}


def sweeps() -> list[Case]:
    """3x3 layers of which one size grows, while the others stay."""
    cases = []
    for name, values in SWEEPS.items():
        for value in values:
            if name == "channels":
                problem = _filled(Problem(1, value, 28, 28, value, 3, 3, padding=1))
            elif name == "image size":
                problem = _filled(Problem(1, 64, value, value, 64, 3, 3, padding=1))
            else:
                problem = Problem(value, 32, 14, 14, 64, 3, 3, padding=1)
            cases += _passes(name, {f"3x3, {name} {value}": problem}, fill=False, at=value)
    return cases


def _passes(
    group: str,
    problems: dict[str, Problem],
    passes: Iterable[str] = PASSES,
    *,
    fill: bool = True,
    dtype: str = "float32",
    at: int = 0,
) -> list[Case]:
    cases = []
    for name, problem in problems.items():
        problem = _filled(problem) if fill else problem
        work = (problem.n, flops(problem), traffic(problem, dtype))
        for operation in passes:
            makers = operations.convolution(problem, operation, dtype)
            cases.append(Case(group, name, operation, *work, makers, at))
    return cases


def _filled(problem: Problem) -> Problem:
    """With as large a batch as the bounds allow, of a power of two."""
    most = min(MOST_IMAGES, MOST_FLOPS / problem.flops, MOST_BYTES / traffic(problem))
    return problem.with_batch(1 << int(math.log2(max(most, 1))))


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


def traffic(problem: Problem, dtype: str = "float32") -> int:
    """Bytes of the images, the kernel and the result; each pass reads two and writes one."""
    shapes = (problem.x_shape, problem.kernel_shape, problem.y_shape)
    return ITEM_SIZES[dtype] * sum(map(math.prod, shapes))


# ---- pooling, dense layers -------------------------------------------------------------------

POOLS: dict[str, tuple[tuple[int, int, int, int], Window]] = {  # (N, C, H, W); window
    "lenet5.pool1": ((64, 6, 28, 28), (2, 2, 0)),
    "mnist_cnn.pool1": ((64, 32, 28, 28), (2, 2, 0)),
    "mnist_cnn.pool2": ((64, 64, 14, 14), (2, 2, 0)),
    "vgg16.pool1": ((1, 64, 224, 224), (2, 2, 0)),
    "resnet50.pool": ((4, 64, 112, 112), (3, 2, 1)),
}


def pooling() -> list[Case]:
    """Max pooling with indices, or with what training keeps, and its gradients."""
    cases = []
    for name, (shape, window) in POOLS.items():
        pixels = math.prod(shape)
        bytes = 4 * (pixels + 2 * pixels / window[1] ** 2)  # a value and an index per result
        what = ("max pool", "max pool gradient", "max pool taps", "taps gradient")
        for operation in what:
            makers = operations.pooling(shape, window, operation)
            cases.append(Case("pooling", name, operation, shape[0], 0, bytes, makers))
    return cases


def resampling() -> list[Case]:
    """Averages, borders, enlargement, and their gradients."""
    cases = []
    for name, (what, shape) in RESAMPLINGS.items():
        x = np.zeros(shape, np.float32)
        bytes = x.nbytes + what.forward(x).nbytes
        for operation in ("forward", "gradient"):
            makers = resampling_makers(name, operation == "gradient")
            cases.append(Case("resampling", name, operation, shape[0], 0, bytes, makers))
    return cases


def transposed() -> list[Case]:
    """The three passes of transposed convolutions."""
    cases = []
    for name, problem in TRANSPOSED.items():
        work = (problem.n, flops(problem), traffic(problem))
        for operation in PASSES:
            makers = transposed_makers(name, operation)
            cases.append(Case("transposed", name, operation, *work, makers))
    return cases


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
        work, bytes = 2 * N * inputs * outputs, 4 * (N * inputs + inputs * outputs + N * outputs)
        for operation, times in (("dense", 1), ("dense gradients", 2)):
            makers = operations.dense(N, inputs, outputs, operation)
            cases.append(Case("dense", name, operation, N, times * work, times * bytes, makers))
    return cases


NORMALIZED = {  # (N, C, H, W)
    "resnet20.stage1": (64, 16, 32, 32),
    "resnet20.stage3": (64, 64, 8, 8),
    "resnet50.stage2": (8, 64, 56, 56),
    "mobilenetv2.expand": (8, 96, 56, 56),
}


def normalization() -> list[Case]:
    """Batch normalisation for inference, for training with a ReLU, its gradients; group norm."""
    passes = {"batch norm": 2, "batch norm training": 3, "batch norm gradients": 5, "group norm": 3}
    return [
        Case(
            *("normalization", name, operation, shape[0], 0, 4 * times * math.prod(shape)),
            operations.normalization(shape, operation),
        )
        for name, shape in NORMALIZED.items()
        for operation, times in passes.items()
    ]


def activations() -> list[Case]:
    """A million values, and the scores of a batch."""
    cases = []
    for name in operations.ACTIVATIONS:
        shape = (1024, 1000) if name == "softmax" else (16, 64, 32, 32)
        for gradient in (False, True):
            bytes = 4 * math.prod(shape) * (3 if gradient else 2)
            makers = operations.activation(shape, name, gradient)
            operation = f"{name} gradient" if gradient else name
            what = "x".join(map(str, shape))
            cases.append(Case("activations", what, operation, shape[0], 0, bytes, makers))
    return cases


# Parameters of a training step: those of a convolution and two dense layers, a million in all.
PARAMETERS = ((64, 32, 3, 3), (64,), (256, 3136), (256,), (1000, 256), (1000,))


def step_parts() -> list[Case]:
    """What a step needs besides layers: losses with gradients, optimizers, dropout."""
    cases = []

    def add(name: str, operation: str, batch: int, passes: int, size: int, makers: Makers) -> None:
        cases.append(Case("parts", name, operation, batch, 0, 4 * passes * size, makers))

    for name in steps.LOSSES:
        shape = (1024, 1000) if name == "cross entropy" else (16, 64, 32, 32)
        passes = 2 if name == "cross entropy" else 3
        what = "x".join(map(str, shape))
        add(what, name, shape[0], passes, math.prod(shape), steps.loss(shape, name))
    size = sum(map(math.prod, PARAMETERS))
    for name, (_, passes) in steps.OPTIMIZERS.items():
        add(f"{len(PARAMETERS)} parameters", name, 1, passes, size, steps.step(PARAMETERS, name))
    shape = (16, 64, 32, 32)
    for name in ("dropout", "spatial dropout"):
        makers = steps.dropout(shape, name)
        add("x".join(map(str, shape)), name, shape[0], 2, math.prod(shape), makers)
    return cases


# ---- networks --------------------------------------------------------------------------------


def training(batches: Iterable[int]) -> list[Case]:
    """One training step of each network."""
    return [
        Case(
            *("training", name, "training step", batch),
            *(batch * networks.flops(network)[1], 0),
            networks.training(network, batch),
        )
        for name, network in networks.NETWORKS.items()
        for batch in batches
    ]


def inference() -> list[Case]:
    """One image through each network."""
    return [
        Case(
            *("inference", name, "inference", 1),
            *(networks.flops(network)[0], 0),
            networks.inference(network, 1),
        )
        for name, network in networks.NETWORKS.items()
    ]
