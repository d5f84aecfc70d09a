"""Copies and pickles of public objects: the same, and nothing shared."""

import copy
import pickle

import numpy as np
import pytest

import fastconv as fc
from fastconv import augmentation, callbacks, losses, schedules

COPIES = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "deepcopy": copy.deepcopy,
}
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((24, 2, 8, 8)).astype(np.float32), np.arange(24) % 3


@pytest.fixture(params=COPIES)
def copied(request):
    return COPIES[request.param]


def model():
    return fc.Sequential(
        [
            fc.Conv2D(6, 3, padding="same", bias=False),
            fc.BatchNorm(activation="relu"),
            fc.Residual(fc.Sequential([fc.Conv2D(6, 3, padding=1), fc.SiLU()])),
            fc.Concat(fc.MaxPool(2), fc.AvgPool(2)),
            fc.SpatialDropout(0.2),
            fc.Flatten(),
            fc.Dropout(0.2),
            fc.Dense(3),
        ],
        seed=1,
    )


def numbers(net):
    return {name: value.tobytes() for name, value in net.weights().items()}


def test_a_copied_model_trains_as_the_model_does(copied):
    net, optimizer = model(), fc.Adam(0.01)
    net.fit(X, Y, optimizer=optimizer, progress=False)
    net.predict(X)  # fills what is kept between predictions
    net.metadata["mean"] = 0.5
    # Together, so that what they share they share again.
    other, other_optimizer = copied((net, optimizer))
    assert repr(other) == repr(net)
    assert other.metadata == net.metadata
    assert vars(other.history) == vars(net.history)
    before = numbers(net)
    assert numbers(other) == before
    first = net.fit(X, Y, epochs=2, optimizer=optimizer, progress=False)
    assert numbers(other) == before, "nothing is shared"
    second = other.fit(X, Y, epochs=2, optimizer=other_optimizer, progress=False)
    assert first.loss == second.loss
    assert numbers(other) == numbers(net)
    np.testing.assert_array_equal(net.predict(X), other.predict(X))


def test_a_model_copied_within_a_step(copied):
    """What the last forward pass keeps for the next backward does not travel."""
    net = model()
    net.forward(X, training=True)
    other = copied(net)
    with pytest.raises(RuntimeError, match="expected a forward"):
        other.backward(np.ones((24, 3), np.float32))
    net.backward(np.ones((24, 3), np.float32))


OBJECTS = {
    "sgd": lambda: fc.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: fc.Adam(0.001, clip_norm=1.0),
    "adamw": lambda: fc.AdamW(schedules.Warmup(3, schedules.Cosine(0.1, 10)), clip_norm=1.0),
    "rmsprop": lambda: fc.RMSprop(0.001, momentum=0.5, clip_value=1.0),
    "cosine": lambda: schedules.Cosine(0.1, 10),
    "step": lambda: schedules.Step(0.1, (3, 5)),
    "one cycle": lambda: schedules.OneCycle(0.1, 20),
    "warmup": lambda: schedules.Warmup(5, 0.1),
    "plateau": lambda: schedules.ReduceOnPlateau("val_loss"),
    "early stopping": lambda: callbacks.EarlyStopping("val_loss", patience=3),
    "checkpoint": lambda: callbacks.Checkpoint("c.npz", every=2),
    "csv": lambda: callbacks.CSVLog("log.csv"),
    "json": lambda: callbacks.JSONLog("log.jsonl"),
    "history": lambda: callbacks.History(loss=[1.0, 0.5]),
    "flip": lambda: augmentation.RandomFlip(),
    "shift": lambda: augmentation.RandomShift(2),
    "crop": lambda: augmentation.RandomCrop(6, padding=1),
    "normalize": lambda: augmentation.Normalize([0.5, 0.25], [1.0, 2.0]),
    "compose": lambda: augmentation.Compose(augmentation.RandomShift(2), augmentation.RandomFlip()),
    "cross-entropy": lambda: losses.SoftmaxCrossEntropy(0.1, np.ones(3), ignore_label=2),
    "binary": lambda: losses.BinaryCrossEntropy(np.ones(3)),
    "huber": lambda: losses.Huber(0.5),
}


def test_no_class_is_forgotten():
    made = {type(make()) for make in OBJECTS.values()}
    bases = {callbacks.Callback, callbacks.Monitor, fc.optim.Optimizer, fc.optim.Compiled}
    for module in (augmentation, callbacks, losses, schedules, fc.optim):
        for name, kind in vars(module).items():
            ours = isinstance(kind, type) and kind.__module__ == module.__name__
            if ours and name[0] != "_" and kind not in bases | {callbacks.Run}:
                assert kind in made, name


def everything(value):
    """An object as plain values, to compare."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: everything(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [everything(item) for item in value]
    if hasattr(value, "__dict__") and not callable(getattr(value, "__code__", None)):
        return type(value).__name__, everything(vars(value))
    return value


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_around_a_model(name, copied):
    original = OBJECTS[name]()
    other = copied(original)
    assert type(other) is type(original)
    assert other is not original
    assert everything(other) == everything(original)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_copied_optimizers_take_the_same_steps(name, copied):
    optimizer = OBJECTS[name]()
    value, grad = np.linspace(-1, 1, 12, dtype=np.float32), np.linspace(1, 3, 12, dtype=np.float32)
    optimizer.update([("a", value, grad)])
    other, twin = copied(optimizer), value.copy()
    for _ in range(3):
        optimizer.update([("a", value, grad)])
        other.update([("a", twin, grad)])
    np.testing.assert_array_equal(value, twin)


def test_every_public_layer(copied):
    """Before it is built: the constructor's arguments come along."""
    from fastconv.nn.files import LAYERS

    arguments = {
        "Conv2D": (4, 3), "Conv2DTranspose": (4, 3), "DepthwiseConv2D": (3,), "Dense": (4,),
        "SeparableConv2D": (4, 3), "Pad2D": (1,), "Upsample": (2,), "MaxPool": (2,),
        "AvgPool": (2,), "AdaptiveAvgPool": (2,), "Dropout": (0.5,), "SpatialDropout": (0.5,),
        "GroupNorm": (2,),
        "Residual": (fc.ReLU(),), "Concat": (fc.ReLU(), fc.GELU()),
    }  # fmt: skip
    for layer in LAYERS:
        original = layer(*arguments.get(layer.__name__, ()))
        other = copied(original)
        assert repr(other) == repr(original)
        assert type(other) is layer
