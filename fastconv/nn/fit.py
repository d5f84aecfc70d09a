"""The loops over batches: training, evaluation, prediction.

One step is four lines (`train_step`); around it are the batches (``batches.py``), the callbacks,
and the record of what happened (`fastconv.callbacks.History`).

**Random numbers.** Everything that decides an epoch's batches is drawn from the model's generator
before its first step: the order of the samples, and a seed for the augmentation. From there on the
generator belongs to the layers. So neither a thread that prepares batches nor the number of threads
changes a bit, and a checkpoint between epochs needs to keep one generator's state.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import functional as F
from fastconv.arguments import as_array, boolean, list_of, real
from fastconv.callbacks import Callback, Checkpoint, History, Run
from fastconv.losses import Loss, SoftmaxCrossEntropy, get_loss
from fastconv.metrics import Metric, get_metric
from fastconv.optim import Optimizer, get_optimizer

from . import checkpoint
from .activation import Softmax
from .batches import (
    ArraySource,
    Batch,
    StreamSource,
    ahead,
    gather,
    transformed,
    weigh,
)
from .layer import positive_int

if TYPE_CHECKING:
    from .sequential import Sequential

__all__ = ["History", "evaluate", "fit", "loss_for", "predict", "train_step"]

Metrics = Sequence[str | Metric]
Arrays = tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, ArrayLike]
EVALUATED = 128  # samples of a batch of validation data


class Meter:
    """Means of loss and accuracy over batches of different sizes, and metrics over all of them."""

    def __init__(self, loss: Loss, metrics: Metrics) -> None:
        self.weight = 0.0
        self.loss = 0.0
        self.samples = self.correct = 0
        self.labelled = True
        self.ignored = getattr(loss, "ignore_label", None)
        self.metrics = dict(map(get_metric, metrics))
        self.seen: list[tuple[NDArray, NDArray]] = []

    def add(self, loss: float, outputs: NDArray, batch: Batch) -> None:
        targets = batch.y
        weight = len(outputs) if batch.weights is None else float(np.sum(batch.weights))
        self.weight += weight
        self.loss += loss * weight
        labels = targets.ndim == 1 and targets.dtype.kind in "iu"
        if labels and self.ignored is not None:
            kept = targets != self.ignored
            outputs, targets = outputs[kept], targets[kept]
        self.labelled = self.labelled and labels and outputs.ndim == 2
        if self.labelled:
            self.samples += len(outputs)
            self.correct += int(np.count_nonzero(outputs.argmax(axis=1) == targets))
        if self.metrics:
            # Copies: either may lie in memory that the next batch takes.
            self.seen.append((np.array(outputs), np.array(targets)))

    def result(self) -> dict[str, float]:
        means = {"loss": self.loss / self.weight if self.weight else 0.0}
        if self.labelled and self.samples:
            means["accuracy"] = self.correct / self.samples
        if self.metrics:
            outputs, targets = (np.concatenate(arrays) for arrays in zip(*self.seen, strict=True))
            means |= {name: float(of(outputs, targets)) for name, of in self.metrics.items()}
        return means


def checked_metrics(metrics: Metrics) -> Metrics:
    """The metrics as a list, of which each has a name."""
    if not isinstance(metrics, (tuple, list)):
        raise TypeError(f"metrics: expected a list of names and functions, got {metrics!r}")
    for metric in metrics:
        get_metric(metric)
    return metrics


def loss_for(model: Sequential, loss: str | Loss) -> Loss:
    """Return the loss function, unless the model already ends in what it contains."""
    function = get_loss(loss)
    contains = function is F.softmax_cross_entropy or isinstance(function, SoftmaxCrossEntropy)
    if contains and isinstance(model.layers[-1], Softmax):
        raise ValueError(
            "loss: expected a model that ends in scores for 'softmax_cross_entropy', which "
            "contains the softmax, got one that ends in Softmax(); leave that layer off and "
            "take fastconv.softmax(model.predict(x)) for probabilities"
        )
    return function


def loss_of(loss: Loss, outputs: NDArray, batch: Batch) -> tuple[float, NDArray]:
    """A batch's loss and gradient; weights are mentioned only where there are some."""
    if batch.weights is None:
        return loss(outputs, batch.y)
    return loss(outputs, batch.y, sample_weights=batch.weights)


def train_step(
    model: Sequential, batch: Batch, optimizer: Optimizer, loss: Loss
) -> tuple[float, NDArray]:
    """Take one step on one batch; return its loss and outputs."""
    outputs = model.forward(batch.x, training=True)
    value, doutputs = loss_of(loss, outputs, batch)
    model.backward(doutputs)
    optimizer.update(model.parameters())
    return float(value), outputs


