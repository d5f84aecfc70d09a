# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Partial kernels become the gradient of the kernel.

A sum over all pixels is cut into chunks by the problem's shape, and each chunk has a partial kernel
of its own.  These are added in the order of the chunks, some rows in each parallel task, and turned
into (OC, IC, KH, KW).
"""

from fastconv._core.plan cimport ceil_div
from fastconv._core.threads cimport parallel_for

cdef Py_ssize_t TASK_ROWS = 64


cdef struct Run:
    const Partials* p
    char* partials
    char* dkernel


cdef Py_ssize_t partial_size(const Partials* p) noexcept nogil:
    """Elements of one partial kernel."""
    return p.G * p.rows * p.width


cdef int add_partials(
    const Partials* p, char* partials, char* dkernel, int team
) except -1 nogil:
    cdef Run run
    run.p, run.partials, run.dkernel = p, partials, dkernel
    parallel_for(p.G * ceil_div(p.rows, task_rows(p)), team, add_task, &run)


cdef inline Py_ssize_t task_rows(const Partials* p) noexcept nogil:
    return p.taps if p.taps else TASK_ROWS


cdef void add_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef Run* run = <Run*>context
    cdef const Partials* p = run.p
    cdef Py_ssize_t size = p.itemsize, chunk, step = task_rows(p)
    cdef Py_ssize_t g = number // ceil_div(p.rows, step)
    cdef Py_ssize_t r0 = number % ceil_div(p.rows, step) * step
    cdef Py_ssize_t r1 = min(r0 + step, p.rows)
    cdef char* sum = run.partials + (g * p.rows + r0) * p.width * size
    cdef char* to
    for chunk in range(1, p.count):
        p.leaves.add(sum, sum + chunk * partial_size(p) * size, (r1 - r0) * p.width)
    if p.taps:
        to = run.dkernel + (g * p.rows + r0) * p.lanes * size
        p.leaves.transpose(to, p.taps, NULL, sum, p.width, p.taps, p.lanes)
    else:
        to = run.dkernel + (g * p.lanes * p.rows + r0) * size
        p.leaves.transpose(to, p.rows, NULL, sum, p.width, r1 - r0, p.lanes)
