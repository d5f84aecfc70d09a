ctypedef void (*task_fn)(void* context, Py_ssize_t task, int thread) noexcept nogil

cdef int team_size(double multiply_adds) noexcept nogil
cdef int parallel_for(
    Py_ssize_t n_tasks, int team, task_fn run, void* context
) except -1 nogil
cdef bint interrupted() noexcept nogil