@dataclass
class Plan:
    """What `fit` was asked for, checked."""

    source: ArraySource | StreamSource
    validation: Batch | None
    loss: Loss
    metrics: Metrics
    class_weight: Mapping[int, float] | NDArray | None
    augmentation: Callable[[NDArray, np.random.Generator], NDArray] | None
    callbacks: list[Callback]
    progress: bool

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        """One epoch's, prepared in time."""
        batches = self.source.epoch(rng)
        weights = self.class_weight
        if weights is not None:
            batches = (weigh(batch, weights) for batch in batches)
        if self.augmentation is not None:
            batches = transformed(batches, self.augmentation, int(rng.integers(2**63)))
        # Gathering rows of an array is a copy, which a thread would only interrupt.
        slow = self.augmentation is not None or isinstance(self.source, StreamSource)
        return ahead(batches) if slow else batches

    def tell(self, hook: str, run: Run) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(run)


def fit(
    model: Sequential,
    x: ArrayLike | Iterable[Any],
    y: ArrayLike | None,
    *,
    epochs: int,
    batch_size: int,
    optimizer: str | Optimizer,
    loss: str | Loss,
    metrics: Metrics,
    validation_data: Arrays | None,
    validation_split: float,
    sample_weight: ArrayLike | None,
    class_weight: Mapping[int, float] | ArrayLike | None,
    shuffle: bool,
    steps_per_epoch: int | None,
    augmentation: Callable[[NDArray, np.random.Generator], NDArray] | None,
    callbacks: Iterable[Callback],
    resume: str | os.PathLike[str] | None,
    progress: bool,
) -> History:
    """Train; see `Sequential.fit`."""
    callbacks = _checked_callbacks(callbacks)
    boolean("shuffle", shuffle)
    boolean("progress", progress)
    share = real("validation_split", validation_split)
    if augmentation is not None and not callable(augmentation):
        raise TypeError(f"augmentation: expected a function of (x, rng), got {augmentation!r}")
    batch_size = positive_int("batch_size", batch_size)
    steps = None if steps_per_epoch is None else positive_int("steps_per_epoch", steps_per_epoch)
    split_seed = 0

    def save(path: str | os.PathLike[str]) -> None:
        checkpoint.save(path, run, callbacks, split_seed)

    run = Run(model, get_optimizer(optimizer), positive_int("epochs", epochs), save)
    function = loss_for(model, loss)
    metrics = checked_metrics(metrics)
    data = None if y is None else _samples(model, x, y, sample_weight)
    if resume is not None:
        if not isinstance(resume, (str, bytes, os.PathLike)):
            raise TypeError(f"resume: expected the path of a file or None, got {resume!r}")
        split_seed = checkpoint.restore(resume, run, callbacks)
    elif share:
        split_seed = int(model.rng.integers(2**63))
    if data is None:
        if share or sample_weight is not None:
            raise ValueError("y: expected arrays for validation_split and sample_weight, got None")
        stream = StreamSource(_iterable(x), steps)
        if stream.once and steps is None and run.epochs > 1:
            raise ValueError(
                "steps_per_epoch: expected a number with an iterator, which cannot be begun anew "
                "for every epoch, got None"
            )
        source: ArraySource | StreamSource = stream
    validation = None if validation_data is None else _validation(model, validation_data)
    if data is not None:
        if share:
            if validation is not None:
                raise ValueError("validation_split: expected no validation_data beside it")
            data, validation = _split(data, share, split_seed)
        source = ArraySource(data, batch_size, shuffle, steps)
    plan = Plan(
        source, validation, function, metrics, _class_weight(class_weight), augmentation,
        callbacks, progress,
    )  # fmt: skip
    model.history = run.history
    plan.tell("on_train_begin", run)
    try:
        while run.epoch < run.epochs and not run.stop:
            _train_epoch(plan, run)
    except KeyboardInterrupt:
        plan.tell("on_train_end", run)
        raise  # whoever trains several models wants none of them any more
    plan.tell("on_train_end", run)
    return run.history


def _train_epoch(plan: Plan, run: Run) -> None:
    model, name = run.model, f"epoch {run.epoch + 1}/{run.epochs}"
    run.epoch, run.step = run.epoch + 1, 0
    plan.tell("on_epoch_begin", run)
    meter = Meter(plan.loss, plan.metrics)
    start = time.perf_counter()
    # Closed at once when a step fails, so that no thread is left behind.
    batches: Any = plan.batches(model.rng)
    with _bar(name, plan.source.steps, plan.progress) as bar, closing(batches):
        for batch in batches:
            run.loss, outputs = train_step(model, batch, run.optimizer, plan.loss)
            run.step += 1
            meter.add(run.loss, outputs, batch)
            if bar is not None:
                bar.set_postfix(loss=f"{run.loss:.4f}", refresh=False)
                bar.update()
            plan.tell("on_batch_end", run)
    seconds = time.perf_counter() - start
    run.numbers = meter.result()
    if plan.validation is not None:
        means = _evaluate(model, plan.validation, EVALUATED, plan.loss, plan.metrics)
        run.numbers |= {f"val_{key}": value for key, value in means.items()}
    shown = "  ".join(f"{key} {value:.4f}" for key, value in run.numbers.items())
    run.numbers |= {"seconds": seconds, "learning_rate": float(run.optimizer.rate)}
    run.history.add(run.numbers)
    if plan.progress:
        print(f"{name}  {shown}  {1000 * seconds / run.step:.2f} ms/step")
    plan.tell("on_epoch_end", run)


