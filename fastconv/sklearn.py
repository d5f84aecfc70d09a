"""Scikit-learn estimators: a network with the habits of that library, around `Sequential.fit`.

What is here is translation. Images come as scikit-learn's users hold them, ``(n, h, w)``,
``(n, h, w, c)``, or flat rows of pixels as everything else there wants them; labels may be
anything; ``random_state`` seeds. Out of that come channels-last batches, labels 0, 1, 2, ... and a
generator, and `Sequential` does the rest.

A parameter is kept as it was given and looked at in ``fit`` only; what is learned ends in an
underscore. Parameters that ``fit`` would change (layers, an optimizer) are copied first, so a clone
starts anew.

Scikit-learn is asked for when this module is imported, not with the package.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from itertools import chain, repeat
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv.arguments import as_array
from fastconv.augmentation import Transform
from fastconv.callbacks import EarlyStopping
from fastconv.functional import softmax
from fastconv.losses import Loss
from fastconv.nn import Conv2D, Dense, Flatten, Layer, MaxPool, Sequential
from fastconv.optim import Optimizer, Rate, get_optimizer

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state, compute_class_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import (
        _check_sample_weight,
        check_is_fitted,
        validate_data,
    )
except ImportError:
    raise ImportError(
        "fastconv.sklearn: scikit-learn 1.6 or newer is not installed: pip install scikit-learn, "
        "or pip install 'fastconv[sklearn]'"
    ) from None

__all__ = ["CNNClassifier", "CNNRegressor"]


@dataclass(eq=False, repr=False)
class _CNN(BaseEstimator):
    """What both estimators share; see `CNNClassifier`."""

    network: Callable[..., Sequential] | Iterable[Layer] | None = None
    _: KW_ONLY
    image_shape: tuple[int, ...] | None = None
    epochs: int = 20
    batch_size: int = 32
    optimizer: str | Optimizer = "adam"
    learning_rate: Rate | None = None
    augmentation: Transform | None = None
    early_stopping: bool = False
    validation_split: float = 0.1
    patience: int = 5
    warm_start: bool = False
    dtype: str = "float32"
    random_state: int | np.random.RandomState | np.random.Generator | None = None
    verbose: bool = False

    _target_checks: ClassVar[dict[str, Any]] = {}

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> _CNN:
        """Train for `epochs`, from new first values unless `warm_start` goes on.

        Parameters
        ----------
        X : array_like (n, h, w), (n, h, w, c) or (n, features)
        y : array_like (n,)
        sample_weight : array_like (n,), optional
            How much each sample counts.

        Returns
        -------
        The estimator.
        """
        stopping: dict[str, Any] = {}
        if self.early_stopping:
            stopping["validation_split"] = self.validation_split
            stopping["callbacks"] = [EarlyStopping(patience=self.patience)]
        fresh = not (self.warm_start and hasattr(self, "model_"))
        return self._train(X, y, sample_weight, fresh=fresh, epochs=self.epochs, **stopping)

    def _train(
        self,
        X: ArrayLike,
        y: Any,
        sample_weight: ArrayLike | None,
        *,
        fresh: bool,
        classes: ArrayLike | None = None,
        **settings: Any,
    ) -> Any:
        images, y = self._checked(X, y, reset=fresh, **self._target_checks)
        targets = self._targets(y, fresh, classes)
        outputs = targets.pop("outputs")
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, images, ensure_non_negative=True)
        if fresh:
            self.model_ = self._network(images.shape[1:], outputs)
            self.optimizer_ = copy.deepcopy(get_optimizer(self.optimizer))
            self.loss_curve_: list[float] = []
        rate = self.learning_rate
        if rate is not None:
            if not callable(rate) and not rate > 0:
                raise ValueError(f"learning_rate: expected a number above 0, got {rate!r}")
            self.optimizer_.learning_rate = rate
        history = self.model_.fit(
            images,
            sample_weight=sample_weight,
            batch_size=self.batch_size,
            optimizer=self.optimizer_,
            augmentation=self.augmentation,
            progress=bool(self.verbose),
            **targets,
            **settings,
        )
        self.loss_curve_ += history.loss
        self.n_iter_ = len(self.loss_curve_)
        return self

    def _targets(self, y: NDArray, fresh: bool, classes: ArrayLike | None) -> dict[str, Any]:
        """The number of ``outputs``, and what `Sequential.fit` is told of the targets."""
        raise NotImplementedError

    def _scores(self, X: ArrayLike) -> NDArray:
        check_is_fitted(self, "model_")
        outputs = self.model_.predict(self._checked(X, reset=False))
        return outputs.astype(np.float64, copy=False)

    def _checked(self, X: Any, y: Any = "no_validation", *, reset: bool, **checks: Any) -> Any:
        """Return images (N, C, H, W) with channels last in memory, and y, if there is one.

        Scikit-learn counts the features of the second axis only, so images are laid flat for it.
        """
        if not hasattr(X, "shape"):
            X = as_array(X, "X")
        shape = tuple(X.shape[1:])
        if len(shape) > 1:
            X = as_array(X, "X").reshape(-1, math.prod(shape))
        checked = validate_data(self, X, y, reset=reset, **checks)
        X, *targets = checked if isinstance(checked, tuple) else (checked,)
        if reset:
            self.image_shape_ = self._shape_of_images(shape)
        if len(shape) > 1 and (*shape, 1)[:3] != self.image_shape_:
            raise ValueError(f"X: expected images of shape {self.image_shape_}, got {shape}")
        images = X.reshape(-1, *self.image_shape_).transpose(0, 3, 1, 2)
        return (images, *targets) if targets else images

    def _shape_of_images(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(h, w, c) of images that came in this shape, which may be flat."""
        features = math.prod(shape)
        side = math.isqrt(features)
        if self.image_shape is not None:
            shape = tuple(self.image_shape)
        elif len(shape) == 1:
            shape = (side, side) if side * side == features else (1, features)
        if len(shape) not in (2, 3) or math.prod(shape) != features:
            raise ValueError(
                f"image_shape: expected (h, w) or (h, w, c) with a product of {features}, the "
                f"pixels of a sample, got {shape}"
            )
        H, W, C = (*shape, 1)[:3]
        return H, W, C

    def _network(self, input_shape: tuple[int, int, int], outputs: int) -> Sequential:
        """The model, new, for images (C, H, W)."""
        seed = self.random_state
        if not isinstance(seed, np.random.Generator):
            seed = np.random.default_rng(check_random_state(seed).randint(2**31))
        built: dict[str, Any] = {"input_shape": input_shape, "seed": seed, "dtype": self.dtype}
        if callable(self.network):
            model = self.network(outputs, **built)
            if not isinstance(model, Sequential) or model.output_shape != (outputs,):
                raise ValueError(
                    f"network: expected a function that returns a Sequential of {outputs} outputs, "
                    f"got {model!r}"
                )
            return model
        body = small_body(input_shape) if self.network is None else copy.deepcopy(self.network)
        return Sequential([*body, Dense(outputs)], **built)


