cimport numpy as cnp

from fastconv._core.geometry cimport Geometry
from fastconv._core.isa cimport fc_leaves
from fastconv._core.memory cimport Block
from fastconv._core.pack cimport Image

cdef enum:
    FORWARD, INPUT, KERNEL

cdef struct Key:
    # All that a plan depends on.
    Geometry geometry
    Py_ssize_t direction, algorithm, itemsize, src_planar, dst_planar, pixels_contiguous
    const fc_leaves* leaves

cdef object correlation_plan(Key* key, const Image* src, const Image* dst)
cdef object kernel_gradient_plan(Key* key, Image* src, Image* grad)
cdef class PackedKernel:
    cdef object plan            # that packed it
    cdef cnp.ndarray kernel     # what was packed
    cdef Block block

cdef int run_correlation(
    Key* key, Image* src, cnp.ndarray kernel, cnp.ndarray bias, Image* dst, bint relu,
    PackedKernel kept=*
) except -1
cdef int run_kernel_gradient(
    Key* key, cnp.ndarray x, cnp.ndarray dy, cnp.ndarray dkernel, int typenum
) except -1
cdef bint is_dense(const Image* a, Py_ssize_t C, Py_ssize_t H, Py_ssize_t W) noexcept
cdef void pixels(
    Geometry* g, Py_ssize_t N, Py_ssize_t IC, Py_ssize_t OC, Py_ssize_t H, Py_ssize_t W
) noexcept
