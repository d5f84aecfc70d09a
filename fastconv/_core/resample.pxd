cimport numpy as cnp

from fastconv._core.axis_map cimport AxisMap

cdef int reserve(cnp.ndarray x, double OH, double OW) except -1
cdef cnp.ndarray image_argument(object value, str name, str letters)
cdef object room(cnp.ndarray x, str name, object OH, object OW)
cdef cnp.ndarray resampled(cnp.ndarray x, str name, AxisMap h, AxisMap w, double fill)
