"""What each layer promises beyond its gradients."""

import numpy as np
import pytest

from fastconv import (
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
    MaxPool,
    Pad2D,
    ReLU,
    SeparableConv2D,
    Sequential,
    Softmax,
    Upsample,
)
from fastconv import functional as F
from fastconv import training as T

FLOAT32 = np.dtype("float32")


def built(layer, shape, dtype=FLOAT32):
    layer.build(shape, np.random.default_rng(0), dtype)
    return layer


def images(*shape):
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize(
    "layer, text",
    [
        (Conv2D(8, 3), "Conv2D(8, 3)"),
        (
            Conv2D(8, (3, 5), stride=2, padding="same", groups=2, bias=False, activation="relu"),
            "Conv2D(8, (3, 5), stride=2, padding='same', groups=2, bias=False, activation='relu')",
        ),
        (MaxPool(2), "MaxPool(2)"),
        (MaxPool((3, 2), stride=2, padding=1), "MaxPool((3, 2), stride=2, padding=1)"),
        (MaxPool(2, dilation=2, ceil_mode=True), "MaxPool(2, dilation=2, ceil_mode=True)"),
        (AvgPool(2, count_include_pad=False), "AvgPool(2, count_include_pad=False)"),
        (AdaptiveAvgPool((2, 1)), "AdaptiveAvgPool((2, 1))"),
        (GlobalAvgPool(), "GlobalAvgPool()"),
        (GlobalMaxPool(), "GlobalMaxPool()"),
        (DepthwiseConv2D(3, depth_multiplier=2), "DepthwiseConv2D(3, depth_multiplier=2)"),
        (SeparableConv2D(8, (1, 3), bias=False), "SeparableConv2D(8, (1, 3), bias=False)"),
        (
            Conv2D(8, 3, padding=1, padding_mode="reflect"),
            "Conv2D(8, 3, padding=1, padding_mode='reflect')",
        ),
        (
            Conv2DTranspose(8, 4, stride=2, output_padding=1),
            "Conv2DTranspose(8, 4, stride=2, output_padding=1)",
        ),
        (Pad2D((1, 2), mode="circular"), "Pad2D((1, 2), mode='circular')"),
        (Upsample(2, mode="bilinear"), "Upsample(2, mode='bilinear')"),
        (Dense(10, activation="relu"), "Dense(10, activation='relu')"),
        (Dropout(0.5), "Dropout(0.5)"),
        (Flatten(), "Flatten()"),
        (ReLU(), "ReLU()"),
        (Softmax(), "Softmax()"),
    ],
)
def test_repr_and_config_rebuild_the_layer(layer, text):
    assert repr(layer) == text
    assert repr(type(layer)(**layer.config())) == text


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Conv2D(0, 3), "filters: expected a positive integer, got 0"),
        (lambda: Conv2D(True, 3), "filters: expected a positive integer, got True"),
        (lambda: Conv2D(8, 2.5), "kernel_size: expected a positive integer, got 2.5"),
        (lambda: Conv2D(8, (3, 3, 3)), "kernel_size: expected an integer or a pair"),
        (lambda: Conv2D(8, 3, groups=0), "groups: expected a positive integer, got 0"),
        (
            lambda: Conv2D(8, 3, padding_mode="same"),
            "padding_mode: expected one of 'zeros', 'reflect'",
        ),
        (
            lambda: built(Conv2D(8, 3, padding=9, padding_mode="reflect"), (4, 5, 5)),
            "padding: expected less than the height 5",
        ),
        (lambda: Conv2DTranspose(8, 0), "kernel_size: expected a positive integer"),
        (lambda: built(Conv2DTranspose(8, 3, groups=3), (4, 9, 9)), "groups: expected a divisor"),
        (lambda: built(Upsample(0), (4, 9, 9)), "scale: expected an integer from 1"),
        (lambda: Conv2D(8, 3, activation="tanh"), "activation: expected None or 'relu'"),
        (lambda: Dense("ten"), "units: expected a positive integer, got 'ten'"),
        (lambda: Dense(10, activation="softmax"), "activation: expected None or 'relu'"),
        (lambda: Dropout(1.0), r"rate: expected a number in \[0, 1\), got 1.0"),
        (lambda: Dropout(float("nan")), "rate: expected a number"),
        (lambda: built(Conv2D(8, 3), (28, 28)), r"got \(N, 28, 28\).*x\[:, None\]"),
        (lambda: built(MaxPool(2), (28, 28)), r"MaxPool: expected an input of shape \(N, C"),
        (lambda: built(Conv2D(8, 3, groups=3), (4, 9, 9)), "groups: expected a divisor"),
        (lambda: built(Conv2D(8, 3, stride=0), (4, 9, 9)), "stride"),
        (lambda: built(Conv2D(8, 9), (4, 5, 5)), "kernel"),
        (lambda: built(Dense(8), (4, 9, 9)), r"put a Flatten\(\) before it"),
        (lambda: built(Softmax(), (4, 9, 9)), r"Softmax: expected an input of shape \(N, cl"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_convolution_is_the_functional_one():
    geometry = {"stride": (1, 2), "padding": ((0, 1), (2, 0)), "dilation": 2, "groups": 2}
    layer = built(Conv2D(6, (3, 2), activation="relu", **geometry), (4, 11, 10))
    layer.params["bias"][:] = images(6)
    x = images(2, 4, 11, 10)
    expected = F.conv2d(
        x, layer.params["kernel"], layer.params["bias"], activation="relu", **geometry
    )
    np.testing.assert_array_equal(layer.forward(x), expected)
    assert layer.params["kernel"].shape == (6, 2, 3, 2)
    assert layer.multiply_adds == expected[0].size * 2 * 3 * 2


def test_layers_without_bias_have_none():
    assert list(built(Conv2D(6, 3, bias=False), (4, 9, 9)).params) == ["kernel"]
    assert list(built(Dense(6, bias=False), (4,)).params) == ["kernel"]


@pytest.mark.parametrize(
    "layer, shape, limit",
    [
        (Conv2D(64, 3, activation="relu"), (32, 5, 5), np.sqrt(6 / (32 * 9))),
        (Conv2D(64, 3), (32, 5, 5), np.sqrt(6 / ((32 + 64) * 9))),
        (Conv2D(64, 3, groups=4, activation="relu"), (32, 5, 5), np.sqrt(6 / (8 * 9))),
        (Dense(200, activation="relu"), (300,), np.sqrt(6 / 300)),
        (Dense(200), (300,), np.sqrt(6 / 500)),
    ],
)
def test_first_kernels_follow_he_and_glorot(layer, shape, limit):
    built(layer, shape)
    kernel = layer.params["kernel"]
    assert 0.99 * limit < np.abs(kernel).max() <= limit * (1 + 1e-6)
    assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)
    assert not layer.params["bias"].any()


