# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Losses of values and targets of one shape, loss and gradient together: each is read once.

A task is a piece of a sample, or several whole samples, and writes their gradient and one sum; the
sums are added in the order of the tasks.  That is the order of memory, so the last bits of the loss
may differ between planar and channels-last images; those of the gradient do not.  A sample of
weight 0 is not looked at.
"""

cimport numpy as cnp
from libc.stddef cimport size_t
from libc.string cimport memset

import numpy as np

from fastconv.arguments import real

from fastconv._core.arguments cimport array, contiguous, float_type, shape_text, weights
from fastconv._core.elementwise cimport dense_channels_last
from fastconv._core.isa cimport FC_HUBER, FC_LOGISTIC, FC_SQUARED, fc_loss, fc_loss_fn, leaves
from fastconv._core.memory cimport Block, new_array, take
from fastconv._core.threads cimport parallel_for, team_size

cnp.import_array()

# Elements of a task, and what one costs in multiply-adds: as long as memory takes to bring it, or
# its exponential and logarithm take.
cdef Py_ssize_t RUN = 8192
cdef double MEMORY_COST = 9
cdef double LOGISTIC_COST = 48

cdef struct Losses:
    fc_loss_fn leaf
    int itemsize
    Py_ssize_t rows, columns       # samples, and elements of one
    Py_ssize_t each, pieces        # samples of a task, or tasks of a sample
    const double* weights          # of samples, or NULL
    double* sums                   # of tasks
    char* outside
    fc_loss all


cdef void loss_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef Losses* run = <Losses*>context
    cdef Py_ssize_t row = number // run.pieces * run.each, column = number % run.pieces * RUN
    cdef Py_ssize_t end = min(row + run.each, run.rows), at
    cdef double weight = 1
    cdef fc_loss s = run.all
    s.outside = 0
    s.n = min(RUN, run.columns - column) if run.pieces > 1 else run.columns
    s.by = <const char*>s.by + column * run.itemsize if s.by != NULL else NULL
    run.sums[number] = 0
    for row in range(row, end):
        at = (row * run.columns + column) * run.itemsize
        s.dst = <char*>run.all.dst + at
        s.x, s.t = <const char*>run.all.x + at, <const char*>run.all.t + at
        if run.weights != NULL:
            weight = run.weights[row]
            s.scale = run.all.scale * weight
        if weight == 0:
            memset(s.dst, 0, <size_t>(s.n * run.itemsize))
        else:
            run.sums[number] += weight * run.leaf(&s)
    run.outside[number] = <char>s.outside


cdef tuple mean_loss(
    int kind, object outputs_, object targets_, object samples, double delta, object by_, str name
):
    """The mean over all elements, and its gradient in the memory order of the outputs."""
    cdef Losses run
    cdef cnp.ndarray x = array(outputs_, name), t = array(targets_, "targets"), dx, by = None
    cdef cnp.ndarray by_sample
    cdef Py_ssize_t tasks, task, size
    cdef double total = 0, all_weights
    cdef int typenum = float_type([x], [name])
    cdef bint turned
    float_type([t], ["targets"])
    if (<object>x).shape != (<object>t).shape:
        raise ValueError(f"targets: expected {name}' shape {shape_text(x)}, got {shape_text(t)}")
    if x.ndim < 1 or x.size == 0:
        raise ValueError(f"{name}: expected shape (N, ...) with at least one element, got "
                         f"{shape_text(x)}")
    if by_ is not None:
        by = array(by_, "pos_weight")
        float_type([by], ["pos_weight"])
        if not np.all(np.isfinite(by) & (np.asarray(by) >= 0)):
            raise ValueError(f"pos_weight: expected finite numbers of at least 0, got {by_!r}")
        try:
            by = np.broadcast_to(by, (<object>x).shape[1:])
        except ValueError:
            raise ValueError(f"pos_weight: expected a number or an array that fits one sample's "
                             f"shape {(<object>x).shape[1:]}, got {shape_text(by)}") from None
    turned = x.ndim == 4 and dense_channels_last(x)
    if turned:
        x, t = (<object>x).transpose(0, 2, 3, 1), (<object>t).transpose(0, 2, 3, 1)
        by = None if by is None else (<object>by).transpose(1, 2, 0)
    shape = (<object>x).shape
    x, t = contiguous(x, typenum), contiguous(t, typenum)
    size = x.size
    run.itemsize = <int>cnp.PyArray_ITEMSIZE(x)
    dx = new_array(1, &size, run.itemsize, False)
    run.all.dst, run.all.x, run.all.t = (
        cnp.PyArray_DATA(dx), cnp.PyArray_DATA(x), cnp.PyArray_DATA(t))
    run.leaf, run.all.delta = leaves(run.itemsize).loss[kind], delta
    run.rows, run.columns, run.weights, run.all.by = 1, size, NULL, NULL
    all_weights = 1
    if by is not None or samples is not None:
        run.rows, run.columns = x.shape[0], size // x.shape[0]
    if by is not None:
        by = contiguous(by, typenum)
        run.all.by = cnp.PyArray_DATA(by)
        all_weights = run.rows
    if samples is not None:
        by_sample = weights(samples, "sample_weights", run.rows)
        run.weights = <const double*>cnp.PyArray_DATA(by_sample)
        all_weights = by_sample.sum()
    run.pieces = (run.columns + RUN - 1) // RUN
    run.each = 1 if run.pieces > 1 else max(RUN // run.columns, 1)
    tasks = (run.rows + run.each - 1) // run.each * run.pieces
    run.all.scale = 1 / (all_weights * run.columns) if all_weights > 0 else 0
    cdef Block block = take(tasks * (sizeof(double) + 1))
    run.sums = <double*>block.data
    run.outside = <char*>(run.sums + tasks)
    cdef int team = team_size((LOGISTIC_COST if kind == FC_LOGISTIC else MEMORY_COST) * size)
    with nogil:
        parallel_for(tasks, team, loss_task, &run)
        for task in range(tasks):
            total += run.sums[task]
    for task in range(tasks):
        if run.outside[task]:
            raise ValueError(f"targets: expected numbers from 0 to 1, got {np.min(targets_)} to "
                             f"{np.max(targets_)}")
    gradient = (<object>dx).reshape(shape)
    return total * run.all.scale, gradient.transpose(0, 3, 1, 2) if turned else gradient


def squared(outputs, targets, samples):
    return mean_loss(FC_SQUARED, outputs, targets, samples, 0, None, "outputs")


def huber(outputs, targets, samples, delta):
    delta = real("delta", delta)
    if not 0 < delta < np.inf:
        raise ValueError(f"delta: expected a finite number above 0, got {delta!r}")
    return mean_loss(FC_HUBER, outputs, targets, samples, delta, None, "outputs")


def logistic(logits, targets, samples, pos_weight):
    return mean_loss(FC_LOGISTIC, logits, targets, samples, 0, pos_weight, "logits")
