cdef class Block:
    cdef char* data          # 64-byte aligned
    cdef void* raw           # what malloc gave
    cdef size_t size
    cdef int shelf

cdef Block take(size_t size)
cdef object new_array(
    int ndim, const Py_ssize_t* shape, int itemsize, bint channels_last)
