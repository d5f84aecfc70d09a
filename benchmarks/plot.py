"""Draw the roofline plot of what compare.py measured.

python benchmarks/plot.py results.json out.png

Every convolution is a point: to the right, how much arithmetic it has for each byte of its arrays;
up, how fast it was computed. The line above is what the machine allows: on the left its memory, on
the right its multiply-adds. (Arrays that fit the caches may lie above the slope.)
"""

from __future__ import annotations

import argparse
import json

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

PASSES = ("forward", "input gradient", "kernel gradient")
SIDES = {"torch": ("PyTorch", "tab:orange"), "fastconv": ("fastconv", "tab:blue")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", metavar="results.json")
    parser.add_argument("picture", metavar="out.png")
    options = parser.parse_args()
    with open(options.results) as file:
        results = json.load(file)
    draw(results).savefig(options.picture, dpi=120)


def draw(results: dict) -> plt.Figure:
    machine = results["machine"]
    rows = [row for row in results["cases"] if row["operation"] in PASSES]
    figure, axes = plt.subplots(
        1, len(PASSES), figsize=(15, 4.5), sharey=True, layout="constrained"
    )
    figure.suptitle(f"instruction set {machine['isa']}, threads: {machine['threads']}")
    intensities = [row["flops"] / row["bytes"] for row in rows]
    for ax, operation in zip(axes, PASSES, strict=True):
        draw_roof(ax, machine, min(intensities), max(intensities))
        for side, (label, colour) in SIDES.items():
            points = [
                (row["flops"] / row["bytes"], row["flops"] / row["best"][side] / 1e9)
                for row in rows
                if row["operation"] == operation and row["best"][side]
            ]
            if points:
                ax.scatter(*zip(*points, strict=True), s=18, c=colour, label=label)
        ax.set(title=operation, xscale="log", yscale="log", xlabel="FLOP per byte")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("GFLOP/s")
    axes[0].legend(loc="lower right")
    return figure


def draw_roof(ax: plt.Axes, machine: dict, low: float, high: float) -> None:
    x = np.geomspace(low / 2, high * 2, 200)
    ax.plot(x, np.minimum(machine["roof"], x * machine["bandwidth"]), color="black", lw=1)


if __name__ == "__main__":
    main()
