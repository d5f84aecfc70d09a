# cython: language_level=3
"""The table of instruction sets: which tiers this processor runs, and the one in use.

Loop nests ask ``leaves(itemsize)`` for the register tile and the other leaves of the tier in use
and never learn its name.  A tier may bring leaves of half its width, ``narrow``:
``cheapest_leaves`` in ``plan`` and ``unaligned_leaves`` say where they are better,
``vector_cycles`` what a vector costs.
"""

import os

cdef const fc_isa* found[4]
cdef int n_found = fc_detect(found)
cdef const fc_isa* current = found[0]


cdef const fc_leaves* leaves(int itemsize) noexcept nogil:
    return current.f32 if itemsize == 4 else current.f64


cdef bint wide_is_two_narrow = fc_wide_is_two_narrow()


cdef const fc_leaves* unaligned_leaves(const fc_leaves* leaves, Py_ssize_t rows) noexcept nogil:
    """Leaves for vectors that lie across the ends of cache lines and serve so few rows."""
    if leaves.narrow != NULL and wide_is_two_narrow and rows <= 4:
        return leaves.narrow
    return leaves


cdef double vector_cycles(const fc_leaves* leaves) noexcept nogil:
    """Cycles of a vector multiply-add, in those of the widest tier."""
    return 0.5 if leaves.narrow == NULL and wide_is_two_narrow else 1.0


def available():
    """Names of the tiers this processor runs, best first."""
    return tuple(found[i].name.decode() for i in range(n_found))


def name():
    return current.name.decode()


def select(wanted):
    """Use the tier named ``wanted`` from now on."""
    global current
    for i in range(n_found):
        if found[i].name.decode() == wanted:
            current = found[i]
            return
    raise ValueError(
        f"name: expected one of {', '.join(map(repr, available()))} on this machine, got {wanted!r}"
    )


if os.environ.get("FASTCONV_ISA"):
    try:
        select(os.environ["FASTCONV_ISA"])
    except ValueError as error:
        raise ImportError(f"FASTCONV_ISA: {str(error)[6:]}") from None
