"""CIFAR-10 and CIFAR-100 in their binary versions.

A file is a row of records without a header.  A record is its label, a byte, and the 32 x 32 red,
green and blue values of an image; CIFAR-100 has two labels before these, of 20 coarse and 100 fine
classes.  With nothing else to go by, length and labels are what a file is known by.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .labelled import LabelledImages

PIXELS = 3 * 32 * 32
RECORDS = 1024  # read at a time
# Labels of a record, and which of them counts, by the number of classes.
LABELS = {10: (1, 0), 20: (2, 0), 100: (2, 1)}


def read_cifar(path: str | os.PathLike[str], classes: int = 10) -> tuple[NDArray, NDArray]:
    """Read one file of CIFAR-10 or CIFAR-100, as ``data_batch_1.bin`` or ``train.bin``.

    Parameters
    ----------
    path : str or path
    classes : 10, 100 or 20
        10 reads CIFAR-10, 100 the fine labels of CIFAR-100, and 20 its coarse ones.

    Returns
    -------
    images : uint8 array (N, 3, 32, 32)
    labels : int64 array (N,)

    Raises
    ------
    ValueError
        If the file is not a row of such records.
    """
    if classes not in LABELS:
        raise ValueError(f"classes: expected 10, 20 or 100, got {classes!r}")
    labels, which = LABELS[classes]
    length = labels + PIXELS
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size or size % length:
            raise ValueError(f"{path}: expected records of {length} bytes, got {size} bytes")
        images = np.empty((size // length, 3, 32, 32), np.uint8)
        found = np.empty(size // length, np.int64)
        for start in range(0, len(images), RECORDS):
            records = np.fromfile(file, np.uint8, RECORDS * length).reshape(-1, length)
            for label, limit in zip(
                range(labels), (20, 100) if labels == 2 else (10,), strict=True
            ):
                wrong = np.flatnonzero(records[:, label] >= limit)
                if wrong.size:
                    raise ValueError(f"{path}: expected labels below {limit}, got "
                                     f"{records[wrong[0], label]} in record {start + wrong[0]}")
            part = slice(start, start + RECORDS)
            images[part] = records[:, labels:].reshape(-1, 3, 32, 32)
            found[part] = records[:, which]
    return images, found


def load_cifar_folder(
    folder: str | os.PathLike[str], *, coarse: bool = False
) -> LabelledImages:
    """Read the folder of CIFAR-10 or CIFAR-100 (binary version), as it is unpacked.

    Parameters
    ----------
    folder : str or path
        Holds ``data_batch_1.bin`` and so on, and ``test_batch.bin``; or, for CIFAR-100,
        ``train.bin`` and ``test.bin``. Names of classes are read if their file is there.
    coarse : bool
        The 20 coarse classes of CIFAR-100.

    Returns
    -------
    LabelledImages

    Raises
    ------
    ValueError
        If files are missing, or one is not what it should be.
    """
    folder = Path(folder)
    hundred = (folder / "train.bin").exists()
    if coarse and not hundred:
        raise ValueError(f"coarse: {folder} has no train.bin, and only CIFAR-100 has coarse labels")
    if hundred:
        train, test, classes = [folder / "train.bin"], folder / "test.bin", 20 if coarse else 100
        names = folder / ("coarse_label_names.txt" if coarse else "fine_label_names.txt")
    else:
        train, test = sorted(folder.glob("data_batch_*.bin")), folder / "test_batch.bin"
        classes, names = 10, folder / "batches.meta.txt"
    if not train or not test.exists():
        present = sorted(path.name for path in folder.iterdir())
        raise ValueError(f"{folder}: expected data_batch_*.bin and test_batch.bin, or train.bin "
                         f"and test.bin, got {present or 'none'}")
    parts = [read_cifar(path, classes) for path in train]
    class_names = tuple(names.read_text().split()) if names.exists() else ()
    if class_names and len(class_names) != classes:
        raise ValueError(f"{names}: expected {classes} names, got {len(class_names)}")
    x_train, y_train = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return LabelledImages(x_train, y_train, *read_cifar(test, classes), class_names)
