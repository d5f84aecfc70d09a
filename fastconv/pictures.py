"""Pictures of what a network sees (needs matplotlib, in the extra ``demo``).

Figures are made without pyplot: no window, no global state, no display needed.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastconv.nn import Conv2D, Sequential

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def save_kernels_and_features(
    model: Sequential, image: NDArray, path: str | os.PathLike[str]
) -> None:
    """Draw one image, the first kernels, and what the first two convolutions make of the image.

    Parameters
    ----------
    model : Sequential
        Has a `Conv2D` layer.
    image : ndarray, shape (C, H, W)
        As the model takes it. Channels are averaged for the eye, as are a kernel's.
    path : str or path
        Where to write the PNG.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    convolutions = [layer for layer in model.layers if isinstance(layer, Conv2D)][:2]
    if not convolutions:
        raise ValueError(f"model: expected one with a Conv2D layer, got {model!r}")
    features = []
    x = np.asarray(image, model.dtype)[None]
    for layer in model.layers:
        x = layer.forward(x)
        if layer in convolutions:
            features.append(x[0])

    kernels = convolutions[0].params["kernel"].mean(axis=1)
    panels = 2 + len(features)
    figure = Figure(figsize=(4 * panels, 4.4), layout="constrained")
    axes = figure.subplots(1, panels)
    _draw(axes[0], np.mean(image, axis=0), "the image", "gray")
    limit = float(np.abs(kernels).max())
    _draw(axes[1], _mosaic(kernels), f"{len(kernels)} learned kernels", "RdBu", limit)
    for axis, maps, which in zip(axes[2:], features, ("first", "second"), strict=False):
        _draw(axis, _mosaic(maps), f"{len(maps)} feature maps, {which} convolution", "magma")
    figure.savefig(path, format="png", dpi=100)


def _draw(
    axes: Axes, picture: NDArray, title: str, colours: str, limit: float | None = None
) -> None:
    low = None if limit is None else -limit
    axes.imshow(picture, cmap=colours, interpolation="nearest", vmin=low, vmax=limit)
    axes.set_title(title)
    axes.set_axis_off()


def _mosaic(planes: NDArray) -> NDArray:
    """Lay (count, H, W) out as a nearly square grid with a line of nothing between planes."""
    count, H, W = planes.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    grid = np.full((rows * columns, H + 1, W + 1), np.nan)
    grid[:count, :H, :W] = planes
    grid = grid.reshape(rows, columns, H + 1, W + 1).transpose(0, 2, 1, 3)
    return grid.reshape(rows * (H + 1), columns * (W + 1))[:-1, :-1]
