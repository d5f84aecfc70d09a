cimport numpy as cnp

cdef cnp.ndarray reordered(cnp.ndarray value, bint channels_last)
