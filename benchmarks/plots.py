"""The pictures of a run: who is faster at which layer, the roofline, and the sweeps.

Each picture shows the largest number of threads that was measured. Blue is fastconv, orange its
peers, and a red mark a layer at which a peer is faster.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from cells import count
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from rows import DRAW, PEERS, Row, rate, ratio

PASSES = ("forward", "input gradient", "kernel gradient")
SWEEPS = {
    "channels": "input and output channels of a 3x3 layer at 28x28",
    "image size": "height and width of a 3x3 layer of 64 channels",
    "batch": "images through a 3x3 layer of 32 to 64 channels at 14x14",
}
OURS, WORSE = "#1f5fa8", "#c8322b"
COLOURS = {"fastconv": OURS, "torch": "#e08a1e", "onnxruntime": "#6b9b52"}
MARKS = {"fastconv": "o", "torch": "s", "onnxruntime": "^"}
LABELS = {"fastconv": "fastconv", **PEERS}

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.dpi": 130,
    "savefig.facecolor": "white",
}


def draw(results: dict, directory: Path) -> dict[str, str]:
    """Draw what the results hold; return the files' names and captions."""
    machine = results["machine"]
    most = machine["threads"][-1]
    rows = [row for row in results["rows"] if row["threads"] == most]
    on = count(most)
    layers = [row for row in rows if row["group"] == "layers" and row["operation"] in PASSES]
    pictures: dict[str, str] = {}

    def save(figure: plt.Figure, name: str, caption: str) -> None:
        figure.savefig(directory / name)
        plt.close(figure)
        pictures[name] = caption

    with plt.rc_context(STYLE):
        if any(map(ratio, layers)):
            caption = f"Time of the fastest peer by fastconv's, {on}; red where a peer is faster."
            save(draw_ratios(layers), "ratios.png", caption)
        if layers:
            caption = (
                f"Rate of every layer over its arithmetic per byte, {on}. The line is what the "
                "machine allows: memory on the slope, multiply-adds on the level. Arrays that fit "
                "the caches may lie above the slope."
            )
            save(draw_roofline(layers, machine), "roofline.png", caption)
        for name, what in SWEEPS.items():
            swept = [row for row in rows if row["group"] == name]
            if swept:
                figure = draw_sweep(swept, what, machine["roof"][str(most)])
                caption = (
                    f"Rate over {what}, {on}. Dashed is the machine's roof; rings mark where a "
                    "peer is faster."
                )
                save(figure, f"{name.replace(' ', '-')}.png", caption)
    return pictures


def draw_ratios(rows: list[Row]) -> plt.Figure:
    sets = [
        sorted((row for row in rows if row["operation"] == operation and ratio(row)), key=ratio)
        for operation in PASSES
    ]
    tallest = max(map(len, sets))
    figure, axes = plt.subplots(
        1, len(PASSES), figsize=(13, 1.3 + 0.2 * tallest), layout="constrained"
    )
    for ax, operation, shown in zip(axes, PASSES, sets, strict=True):
        ratios = np.array([ratio(row) for row in shown])
        heights = np.arange(len(shown))
        colours = [WORSE if value < DRAW else OURS for value in ratios]
        ax.hlines(heights, 1, ratios, color=colours, lw=2.5, alpha=0.45)
        ax.scatter(ratios, heights, c=colours, s=26, zorder=3)
        for height, value, colour in zip(heights, ratios, colours, strict=True):
            right = value >= 1
            ax.annotate(
                f"{value:.2f}",
                (value, height),
                xytext=(6 if right else -6, 0),
                textcoords="offset points",
                ha="left" if right else "right",
                va="center",
                fontsize=7.5,
                color=colour,
            )
        ax.axvline(1, color="black", lw=0.8)
        ax.set_xscale("log", base=2)
        low, high = ratios.min(initial=0.8), ratios.max(initial=1.6)
        low, high = low / (high / low) ** 0.27, high * (high / low) ** 0.17  # room for figures
        ticks = [2.0**n for n in range(-9, 9) if low <= 2.0**n <= high]
        ax.set(xlim=(low, high), ylim=(-0.7, tallest - 0.3), title=operation)
        ax.xaxis.set_major_locator(FixedLocator(ticks))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.set_yticks(heights, [f"{row['name']}, {row['batch']}" for row in shown])
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
        for label, colour in zip(ax.get_yticklabels(), colours, strict=True):
            label.set_color(colour if colour == WORSE else "black")
    figure.supxlabel("◀ a peer is faster          how many times as fast          fastconv is ▶")
    return figure


