"""Layers made of layers: what they compute, their gradients, names, sums, files and copies."""

import copy
import pickle

import numpy as np
import pytest
from test_layer_gradients import difference

from fastconv import (
    Concat,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    ReLU,
    Residual,
    Sequential,
)
from fastconv import functional as F
from fastconv.nn import Layer
from fastconv.nn.containers import Container


class Counter(Layer):
    """Adds a learned number, and counts its training batches as state."""

    def build(self, input_shape, rng, dtype):
        self.add_parameter("shift", (), lambda: np.full((), rng.uniform(), dtype))
        self.add_state("batches", (1,), lambda: np.zeros(1, dtype))
        return input_shape

    def forward(self, x, *, training=False):
        if training:
            self.state["batches"] += 1
            self.saved = ()
        return x + self.params["shift"]

    def backward(self, dy, *, need_dx=True):
        self.take_saved()
        self.grads["shift"] = dy.sum()
        return dy if need_dx else None


def nested(**options):
    """Every container in another one, with ReLUs that may and may not change hands."""
    return Sequential(
        [
            Conv2D(4, 3, padding=1, activation="relu"),
            Residual(
                Sequential([Conv2D(4, 3, padding=1, activation="relu"), Conv2D(4, 1)]),
                activation="relu",
            ),
            Sequential([MaxPool(2), Counter(), ReLU()]),
            Concat(
                Conv2D(3, 1, activation="relu"),
                Sequential([Conv2D(2, 1), Residual(Conv2D(2, 3, padding=1))]),
                MaxPool(3, stride=1, padding=1),
            ),
            Residual(Conv2D(5, 2, stride=2), Sequential([Conv2D(5, 1), MaxPool(2)])),
            Flatten(),
            Residual(Dense(45, activation="relu")),
            Concat(Dense(3), Dense(2)),
        ],
        **options,
    )


SHAPE = (2, 12, 12)
NAMES = [
    *("0.kernel", "0.bias", "1.body.0.kernel", "1.body.0.bias", "1.body.1.kernel"),
    *("1.body.1.bias", "2.1.shift", "2.1.batches", "3.0.kernel", "3.0.bias", "3.1.0.kernel"),
    *("3.1.0.bias", "3.1.1.body.kernel", "3.1.1.body.bias", "4.body.kernel", "4.body.bias"),
    *("4.shortcut.0.kernel", "4.shortcut.0.bias", "6.body.kernel", "6.body.bias"),
    *("7.0.kernel", "7.0.bias", "7.1.kernel", "7.1.bias"),
]


def images(*shape, dtype=np.float32):
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def built(layer, shape, dtype="float64"):
    layer.build(shape, np.random.default_rng(0), np.dtype(dtype))
    return layer


def test_residual_is_the_sum():
    body, shortcut = Conv2D(6, 3, stride=2, padding=1), Conv2D(6, 1, stride=2)
    block = built(Residual(body, shortcut, activation="relu"), (4, 9, 9))
    x = images(2, 4, 9, 9, dtype=np.float64)
    expected = np.maximum(body.forward(x) + shortcut.forward(x), 0)
    np.testing.assert_array_equal(block.forward(x), expected)
    plain = built(Residual(Conv2D(4, 3, padding=1)), (4, 9, 9))
    np.testing.assert_array_equal(plain.forward(x), plain.body.forward(x) + x)


def test_concat_is_channel_after_channel():
    block = built(Concat(Conv2D(2, 1), MaxPool(3, stride=1, padding=1), Conv2D(3, 1)), (4, 5, 5))
    for x in (images(2, 4, 5, 5, dtype=np.float64), images(0, 4, 5, 5, dtype=np.float64)):
        parts = [branch.forward(x) for branch in block.branches]
        y = block.forward(x)
        assert y.shape == (len(x), 9, 5, 5)
        for part, slices in zip(parts, (y[:, :2], y[:, 2:6], y[:, 6:]), strict=True):
            np.testing.assert_array_equal(slices, part)


def test_a_chain_in_a_chain_computes_what_one_chain_does():
    def layers():
        return [Conv2D(4, 3, activation="relu"), MaxPool(2), Dropout(0.5), Flatten(), Dense(3)]

    a, b, *rest = layers()
    flat = Sequential(layers(), input_shape=(1, 8, 8), seed=3)
    deep = Sequential([Sequential([a, b]), Sequential(rest)], input_shape=(1, 8, 8), seed=3)
    x, y = images(40, 1, 8, 8), np.arange(40) % 3
    for model in (flat, deep):
        model.fit(x, y, epochs=2, batch_size=16, progress=False)
    np.testing.assert_array_equal(flat.predict(x), deep.predict(x))
    assert flat.output_shape == deep.output_shape == deep.layers[1].output_shape == (3,)
    assert flat.multiply_adds == deep.multiply_adds > 0


