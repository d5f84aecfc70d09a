from fastconv._core.geometry cimport Axis
from fastconv._core.kernel_plan cimport KernelPlan
from fastconv._core.pack cimport Image
from fastconv._core.plan cimport Plan
from fastconv._core.winograd cimport Winograd
from fastconv._core.winograd_gradient cimport WinogradGradient

cdef dict describe_correlation(const Plan* p, const Image* dst)
cdef dict describe_winograd(const Winograd* p)
cdef dict describe_kernel_gradient(const KernelPlan* p)
cdef dict describe_winograd_gradient(const WinogradGradient* p)
cdef object stand_in(tuple shape, object dtype, bint channels_last)
cdef double inside(const Axis* axis) noexcept