def evaluate(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    *,
    batch_size: int,
    loss: str | Loss,
    metrics: Metrics,
    sample_weight: ArrayLike | None,
) -> dict[str, float]:
    """Mean loss, accuracy and metrics; see `Sequential.evaluate`."""
    data = _samples(model, x, y, sample_weight)
    batch_size = positive_int("batch_size", batch_size)
    return _evaluate(model, data, batch_size, loss_for(model, loss), checked_metrics(metrics))


def _evaluate(
    model: Sequential, data: Batch, batch_size: int, loss: Loss, metrics: Metrics
) -> dict[str, float]:
    meter = Meter(loss, metrics)
    for batch in gather(data, np.arange(len(data.x)), batch_size):
        outputs = model.forward(batch.x)
        meter.add(float(loss_of(loss, outputs, batch)[0]), outputs, batch)
    return meter.result()


def predict(model: Sequential, x: ArrayLike, *, batch_size: int) -> NDArray:
    """Outputs of all samples; see `Sequential.predict`."""
    x = model._checked(x)
    assert model.output_shape is not None  # the check has built the model
    outputs = np.empty((len(x), *model.output_shape), model.dtype)
    rows = np.arange(len(x))
    for batch in gather(Batch(x, rows), rows, positive_int("batch_size", batch_size)):
        outputs[batch.y] = model.forward(batch.x)
    return outputs


def _samples(model: Sequential, x: Any, y: ArrayLike, weights: ArrayLike | None) -> Batch:
    samples, targets = model._checked(x), as_array(y, "y")
    if not len(samples):
        raise ValueError(f"x: expected at least one sample, got shape {samples.shape}")
    if targets.ndim < 1 or len(targets) != len(samples):
        raise ValueError(
            f"y: expected one entry for each of the {len(samples)} samples, "
            f"got shape {targets.shape}"
        )
    if weights is None:
        return Batch(samples, targets)
    counts = as_array(weights, "sample_weight")
    if counts.shape != (len(samples),) or counts.dtype.kind not in "biuf":
        raise ValueError(
            f"sample_weight: expected shape ({len(samples)},), got {counts.shape} of "
            f"{counts.dtype}"
        )
    return Batch(samples, targets, counts)


def _validation(model: Sequential, data: Arrays) -> Batch:
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise ValueError(
            f"validation_data: expected (x, y) or (x, y, weights), got {type(data).__name__}"
        )
    return _samples(model, data[0], data[1], data[2] if len(data) == 3 else None)


def _split(data: Batch, share: float, seed: int) -> tuple[Batch, Batch]:
    """Training and validation data: samples drawn at random, each part in its old order."""
    if not 0 < share < 1:
        raise ValueError(f"validation_split: expected a number in [0, 1), got {share!r}")
    count = round(share * len(data.x))
    if not 0 < count < len(data.x):
        raise ValueError(
            f"validation_split: expected at least one sample on both sides, got {count} of "
            f"{len(data.x)}"
        )
    order = np.random.default_rng(seed).permutation(len(data.x))
    training, validation = (
        Batch(*(None if array is None else array[np.sort(rows)] for array in data))  # type: ignore[arg-type]
        for rows in (order[count:], order[:count])
    )
    return training, validation


def _class_weight(given: Any) -> Mapping[int, float] | NDArray | None:
    if given is None:
        return None
    if isinstance(given, Mapping):
        for label, weight in given.items():
            real("class_weight", weight)
            if isinstance(label, (bool, np.bool_)) or not isinstance(label, (int, np.integer)):
                raise TypeError(f"class_weight: expected integer labels, got {label!r}")
        return given
    weights = as_array(given, "class_weight")
    if weights.ndim != 1 or weights.dtype.kind not in "biuf":
        raise ValueError(
            f"class_weight: expected shape (classes,), got {weights.shape} of "
            f"{weights.dtype}"
        )
    return weights


def _iterable(x: Any) -> Iterable[Any]:
    if isinstance(x, np.ndarray) or not isinstance(x, Iterable):
        raise ValueError(
            f"y: expected targets for the samples x, or x to be an iterable of batches, got None "
            f"and {type(x).__name__}"
        )
    return x


def _checked_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    """The callbacks in the order of their hooks."""
    found = list_of("callbacks", callbacks, Callback, "Callback objects")
    return sorted(found, key=lambda callback: isinstance(callback, Checkpoint))


def _bar(text: str, steps: int | None, progress: bool) -> Any:
    """A tqdm bar where that is wanted and installed; otherwise a context that gives None."""
    if progress:
        try:
            from tqdm import tqdm
        except ImportError:
            return nullcontext()
        return tqdm(total=steps, desc=text, leave=False, disable=None, unit="step")
    return nullcontext()
