cdef enum:
    DIRECT, WINOGRAD, CHEAPEST

cdef int algorithm_code(object name) except -1