def test_activations_are_channels_last_in_containers():
    seen = []

    class Watch(Layer):
        def forward(self, x, *, training=False):
            seen.append(x)
            return x

        def backward(self, dy, *, need_dx=True):
            return dy

    inner = Sequential([Watch(), Conv2D(4, 1, activation="relu"), Watch()])
    model = Sequential(
        [Conv2D(4, 3), Watch(), Residual(inner, activation="relu"), Watch(),
         Concat(Conv2D(3, 1), Watch()), Watch(), Conv2D(2, 1)]
    )  # fmt: skip
    model.forward(images(2, 3, 8, 8))
    assert len(seen) == 6
    assert [x.strides[1] for x in seen] == [4] * 6


def test_gradients_are_finite_differences():
    model = nested(input_shape=SHAPE, seed=3, dtype="float64")
    rng = np.random.default_rng(4)
    for _, value, _ in model.parameters():
        value += 0.1 * rng.standard_normal(value.shape)
    x, labels = rng.standard_normal((3, *SHAPE)), np.array([0, 2, 1])
    _, dlogits = F.softmax_cross_entropy(model.forward(x, training=True), labels)
    dx = model.backward(dlogits, need_dx=True)

    def loss():
        return F.softmax_cross_entropy(model.forward(x), labels)[0]

    np.testing.assert_allclose(dx, difference(loss, x), rtol=1e-6, atol=1e-8)
    for name, value, grad in model.parameters():
        assert np.abs(grad).max() > 1e-6, name
        np.testing.assert_allclose(
            grad, difference(loss, value), rtol=1e-6, atol=1e-8, err_msg=name
        )
    assert all(layer.saved is None for _, layer in model.walk())


@pytest.mark.parametrize(
    "after", [Residual(Conv2D(4, 1)), Concat(Conv2D(2, 1), Conv2D(1, 1)), Sequential([MaxPool(2)])]
)
@pytest.mark.parametrize("before", [
    Conv2D(4, 3, activation="relu"),
    Residual(Conv2D(4, 1), activation="relu"),
    Sequential([Conv2D(4, 1), ReLU()]),
])  # fmt: skip
def test_relu_masks_change_hands_across_containers(before, after, monkeypatch):
    """The same bits as when each layer does its own work; the containers do take part."""
    before, after = copy.deepcopy(before), copy.deepcopy(after)
    model = Sequential([Conv2D(4, 1), before, after], input_shape=(2, 9, 9), seed=0)
    x = images(3, 2, 9, 9)
    taken = []
    for kind in (Residual, Concat, MaxPool):  # each notes that it was asked, then does it
        own = kind.take_relu
        monkeypatch.setattr(
            kind, "take_relu", lambda self, own=own: (taken.append(self), own(self))
        )
    y = model.forward(x, training=True)
    assert after in taken or after.layers[0] in taken
    dy = np.cos(np.arange(y.size, dtype="f")).reshape(y.shape)
    together = [model.backward(dy, need_dx=True), *(p.grad for p in model.parameters())]
    after.takes_relu = False
    taken.clear()
    assert np.array_equal(model.forward(x, training=True), y)
    assert not taken
    apart = [model.backward(dy, need_dx=True), *(p.grad for p in model.parameters())]
    for a, b in zip(together, apart, strict=True):
        assert np.array_equal(a, b) and np.abs(a).max() > 0


def test_a_gradient_that_branches_share_is_not_written_to():
    """A body without work of its own hands back the very gradient it was given."""

    class Same(Layer):
        def forward(self, x, *, training=False):
            return x

        def backward(self, dy, *, need_dx=True):
            return dy

    dy = images(2, 4)
    for block, times in (
        (Residual(Same()), 2),
        (Residual(Same(), Same()), 2),
        (Residual(Residual(Same()), Residual(Same())), 4),
    ):
        built(block, (4,))
        block.forward(dy, training=True)
        before = dy.copy()
        np.testing.assert_allclose(block.backward(dy), times * dy)
        np.testing.assert_array_equal(dy, before)
    block = built(Concat(Same(), Same()), (2,))
    block.forward(dy[:, :2], training=True)
    block.take_relu()
    np.testing.assert_array_equal(
        block.backward(dy), np.where(dy[:, :2] > 0, dy[:, :2] + dy[:, 2:], 0)
    )
    np.testing.assert_array_equal(dy, before)


