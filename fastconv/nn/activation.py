"""Activations as layers, for where they cannot be fused into the layer before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastconv import functional as F
from fastconv.arguments import as_array, one_of
from fastconv.functional.activation import nonnegative

from .layer import Layer, Shape


class ReLU(Layer):
    """``max(x, 0)``. Cheaper as ``activation="relu"`` of the layer before it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ReLU
    >>> ReLU().forward(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        y = F.relu(x)
        if training:
            self.saved = (y,)
        return y

    def hand_over_relu(self) -> bool:
        self.saved = (None,)
        return True

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        (y,) = self.take_saved()
        if not need_dx:
            return None
        return as_array(dy, "dy") if y is None else F.relu_backward(dy, y)


class Elementwise(Layer):
    """A function of each element, and its gradient from the result or from the argument."""

    keeps_argument = False

    def apply(self, x: NDArray) -> NDArray:
        raise NotImplementedError

    def gradient(self, dy: NDArray, kept: NDArray) -> NDArray:
        raise NotImplementedError

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        y = self.apply(x)
        if training:
            self.saved = x if self.keeps_argument else y
        return y

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        kept = self.take_saved()
        return self.gradient(dy, kept) if need_dx else None


class LeakyReLU(Elementwise):
    """``x`` where it is positive, ``slope * x`` elsewhere.

    Parameters
    ----------
    slope : float
        At least 0. PyTorch's default; Keras' is 0.3.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import LeakyReLU
    >>> LeakyReLU().forward(np.array([[-100.0, 2.0]]))
    array([[-1.,  2.]])
    """

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__()
        self.slope = nonnegative(slope)

    def apply(self, x: NDArray) -> NDArray:
        return F.leaky_relu(x, self.slope)

    def gradient(self, dy: NDArray, kept: NDArray) -> NDArray:
        return F.leaky_relu_backward(dy, kept, self.slope)


class Sigmoid(Elementwise):
    """The logistic function ``1 / (1 + exp(-x))``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Sigmoid
    >>> Sigmoid().forward(np.zeros((1, 2)))
    array([[0.5, 0.5]])
    """

    def apply(self, x: NDArray) -> NDArray:
        return F.sigmoid(x)

    def gradient(self, dy: NDArray, kept: NDArray) -> NDArray:
        return F.sigmoid_backward(dy, kept)


class Tanh(Elementwise):
    """The hyperbolic tangent.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Tanh
    >>> Tanh().forward(np.array([[0.0, 100.0]]))
    array([[0., 1.]])
    """

    def apply(self, x: NDArray) -> NDArray:
        return F.tanh(x)

    def gradient(self, dy: NDArray, kept: NDArray) -> NDArray:
        return F.tanh_backward(dy, kept)


class SiLU(Elementwise):
    """``x * sigmoid(x)``, also called swish.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import SiLU
    >>> SiLU().forward(np.array([[0.0, 100.0]]))
    array([[  0., 100.]])
    """

    keeps_argument = True

    def apply(self, x: NDArray) -> NDArray:
        return F.silu(x)

    def gradient(self, dy: NDArray, kept: NDArray) -> NDArray:
        return F.silu_backward(dy, kept)


class GELU(Elementwise):
    """``x`` times the share of a normal distribution below x.

    Parameters
    ----------
    approximate : "none" or "tanh"
        The exact function, or the formula with tanh of the first publication.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import GELU
    >>> GELU().forward(np.array([[0.0, 100.0]]))
    array([[  0., 100.]])
    """

    keeps_argument = True

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        one_of("approximate", approximate, ("none", "tanh"))
        self.approximate = approximate

    def apply(self, x: NDArray) -> NDArray:
        return F.gelu(x, approximate=self.approximate)

    def gradient(self, dy: NDArray, kept: NDArray) -> NDArray:
        return F.gelu_backward(dy, kept, approximate=self.approximate)


class Softmax(Layer):
    """Probabilities from scores: (N, classes) to (N, classes), rows summing to one.

    The loss ``"softmax_cross_entropy"`` takes scores, so a classifier trained with it ends in a
    `Dense` layer, without this one.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Softmax
    >>> Softmax().forward(np.zeros((1, 4)))
    array([[0.25, 0.25, 0.25, 0.25]])
    """

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        if len(input_shape) != 1:
            raise ValueError(
                f"Softmax: expected an input of shape (N, classes), got (N, "
                f"{', '.join(map(str, input_shape))})"
            )
        return input_shape

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        y = F.softmax(x)
        if training:
            self.saved = y
        return y

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        y = self.take_saved()
        return F.softmax_backward(dy, y) if need_dx else None
