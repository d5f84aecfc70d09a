"""Networks of convolutions with ReLU, max poolings, and dense layers: where most people start."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fastconv.nn import Conv2D, Dense, Flatten, Layer, MaxPool, Sequential


def lenet5(
    classes: int = 10,
    *,
    input_shape: tuple[int, int, int] = (1, 28, 28),
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
) -> Sequential:
    """Return LeNet-5 as it is written today: LeCun et al., 1998, with ReLU and max pooling.

    Parameters
    ----------
    classes : int
        Scores for each image.
    input_shape : (C, H, W)
    seed, dtype
        As in `Sequential`.

    Returns
    -------
    Sequential

    Examples
    --------
    >>> from fastconv.models import lenet5
    >>> sum(value.size for _, value, _ in lenet5().parameters())
    61706
    """
    layers = [
        *(_conv(6, 5, padding=2), MaxPool(2)),
        *(_conv(16, 5), MaxPool(2)),
        *_classifier(120, 84, classes),
    ]
    return Sequential(layers, input_shape=input_shape, seed=seed, dtype=dtype)


def mnist_cnn(
    classes: int = 10,
    *,
    input_shape: tuple[int, int, int] = (1, 28, 28),
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
) -> Sequential:
    """Return two 3x3 convolutions and two dense layers: the CNN of many first lessons.

    Parameters
    ----------
    classes : int
        Scores for each image.
    input_shape : (C, H, W)
    seed, dtype
        As in `Sequential`.

    Returns
    -------
    Sequential

    Examples
    --------
    >>> from fastconv.models import mnist_cnn
    >>> mnist_cnn().layers[0]
    Conv2D(32, 3, padding=1, activation='relu')
    """
    layers = [
        *(_conv(32, 3, padding=1), MaxPool(2)),
        *(_conv(64, 3, padding=1), MaxPool(2)),
        *_classifier(128, classes),
    ]
    return Sequential(layers, input_shape=input_shape, seed=seed, dtype=dtype)


def vgg6(
    classes: int = 10,
    *,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
) -> Sequential:
    """Return pairs of 3x3 convolutions, three times: Simonyan and Zisserman, 2014, made small.

    Parameters
    ----------
    classes : int
        Scores for each image.
    input_shape : (C, H, W)
    seed, dtype
        As in `Sequential`.

    Returns
    -------
    Sequential

    Examples
    --------
    >>> from fastconv.models import vgg6
    >>> [layer.filters for layer in vgg6().layers if hasattr(layer, "filters")]
    [64, 64, 128, 128, 256, 256]
    """
    layers: list[Layer] = []
    for filters in (64, 128, 256):
        layers += [_conv(filters, 3, padding=1), _conv(filters, 3, padding=1), MaxPool(2)]
    layers += _classifier(256, classes)
    return Sequential(layers, input_shape=input_shape, seed=seed, dtype=dtype)


def _conv(filters: int, size: int, *, padding: int = 0) -> Layer:
    return Conv2D(filters, size, padding=padding, activation="relu")


def _classifier(*units: int) -> Iterable[Layer]:
    """Dense layers with ReLU between them."""
    *hidden, classes = units
    return [Flatten(), *(Dense(count, activation="relu") for count in hidden), Dense(classes)]
