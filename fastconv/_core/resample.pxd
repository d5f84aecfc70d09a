cimport numpy as cnp

from fastconv._core.axis_map cimport AxisMap

cdef cnp.ndarray image_argument(object value, str name, str letters)
cdef cnp.ndarray resampled(cnp.ndarray x, str name, AxisMap h, AxisMap w, double fill)
