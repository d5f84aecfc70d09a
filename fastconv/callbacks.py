"""What may be hooked into `fit`, and what a hook sees.

A callback is an object with hooks; each is given the `Run`, may read all of it, and sets
``run.stop`` to end training after the epoch. Hooks are called in the order of the list, but
checkpoints come last, so that they keep what the others have decided.

A callback that remembers something names it in `state` (numbers, text, arrays), so that training
resumed from a checkpoint goes on as if it had never stopped.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from fastconv.arguments import boolean, positive_int, real
from fastconv.atomic import write_whole
from fastconv.optim import Optimizer


@dataclass
class History:
    """What `fit` saw: one number per epoch in each list.

    `loss` and `accuracy` are means over the epoch's training batches, taken as training went on;
    `val_loss` and `val_accuracy` are of the validation data after the epoch; `seconds` is the
    time spent training, `learning_rate` that of the epoch's last step. Metrics stand under their
    names and with ``val_`` before. Lists that do not apply stay empty.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)

    def add(self, numbers: Mapping[str, float]) -> None:
        """Append one epoch's numbers."""
        for name, value in numbers.items():
            self.__dict__.setdefault(name, []).append(float(value))

    def __getattr__(self, name: str) -> list[float]:
        raise AttributeError(f"History: expected one of {sorted(vars(self))}, got {name!r}")

    def rows(self) -> list[dict[str, float]]:
        """The same by epoch: what is known of each."""
        columns = {name: values for name, values in vars(self).items() if values}
        return [
            {name: values[epoch] for name, values in columns.items() if epoch < len(values)}
            for epoch in range(len(self.loss))
        ]


@dataclass
class Run:
    """One call of `fit`, as callbacks see it.

    Attributes
    ----------
    model : Sequential
    optimizer : Optimizer
    history : History
        Of the epochs that have ended; this one's numbers are in it when `on_epoch_end` is called.
    epochs : int
    epoch : int
        The one being trained, from 1; after it, the last that has ended.
    step : int
        Batches of the epoch that are done.
    loss : float
        Of the last batch.
    numbers : dict of str to float
        What the history got for this epoch.
    stop : bool
        Set it to end training after this epoch.
    save : callable
        ``save(path)`` writes a checkpoint; see `Checkpoint`.
    """

    model: Any
    optimizer: Optimizer
    epochs: int
    save: Callable[[str | os.PathLike[str]], None]
    history: History = field(default_factory=History)
    epoch: int = 0
    step: int = 0
    loss: float = math.nan
    numbers: dict[str, float] = field(default_factory=dict)
    stop: bool = False


class Callback:
    """Base class: hooks that do nothing.

    Examples
    --------
    >>> from fastconv import Dense, Sequential
    >>> from fastconv.callbacks import Callback
    >>> class Tell(Callback):
    ...     def on_epoch_end(self, run):
    ...         print("epoch", run.epoch, "of", run.epochs, sorted(run.numbers))
    >>> model = Sequential([Dense(2)], seed=0)
    >>> history = model.fit([[0.0], [1.0]], [0, 1], callbacks=[Tell()], progress=False)
    epoch 1 of 1 ['accuracy', 'learning_rate', 'loss', 'seconds']
    """

    def on_train_begin(self, run: Run) -> None:
        """Before the first epoch; with `resume`, after all is as it was."""

    def on_epoch_begin(self, run: Run) -> None:
        """Before the first batch of every epoch."""

    def on_batch_end(self, run: Run) -> None:
        """After the step on every batch."""

    def on_epoch_end(self, run: Run) -> None:
        """After validation; the epoch is part of the history."""

    def on_train_end(self, run: Run) -> None:
        """After the last epoch, also when training was stopped or interrupted."""

    def state(self) -> dict[str, Any]:
        """Return what must be known to go on: numbers, text or arrays by name."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        for name in state:
            if callable(getattr(type(self), name, None)):
                raise ValueError(f"state: expected attributes, got {name!r}, which is none")
        vars(self).update(state)


class Monitor(Callback):
    """A callback that follows one number of the history.

    Parameters
    ----------
    monitor : str
    min_delta : float
        How much is an improvement.
    higher_is_better : bool, optional
        Unless given: not for losses, and for everything else.
    """

    def __init__(
        self, monitor: str, *, min_delta: float = 0.0, higher_is_better: bool | None = None
    ) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor: expected the name of a list of the history, got {monitor!r}")
        if not real("min_delta", min_delta) >= 0:
            raise ValueError(f"min_delta: expected at least 0, got {min_delta!r}")
        self.monitor = monitor
        self.min_delta = min_delta
        if higher_is_better is None:
            higher_is_better = not monitor.endswith("loss")
        self.higher_is_better = boolean("higher_is_better", higher_is_better)
        self.best: float | None = None

    def on_train_begin(self, run: Run) -> None:
        if run.epoch == 0:  # not resumed: what an earlier training has left is forgotten
            self.forget()

    def forget(self) -> None:
        """Be as new."""
        self.best = None

    def improved(self, run: Run) -> bool:
        """Whether this epoch is the best so far, which is noted."""
        if self.monitor not in run.numbers:
            raise ValueError(
                f"monitor: expected one of {sorted(run.numbers)}, got {self.monitor!r}"
            )
        value = run.numbers[self.monitor]
        if self.best is None:
            better = not math.isnan(value)
        elif self.higher_is_better:
            better = value > self.best + self.min_delta
        else:
            better = value < self.best - self.min_delta
        if better:
            self.best = value
        return better

    def state(self) -> dict[str, Any]:
        return {"best": self.best}


class EarlyStopping(Monitor):
    """Stop when a number does not improve any more, and go back to the best epoch's weights.

    Parameters
    ----------
    monitor : str
        A list of the history: "loss", "val_loss", "val_accuracy", ...
    patience : int
        Epochs without improvement after which training stops.
    min_delta : float
        How much is an improvement.
    restore_best : bool
        Whether the model has the weights of its best epoch when training ends, however it ends;
        else those of the last.
    higher_is_better : bool, optional
        Unless given: not for losses, and for everything else.

    Examples
    --------
    >>> from fastconv.callbacks import EarlyStopping
    >>> stopping = EarlyStopping("val_accuracy", patience=3)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        patience: int = 5,
        min_delta: float = 0.0,
        restore_best: bool = True,
        higher_is_better: bool | None = None,
    ) -> None:
        super().__init__(monitor, min_delta=min_delta, higher_is_better=higher_is_better)
        self.patience = positive_int("patience", patience)
        self.restore_best = boolean("restore_best", restore_best)
        self.waited = 0
        self.weights: dict[str, Any] = {}

    def forget(self) -> None:
        super().forget()
        self.waited, self.weights = 0, {}

    def on_epoch_end(self, run: Run) -> None:
        if self.improved(run):
            self.waited = 0
            if self.restore_best:
                self.weights = run.model.weights()
        else:
            self.waited += 1
            run.stop = run.stop or self.waited >= self.patience

    def on_train_end(self, run: Run) -> None:
        if self.weights:
            run.model.set_weights(self.weights)

    def state(self) -> dict[str, Any]:
        kept = {f"weights/{name}": value for name, value in self.weights.items()}
        return super().state() | {"waited": self.waited} | kept

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]
        self.weights = {
            name.removeprefix("weights/"): value
            for name, value in state.items()
            if name.startswith("weights/")
        }


