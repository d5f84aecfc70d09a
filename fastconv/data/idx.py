"""IDX files, the format of MNIST and its descendants.

Two zero bytes, a byte for the element type, a byte for the number of axes, the axes' sizes as
big-endian 32-bit integers, then the elements.  Files may be compressed with gzip.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .labelled import LabelledImages

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
CHUNK = 1 << 20  # bytes


def read_idx(path: str | os.PathLike[str]) -> NDArray:
    """Read one IDX file, compressed with gzip or not.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    ndarray
        In the file's shape and type, native byte order.

    Raises
    ------
    ValueError
        If the file is not IDX, or not as long as its header says.
    """
    with open(path, "rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = gzip.GzipFile(fileobj=raw) if compressed else raw
        try:
            magic = file.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES:
                raise ValueError(f"{path}: expected an IDX file, which begins with 00 00, a type "
                                 f"code and the number of axes, got {magic.hex(' ')}")
            sizes = file.read(4 * magic[3]).ljust(4 * magic[3], b"\xff")
            shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
            dtype = np.dtype(IDX_TYPES[magic[2]])
            expected = math.prod(shape) * dtype.itemsize
            # Memory grows with what there is: a header may promise more.
            elements = bytearray()
            while len(elements) <= expected:
                part = file.read(min(CHUNK, expected + 1 - len(elements)))
                if not part:
                    break
                elements += part
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file: {error}") from error
    if len(elements) != expected:
        raise ValueError(f"{path}: expected {expected} bytes of elements for shape {shape}, "
                         f"got {'more' if len(elements) > expected else len(elements)}")
    array = np.frombuffer(elements, dtype)
    if not dtype.isnative:
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return array.reshape(shape)


def load_idx_folder(folder: str | os.PathLike[str]) -> LabelledImages:
    """Read a folder with the four files of MNIST, Fashion-MNIST and the like.

    Parameters
    ----------
    folder : str or path
        Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same beginning
        with ``t10k`` (or ``test``), each with or without ``.gz``. Names may have something before
        and after these words, as EMNIST's do, and a dot for the second dash.

    Returns
    -------
    LabelledImages
        Grey images get their channel axis: (N, 1, H, W), as stored; labels are int64.
    """
    folder = Path(folder)
    splits: list[NDArray] = []
    for split in (("train",), ("t10k", "test")):
        images = read_idx(_find(folder, split, "images"))
        labels = read_idx(_find(folder, split, "labels"))
        if images.ndim not in (3, 4) or labels.shape != images.shape[:1]:
            raise ValueError(f"{folder}: expected images (N, H, W) and labels (N,) for "
                             f"{split[0]!r}, got {images.shape} and {labels.shape}")
        splits += [images if images.ndim == 4 else images[:, None], labels.astype(np.int64)]
    x_train, y_train, x_test, y_test = splits
    return LabelledImages(x_train, y_train, x_test, y_test)


def _find(folder: Path, splits: tuple[str, ...], what: str) -> Path:
    found = sorted(
        path for path in folder.iterdir()
        if "idx" in path.name and what in path.name and any(s in path.name for s in splits)
    )
    # The plain file stands before its compressed twin.
    if len({path.name.removesuffix(".gz") for path in found}) == 1:
        return found[0]
    raise ValueError(f"{folder}: expected one file like {splits[0]}-{what}-idx*-ubyte[.gz], "
                     f"got {[path.name for path in found] or 'none'}")
