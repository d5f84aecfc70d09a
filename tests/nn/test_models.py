"""Networks known by name: their sizes are the published ones, and they learn."""

import numpy as np
import pytest

from fastconv import Adam, BatchNorm, Concat, Conv2D, Residual, Sequential, models
from fastconv.models.inception import module


def size(model):
    return sum(value.size for _, value, _ in model.parameters())


def test_resnet20_has_the_published_size():
    """He et al., table 6: 0.27 million; 40.8 million multiply-adds with 1x1 shortcuts."""
    model = models.resnet20()
    assert round(size(model) / 1e6, 2) == 0.27
    assert round(model.multiply_adds / 1e6, 1) == 40.8
    convolutions = [layer for _, layer in model.walk() if isinstance(layer, Conv2D)]
    assert sum(layer.kernel_size == 3 for layer in convolutions) == 19  # and a dense layer: 20
    assert sum(isinstance(layer, Residual) for _, layer in model.walk()) == 9


@pytest.mark.parametrize(
    "pixels, width, parameters, multiply_adds",
    [  # tables 6, 7 and 8
        (224, 1.0, 4.2, 569),
        (224, 0.75, 2.6, 325),
        (224, 0.5, 1.3, 149),
        (224, 0.25, 0.5, 41),
        (192, 1.0, 4.2, 418),
        (160, 0.5, 1.3, 77),
    ],
)
def test_mobilenet_has_the_published_size(pixels, width, parameters, multiply_adds):
    model = models.mobilenet(1000, input_shape=(3, pixels, pixels), width=width)
    assert round(size(model) / 1e6, 1) == parameters
    assert round(model.multiply_adds / 1e6) == pytest.approx(multiply_adds, abs=1)


def test_mobilenet_leaves_small_images_some_pixels():
    for pixels, left in ((224, 7), (128, 4), (64, 4), (32, 4), (28, 7), (8, 4), (4, 4)):
        model = models.mobilenet(input_shape=(1, pixels, pixels), width=0.1)
        assert model.layers[-3].output_shape == (102, left, left)


@pytest.mark.parametrize(
    "filters, channels, pixels, kilo_weights, millions",
    [  # Szegedy et al., table 1: rows 3a, 3b, 4e, 5b
        ((64, (96, 128), (16, 32), 32), 192, 28, 159, 128),
        ((128, (128, 192), (32, 96), 64), 256, 28, 380, 304),
        ((256, (160, 320), (32, 128), 128), 528, 14, 840, 170),
        ((384, (192, 384), (48, 128), 128), 832, 7, 1388, 71),
    ],
)
def test_inception_modules_have_the_published_size(
    filters, channels, pixels, kilo_weights, millions
):
    model = Sequential([module(*filters)], input_shape=(channels, pixels, pixels))
    kernels = [value for name, value in model.weights().items() if name.endswith("kernel")]
    assert sum(value.size for value in kernels) / 1024 == pytest.approx(kilo_weights, rel=0.02)
    assert model.multiply_adds / 1e6 == pytest.approx(millions, rel=0.02)


def test_small_networks_have_their_known_sizes():
    assert size(models.lenet5()) == 61_706
    assert size(models.mnist_cnn()) == 421_642
    assert models.vgg6().output_shape == (10,)


@pytest.mark.parametrize(
    "model",
    [
        models.resnet20(3, input_shape=(1, 8, 8), seed=0),
        models.mobilenet(3, input_shape=(1, 8, 8), width=0.1, seed=0),
        models.inception(3, input_shape=(1, 8, 8), seed=0),
        models.lenet5(3, input_shape=(1, 16, 16), seed=0),
        models.mnist_cnn(3, input_shape=(1, 8, 8), seed=0),
        models.vgg6(3, input_shape=(1, 8, 8), seed=0),
    ],
    ids=["resnet20", "mobilenet", "inception", "lenet5", "mnist_cnn", "vgg6"],
)
def test_they_learn_go_into_files_and_fold(model, tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(24) % 3
    x = rng.standard_normal((24, *model.input_shape))
    x += 2 * rng.standard_normal((3, *model.input_shape))[y]  # a pattern for each class
    optimizer = Adam(0.003)
    losses = [model.train_batch(x, y, optimizer=optimizer) for _ in range(15)]
    assert losses[-1] < 0.5 * losses[0]
    model.save(tmp_path / "model")
    expected = model.predict(x)
    np.testing.assert_array_equal(Sequential.load(tmp_path / "model").predict(x), expected)
    folded = model.folded()
    assert not any(isinstance(layer, BatchNorm) for _, layer in folded.walk())
    np.testing.assert_allclose(folded.predict(x), expected, rtol=1e-3, atol=1e-3)


def test_arguments_are_those_of_sequential():
    one, same = (models.resnet20(100, seed=3, dtype="float64") for _ in range(2))
    assert one.output_shape == (100,) and one.dtype == np.float64
    for name, value in one.weights().items():
        np.testing.assert_array_equal(value, same.weights()[name])
    assert isinstance(models.inception().layers[3], Concat)
