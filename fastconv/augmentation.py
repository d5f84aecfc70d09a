"""Random changes of training images that leave what they show as it is.

A transform is called with a batch ``(N, C, H, W)`` and a generator of random numbers, and returns a
batch in the same memory order; the one it is given stays as it is. `fit` calls it with a generator
of its own that follows from the model's seed, so that the same seed draws the same changes. A
function of one's own does as well: anything that can be called with ``(x, rng)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from fastconv.arguments import as_array, one_of, positive_int, real

# A string, since looking np.random up imports it, which takes as long as half of the package.
Transform: TypeAlias = "Callable[[NDArray, np.random.Generator], NDArray]"

# Those of `numpy.pad` that need no further argument.
MODES = ("constant", "edge", "reflect", "symmetric", "wrap", "linear_ramp", "maximum", "mean",
         "median", "minimum")  # fmt: skip


class Compose:
    """Transforms one after the other.

    Parameters
    ----------
    *transforms : callable
        Each is called with (x, rng).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.augmentation import Compose, RandomCrop, RandomFlip
    >>> augment = Compose(RandomCrop(padding=4), RandomFlip())
    >>> augment
    Compose(RandomCrop(size=None, padding=4, mode='constant'), RandomFlip(axis='horizontal', p=0.5))
    >>> augment(np.ones((8, 3, 32, 32)), np.random.default_rng(0)).shape
    (8, 3, 32, 32)
    """

    def __init__(self, *transforms: Transform) -> None:
        for transform in transforms:
            if not callable(transform):
                raise TypeError(f"transforms: expected functions of (x, rng), got {transform!r}")
        self.transforms = transforms

    def __call__(self, x: NDArray, rng: np.random.Generator) -> NDArray:
        for transform in self.transforms:
            x = transform(x, rng)
        return x

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.transforms))})"


@dataclass(frozen=True)
class RandomFlip:
    """Mirror each image with probability p.

    Parameters
    ----------
    axis : "horizontal" or "vertical"
        Left and right change places, or top and bottom.
    p : float

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.augmentation import RandomFlip
    >>> RandomFlip(p=1.0)(np.arange(6).reshape(1, 1, 2, 3), np.random.default_rng(0))
    array([[[[2, 1, 0],
             [5, 4, 3]]]])
    """

    axis: str = "horizontal"
    p: float = 0.5

    def __post_init__(self) -> None:
        one_of("axis", self.axis, ("horizontal", "vertical"))
        if not 0 <= real("p", self.p) <= 1:
            raise ValueError(f"p: expected a number in [0, 1], got {self.p!r}")

    def __call__(self, x: NDArray, rng: np.random.Generator) -> NDArray:
        x = _images(x)
        chosen = rng.random(len(x)) < self.p
        flipped = x.copy(order="K")
        flipped[chosen] = x[chosen, :, :, ::-1] if self.axis == "horizontal" else x[chosen, :, ::-1]
        return flipped


@dataclass(frozen=True)
class RandomCrop:
    """Cut a piece at a random place out of each image, which may be padded before.

    Parameters
    ----------
    size : int, optional
        Height and width of the piece; as large as the image if not given.
    padding : int
        Pixels added on every side.
    mode : str
        What they are: "constant" (0), or another of `numpy.pad`, such as "reflect".

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.augmentation import RandomCrop
    >>> RandomCrop(2)(np.arange(9).reshape(1, 1, 3, 3), np.random.default_rng(0))
    array([[[[4, 5],
             [7, 8]]]])
    """

    size: int | None = None
    padding: int = 0
    mode: str = "constant"

    def __post_init__(self) -> None:
        if self.size is not None:
            positive_int("size", self.size)
        if type(self.padding) is not int or self.padding != 0:
            _border("padding", self.padding)
        one_of("mode", self.mode, MODES)

    def __call__(self, x: NDArray, rng: np.random.Generator) -> NDArray:
        x = _images(x)
        before = self.padding
        if before:
            sides: Any = ((0, 0), (before, before), (before, before), (0, 0))
            wide = np.pad(_rows(x), sides, mode=self.mode)  # type: ignore[call-overload]
        else:
            wide = _rows(x)
        height, width = (self.size, self.size) if self.size is not None else x.shape[2:]
        tops, lefts = wide.shape[1] - height + 1, wide.shape[2] - width + 1
        if tops < 1 or lefts < 1:
            raise ValueError(f"size: expected at most the padded image's, got {self.size} for "
                             f"{wide.shape[1:3]}")
        # A view of all pieces (N, tops, lefts, C, height, width), of which one each is copied.
        pieces = sliding_window_view(wide, (height, width), (1, 2))
        place = rng.integers(tops, size=len(x)), rng.integers(lefts, size=len(x))
        cut = pieces[np.arange(len(x)), place[0], place[1]]
        if not _is_channels_last(x):
            return np.ascontiguousarray(cut)
        return np.ascontiguousarray(cut.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


class RandomShift(RandomCrop):
    """Move each image by up to some pixels in both directions; 0 comes in from outside.

    Parameters
    ----------
    pixels : int
    mode : str
        What comes in: see `RandomCrop`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.augmentation import RandomShift
    >>> RandomShift(1)(np.ones((1, 1, 2, 3)), np.random.default_rng(0))
    array([[[[1., 1., 1.],
             [0., 0., 0.]]]])
    """

    def __init__(self, pixels: int, mode: str = "constant") -> None:
        super().__init__(None, _border("pixels", pixels), mode)

    def __repr__(self) -> str:
        return f"RandomShift({self.padding}, mode={self.mode!r})"


class Normalize:
    """Subtract every channel's mean and divide by its deviation: bytes in, float32 out.

    Nothing is random here. It stands among the transforms so that images may be kept as bytes;
    validation data and what is predicted want it too, called with the images alone.

    Parameters
    ----------
    mean, std : float or array_like (C,)

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.augmentation import Normalize
    >>> Normalize(1.0, [2.0, 4.0])(np.full((1, 2, 1, 1), 5))
    array([[[[2.]],
    <BLANKLINE>
            [[1.]]]], dtype=float32)
    >>> Normalize.of(np.arange(8).reshape(2, 1, 2, 2))
    Normalize([3.5], [2.291287899017334])
    """

    def __init__(self, mean: ArrayLike, std: ArrayLike) -> None:
        given = {"mean": as_array(mean, "mean"), "std": as_array(std, "std")}
        for name, values in given.items():
            if values.dtype.kind not in "biuf" or values.ndim > 1:
                raise TypeError(
                    f"{name}: expected a number or numbers (C,), got shape {values.shape} of "
                    f"{values.dtype}"
                )
        self.mean, self.std = (np.atleast_1d(v.astype(np.float32)) for v in given.values())
        if not (np.isfinite(self.mean).all() and (self.std > 0).all()):
            raise ValueError(
                f"std: expected numbers above 0, and finite means, got {mean!r} and {std!r}"
            )

    @classmethod
    def of(cls, x: ArrayLike) -> Normalize:
        """The one that gives every channel of these images mean 0 and deviation 1.

        A channel that is the same everywhere is divided by 1.
        """
        images = _images(as_array(x, "x"))
        mean = images.mean(axis=(0, 2, 3), dtype=np.float64)
        std = images.std(axis=(0, 2, 3), dtype=np.float64)
        return cls(mean, np.where(std > 0, std, 1))

    def __call__(self, x: ArrayLike, rng: np.random.Generator | None = None) -> NDArray:
        images = _images(as_array(x, "x"))
        for table in (self.mean, self.std):
            if table.size not in (1, images.shape[1]):
                raise ValueError(f"x: expected {table.size} channels, got shape {images.shape}")
        scale = (1 / self.std)[:, None, None]
        dtype = np.float64 if images.dtype == np.float64 else np.float32
        result = np.multiply(images, scale, dtype=dtype, casting="unsafe")
        result -= self.mean[:, None, None] * scale
        return result

    def __repr__(self) -> str:
        return f"Normalize({self.mean.tolist()}, {self.std.tolist()})"


def _border(name: str, value: int) -> int:
    """A number of pixels that an image may be wider by."""
    if positive_int(name, value) > 1 << 20:
        raise ValueError(f"{name}: expected at most {1 << 20} pixels, got {value}")
    return value


def _images(x: NDArray) -> NDArray:
    if x.ndim != 4:
        raise ValueError(f"x: expected images (N, C, H, W), got shape {x.shape}")
    return x


def _is_channels_last(x: NDArray) -> bool:
    return not x.flags.c_contiguous and _rows(x).flags.c_contiguous


def _rows(x: NDArray) -> NDArray:
    """The images as (N, H, W, C)."""
    return x.transpose(0, 2, 3, 1)
