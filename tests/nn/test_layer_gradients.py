"""Every layer's backward pass is the derivative of its forward pass.

In float64 a central difference with step 1e-6 agrees with the true derivative to about 1e-9, so
1e-7 leaves no room for a wrong term. The loss is a fixed random weighting of the outputs.
"""

import numpy as np
import pytest

from fastconv import (
    GELU,
    AdaptiveAvgPool,
    AvgPool,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    LayerNorm,
    LeakyReLU,
    MaxPool,
    Pad2D,
    ReLU,
    SeparableConv2D,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
    Upsample,
)
from fastconv import functional as F

LAYERS = {
    "conv": (Conv2D(3, 3), (2, 5, 6)),
    "conv relu": (Conv2D(3, 3, padding=1, activation="relu"), (2, 5, 6)),
    "conv without bias": (Conv2D(3, (2, 3), bias=False, stride=2, padding="same"), (2, 5, 6)),
    "conv groups": (Conv2D(4, 3, groups=2, dilation=(2, 1), padding=((1, 2), (0, 1))), (4, 6, 5)),
    "pool": (MaxPool(2), (2, 5, 6)),
    "pool overlapping": (MaxPool(3, stride=2, padding=1), (2, 5, 6)),
    "pool dilated": (MaxPool(2, stride=2, dilation=2, ceil_mode=True), (2, 6, 6)),
    "average": (AvgPool(2), (2, 5, 6)),
    "average border": (
        AvgPool(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        (2, 6, 5),
    ),
    "adaptive average": (AdaptiveAvgPool((2, 3)), (2, 5, 7)),
    "global average": (GlobalAvgPool(), (3, 4, 5)),
    "global max": (GlobalMaxPool(), (3, 4, 5)),
    "depthwise": (DepthwiseConv2D(3, padding="same", stride=2), (3, 5, 6)),
    "depthwise multiplier": (DepthwiseConv2D((2, 3), depth_multiplier=2, dilation=2), (2, 6, 7)),
    "depthwise relu": (DepthwiseConv2D(3, padding=1, activation="relu"), (3, 5, 4)),
    "separable": (SeparableConv2D(4, 3, padding=1, stride=(1, 2)), (3, 5, 6)),
    "separable multiplier": (
        SeparableConv2D(4, 3, depth_multiplier=2, bias=False, activation="relu"),
        (2, 5, 6),
    ),
    "conv reflect": (Conv2D(3, 3, padding=1, padding_mode="reflect"), (2, 5, 6)),
    "conv replicate": (
        Conv2D(3, 3, stride=2, padding="same", padding_mode="replicate", activation="relu"),
        (2, 5, 6),
    ),
    "conv circular": (
        Conv2D(3, (2, 3), padding=((1, 0), (2, 1)), padding_mode="circular"),
        (2, 5, 6),
    ),
    "depthwise reflect": (DepthwiseConv2D(3, padding=1, padding_mode="reflect"), (3, 4, 4)),
    "transposed": (Conv2DTranspose(3, 3, stride=2, padding=1, output_padding=1), (2, 4, 5)),
    "transposed relu": (
        Conv2DTranspose(4, (2, 3), groups=2, dilation=2, activation="relu"),
        (4, 3, 4),
    ),
    "transposed same": (Conv2DTranspose(3, 4, stride=2, padding="same", bias=False), (2, 4, 3)),
    "pad": (Pad2D(((1, 0), (2, 1)), mode="reflect"), (2, 4, 5)),
    "pad value": (Pad2D(1, value=3.5), (2, 4, 5)),
    "upsample": (Upsample((2, 3)), (2, 4, 3)),
    "upsample bilinear": (Upsample(2, mode="bilinear", align_corners=True), (2, 4, 3)),
    "dense": (Dense(4), (7,)),
    "dense relu": (Dense(4, activation="relu"), (7,)),
    "dense without bias": (Dense(4, bias=False), (7,)),
    "relu": (ReLU(), (2, 3, 3)),
    "softmax": (Softmax(), (5,)),
    "leaky relu": (LeakyReLU(0.3), (2, 3, 3)),
    "gelu": (GELU(), (2, 3, 3)),
    "gelu tanh": (GELU("tanh"), (7,)),
    "silu": (SiLU(), (2, 3, 3)),
    "sigmoid": (Sigmoid(), (7,)),
    "tanh": (Tanh(), (2, 3, 3)),
    "group norm": (GroupNorm(2), (4, 3, 5)),
    "group norm relu": (GroupNorm(2, activation="relu"), (4, 3, 5)),
    "layer norm": (LayerNorm(), (7,)),
    "layer norm of images": (LayerNorm(epsilon=0.1), (4, 3, 5)),
    "flatten": (Flatten(), (2, 3, 4)),
}


def difference(loss, array):
    """Central differences of loss() for every element of `array`."""
    gradient = np.empty_like(array)
    for position in np.ndindex(array.shape):
        middle = array[position]
        array[position] = middle + 1e-6
        above = loss()
        array[position] = middle - 1e-6
        below = loss()
        array[position] = middle
        gradient[position] = (above - below) / 2e-6
    return gradient


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_finite_differences(name):
    layer, shape = LAYERS[name]
    rng = np.random.default_rng(7)
    layer.build(shape, rng, np.dtype("float64"))
    for value in layer.params.values():
        value[...] = rng.standard_normal(value.shape)
    x = rng.standard_normal((2, *shape))
    dy = rng.standard_normal(layer.forward(x).shape)

    layer.forward(x, training=True)
    dx = layer.backward(dy)
    grads = dict(layer.grads)

    def loss():
        return float((layer.forward(x) * dy).sum())

    assert grads.keys() == layer.params.keys()
    np.testing.assert_allclose(dx, difference(loss, x), rtol=1e-7, atol=1e-7)
    for key, value in layer.params.items():
        np.testing.assert_allclose(grads[key], difference(loss, value), rtol=1e-7, atol=1e-7)


def test_gradients_of_a_whole_model_are_finite_differences():
    model = Sequential(
        [
            Conv2D(3, 3, padding="same", activation="relu"),
            MaxPool(2),
            Conv2D(4, 3),
            ReLU(),
            Flatten(),
            Dense(5, activation="relu"),
            Dense(3),
        ],
        input_shape=(2, 8, 8),
        seed=3,
        dtype="float64",
    )
    rng = np.random.default_rng(4)
    x, labels = rng.standard_normal((3, 2, 8, 8)), np.array([0, 2, 1])
    _, dlogits = F.softmax_cross_entropy(model.forward(x, training=True), labels)
    dx = model.backward(dlogits, need_dx=True)

    def loss():
        return F.softmax_cross_entropy(model.forward(x), labels)[0]

    np.testing.assert_allclose(dx, difference(loss, x), rtol=1e-6, atol=1e-8)
    for name, value, grad in model.parameters():
        np.testing.assert_allclose(
            grad, difference(loss, value), rtol=1e-6, atol=1e-8, err_msg=name
        )


def test_dropout_passes_gradients_where_it_passed_activations():
    layer = Dropout(0.4)
    layer.build((1000,), np.random.default_rng(0), np.dtype("float64"))
    ones = np.ones((3, 1000))
    y = layer.forward(ones, training=True)
    np.testing.assert_array_equal(layer.backward(ones), y)
