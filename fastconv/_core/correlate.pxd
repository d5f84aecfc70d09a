from fastconv._core.geometry cimport Axis
from fastconv._core.pack cimport Image
from fastconv._core.plan cimport Plan

cdef void correlate(
    const Plan* plan, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* packed, char* scratch, int team) noexcept nogil
cdef Py_ssize_t scratch_bytes(const Plan* plan) noexcept nogil
cdef void span(
    const Axis* axes, int count, Py_ssize_t b0, Py_ssize_t b1, Py_ssize_t* low, Py_ssize_t* high
) noexcept nogil
