from fastconv._core.norm cimport Norm

cdef Py_ssize_t row_tasks(const Norm* run) noexcept nogil
cdef int normalize_rows(Norm* run, bint find, int team) except -1 nogil
cdef int gradient_of_rows(Norm* run, char* dgamma, char* dbeta, int team) except -1 nogil
