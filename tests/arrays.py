"""Arrays for the tests: integer-valued ones, the same array in other memory, exact comparison.

Small integers make a convolution exact in float32: as long as every partial sum stays below 2**24
no order of summation, no fused multiplication, no blocking changes a single bit. So a test can ask
for equality where a tolerance would hide an indexing error.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from shapes import Problem

ORDERS = ("contiguous", "channels_last")


def seeded(problem: Problem) -> np.random.Generator:
    """A generator that depends on the problem alone, so that any one can be run by itself."""
    return np.random.default_rng(zlib.crc32(repr(problem).encode()))


def integers(rng: np.random.Generator, shape, amplitude: int = 32, dtype=np.float32) -> np.ndarray:
    """Integer values in [-amplitude, amplitude]."""
    return rng.integers(-amplitude, amplitude, shape, endpoint=True).astype(dtype)


def integer_operands(problem: Problem, dtype=np.float32) -> tuple[np.ndarray, ...]:
    """``x, kernel, bias, dy`` such that all three passes are exact in float32."""
    amplitude = min(32, math.isqrt((2**24 - 64) // problem.longest_sum))
    assert amplitude >= 4, f"sums too long to be exact: {problem}"
    rng = seeded(problem)
    shapes = (problem.x_shape, problem.kernel_shape, (problem.oc,), problem.y_shape)
    return tuple(integers(rng, shape, amplitude, dtype) for shape in shapes)


def real_operands(problem: Problem, dtype=np.float32) -> tuple[np.ndarray, ...]:
    """``x, kernel, bias, dy`` with normally distributed values: every rounding shows."""
    rng = seeded(problem)
    shapes = (problem.x_shape, problem.kernel_shape, (problem.oc,), problem.y_shape)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


def in_order(array: np.ndarray, order: str) -> np.ndarray:
    """The same values of ``(N, C, H, W)`` or ``(C, H, W)``, C-contiguous or channels-last."""
    if order == "contiguous":
        return np.ascontiguousarray(array)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, -3, -1)), -1, -3)


# -- the same values in other memory ---------------------------------------------------------------


def _sliced(array: np.ndarray) -> np.ndarray:
    """Every second element of an array with a margin, whose other elements are NaN."""
    big = np.full([2 * n + 3 for n in array.shape], np.nan, array.dtype)
    view = big[tuple(slice(1, 1 + 2 * n, 2) for n in array.shape)]
    view[...] = array
    return view


def _negative(array: np.ndarray) -> np.ndarray:
    backwards = (slice(None, None, -1),) * array.ndim
    return np.ascontiguousarray(array[backwards])[backwards]


def _unaligned(array: np.ndarray) -> np.ndarray:
    buffer = np.empty(array.nbytes + 1, np.uint8)
    view = buffer[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _cropped(array: np.ndarray) -> np.ndarray:
    """The inside of a wider array: rows contiguous, but not one after the other."""
    big = np.full([n + 2 for n in array.shape], np.nan, array.dtype)
    view = big[tuple(slice(1, 1 + n) for n in array.shape)]
    view[...] = array
    return view


def _last_axis_first(array: np.ndarray) -> np.ndarray:
    """The memory of an array whose last axis varies slowest."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, -1, 0)), 0, -1)


def _channels_of_more(array: np.ndarray) -> np.ndarray:
    """Channels-last, some of the channels of an array that has more."""
    if array.ndim < 3:
        return _cropped(array)
    return np.moveaxis(_cropped(np.moveaxis(array, -3, -1)), -1, -3)


def _channels_last_backwards(array: np.ndarray) -> np.ndarray:
    """Channels-last, the last column first."""
    if array.ndim < 3:
        return array
    return in_order(array[..., ::-1], "channels_last")[..., ::-1]


LAYOUTS = {
    "fortran": np.asfortranarray,
    "sliced": _sliced,
    "cropped": _cropped,
    "channels of more": _channels_of_more,
    "channels-last, backwards": _channels_last_backwards,
    "negative strides": _negative,
    "last axis first": _last_axis_first,
    "unaligned": _unaligned,
    "byte-swapped": lambda array: array.astype(array.dtype.newbyteorder()),
    "read-only": _read_only,
}
# Those whose gaps are NaN, which only floats have.
WITH_GAPS = ("sliced", "cropped", "channels of more")


# -- comparison ------------------------------------------------------------------------------------


def assert_same(got: np.ndarray, expected: np.ndarray, what: object) -> None:
    """Same shape, dtype and values; NaN equals NaN, and 0 equals -0."""
    __tracebackhide__ = True
    assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}\n  {what}"
    assert got.dtype == expected.dtype, f"dtype {got.dtype}, expected {expected.dtype}\n  {what}"
    if np.array_equal(got, expected, equal_nan=True):
        return
    wrong = ~((got == expected) | (np.isnan(got) & np.isnan(expected)))
    first = tuple(map(int, np.argwhere(wrong)[0]))
    raise AssertionError(
        f"{wrong.sum()} of {wrong.size} values differ; the first at {first}: "
        f"{got[first]!r}, expected {expected[first]!r}\n  {what}"
    )


def assert_same_bits(got: np.ndarray, expected: np.ndarray, what: object) -> None:
    """Same shape, dtype and bits."""
    __tracebackhide__ = True
    assert_same(got, expected, what)
    assert got.tobytes() == expected.tobytes(), f"zeros or NaN differ in their bits\n  {what}"
