# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""A linear map of rows and a linear map of columns, over all channels.

    y[n, c, oh, ow] = sum over taps th of oh, tw of ow of  wh * ww * x[n, c, ih(th), iw(tw)]

divided by the divisors of oh and ow.  A row of y is made in two steps:

    1. the rows of x that it needs are added to one:   row[iw, c] = sum over th of wh * x[ih, iw, c]
    2. pixels of that row are added:                   y[ow, c]   = sum over tw of ww * row[iw, c]

In channels-last order a row is one long run in step 1, and channels fill the lanes in step 2.  A
planar image is taken as so many images of one channel: step 1 is the same, and step 2 takes value
by value, which costs no more than turning the row would.  The row lies in the thread's scratch,
unless it is a row of x as it is; and where neighbours of it stay neighbours, as they do between the
borders of a padding, they are copied.

A task is some rows of y, and writes them alone.  Each value is summed in the order of its taps,
whatever the memory order.
"""

cimport numpy as cnp
from libc.string cimport memcpy

from fastconv._core.arguments cimport (
    array, float_type, image, image_array, is_channels_last, shape_text)
from fastconv._core.axis_map cimport AxisMap
from fastconv._core.isa cimport fc_leaves, fc_mix, leaves
from fastconv._core.memory cimport Block, new_array, take
from fastconv._core.pack cimport Image
from fastconv._core.threads cimport parallel_for, team_size

import numpy as np

cnp.import_array()

# Values that a task adds: some microseconds.
cdef Py_ssize_t TASK_VALUES = 32768
# Rows and columns of which tables are made unasked.
cdef double SMALL_TABLES = 1 << 20
# No memory holds so many, and products of sizes stay below 2**63.
cdef double LARGEST_AXIS = 1 << 50
# NumPy counts an image's bytes even where there is none.
cdef Py_ssize_t LARGEST_IMAGE = <Py_ssize_t>1 << 60
# What one costs in multiply-adds: as long as memory takes to bring it.
cdef double MEMORY_COST = 4

cdef struct Axis:
    # The tables of an `AxisMap`.
    Py_ssize_t source, n
    const Py_ssize_t* start
    const Py_ssize_t* index
    const Py_ssize_t* stretch
    const char* weight
    const char* divisor

cdef struct Run:
    const fc_leaves* leaves
    Py_ssize_t itemsize
    Py_ssize_t images, C          # a planar image is C images of one channel
    Py_ssize_t planes
    Axis h, w
    bint divides
    double fill
    Image x
    char* y                       # dense
    Py_ssize_t y_image            # elements from one image of it to the next
    Py_ssize_t rows               # of a task
    char* scratch
    Py_ssize_t thread_bytes


cdef cnp.ndarray image_argument(object value, str name, str letters):
    """An array (N, C, H, W) or (C, H, W) that has pixels."""
    cdef cnp.ndarray x = array(value, name)
    if x.ndim != 3 and x.ndim != 4:
        raise ValueError(
            f"{name}: expected shape (N, {letters}) or ({letters}), got {shape_text(x)}")
    if x.shape[x.ndim - 3] < 1 or x.shape[x.ndim - 2] < 1 or x.shape[x.ndim - 1] < 1:
        raise ValueError(
            f"{name}: expected at least one channel, row and column, got {shape_text(x)}")
    return x


cdef object room(cnp.ndarray x, str name, object OH, object OW):
    """The result for a batch of no images, which needs no tables; for any other None.

    So a model's shapes can be found out whatever they are.  Else it fails if there is no memory.
    """
    if x.ndim < 4 or x.shape[0]:
        reserve(x, OH, OW)
        return None
    if OH * OW * x.shape[1] >= LARGEST_IMAGE:
        raise MemoryError(f"cannot allocate planes of {OH} x {OW} pixels")
    dtype = np.float32 if float_type([x], [name]) == cnp.NPY_FLOAT32 else np.float64
    if is_channels_last(x):
        return np.empty((0, OH, OW, x.shape[1]), dtype).transpose(0, 3, 1, 2)
    return np.empty((0, x.shape[1], OH, OW), dtype)


cdef int reserve(cnp.ndarray x, double OH, double OW) except -1:
    """Fail, if there is no memory for a result of such planes, before their tables are made."""
    cdef Py_ssize_t shape[4]
    cdef int i = x.ndim - 3
    if OH + OW > SMALL_TABLES:
        if OH + OW > LARGEST_AXIS:
            raise MemoryError(f"cannot allocate planes of {OH:.0f} x {OW:.0f} pixels")
        # What is found goes back to its shelf, where the result will find it.
        shape[0], shape[1], shape[2], shape[3] = (
            max(x.shape[0], 1), x.shape[i], <Py_ssize_t>OH, <Py_ssize_t>OW)
        new_array(x.ndim, shape + 1 - i, 4, False)
    return 0


cdef void axis_of(Axis* axis, AxisMap table, int itemsize) noexcept:
    axis.source, axis.n = table.source, table.n
    axis.start, axis.index, axis.stretch = table.start, table.index, table.stretch
    if itemsize == 4:
        axis.weight = <const char*>cnp.PyArray_DATA(table.weight32)
        axis.divisor = <const char*>cnp.PyArray_DATA(table.divisor32)
    else:
        axis.weight = <const char*>cnp.PyArray_DATA(table.weight64)
        axis.divisor = <const char*>cnp.PyArray_DATA(table.divisor64)


cdef cnp.ndarray resampled(cnp.ndarray x, str name, AxisMap h, AxisMap w, double fill):
    """The map of an array (N, C, H, W) or (C, H, W), in its memory order."""
    cdef Run run
    cdef int typenum = float_type([x], [name]), i = x.ndim - 3, team
    cdef Py_ssize_t shape[4]
    cdef Py_ssize_t values, N = x.shape[0] if i else 1
    cdef cnp.ndarray y
    cdef Block block
    cdef bint channels_last
    x = image_array(x, typenum)
    run.x, channels_last = image(x), is_channels_last(x)
    run.itemsize = cnp.PyArray_ITEMSIZE(x)
    run.leaves = leaves(<int>run.itemsize)
    axis_of(&run.h, h, <int>run.itemsize)
    axis_of(&run.w, w, <int>run.itemsize)
    run.divides, run.fill = h.divides or w.divides, fill
    shape[0], shape[1], shape[2], shape[3] = N, x.shape[i], h.n, w.n
    y = new_array(x.ndim, shape + 1 - i, <int>run.itemsize, channels_last)
    run.y = <char*>cnp.PyArray_DATA(y)
    run.planes = 1 if channels_last else shape[1]
    run.images, run.C = N * run.planes, shape[1] // run.planes
    run.y_image = h.n * w.n * run.C
    if run.images == 0:
        return y
    # Of a row of y: the rows that it adds, and then its pixels.
    values = (max(h.n_taps // h.n, 1) * w.source + w.n_taps + w.n) * run.C
    run.rows = max(TASK_VALUES // values, 1)
    run.thread_bytes = (w.source * run.C * run.itemsize + 63) // 64 * 64
    team = team_size(MEMORY_COST * values * run.images * h.n)
    block = take(team * run.thread_bytes)
    run.scratch = block.data
    with nogil:
        parallel_for((run.images * h.n + run.rows - 1) // run.rows, team, rows_task, &run)
    return y


cdef void rows_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    """Some rows of y, counted through all images."""
    cdef Run* run = <Run*>context
    cdef Py_ssize_t row, n, size = run.itemsize
    cdef Py_ssize_t end = min((number + 1) * run.rows, run.images * run.h.n)
    cdef char* scratch = run.scratch + thread * run.thread_bytes
    cdef const char* x
    for row in range(number * run.rows, end):
        n = row // run.h.n
        x = run.x.data + (n // run.planes * run.x.sn + n % run.planes * run.x.sc) * size
        one_row(run, row % run.h.n, x, run.y + row * run.w.n * run.C * size, scratch)


cdef void one_row(
    const Run* run, Py_ssize_t i, const char* x, char* y, char* scratch
) noexcept nogil:
    cdef Py_ssize_t size = run.itemsize, C = run.C, j, at, length
    cdef Py_ssize_t t = run.h.start[i], taps = run.h.start[i + 1] - t
    cdef bint dense = run.x.sw == C or run.w.source == 1
    cdef const char* row = scratch
    cdef fc_mix m
    m.divisor, m.fill, m.divide = NULL, run.fill, 1
    # 1. The row of x that this one is made of.
    if taps == 1 and dense and is_one(run, t):
        row = x + run.h.index[t] * run.x.sh * size
    else:
        m.n, m.pitch = 1, run.x.sh
        m.start, m.index, m.weight = run.h.start + i, run.h.index, run.h.weight
        if taps == 0:
            # Nothing but the filling.
            m.x, m.y, m.channels = x, y, run.w.n * C
            run.leaves.mix(&m)
            return
        m.channels = run.w.source * C if dense else C
        for j in range(1 if dense else run.w.source):
            m.x, m.y = x + j * run.x.sw * size, scratch + j * C * size
            run.leaves.mix(&m)
    # 2. Its pixels.
    m.pitch = m.channels = C
    m.index, m.weight, m.x = run.w.index, run.w.weight, row
    if run.divides:
        m.divide = (<const float*>run.h.divisor)[i] if size == 4 else (
            (<const double*>run.h.divisor)[i])
    j = 0
    while j < run.w.n:
        length = run.w.stretch[j]
        if length > 0 and (not run.divides or m.divide == 1):
            at = run.w.index[run.w.start[j]] * C
            memcpy(y + j * C * size, row + at * size, length * C * size)
        else:
            length = length if length > 0 else -length
            m.n, m.start, m.y = length, run.w.start + j, y + j * C * size
            m.divisor = run.w.divisor + j * size if run.divides else NULL
            run.leaves.mix(&m)
        j += length
    # end: j


cdef bint is_one(const Run* run, Py_ssize_t t) noexcept nogil:
    """Whether a row's tap has the weight 1."""
    if run.itemsize == 4:
        return (<const float*>run.h.weight)[t] == 1
    return (<const double*>run.h.weight)[t] == 1
