"""Layers made of layers: a branch beside a shortcut, and branches side by side.

A container builds its children, runs them, and adds up what they do; paths, files and summaries
follow from ``children``. Where branches share an input, its gradient is the sum of theirs. If the
input was a ReLU's result, the container masks that sum instead of asking every branch to
(``take_relu``), and needs nothing for it but the input, which its branches keep anyway.

A chain, `Sequential`, is a container too; it stands in ``sequential.py``, since it is the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import functional as F
from fastconv.arguments import as_array

from .layer import Layer, Shape, check_activation


class Container(Layer):
    """Base class of layers made of layers; a container of your own names them in `children`."""

    def check_children(self) -> None:
        """Refuse what is no layer, and a layer that stands in two places."""
        for name, child in self.children().items():
            if not isinstance(child, Layer):
                raise TypeError(f"{type(self).__name__}: {name}: expected a Layer, got {child!r}")
        everyone = [id(layer) for _, layer in self.walk()]
        if len(set(everyone)) < len(everyone):
            raise ValueError(f"{type(self).__name__}: expected each layer object only once")

    def build_child(
        self, child: Layer, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype
    ) -> Shape:
        """Build one child and note its output's shape and its work."""
        child.output_shape = tuple(child.build(input_shape, rng, dtype))
        self.multiply_adds += child.multiply_adds
        return child.output_shape


class Residual(Container):
    """``body(x) + shortcut(x)``, with ReLU fused: a block of a residual network.

    Parameters
    ----------
    body : Layer
        Often a `Sequential`.
    shortcut : Layer, optional
        Brings x to the shape of the body's result; x itself is added without it.
    activation : None or "relu"
        Applied to the sum.

    Examples
    --------
    >>> from fastconv import Conv2D, Residual, Sequential
    >>> block = Residual(
    ...     Sequential([Conv2D(8, 3, padding=1, activation="relu"), Conv2D(8, 3, padding=1)]),
    ...     activation="relu",
    ... )
    >>> model = Sequential([block], input_shape=(8, 16, 16))
    >>> [name for name, *_ in model.parameters()]
    ['0.body.0.kernel', '0.body.0.bias', '0.body.1.kernel', '0.body.1.bias']
    """

    takes_relu = True

    def __init__(
        self, body: Layer, shortcut: Layer | None = None, *, activation: str | None = None
    ) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.activation: Any = check_activation(activation)
        self.check_children()

    def children(self) -> dict[str, Layer]:
        both = {"body": self.body}
        return both if self.shortcut is None else both | {"shortcut": self.shortcut}

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        self.multiply_adds = 0
        shapes = {
            name: self.build_child(child, input_shape, rng, dtype)
            for name, child in self.children().items()
        }
        beside = shapes.get("shortcut", input_shape)
        if beside != shapes["body"]:
            raise ValueError(
                f"Residual: expected body and shortcut to give the same shape, got "
                f"{shapes['body']} beside {beside}"
            )
        return beside

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        x = as_array(x, "x")
        beside = x if self.shortcut is None else self.shortcut.forward(x, training=training)
        y = F.add(self.body.forward(x, training=training), beside, activation=self.activation)
        if training:
            self.saved = x, (y if self.activation == "relu" else None), False
        return y

    def hand_over_relu(self) -> bool:
        x, y, masks = self.saved
        self.saved = x, None, masks
        return y is not None

    def take_relu(self) -> None:
        x, y, _ = self.saved
        self.saved = x, y, True

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        dy = as_array(dy, "dy")
        x, y, masks = self.take_saved()
        if y is not None:
            dy = F.relu_backward(dy, y)
        dbody: Any = self.body.backward(dy, need_dx=need_dx)
        dbeside: Any = dy
        if self.shortcut is not None:
            dbeside = self.shortcut.backward(dy, need_dx=need_dx)
        return summed([dbody, dbeside], dy, x if masks else None) if need_dx else None


class Concat(Container):
    """Branches side by side: their results for one input, channel after channel.

    Parameters
    ----------
    *branches : Layer
        Each often a `Sequential`. Their results differ in channels (or features) only.

    Examples
    --------
    >>> from fastconv import Concat, Conv2D, Sequential
    >>> block = Concat(Conv2D(8, 1), Conv2D(16, 3, padding=1), Conv2D(4, 5, padding=2))
    >>> Sequential([block], input_shape=(3, 32, 32)).output_shape
    (28, 32, 32)
    """

    takes_relu = True

    def __init__(self, *branches: Layer) -> None:
        super().__init__()
        self.branches = branches
        if not branches:
            raise ValueError("Concat: expected at least one branch")
        self.check_children()

    def children(self) -> dict[str, Layer]:
        return {str(position): branch for position, branch in enumerate(self.branches)}

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> Shape:
        self.multiply_adds = 0
        shapes = [self.build_child(branch, input_shape, rng, dtype) for branch in self.branches]
        if len({shape[1:] for shape in shapes}) > 1 or len({len(shape) for shape in shapes}) > 1:
            raise ValueError(
                f"Concat: expected branches whose results differ in channels only, got "
                f"{', '.join(map(str, shapes))}"
            )
        return sum(shape[0] for shape in shapes), *shapes[0][1:]

    def forward(self, x: NDArray, *, training: bool = False) -> NDArray:
        x = as_array(x, "x")
        if training:
            self.saved = x, False
        # NumPy keeps the memory order that the parts have in common.
        return np.concatenate([b.forward(x, training=training) for b in self.branches], axis=1)

    def take_relu(self) -> None:
        x, _ = self.saved
        self.saved = x, True

    def backward(self, dy: NDArray, *, need_dx: bool = True) -> NDArray | None:
        dy = as_array(dy, "dy")
        x, masks = self.take_saved()
        gradients: list[Any] = []
        start = 0
        for branch in self.branches:
            assert branch.output_shape is not None  # noted by build
            stop = start + branch.output_shape[0]
            gradients.append(branch.backward(dy[:, start:stop], need_dx=need_dx))
            start = stop
        return summed(gradients, dy, x if masks else None) if need_dx else None


def summed(gradients: Iterable[NDArray], dy: NDArray, relu: NDArray | None) -> NDArray:
    """Add the branches' gradients of one input, in place of the first unless that is a part of dy.

    With `relu`, the input and a ReLU's result, the gradient is that of the ReLU's argument.
    """
    total, *others = gradients
    for position, gradient in enumerate(others):
        mine = position or not np.may_share_memory(total, dy)
        total = F.add(total, gradient, out=total if mine else None)
    if relu is None:
        return total
    return F.relu_backward(total, relu, out=None if np.may_share_memory(total, dy) else total)
