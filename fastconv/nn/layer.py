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

**Layers hold arrays, and may hold layers.** ``params`` are the arrays an optimizer moves,
``state`` those that a forward pass moves (running statistics, say); together they are the layer's
*weights*, which files keep. A layer that is made of others (``containers.py``) names them in
``children``. An array's name in the model is the path to it: ``"3.body.0.kernel"``.

A layer changes neither the x nor the dy it is given: others may have been given the same array.

Constructor arguments are kept as attributes of the same names. That one habit gives every layer,
also a user's own, its ``repr`` and its description in a saved file.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv.arguments import LARGEST, as_array
from fastconv.arguments import positive_int as positive_int

Shape = tuple[int, ...]


class Parameter(NamedTuple):
    """One array an optimizer moves: its name in the model, its values, its latest gradient."""

    name: str
    value: NDArray
    grad: NDArray | None


class Layer:
    """Base class of all layers: ``build``, ``forward``, ``backward``, and what follows from them.

    Shapes given to and returned by `build` leave out the batch: ``(C, H, W)`` or ``(features,)``.

    Attributes
    ----------
    params : dict of str to ndarray
        The parameters, filled by `build`. Optimizers change them in place.
    grads : dict of str to ndarray
        Gradients under the same names, replaced by every `backward`.
    state : dict of str to ndarray
        Arrays that are kept with the model but not trained, filled by `build` and changed in
        place by training forward passes.
    multiply_adds : int
        Multiplications with an addition in one forward pass of one sample; known after `build`.
    output_shape : tuple of int or None
        What `build` returned, noted by the model.
    takes_relu : bool
        Whether `backward` can mask for a ReLU that ends the layer before.
    """

    takes_relu = False
    # The constructor's arguments, found out once for every class.
    arguments: ClassVar[Mapping[str, inspect.Parameter]] = {}

    def __init_subclass__(cls) -> None:
        cls.arguments = inspect.signature(cls).parameters

    def __init__(self) -> None:
        self.params: dict[str, NDArray] = {}
        self.grads: dict[str, NDArray] = {}
        self.state: dict[str, NDArray] = {}
        self.multiply_adds = 0
        self.output_shape: Shape | None = None
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
        return self._add(self.params, "parameter", name, shape, initial)

    def add_state(self, name: str, shape: Shape, initial: Callable[[], NDArray]) -> NDArray:
        """Return the array `name` of `state`, under the rules of `add_parameter`."""
        return self._add(self.state, "state", name, shape, initial)

    def _add(
        self,
        arrays: dict[str, NDArray],
        kind: str,
        name: str,
        shape: Shape,
        initial: Callable[[], NDArray],
    ) -> NDArray:
        what = f"{type(self).__name__}: {kind} {name!r}"
        if self.from_file is not None and name in self.from_file:
            arrays[name] = self.from_file.pop(name)
        elif self.from_file is not None:
            raise ValueError(f"{what}: missing in the file")
        elif name not in arrays:
            if math.prod(shape) > LARGEST:
                raise MemoryError(f"{what}: cannot allocate an array of shape {shape}")
            arrays[name] = initial()
        if arrays[name].shape != shape:
            raise ValueError(f"{what}: expected shape {shape}, got {arrays[name].shape}")
        return arrays[name]

    def children(self) -> dict[str, Layer]:
        """Return the layers this one is made of, by name."""
        return {}

    def walk(self, path: str = "") -> Iterator[tuple[str, Layer]]:
        """Yield this layer and all below it with their paths, each before its children."""
        yield path, self
        for name, child in self.children().items():
            yield from child.walk(join(path, name))

    def parameters(self) -> list[Parameter]:
        """Return (name, value, grad) of every parameter; names are paths like ``"0.kernel"``.

        `value` is the array the layer uses: changing it in place changes the model. `grad` is
        None before the first `backward`.
        """
        return [
            Parameter(join(path, name), value, layer.grads.get(name))
            for path, layer in self.walk()
            for name, value in layer.params.items()
        ]

    def weights(self) -> dict[str, NDArray]:
        """Return copies of all parameters and all state by name: what `set_weights` takes back.

        Examples
        --------
        >>> from fastconv import Dense, Sequential
        >>> model = Sequential([Dense(3, activation="relu"), Dense(2)], input_shape=(4,))
        >>> [(name, value.shape) for name, value in model.weights().items()]
        [('0.kernel', (3, 4)), ('0.bias', (3,)), ('1.kernel', (2, 3)), ('1.bias', (2,))]
        """
        return {name: value.copy() for name, value in self.named_arrays()}

    def named_arrays(self) -> Iterator[tuple[str, NDArray]]:
        """Yield the arrays in use, parameters and state, with their names."""
        for path, layer in self.walk():
            for name, value in (*layer.params.items(), *layer.state.items()):
                yield join(path, name), value

    def set_weights(self, weights: Mapping[str, Any]) -> None:
        """Copy arrays into the parameters and the state, all of them or none.

        Parameters
        ----------
        weights : mapping of str to array_like
            The names and shapes that `weights` returns, no more and no fewer. Values are
            converted to the model's type.

        Raises
        ------
        ValueError
            If names are missing or unknown, or a shape is another one.

        Examples
        --------
        >>> from fastconv import Dense, Sequential
        >>> first, second = (Sequential([Dense(2)], input_shape=(4,)) for _ in range(2))
        >>> second.set_weights(first.weights())
        >>> bool((second.layers[0].params["kernel"] == first.layers[0].params["kernel"]).all())
        True
        """
        arrays = dict(self.named_arrays())
        if not arrays and weights:
            raise ValueError("set_weights: the model has no weights yet; build it first")
        for names, fault in (
            (arrays.keys() - weights.keys(), "missing"),
            (weights.keys() - arrays.keys(), "unknown"),
        ):
            if names:
                raise ValueError(f"weights: {fault} names: {', '.join(sorted(names))}")
        values = {name: as_array(value, name) for name, value in weights.items()}
        for name, value in values.items():
            if value.dtype.kind not in "biuf":
                raise TypeError(f"weights: {name!r}: expected real numbers, got {value.dtype}")
            if value.shape != arrays[name].shape:
                raise ValueError(
                    f"weights: {name!r}: expected shape {arrays[name].shape}, got {value.shape}"
                )
        for name, value in values.items():
            arrays[name][...] = value

    def take_saved(self) -> Any:
        """Hand over what the last training forward kept."""
        if self.saved is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward: expected a forward(..., training=True) before it"
            )
        saved, self.saved = self.saved, None
        return saved

    def config(self) -> dict[str, Any]:
        """Return what the constructor was given."""
        return {name: getattr(self, name) for name in self.arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Make a layer from what `config` returned."""
        arguments = dict(config)
        several: tuple[Any, ...] = ()
        for name, parameter in cls.arguments.items():
            if parameter.kind is parameter.VAR_POSITIONAL:
                several = tuple(arguments.pop(name))
        return cls(*several, **arguments)

    def __repr__(self) -> str:
        parts: list[str] = []
        for name, parameter in self.arguments.items():
            value = getattr(self, name)
            if parameter.kind is parameter.VAR_POSITIONAL:
                parts += map(repr, value)
            elif parameter.default is parameter.empty:
                parts.append(repr(value))
            elif value != parameter.default:
                parts.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles take along: all but what the last step left behind."""
        return self.__dict__ | {"saved": None, "grads": {}}


def join(path: str, name: str) -> str:
    """The path to `name` below `path`."""
    return f"{path}.{name}" if path else name


def check_activation(activation: str | None) -> str | None:
    """Return `activation` when it is one that a layer can fuse."""
    if activation is not None and not (isinstance(activation, str) and activation == "relu"):
        raise ValueError(f"activation: expected None or 'relu', got {activation!r}")
    return activation


def check_image_shape(layer: Layer, input_shape: Shape) -> None:
    """Refuse a batch without a channel axis, by far the most common slip."""
    if len(input_shape) != 3:
        raise ValueError(
            f"{type(layer).__name__}: expected an input of shape (N, C, H, W), got (N, "
            f"{', '.join(map(str, input_shape))}); grey images gain their axis with x[:, None]"
        )
