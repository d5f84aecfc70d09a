from fastconv._core.isa cimport fc_leaves

cdef struct Partials:
    # Sums of chunks of the pixels: `count` kernels of G groups, `rows` (ic, kh, kw) of `width`
    # lanes, of which CO are in use.
    const fc_leaves* leaves
    int itemsize
    Py_ssize_t count, G, rows, width, CO

cdef Py_ssize_t partial_size(const Partials* p) noexcept nogil
cdef int add_partials(
    const Partials* p, char* partials, char* dkernel, int team) except -1 nogil
