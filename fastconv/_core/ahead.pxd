"""Memory that comes into the L2 cache while tiles are computed, because they ask for it.

A processor drops what it is asked for faster than memory answers: of a long stretch asked for at
once little comes, and a loop that only reads waits for each line.  So each call of a tile gets a
share of what is read and written next, and asks for a few lines before each run of its steps.
"""

from cython cimport cdivision

from fastconv._core.isa cimport FC_ASKS, FC_LINE_BYTES, fc_tile

cdef struct Stretch:
    const char* at
    Py_ssize_t bytes


cdef inline void ask_nothing(fc_tile* t) noexcept nogil:
    t.ask_lines = 0


@cdivision(True)
cdef inline void ask_share(
    fc_tile* t, const Stretch* all, Py_ssize_t share, Py_ssize_t shares, Py_ssize_t runs
) noexcept nogil:
    """One of so many shares of FC_ASKS stretches, for a call of so many runs of steps."""
    cdef Py_ssize_t bytes[FC_ASKS]
    cdef Py_ssize_t begin, k
    runs = max(runs, 1)
    t.ask_lines = 0
    for k in range(FC_ASKS):
        begin = all[k].bytes * share // shares
        bytes[k] = all[k].bytes * (share + 1) // shares - begin
        t.ask[k] = all[k].at + begin
        t.ask_lines = max(t.ask_lines, (bytes[k] + FC_LINE_BYTES * runs - 1)
                          // (FC_LINE_BYTES * runs))
    for k in range(FC_ASKS):
        t.ask_step[k] = bytes[k] // max(runs * t.ask_lines, 1)
