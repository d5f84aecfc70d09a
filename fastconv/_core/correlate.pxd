from fastconv._core.pack cimport Image
from fastconv._core.plan cimport Plan

cdef void correlate(
    const Plan* plan, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* packed, char* scratch, int team) noexcept nogil
cdef int plan_correlate(Plan* p, int width, bint packs, bint dst_planar) except -1
