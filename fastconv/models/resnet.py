"""ResNet-20 for images of CIFAR's size: He et al., 2015, section 4.2.

    output     layers
    32 x 32    3x3, 16
    32 x 32    3 blocks of two 3x3, 16
    16 x 16    3 blocks of two 3x3, 32; the first one strides
    8 x 8      3 blocks of two 3x3, 64; the first one strides
    1 x 1      average of every plane, dense, 10

Batch normalisation follows every convolution. Where the shape changes the shortcut is a 1x1
convolution with a stride, the paper's option B, as everywhere outside its CIFAR section: option A
there pads channels with zeros and saves 2,752 of 272,474 parameters.
"""

from __future__ import annotations

import numpy as np

from fastconv.nn import BatchNorm, Conv2D, Dense, GlobalAvgPool, Layer, Residual, Sequential


def resnet20(
    classes: int = 10,
    *,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
) -> Sequential:
    """Return a ResNet-20 of 0.27 million parameters.

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
    >>> from fastconv.models import resnet20
    >>> model = resnet20()
    >>> sum(value.size for _, value, _ in model.parameters()), model.multiply_adds
    (272474, 40813184)
    """
    return Sequential(
        [
            Conv2D(16, 3, padding=1, bias=False),
            BatchNorm(activation="relu"),
            *(block(16), block(16), block(16)),
            *(block(32, stride=2), block(32), block(32)),
            *(block(64, stride=2), block(64), block(64)),
            GlobalAvgPool(),
            Dense(classes),
        ],
        input_shape=input_shape,
        seed=seed,
        dtype=dtype,
    )


def block(filters: int, *, stride: int = 1) -> Residual:
    """Two 3x3 convolutions beside a shortcut."""
    body: list[Layer] = [
        Conv2D(filters, 3, stride=stride, padding=1, bias=False),
        BatchNorm(activation="relu"),
        Conv2D(filters, 3, padding=1, bias=False),
        BatchNorm(),
    ]
    if stride == 1:
        return Residual(Sequential(body), activation="relu")
    shortcut = Sequential([Conv2D(filters, 1, stride=stride, bias=False), BatchNorm()])
    return Residual(Sequential(body), shortcut, activation="relu")
