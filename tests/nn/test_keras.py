"""Keras itself beside us: real models, their weights by way of files, and the same outputs."""

import os

import numpy as np
import pytest

from fastconv import (
    GELU,
    AvgPool,
    BatchNorm,
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
    ReLU,
    Residual,
    SeparableConv2D,
    Sequential,
    Sigmoid,
    SiLU,
    Tanh,
    Upsample,
)
from fastconv.interop import from_keras, read_weights, to_keras

pytest.importorskip("torch")
os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
L = keras.layers
# Keras' own variables, which NumPy 2 finds old-fashioned.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

IMAGE = (12, 13, 4)  # (H, W, C), as Keras has it


def model_of(layers, shape=IMAGE):
    """A Keras model in which every weight is another number."""
    model = keras.Sequential([L.Input(shape), *layers])
    shake(model)
    return model


def shake(model):
    rng = np.random.default_rng(3)
    for weight in model.weights:
        positive = weight.path.endswith("variance")
        value = rng.uniform(0.5, 2, weight.shape) if positive else rng.normal(size=weight.shape)
        weight.assign(value.astype(np.float32) / (1 if positive else 3))


def assert_same(theirs, ours, tolerance=1e-5):
    """Both give the same outputs for images (N, H, W, C), as far as float32 tells."""
    x = np.random.default_rng(4).normal(size=(3, *theirs.input_shape[1:])).astype(np.float32)
    expected = keras.ops.convert_to_numpy(theirs(x, training=False))
    result = ours.predict(x.transpose(0, 3, 1, 2))
    if result.ndim == 4:
        result = result.transpose(0, 2, 3, 1)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(result / scale, expected / scale, rtol=0, atol=tolerance)


LAYERS = [
    ([L.Conv2D(6, (3, 2), groups=2, activation="relu")],
     [Conv2D(6, (3, 2), groups=2, activation="relu")]),
    ([L.Conv2D(6, 3, strides=2, padding="same", use_bias=False)],
     [Conv2D(6, 3, stride=2, padding="same", bias=False)]),
    ([L.Conv2D(6, 3, dilation_rate=2, padding="same")], [Conv2D(6, 3, dilation=2, padding="same")]),
    ([L.DepthwiseConv2D((2, 3), depth_multiplier=2, padding="same")],
     [DepthwiseConv2D((2, 3), depth_multiplier=2, padding="same")]),
    ([L.SeparableConv2D(5, 3, strides=2, padding="same", depth_multiplier=2)],
     [SeparableConv2D(5, 3, stride=2, padding="same", depth_multiplier=2)]),
    ([L.Conv2DTranspose(5, 3, strides=2)], [Conv2DTranspose(5, 3, stride=2)]),
    ([L.Conv2DTranspose(5, 4, strides=2, padding="same")],
     [Conv2DTranspose(5, 4, stride=2, padding=1)]),
    ([L.Conv2DTranspose(5, 3, strides=2, padding="same")],
     [Conv2DTranspose(5, 3, stride=2, padding=((0, 1), (0, 1)))]),
    ([L.BatchNormalization()], [BatchNorm(epsilon=1e-3)]),
    ([L.GroupNormalization(2)], [GroupNorm(2, epsilon=1e-3)]),
    ([L.GlobalAveragePooling2D(), L.LayerNormalization()],
     [GlobalAvgPool(), LayerNorm(epsilon=1e-3)]),
    ([L.MaxPooling2D(2), L.Conv2D(2, 1)], [MaxPool(2), Conv2D(2, 1)]),
    ([L.MaxPooling2D(3, 2, padding="same"), L.Conv2D(2, 1)],
     [MaxPool(3, stride=2, padding=(0, 1), ceil_mode=True), Conv2D(2, 1)]),
    ([L.AveragePooling2D(2), L.Conv2D(2, 1)], [AvgPool(2), Conv2D(2, 1)]),
    ([L.GlobalMaxPooling2D(), L.Dense(3)], [GlobalMaxPool(), Dense(3)]),
    ([L.Flatten(), L.Dense(7, activation="relu"), L.Dense(3)],
     [Flatten(), Dense(7, activation="relu"), Dense(3)]),
    ([L.UpSampling2D(2, interpolation="bilinear"), L.Conv2D(2, 1)],
     [Upsample(2, mode="bilinear"), Conv2D(2, 1)]),
    ([L.LeakyReLU(negative_slope=0.3), L.Activation("gelu"), L.Activation("silu"), L.Conv2D(2, 1),
      L.Activation("sigmoid"), L.Activation("tanh")],
     [LeakyReLU(0.3), GELU(), SiLU(), Conv2D(2, 1), Sigmoid(), Tanh()]),
]  # fmt: skip


