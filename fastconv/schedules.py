"""Learning rates that change: functions of the number of steps taken so far.

``SGD(Cosine(0.1, steps=1000))`` asks its schedule before every step. A schedule remembers nothing,
so training that is resumed finds the rate where it was. What follows the course of training instead
is a callback, `ReduceOnPlateau`. A schedule of one's own is any function from steps to a rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastconv.arguments import positive_int, real
from fastconv.callbacks import Monitor, Run

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Step:
    """Multiply the rate by a factor every so many steps, or after given numbers of them.

    Parameters
    ----------
    rate : float
        At first.
    every : int or tuple of int
        A number of steps, or the numbers of steps after which the rate falls, in order.
    factor : float

    Examples
    --------
    >>> from fastconv.schedules import Step
    >>> [Step(1.0, every=2, factor=0.5)(steps) for steps in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    >>> [Step(1.0, every=(1, 4), factor=0.5)(steps) for steps in range(5)]
    [1.0, 0.5, 0.5, 0.5, 0.25]
    """

    rate: float
    every: int | tuple[int, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        _rate("rate", self.rate)
        _rate("factor", self.factor)
        for steps in self.every if isinstance(self.every, tuple) else (self.every,):
            positive_int("every", steps)

    def __call__(self, steps: int) -> float:
        if isinstance(self.every, tuple):
            falls = sum(steps >= at for at in self.every)
        else:
            falls = steps // self.every
        return self.rate * self.factor**falls


@dataclass(frozen=True)
class Cosine:
    """Let the rate fall to `end` along half a cosine, and stay there.

    Parameters
    ----------
    rate : float
        At first.
    steps : int
        Length of the fall.
    end : float

    Examples
    --------
    >>> from fastconv.schedules import Cosine
    >>> [round(Cosine(1.0, steps=4)(steps), 3) for steps in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    rate: float
    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        _rate("rate", self.rate)
        positive_int("steps", self.steps)
        real("end", self.end)

    def __call__(self, steps: int) -> float:
        return _cosine(self.rate, self.end, min(steps / self.steps, 1))


@dataclass(frozen=True)
class Warmup:
    """Let the rate rise in a straight line, then follow another schedule.

    Step k of the first `steps` takes (k + 1) / (steps + 1) of the way from `start` to where the
    other schedule begins, so that no step has the rate 0 and none comes twice.

    Parameters
    ----------
    steps : int
    then : float or callable
        The rate, or the schedule from there on, which counts its steps from 0.
    start : float

    Examples
    --------
    >>> from fastconv.schedules import Cosine, Warmup
    >>> [round(Warmup(3, Cosine(1.0, steps=2))(steps), 3) for steps in range(6)]
    [0.25, 0.5, 0.75, 1.0, 0.5, 0.0]
    """

    steps: int
    then: float | Schedule
    start: float = 0.0

    def __post_init__(self) -> None:
        positive_int("steps", self.steps)
        if not callable(self.then):
            _rate("then", self.then)
        real("start", self.start)

    def __call__(self, steps: int) -> float:
        after = max(steps - self.steps, 0)
        rate = self.then(after) if callable(self.then) else self.then
        if steps >= self.steps:
            return rate
        return self.start + (rate - self.start) * (steps + 1) / (self.steps + 1)


@dataclass(frozen=True)
class OneCycle:
    """Up to a high rate and down to almost nothing, both along half a cosine, once.

    Parameters
    ----------
    peak : float
        The highest rate. The first one is a 25th of it, the last a 10,000th of the first.
    steps : int
        Length of the cycle: all steps of the training.
    warmup : float
        The share of them that rises.

    Examples
    --------
    >>> from fastconv.schedules import OneCycle
    >>> [round(OneCycle(1.0, steps=11)(steps), 3) for steps in range(0, 11, 2)]
    [0.04, 0.96, 0.884, 0.531, 0.157, 0.0]
    """

    peak: float
    steps: int
    warmup: float = 0.3

    def __post_init__(self) -> None:
        _rate("peak", self.peak)
        positive_int("steps", self.steps)
        if not 0 < real("warmup", self.warmup) < 1:
            raise ValueError(f"warmup: expected a number between 0 and 1, got {self.warmup!r}")

    def __call__(self, steps: int) -> float:
        first = self.peak / 25
        top, last = self.warmup * self.steps - 1, self.steps - 1
        if steps <= top:
            return _cosine(first, self.peak, steps / top)
        return _cosine(self.peak, first / 1e4, min((steps - top) / (last - top), 1))


class ReduceOnPlateau(Monitor):
    """A callback that multiplies the learning rate when a number stops improving.

    Parameters
    ----------
    monitor : str
        A list of the history: "loss", "val_loss", "val_accuracy", ...
    factor : float
        Below 1.
    patience : int
        Epochs without improvement after which the rate falls; they are counted anew then.
    min_delta : float
        How much is an improvement.
    min_rate : float
        The rate falls no further.
    higher_is_better : bool, optional
        Unless given: not for losses, and for everything else.

    Examples
    --------
    >>> from fastconv import SGD, Dense, Sequential
    >>> from fastconv.schedules import ReduceOnPlateau
    >>> optimizer = SGD(0.5)
    >>> plateau = ReduceOnPlateau("loss", factor=0.1, patience=2)
    >>> model = Sequential([Dense(2)], seed=0)
    >>> history = model.fit([[0.0], [0.0]], [0, 1], epochs=4, optimizer=optimizer,
    ...                     callbacks=[plateau], progress=False)
    >>> history.learning_rate, optimizer.learning_rate
    ([0.5, 0.5, 0.5, 0.05], 0.05)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        min_rate: float = 0.0,
        higher_is_better: bool | None = None,
    ) -> None:
        super().__init__(monitor, min_delta=min_delta, higher_is_better=higher_is_better)
        if not 0 < real("factor", factor) < 1:
            raise ValueError(f"factor: expected a number between 0 and 1, got {factor!r}")
        self.factor = factor
        self.patience = positive_int("patience", patience)
        self.min_rate = real("min_rate", min_rate)
        self.waited = 0

    def forget(self) -> None:
        super().forget()
        self.waited = 0

    def on_train_begin(self, run: Run) -> None:
        super().on_train_begin(run)
        if callable(run.optimizer.learning_rate):
            raise ValueError(
                f"learning_rate: expected a number for ReduceOnPlateau to change, got "
                f"{run.optimizer.learning_rate!r}"
            )

    def on_epoch_end(self, run: Run) -> None:
        self.waited = 0 if self.improved(run) else self.waited + 1
        if self.waited >= self.patience:
            self.waited = 0
            rate: Any = run.optimizer.learning_rate
            run.optimizer.learning_rate = max(rate * self.factor, min(rate, self.min_rate))

    def state(self) -> dict[str, Any]:
        return super().state() | {"waited": self.waited}


def _cosine(start: float, end: float, done: float) -> float:
    """From start to end along half a cosine, of which the share `done` has passed."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def _rate(name: str, value: float) -> None:
    if not real(name, value) > 0:
        raise ValueError(f"{name}: expected a number above 0, got {value!r}")
