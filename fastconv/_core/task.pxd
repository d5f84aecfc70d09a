from fastconv._core.ahead cimport Stretch
from fastconv._core.pack cimport Image
from fastconv._core.plan cimport Plan
from fastconv._core.threads cimport task_fn

cdef struct Run:
    const Plan* p
    const Image* src
    const Image* dst
    const char* kernel
    const char* bias          # V * vf values per group, or NULL
    char* packed
    char* scratch             # per thread: source, then destination
    bint relu
    bint streams
    # The source, or the destination, is dense and comes from memory: tiles ask for it in time.
    bint asks_src, asks_dst

cdef struct Task:
    # Images [n0, n1) of group g, base rows [b0, b1), base columns [c0, c1), blocks of lanes.
    Py_ssize_t n0, n1, g, b0, b1, c0, c1, lanes0, lanes1
    Py_ssize_t column_block
    Stretch next[2]           # what the next task is the first to read (FC_ASKS stretches)

cdef int run_tasks(
    const Plan* plan, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* packed, char* scratch, int team, task_fn task) except -1 nogil
cdef Py_ssize_t scratch_bytes(const Plan* plan) noexcept nogil
cdef bint is_aligned(const Plan* plan, const Image* dst) noexcept nogil
cdef void unpack_task(const Plan* p, Py_ssize_t number, Task* task) noexcept nogil
cdef Py_ssize_t lanes_end(const Plan* p, const Task* task) noexcept nogil
cdef void pack_source(
    const Run* run, const Task* task, Py_ssize_t c0, Py_ssize_t c1, char* scratch, Image* view
) noexcept nogil
cdef void scratch_image(
    const Run* run, const Task* task, char* scratch, Image* view) noexcept nogil
cdef void write_planes(const Run* run, const Task* task, const Image* view) noexcept nogil
