"""Normalisation, activations and spatial dropout as layers: what they keep and promise."""

import numpy as np
import pytest
from test_layer_gradients import difference

from fastconv import (
    GELU,
    SGD,
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    GlobalAvgPool,
    GroupNorm,
    LayerNorm,
    LeakyReLU,
    MaxPool,
    Sequential,
    Sigmoid,
    SiLU,
    SpatialDropout,
    Tanh,
)
from fastconv import functional as F

FLOAT32 = np.dtype("float32")


def built(layer, shape, dtype=FLOAT32):
    layer.build(shape, np.random.default_rng(0), dtype)
    return layer


def images(*shape):
    return 2 * np.random.default_rng(1).standard_normal(shape, dtype=np.float32) + 3


@pytest.mark.parametrize(
    "layer, text",
    [
        (BatchNorm(), "BatchNorm()"),
        (
            BatchNorm(momentum=0.01, epsilon=1e-3, activation="relu"),
            "BatchNorm(momentum=0.01, epsilon=0.001, activation='relu')",
        ),
        (GroupNorm(8, epsilon=0), "GroupNorm(8, epsilon=0.0)"),
        (LayerNorm(activation="relu"), "LayerNorm(activation='relu')"),
        (LeakyReLU(), "LeakyReLU()"),
        (LeakyReLU(0.2), "LeakyReLU(slope=0.2)"),
        (GELU(approximate="tanh"), "GELU(approximate='tanh')"),
        (SiLU(), "SiLU()"),
        (Sigmoid(), "Sigmoid()"),
        (Tanh(), "Tanh()"),
        (SpatialDropout(0.5), "SpatialDropout(0.5)"),
    ],
)
def test_repr_and_config_rebuild_the_layer(layer, text):
    assert repr(layer) == text
    assert repr(type(layer)(**layer.config())) == text


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: BatchNorm(momentum=1.5), r"momentum: expected a number in \[0, 1\], got 1.5"),
        (lambda: BatchNorm(momentum=float("nan")), "momentum: expected"),
        (lambda: BatchNorm(epsilon=-1), "epsilon: expected a finite number of at least 0, got -1"),
        (lambda: GroupNorm(2, epsilon=float("inf")), "epsilon: expected a finite"),
        (lambda: BatchNorm(activation="tanh"), "activation: expected None or 'relu'"),
        (lambda: GroupNorm(0), "groups: expected a positive integer, got 0"),
        (lambda: built(GroupNorm(3), (4, 5, 5)), "groups: expected a divisor of the input's 4"),
        (lambda: built(BatchNorm(), (4, 5)), r"BatchNorm: expected .* got \(N, 4, 5\)"),
        (lambda: LeakyReLU(-0.1), "slope: expected a number of at least 0, got -0.1"),
        (lambda: GELU("erf"), "approximate: expected one of 'none', 'tanh', got 'erf'"),
        (lambda: SpatialDropout(1), "rate: expected a number"),
        (lambda: built(SpatialDropout(0.1), (4,)), r"SpatialDropout: expected an input of shape"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- batch normalisation ---------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (6,)])
def test_batch_norm_gradients_are_finite_differences(shape, activation):
    """Through the batch's own mean and variance, which move with x."""
    layer = built(BatchNorm(epsilon=0.1, activation=activation), shape, np.dtype("float64"))
    rng = np.random.default_rng(7)
    for value in layer.params.values():
        value[...] = rng.standard_normal(value.shape)
    x, dy = rng.standard_normal((2, 4, *shape))
    layer.forward(x, training=True)
    dx = layer.backward(dy)
    grads = dict(layer.grads)

    def loss():
        return float((layer.forward(x, training=True) * dy).sum())

    np.testing.assert_allclose(dx, difference(loss, x), rtol=1e-6, atol=1e-7)
    for name, value in layer.params.items():
        np.testing.assert_allclose(grads[name], difference(loss, value), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("momentum", [0, 0.1, 1])
@pytest.mark.parametrize("shape", [(3, 4, 5), (6,)])
def test_running_averages_are_torchs(momentum, shape):
    torch = pytest.importorskip("torch")
    kind = torch.nn.BatchNorm2d if len(shape) == 3 else torch.nn.BatchNorm1d
    theirs = kind(shape[0], momentum=momentum)
    ours = built(BatchNorm(momentum=momentum), shape)
    for n in (5, 2, 8):
        x = images(n, *shape) * n
        y, ty = ours.forward(x, training=True), theirs(torch.tensor(x))
        np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.state["mean"], theirs.running_mean.numpy(), rtol=1e-5)
    np.testing.assert_allclose(ours.state["variance"], theirs.running_var.numpy(), rtol=1e-5)
    theirs.eval()
    x = images(3, *shape)
    np.testing.assert_allclose(
        ours.forward(x), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5
    )


def test_outside_training_nothing_moves_and_samples_stand_alone():
    layer = built(BatchNorm(), (3, 4, 5))
    x = images(6, 3, 4, 5)
    layer.forward(x, training=True)
    before = {name: value.copy() for name, value in layer.state.items()}
    y = layer.forward(x)
    np.testing.assert_array_equal(layer.forward(x[2:3])[0], y[2])
    for name, value in before.items():
        np.testing.assert_array_equal(layer.state[name], value)


