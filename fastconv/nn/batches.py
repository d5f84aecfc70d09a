"""Where batches come from: arrays in some order, or an iterable of batches; and in time.

Batches of arrays are gathered into two buffers that take turns, in the data's own type: what a
byte image weighs is copied, and only the batch is converted. `ahead` prepares the next batch in a
thread while the current one computes. There is one such thread, it takes one batch at a time and
in order, and its random numbers are its own: so the same seed gives the same bits with it and
without it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastconv.arguments import as_array

Item = TypeVar("Item")


class Batch(NamedTuple):
    """Samples, what the loss compares their outputs with, and how much each counts."""

    x: NDArray
    y: NDArray
    weights: NDArray | None = None


def gather(data: Batch, order: NDArray, batch_size: int) -> Iterator[Batch]:
    """Yield `data` in pieces of `order`; images are good until the next but one is asked for."""
    x = data.x
    # np.take is a memcpy per row, but only from C-contiguous arrays: it copies others whole, at
    # every call. Channels-last images are contiguous once their axes are turned.
    turned = x.ndim == 4 and not x.flags.c_contiguous
    source = np.ascontiguousarray(x.transpose(0, 2, 3, 1) if turned else x)
    shape = (min(batch_size, len(x)), *source.shape[1:])
    buffers = [np.empty(shape, source.dtype) for _ in range(2)]
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = buffers[0][: len(rows)]
        buffers.reverse()
        np.take(source, rows, axis=0, out=batch, mode="clip")  # "raise" would buffer the result
        yield Batch(
            batch.transpose(0, 3, 1, 2) if turned else batch,
            data.y[rows],
            None if data.weights is None else data.weights[rows],
        )


class ArraySource:
    """Arrays, as so many batches per epoch, shuffled for each if wanted."""

    def __init__(self, data: Batch, batch_size: int, shuffle: bool, steps: int | None) -> None:
        self.data, self.batch_size, self.shuffle = data, batch_size, shuffle
        whole = -(-len(data.x) // batch_size)
        self.steps = whole if steps is None else min(steps, whole)

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        samples = len(self.data.x)
        order = rng.permutation(samples) if self.shuffle else np.arange(samples)
        return gather(self.data, order[: self.steps * self.batch_size], self.batch_size)


class StreamSource:
    """An iterable of (x, y) or (x, y, weights), begun anew each epoch unless it is an iterator."""

    def __init__(self, batches: Iterable[Any], steps: int | None) -> None:
        self.steps = steps
        self.once = iter(batches) is batches
        self.batches = batches

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        count = 0
        for batch in islice(self.batches, self.steps):
            if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
                raise ValueError(
                    f"x: expected batches (x, y) or (x, y, weights), got {type(batch).__name__}"
                )
            x, y, *weights = batch
            weighted = weights and weights[0] is not None
            yield Batch(
                as_array(x, "x"),
                as_array(y, "y"),
                as_array(weights[0], "weights") if weighted else None,
            )
            count += 1
        short = self.once and self.steps is not None and count < self.steps
        if not count or short:
            wanted = "at least one" if self.steps is None else self.steps
            raise ValueError(f"x: expected {wanted} batches in this epoch, got {count}")


def weigh(batch: Batch, class_weight: Mapping[int, float] | NDArray) -> Batch:
    """Multiply a batch's weights by those of its classes; a mapping leaves others as they are."""
    y = batch.y
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise ValueError(
            f"class_weight: expected integer labels (N,) with it, got shape {y.shape} of {y.dtype}"
        )
    if isinstance(class_weight, Mapping):
        weights = np.ones(len(y))
        for label, weight in class_weight.items():
            weights[y == label] = weight
    elif len(y) and not (y.min() >= 0 and y.max() < len(class_weight)):
        raise ValueError(
            f"class_weight: expected weights for labels {y.min()} to {y.max()}, got "
            f"{len(class_weight)} of them"
        )
    else:
        weights = class_weight[y]
    return batch._replace(weights=weights if batch.weights is None else weights * batch.weights)


def transformed(
    batches: Iterator[Batch],
    transform: Callable[[NDArray, np.random.Generator], NDArray],
    seed: int,
) -> Iterator[Batch]:
    """Change the images of every batch, with random numbers of one's own."""
    rng = np.random.default_rng(seed)
    for batch in batches:
        x = as_array(transform(batch.x, rng), "augmentation")
        if len(x) != len(batch.x):
            raise ValueError(
                f"augmentation: expected {len(batch.x)} images back, got shape {x.shape}"
            )
        yield batch._replace(x=x)


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items, each made by a thread while the one before it is in use.

    What is raised on the way is raised here. When the caller stops early, by an error or Ctrl-C,
    the thread ends after the item that it is making.
    """
    made: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
    wanted = threading.Semaphore(1)
    stopped = threading.Event()

    def work() -> None:
        try:
            while True:
                wanted.acquire()
                if stopped.is_set():
                    return
                made.put((True, next(items)))
        except BaseException as error:  # handed over, StopIteration too
            made.put((False, error))

    thread = threading.Thread(target=work, name="fastconv-batches", daemon=True)
    thread.start()
    try:
        while True:
            good, item = made.get()
            if not good:
                if isinstance(item, StopIteration):
                    return
                raise item
            wanted.release()
            yield item
    finally:
        stopped.set()
        wanted.release()
        thread.join()
