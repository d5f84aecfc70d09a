"""Draws the pictures of docs/kernels.md.

    python docs/kernels/make.py [DIR]

writes them beside itself, or into DIR, in some seconds and without a network: the photograph and
the handwritten digits come with scikit-learn. Numbers in the pictures are computed, not written in.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image

import fastconv
from fastconv import SGD, AdamW, Conv2D, Dense, Flatten, MaxPool, Sequential, filters
from fastconv.data import load_digits
from fastconv.filters import filter_image
from fastconv.plot import SIGNED, plot_feature_maps, plot_receptive_field

RED, BLUE, GREY = "tab:red", "tab:blue", "0.75"
MINUS = "\N{MINUS SIGN}"


def sliding() -> Figure:
    """The product of a window and a kernel, with numbers, at two places."""
    image = np.array([[1, 1, 1, 5, 5, 5]] * 2 + [[1, 1, 5, 5, 5, 5]] * 3)
    kernel = filters.sobel()[0].astype(int)
    result = filter_image(image.astype(float), kernel)[1:-1, 1:-1].astype(int)
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    for row, (h, w) in zip(figure.subplots(2, 4, width_ratios=(6, 3, 4, 4)), [(0, 0), (1, 1)],
                           strict=True):  # fmt: skip
        window = image[h : h + 3, w : w + 3]
        products = [f"{a} · {b}" for a, b in zip(window.flat, kernel.flat, strict=True)]
        numbers(row[0], image, "image", frame=(h, w, 3, 3))
        numbers(row[1], kernel, "kernel")
        numbers(row[2], np.reshape(products, (3, 3)), "products", frame=(0, 0, 3, 3))
        numbers(row[3], result, "result", frame=(h, w, 1, 1))
        rows = " + ".join(str(total) for total in (window * kernel).sum(axis=1))
        row[2].set_xlabel(f"{rows} = {(window * kernel).sum()}")
    return figure


def numbers(ax: Axes, values: NDArray, title: str, frame: tuple[int, ...] = (0, 0, 0, 0)) -> None:
    """A grid with a number in each cell, and a red frame (row, column, height, width)."""
    H, W = values.shape
    for (row, column), value in np.ndenumerate(values):
        ax.text(column, row, str(value).replace("-", MINUS), ha="center", va="center", fontsize=9)
    grid(ax, H, W)
    h, w, height, width = frame
    ax.add_patch(Rectangle((w - 0.5, h - 0.5), width, height, fill=True, facecolor=RED, alpha=0.12))
    ax.add_patch(Rectangle((w - 0.5, h - 0.5), width, height, fill=False, edgecolor=RED, lw=2))
    ax.set_title(title, fontsize="medium")


def grid(ax: Axes, H: int, W: int, top: int = 0, left: int = 0) -> None:
    """Empty cells, whose first is (top, left); nothing else."""
    for row in range(top, top + H):
        for column in range(left, left + W):
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=GREY))
    ax.set(xlim=(left - 0.6, left + W - 0.4), ylim=(top + H - 0.4, top - 0.6), aspect="equal",
           xticks=[], yticks=[])  # fmt: skip
    ax.spines[:].set_visible(False)


def edges() -> Figure:
    """Classical kernels on a photograph."""
    grey = photograph().mean(axis=0)
    across, down = filter_image(grey, filters.sobel())
    panels = [
        ("photograph, grey", grey, None),
        ("Sobel, left to right", across, SIGNED),
        ("Sobel, top to bottom", down, SIGNED),
        ("strength of both", np.hypot(across, down), None),
        ("box, 5 x 5: the mean", filter_image(grey, filters.box(5)), None),
        ("Gaussian, sigma 2", filter_image(grey, filters.gaussian(2.0)), None),
        ("sharpen", filter_image(grey, filters.sharpen()).clip(0, 1), None),
        ("Laplacian", filter_image(grey, filters.laplacian()), SIGNED),
    ]
    figure = Figure(figsize=(8, 3.9), layout="constrained")
    for ax, (title, picture, colours) in zip(figure.subplots(2, 4).ravel(), panels, strict=True):
        show(ax, picture, title, colours)
    return figure


def textures() -> Figure:
    """Gabor kernels of four directions and two widths, and where each finds its stripes."""
    grey = photograph().mean(axis=0)
    figure = Figure(figsize=(8, 6.4), layout="constrained")
    axes = figure.subplots(4, 4, height_ratios=(1, 2, 1, 2))
    for at, wavelength in ((0, 4.0), (2, 8.0)):
        for column, degrees in enumerate((0, 45, 90, 135)):
            kernel = filters.gabor(wavelength, np.deg2rad(degrees), size=17)
            answer = np.abs(filter_image(grey, kernel))
            show(axes[at, column], kernel, f"{wavelength:.0f} pixels, {degrees}°", SIGNED)
            show(axes[at + 1, column], filter_image(answer, filters.gaussian(1.5)), "", "magma")
    return figure


def photograph() -> NDArray:
    """(3, H, W) from 0 to 1: the upper part of the tower."""
    return np.moveaxis(load_sample_image("china.jpg")[25:235, 70:350] / 255, -1, 0)


def show(ax: Axes, picture: NDArray, title: str, colours: str | None = None) -> None:
    """A picture without numbers; in signed colours zero is white, else it is dark to bright."""
    limits = {}
    if colours == SIGNED:
        # A few extreme values of a photograph would leave the others pale.
        largest = np.quantile(np.abs(picture), 0.99 if picture.size > 400 else 1.0)
        limits = {"vmin": -largest, "vmax": largest}
    ax.imshow(picture, cmap=colours or "gray", **limits)
    ax.set_title(title, fontsize="small")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def depth() -> Figure:
    """A kernel over three channels: a slice for each, and one sum."""
    photo = photograph()
    blob = filters.gaussian(1.0, 5)
    kernel = np.stack([1.0 * blob, -0.3 * blob, -0.7 * blob])
    parts = [filter_image(plane, taps) for plane, taps in zip(photo, kernel, strict=True)]
    total = sum(parts)
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    axes = figure.subplots(3, 4, width_ratios=(3, 1.4, 3, 3))
    for row, plane, taps, part, name in zip(axes, photo, kernel, parts, ("red", "green", "blue"),
                                            strict=True):  # fmt: skip
        row[0].imshow(plane, cmap="gray", vmin=0, vmax=1)
        row[1].imshow(taps, cmap=SIGNED, vmin=-np.abs(kernel).max(), vmax=np.abs(kernel).max())
        row[2].imshow(part, cmap=SIGNED, vmin=-1, vmax=1)
        for ax, title in zip(row, (f"channel: {name}", "slice", "slid over it"), strict=False):
            show_nothing(ax, title)
    show_nothing(axes[0, 3], "the photograph")
    axes[0, 3].imshow(np.moveaxis(photo, 0, -1))
    show_nothing(axes[1, 3], "the sum: one map")
    axes[1, 3].imshow(total, cmap=SIGNED, vmin=-0.6, vmax=0.6)
    show_nothing(axes[2, 3], "after ReLU")
    axes[2, 3].imshow(np.maximum(total, 0), cmap="magma")
    return figure


def show_nothing(ax: Axes, title: str) -> None:
    ax.set_title(title, fontsize="small")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def windows() -> Figure:
    """Where the windows lie, along both axes, for four choices of stride, padding and dilation."""
    choices = [
        ("padding 0, stride 1", {}),
        ("padding 1, stride 1", {"padding": 1}),
        ("padding 1, stride 2", {"padding": 1, "stride": 2}),
        ("padding 0, dilation 2", {"dilation": 2}),
    ]
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    for ax, (title, how) in zip(figure.subplots(1, 4), choices, strict=True):
        step, pad, apart = (how.get(k, d) for k, d in
                            (("stride", 1), ("padding", 0), ("dilation", 1)))  # fmt: skip
        OH, OW = fastconv.output_shape((6, 6), 3, **how)
        grid(ax, 6 + 2 * pad, 6 + 2 * pad, -pad, -pad)
        ax.add_patch(Rectangle((-0.5, -0.5), 6, 6, fill=True, facecolor="0.93", zorder=0))
        ax.add_patch(Rectangle((-0.5, -0.5), 6, 6, fill=False, edgecolor="0.4", lw=1.5))
        for kh in range(3):  # the taps of the first window
            for kw in range(3):
                at = (kw * apart - pad - 0.5, kh * apart - pad - 0.5)
                ax.add_patch(Rectangle(at, 1, 1, facecolor=RED, alpha=0.22))
        centres = [(ow * step - pad + apart, oh * step - pad + apart)
                   for oh in range(OH) for ow in range(OW)]  # fmt: skip
        ax.plot(*zip(*centres, strict=True), "o", color=BLUE, markersize=4)
        ax.set(xlim=(-1.7, 6.7), ylim=(6.7, -1.7))
        ax.set_title(f"{title}\nresult {OH} x {OW}", fontsize="small")
    return figure


def borders() -> Figure:
    """What zeros around an image do to a blur and to edges, beside other borders."""
    grey = photograph().mean(axis=0)[:90, -110:]
    padded = {
        "zeros": np.pad(grey, 6),
        "replicate": np.pad(grey, 6, "edge"),
        "reflect": np.pad(grey, 6, "reflect"),
        "circular": np.pad(grey, 6, "wrap"),
    }
    kernel = filters.gaussian(2.5, 13)[None, None]
    figure = Figure(figsize=(8, 3.9), layout="constrained")
    rows = figure.subplots(2, 4)
    for column, (mode, image) in enumerate(padded.items()):
        above, below = rows[0, column], rows[1, column]
        show_nothing(above, f"{mode}: padded by 6")
        above.imshow(image, cmap="gray", vmin=0, vmax=1)
        above.add_patch(Rectangle((5.5, 5.5), grey.shape[1], grey.shape[0], fill=False,
                                  edgecolor=RED, lw=1))  # fmt: skip
        show_nothing(below, "blurred, 13 x 13")
        below.imshow(fastconv.conv2d(image[None], kernel)[0], cmap="gray", vmin=0, vmax=1)
    return figure


def growth() -> Figure:
    """Along one axis: three 3-tap layers, and what one value of the last one sees."""
    figure = Figure(figsize=(8, 3.1), layout="constrained")
    for ax, strided in zip(figure.subplots(1, 2), (False, True), strict=True):
        # Each layer: its values' places, in pixels of the image.
        places = [np.arange(15.0)]
        step = 1
        for layer in range(3):
            stride = 2 if strided and layer < 2 else 1
            places.append(places[-1][1:-1:stride])
            step *= stride
        seen = {float(places[3][len(places[3]) // 2])}
        for level in range(3, -1, -1):
            here, below = places[level], places[level - 1] if level else None
            lit = [x for x in here if x in seen]
            ax.plot(here, [level] * len(here), "s", color=GREY, markersize=7)
            ax.plot(lit, [level] * len(lit), "s", color=RED, markersize=7)
            name = ["image", "layer 1", "layer 2", "layer 3"][level]
            wide = f"{int(max(lit) - min(lit)) + 1} pixels seen" if not level else ""
            ax.text(-1.2, level, f"{name}", ha="right", va="center", fontsize="small")
            ax.text(7, -0.45, wide, ha="center", va="top", fontsize="small", color=RED)
            if below is not None:
                gap = below[1] - below[0]
                seen = set()
                for x in lit:
                    for other in (x - gap, x, x + gap):
                        seen.add(float(other))
                        ends = [x, other], [level, level - 1]
                        ax.plot(*ends, color=RED, lw=0.8, alpha=0.7, zorder=1)
        ax.set(xlim=(-4.5, 15), ylim=(-1, 3.4), xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_title("strides 2, 2, 1" if strided else "stride 1", fontsize="medium")
    return figure


def field() -> Figure:
    """The receptive field of a small network on the photograph."""
    layers = [Conv2D(8, 3, padding=1, activation="relu"), MaxPool(2)]
    layers += [Conv2D(8, 3, padding=1, activation="relu"), MaxPool(2), Conv2D(8, 3, padding=1)]
    photo = photograph()[:, 40:136, 40:136]
    model = Sequential(layers, input_shape=photo.shape, seed=0)
    return plot_receptive_field(model, 4, photo, at=(12, 8))


def pupil() -> Figure:
    """A kernel that is shown what Sobel's does, step by step, and what each step is told."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((64, 1, 12, 12))
    wanted = fastconv.conv2d(images, filters.sobel()[:1, None])
    model = Sequential([Conv2D(1, 3, bias=False)], input_shape=(1, 12, 12), seed=0)
    optimizer, layer = SGD(0.05), model.layers[0]
    shown = (0, 2, 5, 10, 20, 60)
    figure = Figure(figsize=(8, 2.9), layout="constrained")
    axes = figure.subplots(2, len(shown) + 1)
    column = 0
    for step in range(shown[-1] + 1):
        before = layer.params["kernel"][0, 0].copy()
        loss = model.train_batch(images, wanted, loss="mse", optimizer=optimizer)
        if step in shown:
            taps(axes[0, column], before, f"{step} steps\nloss {loss:.2g}")
            taps(axes[1, column], -layer.grads["kernel"][0, 0], "")
            column += 1
    taps(axes[0, -1], filters.sobel()[0], "wanted")
    axes[1, -1].remove()
    axes[0, 0].set_ylabel("kernel")
    axes[1, 0].set_ylabel("minus the\ngradient")
    return figure


