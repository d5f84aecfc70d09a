"""How well the cost model knows the machine: predicted and measured times of layers.

    .venv/bin/python benchmarks/predict.py --threads 2

The prediction is `fastconv.explain(...).seconds(roof, bandwidth)`, with the roof of one core and
the bandwidth of a copy that moves about as many bytes. Prints a table in Markdown, of milliseconds;
``docs/cost-model.md`` says how to read it.
"""

from __future__ import annotations

import argparse
import math
from functools import lru_cache, partial

import cases
import machine
import numpy as np
import peers
from operations import operands
from race import race
from shapes import LAYERS, Problem

import fastconv
from fastconv._core import probe

NAMES = (
    *("lenet5.conv1", "mnist_cnn.conv1", "mnist_cnn.conv2", "resnet20.stage1", "resnet50.conv1"),
    *("resnet50.stage2_3x3", "resnet50.stage2_expand", "resnet50.stage3_3x3_down"),
    *("resnet50.stage5_3x3", "vgg16.conv3_2", "mobilenetv2.depthwise56", "resnext.grouped28"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads())
    parser.add_argument("--seconds", type=float, default=0.2, help="for each layer and pass")
    options = parser.parse_args()
    peers.set_num_threads(options.threads)
    roof = probe.roof(fastconv.isa(), 0.5) * 1e9
    print(
        f"{machine.cpu()}, {fastconv.isa()}, threads: {options.threads}; roof of a core "
        f"{roof / 1e9:.0f} GFLOP/s, copies "
        f"{', '.join(f'of {m} MB {bandwidth(m * 10**6) / 1e9:.0f}' for m in (1, 8, 64))} GB/s\n"
    )
    print(
        "| layer, batch | pass | tiles | calls | packing | memory | predicted | measured | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for case in cases.convolution():
        if case.name in NAMES:
            problem = LAYERS[case.name].with_batch(case.batch)
            times = compare(problem, case.operation, roof, options.seconds)
            cells = " | ".join(f"{1e3 * t:.3g}" for t in times)
            ratio = times[-1] / times[-2]
            print(f"| {case.name}, {case.batch} | {case.operation} | {cells} | {ratio:.2f} |")
    print(f"\nroof of a core after it: {probe.roof(fastconv.isa(), 0.5):.0f} GFLOP/s")


def compare(problem: Problem, operation: str, roof: float, seconds: float) -> list[float]:
    """Seconds of tiles, calls, packing and memory, their sum, and what was measured."""
    x, kernel, _, dy = operands(problem, "float32")
    x, dy = fastconv.as_channels_last(x), fastconv.as_channels_last(dy)
    function, arguments = {
        "forward": (fastconv.conv2d, (x, kernel)),
        "input gradient": (fastconv.conv2d_backward_input, (dy, kernel, x.shape)),
        "kernel gradient": (fastconv.conv2d_backward_kernel, (dy, x, kernel.shape)),
    }[operation]
    plan = fastconv.explain(function, x.shape, kernel.shape, **problem.keywords)
    predicted = plan.seconds(roof, bandwidth(plan.array_bytes))
    arithmetic = plan.seconds(roof, math.inf)
    parts = (plan.step_cycles, plan.call_cycles, plan.packing_cycles)
    call = partial(function, *arguments, **problem.keywords)
    return [
        *(arithmetic * part / plan.cycles for part in parts),
        *(predicted - arithmetic, predicted, race({"": call}, seconds)[""]),
    ]


def bandwidth(size: int) -> float:
    """Bytes per second of a copy that reads and writes about `size` bytes."""
    return copied(max(round(2 * math.log2(size)), 40))


@lru_cache
def copied(half_octaves: int) -> float:
    """The faster of NumPy's copy, on one thread, and our ReLU, on all."""
    x = np.ones(int(2 ** (half_octaves / 2)) // 8, np.float32)
    y = np.empty_like(x)
    copies = {"numpy": partial(np.copyto, y, x), "relu": partial(fastconv.relu, x)}
    return 2 * x.nbytes / min(race(copies, 0.1).values())


if __name__ == "__main__":
    main()
