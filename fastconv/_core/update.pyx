# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The steps of optimizers: parameters and their state change in place, in one pass over memory.

A parameter is cut into runs of elements, each of which one thread reads, moves and writes.  The sum
of squares, for clipping by the norm of all gradients, is taken run by run and added in their order.
"""

cimport numpy as cnp

import numpy as np

from fastconv.arguments import boolean, real

from fastconv._core.arguments cimport array, contiguous, float_type, shape_text
from fastconv._core.isa cimport fc_leaves, fc_step, fc_step_fn, leaves
from fastconv._core.memory cimport Block, take
from fastconv._core.threads cimport parallel_for, team_size

cnp.import_array()

# Elements of a task, and what one costs in multiply-adds: as long as memory takes to bring it, or
# its root and quotient take.
cdef Py_ssize_t RUN = 16384
cdef double MEMORY_COST = 10, ROOT_COST = 20, SQUARE_COST = 2

cdef struct Step:
    fc_step_fn leaf
    int itemsize
    fc_step all

cdef struct Squares:
    const fc_leaves* leaves
    int itemsize
    Py_ssize_t n
    const char* x
    double* sums


cdef void step_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef Step* run = <Step*>context
    cdef Py_ssize_t at = number * RUN * run.itemsize
    cdef fc_step s = run.all
    s.n = min(RUN, s.n - number * RUN)
    s.value, s.grad = <char*>s.value + at, <const char*>s.grad + at
    s.first = <char*>s.first + at if s.first != NULL else NULL
    s.second = <char*>s.second + at if s.second != NULL else NULL
    run.leaf(&s)


cdef void squares_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef Squares* run = <Squares*>context
    cdef Py_ssize_t at = number * RUN
    run.sums[number] = run.leaves.square_sum(run.x + at * run.itemsize, min(RUN, run.n - at))


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


cdef double number(object value, str name) except? -1:
    return value if type(value) is float else real(name, value)


cdef int take_step(Step* run, object value_, object grad_, object scale, object limit) except -1:
    """Move `value` against `grad`; the state and the numbers are in `run`."""
    cdef cnp.ndarray value = value_
    cdef cnp.ndarray grad = array(grad_, "grad")
    if not cnp.PyArray_SAMESHAPE(grad, value):
        raise ValueError(f"grad: expected shape {shape_text(value)}, got {shape_text(grad)}")
    float_type([grad], ["grad"])
    grad = contiguous(grad, cnp.PyArray_TYPE(value))
    run.itemsize = <int>cnp.PyArray_ITEMSIZE(value)
    run.all.n = cnp.PyArray_SIZE(value)
    run.all.grad = cnp.PyArray_DATA(grad)
    run.all.scale, run.all.limit = number(scale, "grad_scale"), number(limit, "grad_limit")
    cdef int team = team_size((MEMORY_COST if run.all.second == NULL else ROOT_COST) * run.all.n)
    with nogil:
        parallel_for((run.all.n + RUN - 1) // RUN, team, step_task, run)
    return 0


cdef const fc_leaves* leaves_of(cnp.ndarray value):
    return leaves(<int>cnp.PyArray_ITEMSIZE(value))


cdef void* state(object found, str name, object value) except? NULL:
    """The memory of an array that goes with `value`, or NULL for None."""
    return NULL if found is None else in_place(found, name, value)


def sgd(value, grad, velocity, rate, momentum, nesterov, decay, scale, limit):
    cdef Step run
    run.all.value = in_place(value, "value", value)
    run.all.first, run.all.second = state(velocity, "velocity", value), NULL
    run.all.rate, run.all.momentum = number(rate, "rate"), number(momentum, "momentum")
    run.all.decay = number(decay, "weight_decay")
    run.all.nesterov = boolean("nesterov", nesterov)
    run.leaf = leaves_of(value).sgd
    take_step(&run, value, grad, scale, limit)


def adam(value, grad, mean, square, rate, beta1, beta2, epsilon, decay, scale, limit):
    cdef Step run
    run.all.value = in_place(value, "value", value)
    run.all.first = in_place(mean, "mean", value)
    run.all.second = in_place(square, "square", value)
    run.all.new1, run.all.new2 = 1 - number(beta1, "beta1"), 1 - number(beta2, "beta2")
    run.all.rate, run.all.epsilon = number(rate, "rate"), number(epsilon, "epsilon")
    run.all.decay = number(decay, "decay")
    run.leaf = leaves_of(value).adam
    take_step(&run, value, grad, scale, limit)


def rmsprop(value, grad, square, velocity, rate, beta, momentum, epsilon, decay, scale, limit):
    cdef Step run
    run.all.value = in_place(value, "value", value)
    run.all.first = state(velocity, "velocity", value)
    run.all.second = in_place(square, "square", value)
    run.all.rate, run.all.new2 = number(rate, "rate"), 1 - number(beta, "beta")
    run.all.momentum, run.all.epsilon = number(momentum, "momentum"), number(epsilon, "epsilon")
    run.all.decay = number(decay, "weight_decay")
    run.leaf = leaves_of(value).rmsprop
    take_step(&run, value, grad, scale, limit)


def square_sum(x_):
    """Sum of the squares of all elements, in double."""
    cdef Squares run
    cdef cnp.ndarray x = array(x_, "x")
    cdef Py_ssize_t tasks, task
    cdef double total = 0
    x = contiguous(x, float_type([x], ["x"]))
    run.itemsize, run.n = <int>cnp.PyArray_ITEMSIZE(x), cnp.PyArray_SIZE(x)
    run.leaves, run.x = leaves(run.itemsize), <const char*>cnp.PyArray_DATA(x)
    tasks = (run.n + RUN - 1) // RUN
    cdef Block block = take((tasks + 1) * sizeof(double))
    run.sums = <double*>block.data
    cdef int team = team_size(SQUARE_COST * run.n)
    with nogil:
        parallel_for(tasks, team, squares_task, &run)
        for task in range(tasks):
            total += run.sums[task]
    return total
