# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Softmax cross entropy, loss and gradient together: rows of scores are read once.

A task is a run of rows.  The logarithms, one per row, are left to the caller.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastconv._core.arguments cimport contiguous
from fastconv._core.isa cimport fc_leaves, fc_softmax_loss, leaves
from fastconv._core.memory cimport new_array
from fastconv._core.threads cimport parallel_for, team_size

cnp.import_array()

# Scores of a task, and what one costs in multiply-adds.
cdef Py_ssize_t RUN = 8192
cdef double SCORE_COST = 16

cdef struct Rows:
    const fc_leaves* leaves
    int itemsize
    Py_ssize_t each                # rows of a task
    fc_softmax_loss all


cdef void rows_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef Rows* run = <Rows*>context
    cdef Py_ssize_t at = number * run.each, bytes = at * run.all.classes * run.itemsize
    cdef fc_softmax_loss s = run.all
    s.rows = min(run.each, s.rows - at)
    s.dst, s.x = <char*>s.dst + bytes, <const char*>s.x + bytes
    s.labels, s.sums, s.scores = s.labels + at, s.sums + at, s.scores + at
    run.leaves.softmax_loss(&s)


def cross_entropy(cnp.ndarray logits, cnp.ndarray labels):
    """Gradient of the mean loss, and of every row sum(exp(x - max)) and the label's x - max.

    `logits` is a float32 or float64 array (N, classes), `labels` int64 (N,), both checked.
    """
    cdef Rows run
    logits = contiguous(logits, cnp.PyArray_TYPE(logits))
    if not cnp.PyArray_IS_C_CONTIGUOUS(labels) or not cnp.PyArray_ISALIGNED(labels):
        labels = labels.copy()
    cdef Py_ssize_t N = logits.shape[0], classes = logits.shape[1]
    cdef int team = team_size(SCORE_COST * N * classes)
    run.itemsize = <int>cnp.PyArray_ITEMSIZE(logits)
    run.leaves = leaves(run.itemsize)
    run.each = max(RUN // classes, 1)
    cdef cnp.ndarray dlogits = new_array(2, <const Py_ssize_t*>logits.shape, run.itemsize, False)
    cdef cnp.ndarray sums = new_array(1, &N, 8, False)
    cdef cnp.ndarray scores = new_array(1, &N, 8, False)
    run.all.dst, run.all.x = cnp.PyArray_DATA(dlogits), cnp.PyArray_DATA(logits)
    run.all.labels = <const int64_t*>cnp.PyArray_DATA(labels)
    run.all.sums = <double*>cnp.PyArray_DATA(sums)
    run.all.scores = <double*>cnp.PyArray_DATA(scores)
    run.all.rows, run.all.classes, run.all.scale = N, classes, 1.0 / N
    with nogil:
        parallel_for((N + run.each - 1) // run.each, team, rows_task, &run)
    return dlogits, sums, scores
