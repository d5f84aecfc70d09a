cimport numpy as cnp
from libc.stdint cimport uint8_t

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
    cdef dict tables

cdef class RowTable:
    # The slots of a row's vectors, as `fc_mix_rows` wants them.
    cdef const Py_ssize_t* first
    cdef const Py_ssize_t* base
    cdef const Py_ssize_t* run
    cdef const uint8_t* kind
    cdef const char* place
    cdef const char* weight
    cdef const char* divisor
    cdef bint alone
    cdef tuple held              # what the pointers point into
