cdef int products_of_rows(
    const char* a, const char* b, const char* bias, char* c,
    Py_ssize_t rows, Py_ssize_t outputs, Py_ssize_t n, bint relu, int itemsize
) except -1
cdef int product(
    const char* a, bint transposed, const char* b, char* c,
    Py_ssize_t rows, Py_ssize_t lanes, Py_ssize_t n, int itemsize
) except -1
cdef int sums_of_columns(
    const char* b, char* c, Py_ssize_t lanes, Py_ssize_t n, int itemsize) except -1
