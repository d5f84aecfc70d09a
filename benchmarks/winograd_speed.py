"""When Winograd's algorithm pays: its speed over the direct sum's, by image size and channels.

Both run in turn in one process; the fastest of many repeats counts.

    python benchmarks/winograd_speed.py --out FILE.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import fastconv

SIZES = (4, 6, 7, 8, 12, 14, 20, 28, 42, 56, 84, 112)
CHANNELS = (8, 16, 32, 64, 128, 256)
PASSES = ("forward", "input gradient", "kernel gradient")


def ratio(name: str, channels: int, size: int, seconds: float) -> float:
    rng = np.random.default_rng(0)
    shape, square = (1, channels, size, size), (channels, channels, 3, 3)
    x = fastconv.as_channels_last(rng.standard_normal(shape, dtype=np.float32))
    kernel = rng.standard_normal(square, dtype=np.float32)
    best = {"direct": np.inf, "winograd": np.inf}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for how in best:
            start = time.perf_counter()
            if name == "forward":
                fastconv.conv2d(x, kernel, padding=1, algorithm=how)
            elif name == "input gradient":
                fastconv.conv2d_backward_input(x, kernel, shape, padding=1, algorithm=how)
            else:
                fastconv.conv2d_backward_kernel(x, x, square, padding=1, algorithm=how)
            best[how] = min(best[how], time.perf_counter() - start)
    return best["direct"] / best["winograd"]


def main() -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each race")
    options = parser.parse_args()
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), sharey=True, layout="constrained")
    for axis, name in zip(axes, PASSES, strict=True):
        for channels in CHANNELS:
            ratios = [ratio(name, channels, size, options.seconds) for size in SIZES]
            print(name, channels, *(f"{r:.2f}" for r in ratios))
            axis.plot(SIZES, ratios, marker="o", markersize=3, label=f"{channels} channels")
        axis.axhline(1, color="grey", linewidth=1)
        axis.set(title=name, xscale="log", xlabel="height and width of the image")
        axis.set_xticks(SIZES[::2], map(str, SIZES[::2]))
        axis.minorticks_off()
    axes[0].set_ylabel("direct time / Winograd's time")
    axes[0].legend(fontsize="small")
    threads = fastconv.get_num_threads()
    figure.suptitle(
        f"One image, 3x3, as many channels out as in; {threads} thread(s), {fastconv.isa()}"
    )
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
