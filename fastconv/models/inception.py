"""A small Inception, of the modules of GoogLeNet: Szegedy et al., 2014, section 5.

A module looks at its input through windows of several sizes at once and puts the results side by
side. 1x1 convolutions make the input narrow before the large windows, which is what keeps them
cheap:

    1x1     1x1      1x1      max 3x3
     |      3x3      5x5      1x1
     '-------+--------+--------'   channel after channel

The network for small images: a 3x3 convolution, two modules, a max pooling that halves, two
modules, an average of every plane, and a dense layer. Batch normalisation follows every
convolution, as in the second version of the paper's network.
"""

from __future__ import annotations

import numpy as np

from fastconv.nn import (
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    GlobalAvgPool,
    Layer,
    MaxPool,
    Sequential,
)


def inception(
    classes: int = 10,
    *,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
) -> Sequential:
    """Return a small Inception of 163 thousand parameters.

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
    >>> from fastconv.models import inception
    >>> inception().layers[3].output_shape
    (64, 16, 16)
    """
    return Sequential(
        [
            *convolution(32, 3),
            MaxPool(2),
            module(16, (16, 32), (4, 8), 8),
            module(24, (24, 48), (6, 12), 12),
            MaxPool(2),
            module(48, (48, 96), (12, 24), 24),
            module(48, (48, 96), (12, 24), 24),
            GlobalAvgPool(),
            Dense(classes),
        ],
        input_shape=input_shape,
        seed=seed,
        dtype=dtype,
    )


def module(one: int, three: tuple[int, int], five: tuple[int, int], pooled: int) -> Concat:
    """Return the module with so many filters, of 1x1 and of what follows, in each branch."""
    return Concat(
        Sequential(convolution(one, 1)),
        Sequential([*convolution(three[0], 1), *convolution(three[1], 3)]),
        Sequential([*convolution(five[0], 1), *convolution(five[1], 5)]),
        Sequential([MaxPool(3, stride=1, padding=1), *convolution(pooled, 1)]),
    )


def convolution(filters: int, size: int) -> list[Layer]:
    return [
        Conv2D(filters, size, padding=size // 2, bias=False),
        BatchNorm(activation="relu"),
    ]
