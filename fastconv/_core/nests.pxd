from fastconv._core.geometry cimport Geometry
from fastconv._core.isa cimport fc_leaves
from fastconv._core.pack cimport Image
from fastconv._core.plan cimport CorrelationPlan, Plan

cdef CorrelationPlan make_plan(
    const Geometry* geometry, bint backward, const fc_leaves* leaves, int itemsize,
    bint src_planar, bint dst_planar, bint pixels_contiguous)
cdef int run_nest(
    const Plan* p, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* packed, char* scratch, int team) except -1 nogil
