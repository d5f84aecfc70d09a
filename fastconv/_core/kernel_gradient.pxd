from fastconv._core.kernel_plan cimport KernelPlan
from fastconv._core.pack cimport Image

cdef int kernel_gradient(
    const KernelPlan* plan, Image* x, Image* dy, char* dkernel, char* partials, char* scratch,
    int team) except -1 nogil
