"""The loops over batches: training, evaluation, prediction.

One step is four lines (`train_step`); around it are the order of the samples, the gathering of
batches and the record of what happened. Batches are gathered into one buffer per pass, in the
data's own type: what a byte image weighs is copied, and only the batch is converted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import functional as F
from fastconv.arguments import as_array
from fastconv.losses import Loss, get_loss
from fastconv.optim import Optimizer, get_optimizer

from .activation import Softmax
from .layer import positive_int

if TYPE_CHECKING:
    from .sequential import Sequential


@dataclass
class History:
    """What `fit` saw: one number per epoch in each list.

    `loss` and `accuracy` are means over the epoch's training batches, taken as training went on;
    `val_loss` and `val_accuracy` are of the validation data after the epoch; `seconds` is the
    time spent training. Lists that do not apply stay empty.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Mean:
    """Running means of loss and accuracy over batches of different sizes."""

    def __init__(self) -> None:
        self.samples = 0
        self.loss = 0.0
        self.correct: int | None = 0

    def add(self, loss: float, outputs: NDArray, targets: NDArray) -> None:
        self.samples += len(outputs)
        self.loss += loss * len(outputs)
        if outputs.ndim != 2 or targets.ndim != 1 or targets.dtype.kind not in "iu":
            self.correct = None
        if self.correct is not None:
            self.correct += int(np.count_nonzero(outputs.argmax(axis=1) == targets))

    def result(self) -> dict[str, float]:
        means = {"loss": self.loss / self.samples}
        if self.correct is not None:
            means["accuracy"] = self.correct / self.samples
        return means


def loss_for(model: Sequential, loss: str | Loss) -> Loss:
    """Return the loss function, unless the model already ends in what it contains."""
    function = get_loss(loss)
    if function is F.softmax_cross_entropy and isinstance(model.layers[-1], Softmax):
        raise ValueError(
            "loss: expected a model that ends in scores for 'softmax_cross_entropy', which "
            "contains the softmax, got one that ends in Softmax(); leave that layer off and "
            "take fastconv.softmax(model.predict(x)) for probabilities"
        )
    return function


def train_step(
    model: Sequential, x: ArrayLike, y: NDArray, optimizer: Optimizer, loss: Loss
) -> tuple[float, NDArray]:
    """Take one step on one batch; return its loss and outputs."""
    outputs = model.forward(x, training=True)
    value, doutputs = loss(outputs, y)
    model.backward(doutputs)
    optimizer.update(model.parameters())
    return float(value), outputs


def fit(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    *,
    epochs: int,
    batch_size: int,
    optimizer: str | Optimizer,
    loss: str | Loss,
    validation_data: tuple[ArrayLike, ArrayLike] | None,
    shuffle: bool,
    progress: bool,
) -> History:
    """Train; see `Sequential.fit`."""
    x, y = _samples(model, x, y)
    epochs = positive_int("epochs", epochs)
    batch_size = positive_int("batch_size", batch_size)
    optimizer = get_optimizer(optimizer)
    function = loss_for(model, loss)
    validation = None if validation_data is None else _samples(model, *validation_data)
    steps = -(-len(x) // batch_size)
    history = History()
    for epoch in range(1, epochs + 1):
        order = model.rng.permutation(len(x)) if shuffle else np.arange(len(x))
        mean = Mean()
        start = time.perf_counter()
        with _bar(f"epoch {epoch}/{epochs}", steps, progress) as bar:
            for rows, batch in batches(x, order, batch_size):
                value, outputs = train_step(model, batch, y[rows], optimizer, function)
                mean.add(value, outputs, y[rows])
                if bar is not None:
                    bar.set_postfix(loss=f"{value:.4f}", refresh=False)
                    bar.update()
        seconds = time.perf_counter() - start
        numbers = mean.result()
        if validation is not None:
            means = evaluate(model, *validation, batch_size=128, loss=loss)
            numbers |= {f"val_{name}": value for name, value in means.items()}
        history.seconds.append(seconds)
        for name, value in numbers.items():
            getattr(history, name).append(value)
        if progress:
            line = "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())
            print(f"epoch {epoch}/{epochs}  {line}  {1000 * seconds / steps:.2f} ms/step")
    return history


def evaluate(
    model: Sequential, x: ArrayLike, y: ArrayLike, *, batch_size: int, loss: str | Loss
) -> dict[str, float]:
    """Mean loss and accuracy; see `Sequential.evaluate`."""
    x, y = _samples(model, x, y)
    function = loss_for(model, loss)
    mean = Mean()
    for rows, batch in batches(x, np.arange(len(x)), positive_int("batch_size", batch_size)):
        outputs = model.forward(batch)
        mean.add(float(function(outputs, y[rows])[0]), outputs, y[rows])
    return mean.result()


def predict(model: Sequential, x: ArrayLike, *, batch_size: int) -> NDArray:
    """Outputs of all samples; see `Sequential.predict`."""
    x = model._checked(x)
    assert model.output_shape is not None  # the check has built the model
    outputs = np.empty((len(x), *model.output_shape), model.dtype)
    for rows, batch in batches(x, np.arange(len(x)), positive_int("batch_size", batch_size)):
        outputs[rows] = model.forward(batch)
    return outputs


def batches(x: NDArray, order: NDArray, batch_size: int) -> Iterator[tuple[NDArray, NDArray]]:
    """Yield (rows, x[rows]) for successive pieces of `order`.

    All batches share one buffer: each is good until the next is asked for.
    """
    # np.take is a memcpy per row, but only from C-contiguous arrays: it copies others whole, at
    # every call. Channels-last images are contiguous once their axes are turned.
    turned = x.ndim == 4 and not x.flags.c_contiguous
    source = np.ascontiguousarray(x.transpose(0, 2, 3, 1) if turned else x)
    buffer = np.empty((min(batch_size, len(x)), *source.shape[1:]), source.dtype)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = buffer[: len(rows)]
        np.take(source, rows, axis=0, out=batch, mode="clip")  # "raise" would buffer the result
        yield rows, batch.transpose(0, 3, 1, 2) if turned else batch


def _samples(model: Sequential, x: ArrayLike, y: ArrayLike) -> tuple[NDArray, NDArray]:
    samples, targets = model._checked(x), as_array(y, "y")
    if not len(samples):
        raise ValueError(f"x: expected at least one sample, got shape {samples.shape}")
    if targets.ndim < 1 or len(targets) != len(samples):
        raise ValueError(
            f"y: expected one entry for each of the {len(samples)} samples, "
            f"got shape {targets.shape}"
        )
    return samples, targets


def _bar(text: str, steps: int, progress: bool) -> Any:
    """A tqdm bar where that is wanted and installed; otherwise a context that gives None."""
    if progress:
        try:
            from tqdm import tqdm
        except ImportError:
            return nullcontext()
        return tqdm(total=steps, desc=text, leave=False, disable=None, unit="step")
    return nullcontext()