def test_a_single_value_per_channel_has_no_variance_to_learn_from():
    layer = built(BatchNorm(momentum=0.5), (3,))
    y = layer.forward(np.array([[2.0, 4.0, 6.0]], np.float32), training=True)
    np.testing.assert_array_equal(y, [[0, 0, 0]])
    np.testing.assert_array_equal(layer.state["mean"], [1, 2, 3])
    np.testing.assert_array_equal(layer.state["variance"], [1, 1, 1])


def network():
    return Sequential(
        [
            Conv2D(6, 3, bias=False),
            BatchNorm(activation="relu"),
            MaxPool(2),
            Conv2D(8, 3, bias=False),
            GroupNorm(2),
            LeakyReLU(0.1),
            SpatialDropout(0.2),
            GlobalAvgPool(),
            LayerNorm(),
            GELU(approximate="tanh"),
            Dense(3),
        ],
        input_shape=(2, 10, 10),
        seed=0,
    )


def test_state_is_saved_but_not_trained(tmp_path):
    model = network()
    x, labels = images(32, 2, 10, 10), np.arange(32) % 3
    names = {name for name, *_ in model.parameters()}
    assert {"1.gamma", "1.beta"} <= names and not {"1.mean", "1.variance"} & names
    model.fit(x, labels, epochs=2, batch_size=8, optimizer=SGD(0.05), progress=False)
    state = model.layers[1].state
    assert (state["mean"] != 0).all() and (state["variance"] != 1).all()
    model.save(tmp_path / "model")
    copy = Sequential.load(tmp_path / "model")
    assert repr(copy) == repr(model)
    for name, value in state.items():
        np.testing.assert_array_equal(copy.layers[1].state[name], value)
    np.testing.assert_array_equal(copy.predict(x), model.predict(x))


def test_the_summary_tells_state_from_parameters():
    model = network()
    *_, total, besides = model.summary().splitlines()
    sizes = sum(value.size for _, value, _ in model.parameters())
    assert total.split()[:2] == ["total", f"{sizes:,}"]
    assert besides.split() == ["state,", "not", "trained", "12", "0"]
    without = Sequential([Flatten()], input_shape=(2, 2, 2)).summary()
    assert "state" not in without


@pytest.mark.parametrize("norm", [BatchNorm(activation="relu"), GroupNorm(5, activation="relu")])
def test_a_pooling_masks_for_the_relu_before_it(norm, monkeypatch):
    """The same bits as when each layer does its own work."""
    layers = [Conv2D(5, 3), norm, MaxPool(2), Conv2D(3, 2)]
    model = Sequential(layers, input_shape=(2, 15, 14), seed=0)
    norm.params["beta"][...] = np.linspace(-0.5, 0.5, 5)
    x = images(3, 2, 15, 14)
    y = model.forward(x, training=True)
    dy = np.cos(np.arange(y.size, dtype="f")).reshape(y.shape)

    def gradients():
        dx = model.backward(dy, need_dx=True)
        return [dx, *(parameter.grad for parameter in model.parameters())]

    assert norm.saved[-1] is None
    together = gradients()
    monkeypatch.setattr(MaxPool, "takes_relu", False)
    assert np.array_equal(model.forward(x, training=True), y)
    assert norm.saved[-1] == "relu"
    for a, b in zip(together, gradients(), strict=True):
        assert np.array_equal(a, b) and np.abs(a).max() > 0


@pytest.mark.parametrize(
    "layer, shape",
    [
        (BatchNorm(activation="relu"), (4, 3, 3)),
        (GroupNorm(2), (4, 3, 3)),
        (LayerNorm(), (6,)),
        *((layer, (2, 3, 3)) for layer in (LeakyReLU(), GELU(), SiLU(), Sigmoid(), Tanh())),
        (SpatialDropout(0.5), (4, 3, 3)),
    ],
)
def test_a_layer_keeps_only_what_the_next_backward_needs(layer, shape):
    built(layer, shape)
    x = images(2, *shape)
    layer.forward(x)
    assert layer.saved is None, "kept something outside training"
    y = layer.forward(x, training=True)
    layer.forward(images(7, *shape))
    assert layer.backward(np.ones_like(y), need_dx=True).shape == x.shape
    assert layer.saved is None, "kept a batch after its step"
    layer.forward(x, training=True)
    assert layer.backward(np.ones_like(y), need_dx=False) is None


def test_layers_answer_in_the_order_they_are_given():
    for layer in (BatchNorm(), GroupNorm(2), LayerNorm(), SiLU(), Tanh(), SpatialDropout(0.5)):
        built(layer, (4, 5, 6))
        for x in (images(2, 4, 5, 6), F.as_channels_last(images(2, 4, 5, 6))):
            y = layer.forward(x, training=True)
            assert y.strides == layer.backward(np.ones_like(x)).strides == x.strides


def test_spatial_dropout_drops_whole_channels():
    layer = built(SpatialDropout(0.25), (50, 3, 4))
    x = np.ones((40, 50, 3, 4), np.float32)
    y = layer.forward(x, training=True)
    assert y.dtype == np.float32
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (y == y[:, :, :1, :1]).all()
    assert y.mean() == pytest.approx(1, abs=0.05)
    np.testing.assert_array_equal(layer.backward(x), y)
    assert layer.forward(x) is x
