"""The classical kernels, and filtering an image with them.

Kernels are plain float64 arrays, tap ``[kh, kw]`` in row kh and column kw, ready for `filter_image`
or, with two axes in front, for `fastconv.conv2d`.  As everywhere in this package a kernel is not
flipped: it is laid on the image as it reads.  A *positive* answer of a kernel for edges means that
brightness rises to the right, or downwards.

**How an image is filtered.**  The inside of the result, where the kernel lies on the image as a
whole, is computed from the image where it is; there is no padded copy of it.  What is left are four
strips as narrow as half a kernel.  Each comes from a small padded box, gathered by a table that
says which pixel stands at each place beyond the border::

    . . t o p . . . .           the table for "reflect", four pixels, two taps beyond:
    l +-----------+ r
    e |  inside   | i              place  -2 -1  0  1  2  3  4  5
    f |           | g              pixel   1  0  0  1  2  3  3  2
    t +-----------+ h
    . b o t t o m . t           an image smaller than the kernel is one such box

A photograph's channels often lie side by side in memory.  Such an image is filtered as one plane
whose rows are W * C wide, by a kernel whose taps lie C apart: no channel has to be fetched out.

A kernel that is a column times a row (a Gaussian, a box) is two short sums instead of one long one.
That takes another pass over memory, so it is done where taps outnumber it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import functional as F
from fastconv.arguments import as_array, as_tuple, boolean, one_of, positive_int, real

__all__ = [
    "box",
    "filter_image",
    "gabor",
    "gabor_bank",
    "gaussian",
    "laplacian",
    "prewitt",
    "scharr",
    "sharpen",
    "sobel",
]

Kernel = NDArray[np.float64]

SEPARATE_FROM = 4.0  # taps of the whole kernel for each tap of its column and row together
SMALL = 64 * 1024  # bytes of an image; a padded copy of it takes no longer than four strips
MODES = ("reflect", "constant", "nearest", "mirror", "wrap")


def sobel() -> Kernel:
    """Edges: the difference of neighbours, smoothed by 1, 2, 1 along the edge.

    Returns
    -------
    array (2, 3, 3)
        The first answers to change from left to right, the second from top to bottom.

    Examples
    --------
    >>> from fastconv.filters import sobel
    >>> across, down = sobel()
    >>> across
    array([[-1.,  0.,  1.],
           [-2.,  0.,  2.],
           [-1.,  0.,  1.]])
    """
    return _edges(1, 2, 1)


def scharr() -> Kernel:
    """Edges, the direction of which is right to a degree: smoothed by 3, 10, 3.

    Returns
    -------
    array (2, 3, 3)
        As `sobel`.

    Examples
    --------
    >>> from fastconv.filters import scharr
    >>> scharr()[1]
    array([[ -3., -10.,  -3.],
           [  0.,   0.,   0.],
           [  3.,  10.,   3.]])
    """
    return _edges(3, 10, 3)


def prewitt() -> Kernel:
    """Edges: the difference of neighbours, smoothed by 1, 1, 1.

    Returns
    -------
    array (2, 3, 3)
        As `sobel`.

    Examples
    --------
    >>> from fastconv.filters import prewitt
    >>> prewitt()[0, 0]
    array([-1.,  0.,  1.])
    """
    return _edges(1, 1, 1)


def _edges(*smoothing: float) -> Kernel:
    across = np.outer(smoothing, (-1.0, 0.0, 1.0))
    return np.stack([across, across.T])


def laplacian(*, diagonals: bool = False) -> Kernel:
    """How much a pixel's neighbours are brighter than itself, summed: zero on any slope.

    Parameters
    ----------
    diagonals : bool
        Count all eight neighbours instead of four.

    Returns
    -------
    array (3, 3)

    Examples
    --------
    >>> from fastconv.filters import laplacian
    >>> laplacian()
    array([[ 0.,  1.,  0.],
           [ 1., -4.,  1.],
           [ 0.,  1.,  0.]])
    """
    kernel = np.full((3, 3), 1.0 if boolean("diagonals", diagonals) else 0.0)
    kernel[1, :] = kernel[:, 1] = 1
    kernel[1, 1] -= kernel.sum()
    return kernel


def sharpen(amount: float = 1.0) -> Kernel:
    """The image less `amount` times its `laplacian`; flat areas stay as they are.

    Parameters
    ----------
    amount : float

    Returns
    -------
    array (3, 3)

    Examples
    --------
    >>> from fastconv.filters import sharpen
    >>> sharpen()
    array([[ 0., -1.,  0.],
           [-1.,  5., -1.],
           [ 0., -1.,  0.]])
    """
    kernel = 0 - real("amount", amount) * laplacian()
    kernel[1, 1] += 1
    return kernel


def box(size: int | tuple[int, int]) -> Kernel:
    """The mean of a window.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the window.

    Returns
    -------
    array (KH, KW)
        Sums to one.

    Examples
    --------
    >>> from fastconv.filters import box
    >>> box((1, 4))
    array([[0.25, 0.25, 0.25, 0.25]])
    """
    sizes = size if isinstance(size, tuple) else (size, size)
    if len(sizes) != 2:
        raise ValueError(f"size: expected an integer or a pair of them, got {size!r}")
    KH, KW = (_size(s) for s in sizes)
    return np.full((KH, KW), 1 / (KH * KW))


def gaussian(sigma: float, size: int | None = None) -> Kernel:
    """A mean with weights that fall off with distance: ``exp(-distance**2 / (2 * sigma**2))``.

    Parameters
    ----------
    sigma : float
        Standard deviation in pixels.
    size : int, optional
        Height and width. Four standard deviations to either side if not given, which makes the
        filter that of ``scipy.ndimage.gaussian_filter``.

    Returns
    -------
    array (size, size)
        Sums to one.

    Examples
    --------
    >>> from fastconv.filters import gaussian
    >>> gaussian(0.8, 3).round(3)
    array([[0.057, 0.125, 0.057],
           [0.125, 0.272, 0.125],
           [0.057, 0.125, 0.057]])
    """
    sigma = _positive_real("sigma", sigma)
    size = 2 * int(4 * sigma + 0.5) + 1 if size is None else size
    places = np.arange(_size(size)) - (size - 1) / 2
    weights = np.exp(-(places**2) / (2 * sigma**2))
    weights /= weights.sum()
    return np.outer(weights, weights)


def gabor(
    wavelength: float,
    angle: float = 0.0,
    *,
    phase: float = 0.0,
    sigma: float | None = None,
    aspect: float = 0.5,
    size: int | None = None,
) -> Kernel:
    """A wave under a Gaussian: it answers to stripes of one width in one direction.

    Parameters
    ----------
    wavelength : float
        From one bright stripe to the next, in pixels.
    angle : float
        Direction in which the wave runs, in radians, from rightwards (0, upright stripes) to
        downwards (pi / 2).
    phase : float
        Of the wave at the centre: 0 gives a bright line, -pi / 2 a rising edge.
    sigma : float, optional
        Standard deviation of the Gaussian along the wave; 0.56 wavelengths if not given.
    aspect : float
        That standard deviation, over the one along the stripes.
    size : int, optional
        Height and width; two and a half of the greater standard deviation to either side if not
        given.

    Returns
    -------
    array (size, size)
        Sums to zero, so that an even area gives none; absolute values sum to one.

    Examples
    --------
    >>> from fastconv.filters import gabor
    >>> (100 * gabor(2, aspect=1, size=3)).round(1)
    array([[ -7.2,  14.3,  -7.2],
           [-10.7,  21.3, -10.7],
           [ -7.2,  14.3,  -7.2]])
    """
    for name, value in (("angle", angle), ("phase", phase)):
        if not math.isfinite(real(name, value)):
            raise ValueError(f"{name}: expected a finite number, got {value!r}")
    wavelength, aspect = _positive_real("wavelength", wavelength), _positive_real("aspect", aspect)
    sigma = 0.56 * wavelength if sigma is None else _positive_real("sigma", sigma)
    reach = 2.5 * max(sigma, sigma / aspect)
    size = 2 * math.ceil(reach) + 1 if size is None else size
    places = np.arange(_size(size)) - (size - 1) / 2
    along = places * math.cos(angle) + places[:, None] * math.sin(angle)
    across = places[:, None] * math.cos(angle) - places * math.sin(angle)
    hill = np.exp(-(along**2 + (aspect * across) ** 2) / (2 * sigma**2))
    wave = np.cos(2 * math.pi * along / wavelength + phase)
    # The wave is lowered, not the product, so that the kernel still fades towards its border.
    kernel = hill * (wave - (hill * wave).sum() / hill.sum())
    total = np.abs(kernel).sum()
    return kernel / total if total else kernel


def gabor_bank(
    wavelengths: Sequence[float] = (4.0, 8.0), orientations: int = 8, *, size: int | None = None
) -> Kernel:
    """`gabor` kernels for stripes of several widths, in directions spread evenly over half a turn.

    Parameters
    ----------
    wavelengths : sequence of float
    orientations : int
        Number of directions.
    size : int, optional
        Height and width; what the longest wavelength asks for if not given.

    Returns
    -------
    array (len(wavelengths) * orientations, size, size)
        All directions of the first wavelength, then those of the second, and so on.

    Examples
    --------
    >>> from fastconv.filters import gabor_bank
    >>> gabor_bank((3.0, 6.0), orientations=4).shape
    (8, 35, 35)
    """
    lengths = [_positive_real("wavelengths", w) for w in as_tuple("wavelengths", wavelengths)]
    if not lengths:
        raise ValueError("wavelengths: expected at least one, got none")
    orientations = positive_int("orientations", orientations)
    size = len(gabor(max(lengths))) if size is None else size
    angles = np.arange(orientations) * math.pi / orientations
    return np.stack([gabor(w, angle, size=size) for w in lengths for angle in angles])


def filter_image(
    image: ArrayLike, kernel: ArrayLike, *, mode: str = "reflect", value: float = 0.0
) -> NDArray[Any]:
    """Slide a kernel over an image, whose size stays, channel by channel.

    The result is that of ``scipy.ndimage.correlate``, which says the same of its modes, and comes
    many times faster.

    Parameters
    ----------
    image : array (..., H, W)
        A grey image, one with channels (C, H, W), a batch (N, C, H, W): all planes are filtered
        alike. A photograph (H, W, C), as it is read from a file, comes as
        ``np.moveaxis(photo, -1, 0)``, which copies nothing and is read as it lies.
    kernel : array (KH, KW) or (K, KH, KW)
        One kernel or several; its centre, which lies on the pixel, is ``(KH // 2, KW // 2)``.
    mode : "reflect", "constant", "nearest", "mirror" or "wrap"
        What lies beyond the border of an image ``a b c d``:
        ``d c b a | a b c d | d c b a`` for "reflect", ``v v v v | a b c d | v v v v`` for
        "constant", ``a a a a | a b c d | d d d d`` for "nearest", ``. d c b | a b c d | c b a .``
        for "mirror", ``a b c d | a b c d | a b c d`` for "wrap".
    value : float
        The v of "constant".

    Returns
    -------
    array (..., H, W) or (K, ..., H, W)
        Float32 for images of float32 (or float16), float64 for others: nothing is rounded to
        bytes, or cut off at zero.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.filters import filter_image, sobel
    >>> image = np.array([[0, 0, 9, 9], [0, 0, 9, 9]], np.uint8)
    >>> across, down = filter_image(image, sobel())
    >>> across
    array([[ 0., 36., 36.,  0.],
           [ 0., 36., 36.,  0.]])
    """
    image, taps = _real("image", image), _real("kernel", kernel)
    single = image.dtype.kind == "f" and image.dtype.itemsize < 8
    dtype = np.dtype(np.float32 if single else np.float64)
    if not 2 <= image.ndim <= 30:
        raise ValueError(f"image: expected shape (..., H, W), got {image.shape}")
    if taps.ndim not in (2, 3) or not taps.size:
        raise ValueError(f"kernel: expected shape (KH, KW) or (K, KH, KW), got {taps.shape}")
    one_of("mode", mode, MODES)
    real("value", value)
    if not image.size:
        return np.empty(taps.shape[:-2] + image.shape, dtype)
    image = image.astype(dtype, copy=False)
    if (parts := _column_and_row(taps)) is not None:
        column, row = parts
        # Beyond its border the first result, too, is what it is for an image of that value.
        image = filter_image(image, column, mode=mode, value=value)
        return filter_image(image, row, mode=mode, value=value * column.sum())

    side_by_side = image.ndim == 3 and np.moveaxis(image, 0, -1).flags.c_contiguous
    pixels = np.moveaxis(image, 0, -1)[None] if side_by_side else image[..., None]
    pixels = pixels.reshape(-1, *pixels.shape[-3:])
    stack = taps.astype(dtype, copy=False).reshape(-1, 1, *taps.shape[-2:])
    results = _filter(pixels, stack, mode, value)
    # The kernels' axis goes to the front, or away; the channels' back to where it was.
    if side_by_side:
        results = np.moveaxis(results[0], -1, 1)
    else:
        results = np.moveaxis(results[..., 0], 1, 0).reshape(len(stack), *image.shape)
    return results if taps.ndim == 3 else results[0]


def _filter(pixels: NDArray, kernels: NDArray, mode: str, value: float) -> NDArray:
    """Filter (N, H, W, S), each of the S by itself, with (K, 1, KH, KW): (N, K, H, W, S)."""
    N, H, W, S = pixels.shape
    K, _, KH, KW = kernels.shape
    y = F.empty((N, K, H, W * S), pixels.dtype)

    def fill(source: NDArray, h0: int, h1: int, w0: int, w1: int) -> None:
        """Write rows h0 to h1 and columns w0 to w1 of the result."""
        N, h, w, _ = source.shape
        F.conv2d(
            source.reshape(N, 1, h, w * S),
            kernels,
            dilation=(1, S),
            out=y[:, :, h0:h1, w0 * S : w1 * S],
        )

    top, left = KH // 2, KW // 2
    bottom, right = H - (KH - 1 - top), W - (KW - 1 - left)
    strips = [(0, H, 0, W)]
    if pixels.nbytes > SMALL and top < bottom and left < right:
        fill(pixels, top, bottom, left, right)
        strips = [(0, top, 0, W), (bottom, H, 0, W)]
        strips += [(top, bottom, 0, left), (top, bottom, right, W)]
    rows, columns = (_places(n, k, mode) for n, k in ((H, KH), (W, KW)))
    for h0, h1, w0, w1 in strips:
        if h0 < h1 and w0 < w1:
            here = [(rows[h0 : h1 + KH - 1], 1), (columns[w0 : w1 + KW - 1], 2)]
            strip = pixels
            for places, axis in sorted(here, key=lambda side: len(side[0])):  # the thin side first
                strip = strip.take(places, axis)
            if mode == "constant":
                strip[:, here[0][0] < 0] = strip[:, :, here[1][0] < 0] = value
            fill(strip, h0, h1, w0, w1)
    return y.reshape(N, K, H, W, S)


def _places(n: int, k: int, mode: str) -> NDArray[np.intp]:
    """Which of n pixels stands at each place that k taps see, from the first; -1 is none."""
    places = np.arange(-(k // 2), n + k - 1 - k // 2)
    if mode == "constant":
        return np.where((places >= 0) & (places < n), places, -1)
    if mode == "nearest":
        return places.clip(0, n - 1)
    if mode == "wrap":
        return places % n
    # There and back again: a walk over 2n places, or 2n - 2 where no end is met twice.
    once = 1 if mode == "mirror" else 0
    places %= max(2 * n - 2 * once, 1)
    return np.where(places < n, places, 2 * n - 1 - once - places)


def _column_and_row(taps: NDArray) -> tuple[NDArray, NDArray] | None:
    """A column and a row whose product is the kernel, if there are and two passes are faster."""
    if taps.ndim != 2 or taps.size < SEPARATE_FROM * sum(taps.shape):
        return None
    taps = taps.astype(np.float64)
    largest = np.unravel_index(np.abs(taps).argmax(), taps.shape)
    if not (np.isfinite(taps).all() and taps[largest]):
        return None
    column, row = taps[:, largest[1]], taps[largest[0]] / taps[largest]
    # The product may differ from the kernel by as much as rounding has changed it.
    rounding = 4 * np.finfo(np.float64).eps * np.abs(taps)
    if (np.abs(np.outer(column, row) - taps) > rounding).any():
        return None
    return column[:, None], row[None]


def _real(name: str, values: ArrayLike) -> NDArray:
    array = as_array(values, name)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"{name}: expected real numbers of at most 64 bits, got {array.dtype}")
    return array


def _positive_real(name: str, value: Any) -> float:
    number = real(name, value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name}: expected a positive number, got {value!r}")
    return number


def _size(size: int) -> int:
    """A kernel is as large as an image at most."""
    if positive_int("size", size) > 1 << 15:
        raise ValueError(f"size: expected at most {1 << 15} rows and columns, got {size}")
    return size
