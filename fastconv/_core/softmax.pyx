# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Softmax cross entropy, loss and gradient together: rows of scores are read once.

A task is a run of rows.  The logarithm of each row's sum is taken at the end, in row order.

Row r counts as much as its sample's weight times its class's, and the mean is over what counts.
With smoothing, a share of what a label wants is spread over all classes; their weights go with it.
A row that counts nothing, such as one of the ignored label, is not looked at.
"""

cimport numpy as cnp
from libc.math cimport log
from libc.stdint cimport int64_t

import numpy as np

from fastconv.arguments import real

from fastconv._core.arguments cimport array, contiguous, shape_text, weights
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
    s.weights, s.own = s.weights + at, s.own + at
    run.leaves.softmax_loss(&s)


cdef const int64_t* label_numbers(
    cnp.ndarray labels, Py_ssize_t classes, object ignore, double* counts, int64_t* numbers
) except NULL:
    """Labels as class numbers; the ignored one becomes class 0 with weight 0."""
    cdef Py_ssize_t r, N = labels.shape[0]
    cdef int64_t least = classes, most = -1
    cdef const int64_t* label
    kept = labels
    if ignore is not None:
        if isinstance(ignore, (bool, np.bool_)) or not isinstance(ignore, (int, np.integer)):
            raise TypeError(f"ignore_label: expected an integer or None, got {ignore!r}")
        kept = labels[labels != ignore]
        found = np.flatnonzero(labels == ignore)
        for r in range(found.size):
            counts[<Py_ssize_t>found[r]] = 0
        labels = np.where(labels == ignore, 0, labels)
    if cnp.PyArray_TYPE(labels) != cnp.NPY_INT64 or not cnp.PyArray_ISCARRAY_RO(labels):
        labels = np.require(labels, np.int64, "CA")
    label = <const int64_t*>cnp.PyArray_DATA(labels)
    for r in range(N):
        numbers[r] = label[r]
        least, most = min(least, label[r]), max(most, label[r])
    if least < 0 or most >= classes:
        # Said of the labels as they came: large unsigned ones are negative by now.
        raise ValueError(
            f"labels: expected from 0 to {classes - 1}, got {kept.min()} to {kept.max()}")
    return numbers


def cross_entropy(cnp.ndarray logits, labels_, smoothing_, class_weights, ignore, samples):
    """The mean loss, and its gradient; `logits` is a float32 or float64 array."""
    cdef Rows run
    cdef cnp.ndarray labels, dlogits, by_class = None, by_sample, spread
    cdef double* counts
    cdef double* own
    cdef int64_t* numbers
    cdef Py_ssize_t N, classes, r
    cdef double total = 0, total_weight = 0, smoothing
    if logits.ndim != 2 or logits.shape[0] < 1:
        raise ValueError(f"logits: expected shape (N, classes) with N >= 1, got "
                         f"{shape_text(logits)}")
    N, classes = logits.shape[0], logits.shape[1]
    labels = array(labels_, "labels")
    if not cnp.PyTypeNum_ISINTEGER(cnp.PyArray_TYPE(labels)):
        raise TypeError(f"labels: expected an integer array, got dtype {labels.dtype}")
    if labels.ndim != 1 or labels.shape[0] != N:
        raise ValueError(f"labels: expected shape ({N},), got {shape_text(labels)}")
    smoothing = real("label_smoothing", smoothing_)
    if not 0 <= smoothing < 1:
        raise ValueError(f"label_smoothing: expected a number in [0, 1), got {smoothing!r}")
    by_class = weights(class_weights, "class_weights", classes)
    by_sample = weights(samples, "sample_weights", N)
    run.itemsize = <int>cnp.PyArray_ITEMSIZE(logits)
    logits = contiguous(logits, cnp.PyArray_TYPE(logits))
    run.leaves = leaves(run.itemsize)
    run.each = max(RUN // classes, 1)
    cdef Block block = take(5 * N * sizeof(double))
    run.all.sums = <double*>block.data
    run.all.scores = run.all.sums + N
    run.all.weights = counts = run.all.sums + 2 * N
    run.all.own = own = run.all.sums + 3 * N
    numbers = <int64_t*>(run.all.sums + 4 * N)
    for r in range(N):
        counts[r] = (<const double*>cnp.PyArray_DATA(by_sample))[r]
    run.all.labels = label_numbers(labels, classes, ignore, counts, numbers)
    for r in range(N):
        own[r] = (<const double*>cnp.PyArray_DATA(by_class))[numbers[r]]
        total_weight += counts[r] * own[r]
        own[r] *= 1 - smoothing
        if own[r] == 0 and smoothing == 0:
            counts[r] = 0
    run.all.spread, run.all.spread_sum = NULL, 0
    if smoothing > 0:
        spread = (smoothing / classes * by_class).astype(logits.dtype)
        run.all.spread = cnp.PyArray_DATA(spread)
        run.all.spread_sum = smoothing / classes * by_class.sum()
    if total_weight == 0:
        # Nothing counts: no loss, and no gradient.
        return 0.0, np.zeros((N, classes), logits.dtype)
    dlogits = new_array(2, <const Py_ssize_t*>logits.shape, run.itemsize, False)
    run.all.dst, run.all.x = cnp.PyArray_DATA(dlogits), cnp.PyArray_DATA(logits)
    run.all.rows, run.all.classes, run.all.scale = N, classes, 1.0 / total_weight
    cdef int team = team_size(SCORE_COST * N * classes)
    with nogil:
        parallel_for((N + run.each - 1) // run.each, team, rows_task, &run)
        for r in range(N):
            total += counts[r] * (
                (own[r] + run.all.spread_sum) * log(run.all.sums[r]) - run.all.scores[r])
    return total / total_weight, dlogits
