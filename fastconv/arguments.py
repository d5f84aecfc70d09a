"""What callers pass, made into what the code works on; used on every floor, the compiled one too.

An array may come from anywhere.  NumPy's own protocol is ``__array__``; ``__dlpack__`` is the one
that array libraries share, and NumPy asks for it only when told to.  Both hand over memory without
a copy where the object lies in the CPU's memory.
"""

from __future__ import annotations

import sys
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 1 << 40  # no array has so many elements, and no loop ends after so many rounds


def as_array(value: Any, name: str) -> NDArray[Any]:
    """The argument as a plain ndarray, without a copy where that can be had.

    Parameters
    ----------
    value : array_like, or an object with ``__array__`` or ``__dlpack__``
    name : str
        Of the argument, for the message.

    Raises
    ------
    ValueError, TypeError
        If no array can be made of it: a ragged list, a tensor on another device, or one whose
        gradient is being recorded.

    Examples
    --------
    >>> from fastconv.arguments import as_array
    >>> as_array([1, 2], "x")
    array([1, 2])
    """
    if type(value) is np.ndarray:
        return value
    if value is None:
        raise TypeError(f"{name}: expected an array, got None")
    # What is masked would be computed with, unnoticed.
    ma = sys.modules.get("numpy.ma")
    if ma is not None and isinstance(value, ma.MaskedArray) and ma.is_masked(value):
        raise ValueError(f"{name}: expected an array without masked values, got a masked one")
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:
        # The object's own methods were asked, and may fail in any way.
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name}: expected an array, got {type(value).__name__}: {error}") from None


def positive_int(name: str, value: Any) -> int:
    """Return `value` as an int of at least 1, or say what is wrong with argument `name`."""
    try:
        number = 0 if isinstance(value, (bool, np.bool_)) else index(value)
    except Exception:
        number = 0
    if number < 1:
        raise ValueError(f"{name}: expected a positive integer, got {value!r}")
    if number > LARGEST:
        raise ValueError(f"{name}: expected a positive integer of at most {LARGEST}, got a larger")
    return number


def as_tuple(name: str, value: Any) -> tuple[Any, ...]:
    """Return a sequence of numbers as a tuple; an iterator is none, since it might not end."""
    try:
        if isinstance(value, (str, bytes, dict, set, frozenset)):
            raise TypeError
        len(value)
        return tuple(value)
    except Exception:
        raise TypeError(f"{name}: expected a tuple of numbers, got {value!r}") from None


def list_of(name: str, value: Any, kind: type, what: str) -> list[Any]:
    """Return an iterable of `kind` as a list; the first that is something else ends it."""
    found: list[Any] = []
    try:
        iterator = iter(value)
    except Exception:
        raise TypeError(f"{name}: expected {what}, got {value!r}") from None
    for item in iterator:
        if not isinstance(item, kind):
            raise TypeError(f"{name}: expected {what}, got {item!r} among them")
        found.append(item)
    return found


def boolean(name: str, value: Any) -> bool:
    """Return `value` if it is a bool, or say what is wrong with argument `name`."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected a bool, got {value!r}")
    return bool(value)


def real(name: str, value: Any) -> float:
    """Return an integer or a float as a float, or say what is wrong with argument `name`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name}: expected a number below 1.8e308, got a larger one") from None


def float_dtype(name: str, value: Any) -> np.dtype[Any]:
    """Return the dtype that `value` means if it is float32 or float64, or say what is wrong."""
    try:
        dtype = np.dtype("" if value is None else value)  # None would mean float64
    except Exception:
        raise TypeError(f"{name}: expected float32 or float64, got {value!r}") from None
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: expected float32 or float64, got {dtype}")
    return dtype


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of some words, or say what is wrong with argument `name`."""
    if not isinstance(value, str) or value not in choices:
        wanted = ", ".join(map(repr, choices))
        raise ValueError(f"{name}: expected one of {wanted}, got {value!r}")
    return value
