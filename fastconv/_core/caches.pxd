# Of one core's L2 cache, and of the last level.
cdef Py_ssize_t L2_BYTES, L3_BYTES
