# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Max pooling: the door and the loop nest of the forward pass.

Channels lie in the lanes.  A planar array is transposed rows at a time into the task's scratch,
pooled there and transposed back.  A task is (image, block of output rows) and writes its own rows.

The winner of a window is the first of equal values, and any NaN wins over numbers.  Padding never
wins: windows are cut to the image.  Where a value came from is told as its place in the plane, or,
in one byte, as the *tap* of its window (in int32 where a window has more than 256); taps lie
channels-last in memory whatever the order of x.
"""

cimport numpy as cnp
from libc.stdint cimport int32_t, uint8_t

import numpy as np

from fastconv.arguments import boolean

from fastconv._core.arguments cimport (
    LARGEST, array, float_type, image, image_array, is_channels_last, is_planar, pair, shape_text)
from fastconv._core.pack cimport Image
from fastconv._core.geometry cimport Axis, end_valid, first_valid, forward_axis, valid_taps
from fastconv._core.isa cimport fc_leaves, fc_pool, leaves
from fastconv._core.memory cimport Block, new_array, take
from fastconv._core.threads cimport parallel_for, team_size

cnp.import_array()

# Values that a task compares, lanes without a channel among them: some microseconds.
cdef Py_ssize_t TASK_VALUES = 32768

cdef struct Run:
    const fc_leaves* leaves
    int itemsize
    Py_ssize_t N, C
    Axis h, w
    Py_ssize_t rows, n_rows
    const Image* x
    const Image* y
    int32_t* indices              # places in the plane, same strides as y; or NULL
    uint8_t* taps                 # channels-last, or NULL
    char* scratch                 # per thread: x rows, y rows, indices; empty when channels-last
    Py_ssize_t x_scratch, y_scratch, thread_bytes


cdef int window_of(Window* k, size, stride, padding, dilation) except -1:
    pair(size, "size", 1, &k.KH, &k.KW)
    pair(size if stride is None else stride, "stride", 1, &k.sh, &k.sw)
    pair(padding, "padding", 0, &k.ph, &k.pw)
    pair(dilation, "dilation", 1, &k.dh, &k.dw)
    if 2 * k.ph > k.KH or 2 * k.pw > k.KW:
        raise ValueError(f"padding: expected at most half of size {size!r}, got {padding!r}")
    if <double>k.KH * k.KW > 0x7fffffff or <double>k.KH * k.dh + <double>k.KW * k.dw > LARGEST:
        # Their products with sizes of arrays stay below 2**63.
        raise ValueError(f"size: expected windows of fewer than 2**31 taps, and of an extent of "
                         f"at most {LARGEST}, got {size!r} with dilation {dilation!r}")
    return 0


def max_pool2d(x_, size, stride, padding, dilation, ceil_mode, return_indices):
    boolean("return_indices", return_indices)
    return pool(x_, size, stride, padding, dilation, ceil_mode, return_indices, False)


def global_max_pool2d(x_, return_indices):
    cdef cnp.ndarray x = array(x_, "x")
    # Whatever is wrong with another shape, `max_pool2d` says it.
    size = (1, 1)
    if x.ndim == 3 or x.ndim == 4:
        check_plane(x)
        size = (max(x.shape[x.ndim - 2], 1), max(x.shape[x.ndim - 1], 1))
    return max_pool2d(x, size, None, 0, 1, False, return_indices)


cdef int check_plane(cnp.ndarray x) except -1:
    """Places in a plane are int32."""
    if <double>x.shape[x.ndim - 2] * x.shape[x.ndim - 1] > 0x7fffffff:
        raise ValueError(f"x: expected planes of at most 2**31 - 1 pixels, got {shape_text(x)}")
    return 0


def max_pool2d_taps(x_, size, stride, padding, dilation, ceil_mode):
    cdef Window k
    window_of(&k, size, stride, padding, dilation)
    if k.KH * k.KW <= MOST_TAPS:
        return pool(x_, size, stride, padding, dilation, ceil_mode, False, True)
    # Too many for a byte: the places say it, and such windows are too rare for a faster way.
    y, places = pool(x_, size, stride, padding, dilation, ceil_mode, True, False)
    *_, OH, OW = y.shape
    *_, W = np.shape(x_)
    rows = places // W - (np.arange(OH)[:, None] * k.sh - k.ph)
    columns = places % W - (np.arange(OW) * k.sw - k.pw)
    taps = (rows // k.dh * k.KW + columns // k.dw).astype(np.int32)
    return y, np.moveaxis(np.ascontiguousarray(np.moveaxis(taps, -3, -1)), -1, -3)


cdef object pool(
    object x_, object size, object stride, object padding, object dilation, object ceil_mode,
    bint return_indices, bint return_taps
):
    cdef Run run
    cdef Image xi, yi
    cdef Window k
    cdef Py_ssize_t missing, lanes
    cdef Py_ssize_t shape[4]
    cdef Block block
    cdef int typenum, team
    cdef cnp.ndarray x = array(x_, "x")
    cdef cnp.ndarray y
    cdef cnp.ndarray winners = None
    if x.ndim != 3 and x.ndim != 4:
        raise ValueError(f"x: expected shape (N, C, H, W) or (C, H, W), got {shape_text(x)}")
    boolean("ceil_mode", ceil_mode)
    window_of(&k, size, stride, padding, dilation)
    typenum = float_type([x], ["x"])
    missing = 4 - x.ndim
    shape[0] = 1
    for i in range(x.ndim):
        shape[missing + i] = x.shape[i]
    if shape[1] < 1 or shape[2] < 1 or shape[3] < 1:
        raise ValueError(
            f"x: expected at least one channel, row and column, got {shape_text(x)}")
    check_plane(x)
    x = image_array(x, typenum)
    xi = image(x)
    pool_axis(&run.h, shape[2], k.KH, k.sh, k.ph, k.dh, ceil_mode)
    pool_axis(&run.w, shape[3], k.KW, k.sw, k.pw, k.dw, ceil_mode)
    if sees_nothing(&run.h) or sees_nothing(&run.w):
        raise ValueError(
            f"dilation: expected windows that each hold a pixel of x, got {dilation!r} with "
            f"padding {padding!r}")
    run.N, run.C = shape[0], shape[1]
    shape[2], shape[3] = run.h.n, run.w.n
    run.itemsize = 4 if typenum == cnp.NPY_FLOAT32 else 8
    run.leaves = leaves(run.itemsize)
    y = new_array(x.ndim, shape + missing, run.itemsize, is_channels_last(x))
    yi = image(y)
    run.indices, run.taps = NULL, NULL
    if return_indices:
        winners = new_array(x.ndim, shape + missing, 4, is_channels_last(x)).view(np.int32)
        run.indices = <int32_t*>cnp.PyArray_DATA(winners)
    elif return_taps:
        winners = new_taps(x.ndim, shape + missing)
        run.taps = <uint8_t*>cnp.PyArray_DATA(winners)
    run.x, run.y = &xi, &yi
    lanes = (run.C + run.leaves.vf - 1) // run.leaves.vf * run.leaves.vf
    run.rows = max(min(TASK_VALUES // (lanes * k.KH * k.KW * run.w.n), run.h.n), 1)
    run.n_rows = (run.h.n + run.rows - 1) // run.rows
    run.x_scratch = run.y_scratch = run.thread_bytes = 0
    if is_planar(&xi):
        run.x_scratch = min(run.h.source, (run.rows - 1) * k.sh + (k.KH - 1) * k.dh + 1)
        run.x_scratch *= run.w.source * run.C
        run.y_scratch = run.rows * run.w.n * run.C
        run.thread_bytes = ((run.x_scratch + run.y_scratch) * run.itemsize
                            + run.y_scratch * 4 + 127) // 64 * 64
    team = team_size(4.0 * run.N * lanes * run.h.n * run.w.n * k.KH * k.KW)
    block = take(team * run.thread_bytes)
    run.scratch = block.data
    with nogil:
        parallel_for(run.N * run.n_rows, team, pool_task, &run)
    return y if winners is None else (y, winners)


cdef object new_taps(int ndim, const Py_ssize_t* shape):
    """An uninitialised byte array (..., C, OH, OW) with its channels innermost in memory."""
    cdef Py_ssize_t n = 1, words
    cdef int i
    for i in range(ndim):
        n *= shape[i]
    words = (n + 3) // 4
    flat = new_array(1, &words, 4, False).view(np.uint8)[:n]
    if ndim == 3:
        return flat.reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1)
    return flat.reshape(shape[0], shape[2], shape[3], shape[1]).transpose(0, 3, 1, 2)


cdef int pool_axis(
    Axis* axis, Py_ssize_t n, Py_ssize_t taps, Py_ssize_t stride, Py_ssize_t pad,
    Py_ssize_t dilation, bint ceil_mode
) except -1:
    forward_axis(
        axis, n, extent(n, taps, stride, pad, dilation, ceil_mode), taps, stride, pad, dilation)
    return 0


cdef bint sees_nothing(const Axis* axis) noexcept:
    """Whether some window holds padding only."""
    cdef Py_ssize_t i, t0, t1
    for i in range(axis.n):
        valid_taps(axis, i, &t0, &t1)
        if t0 == t1:
            return True
    return False


cdef Py_ssize_t extent(
    Py_ssize_t n, Py_ssize_t taps, Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t dilation,
    bint ceil_mode
) except -1:
    """Windows along an axis; with ceil_mode also one that starts inside but ends outside."""
    cdef Py_ssize_t free = n + 2 * pad - (taps - 1) * dilation - 1, count
    if free < 0:
        raise ValueError(
            f"size: expected a window of at most the padded input's {n + 2 * pad}, "
            f"got {(taps - 1) * dilation + 1}")
    count = free // stride + 1
    if ceil_mode and free % stride and count * stride < n + pad:
        count += 1
    return count


cdef void pool_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    """One block of output rows of one image."""
    cdef Run* run = <Run*>context
    cdef Py_ssize_t n = number // run.n_rows, i0 = number % run.n_rows * run.rows
    cdef Py_ssize_t i1 = min(i0 + run.rows, run.h.n), size = run.itemsize
    cdef Py_ssize_t r0, r1, r
    cdef char* scratch = run.scratch + thread * run.thread_bytes
    cdef Image x = run.x[0], y = run.y[0]
    cdef Image out
    cdef int32_t* indices = run.indices
    cdef uint8_t* taps = run.taps
    cdef char* pooled
    cdef int32_t* index_rows
    x.data += n * x.sn * size
    y.data += n * y.sn * size
    if indices != NULL:
        indices += n * y.sn
    if taps != NULL:
        taps += n * run.h.n * run.w.n * run.C
    if run.thread_bytes == 0:
        pool_rows(run, i0, i1, &x, &y, indices, taps)
        return
    # Planar: transpose the rows these windows see, pool, transpose back.
    r0 = max(i0 * run.h.stride + run.h.offset, 0)
    r1 = min((i1 - 1) * run.h.stride + run.h.offset + (run.h.taps - 1) * run.h.offset_step + 1,
             run.h.source)
    for r in range(r0, r1):
        run.leaves.transpose(scratch + (r - r0) * run.w.source * run.C * size, run.C, NULL,
                             x.data + r * x.sh * size, x.sc, run.C, run.w.source)
    x.sc, x.sw, x.sh = 1, run.C, run.w.source * run.C
    x.data = scratch - r0 * x.sh * size
    pooled = scratch + run.x_scratch * size
    index_rows = <int32_t*>(pooled + run.y_scratch * size)
    out = y
    out.sc, out.sw, out.sh = 1, run.C, run.w.n * run.C
    out.data = pooled - i0 * out.sh * size
    pool_rows(run, i0, i1, &x, &out, index_rows - i0 * out.sh if indices != NULL else NULL, taps)
    run.leaves.transpose(y.data + i0 * y.sh * size, y.sc, NULL, pooled, run.C,
                         (i1 - i0) * run.w.n, run.C)
    if indices != NULL:
        # Transposing moves bits: an index travels as a float of its size.
        leaves(4).transpose(indices + i0 * y.sh, y.sc, NULL, index_rows, run.C,
                            (i1 - i0) * run.w.n, run.C)


cdef void pool_rows(
    const Run* run, Py_ssize_t i0, Py_ssize_t i1, const Image* x, const Image* y, int32_t* indices,
    uint8_t* taps
) noexcept nogil:
    """Rows of channels-last y; all windows that see all of their taps are one call per row."""
    cdef Py_ssize_t i, j, t0, t1, u0, u1, row, column, at, size = run.itemsize
    cdef Py_ssize_t whole0 = first_valid(&run.w, 0), whole1 = end_valid(&run.w, run.w.taps - 1)
    cdef fc_pool p
    # A vector from a pixel's last channels on still lies in the image if some pixels follow.
    cdef Py_ssize_t end = (run.h.source - 1) * x.sh + (run.w.source - 1) * x.sw + run.C
    p.channels = run.C
    p.x_n = run.w.stride * x.sw
    p.x_t, p.x_u = run.h.offset_step * x.sh, run.w.offset_step * x.sw
    p.index_t, p.index_u = <int32_t>(run.h.offset_step * run.w.source), <int32_t>run.w.offset_step
    p.index_n = <int32_t>run.w.stride
    if taps != NULL:
        p.index_t, p.index_u, p.index_n = <int32_t>run.w.taps, 1, 0
    p.indices, p.taps = NULL, NULL
    for i in range(i0, i1):
        valid_taps(&run.h, i, &t0, &t1)
        row = i * run.h.stride + run.h.offset + t0 * run.h.offset_step
        p.nt = t1 - t0
        j = 0
        while j < run.w.n:
            valid_taps(&run.w, j, &u0, &u1)
            p.n = whole1 - j if whole0 <= j < whole1 else 1
            column = j * run.w.stride + run.w.offset + u0 * run.w.offset_step
            p.nu = u1 - u0
            at = i * y.sh + j * y.sw
            p.x = x.data + (row * x.sh + column * x.sw) * size
            p.x_room = end - (row * x.sh + column * x.sw)
            p.y = y.data + at * size
            p.y_room = i1 * y.sh - at
            p.index = <int32_t>(row * run.w.source + column)
            if taps != NULL:
                p.index = <int32_t>(t0 * run.w.taps + u0)
                p.taps = taps + at
            elif indices != NULL:
                p.indices = indices + at
            run.leaves.max_pool(&p)
            j += p.n
        # end: j
    # end: i
