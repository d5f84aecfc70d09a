from fastconv._core.isa cimport fc_leaves
from fastconv._core.pack cimport Image
from fastconv._core.plan cimport Plan

cdef int correlate_planes(
    const Plan* plan, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* scratch, int team) except -1 nogil
cdef int plan_planes(Plan* p, const fc_leaves* wide) except -1
cdef double cycles_by_pixels(
    const Plan* p, const fc_leaves* wide, Py_ssize_t depth) noexcept nogil
