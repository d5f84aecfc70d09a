cimport numpy as cnp

cpdef cnp.ndarray conv2d_backward_bias(object dy_)
