# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The steps of optimizers: parameters and their state change in place, in one pass over memory.

A parameter is cut into runs of elements, each of which one thread reads, moves and writes.
"""

cimport numpy as cnp

import numpy as np

from fastconv._core.arguments cimport array, contiguous, float_type, shape_text
from fastconv._core.isa cimport fc_adam, fc_leaves, fc_sgd, leaves
from fastconv._core.threads cimport parallel_for, team_size

cnp.import_array()

# Elements of a task, and what one costs in multiply-adds: as long as memory takes to bring it.
cdef Py_ssize_t RUN = 16384
cdef double MEMORY_COST = 6

cdef struct Step:
    const fc_leaves* leaves
    Py_ssize_t n
    int itemsize
    char* value
    const char* grad
    char* first                   # velocity (may be NULL) or mean
    char* second                  # square, or NULL: gradient descent
    fc_sgd sgd
    fc_adam adam


cdef void step_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef Step* run = <Step*>context
    cdef Py_ssize_t at = number * RUN * run.itemsize, count = min(RUN, run.n - number * RUN)
    cdef fc_sgd sgd
    cdef fc_adam adam
    if run.second == NULL:
        sgd = run.sgd
        sgd.n, sgd.value, sgd.grad = count, run.value + at, run.grad + at
        sgd.velocity = run.first + at if run.first != NULL else NULL
        run.leaves.sgd(&sgd)
    else:
        adam = run.adam
        adam.n, adam.value, adam.grad = count, run.value + at, run.grad + at
        adam.mean, adam.square = run.first + at, run.second + at
        run.leaves.adam(&adam)


cdef char* in_place(object value_, str name, object like_) except NULL:
    """The memory of an array that is changed: float, C-contiguous, like the parameter."""
    cdef cnp.ndarray value, like
    if not isinstance(value_, np.ndarray):
        raise TypeError(f"{name}: expected an array, got {type(value_).__name__}")
    value, like = value_, like_
    if cnp.PyArray_TYPE(value) not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64) or (
            cnp.PyArray_TYPE(value) != cnp.PyArray_TYPE(like)):
        raise TypeError(
            f"{name}: expected a float32 or float64 array like value's, got dtype {value.dtype}")
    if not cnp.PyArray_SAMESHAPE(value, like):
        raise ValueError(f"{name}: expected shape {shape_text(like)}, got {shape_text(value)}")
    if not cnp.PyArray_IS_C_CONTIGUOUS(value) or not cnp.PyArray_ISBEHAVED(value):
        raise ValueError(f"{name}: expected a C-contiguous, writable array")
    return <char*>cnp.PyArray_DATA(value)


cdef int take_step(Step* run, object value_, object grad_) except -1:
    """Move `value` against `grad`; the state and the numbers are in `run`."""
    cdef cnp.ndarray value = value_
    cdef cnp.ndarray grad = array(grad_, "grad")
    if not cnp.PyArray_SAMESHAPE(grad, value):
        raise ValueError(f"grad: expected shape {shape_text(value)}, got {shape_text(grad)}")
    float_type([grad], ["grad"])
    grad = contiguous(grad, cnp.PyArray_TYPE(value))
    run.itemsize = <int>cnp.PyArray_ITEMSIZE(value)
    run.leaves = leaves(run.itemsize)
    run.n = cnp.PyArray_SIZE(value)
    run.grad = <const char*>cnp.PyArray_DATA(grad)
    cdef int team = team_size(MEMORY_COST * run.n)
    with nogil:
        parallel_for((run.n + RUN - 1) // RUN, team, step_task, run)
    return 0


def sgd(value, grad, velocity, double rate, double momentum, bint nesterov, double decay):
    cdef Step run
    run.value = in_place(value, "value", value)
    run.first = NULL if velocity is None else in_place(velocity, "velocity", value)
    run.second = NULL
    run.sgd.rate, run.sgd.momentum, run.sgd.decay = rate, momentum, decay
    run.sgd.nesterov = nesterov
    take_step(&run, value, grad)


def adam(value, grad, mean, square, double rate, double new1, double new2, double epsilon):
    cdef Step run
    run.value = in_place(value, "value", value)
    run.first = in_place(mean, "mean", value)
    run.second = in_place(square, "square", value)
    run.adam.rate, run.adam.new1, run.adam.new2 = rate, new1, new2
    run.adam.epsilon = epsilon
    take_step(&run, value, grad)
