from fastconv._core.isa cimport fc_leaves
from fastconv._core.pack cimport Image
from fastconv._core.plan cimport Plan

cdef int depthwise(
    const Plan* plan, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* packed, char* scratch, int team) except -1 nogil
cdef int plan_depthwise(
    Plan* p, const fc_leaves* wide, bint src_planar, bint dst_planar) except -1
