"""What runs where and how: threads, instruction sets, algorithms, caches, recycled memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastconv._core import algorithm as _algorithm
from fastconv._core import caches as _caches
from fastconv._core import isa as _isa
from fastconv._core import memory as _memory
from fastconv._core import threads as _threads
from fastconv.arguments import boolean

MOST_THREADS = 1024


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use from now on.

    Results do not depend on it.  Small problems use fewer threads than this, and so does a call
    for whose thread OpenMP's own number was lowered since then, as `threadpoolctl` does.  A process
    that was forked from one which had imported fastconv computes on one thread, whatever is set:
    OpenMP's threads do not survive a fork.

    Parameters
    ----------
    n : int
        From 1 to 1024.

    Raises
    ------
    TypeError, ValueError
        If `n` is not such an integer.

    Examples
    --------
    >>> import fastconv
    >>> before = fastconv.get_num_threads()
    >>> fastconv.set_num_threads(1)
    >>> fastconv.get_num_threads()
    1
    >>> fastconv.set_num_threads(before)
    """
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"n: expected an integer, got {n!r}")
    n = n.__index__()
    if not 1 <= n <= MOST_THREADS:
        raise ValueError(f"n: expected from 1 to {MOST_THREADS} threads, got {n}")
    _threads.set_num_threads(n)


def get_num_threads() -> int:
    """The most threads a call may use now.

    Unless `set_num_threads` was called this is what ``OMP_NUM_THREADS`` says, at most the
    processors that the affinity mask and the cgroups' quotas leave to the process.  It is 1 in a
    forked process.

    Returns
    -------
    int

    Examples
    --------
    >>> import fastconv
    >>> fastconv.get_num_threads() >= 1
    True
    """
    return _threads.get_num_threads()


def isa() -> str:
    """Name of the instruction set in use.

    Returns
    -------
    str
        ``"avx512"``, ``"avx2"``, ``"neon"`` or ``"baseline"``: the best that the processor runs,
        unless ``FASTCONV_ISA`` or `use_isa` says otherwise.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.isa() in fastconv.available_isas()
    True
    """
    return _isa.name()


