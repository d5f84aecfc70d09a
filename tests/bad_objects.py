"""Wrong arguments for what is made and then used: layers, models, optimizers, schedules and so on.

A mistake may show when the object is made, or only when it meets an array: a case does both.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from bad_values import Case, array_cases, value_cases
from calls import X

import fastconv
from fastconv import augmentation, callbacks, filters, losses, metrics, optim, schedules, training

DIGITS = np.linspace(-1, 1, 6 * 4 * 7 * 8).astype(np.float32).reshape(6, 4, 7, 8)
LABELS = np.array([0, 1, 2, 0, 1, 2])
SCORES = np.eye(6, 3, dtype=np.float32)

# Arguments of what layers and models call in their turn.
INSIDE = ("kernel", "x", "size", "labels", "targets", "logits", "outputs", "sample_weights")

LAYERS: dict[str, dict[str, Any]] = {
    "Conv2D": {"filters": 4, "kernel_size": 3},
    "Conv2DTranspose": {"filters": 4, "kernel_size": 3},
    "DepthwiseConv2D": {"kernel_size": 3},
    "SeparableConv2D": {"filters": 4, "kernel_size": 3},
    "MaxPool": {"size": 2},
    "AvgPool": {"size": 2},
    "AdaptiveAvgPool": {"output_size": 2},
    "Pad2D": {"padding": 1},
    "Upsample": {"scale": 2},
    "BatchNorm": {},
    "GroupNorm": {"groups": 2},
    "LayerNorm": {},
    "Dropout": {"rate": 0.5},
    "SpatialDropout": {"rate": 0.5},
    "LeakyReLU": {},
    "GELU": {},
    "Residual": {"body": fastconv.ReLU()},
}


def trained(layer: fastconv.Layer) -> Any:
    model = fastconv.Sequential([layer], input_shape=X.shape[1:], seed=0)
    y = model.forward(X, training=True)
    dx = model.backward(y, need_dx=True)
    return model.predict(X), dx


def layers() -> Iterator[Case]:
    """Every parameter of every layer, whose model then trains and predicts."""
    for name, valid in LAYERS.items():
        yield from value_cases(name, getattr(fastconv, name), valid, trained, INSIDE)

    def dense(**arguments):
        model = fastconv.Sequential([fastconv.Dense(**arguments)], input_shape=(3,))
        return model.backward(model.forward(SCORES, training=True))

    dense.__signature__ = inspect.signature(fastconv.Dense)
    yield from value_cases("Dense", dense, {"units": 4})


def stepped(optimizer: optim.Optimizer) -> np.ndarray:
    value = np.ones((2, 3), np.float32)
    for _ in range(2):
        optimizer.update([("value", value, np.ones((2, 3), np.float32))])
    return value


def augmented(transform: Callable) -> np.ndarray:
    return transform(X, np.random.default_rng(0))


def model() -> fastconv.Sequential:
    layers = [fastconv.GlobalAvgPool(), fastconv.Dense(3)]
    return fastconv.Sequential(layers, input_shape=(4, 7, 8), seed=0)


def fresh(method: str) -> Callable[..., Any]:
    """A method of a new model, with its signature."""

    def call(**arguments):
        return getattr(model(), method)(**arguments)

    signature = inspect.signature(getattr(fastconv.Sequential, method))
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    call.__signature__ = signature.replace(parameters=parameters)
    return call


def trains() -> Iterator[Case]:
    """What a training is made of."""
    for name in ("SGD", "Adam", "AdamW", "RMSprop"):
        yield from value_cases(name, getattr(fastconv, name), {}, stepped)
    for name, valid in (
        ("Step", {"rate": 0.1, "every": 2}),
        ("Cosine", {"rate": 0.1, "steps": 4}),
        ("Warmup", {"steps": 2, "then": 0.1}),
        ("OneCycle", {"peak": 0.1, "steps": 11}),
    ):
        yield from value_cases(
            name, getattr(schedules, name), valid, lambda made: [made(step) for step in range(5)]
        )
    yield from value_cases(
        "ReduceOnPlateau", schedules.ReduceOnPlateau, {}, lambda made: fit(callbacks=[made])
    )
    yield from value_cases(
        "EarlyStopping", callbacks.EarlyStopping, {}, lambda made: fit(callbacks=[made])
    )
    for name, valid in (
        ("RandomFlip", {}),
        ("RandomCrop", {}),
        ("RandomShift", {"pixels": 1}),
        ("Normalize", {"mean": 0.5, "std": 0.5}),
    ):
        yield from value_cases(name, getattr(augmentation, name), valid, augmented, INSIDE)
    for name in ("SoftmaxCrossEntropy", "BinaryCrossEntropy", "Huber"):
        targets = LABELS if name == "SoftmaxCrossEntropy" else SCORES
        yield from value_cases(
            name, getattr(losses, name), {}, lambda made, t=targets: made(SCORES, t), INSIDE
        )
    yield from value_cases("fit", fresh("fit"), FIT, also=INSIDE)
    yield from array_cases("fit", fresh("fit"), FIT, INSIDE, ("longdouble",))
    for method in ("evaluate", "predict", "train_batch", "forward"):
        valid = {"x": DIGITS} if method in ("predict", "forward") else {"x": DIGITS, "y": LABELS}
        if method == "train_batch":
            valid["optimizer"] = fastconv.SGD()
        yield from value_cases(method, fresh(method), valid, also=INSIDE)
        yield from array_cases(method, fresh(method), valid, INSIDE, ("longdouble",))
    yield from value_cases(
        "Sequential",
        fastconv.Sequential,
        {"layers": [fastconv.ReLU()], "input_shape": (4, 7, 8)},
        lambda made: made.predict(X),
        INSIDE,
    )


FIT = {"x": DIGITS, "y": LABELS, "epochs": 1, "progress": False}


def fit(**arguments) -> Any:
    return model().fit(DIGITS, LABELS, validation_split=0.3, progress=False, **arguments)


VALUE, GRAD = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
TAPS = np.zeros((2, 4, 3, 4), np.uint8)
RATE = {"rate": 0.1}
FUNCTIONS: dict[Callable[..., Any], dict[str, Any]] = {
    metrics.accuracy: {"outputs": SCORES, "targets": LABELS},
    metrics.top_k_accuracy: {"outputs": SCORES, "targets": LABELS, "k": 2},
    metrics.confusion_matrix: {"outputs": SCORES, "targets": LABELS},
    metrics.precision_recall_f1: {"outputs": SCORES, "targets": LABELS},
    metrics.macro_f1: {"outputs": SCORES, "targets": LABELS},
    filters.laplacian: {},
    filters.sharpen: {},
    filters.box: {"size": 3},
    filters.gaussian: {"sigma": 1.0},
    filters.gabor: {"wavelength": 4.0},
    filters.gabor_bank: {},
    filters.filter_image: {"image": X, "kernel": np.ones((3, 3))},
    training.max_pool2d_taps: {"x": X, "size": 2},
    training.max_pool2d_taps_backward: {
        "dy": np.ones(TAPS.shape, np.float32),
        "taps": TAPS,
        "input_shape": X.shape,
        "size": 2,
    },
    training.square_sum: {"x": X},
    training.dropout: {"x": X, "rate": 0.5, "key": 1},
    fastconv.explain: {
        "operation": "conv2d",
        "input_shape": X.shape,
        "kernel_shape": (4, 4, 3, 3),
    },
    fastconv.receptive_field: {"model": model()},
}
UPDATES: dict[Callable[..., Any], dict[str, Any]] = {
    training.sgd_update: RATE,
    training.adam_update: {**RATE, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8},
    training.rmsprop_update: {**RATE, "beta": 0.9, "epsilon": 1e-8},
}


def functions() -> Iterator[Case]:
    """Metrics, filters, and what layers and optimizers call."""
    for function, valid in FUNCTIONS.items():
        yield from value_cases(function.__name__, function, valid)
        yield from array_cases(function.__name__, function, valid, ("shape",), ("longdouble",))
    for function, valid in UPDATES.items():
        # These change arrays in place: a wrapper gives them new ones.
        names = [n for n in inspect.signature(function).parameters if n in STATE]

        def updated(function=function, names=names, **arguments):
            fresh = {name: np.ones((2, 3), np.float32) for name in names}
            return function(**{**fresh, **arguments})

        updated.__signature__ = inspect.signature(function)
        yield from value_cases(function.__name__, updated, valid)


STATE = ("value", "grad", "velocity", "mean", "square")