def draw_roofline(rows: list[Row], machine: dict) -> plt.Figure:
    threads = str(machine["threads"][-1])
    top, slope = machine["roof"][threads], machine["copy"][threads]
    figure, axes = plt.subplots(
        1, len(PASSES), figsize=(13, 4.3), sharey=True, layout="constrained"
    )
    intensities = [row["flops"] / row["bytes"] for row in rows]
    x = np.geomspace(min(intensities) / 1.6, max(intensities) * 1.6, 300)
    for ax, operation in zip(axes, PASSES, strict=True):
        ax.plot(x, np.minimum(top, x * slope), color="black", lw=1.2)
        shown = [row for row in rows if row["operation"] == operation]
        for side in ("onnxruntime", "torch", "fastconv"):
            points = [
                (row["flops"] / row["bytes"], reached)
                for row in shown
                if (reached := rate(row, side))
            ]
            if points:
                style = {"s": 24, "c": COLOURS[side], "marker": MARKS[side], "alpha": 0.85}
                ax.scatter(*zip(*points, strict=True), **style, lw=0, label=LABELS[side])
        ax.set(title=operation, xscale="log", yscale="log", xlabel="FLOP per byte")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        ax.text(x[-1], top * 1.07, f"{top:.0f} GFLOP/s", ha="right", fontsize=8)
        if x[0] * slope < top:
            along = {"rotation": np.degrees(np.arctan(slope)), "transform_rotates_text": True}
            at = 1.4 * x[0]
            ax.text(
                *(at, at * slope, f"{slope:.0f} GB/s"),
                **{**along, "rotation_mode": "anchor", "va": "bottom", "fontsize": 8},
            )
    axes[0].set_ylabel("GFLOP/s")
    legend(figure, axes[0])
    return figure


def draw_sweep(rows: list[Row], what: str, top: float) -> plt.Figure:
    figure, axes = plt.subplots(
        1, len(PASSES), figsize=(13, 3.6), sharey=True, layout="constrained"
    )
    for ax, operation in zip(axes, PASSES, strict=True):
        shown = [row for row in rows if row["operation"] == operation]
        for side in ("onnxruntime", "torch", "fastconv"):
            points = [(row["at"], reached) for row in shown if (reached := rate(row, side))]
            if points:
                style = {"color": COLOURS[side], "marker": MARKS[side], "ms": 4, "lw": 1.6}
                ax.plot(*zip(*points, strict=True), **style, label=LABELS[side])
        slow = [row for row in shown if (value := ratio(row)) and value < DRAW]
        ax.scatter(
            [row["at"] for row in slow],
            [rate(row) for row in slow],
            **{"s": 70, "facecolors": "none", "edgecolors": WORSE, "lw": 1.3, "zorder": 4},
        )
        ax.axhline(top, color="black", lw=1, ls="--")
        values = sorted({row["at"] for row in rows})
        ax.set(title=operation, ylim=(0, top * 1.08))
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_locator(FixedLocator(apart(values)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[0].set_ylabel("GFLOP/s")
    legend(figure, axes[0])
    figure.supxlabel(what, fontsize=9)
    return figure


def legend(figure: plt.Figure, ax: plt.Axes) -> None:
    """Above the pictures, fastconv first; the first picture has all sides."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside upper left", ncols=len(labels))


def apart(values: list[int]) -> list[int]:
    """Those that have room for their label on a logarithmic axis; the largest has."""
    kept = values[-1:]
    for value in values[::-1]:
        if kept[-1] >= 1.4 * value:
            kept.append(value)
    return kept
