"""Arrays of other libraries: whatever speaks ``__array__`` or ``__dlpack__`` is an argument.

Every operation and every layer is called with the same values in other hands, and has to answer
with the same bits in a plain ndarray.
"""

import contextlib

import numpy as np
import pytest
from test_arguments import CALLS

import fastconv
from fastconv import (
    GELU,
    AdaptiveAvgPool,
    AvgPool,
    BatchNorm,
    Concat,
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
    Residual,
    SeparableConv2D,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    SpatialDropout,
    Tanh,
    Upsample,
    mean_squared_error,
)
from fastconv.arguments import as_array
from fastconv.filters import filter_image

torch = None
with contextlib.suppress(ImportError):
    import torch


class SpeaksArray:
    """NumPy's protocol, and nothing else."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype, copy=copy)


class SpeaksDLPack:
    """The protocol that array libraries share, and nothing else."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **keywords):
        return self.values.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class Tells(np.ndarray):
    """A subclass of ndarray, which results are not."""


OTHERS = {
    "__array__": SpeaksArray,
    "__dlpack__": SpeaksDLPack,
    "subclass": lambda values: values.view(Tells),
}
if torch is not None:
    OTHERS["torch"] = torch.from_numpy


@pytest.fixture(params=OTHERS)
def other(request):
    return OTHERS[request.param]


def parts(result) -> list:
    return list(result) if isinstance(result, tuple) else [result]


def assert_plain_and_same(got, expected) -> None:
    for one, twin in zip(parts(got), parts(expected), strict=True):
        assert type(one) is type(twin) and type(one) in (np.ndarray, float, type(None))
        np.testing.assert_array_equal(one, twin)


OPERATIONS = [name for name in CALLS if name not in ("empty", "output_shape")]  # no arrays


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations(operation, other):
    arguments = {
        name: other(value.copy()) if isinstance(value, np.ndarray) else value
        for name, value in CALLS[operation].items()
    }
    function = getattr(fastconv, operation)
    assert_plain_and_same(function(**arguments), function(**CALLS[operation]))


def test_overlap_is_found_in_other_hands(other):
    memory = np.zeros((2, 3, 4, 4), np.float32)
    with pytest.raises(ValueError, match=r"^out: expected memory apart from x's"):
        fastconv.conv2d(other(memory), np.ones((3, 3, 1, 1), np.float32), out=memory)


def test_nothing_is_copied(other):
    values = np.arange(4.0)
    assert np.shares_memory(as_array(other(values), "x"), values)