def test_no_work_for_gradients_nobody_asks_for(monkeypatch):
    def unwanted(*arguments, **options):
        raise AssertionError("nobody asked for this gradient")

    model = Sequential(
        [
            Sequential([ReLU(), MaxPool(2)]),
            Residual(Conv2D(3, 1), Sequential([MaxPool(1), Conv2D(3, 1)])),
        ],
        input_shape=(2, 8, 8),
    )
    y = model.forward(images(2, 2, 8, 8), training=True)
    monkeypatch.setattr(F, "conv2d_backward_input", unwanted)
    monkeypatch.setattr(F, "relu_backward", unwanted)
    assert model.backward(np.ones_like(y)) is None
    assert all(grad is not None for _, _, grad in model.parameters())


def test_names_are_paths():
    model = nested(input_shape=SHAPE)
    assert list(model.weights()) == NAMES
    names = [name for name, *_ in model.parameters()]
    assert names == [name for name in NAMES if name != "2.1.batches"]
    names = [name for name, *_ in model.layers[1].parameters()]
    assert names == ["body.0.kernel", "body.0.bias", "body.1.kernel", "body.1.bias"]


def test_sums_add_up():
    model = nested(input_shape=SHAPE)
    count = sum(value.size for _, value, _ in model.parameters())
    *lines, state = model.summary().splitlines()
    kept = sum(value.size for _, layer in model.walk() for value in layer.state.values())
    assert state.split() == ["state,", "not", "trained", f"{kept:,}", "0"]
    assert lines[-1].split() == ["total", f"{count:,}", f"{model.multiply_adds:,}"]
    sizes, work = (
        sum(int(line.split()[column].replace(",", "")) for line in lines[2:-2])
        for column in (-2, -1)
    )
    assert (sizes, work) == (count, model.multiply_adds)
    leaves = [layer for _, layer in model.walk() if not isinstance(layer, Container)]
    assert model.multiply_adds == sum(layer.multiply_adds for layer in leaves)
    assert [line.split("  (")[0].rstrip() for line in lines[3:7]] == [
        "Residual, relu",
        "  body: Sequential",
        "    Conv2D(4, 3, padding=1, activation='relu')",
        "    Conv2D(4, 1)",
    ]
    assert len({len(line) for line in lines}) == 1


def test_a_second_build_counts_again():
    model = nested(input_shape=SHAPE)
    assert Sequential([model], input_shape=SHAPE).multiply_adds == model.multiply_adds


def test_repr_rebuilds_the_block():
    block = Residual(Concat(Conv2D(2, 1), ReLU()), Sequential([Conv2D(4, 1)]), activation="relu")
    assert repr(block) == (
        "Residual(Concat(Conv2D(2, 1), ReLU()), shortcut=Sequential([Conv2D(4, 1)]), "
        "activation='relu')"
    )
    assert repr(Residual.from_config(block.config())) == repr(block)
    assert repr(Concat.from_config(block.body.config())) == repr(block.body)


def test_a_file_holds_containers_and_state(tmp_path):
    model = nested(input_shape=SHAPE, seed=0)
    x, y = images(8, *SHAPE), np.arange(8) % 5
    model.fit(x, y, epochs=3, batch_size=4, progress=False)
    model.save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:
        assert set(file) == {"model", *NAMES}
        assert file["2.1.batches"] == 6
    loaded = Sequential.load(tmp_path / "model.npz", layers=[Counter])
    assert repr(loaded) == repr(model)
    assert loaded.summary() == model.summary()
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    for name, value in model.weights().items():
        np.testing.assert_array_equal(loaded.weights()[name], value)
    with pytest.raises(ValueError, match="unknown layer 'Counter'"):
        Sequential.load(tmp_path / "model.npz")


