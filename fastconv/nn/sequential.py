"""A chain of layers: the model, and a layer of larger models.

`Sequential` holds the layers, gives them their shapes, and runs them forwards and backwards. All
loops over batches are in ``fit.py``, the file format is in ``files.py``; the methods here open
onto them.

Activations are kept channels-last between layers, the order in which the engine's tiles read
contiguous memory. A batch is brought to that order once, on the way in; every layer answers in
the order it was given. A chain inside another model finds its batches in that order already, and
uses the outer model's random numbers and type.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import functional as F
from fastconv.arguments import as_array, as_tuple, boolean, float_dtype, list_of
from fastconv.augmentation import Transform
from fastconv.callbacks import Callback
from fastconv.losses import Loss
from fastconv.optim import Optimizer
from fastconv.runtime import cheapest_algorithm

from . import files, folding
from . import fit as loops
from .batches import Batch
from .containers import Container
from .layer import Layer, Shape, join, positive_int


class Sequential(Container):
    """A model that is a chain of layers; in another model, a layer that is a chain.

    Parameters
    ----------
    layers : iterable of Layer
        In order. Each layer object may stand in a model once.
    input_shape : tuple of int, optional
        Shape of one sample, ``(C, H, W)`` or ``(features,)``. Without it the model takes the
        shape of the first batch it meets.
    seed : int or numpy.random.Generator, optional
        Source of every random number of the model: first values, shuffling, dropout. The same
        seed gives the same bits.
    dtype : "float32" or "float64"
        Type of parameters and activations; batches of other real types are converted.

    Attributes
    ----------
    layers : list of Layer
    input_shape, output_shape : tuple of int or None
        Shapes of one sample; None until the model is built.
    metadata : dict
        Anything JSON can hold; saved and loaded with the model.
    history : History or None
        What the last `fit` saw, also when it was interrupted. It is not saved.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Conv2D, Dense, Flatten, MaxPool, Sequential
    >>> model = Sequential([
    ...     Conv2D(8, 3, padding="same", activation="relu"),
    ...     MaxPool(2),
    ...     Flatten(),
    ...     Dense(10),
    ... ], seed=0)
    >>> model.forward(np.zeros((5, 1, 28, 28))).shape
    (5, 10)
    """

    def __init__(
        self,
        layers: Iterable[Layer],
        *,
        input_shape: Shape | None = None,
        seed: int | np.random.Generator | None = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__()
        self.layers = list_of("layers", layers, Layer, "layers")
        if not self.layers:
            raise ValueError("layers: expected at least one")
        self.check_children()
        self.dtype = float_dtype("dtype", dtype)
        # NumPy takes more, and does not survive all of it.
        if seed is not None and not isinstance(seed, np.random.Generator):
            if isinstance(seed, (bool, np.bool_)) or not isinstance(seed, (int, np.integer)):
                raise TypeError(f"seed: expected an integer, a generator or None, got {seed!r}")
            if seed < 0:
                raise ValueError(f"seed: expected an integer of at least 0, got {seed!r}")
        self.rng = np.random.default_rng(seed)
        self.metadata: dict[str, Any] = {}
        self.history: loops.History | None = None
        self.input_shape: Shape | None = None
        if input_shape is not None:
            self.build(input_shape)

    def children(self) -> dict[str, Layer]:
        return {str(position): layer for position, layer in enumerate(self.layers)}

    def build(
        self,
        input_shape: Shape,
        rng: np.random.Generator | None = None,
        dtype: np.dtype | None = None,
    ) -> Shape:
        """Give every layer its input's shape, which makes the parameters.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one sample.
        rng, dtype
            Given by the model that this chain is a layer of.

        Returns
        -------
        tuple of int
            Shape of the result for one sample.

        Raises
        ------
        ValueError
            If the model is built already, or a layer cannot take the shape it is given.
        """
        if rng is not None and dtype is not None:
            self.rng, self.dtype = rng, dtype
        elif self.input_shape is not None:
            raise ValueError(f"build: the model is built already, for {self.input_shape}")
        sizes = as_tuple("input_shape", input_shape)
        sample = shape = tuple(positive_int("input_shape", size) for size in sizes)
        self.multiply_adds = 0
        for layer in self.layers:
            shape = self.build_child(layer, shape, self.rng, self.dtype)
        for path, layer in self.walk():
            for name, value in (*layer.params.items(), *layer.state.items()):
                if value.dtype != self.dtype or not value.flags.c_contiguous:
                    raise ValueError(
                        f"{layer!r}: {join(path, name)}: expected a C-contiguous array of "
                        f"{self.dtype}, got strides {value.strides} of {value.dtype}"
                    )
        self.takes_relu = self.layers[0].takes_relu
        self.input_shape, self.output_shape = sample, shape
        return shape

    def forward(self, x: ArrayLike, *, training: bool = False) -> NDArray:
        """Run a batch through the layers.

        Parameters
        ----------
        x : array_like, shape ``(N, *input_shape)``
        training : bool
            Whether `backward` will follow, and whether dropout is active.

        Returns
        -------
        ndarray, shape ``(N, *output_shape)``
        """
        boolean("training", training)
        y = self._checked(x).astype(self.dtype, copy=False)
        if y.ndim == 4:
            y = F.as_channels_last(y)
        before = None
        with cheapest_algorithm():
            for layer in self.layers:
                y = layer.forward(y, training=training)
                # Who masks the gradient of a ReLU between the two: see layer.py.
                if training and before and layer.takes_relu and before.hand_over_relu():
                    layer.take_relu()
                before = layer
        return y

    def hand_over_relu(self) -> bool:
        return self.layers[-1].hand_over_relu()

    def take_relu(self) -> None:
        self.layers[0].take_relu()

    def _checked(self, x: ArrayLike) -> NDArray:
        """Return x as an array of samples that the model takes; build the model for the first."""
        x = as_array(x, "x")
        if x.dtype.kind not in "biuf":
            raise TypeError(f"x: expected an array of real numbers, got {x.dtype}")
        if self.input_shape is None and x.ndim > 1:
            self.build(x.shape[1:])
        if x.ndim < 2 or x.shape[1:] != self.input_shape:
            expected = ", ".join(map(str, self.input_shape or ("...",)))
            raise ValueError(f"x: expected shape (N, {expected}), got {x.shape}")
        return x

    def backward(self, dy: ArrayLike, *, need_dx: bool = False) -> NDArray | None:
        """Fill every layer's gradients from the last ``forward(..., training=True)``.

        Parameters
        ----------
        dy : array_like, shape ``(N, *output_shape)``
            Gradient of the loss with respect to the model's output.
        need_dx : bool
            Whether the gradient with respect to the model's input is wanted too. Without it no
            work is done below the first layer that has parameters.

        Returns
        -------
        ndarray of shape ``(N, *input_shape)``, or None
        """
        layers = self.layers
        if not need_dx:
            with_params = (i for i, layer in enumerate(layers) if layer.parameters())
            layers = layers[next(with_params, len(layers)) :]
        gradient: Any = as_array(dy, "dy")
        with cheapest_algorithm():
            for layer in reversed(layers):
                gradient = layer.backward(gradient, need_dx=need_dx or layer is not layers[0])
        return gradient if need_dx else None

    def summary(self) -> str:
        """Return a table of layers, output shapes, parameters and multiply-adds per sample.

        What layers keep besides parameters (`Layer.state`) has a line of its own, below the total.

        Examples
        --------
        >>> from fastconv import Dense, Flatten, Sequential
        >>> print(Sequential([Flatten(), Dense(10)], input_shape=(1, 8, 8)).summary())
        layer      output shape  parameters  multiply-adds
        --------------------------------------------------
        Flatten()  (64,)                  0              0
        Dense(10)  (10,)                650            640
        --------------------------------------------------
        total                           650            640
        """
        if self.input_shape is None:
            raise ValueError(
                "summary: the model has no shapes yet; give it input_shape= or a first batch"
            )
        rows: list[tuple[str, str, int, int]] = []
        for name, child in self.children().items():
            rows += _rows(name, child)
        total = sum(value.size for _, value, _ in self.parameters())
        rows.append(("total", "", total, self.multiply_adds))
        state = sum(value.size for _, layer in self.walk() for value in layer.state.values())
        if state:
            rows.append(("state, not trained", "", state, 0))
        sizes, work = ([row[column] for row in rows] for column in (2, 3))
        columns = [
            ["layer", *(row[0] for row in rows)],
            ["output shape", *(row[1] for row in rows)],
            ["parameters", *(f"{size:,}" for size in sizes)],
            ["multiply-adds", *(f"{count:,}" for count in work)],
        ]
        widths = [max(map(len, column)) for column in columns]
        lines = [
            f"{name:{widths[0]}}  {shape:{widths[1]}}  {size:>{widths[2]}}  {count:>{widths[3]}}"
            for name, shape, size, count in zip(*columns, strict=True)
        ]
        rule = "-" * len(lines[0])
        end = len(lines) - (2 if state else 1)
        return "\n".join([lines[0], rule, *lines[1:end], rule, *lines[end:]])

    def train_batch(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        optimizer: Optimizer,
        loss: str | Loss = "softmax_cross_entropy",
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Take one step on one batch and return its loss.

        Parameters
        ----------
        x : array_like, shape ``(N, *input_shape)``
        y : array_like
            What `loss` compares with: labels (N,) for the default.
        optimizer : Optimizer
            An object, since it carries its state from step to step.
        loss : str or callable
            See `fit`.
        sample_weight : array_like (N,), optional
            How much each sample counts.
        """
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizer: expected an Optimizer such as SGD(0.1), which remembers its earlier "
                f"steps, got {optimizer!r}"
            )
        weights = None if sample_weight is None else as_array(sample_weight, "sample_weight")
        batch = Batch(self._checked(x), as_array(y, "y"), weights)
        return loops.train_step(self, batch, optimizer, loops.loss_for(self, loss))[0]

    def fit(
        self,
        x: ArrayLike | Iterable[Any],
        y: ArrayLike | None = None,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        optimizer: str | Optimizer = "adam",
        loss: str | Loss = "softmax_cross_entropy",
        metrics: loops.Metrics = (),
        validation_data: loops.Arrays | None = None,
        validation_split: float = 0.0,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | ArrayLike | None = None,
        shuffle: bool = True,
        steps_per_epoch: int | None = None,
        augmentation: Transform | None = None,
        callbacks: Iterable[Callback] = (),
        resume: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> loops.History:
        """Train for a number of epochs.

        Parameters
        ----------
        x : array_like, shape ``(samples, *input_shape)``, or iterable
            Any real type; batches are converted one at a time. Without `y` it is an iterable of
            batches ``(x, y)`` or ``(x, y, weights)``, which is begun anew for every epoch; an
            iterator goes on from epoch to epoch and needs `steps_per_epoch`.
        y : array_like, shape (samples, ...)
            What `loss` compares with: integer labels (samples,) for the default.
        epochs : int
            Passes over the data.
        batch_size : int
            Samples per step; the last step of an epoch takes what is left.
        optimizer : "adam", "adamw", "rmsprop", "sgd" or Optimizer
            A name stands for a new optimizer with its default settings.
        loss : "softmax_cross_entropy", "binary_cross_entropy", "mse", "huber" or callable
            A callable is given (outputs, targets) and returns the mean loss and its gradient
            with respect to the outputs; with weights it is given ``sample_weights=`` too.
            `fastconv.losses` has objects with settings.
        metrics : sequence of str or callable
            What else to tell of every epoch: names or functions of `fastconv.metrics`, or any
            function of (outputs, targets) that returns a number. It is given all of the epoch's
            outputs at once.
        validation_data : (x, y) or (x, y, weights), optional
            Evaluated after every epoch.
        validation_split : float
            Instead: the share of the samples, drawn at random, that is held back for it.
        sample_weight : array_like (samples,), optional
            How much each sample counts in the loss.
        class_weight : dict of int to float, or array_like (classes,), optional
            The same by label; a dict need not name classes of weight 1.
        shuffle : bool
            Whether every epoch takes the samples in a new random order. Iterables come as they do.
        steps_per_epoch : int, optional
            Batches of an epoch, at most all.
        augmentation : callable, optional
            Changes the images of each training batch: called with (x, rng). See
            `fastconv.augmentation`.
        callbacks : iterable of Callback
            See `fastconv.callbacks`: early stopping, checkpoints, logs, or one's own.
        resume : str or path, optional
            A file that `Checkpoint` wrote: training goes on after its epoch, up to `epochs`, with
            the same bits as if it had not stopped.
        progress : bool
            Print one line per epoch, and a bar meanwhile where tqdm is installed.

        Returns
        -------
        History
            One number per epoch in plain lists.

        Notes
        -----
        Ctrl-C raises KeyboardInterrupt and leaves the model usable, as the last step left it;
        callbacks see the end, and `history` has the epochs that were finished.
        """
        return loops.fit(
            self,
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            loss=loss,
            metrics=metrics,
            validation_data=validation_data,
            validation_split=validation_split,
            sample_weight=sample_weight,
            class_weight=class_weight,
            shuffle=shuffle,
            steps_per_epoch=steps_per_epoch,
            augmentation=augmentation,
            callbacks=callbacks,
            resume=resume,
            progress=progress,
        )

    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        batch_size: int = 128,
        loss: str | Loss = "softmax_cross_entropy",
        metrics: loops.Metrics = (),
        sample_weight: ArrayLike | None = None,
    ) -> dict[str, float]:
        """Return the mean loss on (x, y), for integer labels the accuracy, and metrics.

        Parameters
        ----------
        x, y, batch_size, loss, metrics, sample_weight
            See `fit`.

        Returns
        -------
        dict
            ``{"loss": ..., "accuracy": ...}``, and every metric under its name.
        """
        return loops.evaluate(
            self,
            x,
            y,
            batch_size=batch_size,
            loss=loss,
            metrics=metrics,
            sample_weight=sample_weight,
        )

    def predict(self, x: ArrayLike, *, batch_size: int = 128) -> NDArray:
        """Return the outputs for all samples of x, computed batch by batch.

        Returns
        -------
        ndarray, shape ``(samples, *output_shape)``
        """
        return loops.predict(self, x, batch_size=batch_size)

    def folded(self) -> Sequential:
        """Return a model for inference in which batch normalisation costs nothing.

        Every `BatchNorm` that follows a convolution or a dense layer without an activation of its
        own, in this chain or in one inside, is folded into that layer's kernel and bias. The result
        is another model, with its own arrays and the same outputs up to rounding; this one is left
        as it is. Train before, not after.

        Examples
        --------
        >>> from fastconv import BatchNorm, Conv2D, Sequential
        >>> model = Sequential(
        ...     [Conv2D(8, 3, bias=False), BatchNorm(activation="relu")], input_shape=(3, 32, 32)
        ... )
        >>> model.folded()
        Sequential([Conv2D(8, 3, activation='relu')])
        """
        if self.input_shape is None:
            raise ValueError("folded: the model has no parameters yet; build it or give it a batch")
        return folding.folded(self, Sequential)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write layers, parameters and metadata to one file, whole or not at all.

        The path is used as it is. The file is a NumPy ``.npz``; it holds no code.
        """
        files.save(self, path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        layers: Iterable[type[Layer]] = (),
        seed: int | np.random.Generator | None = None,
    ) -> Sequential:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : str or path
        layers : iterable of Layer classes
            Your own layer classes that the file may name.
        seed : int or numpy.random.Generator, optional
            For shuffling and dropout from here on.

        Raises
        ------
        ValueError
            If the file is not such a file, is damaged, or disagrees with itself.
        """
        return files.load(cls, path, layers=(Sequential, *layers), seed=seed)

    def config(self) -> dict[str, Any]:
        return {"layers": self.layers}

    def __repr__(self) -> str:
        return f"Sequential([{', '.join(map(repr, self.layers))}])"


def _rows(name: str, layer: Layer) -> list[tuple[str, str, int, int]]:
    """A layer's own row of the summary, and below it, set in, those of its children."""
    children = layer.children()
    title = repr(layer)
    if children:
        activation = getattr(layer, "activation", None)
        title = type(layer).__name__ + (f", {activation}" if activation else "")
    if not name.isdecimal():
        title = f"{name}: {title}"
    own = layer.multiply_adds - sum(child.multiply_adds for child in children.values())
    size = sum(value.size for value in layer.params.values())
    rows = [(title, str(layer.output_shape), size, own)]
    for below, child in children.items():
        rows += [(f"  {row[0]}", *row[1:]) for row in _rows(below, child)]
    return rows
