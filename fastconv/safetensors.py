"""Arrays by name in a ``.safetensors`` file, the format in which weights are shared most.

Eight bytes tell the length of a text, the text (JSON) tells the type, the shape and the place of
every array, and the arrays follow, little-endian, without holes. All that is compared with the
file's size before memory is asked for; the text is limited as all descriptions are (`text.py`).
The format has no check sums.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastconv.archive import fill
from fastconv.atomic import write_whole
from fastconv.text import LONGEST, parse

DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "U32": "<u4",
    "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
ALIGNMENT = 8  # bytes; the text is filled up with spaces


def write_safetensors(path: str | os.PathLike[str], arrays: Mapping[str, NDArray]) -> None:
    """Write arrays, whole or not at all."""
    names = {np.dtype(code): name for name, code in DTYPES.items()}
    described: dict[str, Any] = {}
    end = 0
    for name, value in arrays.items():
        begin, end = end, end + value.nbytes
        kind = names.get(value.dtype.newbyteorder("<"))
        if kind is None:
            raise TypeError(f"{name}: expected real numbers, got {value.dtype}")
        if name == "__metadata__":
            raise ValueError("weights: the name '__metadata__' is taken")
        described[name] = {"dtype": kind, "shape": value.shape, "data_offsets": (begin, end)}
    text = json.dumps(described, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // ALIGNMENT) * ALIGNMENT)
    if len(text) > LONGEST:
        raise ValueError(f"weights: expected names of at most {LONGEST} bytes, got {len(text)}")

    def write(file: IO[bytes]) -> None:
        file.write(len(text).to_bytes(8, "little") + text)
        for value in arrays.values():
            plain = np.asarray(value, value.dtype.newbyteorder("<"), order="C")
            file.write(plain.reshape(-1).view(np.uint8).data)

    write_whole(path, write)


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, NDArray]:
    """Read arrays by name, in the order in which they lie.

    Raises
    ------
    ValueError
        If the file is none of these, is damaged, or has a type that NumPy does not have.
    """
    with open(os.fsdecode(path), "rb") as file:
        room = os.fstat(file.fileno()).st_size - 8
        length = int.from_bytes(file.read(8), "little")
        if length > min(LONGEST, room):
            raise ValueError(f"expected at most {LONGEST} bytes of description, got {length}")
        found = parse(file.read(length))
        if not isinstance(found, dict):
            raise ValueError("expected a description by names")
        found.pop("__metadata__", None)
        planned = sorted(
            (_described(name, entry) for name, entry in found.items()), key=lambda plan: plan[:2]
        )
        at = 0
        for begin, end, *_ in planned:
            if begin != at:
                raise ValueError("its arrays do not lie one after the other")
            at = end
        if at != room - length:
            raise ValueError(f"expected {at} bytes of arrays, got {room - length}")
        arrays = {}
        for _, _, name, dtype, shape in planned:
            flat = np.empty(math.prod(shape), dtype)
            fill(file, flat)
            arrays[name] = flat.reshape(shape).astype(dtype.newbyteorder("="), copy=False)
        return arrays


def _described(name: str, entry: Any) -> tuple[int, int, str, np.dtype, tuple[int, ...]]:
    """Begin, end, name, type and shape of an array, which agree with each other."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name}: expected dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(
            type(number) is int and number >= 0 for number in numbers
        ):
            raise ValueError(f"{name}: expected lists of sizes, got {numbers!r}")
    if not isinstance(kind, str) or kind not in DTYPES:
        raise ValueError(f"{name}: expected a type of {sorted(DTYPES)}, got {kind!r}")
    dtype = np.dtype(DTYPES[kind])
    if len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name}: its size is not that of its shape {shape}")
    return offsets[0], offsets[1], name, dtype, tuple(shape)