def test_a_file_must_bring_all_weights_of_nested_layers(tmp_path):
    path = tmp_path / "model.npz"
    nested(input_shape=SHAPE, seed=0).save(path)
    with np.load(path) as file:
        entries = dict(file)
    for name, change, message in (
        ("3.1.1.body.bias", None, "Conv2D: parameter 'bias': missing in the file"),
        ("2.1.batches", None, "Counter: state 'batches': missing in the file"),
        ("2.1.batches", np.zeros(2, "f"), r"state 'batches': expected shape \(1,\), got \(2,\)"),
        ("2.1.batches", np.zeros(1), r"batches: expected a C-contiguous .* of float32"),
        ("3.1.1.body.scale", np.zeros(1, "f"), "has no parameter 'scale'"),
        ("3.1.1.scale", np.zeros(1, "f"), "has no parameter 'scale'"),
        ("3.7.scale", np.zeros(1, "f"), "has no parameter '7.scale'"),
    ):
        changed = {key: value for key, value in entries.items() if key != name}
        if change is not None:
            changed[name] = change
        np.savez(path, **changed)
        with pytest.raises(ValueError, match=message):
            Sequential.load(path, layers=[Counter])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_go_on_by_themselves(again):
    model = Sequential([nested(), Dropout(0.5), Dense(3)], seed=5)
    assert again(model).input_shape is None
    x, y = images(8, *SHAPE), np.arange(8) % 3
    model.fit(x, y, batch_size=4, progress=False)
    model.forward(x, training=True)
    other = again(model)
    assert all(layer.saved is None and not layer.grads for _, layer in other.walk())
    assert model.layers[0].saved is None and model.layers[2].saved is not None
    for name, value in other.weights().items():
        np.testing.assert_array_equal(value, model.weights()[name])
    assert other.layers[1]._rng is other.rng is not model.rng
    before = model.predict(x)
    other.fit(x, y, batch_size=4, progress=False)
    np.testing.assert_array_equal(model.predict(x), before)
    model.fit(x, y, batch_size=4, progress=False)
    np.testing.assert_array_equal(model.predict(x), other.predict(x))
    assert len(pickle.dumps(model)) < 3 * sum(value.nbytes for value in model.weights().values())


def test_weights_are_copies_and_go_back_whole_or_not_at_all():
    model = nested(input_shape=SHAPE, seed=0)
    x = images(4, *SHAPE)
    kept, expected = model.weights(), model.predict(x)
    arrays = dict(model.named_arrays())
    for value in arrays.values():
        value += 1
    assert np.abs(model.predict(x) - expected).max() > 0.1
    model.set_weights(kept)
    np.testing.assert_array_equal(model.predict(x), expected)
    assert all(value is arrays[name] for name, value in model.named_arrays())
    changed = {name: np.float64(value) + 1 for name, value in kept.items()}
    for name, value, error, message in (
        ("0.kernel", None, ValueError, "weights: missing names: 0.kernel"),
        ("0.scale", np.zeros(3), ValueError, "weights: unknown names: 0.scale"),
        ("7.1.bias", np.zeros(3), ValueError, r"'7.1.bias': expected shape \(2,\), got \(3,\)"),
        ("7.1.bias", ["a", "b"], TypeError, "'7.1.bias': expected real numbers"),
    ):
        wrong = {key: item for key, item in changed.items() if key != name}
        if value is not None:
            wrong[name] = value
        with pytest.raises(error, match=message):
            model.set_weights(wrong)
    np.testing.assert_array_equal(model.predict(x), expected)
    with pytest.raises(ValueError, match="the model has no weights yet"):
        nested().set_weights(kept)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Residual(3), TypeError, "Residual: body: expected a Layer, got 3"),
        (lambda: Residual(ReLU(), "x"), TypeError, "Residual: shortcut: expected a Layer"),
        (lambda: Residual(ReLU(), activation="tanh"), ValueError, "activation: expected None or"),
        (lambda: Concat(), ValueError, "Concat: expected at least one branch"),
        (lambda: Concat([ReLU()]), TypeError, r"Concat: 0: expected a Layer, got \[ReLU"),
        (lambda: Concat(*[ReLU()] * 2), ValueError, "each layer object only once"),
        (
            lambda: Sequential([Residual(layer := ReLU()), Sequential([layer])]),
            ValueError,
            "each layer object only once",
        ),
        (
            lambda: built(Residual(Conv2D(4, 3)), (4, 9, 9)),
            ValueError,
            r"Residual: expected body and shortcut .* got \(4, 7, 7\) beside \(4, 9, 9\)",
        ),
        (
            lambda: built(Concat(Conv2D(4, 3), Conv2D(4, 1)), (4, 9, 9)),
            ValueError,
            r"Concat: .* differ in channels only, got \(4, 7, 7\), \(4, 9, 9\)",
        ),
        (
            lambda: built(Concat(Conv2D(4, 3), Flatten()), (4, 9, 9)),
            ValueError,
            r"Concat: .* differ in channels only",
        ),
    ],
)
def test_mistakes_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
