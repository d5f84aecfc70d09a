"""Callbacks: when their hooks are called, and what the ones of the package do."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from fastconv import SGD, Dense, Sequential
from fastconv.callbacks import Callback, CSVLog, EarlyStopping, History, JSONLog, Run

X = np.random.default_rng(0).standard_normal((24, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)


def model():
    return Sequential([Dense(2)], seed=0)


class Diary(Callback):
    def __init__(self):
        self.lines = []

    def on_train_begin(self, run):
        self.lines.append(("train begins", run.epoch, run.step))

    def on_epoch_begin(self, run):
        self.lines.append(("epoch begins", run.epoch, run.step))

    def on_batch_end(self, run):
        assert math.isfinite(run.loss)
        self.lines.append(("batch", run.epoch, run.step))

    def on_epoch_end(self, run):
        assert run.history.loss[-1] == run.numbers["loss"]
        assert len(run.history.loss) == run.epoch
        self.lines.append(("epoch ends", run.epoch, run.step))

    def on_train_end(self, run):
        self.lines.append(("train ends", run.epoch, run.step))


def test_hooks_are_called_in_order():
    diary = Diary()
    model().fit(X, Y, epochs=2, batch_size=10, callbacks=[diary], progress=False)
    expected = [("train begins", 0, 0)]
    for epoch in (1, 2):
        expected += [("epoch begins", epoch, 0)]
        expected += [("batch", epoch, step) for step in (1, 2, 3)]
        expected += [("epoch ends", epoch, 3)]
    assert diary.lines == [*expected, ("train ends", 2, 3)]


def test_a_callback_may_stop():
    class Enough(Callback):
        def on_batch_end(self, run):
            run.stop = run.epoch == 2

    history = model().fit(X, Y, epochs=9, callbacks=[Enough()], progress=False)
    assert len(history.loss) == 2


class Interrupts(Callback):
    """Raises what Ctrl-C raises in the middle of an epoch."""

    def __init__(self, epoch, step):
        self.when = epoch, step

    def on_batch_end(self, run):
        if (run.epoch, run.step) == self.when:
            raise KeyboardInterrupt


@pytest.mark.parametrize("augmentation", [None, lambda x, rng: x + rng.standard_normal(4)])
def test_ctrl_c_ends_training_and_keeps_what_there_is(augmentation):
    net, diary, optimizer = model(), Diary(), SGD(0.1)
    with pytest.raises(KeyboardInterrupt):
        net.fit(
            X, Y, epochs=9, batch_size=8, optimizer=optimizer, progress=False,
            augmentation=augmentation, callbacks=[diary, Interrupts(3, 2)],
        )  # fmt: skip
    assert len(net.history.loss) == len(net.history.seconds) == 2
    assert optimizer.steps == 8
    assert diary.lines[-1] == ("train ends", 3, 2)
    assert np.isfinite(net.predict(X)).all()
    again = net.fit(X, Y, epochs=1, optimizer=optimizer, progress=False)
    assert len(again.loss) == 1 and net.history is again


def test_ctrl_c_leaves_the_best_weights():
    net, stopping = model(), EarlyStopping("loss", patience=9)
    with pytest.raises(KeyboardInterrupt):
        net.fit(
            X, Y, epochs=9, batch_size=8, optimizer=SGD(0.1), progress=False, shuffle=False,
            callbacks=[stopping, Interrupts(2, 1)],
        )  # fmt: skip
    one = model()
    one.fit(X, Y, batch_size=8, optimizer=SGD(0.1), progress=False, shuffle=False)
    np.testing.assert_array_equal(net.predict(X), one.predict(X))


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_a_real_signal():
    script = textwrap.dedent("""
        import numpy as np
        from fastconv import Conv2D, Dense, Flatten, Sequential
        from fastconv.callbacks import Callback
        x = np.random.default_rng(0).standard_normal((64, 3, 16, 16))
        y = np.arange(64) % 4

        class Tell(Callback):
            def on_epoch_end(self, run):
                print("epoch", run.epoch, flush=True)

        model = Sequential([Conv2D(8, 3, activation="relu"), Flatten(), Dense(4)], seed=0)
        try:
            model.fit(x, y, epochs=10**6, callbacks=[Tell()], progress=False,
                      augmentation=lambda x, rng: x[::-1])
        except KeyboardInterrupt:
            print(len(model.history.loss) > 0, np.isfinite(model.predict(x)).all(), flush=True)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "epoch 1\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "True True"


