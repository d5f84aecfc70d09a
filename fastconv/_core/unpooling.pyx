# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Gradient of max pooling: the doors and the loop nests.

Where only the winners' *places* in the plane are known, a task is some images, or planes of planar
ones, and adds each gradient where it belongs, so that overlapping windows add up within one thread.

Where the *tap* of each window is known, there are two ways:

- **Many channels.**  A task owns rows of dx and asks of every window that sees a pixel whether the
  pixel won.  Tables say which ones see a column, and with which tap; rows and columns that are seen
  alike are one call.  A pixel is written once, many channels at a time.  A planar array is
  transposed rows at a time through the task's scratch.
- **Few channels** would leave vectors empty.  A task owns an image and adds each gradient where its
  tap says, some rows of windows at a time, so that what it touches stays in the first cache.

Both add to 0 in the order of the windows, so that the bits are the same.  No tap, whatever its
value, leads outside of the image, not even one that somebody changes meanwhile.
"""

cimport numpy as cnp
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t
from libc.string cimport memset

import numpy as np

from fastconv._core.arguments cimport (
    array, as_type, contiguous, float_type, gradient_shape, is_channels_last, shape_text)
from fastconv._core.geometry cimport Axis, end_valid, first_valid, valid_taps
from fastconv._core.isa cimport fc_leaves, fc_unpool, leaves
from fastconv._core.memory cimport Block, new_array, take
from fastconv._core.pooling cimport MOST_TAPS, Window, pool_axis, window_of
from fastconv._core.threads cimport parallel_for, team_size

cnp.import_array()

ctypedef fused real:
    float
    double

# Values of dx that a task writes, lanes without a channel among them: some microseconds.
cdef Py_ssize_t TASK_VALUES = 32768
# Taps of an image that are followed before its next channel's.
cdef Py_ssize_t BLOCK_TAPS = 4096


# ---- gradient from places in the plane ---------------------------------------------------------

cdef struct Scatter:
    Py_ssize_t images, each            # a planar image is so many of one channel; those of a task
    Py_ssize_t C, pixels, plane        # of an image: channels, pixels of dy, of dx
    int itemsize
    const fc_leaves* leaves
    char* dx
    const char* dy
    const int32_t* indices
    int64_t bad                        # an index outside the plane, or -1


def max_pool2d_backward(dy_, indices_, input_shape):
    cdef Scatter run
    cdef cnp.ndarray dy = array(dy_, "dy")
    cdef cnp.ndarray indices = array(indices_, "indices")
    cdef cnp.ndarray dx
    cdef Py_ssize_t shape[4]
    cdef int typenum, team, missing
    cdef bint channels_last
    missing = gradient_shape(dy, input_shape, shape)
    if (<object>indices).shape != (<object>dy).shape:
        raise ValueError(
            f"indices: expected dy's shape {shape_text(dy)}, got {shape_text(indices)}")
    if not cnp.PyTypeNum_ISINTEGER(cnp.PyArray_TYPE(indices)):
        raise TypeError(f"indices: expected an integer array, got dtype {indices.dtype}")
    typenum = float_type([dy], ["dy"])
    run.itemsize = 4 if typenum == cnp.NPY_FLOAT32 else 8
    run.leaves = leaves(run.itemsize)
    channels_last = is_channels_last(dy)
    order = [0, 2, 3, 1][missing:] if missing == 0 else [1, 2, 0]
    dy = as_type(dy, typenum)
    if indices.dtype != np.int32:
        # Too large for int32 is outside any plane too.
        indices = np.where((indices >= 0) & (indices <= 0x7fffffff), indices, -1).astype(np.int32)
    if channels_last:
        dy, indices = dy.transpose(order), indices.transpose(order)
    dy, indices = np.ascontiguousarray(dy), np.require(indices, requirements=["C", "A"])
    dx = new_array(dy.ndim, shape + missing, run.itemsize, channels_last)
    run.images, run.C, run.plane = shape[0], shape[1], shape[2] * shape[3]
    run.pixels = dy.size // max(run.images * run.C, 1)
    if not channels_last:
        run.images, run.C = run.images * run.C, 1
    run.each = max(TASK_VALUES // max(run.C * run.plane, 1), 1)
    run.dx, run.dy = <char*>cnp.PyArray_DATA(dx), <const char*>cnp.PyArray_DATA(dy)
    run.indices = <const int32_t*>cnp.PyArray_DATA(indices)
    run.bad = -1
    team = team_size(2.0 * run.images * run.C * (8 * run.pixels + run.plane))
    with nogil:
        parallel_for((run.images + run.each - 1) // run.each, team, scatter_task, &run)
    if run.bad >= 0:
        raise ValueError(
            f"indices: expected flat positions below {run.plane}, the pixels of a plane of "
            f"input_shape {input_shape}, got {run.indices[run.bad]}")
    return dx


cdef void scatter_task(void* context, Py_ssize_t task, int thread) noexcept nogil:
    """Add some images' gradients where their windows found their maxima."""
    cdef Scatter* run = <Scatter*>context
    cdef Py_ssize_t n, at, stopped, size = run.itemsize
    cdef char* dx
    for n in range(task * run.each, min((task + 1) * run.each, run.images)):
        at = n * run.C * run.pixels
        dx = run.dx + n * run.C * run.plane * size
        memset(dx, 0, run.C * run.plane * size)
        stopped = run.leaves.unpool(dx, run.dy + at * size, run.indices + at, run.pixels, run.C,
                                    run.plane)
        if stopped >= 0:
            # Any thread may be the last to say so: the message names one of the bad indices.
            run.bad = at + stopped
            return