def test_flatten_is_in_logical_order_for_any_memory_order():
    x = images(3, 4, 5, 6)
    layer = built(Flatten(), (4, 5, 6))
    y = layer.forward(F.as_channels_last(x), training=True)
    np.testing.assert_array_equal(y, x.reshape(3, -1))
    np.testing.assert_array_equal(layer.backward(y), x)
    assert layer.forward(x[:0]).shape == (0, 120)


@pytest.mark.parametrize("channels_last", [False, True])
def test_dropout_keeps_the_mean_and_the_memory_order(channels_last):
    layer = built(Dropout(0.25), (8, 50, 50))
    x = np.ones((4, 8, 50, 50), np.float32)
    x = F.as_channels_last(x) if channels_last else x
    y = layer.forward(x, training=True)
    assert y.dtype == np.float32
    assert y.strides == x.strides
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert y.mean() == pytest.approx(1, abs=0.01)
    assert layer.forward(x) is x


def test_dropout_refuses_another_shape():
    layer = built(Dropout(0.25), (6,))
    layer.forward(np.ones((4, 6), np.float32), training=True)
    with pytest.raises(ValueError, match=r"^dy: expected shape \(4, 6\), got \(4, 7\)"):
        layer.backward(np.ones((4, 7), np.float32))


@pytest.mark.parametrize(
    "layer, shape",
    [
        (Conv2D(3, 3, activation="relu"), (2, 5, 5)),
        (MaxPool(2), (2, 4, 4)),
        (Dense(3, activation="relu"), (6,)),
        (Flatten(), (2, 4, 4)),
        (ReLU(), (6,)),
        (Softmax(), (6,)),
        (Dropout(0.5), (6,)),
    ],
)
def test_a_layer_keeps_only_what_the_next_backward_needs(layer, shape):
    built(layer, shape)
    x = images(2, *shape)
    y = layer.forward(x)
    assert layer.saved is None, "kept something outside training"
    y = layer.forward(x, training=True)
    layer.forward(images(7, *shape))
    assert layer.backward(np.ones_like(y), need_dx=True).shape == x.shape
    assert layer.saved is None, "kept a batch after its step"
    with pytest.raises(RuntimeError, match=r"backward: expected a forward\(.*training=True"):
        layer.backward(np.ones_like(y))


def test_no_work_for_gradients_nobody_asks_for(monkeypatch):
    def unwanted(*arguments, **options):
        raise AssertionError("nobody asked for this gradient")

    model = Sequential([MaxPool(2), Conv2D(3, 3), Flatten(), Dense(2)], input_shape=(2, 8, 8))
    y = model.forward(images(2, 2, 8, 8), training=True)
    monkeypatch.setattr(F, "conv2d_backward_input", unwanted)
    monkeypatch.setattr(T, "max_pool2d_taps_backward", unwanted)
    assert model.backward(np.ones_like(y)) is None
    assert all(grad is not None for _, _, grad in model.parameters())


