"""Checkpoints: all that training depends on from one epoch to the next, in one file.

The file is made and read like a model's (``files.py``): arrays by name, among them the history's,
and a text of JSON, under ``checkpoint``, with the epoch, the state of the random numbers, the
learning rate, and what callbacks remember. It does not describe the model or the optimizer: `fit`
is called on the same ones, and their kinds are compared.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.archive import read_arrays, write_arrays
from fastconv.callbacks import Callback, History, Run
from fastconv.text import parse

from .files import DAMAGE, build_from

FORMAT = "fastconv.Checkpoint"
VERSION = 1


def save(
    path: str | os.PathLike[str], run: Run, callbacks: Sequence[Callback], split_seed: int
) -> None:
    """Write a checkpoint, whole or not at all."""
    model, optimizer = run.model, run.optimizer
    arrays: dict[str, NDArray] = {f"weights/{name}": a for name, a in model.named_arrays()}
    arrays |= {f"optimizer/{name}": a for name, a in optimizer.state().items()}
    remembered = []
    for number, callback in enumerate(callbacks):
        plain: dict[str, Any] = {}
        for name, value in callback.state().items():
            if isinstance(value, np.ndarray):
                arrays[f"callback {number}/{name}"] = value
            else:
                plain[name] = value
        remembered.append({"kind": type(callback).__name__, "state": plain})
    for name, values in vars(run.history).items():
        arrays[f"history/{name}"] = np.array(values, np.float64)
    rate = optimizer.learning_rate
    text = json.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            "epoch": run.epoch,
            "input_shape": model.input_shape,
            "dtype": model.dtype.name,
            "optimizer": type(optimizer).__name__,
            "learning_rate": None if callable(rate) else float(rate),
            "random": model.rng.bit_generator.state,
            "split_seed": split_seed,
            "callbacks": remembered,
        },
        default=_plain,
    ).encode()
    try:
        parse(text)
    except ValueError as error:
        raise ValueError(f"callbacks: state: {error}; arrays may be longer") from None
    write_arrays(path, {"checkpoint": np.frombuffer(text, np.uint8)} | arrays)


def _plain(value: Any) -> Any:
    """An array or a number of NumPy's, as JSON has them."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"callbacks: expected numbers, text or arrays as state, got {value!r}")


def restore(path: str | os.PathLike[str], run: Run, callbacks: Sequence[Callback]) -> int:
    """Bring a run to where a checkpoint was written; return the seed of its validation split.

    Nothing is changed unless the file is one of this kind of model, optimizer and callbacks.
    """
    try:
        return _restore(read_arrays(path), run, callbacks)
    except DAMAGE as error:
        raise ValueError(f"{os.fspath(path)}: cannot resume from it: {error}") from error


def _restore(entries: dict[str, NDArray], run: Run, callbacks: Sequence[Callback]) -> int:
    found = parse(entries.pop("checkpoint").tobytes())
    if found["format"] != FORMAT or found["version"] != VERSION:
        raise ValueError(f"expected {FORMAT} version {VERSION}, got {found['format']!r} version "
                         f"{found['version']!r}")  # fmt: skip
    model, optimizer = run.model, run.optimizer
    for what, wanted, got in (
        ("a model of", model.dtype.name, found["dtype"]),
        ("the optimizer", type(optimizer).__name__, found["optimizer"]),
        ("the random numbers", model.rng.bit_generator.state["bit_generator"],
         found["random"]["bit_generator"]),
    ):  # fmt: skip
        if wanted != got:
            raise ValueError(f"expected {what} {wanted}, got {got}")
    # All of the file is looked at before anything is changed.
    history, epoch, split_seed = _history(entries), found["epoch"], found["split_seed"]
    for name, number in (("epoch", epoch), ("split_seed", split_seed)):
        if type(number) is not int or not 0 <= number < 2**63:
            raise ValueError(f"expected a whole number as {name}, got {number!r}")
    rate = found["learning_rate"]
    if rate is not None and not (type(rate) is float and 0 <= rate < math.inf):
        raise ValueError(f"expected a learning rate of at least 0, got {rate!r}")
    states = _states(found["callbacks"], entries, callbacks)
    memories = [callback.state() for callback in callbacks]
    random, moments = model.rng.bit_generator.state, optimizer.state()
    try:
        model.rng.bit_generator.state = found["random"]
        optimizer.set_state(_below("optimizer/", entries))
        for callback, state in zip(callbacks, states, strict=True):
            if state is not None:
                callback.set_state(state)
        weights = _below("weights/", entries)
        if model.input_shape is None:
            build_from(model, found["input_shape"], weights)
        else:
            model.set_weights(weights)
    except BaseException:
        model.rng.bit_generator.state = random
        optimizer.set_state(moments)
        for callback, state in zip(callbacks, memories, strict=True):
            callback.set_state(state)
        raise
    if rate is not None and not callable(optimizer.learning_rate):
        optimizer.learning_rate = rate
    run.history, run.epoch = history, epoch
    return split_seed


def _history(entries: Mapping[str, NDArray]) -> History:
    history = History()
    for name, values in _below("history/", entries).items():
        if values.ndim != 1 or values.dtype != np.float64 or hasattr(History, name):
            raise ValueError(f"expected a list of numbers as history, got {name!r}")
        setattr(history, name, values.tolist())
    return history


def _states(
    found: Sequence[Mapping[str, Any]],
    entries: Mapping[str, NDArray],
    callbacks: Sequence[Callback],
) -> list[dict[str, Any] | None]:
    """What each callback remembered: found by kind and order among it, others may be added."""
    left: dict[str, list[dict[str, Any]]] = {}
    for number, one in enumerate(found):
        state = dict(one["state"]) | _below(f"callback {number}/", entries)
        left.setdefault(one["kind"], []).append(state)
    kinds = [type(callback).__name__ for callback in callbacks]
    return [left[kind].pop(0) if left.get(kind) else None for kind in kinds]


def _below(prefix: str, entries: Mapping[str, NDArray]) -> dict[str, NDArray]:
    return {
        name.removeprefix(prefix): value
        for name, value in entries.items()
        if name.startswith(prefix)
    }