def small_body(input_shape: tuple[int, int, int]) -> list[Layer]:
    """All but the last layer of a small CNN, for images (C, H, W) of any size.

    At least two convolutions of 3x3, each followed by a pooling that halves what is longer than 3
    pixels, until no side is longer than 7; then a dense layer.
    """
    layers: list[Layer] = []
    _, H, W = input_shape
    for filters in chain([32], repeat(64)):
        # A row of numbers has nothing above it: no taps for that.
        layers.append(Conv2D(filters, (min(H, 3), min(W, 3)), padding="same", activation="relu"))
        halves = 1 + (H > 3), 1 + (W > 3)
        if max(halves) > 1:
            layers.append(MaxPool(halves))
        H, W = H // halves[0], W // halves[1]
        if filters == 64 and max(H, W) <= 7:
            break
    return [*layers, Flatten(), Dense(64, activation="relu")]


@dataclass(eq=False, repr=False)
class CNNClassifier(ClassifierMixin, _CNN):
    """A convolutional network as a scikit-learn classifier.

    Parameters
    ----------
    network : callable, list of layers, or None
        A list has all layers but the last, a `Dense` with a score for each class. A function is
        called as those of `fastconv.models` are, ``network(classes, input_shape=(C, H, W),
        seed=..., dtype=...)``, and returns a `Sequential`. None stands for a small CNN,
        convolutions of 3x3 and max poolings, as deep as the images ask for.
    image_shape : (h, w) or (h, w, c), optional
        Of samples that come as rows of pixels, in this order. Unless given, a square number of
        pixels is a square, and any other an image of one row.
    epochs : int
        Passes over the data in `fit`.
    batch_size : int
        Samples per step.
    optimizer : "adam", "adamw", "rmsprop", "sgd" or Optimizer
        An object is copied before it is used.
    learning_rate : float or callable, optional
        Instead of the optimizer's own.
    augmentation : callable, optional
        Changes the images of each training batch; see `fastconv.augmentation`.
    early_stopping : bool
        Whether `fit` holds back a share of the samples, drawn at random, stops when the loss on
        them does not fall any more, and goes back to the best epoch's weights.
    validation_split : float
        That share.
    patience : int
        Epochs without improvement after which it stops.
    warm_start : bool
        Whether a second `fit` goes on from the weights of the first.
    dtype : "float32" or "float64"
        Type of weights and activations. Results are float64, as is the habit there.
    random_state : int, RandomState, Generator or None
        Source of first values, shuffling, dropout and augmentation: the same seed gives the same
        bits.
    verbose : bool
        Whether to print a line per epoch.
    class_weight : dict of label to float, "balanced", or None
        How much a sample of each class counts; classes that are not named count 1.

    Attributes
    ----------
    model_ : Sequential
        The network; ``model_.history`` has what the last `fit` or `partial_fit` saw.
    classes_ : ndarray
        The labels, in the order of the columns of `predict_proba`.
    image_shape_ : (h, w, c)
    n_features_in_ : int
        Pixels of a sample.
    feature_names_in_ : ndarray of str
        Where X was a data frame.
    loss_curve_ : list of float
        The mean training loss of every epoch so far.
    n_iter_ : int
        How many those are.
    optimizer_ : Optimizer

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.sklearn import CNNClassifier
    >>> X = np.random.default_rng(0).random((60, 8, 8))
    >>> y = np.where(X[:, :4].mean(axis=(1, 2)) > X[:, 4:].mean(axis=(1, 2)), "upper", "lower")
    >>> classifier = CNNClassifier(epochs=30, random_state=0).fit(X, y)
    >>> classifier.predict(X[:3]) == y[:3]
    array([ True,  True,  True])
    >>> classifier.predict_proba(X[:3]).shape
    (3, 2)
    """

    class_weight: Mapping[Any, float] | str | None = None

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> CNNClassifier:
        """Train for one epoch, from where the network stands.

        Parameters
        ----------
        X, y, sample_weight
            See `fit`.
        classes : array_like
            All labels there will ever be; has to be given in the first call.

        Returns
        -------
        The estimator.
        """
        fresh = not hasattr(self, "model_")
        if fresh and classes is None:
            raise ValueError("classes: expected all labels in the first call of partial_fit")
        return self._train(X, y, sample_weight, fresh=fresh, classes=classes, epochs=1)

    def _targets(self, y: NDArray, fresh: bool, classes: ArrayLike | None) -> dict[str, Any]:
        check_classification_targets(y)
        if fresh:
            self.classes_ = np.unique(y if classes is None else as_array(classes, "classes"))
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes: expected those of the first call, {self.classes_}")
        unknown = np.setdiff1d(y, self.classes_)
        if unknown.size:
            raise ValueError(f"y: expected labels among {self.classes_}, got {unknown}")
        weight = self.class_weight
        if weight is not None:
            weight = compute_class_weight(weight, classes=self.classes_, y=y)
        return {
            "outputs": len(self.classes_),
            "y": np.searchsorted(self.classes_, y),
            "class_weight": weight,
        }

    def predict(self, X: ArrayLike) -> NDArray:
        """Return the likeliest label of every sample, (n,)."""
        labels = self._scores(X).argmax(axis=1)
        return self.classes_[labels]

    def predict_proba(self, X: ArrayLike) -> NDArray:
        """Return the probability of every class, (n, classes), in the order of `classes_`."""
        return softmax(self._scores(X))