@pytest.mark.parametrize("layers, ours", LAYERS, ids=lambda layers: type(layers[0]).__name__)
def test_layers_of_the_same_names_do_the_same(layers, ours):
    theirs = model_of(layers)
    ours = Sequential(ours, input_shape=(4, 12, 13))
    weights = {w.path: w.numpy() for w in theirs.weights}
    from_keras(weights, ours)
    assert_same(theirs, ours)
    names = [path for path, layer in ours.walk() if layer.params]
    paths = dict.fromkeys(path.rpartition("/")[0] for path in weights)
    back = to_keras(ours, names=dict(zip(names, paths, strict=True)))
    assert back.keys() == weights.keys()
    for weight in theirs.weights:
        np.testing.assert_array_equal(back[weight.path], weights[weight.path])
        weight.assign(back[weight.path])


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_cnn_by_way_of_a_file(suffix, tmp_path):
    """Trained there for a few steps, so that the running statistics have moved, too."""
    theirs = keras.Sequential(
        [
            L.Input((12, 12, 3)),
            L.Conv2D(8, 3, padding="same", use_bias=False),
            L.BatchNormalization(momentum=0.5),
            L.ReLU(),
            L.DepthwiseConv2D(3, padding="same"),
            L.MaxPooling2D(2),
            keras.Sequential([L.Conv2D(8, 3, padding="same"), L.BatchNormalization(scale=False)]),
            L.Dropout(0.3),
            L.Flatten(),
            L.Dense(288, activation="relu"),  # as many as features: no shape tells them apart
            L.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    theirs.compile(keras.optimizers.SGD(0.01), loss)
    x = np.random.default_rng(0).normal(size=(64, 12, 12, 3)).astype(np.float32)
    theirs.fit(x, np.arange(64) % 10, batch_size=16, epochs=1, verbose=0)
    weights, path = {w.path: w.numpy() for w in theirs.weights}, tmp_path / f"weights.{suffix}"
    ours = Sequential(
        [
            Conv2D(8, 3, padding="same", bias=False),
            BatchNorm(epsilon=1e-3, activation="relu"),
            DepthwiseConv2D(3, padding="same"),
            MaxPool(2),
            Sequential([Conv2D(8, 3, padding="same"), BatchNorm(epsilon=1e-3)]),
            Dropout(0.3),
            Flatten(),
            Dense(288, activation="relu"),
            Dense(10),
        ],
        input_shape=(3, 12, 12),
    )
    names = {}
    if suffix == "npz":
        np.savez(path, **weights)
    else:
        pytest.importorskip("safetensors.numpy").save_file(weights, path)
        with pytest.raises(ValueError, match="names: expected one for each"):
            from_keras(read_weights(path), ours)
        layers = [name for name, layer in ours.walk() if layer.params]
        paths = dict.fromkeys(name.rpartition("/")[0] for name in weights)
        names = dict(zip(layers, paths, strict=True))
    from_keras(read_weights(path), ours, names=names)
    assert_same(theirs, ours)
    assert_same(theirs, ours.folded())


def test_branches_of_a_functional_model():
    x = inputs = L.Input((8, 8, 4))
    y = L.Conv2D(6, 3, padding="same", name="first")(x)
    y = L.BatchNormalization(name="norm")(y)
    y = L.Activation("relu")(y)
    y = L.Conv2D(6, 3, padding="same", name="second")(y)
    y = L.Activation("relu")(L.Add()([y, L.Conv2D(6, 1, name="shortcut")(x)]))
    theirs = keras.Model(inputs, L.Dense(3, name="scores")(L.GlobalAveragePooling2D()(y)))
    shake(theirs)
    body = [
        Conv2D(6, 3, padding="same"),
        BatchNorm(epsilon=1e-3),
        ReLU(),
        Conv2D(6, 3, padding="same"),
    ]
    ours = Sequential(
        [Residual(Sequential(body), Conv2D(6, 1), activation="relu"), GlobalAvgPool(), Dense(3)],
        input_shape=(4, 8, 8),
    )
    names = {
        "0.body.0": "first",
        "0.body.1": "norm",
        "0.body.3": "second",
        "0.shortcut": "shortcut",
        "2": "scores",
    }
    from_keras({w.path: w.numpy() for w in theirs.weights}, ours, names=names)
    assert_same(theirs, ours)
