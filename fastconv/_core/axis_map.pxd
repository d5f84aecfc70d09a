cimport numpy as cnp

cdef class AxisMap:
    # Output o of n is the sum over start[o] <= t < start[o + 1] of weight[t] * input[index[t]],
    # divided by divisor[o].
    cdef Py_ssize_t source, n, n_taps
    cdef Py_ssize_t* start
    cdef Py_ssize_t* index
    cdef Py_ssize_t* stretch     # from output o on: so many are copied (> 0) or mixed (< 0)
    cdef bint divides
    cdef readonly tuple arrays   # outputs, inputs, weights, divisors: float64, by tap and by output
    cdef tuple held              # what the pointers point into
    cdef cnp.ndarray weight32, weight64, divisor32, divisor64
    cdef AxisMap gradient