# ---- gradient from taps -------------------------------------------------------------------------

cdef struct TapGradient:
    const fc_leaves* leaves
    int itemsize
    Py_ssize_t N, C
    Axis h, w
    Py_ssize_t rows, n_rows       # of dx
    Py_ssize_t* start             # [column] -> the first of its windows; one more at the end
    Py_ssize_t* window            # their places in a row of dy
    Py_ssize_t* tap               # and the taps that they see the column with
    Py_ssize_t* run               # columns a stride apart that are seen alike: first, and how many
    Py_ssize_t n_runs
    bint planar
    char* dx
    const char* dy
    const char* y                 # or NULL
    const uint8_t* taps
    char* scratch                 # per thread: dx rows, dy rows, y rows; empty when channels-last
    Py_ssize_t dx_scratch, dy_scratch, thread_bytes
    Py_ssize_t whole[4]           # rows, and columns, of windows that see all of their taps
    Py_ssize_t block_rows         # of windows whose taps are followed before the next channel's
    Py_ssize_t* first             # pixels of such windows, from the first one's on
    Py_ssize_t place[256]         # from a window's first pixel to that of a tap, in dx
    int16_t tap_row[256]          # of the window; of what is no tap, none that there is
    int16_t tap_column[256]
    int bad                       # a tap that lies outside of its window, or -1