def taps(ax: Axes, kernel: NDArray, title: str) -> None:
    """A small kernel, in colours and in numbers."""
    ax.imshow(kernel, cmap=SIGNED, vmin=-2.5, vmax=2.5)
    for (row, column), value in np.ndenumerate(kernel):
        ax.text(column, row, f"{value:.1f}".replace("-0.0", "0.0"), ha="center", va="center",
                fontsize=7, color="white" if abs(value) > 1.6 else "black")  # fmt: skip
    show_nothing(ax, title)


def digits_model() -> Sequential:
    layers = [Conv2D(8, 5, padding="same", activation="relu"), MaxPool(2), Flatten(), Dense(10)]
    return Sequential(layers, input_shape=(1, 8, 8), seed=0)


def training(model: Sequential) -> Figure:
    """Train the model on digits; draw its kernels along the way and the loss."""
    data = load_digits()
    x = data.x_train / np.float32(16)
    rng, optimizer = np.random.default_rng(0), AdamW(0.003, weight_decay=0.5)
    shown = (0, 20, 100, 400, 1600)
    figure = Figure(figsize=(8, 5.8), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(2.5, 1))
    axes = above.subplots(len(shown) + 1, 8)
    losses: list[float] = []
    first = model.layers[0].params["kernel"][:, 0].copy()
    rows_of = dict(zip(shown, axes, strict=False))
    while len(losses) <= shown[-1]:
        for rows in rng.permutation(len(x))[: len(x) // 64 * 64].reshape(-1, 64):
            kernels = model.layers[0].params["kernel"][:, 0]
            if len(losses) in shown:
                draw_kernels(rows_of[len(losses)], kernels, f"{len(losses)} steps")
            losses.append(model.train_batch(x[rows], data.y_train[rows], optimizer=optimizer))
    draw_kernels(axes[-1], kernels - first, "all changes")
    ax = below.subplots()
    ax.plot(np.arange(1, len(losses) + 1), losses, color=BLUE, lw=0.8)
    for step in shown[1:]:
        ax.axvline(step, color=GREY, lw=0.8)
    ax.set(xscale="log", yscale="log", xlabel="steps", ylabel="loss of the batch", ylim=(0.03, 4))
    return figure


def draw_kernels(row: NDArray, kernels: NDArray, name: str) -> None:
    for ax, kernel in zip(row, kernels, strict=True):
        ax.imshow(kernel, cmap=SIGNED, vmin=-0.6, vmax=0.6)
        show_nothing(ax, "")
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")


def maps(model: Sequential) -> Figure:
    """What the layers of the trained network make of a digit."""
    data = load_digits()
    return plot_feature_maps(model, data.x_test[3] / np.float32(16))


def dense(model: Sequential) -> Figure:
    """How a dense layer turns maps into a score: weights for each place, products, a sum."""
    data = load_digits()
    x, label = data.x_test[3:4] / np.float32(16), int(data.y_test[3])
    pooled = model.layers[1].forward(model.layers[0].forward(x))[0]
    scores = model.predict(x)[0]
    other = int(np.argsort(scores)[-2])
    C = len(pooled)
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots(5, C)
    weights, bias = model.layers[-1].params["kernel"], model.layers[-1].params["bias"]
    rows: list[tuple[str, NDArray, str]] = [("pooled maps", pooled, "magma")]
    for digit in (label, other):
        template = weights[digit].reshape(pooled.shape)
        products = template * pooled
        assert np.isclose(products.sum() + bias[digit], scores[digit], atol=1e-4)
        rows += [(f"weights of {digit}", template, SIGNED),
                 (f"products:\nscore {scores[digit]:.1f}", products, SIGNED)]  # fmt: skip
    for row, (name, planes, colours) in zip(axes, rows, strict=True):
        largest = np.abs(planes).max()
        for ax, plane in zip(row, planes, strict=True):
            ax.imshow(plane, cmap=colours, vmax=largest, vmin=-largest if colours == SIGNED else 0)
            show_nothing(ax, "")
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def save(figure: Figure, path: Path) -> None:
    """As a PNG with a palette, a third of the bytes; a smaller one where a photograph fills it."""
    file = io.BytesIO()
    figure.savefig(file, dpi=100, facecolor="white")
    picture = Image.open(file).convert("RGB")
    for colours in (256, 96):
        palette = picture.quantize(colours, dither=Image.Dither.NONE)
        palette.save(path, optimize=True)
        if path.stat().st_size < 150_000:
            break


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model = digits_model()
    for draw in (sliding, edges, textures, depth, windows, borders, growth, field, pupil):
        save(draw(), folder / f"{draw.__name__}.png")
    for draw in (training, maps, dense):  # the first one trains it
        save(draw(model), folder / f"{draw.__name__}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
