"""The model: shapes, seeds, memory order, parameters."""

import numpy as np
import pytest

from fastconv import Conv2D, Dense, Dropout, Flatten, MaxPool, ReLU, Sequential
from fastconv import functional as F
from fastconv.nn import Layer


def small(**options):
    layers = [
        Conv2D(4, 3, padding="same", activation="relu"),
        MaxPool(2),
        Dropout(0.2),
        Flatten(),
        Dense(5),
    ]
    return Sequential(layers, **options)


def images(*shape):
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def test_shapes_come_from_the_argument_or_from_the_first_batch():
    early, late = small(input_shape=(3, 8, 8), seed=0), small(seed=0)
    assert early.output_shape == (5,)
    assert late.input_shape is late.output_shape is None
    x = images(2, 3, 8, 8)
    np.testing.assert_array_equal(early.forward(x), late.forward(x))
    assert late.input_shape == (3, 8, 8)
    with pytest.raises(ValueError, match="built already"):
        late.build((3, 8, 8))


def test_the_same_seed_gives_the_same_bits():
    x, y = images(40, 3, 8, 8), np.arange(40) % 5
    models = [small(seed=seed) for seed in (5, np.random.default_rng(5), 6)]
    for model in models:
        model.fit(x, y, epochs=2, batch_size=16, progress=False)
    first, same, other = (model.predict(x) for model in models)
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


@pytest.mark.parametrize("channels", [1, 3])
def test_activations_are_channels_last_between_layers(channels):
    seen = []

    class Watch(Layer):
        def forward(self, x, *, training=False):
            seen.append(x)
            return x

    model = Sequential([Watch(), Conv2D(4, 3), Watch(), MaxPool(2), Watch(), ReLU(), Watch()])
    model.forward(images(2, channels, 8, 8))
    assert [x.strides[1] for x in seen] == [4] * 4


def test_the_memory_order_and_type_of_the_batch_do_not_matter():
    model = small(seed=0)
    x = np.random.default_rng(2).integers(0, 256, (3, 3, 8, 8), np.uint8)
    expected = model.forward(x.astype(np.float32))
    assert expected.dtype == np.float32
    for other in (
        x,
        x.astype(">f8"),
        F.as_channels_last(x.astype(np.float32)),
        x.tolist(),
        np.repeat(x, 2, axis=3)[..., ::2],
    ):
        np.testing.assert_array_equal(model.forward(other), expected)


def test_a_float64_model_computes_in_float64():
    model = small(input_shape=(3, 8, 8), seed=0, dtype="float64")
    y = model.forward(images(2, 3, 8, 8), training=True)
    model.backward(np.ones_like(y))
    assert y.dtype == np.float64
    assert {a.dtype for p in model.parameters() for a in p[1:]} == {np.dtype("float64")}
    single = small(input_shape=(3, 8, 8), seed=0)
    for (_, wide, _), (_, narrow, _) in zip(model.parameters(), single.parameters(), strict=True):
        np.testing.assert_array_equal(wide.astype(np.float32), narrow)


def test_parameters_are_the_arrays_in_use():
    model = small(input_shape=(3, 8, 8))
    assert [(name, value.shape, grad) for name, value, grad in model.parameters()] == [
        ("0.kernel", (4, 3, 3, 3), None),
        ("0.bias", (4,), None),
        ("4.kernel", (5, 64), None),
        ("4.bias", (5,), None),
    ]
    for _, value, _ in model.parameters():
        value[...] = 0
    assert not model.forward(images(2, 3, 8, 8)).any()


def test_input_gradient_on_request():
    model = small(input_shape=(3, 8, 8))
    y = model.forward(images(2, 3, 8, 8), training=True)
    assert model.backward(np.ones_like(y), need_dx=True).shape == (2, 3, 8, 8)


def test_summary_adds_up():
    model = small(input_shape=(3, 8, 8))
    text = model.summary()
    assert len({len(line) for line in text.splitlines()}) == 1
    conv, dense = 4 * 3 * 9 + 4, 5 * 64 + 5
    assert text.splitlines()[2].split()[-2:] == [str(conv), f"{8 * 8 * 4 * 3 * 9:,}"]
    assert text.splitlines()[-1].split() == ["total", str(conv + dense), f"{6912 + 320:,}"]
    with pytest.raises(ValueError, match="no shapes yet"):
        small().summary()


def test_layers_moved_to_another_model_keep_what_they_learned():
    trained = small(input_shape=(3, 8, 8))
    kernel = trained.layers[0].params["kernel"]
    other = Sequential([*trained.layers[:-1], Dense(2)], input_shape=(3, 8, 8))
    assert other.layers[0].params["kernel"] is kernel
    with pytest.raises(ValueError, match=r"parameter 'kernel': expected shape \(4, 1, 3, 3\)"):
        Sequential(trained.layers[:1], input_shape=(1, 8, 8))


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Sequential([]), ValueError, "at least one"),
        (lambda: Sequential([ReLU()] * 2), ValueError, "each layer object only once"),
        (lambda: Sequential([ReLU]), TypeError, "layers: expected layers, got <class"),
        (lambda: small(dtype="float16"), TypeError, "dtype: expected float32 or float64"),
        (lambda: small(input_shape=(3, 8, 0)), ValueError, "input_shape: expected a positive"),
        (lambda: small(input_shape=(3, 8.5, 8)), ValueError, "input_shape: expected a positive"),
        (lambda: small().forward(np.zeros(3)), ValueError, r"x: expected shape \(N, ...\)"),
        (
            lambda: small(input_shape=(3, 8, 8)).forward(np.zeros((3, 8, 8))),
            ValueError,
            r"x: expected shape \(N, 3, 8, 8\), got \(3, 8, 8\)",
        ),
        (lambda: small().forward(np.full((1, 3, 8, 8), "1")), TypeError, "x: expected an array"),
        (lambda: small().forward(np.ones((1, 3, 8, 8)) * 1j), TypeError, "got complex128"),
    ],
)
def test_mistakes_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_layer_with_parameters_of_another_type_is_refused():
    class Scale(Layer):
        def build(self, input_shape, rng, dtype):
            self.add_parameter("scale", (), lambda: np.ones(()))
            return input_shape

    with pytest.raises(ValueError, match=r"Scale\(\): 0.scale: expected a C-"):
        Sequential([Scale()], input_shape=(3,))