# Layers, each behind what makes its input, and the shape of one sample.
LAYERS = {
    "AdaptiveAvgPool": (lambda: AdaptiveAvgPool(2), (3, 6, 6)),
    "AvgPool": (lambda: AvgPool(2), (3, 6, 6)),
    "DepthwiseConv2D": (lambda: DepthwiseConv2D(3), (3, 6, 6)),
    "GlobalAvgPool": (GlobalAvgPool, (3, 6, 6)),
    "GlobalMaxPool": (GlobalMaxPool, (3, 6, 6)),
    "SeparableConv2D": (lambda: SeparableConv2D(2, 3, activation="relu"), (3, 6, 6)),
    "Concat": (lambda: Concat(Conv2D(2, 3), MaxPool(3, stride=1)), (3, 6, 6)),
    "Conv2D": (lambda: Conv2D(2, 3, activation="relu"), (3, 6, 6)),
    "Conv2D reflecting": (lambda: Conv2D(2, 3, padding=1, padding_mode="reflect"), (3, 6, 6)),
    "Conv2DTranspose": (lambda: Conv2DTranspose(2, 3, activation="relu"), (3, 6, 6)),
    "Pad2D": (lambda: Pad2D(1), (3, 6, 6)),
    "Upsample": (lambda: Upsample(2), (3, 6, 6)),
    "Dense": (lambda: Dense(4, activation="relu"), (5,)),
    "Dropout": (lambda: Dropout(0.5), (5,)),
    "Flatten": (Flatten, (2, 3, 4)),
    "MaxPool": (lambda: MaxPool(2), (3, 6, 6)),
    "ReLU": (ReLU, (5,)),
    "Residual": (lambda: Residual(Conv2D(3, 3, padding=1), activation="relu"), (3, 6, 6)),
    "Sequential": (lambda: Sequential([Conv2D(3, 3), ReLU()]), (3, 6, 6)),
    "Softmax": (Softmax, (5,)),
    "BatchNorm": (lambda: BatchNorm(activation="relu"), (3, 4, 4)),
    "GroupNorm": (lambda: GroupNorm(2), (4, 3, 3)),
    "LayerNorm": (LayerNorm, (5,)),
    "LeakyReLU": (LeakyReLU, (5,)),
    "GELU": (GELU, (5,)),
    "SiLU": (SiLU, (5,)),
    "Sigmoid": (Sigmoid, (5,)),
    "Tanh": (Tanh, (5,)),
    "SpatialDropout": (lambda: SpatialDropout(0.5), (3, 4, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, other):
    make, shape = LAYERS[name]
    x = np.random.default_rng(1).standard_normal((3, *shape)).astype(np.float32)
    results = []
    for convert in (lambda values: values, other):
        layer = make()
        layer.build(shape, np.random.default_rng(2), np.dtype(np.float32))
        y = layer.forward(convert(x))
        trained = layer.forward(convert(x), training=True)
        dy = (np.arange(y.size) % 5 - 2.0).astype(np.float32).reshape(y.shape)
        dx = layer.backward(convert(dy), need_dx=True)
        results.append((y, trained, dx, *(grad for *_, grad in layer.parameters())))
    assert_plain_and_same(results[1], results[0])


def test_training(other):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((20, 1, 6, 6)).astype(np.float32), np.arange(20) % 3
    outcomes = []
    for convert in (lambda values: values, other):
        model = Sequential([Conv2D(4, 3, activation="relu"), Flatten(), Dense(3)], seed=0)
        model.fit(convert(x), convert(y), validation_data=(convert(x), convert(y)), progress=False)
        optimizer = fastconv.Adam(0.01)
        model.train_batch(convert(x), convert(y), optimizer=optimizer)
        model.backward(convert(np.ones_like(model.forward(convert(x), training=True))))
        means = model.evaluate(convert(x), convert(y))
        outcomes.append((model.predict(convert(x)), means["loss"], means["accuracy"]))
    assert_plain_and_same(outcomes[1], outcomes[0])


def test_losses_and_filters(other):
    values, targets = np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]])
    expected = mean_squared_error(values, targets)
    assert_plain_and_same(mean_squared_error(other(values), other(targets)), expected)
    image, kernel = np.arange(12.0).reshape(3, 4), np.ones((2, 2))
    expected = filter_image(image, kernel)
    assert_plain_and_same(filter_image(other(image), other(kernel)), expected)


class OnAnotherDevice:
    def __dlpack__(self, **keywords):
        raise BufferError("expected a tensor on the CPU")

    def __dlpack_device__(self):
        return 2, 0


class Ragged:
    def __array__(self, dtype=None, copy=None):
        raise ValueError("rows differ in length")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("value", [OnAnotherDevice(), Ragged(), None, [[1, 2], [3]]], ids=str)
def test_what_is_no_array_is_named(operation, value):
    for name, given in CALLS[operation].items():
        if isinstance(given, np.ndarray) and (value is not None or name != "bias"):
            with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected an array"):
                getattr(fastconv, operation)(**{**CALLS[operation], name: value})


@pytest.mark.skipif(torch is None, reason="torch is not installed")
def test_a_tensor_that_records_its_gradient_says_so():
    tensor = torch.ones(2, 4, 7, 8, requires_grad=True)
    message = r"^x: expected an array, got Tensor: .*detach\(\)"
    with pytest.raises(TypeError, match=message):
        fastconv.relu(tensor)
    with pytest.raises(TypeError, match=message):
        Sequential([ReLU()]).predict(tensor)
    assert type(fastconv.relu(tensor.detach())) is np.ndarray
