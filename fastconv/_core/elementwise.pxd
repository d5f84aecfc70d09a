cimport numpy as cnp

cdef cnp.ndarray reordered(cnp.ndarray value, bint channels_last)
cdef cnp.ndarray laid_out(cnp.ndarray value, int typenum, bint* channels_last)
cdef cnp.ndarray in_memory_of(cnp.ndarray value, int typenum, bint channels_last)
cdef bint dense_channels_last(cnp.ndarray value)
