"""What every layer is.

A layer is a small object with three verbs. ``build`` learns the shape of its input and makes its
parameters; ``forward`` maps a batch to a batch and, when training, keeps what ``backward`` will
need; ``backward`` takes the gradient of the loss with respect to the layer's output, leaves the
gradients of the parameters in ``grads`` and returns the gradient with respect to its input.

What ``forward`` keeps lives in one attribute, ``saved``, which ``backward`` takes away: memory
goes back to the engine's buffer pool while it is still warm, and no layer holds a batch longer
than one step. A forward pass outside training keeps nothing and disturbs nothing.

**A ReLU's gradient may change hands.** A layer that ends in a ReLU masks the gradient it is given:
it passes where the result was positive. Where a max pooling follows, most of that gradient is zero
already, and the pooling can mask it at its own, smaller size. So after each training forward the
model asks: can this layer mask for the one before it (``takes_relu``)? Does that one hand over
(``hand_over_relu``)? Then the layer takes the mask (``take_relu``). The agreement lives in
``saved`` on both sides and so lasts for one step. Layers that know nothing of it take no part.

Constructor arguments are kept as attributes of the same names. That one habit gives every layer,
also a user's own, its ``repr`` and its description in a saved file.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv.arguments import positive_int as positive_int

Shape = tuple[int, ...]


class Parameter(NamedTuple):
    """One array an optimizer moves: its name in the model, its values, its latest gradient."""

    name: str
    value: NDArray
    grad: NDArray | None


class Layer:
    """Base class of all layers; see the module's text for the three verbs.

    Shapes given to and returned by `build` leave out the batch: ``(C, H, W)`` or ``(features,)``.

    Attributes
    ----------
    params : dict of str to ndarray
        The parameters, filled by `build`. Optimizers change them in place.
    grads : dict of str to ndarray
        Gradients under the same names, replaced by every `backward`.
    multiply_adds : int
        Multiplications with an addition in one forward pass of one sample; known after `build`.
    takes_relu : bool
        Whether `backward` can mask for a ReLU that ends the layer before.
    """

    takes_relu = False

    def __init__(self) -> None:
        self.params: dict[str, NDArray] = {}
        self.grads: dict[str, NDArray] = {}
        self.multiply_adds = 0
        self.saved: Any = None
        self.from_file: dict[str, NDArray] | None = None

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        """Make the parameters for this input shape; return the output's shape."""
        return input_shape

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        """Map a batch to a batch."""
        raise NotImplementedError

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        """Fill `grads` from the last training forward; return dx, or None when not needed."""
        raise NotImplementedError

    def hand_over_relu(self) -> bool:
        """Leave the gradient of the ReLU that ends this layer to the next one.

        Called after a training forward. Returns False, and changes nothing, if there is none;
        otherwise the next `backward` is given a gradient that is masked already.
        """
        return False

    def take_relu(self) -> None:
        """Mask in the next `backward`: the input of the last training forward was a ReLU's result.

        The gradient returned is then with respect to that ReLU's argument.
        """
        raise NotImplementedError

    def add_parameter(self, name: str, shape: Shape, initial: Callable[[], NDArray]) -> NDArray:
        """Return parameter `name`, made by `initial` unless the layer has it already.

        A layer has it already when it comes from another model. While a file is loaded, nothing
        is made: the file has to bring every parameter, in the shape that this model needs.
        """
        if self.from_file is not None and name in self.from_file:
            self.params[name] = self.from_file.pop(name)
        elif self.from_file is not None:
            raise ValueError(f"{type(self).__name__}: parameter {name!r}: missing in the file")
        elif name not in self.params:
            self.params[name] = initial()
        if self.params[name].shape != shape:
            raise ValueError(
                f"{type(self).__name__}: parameter {name!r}: expected shape {shape}, "
                f"got {self.params[name].shape}"
            )
        return self.params[name]

    def take_saved(self) -> Any:
        """Hand over what the last training forward kept."""
        if self.saved is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward: expected a forward(..., training=True) before it"
            )
        saved, self.saved = self.saved, None
        return saved

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __repr__(self) -> str:
        parts = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = getattr(self, name)
            if parameter.kind is not parameter.KEYWORD_ONLY:
                parts.append(repr(value))
            elif value != parameter.default:
                parts.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"


def check_activation(activation: str | None) -> str | None:
    """Return `activation` when it is one that a layer can fuse."""
    if activation not in (None, "relu"):
        raise ValueError(f"activation: expected None or 'relu', got {activation!r}")
    return activation


def check_image_shape(layer: Layer, input_shape: Shape) -> None:
    """Refuse a batch without a channel axis, by far the most common slip."""
    if len(input_shape) != 3:
        raise ValueError(
            f"{type(layer).__name__}: expected an input of shape (N, C, H, W), got (N, "
            f"{', '.join(map(str, input_shape))}); grey images gain their axis with x[:, None]"
        )
