"""Which kernel size? One network with kernels of several sizes, over several seeds.

All networks have two stages of 16 and 32 filters, each with a max pooling behind it, and a dense
layer; they differ in the kernels of the stages only. Each is trained with every seed, and after the
last epoch asked about the test images. The times are of one training step and of one image through
the network; for them the networks take turns in one process.

    python benchmarks/kernel_size.py --data DIR --out FILE.json --page docs/kernel-size.md

DIR holds the IDX files of Fashion-MNIST, or of another set; without it scikit-learn's digits are
learned, in seconds. FILE.json is written after every training, and what it has is not trained
again. The page gets its table, and its pictures in a folder of the same name.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import machine
import matplotlib
import numpy as np
from race import race

import fastconv
from fastconv import Conv2D, Dense, Flatten, MaxPool, SeparableConv2D, Sequential
from fastconv.data import LabelledImages, load_digits, load_idx_folder
from fastconv.nn import Layer
from fastconv.plot import SIGNED
from fastconv.schedules import Cosine

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

BATCH, RATE = 128, 0.003
FILTERS = 16, 32


def plain(size: int, filters: int, stage: int) -> Iterator[Layer]:
    yield Conv2D(filters, size, padding="same", activation="relu")


def stacked(filters: int, stage: int) -> Iterator[Layer]:
    yield from plain(3, filters, stage)
    yield from plain(3, filters, stage)


def separable(size: int, filters: int, stage: int) -> Iterator[Layer]:
    """With one input channel there is nothing to separate: the first stage stays as it is."""
    if stage == 0:
        yield from plain(size, filters, stage)
    else:
        yield SeparableConv2D(filters, size, padding="same", activation="relu")


NETWORKS: dict[str, Callable[[int, int], Iterator[Layer]]] = {
    "1x1": partial(plain, 1),
    "3x3": partial(plain, 3),
    "5x5": partial(plain, 5),
    "7x7": partial(plain, 7),
    "3x3 twice": stacked,
    "3x3 depthwise": partial(separable, 3),
    "7x7 depthwise": partial(separable, 7),
}


def network(name: str, input_shape: tuple[int, ...], classes: int, seed: int) -> Sequential:
    layers: list[Layer] = []
    for stage, filters in enumerate(FILTERS):
        layers += [*NETWORKS[name](filters, stage), MaxPool(2)]
    return Sequential([*layers, Flatten(), Dense(classes)], input_shape=input_shape, seed=seed)


def images(folder: Path | None, samples: int | None) -> LabelledImages:
    """The first `samples` training images and all test images, as float32 from 0 to 1."""
    data = load_idx_folder(folder) if folder else load_digits()
    white = np.float32(data.x_train.max())
    return LabelledImages(
        data.x_train[:samples] / white, data.y_train[:samples], data.x_test / white, data.y_test
    )


def train(name: str, seed: int, data: LabelledImages, epochs: int) -> dict[str, Any]:
    """Train one network; return its accuracies and, of the first seed, kernels to look at."""
    model = network(name, data.x_train.shape[1:], int(data.y_train.max()) + 1, seed)
    steps = epochs * -(-len(data.x_train) // BATCH)
    start = time.perf_counter()
    history = model.fit(
        data.x_train,
        data.y_train,
        epochs=epochs,
        batch_size=BATCH,
        optimizer=fastconv.Adam(Cosine(RATE, steps)),
        progress=False,
    )
    seconds = time.perf_counter() - start
    run = {
        "network": name,
        "seed": seed,
        "accuracy": model.evaluate(data.x_test, data.y_test)["accuracy"],
        "training_accuracy": history.accuracy[-1],
        "seconds": round(seconds, 1),
    }
    return run | {"kernels": kernels(model)} if seed == 0 else run


def kernels(model: Sequential) -> list:
    """Those that see one channel: depthwise ones if there are, else the first layer's."""
    separables = [layer for layer in model.layers if isinstance(layer, SeparableConv2D)]
    shown = separables[0].params["depthwise"] if separables else model.layers[0].params["kernel"]
    return shown[:, 0].astype(np.float64).round(3).tolist()


def measure(data: LabelledImages, seconds: float) -> dict[str, dict[str, float]]:
    """Parameters and multiply-adds of every network; seconds of a step and of one image."""
    x, y = data.x_train[:BATCH], data.y_train[:BATCH]
    models = {name: network(name, x.shape[1:], int(data.y_train.max()) + 1, 0) for name in NETWORKS}
    steps = {
        name: partial(model.train_batch, x, y, optimizer=fastconv.Adam(RATE))
        for name, model in models.items()
    }
    step = race(steps, seconds)
    image = race({name: partial(model.predict, x[:1]) for name, model in models.items()}, seconds)
    return {
        name: {
            "parameters": sum(value.size for _, value, _ in model.parameters()),
            "multiply_adds": model.multiply_adds,
            "step": step[name],
            "image": image[name],
            "sees": fastconv.receptive_field(model)[-3].size[0],
        }
        for name, model in models.items()
    }


# -- table and pictures ----------------------------------------------------------------------------


def accuracies(results: dict, name: str, key: str = "accuracy") -> np.ndarray:
    """In percent, one for each seed."""
    return np.array([100 * run[key] for run in results["runs"] if run["network"] == name])


