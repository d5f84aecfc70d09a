"""Pictures of kernels, of what they make of an image, and of training (matplotlib, extra ``plot``).

Every function returns a `matplotlib.figure.Figure` that belongs to nobody else: there is no pyplot,
no window, no global state. A notebook shows it, ``figure.savefig("kernels.png")`` writes it.
``figure=`` draws into a figure, or a part of one, of your own.

Values without a sign are drawn from dark to bright; kernels, whose sign matters, from blue over
white to red, with zero always white. What is drawn is said where it is drawn: every panel has a
title, and colours that stand for values have a bar.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv.arguments import as_array, positive_int
from fastconv.nn import Layer, Sequential
from fastconv.nn.fit import History
from fastconv.receptive import receptive_field

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

__all__ = [
    "plot_confusion_matrix",
    "plot_feature_maps",
    "plot_history",
    "plot_kernels",
    "plot_receptive_field",
    "plot_top_patches",
]

SIGNED, BRIGHT, MAPS = "RdBu_r", "gray", "magma"
NOTHING = 0.85  # the grey between planes and beyond images
CELL = 0.42  # inches of a class in a confusion matrix
WRITTEN = 20  # classes up to which a confusion matrix has its numbers written in


def plot_kernels(
    kernels: Sequential | ArrayLike,
    *,
    layer: int | None = None,
    limit: int = 64,
    figure: FigureBase | None = None,
) -> Figure:
    """Draw kernels side by side.

    Parameters
    ----------
    kernels : Sequential or array (OC, IC, KH, KW), (K, KH, KW) or (KH, KW)
        A model, or the kernels themselves.
    layer : int, optional
        Which of the model's layers; the first with kernels if not given.
    limit : int
        So many are drawn at most.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Notes
    -----
    Kernels over three channels are drawn in colour, grey where a weight is zero; of other numbers
    of channels the mean is drawn.

    Examples
    --------
    >>> from fastconv import filters
    >>> from fastconv.plot import plot_kernels
    >>> figure = plot_kernels(filters.gabor_bank(size=15))
    >>> figure.axes[0].get_title()
    '16 kernels of 15 x 15'
    """
    name = ""
    if isinstance(kernels, Sequential):
        position = _first_with_kernels(kernels) if layer is None else layer
        chosen = _layer(kernels, position)
        found = _kernels_of(chosen)
        if found is None:
            raise ValueError(f"layer: expected one with kernels (OC, IC, KH, KW), got {chosen!r}")
        kernels, name = found, f"{position} {type(chosen).__name__}, "
    elif layer is not None:
        raise ValueError(f"layer: expected None for kernels that are an array, got {layer!r}")
    weights = as_array(kernels, "kernels").astype(np.float64)
    if not 2 <= weights.ndim <= 4 or not weights.size:
        raise ValueError(f"kernels: expected shape (OC, IC, KH, KW), got {weights.shape}")
    if weights.ndim < 4:
        weights = weights.reshape(-1, 1, *weights.shape[-2:])
    OC, IC, KH, KW = weights.shape
    shown = weights[: positive_int("limit", limit)]
    title = f"{name}{_some(len(shown), OC)} kernel{'s' if OC > 1 else ''} of {KH} x {KW}"
    largest = float(np.abs(shown).max()) or 1.0
    figure = _new_figure(figure, 4.8, 4.4)
    axes = figure.subplots()
    if IC == 3:
        picture = _mosaic(0.5 + shown.transpose(0, 2, 3, 1) / (2 * largest))
        _image(axes, picture, f"{title}\nred, green and blue weights")
    else:
        title += f"\nmean over {IC} channels" if IC > 1 else ""
        means = shown.mean(axis=1)
        largest = float(np.abs(means).max()) or 1.0
        drawn = _image(axes, _mosaic(means), title, SIGNED, (-largest, largest))
        figure.colorbar(drawn, ax=axes, label="weight", shrink=0.8)
    return _whole(figure)


def plot_feature_maps(
    model: Sequential,
    image: ArrayLike,
    *,
    limit: int = 16,
    columns: int = 4,
    figure: FigureBase | None = None,
) -> Figure:
    """Draw an image and what each layer makes of it, layer by layer.

    Parameters
    ----------
    model : Sequential
    image : array (C, H, W)
        As the model takes it.
    limit : int
        So many maps of a layer are drawn at most.
    columns : int
        Panels in a row.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
        One panel for the image and for each layer that gives maps; scores, if the last layer gives
        them, as bars. Layers that change nothing outside training have none.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Conv2D, MaxPool, Sequential
    >>> from fastconv.plot import plot_feature_maps
    >>> model = Sequential([Conv2D(8, 3), MaxPool(2)], seed=0)
    >>> figure = plot_feature_maps(model, np.eye(12)[None])
    >>> [axes.get_title() for axes in figure.axes]
    ['input\\n1 x 12 x 12', '0 Conv2D\\n8 maps of 10 x 10', '1 MaxPool\\n8 maps of 5 x 5']
    """
    pixels = _image_of(model, image)
    limit, columns = positive_int("limit", limit), positive_int("columns", columns)
    panels: list[tuple[str, NDArray]] = []
    for position, layer, before, after in _walk(model, pixels[None]):
        name = f"{position} {type(layer).__name__}"
        if after.ndim == 4 and after is not before:
            _, C, H, W = after.shape
            panels.append((f"{name}\n{_some(min(limit, C), C)} maps of {H} x {W}", after[0]))
        elif after.ndim == 2 and layer is model.layers[-1]:
            panels.append((f"{name}\n{after.shape[1]} values", after[0]))
    rows = -(-(1 + len(panels)) // columns)
    columns = min(columns, 1 + len(panels))
    figure = _new_figure(figure, 2.9 * columns, 3.1 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    shape = " x ".join(map(str, pixels.shape))
    _image(grid[0], _visible(pixels), f"input\n{shape}", BRIGHT, (0, 1))
    for axes, (title, values) in zip(grid[1:], panels, strict=False):
        if values.ndim == 3:
            _image(axes, _mosaic(values[:limit]), title, MAPS)
        else:
            axes.bar(np.arange(len(values)), values, color="tab:gray")
            axes.set_title(title, fontsize="medium")
            axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in grid[1 + len(panels) :]:
        axes.remove()
    return _whole(figure)


def plot_top_patches(
    model: Sequential,
    images: ArrayLike,
    *,
    layer: int | None = None,
    kernels: int | Sequence[int] = 8,
    patches: int = 8,
    batch_size: int = 128,
    figure: FigureBase | None = None,
) -> Figure:
    """Draw what excites kernels most: of many images, the patches with the highest values.

    Parameters
    ----------
    model : Sequential
    images : array (N, C, H, W)
        As the model takes them.
    layer : int, optional
        Which of the model's layers; the first with kernels if not given.
    kernels : int or sequence of int
        How many of the layer's maps, from the first, or which.
    patches : int
        How many patches for each; they come from as many images, best first.
    batch_size : int
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each kernel. A patch is what the value can see (`fastconv.receptive_field`);
        above it stands the value. Beyond an image's border it is grey.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Conv2D, Sequential
    >>> from fastconv.plot import plot_top_patches
    >>> model = Sequential([Conv2D(4, 3)], seed=0)
    >>> images = np.random.default_rng(0).random((20, 1, 9, 9))
    >>> len(plot_top_patches(model, images, kernels=2, patches=5).axes)
    10
    """
    x = model._checked(images)
    position = _first_with_kernels(model) if layer is None else layer
    name = type(_layer(model, position)).__name__
    if x.ndim != 4 or not len(x):
        raise ValueError(f"images: expected shape (N, C, H, W) with N > 0, got {x.shape}")
    size = positive_int("batch_size", batch_size)
    best, places = [], []
    for start in range(0, len(x), size):
        y = _outputs(model, x[start : start + size], position)
        if y.ndim != 4:
            raise ValueError(f"layer: expected one that gives maps, got {model.layers[position]!r}")
        flat = y.reshape(*y.shape[:2], -1)
        places.append(flat.argmax(axis=2))
        best.append(flat.max(axis=2))
    width, value, place = y.shape[3], np.concatenate(best), np.concatenate(places)
    chosen = list(range(min(kernels, y.shape[1]))) if isinstance(kernels, int) else list(kernels)
    if not chosen or not all(0 <= k < y.shape[1] for k in chosen):
        raise ValueError(f"kernels: expected some of the layer's {y.shape[1]}, got {kernels!r}")
    patches = min(positive_int("patches", patches), len(x))
    field = receptive_field(model)[position]

    figure = _new_figure(figure, 0.6 + 1.05 * patches, 0.7 + 1.2 * len(chosen))
    figure.suptitle(f"What excites layer {position}, {name}, most: patches of "
                    f"{field.size[0]} x {field.size[1]} pixels", fontsize="medium")
    grid = figure.subplots(len(chosen), patches, squeeze=False)
    for row, k in zip(grid, chosen, strict=True):
        order = np.argsort(-value[:, k], kind="stable")[:patches]
        row[0].set_ylabel(f"kernel {k}", fontsize="small")
        for axes, n in zip(row, order, strict=True):
            patch = _patch(x[n], field.box(*divmod(int(place[n, k]), width)))
            _image(axes, _visible(patch, x[n]), f"{value[n, k]:.3g}", BRIGHT, (0, 1), "small")
    return _whole(figure)


def plot_history(
    history: History | dict[str, Sequence[float]], *, figure: FigureBase | None = None
) -> Figure:
    """Draw what `fit` saw, epoch by epoch.

    Parameters
    ----------
    history : History or dict of str to list
        What `Sequential.fit` returned. A list ``val_...`` is drawn beside the list without it.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for the loss and one for each metric.

    Examples
    --------
    >>> from fastconv.plot import plot_history
    >>> figure = plot_history({"loss": [2.0, 1.2, 0.9], "val_loss": [1.9, 1.4, 1.3]})
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['training', 'validation']
    """
    lists = history if isinstance(history, dict) else vars(history)
    curves = {
        name: list(values) for name, values in lists.items()
        if name not in ("seconds", "learning_rate")
        and isinstance(values, (list, tuple))
        and len(values)
    }  # fmt: skip
    names = list(dict.fromkeys(name.removeprefix("val_") for name in curves))
    if not names:
        raise ValueError("history: expected at least one epoch, got none")
    figure = _new_figure(figure, 4.6 * len(names), 3.4)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for key, label, style in ((name, "training", "o-"), (f"val_{name}", "validation", "s--")):
            if key in curves:
                values = curves[key]
                mark = style if len(values) <= 30 else style[1:]
                axes.plot(np.arange(1, len(values) + 1), values, mark, label=label, markersize=4)
        axes.set_title(name.replace("_", " "), fontsize="medium")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return _whole(figure)


def plot_confusion_matrix(
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    class_names: Sequence[str] = (),
    figure: FigureBase | None = None,
) -> Figure:
    """Draw how often each class was taken for each other.

    Parameters
    ----------
    labels : integer array (N,)
        What the samples are.
    predictions : integer array (N,), or array (N, classes)
        What they were taken for, or the scores that say so.
    class_names : sequence of str, optional
        Names of label 0, 1 and so on; numbers if not given.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each class, coloured by its shares. Up to 20 classes the counts are written in.

    Examples
    --------
    >>> from fastconv.plot import plot_confusion_matrix
    >>> figure = plot_confusion_matrix([0, 0, 1], [0, 1, 1], class_names=["cat", "dog"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1', '1', '0', '1']
    """
    y, guess = as_array(labels, "labels"), as_array(predictions, "predictions")
    classes = max(len(class_names), guess.shape[1] if guess.ndim == 2 else 0)
    if guess.ndim == 2:
        guess = guess.argmax(axis=1)
    for name, values in (("labels", y), ("predictions", guess)):
        if values.ndim != 1 or values.dtype.kind not in "iu" or values.shape != y.shape:
            raise ValueError(f"{name}: expected as many integers (N,) as labels, got "
                             f"{values.dtype} {values.shape}")
        if not values.size or values.min() < 0:
            raise ValueError(f"{name}: expected integers from 0, got {values}")
    least = 1 + int(max(y.max(), guess.max()))
    if class_names and least > len(class_names):
        raise ValueError(f"class_names: expected at least {least}, got {len(class_names)}")
    classes = max(classes, least)
    counts = np.bincount(y.astype(np.int64) * classes + guess, minlength=classes**2)
    counts = counts.reshape(classes, classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    side = 2.6 + CELL * min(max(classes, 4), WRITTEN)
    figure = _new_figure(figure, side + 0.6, side)
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    right = counts.trace() / counts.sum()
    axes.set_title(f"{right:.1%} of {len(y):,} right", fontsize="medium")
    axes.set(xlabel="predicted class", ylabel="true class")
    ticks = np.arange(0, classes, -(-classes // (2 * WRITTEN)))
    names = [class_names[t] if class_names else str(t) for t in ticks]
    axes.set_xticks(ticks, names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(ticks, names)
    if classes <= WRITTEN:
        size = min(10.0, CELL * 72 / (0.65 * len(str(counts.max()))))  # points; a digit is narrower
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour,
                      fontsize=size)
    figure.colorbar(drawn, ax=axes, label="share of the class", shrink=0.8)
    return _whole(figure)


def plot_receptive_field(
    model: Sequential,
    layer: int,
    image: ArrayLike,
    *,
    at: tuple[int, int] | None = None,
    figure: FigureBase | None = None,
) -> Figure:
    """Draw which part of an image one value of a layer can see.

    Parameters
    ----------
    model : Sequential
    layer : int
        Which of the model's layers.
    image : array (C, H, W)
        As the model takes it.
    at : (int, int), optional
        Row and column of the value in the layer's maps; the middle if not given.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
        The image with the field's frame, part of which may lie in the padding, and beside it the
        layer's maps, their mean, with the value marked.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Conv2D, MaxPool, Sequential
    >>> from fastconv.plot import plot_receptive_field
    >>> model = Sequential([Conv2D(8, 3), MaxPool(2), Conv2D(8, 3)], seed=0)
    >>> figure = plot_receptive_field(model, 2, np.eye(20)[None])
    >>> figure.axes[0].get_title()
    'seen: 8 x 8 pixels'
    """
    from matplotlib.patches import Rectangle

    pixels = _image_of(model, image)
    chosen = _layer(model, layer)
    y = _outputs(model, pixels[None], layer)[0]
    if y.ndim != 3:
        raise ValueError(f"layer: expected one that gives maps, got {chosen!r}")
    _, OH, OW = y.shape
    oh, ow = (OH // 2, OW // 2) if at is None else at
    if not (0 <= oh < OH and 0 <= ow < OW):
        raise ValueError(f"at: expected a place in maps of ({OH}, {OW}), got {at}")
    field = receptive_field(model)[layer]
    (h0, h1), (w0, w1) = field.box(oh, ow)

    figure = _new_figure(figure, 7.4, 3.9)
    left, right = figure.subplots(1, 2)
    title = f"seen: {field.size[0]} x {field.size[1]} pixels"
    _image(left, _visible(pixels), title, BRIGHT, (0, 1))
    # Pixels are squares around their whole numbers.
    left.add_patch(Rectangle((w0 - 0.5, h0 - 0.5), w1 - w0, h1 - h0, fill=False,
                             edgecolor="tab:red", linewidth=2, clip_on=False))
    _, H, W = pixels.shape
    left.set(xlim=(min(w0, 0) - 0.5, max(w1, W) - 0.5), ylim=(max(h1, H) - 0.5, min(h0, 0) - 0.5))
    _image(right, y.mean(axis=0), f"{layer} {type(chosen).__name__}, value ({oh}, {ow})\n"
           f"mean of {len(y)} maps of {OH} x {OW}", MAPS)
    right.add_patch(Rectangle((ow - 0.5, oh - 0.5), 1, 1, fill=False, edgecolor="tab:red",
                              linewidth=2))
    return _whole(figure)


# -- parts of the above ----------------------------------------------------------------------------


class Step(NamedTuple):
    """One layer of a model, and a batch before and after it."""

    position: int
    layer: Any
    before: NDArray
    after: NDArray


def _walk(model: Sequential, x: NDArray) -> list[Step]:
    """Run a batch through a model and keep what stands between its layers."""
    steps = []
    x = model._checked(x).astype(model.dtype, copy=False)
    for position, layer in enumerate(model.layers):
        y = layer.forward(x)
        steps.append(Step(position, layer, x, y))
        x = y
    return steps


def _outputs(model: Sequential, x: NDArray, position: int) -> NDArray:
    """What a layer of a model gives for a batch."""
    x = x.astype(model.dtype, copy=False)
    for layer in model.layers[: position + 1]:
        x = layer.forward(x)
    return x


def _image_of(model: Sequential, image: ArrayLike) -> NDArray:
    pixels = as_array(image, "image")
    if pixels.ndim != 3:
        raise ValueError(f"image: expected shape (C, H, W), got {pixels.shape}")
    checked: NDArray = model._checked(pixels[None])[0]
    return checked


def _layer(model: Sequential, position: int) -> Any:
    if not isinstance(position, (int, np.integer)) or not 0 <= position < len(model.layers):
        last = len(model.layers) - 1
        raise ValueError(f"layer: expected an integer from 0 to {last}, got {position!r}")
    return model.layers[position]


def _first_with_kernels(model: Sequential) -> int:
    if model.input_shape is None:
        raise ValueError("model: expected one with shapes: give it input_shape= or a first batch")
    for position, layer in enumerate(model.layers):
        if _kernels_of(layer) is not None:
            return position
    raise ValueError(f"model: expected one with a layer that has kernels, got {model!r}")


def _kernels_of(layer: Layer) -> NDArray | None:
    """A layer's first parameter of four dimensions; a separable layer's depthwise kernels."""
    return next((value for value in layer.params.values() if value.ndim == 4), None)


def _some(shown: int, there: int) -> str:
    return str(there) if shown == there else f"{shown} of {there}"


def _visible(pixels: NDArray, scale: NDArray | None = None) -> NDArray:
    """Channels (C, H, W) as a picture from 0 to 1: (H, W, 3) in colour, or the channels' mean.

    Brightness is stretched to what `scale` has, from its least to its greatest value.
    """
    picture, scale = (
        values.transpose(1, 2, 0) if len(values) == 3 else values.mean(axis=0)
        for values in (pixels, pixels if scale is None else scale)
    )
    low, high = float(scale.min()), float(scale.max())
    picture = (picture - low) / ((high - low) or 1.0)
    # In colour there is no value for no pixel.
    return np.nan_to_num(picture, nan=NOTHING) if picture.ndim == 3 else picture


def _patch(pixels: NDArray, box: tuple[tuple[int, int], tuple[int, int]]) -> NDArray:
    """A part of (C, H, W), NaN where it reaches beyond."""
    (h0, h1), (w0, w1) = box
    _, H, W = pixels.shape
    patch = np.full((len(pixels), h1 - h0, w1 - w0), np.nan)
    inside = pixels[:, max(h0, 0) : min(h1, H), max(w0, 0) : min(w1, W)]
    top, left = max(-h0, 0), max(-w0, 0)
    patch[:, top : top + inside.shape[1], left : left + inside.shape[2]] = inside
    return patch


def _mosaic(planes: NDArray) -> NDArray:
    """Lay (count, H, W) or (count, H, W, 3) out as a grid with a line of nothing between planes."""
    count, H, W, *colours = planes.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    grid = np.full((rows * columns, H + 1, W + 1, *colours), NOTHING if colours else np.nan)
    grid[:count, :H, :W] = planes
    grid = grid.reshape(rows, columns, H + 1, W + 1, *colours).swapaxes(1, 2)
    return grid.reshape(rows * (H + 1), columns * (W + 1), *colours)[:-1, :-1]


def _image(
    axes: Axes,
    picture: NDArray,
    title: str,
    colours: str | None = None,
    limits: tuple[float, float] | None = None,
    size: str = "medium",
) -> Any:
    """Draw a picture without axes' numbers, its pixels as squares."""
    low, high = limits or (None, None)
    drawn = axes.imshow(picture, cmap=colours, interpolation="nearest", vmin=low, vmax=high)
    axes.set_title(title, fontsize=size)
    axes.set(xticks=[], yticks=[], facecolor=str(NOTHING))
    axes.spines[:].set_visible(False)
    return drawn


def _new_figure(figure: FigureBase | None, width: float, height: float) -> Any:
    """The caller's figure, or a new one of that many inches."""
    if figure is not None:
        return figure
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _whole(figure: Any) -> Figure:
    """The figure of which this is a part."""
    whole: Figure = figure.figure
    return whole