class Checkpoint(Monitor):
    """Write all that training needs to go on: ``fit(..., resume=path)`` does, to the same bits.

    A file is written whole or not at all, and holds no code. It has the weights, the state of
    layers, optimizer and callbacks, the random numbers' state, the epoch and the history.

    Parameters
    ----------
    path : str or path
        ``{epoch}`` in it becomes the number of the epoch, so that every file is kept.
    every : int
        Epochs from file to file.
    best_only : bool
        Write only when `monitor` has improved.
    monitor, higher_is_better
        See `EarlyStopping`.

    Examples
    --------
    >>> from fastconv import Dense, Sequential
    >>> from fastconv.callbacks import Checkpoint
    >>> x, y = [[0.0], [1.0]], [0, 1]
    >>> model = Sequential([Dense(2)], seed=0)
    >>> history = model.fit(x, y, epochs=2, callbacks=[Checkpoint("run.npz")], progress=False)
    >>> model = Sequential([Dense(2)])
    >>> history = model.fit(x, y, epochs=5, resume="run.npz", progress=False)
    >>> len(history.loss)
    5
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every: int = 1,
        best_only: bool = False,
        monitor: str = "val_loss",
        higher_is_better: bool | None = None,
    ) -> None:
        super().__init__(monitor, higher_is_better=higher_is_better)
        self.path = os.fspath(path)
        self.every = positive_int("every", every)
        self.best_only = boolean("best_only", best_only)

    def on_epoch_end(self, run: Run) -> None:
        better = not self.best_only or self.improved(run)
        if better and (run.epoch % self.every == 0 or run.epoch == run.epochs or run.stop):
            run.save(self.path.replace("{epoch}", str(run.epoch)))


class _Log(Callback):
    """A file with a line per epoch; resumed training begins it with the epochs before."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def on_train_begin(self, run: Run) -> None:
        text = io.StringIO()
        for epoch, numbers in enumerate(run.history.rows(), 1):
            self.write(text, {"epoch": epoch} | numbers)
        write_whole(self.path, lambda file: file.write(text.getvalue().encode()))

    def on_epoch_end(self, run: Run) -> None:
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            self.write(file, {"epoch": run.epoch} | run.numbers)

    def write(self, file: IO[str], numbers: Mapping[str, float]) -> None:
        raise NotImplementedError


class CSVLog(_Log):
    """Write every epoch's numbers as a line of comma-separated values, under their names.

    Parameters
    ----------
    path : str or path

    Examples
    --------
    >>> from fastconv.callbacks import CSVLog
    >>> log = CSVLog("training.csv")
    """

    def write(self, file: IO[str], numbers: Mapping[str, float]) -> None:
        writer = csv.writer(file, lineterminator="\n")
        if file.tell() == 0:
            writer.writerow(numbers)
        writer.writerow(numbers.values())


class JSONLog(_Log):
    """Write every epoch's numbers as a line of JSON.

    Parameters
    ----------
    path : str or path

    Examples
    --------
    >>> from fastconv.callbacks import JSONLog
    >>> log = JSONLog("training.jsonl")
    """

    def write(self, file: IO[str], numbers: Mapping[str, float]) -> None:
        # JSON knows no infinity and no NaN: null.
        known = {name: v if np.isfinite(v) else None for name, v in numbers.items()}
        file.write(json.dumps(known) + "\n")