@pytest.mark.parametrize("pool", [MaxPool(2), MaxPool(3, stride=2), MaxPool(3, padding=1)])
@pytest.mark.parametrize("apart", [False, True])
def test_a_pooling_masks_for_the_relu_before_it(pool, apart, monkeypatch):
    """The same bits as when each layer does its own work."""
    first = [Conv2D(5, 3), ReLU()] if apart else [Conv2D(5, 3, activation="relu")]
    layers = [Conv2D(4, 3), *first, pool, Conv2D(3, 2)]
    model = Sequential(layers, input_shape=(2, 15, 14), seed=0)
    x = images(3, 2, 15, 14)
    y = model.forward(x, training=True)
    dy = np.cos(np.arange(y.size, dtype="f")).reshape(y.shape)
    dx = model.backward(dy, need_dx=True)
    together = [dx, *(parameter.grad for parameter in model.parameters())]

    monkeypatch.setattr(MaxPool, "takes_relu", False)
    assert np.array_equal(model.forward(x, training=True), y)
    dx = model.backward(dy, need_dx=True)
    for a, b in zip(together, [dx, *(p.grad for p in model.parameters())], strict=True):
        assert np.array_equal(a, b) and np.abs(a).max() > 0


def test_the_relu_of_a_pooled_convolution_is_masked_once(monkeypatch):
    def unwanted(*arguments):
        raise AssertionError("masked already")

    layers = [Conv2D(3, 3, activation="relu"), MaxPool(2)]
    model = Sequential(layers, input_shape=(1, 8, 8), seed=0)
    y = model.forward(images(2, 1, 8, 8), training=True)
    with monkeypatch.context() as patch:
        patch.setattr(F, "relu_backward", unwanted)
        model.backward(np.ones_like(y))
    # By themselves, without a model, both layers do their own work.
    conv, pool = model.layers
    x = images(2, 1, 8, 8)
    hidden = conv.forward(x, training=True)
    pooled = pool.forward(hidden, training=True)
    dhidden = pool.backward(np.ones_like(pooled))
    assert (dhidden[hidden == 0] != 0).any()
    conv.backward(dhidden, need_dx=False)
    np.testing.assert_allclose(conv.grads["bias"], (dhidden * (hidden > 0)).sum(axis=(0, 2, 3)))


def test_parts_of_convolutions():
    """Depthwise is a convolution with as many groups as channels; separable is two of them."""
    x = images(2, 6, 9, 8)
    depthwise = built(DepthwiseConv2D(3, depth_multiplier=2, padding="same"), (6, 9, 8))
    assert depthwise.multiply_adds == 9 * 8 * 12 * 9
    grouped = built(Conv2D(12, 3, groups=6, padding="same"), (6, 9, 8))
    for name, value in depthwise.params.items():
        np.testing.assert_array_equal(value, grouped.params[name])
    np.testing.assert_array_equal(depthwise.forward(x), grouped.forward(x))

    separable = built(SeparableConv2D(4, 3, stride=2, activation="relu"), (6, 9, 8))
    assert separable.multiply_adds == 4 * 3 * (6 * 9 + 6 * 4)
    middle = F.conv2d(x, separable.params["depthwise"], stride=2, groups=6)
    expected = F.conv2d(
        middle, separable.params["pointwise"], separable.params["bias"], activation="relu"
    )
    np.testing.assert_array_equal(separable.forward(x), expected)


@pytest.mark.parametrize("layer", [GlobalAvgPool(), GlobalMaxPool()])
def test_global_pooling_answers_in_the_order_of_its_input(layer):
    x = images(2, 6, 9, 8)
    for images_ in (x, F.as_channels_last(x)):
        y = layer.forward(images_, training=True)
        assert y.shape == (2, 6)
        assert layer.backward(y).strides == images_.strides
        layer.forward(images_, training=True)
        assert layer.backward(y, need_dx=False) is None


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, (0, 2), ((1, 0), (2, 1)), "same", "valid"])
@pytest.mark.parametrize("stride", [1, (2, 3)])
def test_padding_mode_is_a_convolution_of_the_padded_image(mode, padding, stride):
    x = images(2, 4, 9, 8).round(1) * 10
    layer = built(
        Conv2D(6, (3, 4), stride=stride, padding=padding, padding_mode=mode), (4, 9, 8)
    )
    zeros = F.conv2d(x, layer.params["kernel"], stride=stride, padding=padding)
    border = {"valid": 0, "same": ((1, 1), (1, 2))}.get(padding, padding)
    if padding == "same" and stride != 1:
        border = ((1, 1), (1, 1))  # (5 - 1)*2 + 3 - 9 = 2 rows, (3 - 1)*3 + 4 - 8 = 2 columns
    y = layer.forward(x)
    assert y.shape == zeros.shape
    padded = F.pad2d(x, border, mode)
    np.testing.assert_array_equal(y, F.conv2d(padded, layer.params["kernel"], stride=stride))


def test_transposed_convolution_is_the_functional_one():
    geometry = {"stride": 2, "padding": (1, 0), "output_padding": 1, "groups": 2}
    layer = built(Conv2DTranspose(6, (3, 2), activation="relu", **geometry), (4, 5, 7))
    x = images(2, 4, 5, 7)
    expected = F.conv_transpose2d(x, layer.params["kernel"], activation="relu", **geometry)
    np.testing.assert_array_equal(layer.forward(x), expected)
    assert layer.params["kernel"].shape == (4, 3, 3, 2)
    assert layer.multiply_adds == 5 * 7 * 4 * 3 * 6
