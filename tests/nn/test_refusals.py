"""Checks of arguments above the operations that no other test of this process comes to.

`bad_inputs.py` passes everything to everything, in processes of its own; here each check has a call
that is refused by it, so that none is without one.
"""

import re

import numpy as np
import pytest

import fastconv
from fastconv import augmentation, callbacks, filters, metrics, reference
from fastconv.arguments import as_array, list_of, real
from fastconv.nn.fit import _class_weight

X = np.ones((4, 1, 6, 6), np.float32)
KERNEL = np.ones((2, 1, 3, 3), np.float32)
LABELS = np.zeros(4, int)
MODEL = fastconv.Sequential([fastconv.Flatten(), fastconv.Dense(2)], input_shape=(1, 6, 6), seed=0)


class State(callbacks.Callback):
    def state(self):
        return {"long": "x" * 2_000_000}


def fit(**keywords):
    MODEL.fit(X, LABELS, epochs=1, **keywords)


def save(path, metadata):
    model = fastconv.Sequential([fastconv.Flatten()], input_shape=(1, 6, 6))
    model.metadata = metadata
    model.save(path / "model.npz")


REFUSALS = {
    "epsilon: expected": lambda _: fastconv.batch_norm_train(X, [1.0], [1.0], epsilon=-1),
    "groups: expected a divisor": lambda _: fastconv.group_norm(X, 2, [1.0], [1.0]),
    "save: expected numbers": lambda path: save(path, {"a": object()}),
    "save: ": lambda path: save(path, {"a": "x" * 2_000_000}),
    "x: expected an array without masked": lambda _: as_array(
        np.ma.masked_array([1, 2], [True, False]), "x"
    ),
    "x: expected a number below": lambda _: real("x", 10**400),
    "x: expected numbers, got 5": lambda _: list_of("x", 5, int, "numbers"),
    "x: expected numbers, got 1.5": lambda _: list_of("x", [1, 1.5], int, "numbers"),
    "mean: expected a number": lambda _: augmentation.Normalize(["a"], 1),
    "pixels: expected at most": lambda _: augmentation.RandomShift(2**21),
    "monitor: expected": lambda _: callbacks.EarlyStopping(5),
    "state: expected attributes": lambda _: callbacks.Callback().set_state({"state": 1}),
    "callbacks: state": lambda path: fit(
        callbacks=[State(), callbacks.Checkpoint(path / "checkpoint.npz")]
    ),
    "metrics: expected": lambda _: fit(metrics=5),
    "resume: expected": lambda _: fit(resume=5),
    "class_weight: expected": lambda _: _class_weight({1.5: 1}),
    "size: expected an integer or a pair": lambda _: filters.box((1, 2, 3)),
    "size: expected at most": lambda _: filters.box(2**16),
    "angle: expected a finite": lambda _: filters.gabor(2, angle=np.inf),
    "classes: expected at most": lambda _: metrics.confusion_matrix(LABELS, LABELS, classes=2**21),
    "seed: expected an integer, a": lambda _: fastconv.Sequential(MODEL.layers, seed="a"),
    "seed: expected an integer of": lambda _: fastconv.Sequential(MODEL.layers, seed=-1),
    "model: expected a Sequential": lambda _: fastconv.receptive_field(5),
    "Dense: parameter 'kernel': cannot": lambda _: fastconv.Sequential(
        [fastconv.Dense(2**39)], input_shape=(2**10,)
    ),
    "x: expected real numbers": lambda _: reference.relu(X + 1j),
    "kernel: ": lambda _: reference.conv2d(X, np.ones((2, 3, 3, 3))),
    "activation: expected": lambda _: reference.conv2d(X, KERNEL, activation="a"),
    "activation: expected None": lambda _: reference.dense(X[0, 0], X[0, 0], activation="a"),
    "dy: expected 4x4": lambda _: reference.conv2d_backward_input(X, KERNEL[:1], X.shape),
    "dy: expected (4": lambda _: reference.conv2d_backward_kernel(X, X, KERNEL.shape),
    "labels: expected classes": lambda _: reference.softmax_cross_entropy(X[0, 0], np.full(6, 9)),
    "indices: expected places": lambda _: reference.max_pool2d_backward(
        X, np.full(X.shape, 99), X.shape
    ),
    "padding: expected 'valid'": lambda _: reference.conv2d(X, KERNEL, padding="a"),
    "window: ": lambda _: reference.max_pool2d(X, 9),
}


@pytest.mark.parametrize("words", REFUSALS)
def test_refused(words, tmp_path):
    with pytest.raises((ValueError, TypeError, MemoryError), match=f"^{re.escape(words)}"):
        REFUSALS[words](tmp_path)
