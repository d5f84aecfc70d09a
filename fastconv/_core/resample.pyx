# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""A linear map of rows and a linear map of columns, over all channels.

    y[n, c, oh, ow] = sum over taps tw of ow of  ww * row[iw, c],
    row[iw, c]      = sum over taps th of oh of  wh * x[n, c, ih, iw]

divided by the divisors of oh and ow.  Each value is summed in this order, whatever the memory
order, and by one of two leaves:

- **Many channels** fill the vectors of ``mix``.  Where few rows meet, it adds those of a pixel as
  it goes; else they are added first, in one long run, to a row in the thread's scratch, of which
  the columns are made.  Pixels whose neighbours stay neighbours, as between the borders of a
  padding, are one long pixel.
- **Few channels** would leave its vectors empty.  There ``mix_rows`` fills them with neighbouring
  values, by a table of each lane's places in a row (``axis_map``).  A planar image is so many
  images of one channel.  Some rows are made at a time, of many small planes if need be: each from a
  row of x as it lies, or from the sum of several, which ``mix`` leaves in scratch.
- **Small planes that become a few values** would leave those empty too: a vector of planes is
  transposed into scratch, where planes are channels, and back from there.

A task is some rows of y, and writes them alone.  A result that outgrows the caches goes past them.
"""

cimport numpy as cnp
from libc.stdint cimport uintptr_t
from libc.string cimport memcpy

from fastconv._core.arguments cimport (
    array, float_type, image, image_array, is_channels_last, shape_text)
from fastconv._core.axis_map cimport AxisMap, RowTable
from fastconv._core.caches cimport L3_BYTES
from fastconv._core.isa cimport fc_leaves, fc_mix, fc_mix_rows, leaves
from fastconv._core.memory cimport Block, new_array, take
from fastconv._core.pack cimport Image
from fastconv._core.threads cimport parallel_for, team_size

import numpy as np

cnp.import_array()

# Values that a task adds: some microseconds.
cdef Py_ssize_t TASK_VALUES = 32768
# Of the last cache, what a call must move for its result to go past it: more than in the loop
# nests, since a pass over memory leaves more of it there for whoever comes next.
cdef double STREAM_SHARE = 0.45
# A task that streams waits at its end for memory: it is as long as so many.
cdef Py_ssize_t STREAMED_TASKS = 4
# Rows and columns of which tables are made unasked.
cdef double SMALL_TABLES = 1 << 20
# No memory holds so many, and products of sizes stay below 2**63.
cdef double LARGEST_AXIS = 1 << 50
# NumPy counts an image's bytes even where there is none.
cdef Py_ssize_t LARGEST_IMAGE = <Py_ssize_t>1 << 60
# Rows of scratch that stay in the first cache beside what is made of them, and most such rows.
cdef Py_ssize_t SCRATCH_BYTES = 16384
cdef Py_ssize_t MOST_ROWS = 64
# Reading a value twice is cheaper than leaving and finding its sum.
cdef double FUSED_COST = 1.25
# Rows that are added pixel by pixel: more would be read in runs too short for memory.
cdef Py_ssize_t MOST_FUSED = 8
# Pixels of a plane that is small.
cdef Py_ssize_t SMALL_PLANE = 256
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
    bint divides, dense, fused, streams, turns
    double fill
    Image x
    char* y                       # dense
    Py_ssize_t rows               # of a task
    const fc_mix_rows* table      # few channels: what `mix_rows` knows of each row; else NULL
    Py_ssize_t block              # of rows that it makes at a time
    Py_ssize_t row_bytes          # of a row of scratch
    Py_ssize_t sums_bytes         # of a block of them, and of a filled one
    char* scratch                 # per thread: these; pointers to rows, and their divisors
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
    cdef Py_ssize_t values, step, N = x.shape[0] if i else 1
    cdef cnp.ndarray y
    cdef Block block
    cdef bint channels_last, aligned
    cdef double bytes
    cdef RowTable table
    cdef fc_mix_rows rows
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
    if run.images == 0:
        return y
    run.dense = run.x.sw == run.C or w.source == 1
    # Of a row of y: the rows that it adds, and then its pixels.
    values = (max(h.n_taps // h.n, 1) * w.source + w.n_taps + w.n) * run.C
    run.rows = max(TASK_VALUES // values, 1)
    # Read what is added at once, or read, leave and read again.
    run.fused = <double>h.n_taps * w.n_taps <= FUSED_COST * (
        (<double>h.n_taps + h.n) * w.source + <double>h.n * w.n_taps)
    run.row_bytes = w.source * run.C * run.itemsize
    run.table, run.block, run.turns = NULL, 1, False
    step = run.leaves.vf * run.itemsize
    if run.C <= run.leaves.vf:
        table = w.table(run.C, run.leaves.vf, run.itemsize)
        rows.first, rows.base, rows.run = table.first, table.base, table.run
        rows.kind, rows.alone = table.kind, table.alone
        rows.place, rows.weight = table.place, table.weight
        rows.divisor = table.divisor if run.divides else NULL
        rows.n, rows.source, rows.fill = w.n * run.C, w.source * run.C, fill
        run.table = &rows
        # Where few rows are sums, few of them lie in scratch.
        run.block = max(min(
            (SCRATCH_BYTES if h.n_taps > 3 * h.n // 2 else 4 * SCRATCH_BYTES) // run.row_bytes,
            MOST_ROWS), 1)
        aligned = rows.n * run.itemsize % step == 0
        run.turns = (not channels_last and 2 * w.n <= run.leaves.vf and run.x.sw == 1
                     and h.source * w.source <= SMALL_PLANE
                     and 4 * h.n * w.n <= h.source * w.source
                     and run.x.sh == w.source and run.x.sc == h.source * w.source
                     and (N == 1 or run.x.sn == run.planes * run.x.sc))
        if run.turns:
            run.rows = run.block = run.leaves.vf * h.n
    else:
        aligned = run.C * run.itemsize % step == 0
    bytes = run.itemsize * run.images * run.C * (
        <double>h.source * w.source + <double>h.n * w.n)
    run.streams = bytes >= STREAM_SHARE * L3_BYTES and aligned and <uintptr_t>run.y % step == 0
    rows.stream = run.streams
    if run.streams:
        run.rows *= STREAMED_TASKS
    run.sums_bytes = ((run.block + 1) * run.row_bytes + 63) // 64 * 64
    if run.turns:
        # Planes, values and a row of sums, all of a vector of planes.
        run.sums_bytes = step * (h.source * w.source + h.n * w.n + w.source)
    run.thread_bytes = (
        run.sums_bytes + run.block * (<Py_ssize_t>sizeof(void*) + run.itemsize) + 63) // 64 * 64
    team = team_size(MEMORY_COST * values * run.images * h.n)
    block = take(team * run.thread_bytes)
    run.scratch = block.data
    with nogil:
        parallel_for((run.images * h.n + run.rows - 1) // run.rows, team, rows_task, &run)
    return y


cdef void rows_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    """Some rows of y, counted through all images."""
    cdef Run* run = <Run*>context
    cdef Py_ssize_t row = number * run.rows
    cdef Py_ssize_t end = min(row + run.rows, run.images * run.h.n)
    cdef char* scratch = run.scratch + thread * run.thread_bytes
    while row < end:
        if run.turns:
            turned_planes(run, row // run.h.n, min(row + run.block, end) // run.h.n, scratch)
        elif run.table != NULL:
            thin_rows(run, row, min(row + run.block, end), scratch)
        else:
            one_row(run, row, scratch)
        row += run.block
    if run.streams:
        run.leaves.fence()


cdef inline const char* image_of(const Run* run, Py_ssize_t row) noexcept nogil:
    """The image that a row of y belongs to."""
    cdef Py_ssize_t n = row // run.h.n
    return run.x.data + (n // run.planes * run.x.sn + n % run.planes * run.x.sc) * run.itemsize


cdef inline bint is_row(const Run* run, Py_ssize_t i) noexcept nogil:
    """Whether row i of y is made of a single row of x."""
    cdef Py_ssize_t t = run.h.start[i]
    if run.h.start[i + 1] != t + 1:
        return False
    if run.itemsize == 4:
        return (<const float*>run.h.weight)[t] == 1
    return (<const double*>run.h.weight)[t] == 1


cdef inline bint is_sum(const Run* run, Py_ssize_t i) noexcept nogil:
    """Whether row i of y is made of a row that has to be summed first."""
    return run.h.start[i] != run.h.start[i + 1] and not (run.dense and is_row(run, i))


cdef void add_rows(
    const Run* run, Py_ssize_t i, Py_ssize_t count, const char* x, char* sums
) noexcept nogil:
    """The sums of rows of an image that rows [i, i + count) of y are made of."""
    cdef Py_ssize_t size = run.itemsize, C = run.C, j
    cdef fc_mix m
    m.divisor, m.row, m.fill, m.divide, m.stream = NULL, NULL, run.fill, 1, False
    m.index, m.weight, m.pitch = run.h.index, run.h.weight, run.x.sh
    if run.dense:
        m.n, m.channels, m.start, m.x, m.y = count, run.w.source * C, run.h.start + i, x, sums
        run.leaves.mix(&m)
        return
    m.n, m.channels = 1, C
    for i in range(i, i + count):
        m.start = run.h.start + i
        for j in range(run.w.source):
            m.x, m.y = x + j * run.x.sw * size, sums + j * C * size
            run.leaves.mix(&m)
        sums += run.row_bytes


cdef void thin_rows(
    const Run* run, Py_ssize_t row, Py_ssize_t end, char* scratch
) noexcept nogil:
    """Rows [row, end) of y, of few channels."""
    cdef Py_ssize_t size = run.itemsize, count = end - row, k = 0, i = row % run.h.n, j, together
    cdef const void** sources = <const void**>(scratch + run.sums_bytes)
    cdef char* divide = <char*>(sources + run.block)
    cdef const char* x = image_of(run, row)
    cdef char* filled = NULL
    cdef fc_mix_rows m = run.table[0]
    m.x, m.y, m.rows, m.divide = sources, run.y + row * m.n * size, count, divide
    while k < count:
        together = 1
        if run.h.start[i] == run.h.start[i + 1]:
            # Nothing but the filling, which is made once.
            if filled == NULL:
                filled = scratch + run.block * run.row_bytes
                add_rows(run, i, 1, x, filled)
            sources[k] = filled
        elif run.dense and is_row(run, i):
            sources[k] = x + run.h.index[run.h.start[i]] * run.x.sh * size
        else:
            while k + together < count and i + together < run.h.n and is_sum(run, i + together):
                together += 1
            add_rows(run, i, together, x, scratch + k * run.row_bytes)
            for j in range(k, k + together):
                sources[j] = scratch + j * run.row_bytes
        if run.divides:
            memcpy(divide + k * size, run.h.divisor + i * size, together * size)
        k += together
        i += together
        if i == run.h.n and k < count:
            i, x = 0, image_of(run, row + k)
    # end: k
    run.leaves.mix_rows(&m)


cdef void turned_planes(
    const Run* run, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """All rows of some small planes, which become the channels of one image."""
    cdef Run turned = run[0]
    cdef Py_ssize_t i, size = run.itemsize, count = last - first
    cdef Py_ssize_t pixels = run.h.source * run.w.source, values = run.h.n * run.w.n
    turned.C, turned.planes, turned.streams = count, 1, False
    turned.x.data, turned.x.sw, turned.x.sh = scratch, count, run.w.source * count
    turned.y = scratch + pixels * count * size
    run.leaves.transpose(scratch, count, NULL, run.x.data + first * pixels * size, pixels, count,
                         pixels)
    for i in range(run.h.n):
        one_row(&turned, i, turned.y + values * count * size)
    run.leaves.transpose(run.y + first * values * size, values, NULL, turned.y, count, values,
                         count)


cdef void one_row(const Run* run, Py_ssize_t row, char* scratch) noexcept nogil:
    """A row of y, of many channels."""
    cdef Py_ssize_t size = run.itemsize, C = run.C, i = row % run.h.n, j, length
    cdef Py_ssize_t t = run.h.start[i], taps = run.h.start[i + 1] - t
    cdef const char* x = image_of(run, row)
    cdef char* y = run.y + row * run.w.n * C * size
    cdef fc_mix m
    m.divisor, m.fill, m.divide, m.stream, m.row = NULL, run.fill, 1, run.streams, NULL
    m.index, m.weight, m.channels, m.pitch, m.x = run.w.index, run.w.weight, C, run.x.sw, x
    if taps == 0:
        # Nothing but the filling.
        m.n, m.start, m.y, m.channels = 1, run.h.start + i, y, run.w.n * C
        run.leaves.mix(&m)
        return
    if is_row(run, i):
        m.x = x + run.h.index[t] * run.x.sh * size
    elif run.fused and taps <= MOST_FUSED:
        m.row, m.rows, m.row_pitch = run.h.index + t, taps, run.x.sh
        m.row_weight = run.h.weight + t * size
    else:
        add_rows(run, i, 1, x, scratch)
        m.x, m.pitch = scratch, C
    if run.divides:
        m.divide = (<const float*>run.h.divisor)[i] if size == 4 else (
            (<const double*>run.h.divisor)[i])
    j = 0
    while j < run.w.n:
        length, m.start, m.y, m.divisor = (
            run.w.stretch[j], run.w.start + j, y + j * C * size, NULL)
        if length > 0 and m.pitch == C and not (run.divides and m.divide != 1):
            # Neighbours: one long pixel.
            m.n, m.channels = 1, length * C
            run.leaves.mix(&m)
            m.channels = C
        else:
            m.n = length = length if length > 0 else -length
            if run.divides:
                m.divisor = run.w.divisor + j * size
            run.leaves.mix(&m)
        j += length
    # end: j