@dataclass(eq=False, repr=False)
class CNNRegressor(RegressorMixin, _CNN):
    """A convolutional network as a scikit-learn regressor, of one number or several.

    Targets are best of a size of about one, as ``TransformedTargetRegressor`` makes them.

    Parameters
    ----------
    network, image_shape, epochs, batch_size, optimizer, learning_rate, augmentation
        As in `CNNClassifier`; the last layer has an output for each target.
    early_stopping, validation_split, patience, warm_start, dtype, random_state, verbose
        As in `CNNClassifier`.
    loss : "mse", "huber" or callable
        As in `Sequential.fit`.

    Attributes
    ----------
    model_, image_shape_, n_features_in_, feature_names_in_, loss_curve_, n_iter_, optimizer_
        As in `CNNClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.sklearn import CNNRegressor
    >>> X = np.random.default_rng(0).random((60, 8, 8))
    >>> y = 10 * (X[:, :4].mean(axis=(1, 2)) - X[:, 4:].mean(axis=(1, 2)))
    >>> regressor = CNNRegressor(epochs=30, random_state=0).fit(X, y)
    >>> regressor.score(X, y) > 0.8
    True
    """

    loss: str | Loss = "mse"

    _target_checks: ClassVar = {"multi_output": True, "y_numeric": True}

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> CNNRegressor:
        """Train for one epoch, from where the network stands.

        Parameters
        ----------
        X, y, sample_weight
            See `fit`.

        Returns
        -------
        The estimator.
        """
        return self._train(X, y, sample_weight, fresh=not hasattr(self, "model_"), epochs=1)

    def _targets(self, y: NDArray, fresh: bool, classes: ArrayLike | None) -> dict[str, Any]:
        if fresh:
            self.target_shape_ = y.shape[1:]
        elif y.shape[1:] != self.target_shape_:
            raise ValueError(f"y: expected shape {(len(y), *self.target_shape_)}, got {y.shape}")
        y = y.reshape(len(y), -1)
        return {"outputs": y.shape[1], "y": y, "loss": self.loss}

    def predict(self, X: ArrayLike) -> NDArray:
        """Return the targets of every sample, in the shape that `fit` was given: (n,) or (n, k)."""
        scores = self._scores(X)
        return scores.reshape(len(scores), *self.target_shape_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = tags.target_tags.multi_output = True
        return tags
