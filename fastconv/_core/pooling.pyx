# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Max pooling: the door and the loop nests of both passes.

Channels lie in the lanes.  A planar array is transposed rows at a time into the task's scratch,
pooled there and transposed back.  A forward task is (image, block of output rows) and writes its
own rows; a backward task is an image, so that overlapping windows add up within one thread.

The winner of a window is the first of equal values, and any NaN wins over numbers.  Padding never
wins: windows are cut to the image.
"""

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

import numpy as np

from fastconv._core.arguments cimport (
    array, float_type, image, image_array, integer, is_channels_last, is_planar, pair, shape_text)
from fastconv._core.pack cimport Image
from fastconv._core.geometry cimport Axis, forward_axis, valid_taps
from fastconv._core.isa cimport fc_leaves, fc_pool, leaves
from fastconv._core.memory cimport Block, new_array, take
from fastconv._core.threads cimport parallel_for, team_size

cnp.import_array()

# Output pixels of a task.
cdef Py_ssize_t TASK_PIXELS = 64

cdef struct Run:
    const fc_leaves* leaves
    int itemsize
    Py_ssize_t N, C
    Axis h, w
    Py_ssize_t rows, n_rows
    const Image* x
    const Image* y
    int32_t* indices              # same strides as y, or NULL
    char* scratch                 # per thread: x rows, y rows, indices; empty when channels-last
    Py_ssize_t x_scratch, y_scratch, thread_bytes


def max_pool2d(x_, size, stride, padding, dilation, ceil_mode, return_indices):
    cdef Run run
    cdef Image xi, yi
    cdef Py_ssize_t KH, KW, sh, sw, ph, pw, dh, dw, missing
    cdef Py_ssize_t shape[4]
    cdef Block block
    cdef int typenum, team
    cdef cnp.ndarray x = array(x_, "x")
    cdef cnp.ndarray y
    cdef cnp.ndarray indices = None
    if x.ndim != 3 and x.ndim != 4:
        raise ValueError(f"x: expected shape (N, C, H, W) or (C, H, W), got {shape_text(x)}")
    for name, switch in (("ceil_mode", ceil_mode), ("return_indices", return_indices)):
        if not isinstance(switch, (bool, np.bool_)):
            raise TypeError(f"{name}: expected a bool, got {switch!r}")
    pair(size, "size", 1, &KH, &KW)
    pair(size if stride is None else stride, "stride", 1, &sh, &sw)
    pair(padding, "padding", 0, &ph, &pw)
    pair(dilation, "dilation", 1, &dh, &dw)
    if 2 * ph > KH or 2 * pw > KW:
        raise ValueError(f"padding: expected at most half of size {size!r}, got {padding!r}")
    typenum = float_type([x], ["x"])
    missing = 4 - x.ndim
    shape[0] = 1
    for i in range(x.ndim):
        shape[missing + i] = x.shape[i]
    if shape[1] < 1 or shape[2] < 1 or shape[3] < 1:
        raise ValueError(
            f"x: expected at least one channel, row and column, got {shape_text(x)}")
    if shape[2] * shape[3] > 0x7fffffff:
        raise ValueError(f"x: expected planes of at most 2**31 - 1 pixels, got {shape_text(x)}")
    x = image_array(x, typenum)
    xi = image(x)
    forward_axis(&run.h, shape[2], extent(shape[2], KH, sh, ph, dh, ceil_mode), KH, sh, ph, dh)
    forward_axis(&run.w, shape[3], extent(shape[3], KW, sw, pw, dw, ceil_mode), KW, sw, pw, dw)
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
    run.indices = NULL
    if return_indices:
        indices = new_array(x.ndim, shape + missing, 4, is_channels_last(x)).view(np.int32)
        run.indices = <int32_t*>cnp.PyArray_DATA(indices)
    run.x, run.y = &xi, &yi
    run.rows = max(min(TASK_PIXELS // run.w.n, run.h.n), 1)
    run.n_rows = (run.h.n + run.rows - 1) // run.rows
    run.x_scratch = run.y_scratch = run.thread_bytes = 0
    if is_planar(&xi):
        run.x_scratch = min(run.h.source, (run.rows - 1) * sh + (KH - 1) * dh + 1)
        run.x_scratch *= run.w.source * run.C
        run.y_scratch = run.rows * run.w.n * run.C
        run.thread_bytes = ((run.x_scratch + run.y_scratch) * run.itemsize
                            + run.y_scratch * 4 + 127) // 64 * 64
    team = team_size(2.0 * run.N * run.C * run.h.n * run.w.n * KH * KW)
    block = take(team * run.thread_bytes)
    run.scratch = block.data
    with nogil:
        parallel_for(run.N * run.n_rows, team, pool_task, &run)
    return (y, indices) if return_indices else y


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
    cdef char* pooled
    cdef int32_t* index_rows
    x.data += n * x.sn * size
    y.data += n * y.sn * size
    if indices != NULL:
        indices += n * y.sn
    if run.thread_bytes == 0:
        pool_rows(run, i0, i1, &x, &y, indices)
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
    pool_rows(run, i0, i1, &x, &out, index_rows - i0 * out.sh if indices != NULL else NULL)
    run.leaves.transpose(y.data + i0 * y.sh * size, y.sc, NULL, pooled, run.C,
                         (i1 - i0) * run.w.n, run.C)
    if indices != NULL:
        # Transposing moves bits: an index travels as a float of its size.
        leaves(4).transpose(indices + i0 * y.sh, y.sc, NULL, index_rows, run.C,
                            (i1 - i0) * run.w.n, run.C)


cdef void pool_rows(
    const Run* run, Py_ssize_t i0, Py_ssize_t i1, const Image* x, const Image* y, int32_t* indices
) noexcept nogil:
    cdef Py_ssize_t i, j, t0, t1, u0, u1, row, column, size = run.itemsize
    cdef fc_pool p
    # A vector from a pixel's last channels on still lies in the image if some pixels follow.
    cdef const char* end = x.data + ((run.h.source - 1) * x.sh + (run.w.source - 1) * x.sw
                                     + run.C) * size
    cdef Py_ssize_t reach = run.leaves.vf * size
    p.channels = run.C
    p.x_t, p.x_u = run.h.offset_step * x.sh, run.w.offset_step * x.sw
    p.index_t, p.index_u = <int32_t>(run.h.offset_step * run.w.source), <int32_t>run.w.offset_step
    p.indices = NULL
    for i in range(i0, i1):
        valid_taps(&run.h, i, &t0, &t1)
        row = i * run.h.stride + run.h.offset + t0 * run.h.offset_step
        p.nt = t1 - t0
        for j in range(run.w.n):
            valid_taps(&run.w, j, &u0, &u1)
            column = j * run.w.stride + run.w.offset + u0 * run.w.offset_step
            p.nu = u1 - u0
            p.index = <int32_t>(row * run.w.source + column)
            p.x = x.data + (row * x.sh + column * x.sw) * size
            p.over_read = (<const char*>p.x + (run.C + (p.nt - 1) * p.x_t + (p.nu - 1) * p.x_u)
                           * size + reach <= end)
            p.y = y.data + (i * y.sh + j * y.sw) * size
            if indices != NULL:
                p.indices = indices + i * y.sh + j * y.sw
            run.leaves.max_pool(&p)
        # end: j
    # end: i


# ---- backward ---------------------------------------------------------------------------------

cdef struct Scatter:
    Py_ssize_t N, C, pixels, plane     # pixels of dy, of dx
    int itemsize
    const fc_leaves* leaves
    char* dx
    const char* dy
    const int32_t* indices
    bint channels_last
    int64_t bad                        # an index outside the plane, or -1


def max_pool2d_backward(dy_, indices_, input_shape):
    cdef Scatter run
    cdef cnp.ndarray dy = array(dy_, "dy")
    cdef cnp.ndarray indices = array(indices_, "indices")
    cdef cnp.ndarray dx
    cdef Py_ssize_t shape[4]
    cdef int typenum, team, i, missing
    if dy.ndim != 3 and dy.ndim != 4:
        raise ValueError(f"dy: expected shape (N, C, OH, OW) or (C, OH, OW), got {shape_text(dy)}")
    if (<object>indices).shape != (<object>dy).shape:
        raise ValueError(
            f"indices: expected dy's shape {shape_text(dy)}, got {shape_text(indices)}")
    if not cnp.PyTypeNum_ISINTEGER(cnp.PyArray_TYPE(indices)):
        raise TypeError(f"indices: expected an integer array, got dtype {indices.dtype}")
    missing = 4 - dy.ndim
    try:
        input_shape = tuple(input_shape)
    except TypeError:
        raise TypeError(f"input_shape: expected a tuple of sizes, got {input_shape!r}") from None
    if len(input_shape) != dy.ndim:
        raise ValueError(f"input_shape: expected {dy.ndim} sizes like dy's, got {input_shape}")
    shape[0] = 1
    for i in range(dy.ndim):
        shape[missing + i] = integer(input_shape[i], "input_shape", 0)
    for i in range(dy.ndim - 2):
        if shape[missing + i] != dy.shape[i]:
            raise ValueError(
                f"input_shape: expected dy's batch and channels {shape_text(dy)}, "
                f"got {input_shape}")
    typenum = float_type([dy], ["dy"])
    run.itemsize = 4 if typenum == cnp.NPY_FLOAT32 else 8
    run.leaves = leaves(run.itemsize)
    run.channels_last = is_channels_last(dy)
    order = [0, 2, 3, 1][missing:] if missing == 0 else [1, 2, 0]
    dy = np.asarray(dy, dtype=np.float32 if run.itemsize == 4 else np.float64)
    if indices.dtype != np.int32:
        # Too large for int32 is outside any plane too.
        indices = np.where((indices >= 0) & (indices <= 0x7fffffff), indices, -1).astype(np.int32)
    if run.channels_last:
        dy = np.ascontiguousarray(dy.transpose(order))
        indices = np.ascontiguousarray(indices.transpose(order))
    else:
        dy, indices = np.ascontiguousarray(dy), np.ascontiguousarray(indices)
    dx = new_array(dy.ndim, shape + missing, run.itemsize, run.channels_last)
    run.N, run.C, run.plane = shape[0], shape[1], shape[2] * shape[3]
    run.pixels = dy.size // max(run.N * run.C, 1)
    run.dx, run.dy = <char*>cnp.PyArray_DATA(dx), <const char*>cnp.PyArray_DATA(dy)
    run.indices = <const int32_t*>cnp.PyArray_DATA(indices)
    run.bad = -1
    team = team_size(2.0 * run.N * run.C * (8 * run.pixels + run.plane))
    with nogil:
        parallel_for(run.N, team, scatter_task, &run)
    if run.bad >= 0:
        raise ValueError(
            f"indices: expected flat positions below {run.plane}, the pixels of a plane of "
            f"input_shape {input_shape}, got {run.indices[run.bad]}")
    return dx


cdef void scatter_task(void* context, Py_ssize_t n, int thread) noexcept nogil:
    """Add one image's gradients where its windows found their maxima."""
    cdef Scatter* run = <Scatter*>context
    cdef Py_ssize_t c, at, stopped, size = run.itemsize
    cdef Py_ssize_t planes = 1 if run.channels_last else run.C
    cdef Py_ssize_t channels = run.C // planes
    cdef char* dx = run.dx + n * run.C * run.plane * size
    memset(dx, 0, run.C * run.plane * size)
    for c in range(planes):
        at = n * run.C * run.pixels + c * run.pixels
        stopped = run.leaves.unpool(dx + c * run.plane * size, run.dy + at * size,
                                    run.indices + at, run.pixels, channels, run.plane)
        if stopped >= 0:
            # Any thread may be the last to say so: the message names one of the bad indices.
            run.bad = at + stopped
            return
