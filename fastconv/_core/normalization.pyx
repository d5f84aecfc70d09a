# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The doors of batch, layer and group normalisation: arguments are checked, memory is found.

What is computed, and how, stands in ``norm``, and of vectors by groups in ``row_norm``.
"""

cimport numpy as cnp
from libc.string cimport memset

from fastconv.arguments import boolean, real

from fastconv._core.arguments cimport (
    array, contiguous, float_type, integer, is_relu, shape_text)
from fastconv._core.caches cimport L3_BYTES
from fastconv._core.elementwise cimport in_memory_of, laid_out
from fastconv._core.isa cimport leaves
from fastconv._core.memory cimport Block, new_array, take
from fastconv._core.norm cimport (
    TABLES, Norm, plan_norm, units, write_gradients, write_normalized)
from fastconv._core.row_norm cimport gradient_of_rows, normalize_rows, row_tasks
from fastconv._core.threads cimport team_size

cnp.import_array()

# What an element costs in multiply-adds: as long as memory takes to bring it, twice.
cdef double MEMORY_COST = 8


cdef class Problem:
    """A checked call: its run, and the arrays whose memory the run points to."""
    cdef Norm run
    cdef cnp.ndarray x, dy
    cdef list vectors
    cdef Block sums, tables
    cdef int typenum, team
    cdef bint by_rows             # groups of vectors


cdef Problem problem_of(dict images, dict vectors, bint batch, groups, epsilon, activation):
    """Check what all passes take: arrays by argument, "x" and "dy", and those of one axis."""
    cdef Problem problem = Problem()
    cdef Norm* run = &problem.run
    cdef cnp.ndarray x, value
    cdef bint channels_last
    memset(run, 0, sizeof(Norm))
    images = {name: array(value_, name) for name, value_ in images.items()}
    vectors = {name: array(value_, name) for name, value_ in vectors.items()}
    x = images["x"]
    if x.ndim not in (2, 3, 4):
        raise ValueError(
            f"x: expected shape (N, C, H, W), (C, H, W) or (N, C), got {shape_text(x)}")
    problem.typenum = float_type(
        [*images.values(), *vectors.values()], [*images, *vectors])
    run.relu = is_relu(activation)
    run.epsilon = positive(epsilon)
    run.N = 1 if x.ndim == 3 else x.shape[0]
    run.C = x.shape[0 if x.ndim == 3 else 1]
    run.HW = x.shape[x.ndim - 2] * x.shape[x.ndim - 1] if x.ndim > 2 else 1
    run.G, run.NT = run.C, 1
    if not batch:
        run.G, run.NT = integer(groups, "groups", 1), run.N
        if run.C % run.G:
            raise ValueError(
                f"groups: expected a divisor of x's {run.C} channels, got {groups}")
    problem.by_rows = not batch and run.HW == 1
    per_channel = per_group = (run.C,)
    if not batch:
        per_group = (run.N, run.G)[x.ndim == 3:]
    problem.vectors = []
    for name, value in vectors.items():
        expected = per_channel if name in ("gamma", "beta") else per_group
        if (<object>value).shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, got {shape_text(value)}")
        value = contiguous(value, problem.typenum)
        problem.vectors.append(value)
        if name == "gamma":
            run.gamma = <const char*>cnp.PyArray_DATA(value)
        elif name == "beta":
            run.beta = <const char*>cnp.PyArray_DATA(value)
        elif name == "mean":
            run.mean = <char*>cnp.PyArray_DATA(value)
        else:
            run.variance = <char*>cnp.PyArray_DATA(value)
    problem.x = laid_out(x, problem.typenum, &channels_last)
    run.channels_last = channels_last or run.HW == 1
    if "dy" in images:
        value = images["dy"]
        if (<object>value).shape != (<object>x).shape:
            raise ValueError(f"dy: expected x's shape {shape_text(x)}, got {shape_text(value)}")
        problem.dy = in_memory_of(value, problem.typenum, channels_last)
        run.dy = <const char*>cnp.PyArray_DATA(problem.dy)
    run.x = <const char*>cnp.PyArray_DATA(problem.x)
    run.itemsize = <int>cnp.PyArray_ITEMSIZE(problem.x)
    run.leaves = leaves(run.itemsize)
    if problem.by_rows:
        run.scratch_size = 2 * run.C
    elif x.size:
        plan_norm(run)
    problem.team = team_size(MEMORY_COST * x.size)
    return problem


cdef double positive(object epsilon) except -1:
    cdef double value = real("epsilon", epsilon)
    if not 0 <= value < float("inf"):
        raise ValueError(f"epsilon: expected a finite number of at least 0, got {epsilon!r}")
    return value


cdef int take_sums(Problem problem, Py_ssize_t count) except -1:
    cdef Norm* run = &problem.run
    problem.sums = take((2 * count + problem.team * run.scratch_size) * sizeof(double))
    run.first = <double*>problem.sums.data
    run.second, run.scratch = run.first + count, run.first + 2 * count
    return 0


cdef int take_tables(Problem problem) except -1:
    cdef Norm* run = &problem.run
    problem.tables = take(TABLES * run.NT * run.table * run.itemsize)
    run.tables = problem.tables.data
    return 0


cdef bint streams(cnp.ndarray result, int arrays) noexcept:
    """Whether so many arrays of this size hardly fit the last cache, so that none stays there."""
    return 4.0 * arrays * cnp.PyArray_NBYTES(result) >= 3.0 * L3_BYTES


cdef cnp.ndarray result_like(Problem problem):
    cdef cnp.ndarray x = problem.x
    return new_array(x.ndim, <const Py_ssize_t*>x.shape, problem.run.itemsize,
                     not cnp.PyArray_IS_C_CONTIGUOUS(x))


def normalize(x, vectors, bint batch, groups, epsilon, activation):
    """y, mean and variance; these two are x's own if `vectors` has only gamma and beta.

    Over the whole batch, a channel at a time, or else by groups of each sample.
    """
    cdef bint given = "mean" in vectors
    cdef object mean = vectors.get("mean"), variance = vectors.get("variance")
    cdef Problem problem = problem_of({"x": x}, vectors, batch, groups, epsilon, activation)
    cdef Norm* run = &problem.run
    cdef cnp.ndarray y, found
    cdef Py_ssize_t shape[2]
    cdef int first = 1 if batch or problem.x.ndim == 3 else 0
    if not given:
        if batch and run.C and run.N * run.HW == 0:
            raise ValueError(
                f"x: expected at least one value of each channel, got {shape_text(problem.x)}")
        shape[0], shape[1] = run.N, run.G
        found = mean = new_array(2 - first, shape + first, run.itemsize, False)
        run.mean = <char*>cnp.PyArray_DATA(found)
        found = variance = new_array(2 - first, shape + first, run.itemsize, False)
        run.variance = <char*>cnp.PyArray_DATA(found)
    y = result_like(problem)
    if y.size == 0:
        if not given:
            mean[...], variance[...] = 0, 0
        return y, mean, variance
    run.dst = <char*>cnp.PyArray_DATA(y)
    run.stream = streams(y, 2)
    if problem.by_rows:
        with nogil:
            normalize_rows(run, not given, problem.team)
        return y, mean, variance
    if not given:
        take_sums(problem, units(&run.groups) * run.groups.period)
    take_tables(problem)
    with nogil:
        write_normalized(run, not given, problem.team)
    return y, mean, variance


def backward(dy, x, vectors, bint batch, groups, epsilon, activation, need_dx):
    """dx (or None), dgamma, dbeta."""
    boolean("need_dx", need_dx)
    cdef Problem problem = problem_of(
        {"dy": dy, "x": x}, vectors, batch, groups, epsilon, activation)
    cdef Norm* run = &problem.run
    cdef cnp.ndarray dx = None
    cdef cnp.ndarray dgamma = new_array(1, &run.C, run.itemsize, False)
    cdef cnp.ndarray dbeta = new_array(1, &run.C, run.itemsize, False)
    cdef bint wanted = need_dx
    if wanted:
        dx = result_like(problem)
        run.dst = <char*>cnp.PyArray_DATA(dx)
        run.stream = streams(dx, 3)
    if problem.x.size == 0:
        dgamma[...], dbeta[...] = 0, 0
        return dx, dgamma, dbeta
    cdef char* to_gamma = <char*>cnp.PyArray_DATA(dgamma)
    cdef char* to_beta = <char*>cnp.PyArray_DATA(dbeta)
    if problem.by_rows:
        take_sums(problem, row_tasks(run) * run.C)
        with nogil:
            gradient_of_rows(run, to_gamma, to_beta, problem.team)
        return dx, dgamma, dbeta
    take_tables(problem)
    take_sums(problem, units(&run.all) * run.all.period)
    with nogil:
        write_gradients(run, to_gamma, to_beta, problem.team)
    return dx, dgamma, dbeta
