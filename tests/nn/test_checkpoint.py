"""Checkpoints: training that stops and goes on is training that never stopped, bit for bit."""

import os

import numpy as np
import pytest

from fastconv import (
    SGD,
    AdamW,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    RMSprop,
    Sequential,
)
from fastconv.augmentation import Compose, RandomFlip, RandomShift
from fastconv.callbacks import Callback, Checkpoint, CSVLog, EarlyStopping
from fastconv.schedules import Cosine, ReduceOnPlateau, Warmup

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 2, 8, 8)).astype(np.float32)
Y = np.arange(40) % 3


def model(seed=1, **options):
    return Sequential(
        [
            Conv2D(6, 3, padding="same", bias=False),
            BatchNorm(activation="relu"),
            Dropout(0.2),
            MaxPool(2),
            Flatten(),
            Dense(3),
        ],
        seed=seed,
        **options,
    )


def everything(net, history, optimizer):
    """All that training leaves, without what the clock says."""
    numbers = {name: values for name, values in vars(history).items() if name != "seconds"}
    arrays = {**net.weights(), **optimizer.state()}
    return (
        {name: (value.dtype.str, value.tobytes()) for name, value in arrays.items()},
        numbers,
        net.rng.bit_generator.state,
        optimizer.learning_rate if not callable(optimizer.learning_rate) else None,
    )


OPTIMIZERS = [
    lambda: SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    lambda: AdamW(Warmup(4, Cosine(0.01, 20)), clip_norm=1.0),
    lambda: RMSprop(0.001, momentum=0.5),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("stop", [1, 4])
def test_resumed_training_ends_in_the_same_bits(make, stop, tmp_path):
    def train(net, optimizer, epochs, path, **options):
        callbacks = [Checkpoint(path), EarlyStopping("val_loss", patience=4)]
        if not callable(optimizer.learning_rate):
            callbacks.append(ReduceOnPlateau("val_loss", patience=1, factor=0.5))
        history = net.fit(
            X, Y, epochs=epochs, batch_size=16, optimizer=optimizer, progress=False,
            validation_split=0.2, augmentation=Compose(RandomShift(1), RandomFlip()),
            class_weight={0: 2.0}, metrics=["macro_f1"], callbacks=callbacks, **options,
        )  # fmt: skip
        return everything(net, history, optimizer)

    whole = train(model(), make(), 6, tmp_path / "whole.npz")
    train(model(), make(), stop, tmp_path / "part.npz")
    parts = train(
        model(seed=99), make(), 6, tmp_path / "part.npz", resume=tmp_path / "part.npz"
    )
    assert parts == whole


def test_after_an_interruption(tmp_path):
    """What the epoch that was cut off has done is undone."""

    class Stops(Callback):
        def on_batch_end(self, run):
            if (run.epoch, run.step) == (3, 2):
                raise KeyboardInterrupt

    path = tmp_path / "c.npz"
    options = {"batch_size": 16, "progress": False}
    net, optimizer = model(), SGD(0.1, momentum=0.9)
    whole = everything(net, net.fit(X, Y, epochs=4, optimizer=optimizer, **options), optimizer)
    net, optimizer = model(), SGD(0.1, momentum=0.9)
    with pytest.raises(KeyboardInterrupt):
        net.fit(
            X, Y, epochs=4, optimizer=optimizer, callbacks=[Checkpoint(path), Stops()], **options
        )
    history = net.fit(X, Y, epochs=4, optimizer=optimizer, resume=path, **options)
    assert everything(net, history, optimizer) == whole


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    net = model()
    path = tmp_path / "c.npz"
    before = net.fit(X, Y, epochs=2, callbacks=[Checkpoint(path)], progress=False)
    weights = net.weights()
    after = net.fit(X, Y, epochs=2, resume=path, progress=False)
    assert vars(after) == vars(before)
    for name, value in net.weights().items():
        np.testing.assert_array_equal(value, weights[name])


def test_when_files_are_written(tmp_path):
    def written(**options):
        for path in tmp_path.iterdir():
            path.unlink()
        saved = Checkpoint(tmp_path / "{epoch}.npz", **options)
        model().fit(X, Y, epochs=5, callbacks=[saved], progress=False, validation_data=(X, Y))
        return sorted(int(path.stem) for path in tmp_path.iterdir())

    assert written() == [1, 2, 3, 4, 5]
    assert written(every=2) == [2, 4, 5]

    class Bumpy(Callback):
        def on_epoch_end(self, run):
            run.numbers["bumps"] = [3.0, 2.0, 4.0, 1.0, 1.0][run.epoch - 1]

    for path in tmp_path.iterdir():
        path.unlink()
    saved = Checkpoint(
        tmp_path / "{epoch}.npz", best_only=True, monitor="bumps", higher_is_better=False
    )
    model().fit(X, Y, epochs=5, callbacks=[saved, Bumpy()], progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.npz", "2.npz", "4.npz"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "c.npz"
    model().fit(X, Y, callbacks=[Checkpoint(path)], progress=False)
    content = path.read_bytes()

    def full(file):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        model().fit(X, Y, callbacks=[Checkpoint(path)], progress=False)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_without_shapes_takes_the_file_s(tmp_path):
    path = tmp_path / "c.npz"
    batches = [(X[:20], Y[:20]), (X[20:], Y[20:])]
    first = model()
    first.fit(batches, callbacks=[Checkpoint(path)], progress=False)
    second = model(seed=5)
    second.fit(batches, resume=path, progress=False)
    np.testing.assert_array_equal(first.predict(X), second.predict(X))


def test_logs_begin_with_the_epochs_before(tmp_path):
    path = tmp_path / "c.npz"
    options = {"progress": False, "callbacks": [Checkpoint(path), CSVLog(tmp_path / "log.csv")]}
    model().fit(X, Y, epochs=2, **options)
    model().fit(X, Y, epochs=4, resume=path, **options)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda net: {"optimizer": "adamw"}, "expected the optimizer AdamW, got Adam"),
        (lambda net: {"model": model(dtype="float64")}, "expected a model of float64, got float32"),
        (
            lambda net: {"model": Sequential([Conv2D(4, 3), Flatten(), Dense(3)])},
            "weights: missing names|weights: unknown names|expected shape",
        ),
    ],
)
def test_files_of_other_training_are_refused(change, message, tmp_path):
    path = tmp_path / "c.npz"
    net = model()
    net.fit(X, Y, callbacks=[Checkpoint(path)], progress=False)
    changed = change(net)
    other = changed.pop("model", net)
    with pytest.raises(ValueError, match=f"c.npz: cannot resume from it: .*({message})"):
        other.fit(X, Y, resume=path, progress=False, **changed)


def test_files_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "c.npz"
    net = model(input_shape=(2, 8, 8))
    net.save(path)
    with pytest.raises(ValueError, match="cannot resume from it"):
        net.fit(X, Y, resume=path, progress=False)
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="cannot resume from it"):
        net.fit(X, Y, resume=path, progress=False)
    with pytest.raises(FileNotFoundError):
        net.fit(X, Y, resume=tmp_path / "none.npz", progress=False)


def test_a_callback_s_state_is_plain_or_arrays(tmp_path):
    class Odd(Callback):
        def state(self):
            return {"thing": object()}

    with pytest.raises(TypeError, match="callbacks: expected numbers, text or arrays as state"):
        model().fit(X, Y, callbacks=[Odd(), Checkpoint(tmp_path / "c.npz")], progress=False)
