"""Models as files: one ``.npz``, no code, written whole or not at all.

The file is an archive of arrays (`fastconv.archive`). The entry ``model`` is JSON text as bytes:
the format's name and version, the layers with their constructor arguments (a layer among them is
described in the same way), input shape, dtype and metadata. The other entries are the parameters
and the layers' state, under the names that ``Sequential.weights`` gives them.

A file is not trusted. Layers are looked up in a fixed table, nothing is imported or evaluated by
name, and a layer takes the parameters that the file brings: it makes none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastconv.archive import read_arrays, write_arrays
from fastconv.text import parse

from .activation import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from .averaging import AdaptiveAvgPool, AvgPool, GlobalAvgPool, GlobalMaxPool
from .containers import Concat, Residual
from .conv import Conv2D
from .dense import Dense, Flatten
from .dropout import Dropout, SpatialDropout
from .layer import Layer
from .normalization import BatchNorm, GroupNorm, LayerNorm
from .pooling import MaxPool
from .resizing import Pad2D, Upsample
from .separable import DepthwiseConv2D, SeparableConv2D
from .transposed import Conv2DTranspose

if TYPE_CHECKING:
    from .sequential import Sequential

FORMAT = "fastconv.Sequential"
VERSION = 1
LAYERS: tuple[type[Layer], ...] = (
    Conv2D, Conv2DTranspose, DepthwiseConv2D, SeparableConv2D, Pad2D, Upsample, MaxPool,
    AvgPool, AdaptiveAvgPool, GlobalAvgPool, GlobalMaxPool, Dense, Flatten, ReLU, Softmax, Dropout,
    SpatialDropout, BatchNorm, GroupNorm, LayerNorm, LeakyReLU, GELU, SiLU, Sigmoid, Tanh,
    Residual, Concat,
)  # fmt: skip
# What a file that disagrees with itself can end in, once it has been read.
DAMAGE = (
    ArithmeticError, AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
MOST_LAYERS = 10_000
LARGEST = 2**40  # of the whole numbers that describe a layer


def save(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Write a built model; see `Sequential.save`."""
    if model.input_shape is None:
        raise ValueError("save: the model has no parameters yet; build it or give it a batch")
    description = {
        "format": FORMAT,
        "version": VERSION,
        "dtype": model.dtype.name,
        "input_shape": model.input_shape,
        "layers": model.layers,
        "metadata": model.metadata,
    }
    text = json.dumps(description, default=_describe).encode()
    try:
        _parsed(text)
    except ValueError as error:
        raise ValueError(f"save: {error}") from None
    entries = {"model": np.frombuffer(text, np.uint8)}
    write_arrays(path, entries | dict(model.named_arrays()))


def _describe(value: Any) -> Any:
    """Say what JSON cannot: a layer, or a number of NumPy's."""
    if isinstance(value, Layer):
        return {"layer": type(value).__name__, **value.config()}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"save: expected numbers, text, lists and layers to describe, got {value!r}")


def load(
    cls: type[Sequential],
    path: str | os.PathLike[str],
    *,
    layers: Iterable[type[Layer]],
    seed: int | np.random.Generator | None,
) -> Sequential:
    """Read and check a model; see `Sequential.load`."""
    table = {layer.__name__: layer for layer in (*LAYERS, *layers)}
    try:
        return _restore(cls, read_arrays(path), table, seed)
    except DAMAGE as error:
        raise ValueError(f"{os.fspath(path)}: not a saved model: {error}") from error


def _restore(
    cls: type[Sequential],
    entries: dict[str, NDArray],
    table: dict[str, type[Layer]],
    seed: int | np.random.Generator | None,
) -> Sequential:
    description = _parsed(entries.pop("model").tobytes())
    if description["format"] != FORMAT or description["version"] != VERSION:
        raise ValueError(
            f"expected {FORMAT} version {VERSION}, got {description['format']!r} "
            f"version {description['version']!r}"
        )
    layers = _restored(description["layers"], table)
    model = cls(layers, seed=seed, dtype=description["dtype"])
    build_from(model, description["input_shape"], entries)
    model.metadata = dict(description["metadata"])
    return model


def build_from(model: Sequential, input_shape: Any, arrays: Mapping[str, NDArray]) -> None:
    """Build a model of the arrays that a file brings, all of them; if they do not fit, do nothing.

    Nothing is allocated: a file's shapes may ask for more than there is.
    """
    layers = dict(model.walk())
    before = [(layer, dict(layer.params), dict(layer.state)) for layer in layers.values()]
    found: dict[str, dict[str, NDArray]] = {path: {} for path in layers}
    for path, layer in layers.items():
        layer.from_file = found[path]
    try:
        for name, value in arrays.items():
            path, _, own = name.rpartition(".")
            while path not in layers:  # names of parameters may have points too
                path, _, more = path.rpartition(".")
                own = f"{more}.{own}"
            found[path][own] = value
        model.build(tuple(input_shape))
        for path, left in found.items():
            if left:
                fault = f"{layers[path]!r} has no parameter" if path else "unexpected entry"
                raise ValueError(f"{fault} {min(left)!r}")
    except BaseException as error:
        model.input_shape = None
        for layer, params, state in before:
            layer.params, layer.state = params, state
        if isinstance(error, MemoryError):  # nothing was made: the shapes are absurd
            raise ValueError(f"input_shape: got {input_shape}: {error}") from error
        raise
    finally:
        for layer in layers.values():
            layer.from_file = None


def _parsed(text: bytes) -> Any:
    """What a description says, if it is one that can be loaded in little time."""
    count = text.count(b'"layer"')
    if count > MOST_LAYERS:
        raise ValueError(f"expected at most {MOST_LAYERS} layers, got {count}")
    return parse(text)


def _restored(value: Any, table: dict[str, type[Layer]]) -> Any:
    """Make layers of their descriptions, and undo JSON's turning of tuples into lists."""
    if isinstance(value, list):
        return tuple(_restored(item, table) for item in value)
    if type(value) is int and abs(value) > LARGEST:
        raise ValueError(f"expected numbers of at most {LARGEST}, got {value}")
    if not isinstance(value, dict):
        return value
    arguments = {key: _restored(item, table) for key, item in value.items()}
    name = arguments.pop("layer", None)
    if name not in table:
        raise ValueError(f"unknown layer {name!r}; a class of your own is named by layers=")
    return table[name].from_config(arguments)
