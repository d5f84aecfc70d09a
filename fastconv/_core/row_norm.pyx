# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Normalisation of vectors by groups: the passes of ``norm`` where a sample has no pixels.

A group of a sample is then a short row with a mean and a variance of its own, and tables for each
of them would be as large as the array.  So a row is read for its moments and written while it is in
the first cache; gradients of gamma and beta grow beside it.

A task is a run of rows, cut by the shape alone.  Each leaves sums of its own for the gradients of
gamma and beta, which are added in their order: in values of the array's type over some rows, in
doubles over the others.
"""

from libc.string cimport memset

from fastconv._core.isa cimport FC_BY_ROW, FC_UNIFORM, fc_norm
from fastconv._core.norm cimport Norm, get, inverse_deviation, put
from fastconv._core.threads cimport interrupted, parallel_for

# Elements of a task, and rows whose sums are kept in the array's own type.
cdef Py_ssize_t RUN = 32768, SUM_ROWS = 64


cdef Py_ssize_t rows_of_task(const Norm* run) noexcept nogil:
    return max(RUN // run.C, SUM_ROWS)


cdef Py_ssize_t row_tasks(const Norm* run) noexcept nogil:
    return (run.N + rows_of_task(run) - 1) // rows_of_task(run)


cdef int normalize_rows(Norm* run, bint find, int team) except -1 nogil:
    """y; with `find` also each group's mean and variance."""
    parallel_for(row_tasks(run), team, find_task if find else normalize_task, run)
    return 0


cdef int gradient_of_rows(Norm* run, char* dgamma, char* dbeta, int team) except -1 nogil:
    """The gradients of gamma and beta, and dx where there is a place for it.

    `first` and `second` have room for C values of each task, `scratch` for 2 C of each thread.
    """
    cdef Py_ssize_t task, c
    cdef double first, second
    parallel_for(row_tasks(run), team, gradient_task, run)
    for c in range(run.C):
        first = second = 0
        for task in range(row_tasks(run)):
            first += run.first[task * run.C + c]
            second += run.second[task * run.C + c]
        put(dbeta, c, run.itemsize, first)
        put(dgamma, c, run.itemsize, second)
    return 0


cdef void find_task(void* context, Py_ssize_t task, int thread) noexcept nogil:
    normalize_run(<Norm*>context, task, True)


cdef void normalize_task(void* context, Py_ssize_t task, int thread) noexcept nogil:
    normalize_run(<Norm*>context, task, False)


cdef void normalize_run(Norm* run, Py_ssize_t task, bint find) noexcept nogil:
    cdef Py_ssize_t each = rows_of_task(run), width = run.C // run.G, row, g
    cdef double mean, square
    cdef double numbers[3]
    cdef fc_norm leaf = leaf_of_rows(run, numbers)
    leaf.first, leaf.second = &mean, &square
    for row in range(task * each * run.G, min((task + 1) * each, run.N) * run.G):
        g = row % run.G
        leaf.x = run.x + row * width * run.itemsize
        if find:
            leaf.kind = FC_UNIFORM
            run.leaves.moments(&leaf)
            put(run.mean, row, run.itemsize, mean)
            put(run.variance, row, run.itemsize, 0 if square < 0 else square / width)
            leaf.kind = FC_BY_ROW
        leaf.center = run.mean + row * run.itemsize
        put(<char*>leaf.by, 0, run.itemsize, inverse_deviation(run, row))
        leaf.dst = run.dst + row * width * run.itemsize
        leaf.scale = run.gamma + g * width * run.itemsize
        leaf.shift = run.beta + g * width * run.itemsize
        run.leaves.normalize(&leaf)
        if row % SUM_ROWS == 0 and interrupted():
            break
    if run.stream:
        run.leaves.fence()


cdef void gradient_task(void* context, Py_ssize_t task, int thread) noexcept nogil:
    cdef Norm* run = <Norm*>context
    cdef Py_ssize_t each = rows_of_task(run), width = run.C // run.G, size = run.itemsize
    cdef Py_ssize_t n, row, g, c, first_row = task * each, end = min(first_row + each, run.N)
    cdef char* sums = <char*>(run.scratch + thread * run.scratch_size)
    cdef char* products = sums + run.C * size
    cdef double* dbeta = run.first + task * run.C
    cdef double* dgamma = run.second + task * run.C
    cdef double first, second, by
    cdef double numbers[3]
    cdef fc_norm leaf = leaf_of_rows(run, numbers)
    leaf.first, leaf.second = &first, &second
    for c in range(run.C):
        dbeta[c] = dgamma[c] = 0
    for n in range(first_row, end):
        if (n - first_row) % SUM_ROWS == 0:
            memset(sums, 0, 2 * run.C * size)
        for g in range(run.G):
            row, c = n * run.G + g, g * width
            leaf.x = run.x + row * width * size
            leaf.dy = run.dy + row * width * size
            leaf.scale, leaf.shift = run.gamma + c * size, run.beta + c * size
            leaf.dz_sums, leaf.dz_products = sums + c * size, products + c * size
            leaf.center = run.mean + row * size
            by = inverse_deviation(run, row)
            put(<char*>leaf.by, 0, size, by)
            run.leaves.norm_sums(&leaf)
            if run.dst != NULL:
                put(<char*>leaf.tilt, 0, size, -by * by * second / width)
                put(<char*>leaf.level, 0, size, -first / width)
                leaf.dst = run.dst + row * width * size
                run.leaves.norm_gradient(&leaf)
        if n + 1 == end or (n + 1 - first_row) % SUM_ROWS == 0:
            for c in range(run.C):
                dbeta[c] += get(sums, c, run.itemsize)
                dgamma[c] += get(products, c, run.itemsize)
            if interrupted():
                break
    # end: n
    if run.stream:
        run.leaves.fence()


cdef fc_norm leaf_of_rows(const Norm* run, double* numbers) noexcept nogil:
    """What all rows have in common; their own numbers are put into `numbers`."""
    cdef fc_norm leaf
    memset(&leaf, 0, sizeof(fc_norm))
    leaf.kind, leaf.relu, leaf.stream = FC_BY_ROW, run.relu, run.stream
    leaf.rows, leaf.width = 1, run.C // run.G
    leaf.by, leaf.tilt, leaf.level = numbers, numbers + 1, numbers + 2
    return leaf