def max_pool2d_taps_backward(dy_, taps_, input_shape, size, stride, padding, dilation, y_):
    cdef TapGradient run
    cdef Window k
    cdef cnp.ndarray dy = array(dy_, "dy")
    cdef cnp.ndarray taps = array(taps_, "taps")
    cdef cnp.ndarray y = None if y_ is None else array(y_, "y")
    cdef cnp.ndarray dx
    cdef Block block
    cdef Py_ssize_t shape[4]
    cdef Py_ssize_t seen, lanes, tables
    cdef int typenum, team, missing
    cdef bint few
    missing = gradient_shape(dy, input_shape, shape)
    if not cnp.PyArray_SAMESHAPE(taps, dy):
        raise ValueError(f"taps: expected dy's shape {shape_text(dy)}, got {shape_text(taps)}")
    if y is not None and not cnp.PyArray_SAMESHAPE(y, dy):
        raise ValueError(f"y: expected dy's shape {shape_text(dy)}, got {shape_text(y)}")
    window_of(&k, size, stride, padding, dilation)
    if shape[1] < 1 or shape[2] < 1 or shape[3] < 1:
        raise ValueError(
            f"input_shape: expected at least one channel, row and column, got {input_shape}")
    windows_of(&run.h, shape[2], k.KH, k.sh, k.ph, k.dh, dy, dy.ndim - 2)
    windows_of(&run.w, shape[3], k.KW, k.sw, k.pw, k.dw, dy, dy.ndim - 1)
    wanted = np.uint8 if k.KH * k.KW <= MOST_TAPS else np.int32
    if taps.dtype != wanted:
        raise TypeError(f"taps: expected a {wanted.__name__} array for windows of {size!r}, "
                        f"got dtype {taps.dtype}")
    typenum = float_type([dy], ["dy"]) if y is None else float_type([dy, y], ["dy", "y"])
    if k.KH * k.KW > MOST_TAPS:
        return places_backward(dy, taps, input_shape, &k, y)
    run.itemsize = 4 if typenum == cnp.NPY_FLOAT32 else 8
    run.leaves = leaves(run.itemsize)
    run.planar = not is_channels_last(dy)
    run.N, run.C = shape[0], shape[1]
    dx = new_array(dy.ndim, shape + missing, run.itemsize, not run.planar)
    dy = packed(dy, typenum, run.planar)
    if y is not None:
        y = packed(y, typenum, run.planar)
    taps = packed(taps, cnp.NPY_UINT8, False)
    run.dx, run.dy = <char*>cnp.PyArray_DATA(dx), <const char*>cnp.PyArray_DATA(dy)
    run.y = NULL
    if y is not None:
        run.y = <const char*>cnp.PyArray_DATA(y)
    run.taps = <const uint8_t*>cnp.PyArray_DATA(taps)
    few = run.C < run.leaves.vf
    lanes = (run.C + run.leaves.vf - 1) // run.leaves.vf * run.leaves.vf
    run.rows = max(TASK_VALUES // (lanes * run.w.source), 1)
    run.rows = min((run.rows + k.sh - 1) // k.sh * k.sh, run.h.source)
    run.n_rows = (run.h.source + run.rows - 1) // run.rows
    # Windows that rows of dx may meet.
    seen = min((run.rows + (k.KH - 1) * k.dh) // k.sh + 2, run.h.n)
    run.dx_scratch, run.dy_scratch = run.rows * run.w.source * run.C, seen * run.w.n * run.C
    run.thread_bytes = 0
    if run.planar and not few:
        run.thread_bytes = ((run.dx_scratch + 2 * run.dy_scratch) * run.itemsize + 127) // 64 * 64
    run.bad = -1
    team = team_size(8.0 * run.N * lanes * shape[2] * shape[3])
    run.block_rows = min(max(BLOCK_TAPS // (run.w.n * run.C), 1), run.h.n)
    tables = 3 * run.w.source + 1 + 2 * run.w.n * k.KW
    tables = (tables + run.block_rows * run.w.n) * <Py_ssize_t>sizeof(Py_ssize_t)
    block = take(team * run.thread_bytes + tables)
    run.scratch = block.data
    run.start = <Py_ssize_t*>(block.data + team * run.thread_bytes)
    run.window = run.start + run.w.source + 1
    run.tap = run.window + run.w.n * k.KW
    run.run = run.tap + run.w.n * k.KW
    run.first = run.run + 2 * run.w.source
    columns_seen(&run)
    find_runs(&run)
    number_taps(&run, 1 if run.planar else run.C)
    with nogil:
        if few:
            parallel_for(run.N, team, add_task32 if run.itemsize == 4 else add_task64, &run)
        else:
            parallel_for(run.N * run.n_rows, team, spread_task, &run)
    if run.bad >= 0:
        raise ValueError(
            f"taps: expected kh*KW + kw of a pixel of input_shape {input_shape} in each window "
            f"of {size!r}, got {run.bad}")
    return dx


cdef int windows_of(
    Axis* axis, Py_ssize_t n, Py_ssize_t taps, Py_ssize_t stride, Py_ssize_t pad,
    Py_ssize_t dilation, cnp.ndarray dy, int i
) except -1:
    """The axis of the pooling that gave dy's axis i; ceil_mode is what fits."""
    pool_axis(axis, n, taps, stride, pad, dilation, False)
    cdef Py_ssize_t least = axis.n
    if axis.n != dy.shape[i]:
        pool_axis(axis, n, taps, stride, pad, dilation, True)
    if axis.n != dy.shape[i]:
        either = f"{least}" if axis.n == least else f"{least} or {axis.n}"
        raise ValueError(f"dy: expected {either} windows along axis {i}, got {shape_text(dy)}")
    return 0


cdef cnp.ndarray packed(cnp.ndarray value, int typenum, bint planar):
    """The array itself, or a copy of it, in C order or densely channels-last."""
    cdef int i, axis, ndim = value.ndim
    cdef Py_ssize_t step
    if planar:
        return contiguous(value, typenum)
    if cnp.PyArray_TYPE(value) == typenum and cnp.PyArray_ISALIGNED(value) and (
            cnp.PyArray_ISNOTSWAPPED(value)):
        step = cnp.PyArray_ITEMSIZE(value)
        for i in range(ndim):
            # Channels are innermost, then columns, rows, images.
            axis = ndim - 3 if i == 0 else ndim - i if i < 3 else 0
            if value.shape[axis] > 1 and value.strides[axis] != step:
                break
            step *= value.shape[axis]
        else:
            return value
    turned = np.ascontiguousarray(np.moveaxis(value, -3, -1), cnp.PyArray_DescrFromType(typenum))
    return np.moveaxis(turned, -1, -3)


cdef object places_backward(
    cnp.ndarray dy, cnp.ndarray taps, object input_shape, const Window* k, cnp.ndarray y
):
    """Windows of so many taps that they are numbered in int32."""
    *_, H, W = input_shape
    OH, OW = dy.shape[dy.ndim - 2], dy.shape[dy.ndim - 1]
    rows = np.arange(OH)[:, None] * k.sh - k.ph + taps // k.KW * k.dh
    columns = np.arange(OW) * k.sw - k.pw + taps % k.KW * k.dw
    inside = (taps >= 0) & (taps < k.KH * k.KW) & (rows >= 0) & (rows < H) & (
        columns >= 0) & (columns < W)
    if not inside.all():
        raise ValueError(
            f"taps: expected kh*KW + kw of a pixel of input_shape {input_shape} in each window, "
            f"got {taps[~inside][0]}")
    if y is not None:
        dy = (<object>dy).copy(order="K")
        dy[~np.greater(y, 0)] = 0
    return max_pool2d_backward(dy, rows * W + columns, input_shape)


cdef void spread_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    """One block of rows of dx of one image."""
    cdef TapGradient* run = <TapGradient*>context
    cdef Py_ssize_t n = number // run.n_rows, r0 = number % run.n_rows * run.rows
    cdef Py_ssize_t r1 = min(r0 + run.rows, run.h.source), size = run.itemsize
    cdef Py_ssize_t C = run.C, windows = run.h.n * run.w.n, pixels = run.h.source * run.w.source
    cdef Py_ssize_t dx_row = run.w.source * C, dy_row = run.w.n * C
    cdef Py_ssize_t reach = (run.h.taps - 1) * run.h.offset_step
    # Rows [i0, i1) of windows reach rows [r0, r1).
    cdef Py_ssize_t i0 = max(r0 - run.h.offset - reach + run.h.stride - 1, 0) // run.h.stride
    cdef Py_ssize_t i1 = min((r1 - 1 - run.h.offset) // run.h.stride + 1, run.h.n)
    cdef char* dx = run.dx + n * pixels * C * size
    cdef const char* dy = run.dy + n * windows * C * size
    cdef const char* y = run.y + n * windows * C * size if run.y != NULL else NULL
    cdef char* scratch = run.scratch + thread * run.thread_bytes
    cdef char* turned
    i1 = max(i0, i1)
    check_taps(run, n, i0, i1)
    if not run.planar:
        spread_rows(run, r0, r1, i0, i1, dx + r0 * dx_row * size, dy + i0 * dy_row * size,
                    y + i0 * dy_row * size if y != NULL else NULL,
                    run.taps + (n * windows + i0 * run.w.n) * C)
        return
    turned = scratch + run.dx_scratch * size
    run.leaves.transpose(turned, C, NULL, dy + i0 * run.w.n * size, windows, C,
                         (i1 - i0) * run.w.n)
    if y != NULL:
        run.leaves.transpose(turned + run.dy_scratch * size, C, NULL, y + i0 * run.w.n * size,
                             windows, C, (i1 - i0) * run.w.n)
    spread_rows(run, r0, r1, i0, i1, scratch, turned,
                turned + run.dy_scratch * size if y != NULL else NULL,
                run.taps + (n * windows + i0 * run.w.n) * C)
    run.leaves.transpose(dx + r0 * run.w.source * size, pixels, NULL, scratch, C,
                         (r1 - r0) * run.w.source, C)


cdef void columns_seen(TapGradient* run) noexcept nogil:
    """Which windows see a column, from left to right."""
    cdef Py_ssize_t j, u, u0, u1, x, C = run.C
    memset(run.start, 0, (run.w.source + 1) * sizeof(Py_ssize_t))
    for j in range(run.w.n):
        valid_taps(&run.w, j, &u0, &u1)
        for u in range(u0, u1):
            run.start[j * run.w.stride + run.w.offset + u * run.w.offset_step + 1] += 1
    for x in range(run.w.source):
        run.start[x + 1] += run.start[x]
    for j in range(run.w.n):
        valid_taps(&run.w, j, &u0, &u1)
        for u in range(u0, u1):
            x = j * run.w.stride + run.w.offset + u * run.w.offset_step
            run.window[run.start[x]], run.tap[run.start[x]] = j * C, u
            run.start[x] += 1
    # Each is where the next one began.
    for x in range(run.w.source, 0, -1):
        run.start[x] = run.start[x - 1]
    run.start[0] = 0


cdef void find_runs(TapGradient* run) noexcept nogil:
    cdef Py_ssize_t x, y, phase, stride = run.w.stride
    run.n_runs = 0
    for phase in range(min(stride, run.w.source)):
        x = phase
        while x < run.w.source:
            y = x + stride
            while y < run.w.source and seen_alike(run, x, y):
                y += stride
            run.run[2 * run.n_runs], run.run[2 * run.n_runs + 1] = x, (y - x) // stride
            run.n_runs += 1
            x = y


cdef bint seen_alike(const TapGradient* run, Py_ssize_t x, Py_ssize_t y) noexcept nogil:
    """Whether windows see column y as they see x, but further to the right."""
    cdef Py_ssize_t count = run.start[x + 1] - run.start[x], e
    cdef Py_ssize_t further = (y - x) // run.w.stride * run.C
    if run.start[y + 1] - run.start[y] != count:
        return False
    for e in range(count):
        if (run.tap[run.start[x] + e] != run.tap[run.start[y] + e]
                or run.window[run.start[x] + e] + further != run.window[run.start[y] + e]):
            return False
    return True


cdef void spread_rows(
    const TapGradient* run, Py_ssize_t r0, Py_ssize_t r1, Py_ssize_t i0, Py_ssize_t i1, char* dx,
    const char* dy, const char* y, const uint8_t* taps
) noexcept nogil:
    """Rows [r0, r1) of dx, channels-last, from rows [i0, i1) of windows: pointers are to these."""
    cdef Py_ssize_t r, i, t, at, x, e, first, last, phase, C = run.C, stride = run.h.stride
    cdef Py_ssize_t dx_row = run.w.source * C, dy_row = run.w.n * C
    cdef Py_ssize_t window[MOST_TAPS]
    cdef Py_ssize_t tap[MOST_TAPS]
    cdef fc_unpool p
    p.channels, p.dx_step, p.dx_row, p.row = C, run.w.stride * C, stride * dx_row, dy_row
    p.dy, p.y, p.taps, p.room = dy, y, taps, (i1 - i0) * dy_row
    p.window, p.tap = window, tap
    for phase in range(min(stride, r1 - r0)):
        r = r0 + phase
        while r < r1:
            seen_rows(run, r, i0, i1, &first, &last)
            # Rows further down that are seen alike.
            p.rows = 1
            while r + p.rows * stride < r1 and shifted(run, r, p.rows, i0, i1, first, last):
                p.rows += 1
            for at in range(run.n_runs):
                x, p.pixels, p.windows = run.run[2 * at], run.run[2 * at + 1], 0
                for i in range(first, last):
                    t = r - run.h.offset - i * stride
                    if run.h.offset_step > 1 and t % run.h.offset_step:
                        continue
                    t = t // run.h.offset_step * run.w.taps
                    for e in range(run.start[x], run.start[x + 1]):
                        window[p.windows] = (i - i0) * dy_row + run.window[e]
                        tap[p.windows] = t + run.tap[e]
                        p.windows += 1
                p.dx = dx + ((r - r0) * dx_row + x * C) * run.itemsize
                run.leaves.unpool_pixels(&p)
            r += p.rows * stride
    # end: phase


cdef inline void seen_rows(
    const TapGradient* run, Py_ssize_t r, Py_ssize_t i0, Py_ssize_t i1, Py_ssize_t* first,
    Py_ssize_t* last
) noexcept nogil:
    """The rows of windows [first, last) that reach over row r of dx, of [i0, i1)."""
    cdef Py_ssize_t reach = (run.h.taps - 1) * run.h.offset_step
    first[0] = max(i0, max(r - run.h.offset - reach + run.h.stride - 1, 0) // run.h.stride)
    last[0] = max(min(i1, (r - run.h.offset) // run.h.stride + 1), first[0])


cdef inline bint shifted(
    const TapGradient* run, Py_ssize_t r, Py_ssize_t by, Py_ssize_t i0, Py_ssize_t i1,
    Py_ssize_t first, Py_ssize_t last
) noexcept nogil:
    """Whether what is seen of row r is seen alike so many strides further down."""
    cdef Py_ssize_t f, l
    seen_rows(run, r + by * run.h.stride, i0, i1, &f, &l)
    return f == first + by and l == last + by


cdef void add_task32(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef TapGradient* run = <TapGradient*>context
    add_planes(run, <float*>run.dx, <const float*>run.dy, <const float*>run.y, number)


cdef void add_task64(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef TapGradient* run = <TapGradient*>context
    add_planes(run, <double*>run.dx, <const double*>run.dy, <const double*>run.y, number)


cdef void number_taps(TapGradient* run, Py_ssize_t pixel) noexcept nogil:
    """What `add_planes` knows of each tap, where pixels are so many elements apart."""
    cdef Py_ssize_t t, i, j, KW = run.w.taps
    for i in range(run.block_rows):
        for j in range(run.w.n):
            run.first[i * run.w.n + j] = (
                i * run.h.stride * run.w.source + j * run.w.stride) * pixel
    run.whole[:] = [first_valid(&run.h, 0), end_valid(&run.h, run.h.taps - 1),
                    first_valid(&run.w, 0), end_valid(&run.w, KW - 1)]
    for t in range(256):
        run.place[t], run.tap_row[t], run.tap_column[t] = 0, 0x7fff, 0x7fff
        if t < run.h.taps * KW:
            run.tap_row[t], run.tap_column[t] = <int16_t>(t // KW), <int16_t>(t % KW)
            run.place[t] = (t // KW * run.h.offset_step * run.w.source
                            + t % KW * run.w.offset_step) * pixel


cdef void add_planes(
    TapGradient* run, real* dx, const real* dy, const real* y, Py_ssize_t n
) noexcept nogil:
    """Image n."""
    cdef Py_ssize_t C = run.C, c, i, i0 = 0, i1, r0 = 0, r1
    cdef Py_ssize_t H = run.h.source, W = run.w.source, OH = run.h.n, OW = run.w.n
    cdef Py_ssize_t planes = C if run.planar else 1
    cdef const uint8_t* taps = run.taps + n * OH * OW * C
    dx, dy = dx + n * C * H * W, dy + n * C * OH * OW
    if y != NULL:
        y += n * C * OH * OW
    while i0 < OH:
        i1 = min(i0 + run.block_rows, OH)
        # Taps at the border are looked at when they are used.
        check_most(run, taps + i0 * OW * C, (i1 - i0) * OW * C)
        # Rows that these windows are the first to reach.
        r1 = H if i1 == OH else (
            (i1 - 1) * run.h.stride + run.h.offset + (run.h.taps - 1) * run.h.offset_step + 1)
        r1 = max(min(r1, H), r0)
        for c in range(planes):
            memset(dx + (c * H + r0) * W * (C // planes), 0,
                   (r1 - r0) * W * (C // planes) * sizeof(real))
        if run.whole[0] == run.whole[2] == 0 and run.whole[1] == OH and run.whole[3] == OW:
            add_windows(run, i0, i1, dx, dy, y, taps)
        else:
            for i in range(i0, i1):
                add_windows(run, i, i + 1, dx, dy, y, taps)
        i0, r0 = i1, r1
    # end: i0


cdef void add_inside(
    const TapGradient* run, real* dx, const real* dy, const real* y, const uint8_t* taps,
    Py_ssize_t k0, Py_ssize_t k1
) noexcept nogil:
    """One channel of windows [k0, k1) of some rows, none of which is at a border."""
    cdef Py_ssize_t C = run.C, pixel = 1 if run.planar else C, k
    cdef const Py_ssize_t* first = run.first
    cdef const Py_ssize_t* place = run.place
    if y == NULL:
        for k in range(k0, k1):
            dx[first[k] + place[taps[k * C]]] += dy[k * pixel]
    else:
        for k in range(k0, k1):
            dx[first[k] + place[taps[k * C]]] += dy[k * pixel] if y[k * pixel] > 0 else 0


cdef void add_windows(
    TapGradient* run, Py_ssize_t i0, Py_ssize_t i1, real* dx, const real* dy, const real* y,
    const uint8_t* taps
) noexcept nogil:
    """Rows [i0, i1) of windows: one of them, unless no window at all is at a border."""
    cdef Py_ssize_t C = run.C, OW = run.w.n, count = (i1 - i0) * OW, j, _c, t0, t1
    cdef Py_ssize_t whole0 = count, whole1 = count, pixel = 1 if run.planar else C
    cdef Py_ssize_t plane = run.h.source * run.w.source if run.planar else 1
    cdef Py_ssize_t window_plane = run.h.n * OW if run.planar else 1
    valid_taps(&run.h, i0, &t0, &t1)
    if run.whole[0] <= i0 < run.whole[1] and run.whole[2] < run.whole[3]:
        whole0, whole1 = run.whole[2], count - (OW - run.whole[3])
    dx += ((i0 * run.h.stride + run.h.offset) * run.w.source + run.w.offset) * pixel
    dy += i0 * OW * pixel
    if y != NULL:
        y += i0 * OW * pixel
    taps += i0 * OW * C
    for _c in range(C):
        for j in range(whole0):
            add_one(run, dx, dy, y, taps, t0, t1, j)
        add_inside(run, dx, dy, y, taps, whole0, whole1)
        for j in range(whole1, count):
            add_one(run, dx, dy, y, taps, t0, t1, j)
        dx, dy, taps = dx + plane, dy + window_plane, taps + 1
        if y != NULL:
            y += window_plane


cdef inline void add_one(
    TapGradient* run, real* dx, const real* dy, const real* y, const uint8_t* taps, Py_ssize_t t0,
    Py_ssize_t t1, Py_ssize_t j
) noexcept nogil:
    """A window at the border: column j, of whose rows [t0, t1) are inside."""
    cdef Py_ssize_t pixel = 1 if run.planar else run.C, first = j * run.w.stride + run.w.offset
    cdef Py_ssize_t tap = taps[j * run.C]
    cdef Py_ssize_t column = first + run.tap_column[tap] * run.w.offset_step
    if not (t0 <= run.tap_row[tap] < t1 and 0 <= column < run.w.source):
        run.bad = <int>tap
    elif y == NULL or y[j * pixel] > 0:
        dx[j * run.w.stride * pixel + run.place[tap]] += dy[j * pixel]


cdef bint check_most(TapGradient* run, const uint8_t* taps, Py_ssize_t n) noexcept nogil:
    """Whether all these are taps of a window; if not, note one."""
    cdef int most = run.leaves.most(taps, n)
    if most >= run.h.taps * run.w.taps:
        run.bad = most
        return False
    return True


cdef void check_taps(TapGradient* run, Py_ssize_t n, Py_ssize_t i0, Py_ssize_t i1) noexcept nogil:
    """Note a tap of these rows of windows that is none, or that lies in the padding."""
    cdef Py_ssize_t C = run.C, KW = run.w.taps, i, j, c, t, t0, t1, u0, u1
    cdef const uint8_t* taps = run.taps + (n * run.h.n + i0) * run.w.n * C
    cdef Py_ssize_t whole0 = first_valid(&run.w, 0), whole1 = end_valid(&run.w, KW - 1)
    cdef Py_ssize_t known[4]      # the taps that are inside, of rows and columns
    cdef uint8_t inside[MOST_TAPS]
    known[:] = [0, 0, 0, 0]
    if not check_most(run, taps, (i1 - i0) * run.w.n * C):
        return
    for i in range(i0, i1):
        valid_taps(&run.h, i, &t0, &t1)
        j = whole1 if t1 - t0 == run.h.taps and whole0 == 0 else 0
        while j < run.w.n:
            valid_taps(&run.w, j, &u0, &u1)
            if known[0] != t0 or known[1] != t1 or known[2] != u0 or known[3] != u1:
                known[:] = [t0, t1, u0, u1]
                memset(inside, 0, MOST_TAPS)
                for t in range(t0, t1):
                    memset(inside + t * KW + u0, 1, u1 - u0)
            for c in range(j * C, (j + 1) * C):
                if not inside[taps[c]]:
                    run.bad = taps[c]
            j += 1
            if j == whole0 and t1 - t0 == run.h.taps:
                j = max(j, whole1)
        # end: j
        taps += run.w.n * C
    # end: i
