# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Softmax cross entropy, loss and gradient together: rows of scores are read once.

A task is a run of rows.  The logarithm of each row's sum is taken at the end, in row order.
"""

cimport numpy as cnp
from libc.math cimport log
from libc.stdint cimport int64_t

import numpy as np

from fastconv._core.arguments cimport array, contiguous, shape_text
from fastconv._core.isa cimport fc_leaves, fc_softmax_loss, leaves
from fastconv._core.memory cimport Block, new_array, take
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


def cross_entropy(cnp.ndarray logits, labels_):
    """The mean loss, and its gradient; `logits` is a float32 or float64 array."""
    cdef Rows run
    cdef cnp.ndarray labels, dlogits
    cdef const int64_t* label
    cdef Py_ssize_t N, classes, r
    cdef int64_t least, most
    cdef double total = 0
    if logits.ndim != 2 or logits.shape[0] < 1:
        raise ValueError(f"logits: expected shape (N, classes) with N >= 1, got "
                         f"{shape_text(logits)}")
    N, classes = logits.shape[0], logits.shape[1]
    labels = array(labels_, "labels")
    if not cnp.PyTypeNum_ISINTEGER(cnp.PyArray_TYPE(labels)):
        raise TypeError(f"labels: expected an integer array, got dtype {labels.dtype}")
    if labels.ndim != 1 or labels.shape[0] != N:
        raise ValueError(f"labels: expected shape ({N},), got {shape_text(labels)}")
    given = labels
    if cnp.PyArray_TYPE(labels) != cnp.NPY_INT64 or not cnp.PyArray_ISCARRAY_RO(labels):
        labels = np.require(labels, np.int64, "CA")
    label = <const int64_t*>cnp.PyArray_DATA(labels)
    least = most = label[0]
    for r in range(1, N):
        least, most = min(least, label[r]), max(most, label[r])
    if least < 0 or most >= classes:
        # Said of the labels as they came: large unsigned ones are negative by now.
        raise ValueError(
            f"labels: expected from 0 to {classes - 1}, got {given.min()} to {given.max()}")
    run.itemsize = <int>cnp.PyArray_ITEMSIZE(logits)
    logits = contiguous(logits, cnp.PyArray_TYPE(logits))
    run.leaves = leaves(run.itemsize)
    run.each = max(RUN // classes, 1)
    dlogits = new_array(2, <const Py_ssize_t*>logits.shape, run.itemsize, False)
    cdef Block block = take(2 * N * sizeof(double))
    run.all.dst, run.all.x = cnp.PyArray_DATA(dlogits), cnp.PyArray_DATA(logits)
    run.all.labels, run.all.sums = label, <double*>block.data
    run.all.scores = run.all.sums + N
    run.all.rows, run.all.classes, run.all.scale = N, classes, 1.0 / N
    cdef int team = team_size(SCORE_COST * N * classes)
    with nogil:
        parallel_for((N + run.each - 1) // run.each, team, rows_task, &run)
        for r in range(N):
            total += log(run.all.sums[r]) - run.all.scores[r]
    return total / N, dlogits
