"""Weights from and to PyTorch and Keras, as plain arrays: neither has to be installed.

Both libraries hand out their weights by name: PyTorch as a state dict (``conv1.weight``), Keras as
variables with a path (``conv2d/kernel``). A name is that of a layer and that of an array in it, and
layers come in the order in which they were made, which is nearly always the order in which they
run. So **layers are matched in order**: the first of theirs that has weights with the first of
ours, and so on (``Residual``'s body comes before its shortcut). Every array has to be there, and
every shape has to fit, or nothing is changed. Where the orders differ, ``names`` says which of our
layers takes which of theirs; the rest is matched in order. Arrays that come sorted by name, as the
safetensors library writes them, have lost that order, and need ``names`` throughout.

What the arrays are called, and how they lie::

    ours        PyTorch                         Keras
    kernel      weight, as it is                kernel  (KH, KW, IC, OC), dense (features, units)
    bias        bias                            bias
    gamma       weight                          gamma
    beta        bias                            beta
    mean        running_mean                    moving_mean
    variance    running_var                     moving_variance
    depthwise, pointwise                        depthwise_kernel, pointwise_kernel

**Flatten.** Keras' images are channels-last, and so are the vectors that its ``Flatten`` makes:
their features come in the order (H, W, C), ours and PyTorch's in the order (C, H, W). The kernel of
a dense layer after a `Flatten` (and the arrays of a normalisation between them) is sorted to match.

Epsilon and momentum are arguments of `BatchNorm`, not weights: Keras' epsilon is 0.001, ours and
PyTorch's 0.00001. Arrays come from and go to files by `read_weights` and `write_weights`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.archive import read_arrays, write_arrays
from fastconv.arguments import as_array
from fastconv.nn import Dense, DepthwiseConv2D, Flatten, Layer, SeparableConv2D, Sequential
from fastconv.nn.layer import Shape, join
from fastconv.safetensors import read_safetensors, write_safetensors

__all__ = [
    "from_keras",
    "from_torch",
    "read_weights",
    "to_keras",
    "to_torch",
    "write_weights",
]

# A normalisation of theirs may do without (scale=False, affine=False): what it has then.
OPTIONAL = {"gamma": 1, "beta": 0}

# Our layer and array, and the shape of images whose flattened features it takes: to an array that
# turns their layout to ours, or with `back` ours to theirs.
Layout = Callable[[Layer, str, NDArray, "Shape | None", bool], NDArray]


@dataclass(frozen=True)
class Convention:
    """How a library names and lays out the arrays of a layer."""

    library: str
    separator: str
    names: dict[str, str]  # ours to theirs; others are called the same
    ignored: tuple[str, ...]  # arrays of theirs that we have no use for
    layout: Layout


def from_torch(
    state_dict: Mapping[str, Any], model: Sequential, *, names: Mapping[str, str] | None = None
) -> None:
    """Copy the weights of a PyTorch module into a model.

    Parameters
    ----------
    state_dict : mapping of str to tensor or array
        What ``module.state_dict()`` gives, or `read_weights` reads from a file.
    model : Sequential
        Built; of the same layers in the same order.
    names : mapping of str to str, optional
        From the paths of our layers (``"1.body.0"``) to the names of PyTorch's modules
        (``"layer1.0.conv1"``), where order does not tell.

    Raises
    ------
    ValueError
        If arrays are missing, left over, or of another shape. The model is unchanged then.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Dense, Sequential
    >>> from fastconv.interop import from_torch
    >>> model = Sequential([Dense(2)], input_shape=(3,))
    >>> from_torch({"fc.weight": np.eye(2, 3), "fc.bias": np.ones(2)}, model)
    >>> model.forward(np.array([[5, 6, 7]]))
    array([[6., 7.]], dtype=float32)
    """
    _fill(TORCH, state_dict, model, names)


def to_torch(model: Sequential, *, names: Mapping[str, str] | None = None) -> dict[str, NDArray]:
    """Return a model's weights as PyTorch names them and lays them out.

    Parameters
    ----------
    model : Sequential
    names : mapping of str to str, optional
        From the paths of our layers to the names of PyTorch's modules; paths are names otherwise,
        which is right for a chain of the same modules in a ``torch.nn.Sequential``.

    Returns
    -------
    dict of str to ndarray
        For ``module.load_state_dict``, once ``torch.from_numpy`` has made tensors of them.

    Examples
    --------
    >>> from fastconv import Dense, Sequential
    >>> from fastconv.interop import to_torch
    >>> model = Sequential([Dense(2)], input_shape=(3,))
    >>> sorted(to_torch(model, names={"0": "fc"}))
    ['fc.bias', 'fc.weight']
    """
    arrays = _named(TORCH, model, names)
    for name in [name for name in arrays if name.endswith(".running_mean")]:
        arrays[name.replace("running_mean", "num_batches_tracked")] = np.array(0)
    return arrays


def from_keras(
    weights: Mapping[str, Any], model: Sequential, *, names: Mapping[str, str] | None = None
) -> None:
    """Copy the weights of a Keras model into a model.

    Parameters
    ----------
    weights : mapping of str to array
        ``{w.path: w.numpy() for w in keras_model.weights}``, or what `read_weights` reads of them.
    model : Sequential
        Built; of the same layers in the same order.
    names : mapping of str to str, optional
        From the paths of our layers to the paths of Keras' layers, where order does not tell.

    Raises
    ------
    ValueError
        If arrays are missing, left over, or of another shape. The model is unchanged then.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Conv2D, Sequential
    >>> from fastconv.interop import from_keras
    >>> model = Sequential([Conv2D(8, 3)], input_shape=(1, 9, 9))
    >>> kernel = np.arange(72).reshape(3, 3, 1, 8)  # (KH, KW, IC, OC)
    >>> from_keras({"conv2d/kernel": kernel, "conv2d/bias": np.zeros(8)}, model)
    >>> bool((model.layers[0].params["kernel"][7, 0] == kernel[:, :, 0, 7]).all())
    True
    """
    _fill(KERAS, weights, model, names)


def to_keras(model: Sequential, *, names: Mapping[str, str] | None = None) -> dict[str, NDArray]:
    """Return a model's weights as Keras names them and lays them out.

    Parameters
    ----------
    model : Sequential
    names : mapping of str to str, optional
        From the paths of our layers to the paths of Keras' layers; paths are names otherwise.

    Returns
    -------
    dict of str to ndarray
        In the order of our layers: ``w.assign(arrays[w.path])`` for each of Keras' weights.

    Examples
    --------
    >>> from fastconv import Conv2D, Sequential
    >>> from fastconv.interop import to_keras
    >>> model = Sequential([Conv2D(8, 3)], input_shape=(1, 9, 9))
    >>> {name: value.shape for name, value in to_keras(model, names={"0": "conv2d"}).items()}
    {'conv2d/kernel': (3, 3, 1, 8), 'conv2d/bias': (8,)}
    """
    return _named(KERAS, model, names)


def read_weights(path: str | os.PathLike[str]) -> dict[str, NDArray]:
    """Read named arrays from a ``.safetensors`` or an ``.npz`` file, without pickles.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    ValueError
        If the file is damaged, or holds anything but uncompressed arrays of real numbers; an
        ``.npz`` that was compressed is written anew by ``numpy.savez``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.interop import read_weights, write_weights
    >>> write_weights("weights.npz", {"fc.bias": np.ones(2)})
    >>> read_weights("weights.npz")
    {'fc.bias': array([1., 1.])}
    """
    read = read_safetensors if _is_safetensors(path) else read_arrays
    try:
        return read(path)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: cannot read weights: {error}") from error


def write_weights(path: str | os.PathLike[str], weights: Mapping[str, NDArray]) -> None:
    """Write named arrays to a ``.safetensors`` or an ``.npz`` file, whole or not at all.

    Parameters
    ----------
    path : str or path
    weights : mapping of str to ndarray
        What `to_torch`, `to_keras` or a model's ``weights()`` returned.

    Examples
    --------
    >>> from fastconv import Dense, Sequential
    >>> from fastconv.interop import to_torch, write_weights
    >>> write_weights("weights.npz", to_torch(Sequential([Dense(2)], input_shape=(3,))))
    """
    arrays = {name: as_array(value, name) for name, value in weights.items()}
    (write_safetensors if _is_safetensors(path) else write_arrays)(path, arrays)


def _is_safetensors(path: str | os.PathLike[str]) -> bool:
    suffix = os.path.splitext(os.fsdecode(path))[1]
    if suffix not in (".safetensors", ".npz"):
        raise ValueError(f"path: expected one that ends in .safetensors or .npz, got {path!r}")
    return suffix == ".safetensors"


# ---- matching ---------------------------------------------------------------------------------


def _fill(
    convention: Convention,
    weights: Mapping[str, Any],
    model: Sequential,
    names: Mapping[str, str] | None,
) -> None:
    theirs = _by_layer(convention, weights)
    matched = _match(convention, theirs, model, names or {})
    arrays = {}
    for path, layer, flattened in _with_weights(model):
        group = dict(theirs[matched[path]])
        for name, value in (*layer.params.items(), *layer.state.items()):
            their_name = convention.names.get(name, name)
            where = f"{path}.{name}: {convention.library}'s {matched[path]!r}"
            if name in OPTIONAL and their_name not in group:
                arrays[join(path, name)] = np.full_like(value, OPTIONAL[name])
                continue
            if their_name not in group:
                raise ValueError(f"{where} has no {their_name!r}, only {sorted(group)}")
            array = group.pop(their_name)
            expected = convention.layout(layer, name, value, flattened, True).shape
            if array.shape != expected:
                raise ValueError(
                    f"{where}: {their_name!r}: expected shape {expected}, got {array.shape}"
                )
            arrays[join(path, name)] = convention.layout(layer, name, array, flattened, False)
        if group:
            raise ValueError(
                f"{path}, {layer!r}: has no place for {sorted(group)} of {convention.library}'s "
                f"{matched[path]!r}"
            )
    model.set_weights(arrays)


def _by_layer(convention: Convention, weights: Mapping[str, Any]) -> dict[str, dict[str, NDArray]]:
    """Arrays by layer and name, both in the order in which they come."""
    groups: dict[str, dict[str, NDArray]] = {}
    for full_name, value in weights.items():
        layer, _, name = full_name.rpartition(convention.separator)
        if name not in convention.ignored:
            # A tensor that takes part in automatic differentiation has to leave it.
            value = value.detach() if hasattr(value, "detach") else value
            groups.setdefault(layer, {})[name] = as_array(value, full_name)
    return groups


def _match(
    convention: Convention,
    theirs: Mapping[str, Any],
    model: Sequential,
    names: Mapping[str, str],
) -> dict[str, str]:
    """From the paths of our layers with weights to the names of their layers."""
    ours = [path for path, *_ in _with_weights(model)]
    for path, name in names.items():
        if path not in ours:
            raise ValueError(f"names: {path!r} is no layer with weights; these are: {ours}")
        if name not in theirs:
            raise ValueError(
                f"names: {convention.library} has no layer {name!r}; it has: {list(theirs)}"
            )
    rest = [name for name in theirs if name not in names.values()]
    open_ = [path for path in ours if path not in names]
    if len(rest) != len(open_) or len(set(names.values())) < len(names):
        raise ValueError(
            f"expected as many layers with weights as the model has, {len(open_)}, each once: "
            f"{open_}; got {len(rest)}: {rest}"
        )
    if len(open_) > 1 and any(map(_is_sorted, theirs.values())):
        raise ValueError(
            f"names: expected one for each of {open_}, since the arrays come sorted by name, which "
            f"tells nothing of the order of {rest}; .safetensors files are written so, .npz are not"
        )
    return dict(names) | dict(zip(open_, rest, strict=True))


def _is_sorted(group: Mapping[str, Any]) -> bool:
    """Whether a layer's arrays are in the alphabet's order; both libraries put a bias later."""
    first = list(group)[:2]
    return len(first) == 2 and (first[0] == "bias" or first == ["beta", "gamma"])


def _named(
    convention: Convention, model: Sequential, names: Mapping[str, str] | None
) -> dict[str, NDArray]:
    names = names or {}
    layers = list(_with_weights(model))
    unknown = names.keys() - {path for path, *_ in layers}
    if unknown:
        raise ValueError(f"names: no layers with weights: {sorted(unknown)}")
    arrays: dict[str, NDArray] = {}
    for path, layer, flattened in layers:
        for name, value in (*layer.params.items(), *layer.state.items()):
            full_name = convention.separator.join(
                (names.get(path, path), convention.names.get(name, name))
            )
            if full_name in arrays:
                raise ValueError(f"names: two layers would be called {full_name!r}")
            theirs = convention.layout(layer, name, value, flattened, True)
            arrays[full_name] = np.array(theirs, order="C")
    return arrays


def _with_weights(model: Sequential) -> Iterator[tuple[str, Layer, Shape | None]]:
    """Layers with weights, their paths, and the shape of images whose flattened features they take.

    Raises ValueError where the model is not built.
    """
    if model.input_shape is None:
        raise ValueError("model: it has no weights yet; build it or give it a batch")
    flattened: dict[int, Shape | None] = {}
    _follow(model, None, flattened)
    for path, layer in model.walk():
        if layer.params or layer.state:
            yield path, layer, flattened.get(id(layer))


def _follow(layer: Layer, shape: Shape | None, flattened: dict[int, Shape | None]) -> Shape | None:
    """Note for a layer and all below it whether they take a flattened image; return what they give.

    `shape` is that of the image, or None where the input's order is the same in all libraries.
    """
    flattened[id(layer)] = shape
    children = list(layer.children().values())
    if isinstance(layer, Sequential):
        for child in children:
            shape = _follow(child, shape, flattened)
        return shape
    if children:
        if {_follow(child, shape, flattened) for child in children} != {None}:
            raise ValueError(
                f"{layer!r}: expected flattened images to end in a dense layer inside a branch, "
                f"since a mixture of orders cannot be translated"
            )
        return None
    if isinstance(layer, Flatten):
        return layer.input_shape if len(layer.input_shape) == 3 else shape
    return None if isinstance(layer, Dense) else shape


# ---- layouts ----------------------------------------------------------------------------------


def _as_it_is(
    layer: Layer, name: str, value: NDArray, flattened: Shape | None, back: bool
) -> NDArray:
    return value


def _keras_layout(
    layer: Layer, name: str, value: NDArray, flattened: Shape | None, back: bool
) -> NDArray:
    """Between Keras' layout and ours; the way there is the way back with all steps turned round."""
    if isinstance(layer, (DepthwiseConv2D, SeparableConv2D)) and name in ("kernel", "depthwise"):
        # (KH, KW, IC, multiplier) and (IC * multiplier, 1, KH, KW)
        multiplier = layer.depth_multiplier
        if back:
            C, _, KH, KW = value.shape
            return value.reshape(C // multiplier, multiplier, KH, KW).transpose(2, 3, 0, 1)
        KH, KW, IC, _ = value.shape
        return value.transpose(2, 3, 0, 1).reshape(IC * multiplier, 1, KH, KW)
    if value.ndim == 4:
        # (KH, KW, IC, OC) and (OC, IC, KH, KW); transposed convolutions exchange IC and OC in both.
        return value.transpose(2, 3, 1, 0) if back else value.transpose(3, 2, 0, 1)
    if isinstance(layer, Dense):
        if name != "kernel":
            return value
        sort = partial(_sorted_features, flattened=flattened, back=back)
        return sort(value).T if back else sort(value.T)
    return _sorted_features(value, flattened, back) if value.ndim == 1 else value


def _sorted_features(value: NDArray, flattened: Shape | None, back: bool) -> NDArray:
    """Sort the last axis, flattened images, from (H, W, C) to (C, H, W), or back."""
    if flattened is None:
        return value
    C, H, W = flattened
    front = value.shape[:-1]
    if back:
        return np.moveaxis(value.reshape(*front, C, H, W), -3, -1).reshape(value.shape)
    return np.moveaxis(value.reshape(*front, H, W, C), -1, -3).reshape(value.shape)


TORCH = Convention(
    library="PyTorch",
    separator=".",
    names={
        "kernel": "weight",
        "gamma": "weight",
        "beta": "bias",
        "mean": "running_mean",
        "variance": "running_var",
    },
    ignored=("num_batches_tracked",),
    layout=_as_it_is,
)
KERAS = Convention(
    library="Keras",
    separator="/",
    names={
        "mean": "moving_mean",
        "variance": "moving_variance",
        "depthwise": "depthwise_kernel",
        "pointwise": "pointwise_kernel",
    },
    ignored=(),
    layout=_keras_layout,
)
