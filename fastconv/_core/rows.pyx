# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Softmax, its logarithm, and their gradients, along the last axis.

A task is a run of rows, each of which is read once.
"""

cimport numpy as cnp

from fastconv._core.arguments cimport array, contiguous, float_type, shape_text
from fastconv._core.isa cimport fc_leaves, fc_softmax, fc_softmax_fn, leaves
from fastconv._core.memory cimport new_array
from fastconv._core.threads cimport parallel_for, team_size

cnp.import_array()

# Scores of a task, and what one costs in multiply-adds.
cdef Py_ssize_t RUN = 8192
cdef double SCORE_COST = 16

cdef struct Softmax:
    fc_softmax_fn leaf
    int itemsize
    Py_ssize_t each                # rows of a task
    fc_softmax all


cdef void softmax_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef Softmax* run = <Softmax*>context
    cdef Py_ssize_t at = number * run.each, bytes = at * run.all.classes * run.itemsize
    cdef fc_softmax s = run.all
    s.rows = min(run.each, s.rows - at)
    s.dst, s.a = <char*>s.dst + bytes, <const char*>s.a + bytes
    if s.b != NULL:
        s.b = <const char*>s.b + bytes
    run.leaf(&s)


cdef cnp.ndarray run_rows(cnp.ndarray a, cnp.ndarray b, str name, int typenum, bint logarithm):
    """Softmax of `a`, or with `b` its gradient, along the last axis."""
    cdef Softmax run
    cdef cnp.ndarray y
    cdef const fc_leaves* table
    cdef Py_ssize_t size = a.size
    if a.ndim < 1 or a.shape[a.ndim - 1] < 1:
        raise ValueError(f"{name}: expected shape (..., classes), got {shape_text(a)}")
    a = contiguous(a, typenum)
    run.itemsize = <int>cnp.PyArray_ITEMSIZE(a)
    table = leaves(run.itemsize)
    run.leaf, run.all.b = table.softmax, NULL
    if b is not None:
        b = contiguous(b, typenum)
        run.leaf, run.all.b = table.softmax_backward, cnp.PyArray_DATA(b)
    y = new_array(1, &size, run.itemsize, False).reshape((<object>a).shape)
    run.all.dst, run.all.a, run.all.log = cnp.PyArray_DATA(y), cnp.PyArray_DATA(a), logarithm
    run.all.classes = a.shape[a.ndim - 1]
    run.all.rows = size // run.all.classes
    run.each = max(RUN // run.all.classes, 1)
    cdef int team = team_size(SCORE_COST * size)
    with nogil:
        parallel_for((run.all.rows + run.each - 1) // run.each, team, softmax_task, &run)
    return y


def softmax(x_, bint logarithm):
    cdef cnp.ndarray x = array(x_, "x")
    return run_rows(x, None, "x", float_type([x], ["x"]), logarithm)


def softmax_backward(dy_, y_, bint logarithm):
    cdef cnp.ndarray dy = array(dy_, "dy")
    cdef cnp.ndarray y = array(y_, "y")
    if (<object>dy).shape != (<object>y).shape:
        raise ValueError(f"y: expected dy's shape {shape_text(dy)}, got {shape_text(y)}")
    return run_rows(dy, y, "dy", float_type([dy, y], ["dy", "y"]), logarithm)
