from fastconv._core.isa cimport fc_leaves

cdef struct Partials:
    # Sums of chunks of the pixels: `count` kernels of G groups, `rows` (ic, kh, kw) of `width`
    # lanes, of which so many are output channels; or where `taps` is not 0 rows (oc, kh, kw) of
    # input channels, with so many taps.
    const fc_leaves* leaves
    int itemsize
    Py_ssize_t count, G, rows, width, lanes, taps

cdef Py_ssize_t partial_size(const Partials* p) noexcept nogil
cdef int add_partials(
    const Partials* p, char* partials, char* dkernel, int team) except -1 nogil