def table(results: dict) -> str:
    """Means over the seeds, and standard deviations, as Markdown."""
    lines = [
        "| kernels | sees, pixels | parameters | multiply-adds | test accuracy, % | "
        "training accuracy, % | step, ms | one image, µs |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, costs in results["networks"].items():
        test, training = (accuracies(results, name, k) for k in ("accuracy", "training_accuracy"))
        lines.append(
            f"| {name} | {costs['sees']}x{costs['sees']} | {costs['parameters']:,} "
            f"| {costs['multiply_adds']:,} | {test.mean():.2f} ± {test.std(ddof=1):.2f} "
            f"| {training.mean():.2f} | {1e3 * costs['step']:.1f} | {1e6 * costs['image']:.0f} |"
        )
    return "\n".join(lines)


def draw_accuracy(results: dict) -> plt.Figure:
    """Accuracy over what it costs: a point for each network, a bar over its seeds."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 4), sharey=True, layout="constrained")
    panels = (
        ("multiply_adds", 1e-6, "million multiply-adds for an image"),
        ("step", 1e3, f"ms for a training step of {BATCH} images"),
    )
    for ax, (key, unit, label) in zip(axes, panels, strict=True):
        for name, costs in results["networks"].items():
            values = accuracies(results, name)
            at = unit * costs[key]
            colour = "tab:orange" if "depthwise" in name else "tab:blue"
            ax.plot([at, at], [values.min(), values.max()], color=colour, lw=1.2, alpha=0.6)
            ax.plot(at, values.mean(), "o", color=colour)
            right = name != "7x7"  # which has nothing but an edge to its right
            ax.annotate(name, (at, values.mean()), xytext=(7 if right else -7, 4 if right else -11),
                        textcoords="offset points", fontsize=9,
                        ha="left" if right else "right")  # fmt: skip
        ax.set_xscale("log")
        ax.set_xlim(ax.get_xlim()[0] / 1.15, ax.get_xlim()[1] * 2)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(label)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("test accuracy, %")
    return figure


def draw_kernels(results: dict) -> plt.Figure:
    """Eight kernels of the first seed, and what training changed: a row for each network."""
    names, shown = list(results["networks"]), 8
    figure = plt.figure(figsize=(9.6, 0.3 + 0.63 * len(names)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    left.suptitle("kernels after training", fontsize="medium")
    right.suptitle("what training has added", fontsize="medium")
    halves = [half.subplots(len(names), shown) for half in (left, right)]
    for name, before, after in zip(names, *halves, strict=True):
        learned = np.array(next(r["kernels"] for r in results["runs"] if r["network"] == name))
        # What they were does not depend on the size of the images.
        first = np.array(kernels(network(name, (1, 28, 28), 10, seed=0)))
        for row, values in ((before, learned), (after, learned - first)):
            largest = np.abs(values[:shown]).max()
            for ax, kernel in zip(row, values, strict=False):
                ax.imshow(kernel, cmap=SIGNED, vmin=-largest, vmax=largest)
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_color("lightgray")
        before[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def write(results: dict, page: Path) -> None:
    """Put the table between the page's two marks, and the pictures beside the page."""
    before, mark, rest = page.read_text().partition("<!-- table -->\n")
    _, end, after = rest.partition("<!-- end of table -->\n")
    if not end:
        raise ValueError(f"{page}: expected the marks <!-- table --> and <!-- end of table -->")
    page.write_text(f"{before}{mark}\n{table(results)}\n\n{end}{after}")
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    for name, draw in (("accuracy", draw_accuracy), ("kernels", draw_kernels)):
        draw(results).savefig(folder / f"{name}.png", dpi=110, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--samples", type=int, help="of the training images, the first so many")
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads())
    parser.add_argument("--seconds", type=float, default=1.0, help="of each network's timing")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="gets the table, and pictures in its folder")
    options = parser.parse_args()
    fastconv.set_num_threads(options.threads)
    data = images(options.data, options.samples)
    settings = {
        "data": options.data.name if options.data else "digits",
        "images": [len(data.x_train), len(data.x_test)],
        "epochs": options.epochs,
        "batch": BATCH,
        "learning_rate": RATE,
        "threads": options.threads,
    }
    results: dict[str, Any] = {"settings": settings, "networks": {}, "runs": []}
    if options.out.exists():
        results = json.loads(options.out.read_text())
        if results["settings"] != settings:
            raise SystemExit(f"{options.out}: made with {results['settings']}, not {settings}")
    done = {(run["network"], run["seed"]) for run in results["runs"]}

    def keep() -> None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=None, ensure_ascii=False))

    if not results["networks"]:
        results["networks"] = measure(data, options.seconds)
        results["cpu"] = machine.cpu()
        keep()
    for seed in range(options.seeds):
        for name in NETWORKS:
            if (name, seed) not in done:
                run = train(name, seed, data, options.epochs)
                results["runs"].append(run)
                print(name, seed, run["accuracy"], f"{run['seconds']} s", flush=True)
                keep()
    print(table(results))
    if options.page:
        write(results, options.page)


if __name__ == "__main__":
    main()
