"""What callers pass, made into what the code works on; used on every floor, the compiled one too.

An array may come from anywhere.  NumPy's own protocol is ``__array__``; ``__dlpack__`` is the one
that array libraries share, and NumPy asks for it only when told to.  Both hand over memory without
a copy where the object lies in the CPU's memory.
"""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError, BufferError, AttributeError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name}: expected an array, got {type(value).__name__}: {error}") from None


def positive_int(name: str, value: Any) -> int:
    """Return `value` as an int of at least 1, or say what is wrong with argument `name`."""
    try:
        number = 0 if isinstance(value, (bool, np.bool_)) else index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{name}: expected a positive integer, got {value!r}")
    return number
