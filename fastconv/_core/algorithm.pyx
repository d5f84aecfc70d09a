# cython: language_level=3
"""Which way a convolution is computed: as it is written, or with fewer multiplications.

A call says so itself, or says ``"auto"`` and leaves it to whoever chose last: the ``with`` block
around it, else the process, else nobody, and then it is computed directly.  The block's choice
is a context variable, so that threads and tasks do not disturb each other.
"""

from contextvars import ContextVar

from cpython.contextvars cimport get_value

cdef dict CODES = {"direct": DIRECT, "winograd": WINOGRAD, "auto": CHEAPEST}

block = ContextVar("fastconv.algorithm")
process = None


cdef str checked(object name, str argument):
    if not isinstance(name, str):
        raise TypeError(f"{argument}: expected a string, got {name!r}")
    if name not in CODES:
        raise ValueError(f"{argument}: expected 'auto', 'direct' or 'winograd', got {name!r}")
    return name


cdef int algorithm_code(object name) except -1:
    """What a call's argument ``algorithm`` means here and now."""
    if isinstance(name, str) and name == "auto":
        return CODES[chosen()]
    return CODES[checked(name, "algorithm")]


cpdef str chosen():
    """The choice that holds here for calls that leave it open."""
    return get_value(block, process or "direct")


def choose(name):
    """Choose for the whole process; with None nobody has chosen."""
    global process
    process = None if name is None else checked(name, "name")


def choose_here(name):
    """Choose until the token returned is given to ``restore``."""
    return block.set(checked(name, "name"))


def choose_if_nobody_did(name):
    """The same, unless there is a choice already: then it holds, and there is no token."""
    return block.set(name) if process is None and get_value(block, None) is None else None


def restore(token):
    if token is not None:
        block.reset(token)
