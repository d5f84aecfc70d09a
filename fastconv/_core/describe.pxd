from fastconv._core.geometry cimport Axis
from fastconv._core.kernel_gradient cimport KernelPlan
from fastconv._core.pack cimport Image
from fastconv._core.plan cimport Plan

cdef dict describe_correlation(const Plan* p, const Image* dst)
cdef dict describe_kernel_gradient(const KernelPlan* p)
cdef object stand_in(tuple shape, object dtype, bint channels_last)
cdef double inside(const Axis* axis) noexcept
