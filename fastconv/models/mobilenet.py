"""MobileNet: Howard et al., 2017, table 1.

    3x3, 32, stride 2
    depthwise 3x3, then 1x1:    64
                               128 stride 2,   128
                               256 stride 2,   256
                               512 stride 2,   512 five times
                              1024 stride 2,  1024
    average of every plane, dense, 1000

Batch normalisation and ReLU follow every convolution. The strides halve images of 224 pixels five
times, to 7. Small images are halved only as often as leaves 4 pixels: the first strides are left
out, so images of 32 pixels are halved three times.
"""

from __future__ import annotations

import numpy as np

from fastconv.nn import (
    BatchNorm,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    GlobalAvgPool,
    Layer,
    Sequential,
)

TABLE = (  # filters and stride of each depthwise and 1x1 pair
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)


def mobilenet(
    classes: int = 10,
    *,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    width: float = 1.0,
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
) -> Sequential:
    """Return a MobileNet: 4.2 million parameters for 1000 classes at full width.

    Parameters
    ----------
    classes : int
        Scores for each image.
    input_shape : (C, H, W)
    width : float
        Factor for the number of filters of every layer.
    seed, dtype
        As in `Sequential`.

    Returns
    -------
    Sequential

    Examples
    --------
    >>> from fastconv.models import mobilenet
    >>> model = mobilenet(width=0.25)
    >>> sum(value.size for _, value, _ in model.parameters())
    215642
    >>> model.layers[-2]
    GlobalAvgPool()
    """
    size = min(input_shape[1:])
    skipped = sum(size < 4 * 2**halvings for halvings in (1, 2, 3, 4, 5))

    def step(stride: int) -> int:
        nonlocal skipped
        if stride == 1 or not skipped:
            return stride
        skipped -= 1
        return 1

    def filters(count: int) -> int:
        return max(round(width * count), 1)

    layers: list[Layer] = [
        Conv2D(filters(32), 3, stride=step(2), padding=1, bias=False),
        BatchNorm(activation="relu"),
    ]
    for count, stride in TABLE:
        layers += [
            DepthwiseConv2D(3, stride=step(stride), padding=1, bias=False),
            BatchNorm(activation="relu"),
            Conv2D(filters(count), 1, bias=False),
            BatchNorm(activation="relu"),
        ]
    layers += [GlobalAvgPool(), Dense(classes)]
    return Sequential(layers, input_shape=input_shape, seed=seed, dtype=dtype)