def follow(callback, numbers, monitor="val_loss"):
    """Feed a callback epoch by epoch until it stops the run; return the number of epochs."""
    net = model()
    net.build((4,))
    run = Run(net, SGD(0.1), len(numbers), print)
    callback.on_train_begin(run)
    for run.epoch, number in enumerate(numbers, 1):
        run.numbers = {"loss": 0.0, monitor: number}
        for value in net.weights().values():
            assert value.shape
        net.set_weights({name: np.full_like(v, number) for name, v in net.weights().items()})
        callback.on_epoch_end(run)
        if run.stop:
            break
    callback.on_train_end(run)
    return run.epoch, net.weights()["0.bias"][0]


@pytest.mark.parametrize(
    "options, numbers, stops, left",
    [
        ({"patience": 2}, [5, 4, 3, 3, 3, 3, 1], 5, 3),
        ({"patience": 2}, [5, 4, 6, 3, 6, 6, 1], 6, 3),
        ({"patience": 3}, [5, 6, 7, 4], 4, 4),
        ({"patience": 2, "min_delta": 1.5}, [5, 4, 3, 2.5, 2, 0], 5, 3),
        ({"patience": 2, "restore_best": False}, [1, 2, 3, 4], 3, 3),
        ({"patience": 2}, [math.nan, 5, math.nan, math.nan], 4, 5),
        ({"patience": 2, "higher_is_better": True}, [1, 3, 2, 2, 9], 4, 3),
        ({"patience": 1, "monitor": "val_accuracy"}, [1, 3, 2, 9], 3, 3),
    ],
)
def test_early_stopping(options, numbers, stops, left):
    monitor = options.get("monitor", "val_loss")
    assert follow(EarlyStopping(**options), numbers, monitor) == (stops, left)


def test_early_stopping_in_fit_leaves_the_best_weights():
    rng = np.random.default_rng(1)
    net = model()
    history = net.fit(
        X, Y, epochs=60, optimizer=SGD(3.0, momentum=0.9), progress=False,
        validation_data=(X + rng.standard_normal(X.shape), Y),
        callbacks=[EarlyStopping(patience=4)],
    )  # fmt: skip
    assert 5 <= len(history.loss) < 60
    rng = np.random.default_rng(1)
    best = net.evaluate(X + rng.standard_normal(X.shape), Y)["loss"]
    assert best == min(history.val_loss) == history.val_loss[-5]


def test_a_callback_that_serves_again_has_forgotten():
    """A second training, of another model, sees nothing of the first one's best epoch."""
    stopping = EarlyStopping("loss", patience=2)
    options = {"optimizer": "sgd", "epochs": 6, "progress": False}
    model().fit(X, Y, callbacks=[stopping], **options)
    other, fresh = (Sequential([Dense(2)], seed=1) for _ in range(2))
    got = other.fit(X, 1 - Y, callbacks=[stopping], **options)
    expected = fresh.fit(X, 1 - Y, callbacks=[EarlyStopping("loss", patience=2)], **options)
    assert got.loss == expected.loss
    np.testing.assert_array_equal(other.predict(X), fresh.predict(X))


def test_what_is_not_there_cannot_be_followed():
    with pytest.raises(ValueError, match=r"monitor: expected one of .*'loss'.*, got 'val_loss'"):
        model().fit(X, Y, callbacks=[EarlyStopping()], progress=False)


def test_logs_have_a_line_per_epoch(tmp_path):
    history = model().fit(
        X, Y, epochs=3, progress=False, metrics=["macro_f1"],
        callbacks=[CSVLog(tmp_path / "log.csv"), JSONLog(tmp_path / "log.jsonl")],
    )  # fmt: skip
    names = ["epoch", "loss", "accuracy", "macro_f1", "seconds", "learning_rate"]
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == names
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [list(line) for line in lines] == [names] * 3
    for epoch in range(3):
        expected = [epoch + 1, *(getattr(history, name)[epoch] for name in names[1:])]
        assert [float(value) for value in rows[epoch + 1]] == expected
        assert list(lines[epoch].values()) == expected


def test_json_has_null_where_a_number_is_none(tmp_path):
    log = JSONLog(tmp_path / "log.jsonl")
    run = Run(None, SGD(0.1), 1, print, epoch=1, numbers={"loss": math.nan})
    log.on_train_begin(run)
    log.on_epoch_end(run)
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"epoch": 1, "loss": None}


def test_history_names_what_it_has():
    history = History()
    history.add({"loss": 1.0, "top": 2.0})
    assert history.loss == [1.0] and history.top == [2.0] and history.val_loss == []
    with pytest.raises(AttributeError, match=r"History: expected one of .*'loss'.*, got 'hinge'"):
        history.hinge  # noqa: B018


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: EarlyStopping(patience=0), "patience: expected a positive integer"),
        (lambda: EarlyStopping(min_delta=-1), "min_delta: expected at least 0"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    with pytest.raises(TypeError, match="callbacks: expected Callback objects, got 3"):
        model().fit(X, Y, callbacks=[3])
