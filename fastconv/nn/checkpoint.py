"""Checkpoints: all that training depends on from one epoch to the next, in one file.

The file is made and read like a model's (``files.py``): arrays by name, and a text of JSON, under
``checkpoint``, with the epoch, the history, the state of the random numbers, the learning rate, and
what callbacks remember. It does not describe the model or the optimizer: `fit` is called on the
same ones, and their kinds are compared.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastconv.callbacks import Callback, History, Run

from .files import DAMAGE, read_entries, write_whole

if TYPE_CHECKING:
    from .sequential import Sequential

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
            "history": vars(run.history),
            "callbacks": remembered,
        },
        default=_plain,
    )
    entries = {"checkpoint": np.frombuffer(text.encode(), np.uint8)}
    for name, value in arrays.items():
        # Counts have no sign: files know unsigned integers only.
        kind = np.dtype(np.uint64) if value.dtype.kind == "i" else value.dtype
        entries[name] = value.astype(kind.newbyteorder("<"), copy=False)
    write_whole(os.path.realpath(path), entries)


def _plain(value: Any) -> Any:
    """An array or a number of NumPy's, as JSON has them."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"callbacks: expected numbers, text or arrays as state, got {value!r}")


def restore(path: str | os.PathLike[str], run: Run, callbacks: Sequence[Callback]) -> int:
    """Bring a run to where a checkpoint was written; return the seed of its validation split.

    Nothing is changed unless the file is one of this kind of model, optimizer and callbacks.
    """
    with open(path, "rb") as file:
        try:
            return _restore(read_entries(file), run, callbacks)
        except DAMAGE as error:
            raise ValueError(f"{os.fspath(path)}: cannot resume from it: {error}") from error


def _restore(entries: dict[str, NDArray], run: Run, callbacks: Sequence[Callback]) -> int:
    found = json.loads(entries.pop("checkpoint").tobytes())
    if found["format"] != FORMAT or found["version"] != VERSION:
        raise ValueError(f"expected {FORMAT} version {VERSION}, got {found['format']!r} version "
                         f"{found['version']!r}")  # fmt: skip
    model: Sequential = run.model
    optimizer = run.optimizer
    for what, wanted, got in (
        ("a model of", model.dtype.name, found["dtype"]),
        ("the optimizer", type(optimizer).__name__, found["optimizer"]),
        ("the random numbers", model.rng.bit_generator.state["bit_generator"],
         found["random"]["bit_generator"]),
    ):  # fmt: skip
        if wanted != got:
            raise ValueError(f"expected {what} {wanted}, got {got}")
    if model.input_shape is None:
        model.build(tuple(found["input_shape"]))
    random = model.rng.bit_generator.state
    try:
        model.rng.bit_generator.state = found["random"]
        model.set_weights(_below("weights/", entries))
        optimizer.set_state(_below("optimizer/", entries))
    except BaseException:
        model.rng.bit_generator.state = random
        raise
    if found["learning_rate"] is not None and not callable(optimizer.learning_rate):
        optimizer.learning_rate = found["learning_rate"]
    # Callbacks find their state by kind and order among that kind: others may be added.
    for kind in {type(callback).__name__ for callback in callbacks}:
        now = [callback for callback in callbacks if type(callback).__name__ == kind]
        then = [n for n, one in enumerate(found["callbacks"]) if one["kind"] == kind]
        for callback, number in zip(now, then, strict=False):
            state = found["callbacks"][number]["state"]
            callback.set_state(state | _below(f"callback {number}/", entries))
    run.history = History()
    for name, values in found["history"].items():
        setattr(run.history, name, list(values))
    run.epoch = int(found["epoch"])
    return int(found["split_seed"])


def _below(prefix: str, entries: dict[str, NDArray]) -> dict[str, NDArray]:
    return {
        name.removeprefix(prefix): value
        for name, value in entries.items()
        if name.startswith(prefix)
    }
