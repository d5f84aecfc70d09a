"""Batch normalisation folded away: the same outputs, and nothing else changed."""

from copy import deepcopy

import numpy as np
import pytest

from fastconv import (
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    MaxPool,
    ReLU,
    Residual,
    SeparableConv2D,
    Sequential,
)


def lively(model):
    """Give every weight, also the running statistics, values that matter."""
    rng = np.random.default_rng(5)
    model.set_weights(
        {
            name: rng.uniform(0.5, 2, value.shape)
            if name.endswith(("variance", "gamma"))
            else 0.5 * rng.standard_normal(value.shape)
            for name, value in model.weights().items()
        }
    )
    return model


def norms(model):
    return sum(isinstance(layer, BatchNorm) for _, layer in model.walk())


FOLDED = {
    "conv": [Conv2D(4, 3, bias=False), BatchNorm()],
    "conv bias relu": [Conv2D(4, 3, padding=1, groups=2), BatchNorm(activation="relu")],
    "relu layer": [Conv2D(4, 3), BatchNorm(epsilon=0.5), ReLU()],
    "depthwise": [DepthwiseConv2D(3, depth_multiplier=2, bias=False), BatchNorm()],
    "separable": [SeparableConv2D(5, 3, bias=False), BatchNorm(activation="relu")],
    "dense": [Flatten(), Dense(6, bias=False), BatchNorm(activation="relu"), Dense(3)],
    "twice": [Conv2D(4, 3), BatchNorm(), BatchNorm(activation="relu")],
    "end of a chain": [Sequential([Conv2D(4, 3), BatchNorm()]), BatchNorm()],
    "in a residual": [
        Conv2D(4, 1),
        Residual(
            Sequential([Conv2D(4, 3, padding=1, bias=False), BatchNorm()]),
            Sequential([Conv2D(4, 1, bias=False), BatchNorm()]),
            activation="relu",
        ),
        MaxPool(2),
    ],
    "in branches": [
        Concat(Sequential([Conv2D(2, 1), BatchNorm()]), Sequential([MaxPool(1), Conv2D(2, 1),
                                                                   BatchNorm()]))
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-5), ("float64", 1e-13)])
def test_outputs_are_the_same_without_batch_norm(name, dtype, tolerance):
    model = lively(Sequential(deepcopy(FOLDED[name]), input_shape=(4, 6, 6), dtype=dtype))
    before, x = model.weights(), np.random.default_rng(6).standard_normal((3, 4, 6, 6))
    expected = model.predict(x)
    folded = model.folded()
    assert norms(model) > norms(folded) == 0
    got = folded.predict(x)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=10 * tolerance)
    for key, value in model.weights().items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.parametrize(
    "layers",
    [
        [BatchNorm(), Conv2D(4, 3)],
        [Conv2D(4, 3, activation="relu"), BatchNorm()],
        [Conv2D(4, 3), ReLU(), BatchNorm()],
        [Conv2D(4, 3), Residual(BatchNorm())],
        [Conv2D(4, 3), MaxPool(2), BatchNorm()],
        [Conv2D(4, 3), BatchNorm(activation="relu"), Residual(ReLU()), BatchNorm()],
    ],
)
def test_what_cannot_be_folded_stays(layers):
    model = lively(Sequential(layers, input_shape=(4, 6, 6)))
    x = np.random.default_rng(6).standard_normal((3, 4, 6, 6))
    folded = model.folded()
    assert norms(folded) == 1
    np.testing.assert_allclose(folded.predict(x), model.predict(x), rtol=1e-4, atol=1e-5)


def test_a_folded_model_is_a_model(tmp_path):
    model = lively(Sequential(deepcopy(FOLDED["in a residual"]), input_shape=(4, 6, 6)))
    folded = model.folded()
    assert repr(folded.layers[1].body) == "Sequential([Conv2D(4, 3, padding=1)])"
    assert folded.multiply_adds == model.multiply_adds
    folded.save(tmp_path / "folded")
    x = np.ones((2, 4, 6, 6))
    loaded = Sequential.load(tmp_path / "folded")
    np.testing.assert_array_equal(loaded.predict(x), folded.predict(x))
    assert list(loaded.weights()) == [
        *("0.kernel", "0.bias", "1.body.0.kernel", "1.body.0.bias"),
        *("1.shortcut.0.kernel", "1.shortcut.0.bias"),
    ]
    with pytest.raises(ValueError, match="folded: the model has no parameters yet"):
        Sequential([Conv2D(4, 3), BatchNorm()]).folded()