def available_isas() -> tuple[str, ...]:
    """Names of the instruction sets that this processor runs, best first.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> import fastconv
    >>> len(fastconv.available_isas()) >= 1
    True
    """
    return _isa.available()


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Compute with another instruction set inside a ``with`` block, in the whole process.

    Parameters
    ----------
    name : str
        One of `available_isas`.

    Raises
    ------
    ValueError
        If the processor does not run it.

    Examples
    --------
    >>> import fastconv
    >>> with fastconv.use_isa(fastconv.available_isas()[-1]):
    ...     fastconv.isa() == fastconv.available_isas()[-1]
    True
    """
    before = _isa.name()
    _isa.select(name)
    try:
        yield
    finally:
        _isa.select(before)


def set_flush_denormals(flush: bool) -> None:
    """Choose whether calls take denormal numbers for zero, from now on and in the whole process.

    Some processors need a hundred times as long for a number below 1.2e-38 (float32) or 2.2e-308
    (float64).  The choice holds inside of fastconv's loops only, on all of their threads; NumPy and
    the caller keep theirs.  Unless told so, fastconv computes as the calling thread does.

    Parameters
    ----------
    flush : bool

    Raises
    ------
    TypeError
        If `flush` is not a bool.
    ValueError
        If it is True on a processor that cannot.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.set_flush_denormals(True)
    >>> fastconv.set_flush_denormals(False)
    """
    _isa.set_flush(boolean("flush", flush))


def get_flush_denormals() -> bool:
    """Whether calls take denormal numbers for zero: see `set_flush_denormals`.

    Returns
    -------
    bool

    Examples
    --------
    >>> import fastconv
    >>> fastconv.get_flush_denormals()
    False
    """
    return _isa.get_flush()


@contextmanager
def use_flush_denormals(flush: bool = True) -> Iterator[None]:
    """Choose whether denormals are zero inside a ``with`` block, in the whole process.

    Parameters
    ----------
    flush : bool
        As in `set_flush_denormals`.

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import fastconv, numpy as np
    >>> x = np.full((1, 1, 2, 2), 1e-40, np.float32)
    >>> with fastconv.use_flush_denormals():
    ...     fastconv.avg_pool2d(x, 2).item()
    0.0
    """
    before = get_flush_denormals()
    set_flush_denormals(flush)
    try:
        yield
    finally:
        set_flush_denormals(before)


def release_memory() -> int:
    """Give the memory kept for reuse back to the system.

    Arrays in use are not touched.

    Returns
    -------
    int
        Bytes released.

    Examples
    --------
    >>> import fastconv
    >>> released = fastconv.release_memory()
    >>> fastconv.release_memory()
    0
    """
    return _memory.release()


def set_algorithm(name: str | None) -> None:
    """Choose how calls with ``algorithm="auto"`` compute, from now on and in the whole process.

    Parameters
    ----------
    name : "direct", "winograd", "auto" or None
        As it is written; by Winograd's algorithm wherever that is possible; or wherever it should
        be faster.  None takes the choice back: calls are direct, and models "auto".

    Raises
    ------
    ValueError, TypeError

    Examples
    --------
    >>> import fastconv
    >>> fastconv.set_algorithm("auto")
    >>> fastconv.get_algorithm()
    'auto'
    >>> fastconv.set_algorithm(None)
    """
    _algorithm.choose(name)


def get_algorithm() -> str:
    """What calls with ``algorithm="auto"`` do here: see `set_algorithm`, `use_algorithm`.

    Returns
    -------
    str

    Examples
    --------
    >>> import fastconv
    >>> fastconv.get_algorithm()
    'direct'
    """
    return _algorithm.chosen()


@contextmanager
def use_algorithm(name: str) -> Iterator[None]:
    """Choose how calls with ``algorithm="auto"`` compute inside a ``with`` block.

    The choice holds for the calling thread (or task) alone.

    Parameters
    ----------
    name : "direct", "winograd" or "auto"
        As in `set_algorithm`.

    Raises
    ------
    ValueError, TypeError

    Examples
    --------
    >>> import fastconv
    >>> with fastconv.use_algorithm("winograd"):
    ...     fastconv.get_algorithm()
    'winograd'
    """
    token = _algorithm.choose_here(name)
    try:
        yield
    finally:
        _algorithm.restore(token)


@contextmanager
def cheapest_algorithm() -> Iterator[None]:
    """What models compute in: the cheaper algorithm, unless the user chose one."""
    token = _algorithm.choose_if_nobody_did("auto")
    try:
        yield
    finally:
        _algorithm.restore(token)


def cache_sizes() -> dict[str, int]:
    """Sizes of the first processor's data caches in bytes; empty where the system does not tell.

    Returns
    -------
    dict
        ``"L1"``, ``"L2"``, ``"L3"`` to bytes.

    Examples
    --------
    >>> import fastconv
    >>> all(size > 0 for size in fastconv.cache_sizes().values())
    True
    """
    return _caches.sizes()


def info() -> dict[str, Any]:
    """What fastconv is and runs on here.

    Returns
    -------
    dict
        Keys ``version``, ``isa``, ``available_isas``, ``threads``, ``openmp``, ``processors``
        and ``caches``.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.info()["isa"] == fastconv.isa()
    True
    """
    # Imported here: it takes longer than all of fastconv.
    from importlib.metadata import PackageNotFoundError, version

    try:
        release = version("fastconv")
    except PackageNotFoundError:
        release = "unknown (not installed)"
    return {
        "version": release,
        "isa": isa(),
        "available_isas": available_isas(),
        "threads": get_num_threads(),
        "openmp": _threads.has_openmp(),
        "processors": os.cpu_count(),
        "caches": cache_sizes(),
    }
