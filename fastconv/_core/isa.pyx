# cython: language_level=3
"""The table of instruction sets: which tiers this processor runs, and the one in use.

Loop nests ask ``leaves(itemsize)`` for the register tile and the other leaves of the tier in use
and never learn its name.  A tier may bring leaves of half its width, ``narrow``:
``cheapest_leaves`` in ``plan`` and ``unaligned_leaves`` say where they are better,
``costs`` what a vector costs.  ``float_mode`` is how the threads of a call are to round and
to treat denormals; how a processor is told so is the leaves' knowledge too.
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


cdef Costs costs(const fc_leaves* leaves) noexcept nogil:
    """Cycles of a vector's multiply-add, of its load, of a broadcast from memory, and of the wait
    for a multiply-add's result, in multiply-adds of the widest tier.

    Where a wide vector passes in two halves a core begins one wide or two narrow multiply-adds a
    clock, and loads as many bytes; elsewhere two of either, but loads little more than one wide
    vector (measured on Zen 4 and on Ice Lake).
    """
    cdef Costs c
    c.fma = vector_cycles(leaves)
    if wide_is_two_narrow:
        c.load, c.broadcast, c.latency = c.fma, 0.6, 4.0
    else:
        c.load = c.broadcast = 1.25 if leaves.narrow == NULL else 1.9
        c.latency = 8.0
    return c


cdef int max_rows(const fc_leaves* leaves, int nr) noexcept nogil:
    """Rows of the tallest tile of nr vectors that is worth its while.

    The very tallest reads some vectors of `b` from memory for each row; where loads take longer
    than multiply-adds, a row less, and a register for each vector, is faster.
    """
    cdef int rows = leaves.max_mr[nr - 1]
    if costs(leaves).load > 1.5 and rows * nr + nr >= leaves.registers:
        rows -= 1
    return rows


flushes = False


cdef uint64_t float_mode() noexcept nogil:
    """The mode in which a call of this thread computes."""
    return fc_flushed(fc_float_mode()) if flushes else fc_float_mode()


cdef uint64_t set_float_mode(uint64_t mode) noexcept nogil:
    """Round and treat denormals so on this thread; returns the mode before."""
    return fc_set_float_mode(mode)


def set_flush(bint flush):
    global flushes
    if flush and fc_flushed(0) == 0:
        raise ValueError("flush: expected False, since this processor cannot, got True")
    flushes = flush


def get_flush():
    return flushes


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
