from fastconv._core.plan cimport Plan

cdef struct Image:
    # An array of logical shape (N, C, H, W): strides in elements.  Either sc == 1 (channels-last)
    # or sw == 1 (planar).
    char* data
    Py_ssize_t sn, sc, sh, sw

cdef void correlate(
    const Plan* plan, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* packed, char* scratch, int team) noexcept nogil
cdef Py_ssize_t scratch_bytes(const Plan* plan) noexcept nogil
