"""Models as files: one ``.npz``, no code, written whole or not at all.

The file is an uncompressed zip of ``.npy`` arrays, so ``numpy.load`` opens it and so does any
zip tool. The entry ``model`` is JSON text as bytes: the format's name and version, the layers
with their constructor arguments (a layer among them is described in the same way), input shape,
dtype and metadata. The other entries are the parameters and the layers' state, little-endian,
under the names that ``Sequential.weights`` gives them.

A file is not trusted. Layers are looked up in a fixed table, nothing is imported or evaluated by
name, and every size is compared with the bytes that are really there before memory is asked for.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import zipfile
from collections.abc import Iterable
from operator import index
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .activation import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from .averaging import AdaptiveAvgPool, AvgPool, GlobalAvgPool, GlobalMaxPool
from .containers import Concat, Residual
from .conv import Conv2D
from .dense import Dense, Flatten
from .dropout import Dropout, SpatialDropout
from .layer import Layer, join
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
# What reading a damaged or hostile file can end in, once it has been opened.
DAMAGE = (
    zipfile.BadZipFile, AttributeError, EOFError, LookupError, OSError, OverflowError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
LONGEST_DESCRIPTION = 1_000_000  # bytes
HEADER = re.compile(
    rb"\{'descr': '([<|][uf][148])', 'fortran_order': False, 'shape': \(([\d, ]*)\), \} *\n"
)


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
    if len(text) > LONGEST_DESCRIPTION:
        raise ValueError(
            f"metadata: expected a description of at most {LONGEST_DESCRIPTION} bytes, "
            f"got {len(text)}"
        )
    entries = {"model": np.frombuffer(text, np.uint8)}
    for name, value in model.named_arrays():
        entries[name] = value.astype(value.dtype.newbyteorder("<"), copy=False)
    write_whole(os.path.realpath(path), entries)


def _describe(value: Any) -> Any:
    """Say what JSON cannot: a layer, or an integer of NumPy's."""
    if isinstance(value, Layer):
        return {"layer": type(value).__name__, **value.config()}
    return index(value)


def write_whole(path: str, entries: dict[str, NDArray]) -> None:
    """Write beside the target, force it to disk, then take the target's place in one move."""
    temporary = f"{path}.{os.urandom(4).hex()}.tmp"
    try:
        with open(temporary, "xb") as file:
            np.savez(file, **entries)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def load(
    cls: type[Sequential],
    path: str | os.PathLike[str],
    *,
    layers: Iterable[type[Layer]],
    seed: int | np.random.Generator | None,
) -> Sequential:
    """Read and check a model; see `Sequential.load`."""
    table = {layer.__name__: layer for layer in (*LAYERS, *layers)}
    with open(path, "rb") as file:
        try:
            return _restore(cls, read_entries(file), table, seed)
        except DAMAGE as error:
            raise ValueError(f"{os.fspath(path)}: not a saved model: {error}") from error


def read_entries(file: IO[bytes]) -> dict[str, NDArray]:
    """Read the arrays of an uncompressed zip no larger than its file."""
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("expected uncompressed entries")
        if sum(member.file_size for member in members) > size:
            raise ValueError("entries are larger than the file")
        names = [member.filename.removesuffix(".npy") for member in members]
        if len(set(names)) < len(names):
            raise ValueError("an entry stands there twice")
        return {
            name: _read_array(archive.read(member))
            for name, member in zip(names, members, strict=True)
        }


def _read_array(data: bytes) -> NDArray:
    """Decode one ``.npy``, of the few kinds that `save` writes, without evaluating its header."""
    length = int.from_bytes(data[8:10], "little")
    header = HEADER.fullmatch(data[10 : 10 + length])
    if data[:8] != b"\x93NUMPY\x01\x00" or header is None:
        raise ValueError("an entry is not a plain array")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(size) for size in header[2].split(b",") if size.strip())
    if 10 + length + math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError("an entry's size is not that of its shape")
    array = np.frombuffer(data, dtype, offset=10 + length).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def _restore(
    cls: type[Sequential],
    entries: dict[str, NDArray],
    table: dict[str, type[Layer]],
    seed: int | np.random.Generator | None,
) -> Sequential:
    description = json.loads(entries.pop("model")[:LONGEST_DESCRIPTION].tobytes())
    if description["format"] != FORMAT or description["version"] != VERSION:
        raise ValueError(
            f"expected {FORMAT} version {VERSION}, got {description['format']!r} "
            f"version {description['version']!r}"
        )
    model = cls(
        _restored(description["layers"], table), seed=seed, dtype=description["dtype"]
    )
    layers = list(model.walk())
    for path, layer in reversed(layers):  # a layer's arrays have longer paths than its parent's
        prefix = join(path, "")
        layer.from_file = {
            name.removeprefix(prefix): entries.pop(name)
            for name in list(entries)
            if name.startswith(prefix) and path
        }
    model.build(tuple(description["input_shape"]))
    for _, layer in layers:
        if layer.from_file:
            raise ValueError(f"{layer!r} has no parameter {min(layer.from_file)!r}")
        layer.from_file = None
    if entries:
        raise ValueError(f"unexpected entry {min(entries)!r}")
    model.metadata = dict(description["metadata"])
    return model


def _restored(value: Any, table: dict[str, type[Layer]]) -> Any:
    """Make layers of their descriptions, and undo JSON's turning of tuples into lists."""
    if isinstance(value, list):
        return tuple(_restored(item, table) for item in value)
    if not isinstance(value, dict) or "layer" not in value:
        return value
    arguments = {key: _restored(item, table) for key, item in value.items()}
    name = arguments.pop("layer")
    if name not in table:
        raise ValueError(f"unknown layer {name!r}; a class of your own is named by layers=")
    return table[name].from_config(arguments)
