"""Normalisation as layers: bookkeeping around the functions of the same names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import functional as F
from fastconv.arguments import positive_int, real

from .layer import Layer, Shape, check_activation


def check_epsilon(epsilon: float) -> float:
    """Return `epsilon` as a float of at least 0."""
    if not 0 <= real("epsilon", epsilon) < float("inf"):
        raise ValueError(f"epsilon: expected a finite number of at least 0, got {epsilon!r}")
    return float(epsilon)


class BatchNorm(Layer):
    """Bring every channel to mean 0 and variance 1, then scale and shift it by learned numbers.

    While training, mean and variance are the batch's own, and running averages of both are kept;
    outside training those averages stand in for them, so that a sample's result depends on no
    other sample. Takes images (N, C, H, W) and vectors (N, features).

    Parameters
    ----------
    momentum : float
        Weight of the newest batch in the running averages, from 0 to 1. This is PyTorch's
        meaning; Keras names the weight of the old average, so its 0.99 is 0.01 here.
    epsilon : float
        Added to the variance.
    activation : None or "relu"
        Applied while the result is stored, at no cost.

    Notes
    -----
    ``params["gamma"]`` (C,) starts at one, ``params["beta"]`` (C,) at zero. ``state["mean"]`` (C,)
    starts at zero, ``state["variance"]`` (C,) at one; the batch's variance enters it unbiased, and
    not at all from a batch with a single value per channel, which has none.

    A convolution before it needs no bias: the mean takes it away again.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import BatchNorm, Conv2D, Sequential
    >>> model = Sequential([Conv2D(8, 3, bias=False), BatchNorm(activation="relu")], seed=0)
    >>> y = model.forward(np.random.default_rng(0).random((4, 3, 9, 9)), training=True)
    >>> model.layers[1].state["mean"].shape
    (8,)
    """

    def __init__(
        self, *, momentum: float = 0.1, epsilon: float = 1e-5, activation: str | None = None
    ) -> None:
        super().__init__()
        if not 0 <= real("momentum", momentum) <= 1:
            raise ValueError(f"momentum: expected a number in [0, 1], got {momentum!r}")
        self.momentum = float(momentum)
        self.epsilon = check_epsilon(epsilon)
        self.activation = check_activation(activation)

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        C = channels(self, input_shape)
        self.add_parameter("gamma", (C,), lambda: np.ones(C, dtype))
        self.add_parameter("beta", (C,), lambda: np.zeros(C, dtype))
        self.add_state("mean", (C,), lambda: np.zeros(C, dtype))
        self.add_state("variance", (C,), lambda: np.ones(C, dtype))
        return input_shape

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        rest: dict[str, Any] = {"epsilon": self.epsilon, "activation": self.activation}
        gamma, beta = self.params["gamma"], self.params["beta"]
        if not training:
            return F.batch_norm(x, gamma, beta, self.state["mean"], self.state["variance"], **rest)
        y, mean, variance = F.batch_norm_train(x, gamma, beta, **rest)
        n = y.size // len(mean)
        self._move("mean", mean)
        if n > 1:
            self._move("variance", variance * (n / (n - 1)))
        self.saved = x, mean, variance, self.activation
        return y

    def _move(self, name: str, newest: NDArray) -> None:
        average = self.state[name]
        average += self.momentum * (newest - average)

    def hand_over_relu(self) -> bool:
        *kept, activation = self.saved
        self.saved = *kept, None
        return activation is not None

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        x, mean, variance, activation = self.take_saved()
        gamma, beta = self.params["gamma"], self.params["beta"]
        dx, self.grads["gamma"], self.grads["beta"] = F.batch_norm_backward(
            dy, x, gamma, beta, mean, variance,
            epsilon=self.epsilon, activation=activation, need_dx=need_dx,
        )  # fmt: skip
        return dx


class GroupNorm(Layer):
    """Bring each group of channels of each sample to mean 0 and variance 1; scale and shift it.

    A sample's result depends on no other sample, while training as well as afterwards.

    Parameters
    ----------
    groups : int
        Of neighbouring channels; divides their number.
    epsilon : float
        Added to the variance.
    activation : None or "relu"
        Applied while the result is stored, at no cost.

    Notes
    -----
    ``params["gamma"]`` (C,) starts at one, ``params["beta"]`` (C,) at zero.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import GroupNorm, Sequential
    >>> Sequential([GroupNorm(2, epsilon=0.0)]).forward(np.array([[1.0, 3.0, 10.0, 30.0]]))
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """

    def __init__(
        self, groups: int, *, epsilon: float = 1e-5, activation: str | None = None
    ) -> None:
        super().__init__()
        self.groups = positive_int("groups", groups)
        self.epsilon = check_epsilon(epsilon)
        self.activation = check_activation(activation)

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        C = channels(self, input_shape)
        if C % self.groups:
            raise ValueError(
                f"{type(self).__name__}: groups: expected a divisor of the input's {C} channels, "
                f"got {self.groups}"
            )
        self.add_parameter("gamma", (C,), lambda: np.ones(C, dtype))
        self.add_parameter("beta", (C,), lambda: np.zeros(C, dtype))
        return input_shape

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        y, mean, variance = F.group_norm(
            x, self.groups, self.params["gamma"], self.params["beta"],
            epsilon=self.epsilon, activation=self.activation, return_moments=True,
        )  # fmt: skip
        if training:
            self.saved = x, mean, variance, self.activation
        return y

    def hand_over_relu(self) -> bool:
        *kept, activation = self.saved
        self.saved = *kept, None
        return activation is not None

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        x, mean, variance, activation = self.take_saved()
        gamma, beta = self.params["gamma"], self.params["beta"]
        dx, self.grads["gamma"], self.grads["beta"] = F.group_norm_backward(
            dy, x, self.groups, gamma, beta, mean, variance,
            epsilon=self.epsilon, activation=activation, need_dx=need_dx,
        )  # fmt: skip
        return dx


class LayerNorm(GroupNorm):
    """Bring each sample to mean 0 and variance 1, then scale and shift its channels.

    Over all of (C, H, W), with a factor and a summand for each channel: `GroupNorm` with a single
    group. For vectors (N, features) this is PyTorch's ``LayerNorm(features)``; for images it is
    ``GroupNorm(1, C)`` there.

    Parameters
    ----------
    epsilon : float
        Added to the variance.
    activation : None or "relu"
        Applied while the result is stored, at no cost.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import LayerNorm, Sequential
    >>> Sequential([LayerNorm(epsilon=0.0)]).forward(np.array([[1.0, 3.0]]))
    array([[-1.,  1.]], dtype=float32)
    """

    def __init__(self, *, epsilon: float = 1e-5, activation: str | None = None) -> None:
        super().__init__(1, epsilon=epsilon, activation=activation)


def channels(layer: Layer, input_shape: Shape) -> int:
    """Return the number of channels of images, or of features of vectors."""
    if len(input_shape) not in (1, 3):
        raise ValueError(
            f"{type(layer).__name__}: expected an input of shape (N, C, H, W) or (N, features), "
            f"got (N, {', '.join(map(str, input_shape))})"
        )
    return input_shape[0]
