"""Pictures in folders, one for each class (needs Pillow, of the extra ``images``)."""

from __future__ import annotations

import math
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.arguments import positive_int

from .labelled import LabelledImages

# What Pillow ends in when a picture is damaged, or a header asks for more memory than there is.
DAMAGE = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError,
    SyntaxError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip


def load_folder(
    path: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    grey: bool = False,
    validation_split: float = 0.2,
    seed: int | np.random.Generator = 0,
) -> LabelledImages:
    """Read images from a folder that has a subfolder for each class.

    Parameters
    ----------
    path : str or path
        Its subfolders' names, sorted, are the classes. All they hold has to be images, of any
        format that Pillow reads; names that begin with a dot are passed over.
    size : int or (int, int), optional
        Height and width to which images are scaled; proportions may change. Without it all images
        have to have the same size.
    grey : bool
        One channel of brightness instead of red, green and blue.
    validation_split : float
        Share of each class that is put aside, at least 0 and below 1.
    seed : int or numpy.random.Generator
        Chooses which.

    Returns
    -------
    LabelledImages
        What was put aside is `x_test` and `y_test`. Images are uint8 (N, C, H, W), with the
        channels of a pixel side by side in memory; training images are in the order of their
        names, class after class.

    Raises
    ------
    ValueError
        If a file is not an image, or has another size; the message names it.
    ModuleNotFoundError
        If Pillow is not installed.
    """
    if not 0 <= validation_split < 1:
        raise ValueError(f"validation_split: expected a number in [0, 1), got {validation_split!r}")
    extent = None
    if size is not None:
        height, width = size if isinstance(size, tuple) else (size, size)
        extent = positive_int("size", height), positive_int("size", width)
    folder = Path(path)
    classes = sorted(entry for entry in _visible(folder) if entry.is_dir())
    if not classes:
        raise ValueError(f"{folder}: expected a subfolder for each class, got none")
    files, labels = [], []
    for label, entry in enumerate(classes):
        inside = sorted(_visible(entry))
        if not inside:
            raise ValueError(f"{entry}: expected images, got an empty folder")
        files += inside
        labels += [label] * len(inside)
    y = np.array(labels, np.int64)

    first = _read(files[0], grey, extent)
    x = np.empty((len(files), *first.shape), np.uint8)
    for image, file in zip(x, files, strict=True):
        pixels = _read(file, grey, extent)
        if pixels.shape != first.shape:
            raise ValueError(
                f"{file}: expected {first.shape[0]} x {first.shape[1]} pixels like {files[0]}, "
                f"got {pixels.shape[0]} x {pixels.shape[1]}; size= scales all images"
            )
        image[...] = pixels
    aside = np.zeros(len(x), bool)
    rng = np.random.default_rng(seed)
    for label in range(len(classes)):
        members = rng.permutation(np.flatnonzero(y == label))
        aside[members[: round(validation_split * len(members))]] = True
    names = tuple(entry.name for entry in classes)
    train, test = (x[chosen].transpose(0, 3, 1, 2) for chosen in (~aside, aside))
    return LabelledImages(train, y[~aside], test, y[aside], names)


def _visible(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]


def _read(path: Path, grey: bool, extent: tuple[int, int] | None) -> NDArray[Any]:
    """One image as uint8 (H, W, C), upright."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            file = Image.open(path)
        with file:
            # Of more pixels than Pillow recommends to trust a file with: 89 million.
            if file.width * file.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise ValueError(f"it has {file.width} x {file.height} pixels")
            # Cameras store how they were held beside the pixels.
            image = ImageOps.exif_transpose(file).convert("L" if grey else "RGB")
    except (*DAMAGE, Image.DecompressionBombError) as error:
        known = not isinstance(error, UnidentifiedImageError)
        what = (str(error) or type(error).__name__) if known else "not an image"
        raise ValueError(f"{path}: expected an image that Pillow reads: {what}") from None
    if extent is not None and image.size != extent[::-1]:
        image = image.resize(extent[::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[:, :, None] if grey else pixels
