# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""What the tasks of the correlation's nests share: their extent, packed kernels and packed images.

A nest with channels in the lanes (``correlate``, ``depthwise``) is a function of one task's number;
``run_tasks`` packs the kernel, then runs them all.  A planar source is packed, and a planar
destination collected as pixels of lanes and transposed, in the scratch of the task's thread.
"""

from libc.stdint cimport uintptr_t
from libc.string cimport memcpy, memset

from fastconv._core.geometry cimport span
from fastconv._core.isa cimport fc_transpose_fn
from fastconv._core.pack cimport Box, Image, is_gapless, pack_box
from fastconv._core.plan cimport Lanes, Plan, ceil_div
from fastconv._core.threads cimport interrupted, parallel_for, task_fn


# Reduced channels that a task deals out to all panels, and how many to one before the next: a panel
# gets a stretch for each tap, and their part of the kernel stays in the caches.
cdef Py_ssize_t PACK_ROWS = 32
cdef Py_ssize_t PACK_TOGETHER = 8
# After so many blocks of a row it asks whether to go on.
cdef enum:
    ASK_BLOCKS = 64


cdef int run_tasks(
    const Plan* plan, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* packed, char* scratch, int team, task_fn task
) except -1 nogil:
    cdef Run run
    run.p, run.src, run.dst, run.kernel, run.bias = plan, src, dst, kernel, bias
    run.packed, run.scratch, run.relu = packed, scratch, relu
    # A planar destination's alignment depends on the task: see write_planes.
    run.streams = plan.streams and (plan.dst_scratch > 0 or is_aligned(plan, dst))
    run.asks_src = plan.asks and plan.G == 1 and plan.src_scratch == 0 and is_gapless(
        src, plan.N, plan.CO if plan.lanewise else plan.CI, plan.src_h, plan.src_w)
    run.asks_dst = plan.asks and plan.G == 1 and plan.dst_scratch == 0 and not run.streams and (
        is_gapless(dst, plan.N, plan.CO, plan.dst_h, plan.dst_w))
    if kernel == NULL:
        pass                # it is packed already
    elif plan.flipped and not plan.lanewise:
        parallel_for(plan.G * ceil_div(plan.CI, PACK_ROWS), team, pack_channels_task, &run)
    else:
        parallel_for(plan.G * plan.n_lanes, team, pack_kernel_task, &run)
    parallel_for(plan.n_tasks, team, task, &run)


cdef Py_ssize_t scratch_bytes(const Plan* p) noexcept nogil:
    """Bytes of scratch that one thread needs, a whole number of cache lines."""
    return ((p.src_scratch + p.row_scratch + p.dst_scratch) * p.itemsize + 127) // 64 * 64


cdef bint is_aligned(const Plan* p, const Image* dst) noexcept nogil:
    """Whether every vector of a channels-last image's lanes begins at a multiple of its size."""
    return (<uintptr_t>dst.data % (p.vf * p.itemsize) == 0 and dst.sn % p.vf == 0
            and dst.sh % p.vf == 0 and dst.sw % p.vf == 0 and (p.G == 1 or p.CO % p.vf == 0))


# ---- the kernel -------------------------------------------------------------------------------

cdef void pack_kernel_task(void* context, Py_ssize_t task, int thread) noexcept nogil:
    """Pack one block of lanes of one group: rows (phase, ci block, t, u, ci) of nr*vf lanes."""
    cdef Run* run = <Run*>context
    cdef const Plan* p = run.p
    cdef Py_ssize_t g = task // p.n_lanes
    cdef Lanes* lanes = &p.lanes[task % p.n_lanes]
    cdef Py_ssize_t taps = p.KH * p.KW, depth = p.CI * taps, size = p.itemsize
    cdef Py_ssize_t width = lanes.nr * p.vf
    cdef Py_ssize_t co0 = lanes.c0, v, count
    # The kernel array is (OC, IC / G, KH, KW).
    cdef const char* k = run.kernel + (g * p.CO + co0) * depth * size
    cdef char* panel = run.packed + (g * p.V + lanes.v0) * p.vf * depth * size
    if lanes.count < width:
        memset(panel, 0, depth * width * size)
    if p.flipped and p.spread.index != NULL:
        pack_spread_kernel(p, lanes, run.kernel, panel)
        return
    for v in range(lanes.nr):
        count = min(p.vf, lanes.count - v * p.vf)
        p.leaves.transpose(panel + v * p.vf * size, width, p.order,
                           k + v * p.vf * depth * size, depth, count, depth)


cdef void pack_channels_task(void* context, Py_ssize_t task, int thread) noexcept nogil:
    """For the gradient of the input: the rows of some reduced channels, into all panels.

    Of the kernel array they take one stretch, and of a panel one for each tap.
    """
    cdef Run* run = <Run*>context
    cdef const Plan* p = run.p
    cdef Py_ssize_t blocks = ceil_div(p.CI, PACK_ROWS), taps = p.KH * p.KW, block, some
    cdef Py_ssize_t g = task // blocks, first = task % blocks * PACK_ROWS
    cdef Py_ssize_t end = min(first + PACK_ROWS, p.CI)
    while first < end:
        some = min(1 if taps == 1 else PACK_TOGETHER, end - first)
        for block in range(p.n_lanes):
            # The first rows are the first to touch the pages of all panels.
            if block % ASK_BLOCKS == ASK_BLOCKS - 1 and interrupted():
                return
            pack_channels(run, g, &p.lanes[block], first, first + some)
        first += some
    # end: first


cdef void pack_channels(
    const Run* run, Py_ssize_t g, const Lanes* lanes, Py_ssize_t ci0, Py_ssize_t ci1
) noexcept nogil:
    """The rows of reduced channels [ci0, ci1) in one panel."""
    cdef const Plan* p = run.p
    cdef Py_ssize_t size = p.itemsize, taps = p.KH * p.KW, width = lanes.nr * p.vf, ci, v, t
    cdef const Py_ssize_t* rows
    cdef char* panel = run.packed + (g * p.V + lanes.v0) * p.vf * p.CI * taps * size
    cdef const char* k
    for ci in range(ci0, ci1):
        rows = p.order + ci * taps
        k = run.kernel + ((g * p.CI + ci) * p.CO + lanes.c0) * taps * size
        if taps == 1:
            memcpy(panel + rows[0] * width * size, k, lanes.count * size)
        else:
            for v in range(lanes.nr):
                p.leaves.transpose(panel + v * p.vf * size, width, rows,
                                   k + v * p.vf * taps * size, taps,
                                   min(p.vf, lanes.count - v * p.vf), taps)
        if lanes.count < width:
            for t in range(taps):
                memset(panel + (rows[t] * width + lanes.count) * size, 0,
                       (width - lanes.count) * size)


cdef void pack_spread_kernel(
    const Plan* p, const Lanes* lanes, const char* kernel, char* panel
) noexcept nogil:
    """For the gradient of the input: lane c is channel c % CO of group c // CO."""
    cdef Py_ssize_t taps = p.KH * p.KW, CO = p.spread.CO, size = p.itemsize
    cdef Py_ssize_t width = lanes.nr * p.vf, lane, c, ci, count
    lane = 0
    while lane < lanes.count:
        c = lanes.c0 + lane
        count = min(CO - c % CO, lanes.count - lane)
        for ci in range(p.CI):
            p.leaves.transpose(panel + lane * size, width, p.order + ci * taps,
                               kernel + ((c // CO * p.CI + ci) * CO + c % CO) * taps * size,
                               taps, count, taps)
        lane += count


# ---- extents ------------------------------------------------------------------------------------

cdef void unpack_task(const Plan* p, Py_ssize_t number, Task* task) noexcept nogil:
    cdef Py_ssize_t at
    at, number = number % p.n_splits, number // p.n_splits
    task.lanes0 = at * p.split
    task.lanes1 = p.n_lanes if at == p.n_splits - 1 else task.lanes0 + p.split
    at, number = number % p.n_columns, number // p.n_columns
    task.column_block = at
    task.c0, task.c1 = at * p.columns, min((at + 1) * p.columns, p.w[0].n)
    at, number = number % p.n_rows, number // p.n_rows
    task.b0, task.b1 = at * p.rows, min((at + 1) * p.rows, p.h[0].n)
    task.g, number = number % p.G, number // p.G
    task.n0, task.n1 = number * p.images, min((number + 1) * p.images, p.N)


cdef Py_ssize_t lanes_end(const Plan* p, const Task* task) noexcept nogil:
    """One past the last channel of a task."""
    cdef Lanes* last = &p.lanes[task.lanes1 - 1]
    return last.c0 + last.count


# ---- planar sources and destinations -------------------------------------------------------------

cdef void pack_source(
    const Run* run, const Task* task, Py_ssize_t c0, Py_ssize_t c1, char* scratch, Image* view
) noexcept nogil:
    """Channels [c0, c1) of all that a task reads."""
    cdef const Plan* p = run.p
    cdef Box box
    box.n0, box.n1, box.c0, box.c1 = task.n0, task.n1, c0, c1
    box.pitch = c1 - c0 if p.lanewise else p.pitch
    box.H, box.W = p.src_h, p.src_w
    span(p.h, p.n_h, task.b0, task.b1, &box.r0, &box.r1)
    span(p.w, p.n_w, task.c0, task.c1, &box.x0, &box.x1)
    # No tap reads a row outside, and without `padded` no column either.
    box.r0, box.r1 = max(box.r0, 0), min(box.r1, p.src_h)
    if not p.padded:
        box.x0, box.x1 = max(box.x0, 0), min(box.x1, p.src_w)
    pack_box(p.leaves, p.itemsize, run.src, &box, &p.spread, scratch,
             scratch + p.src_scratch * p.itemsize, view)


cdef void scratch_image(
    const Run* run, const Task* task, char* scratch, Image* view
) noexcept nogil:
    """A task's part of a planar destination as pixels of lanes, addressed like the destination."""
    cdef const Plan* p = run.p
    cdef Py_ssize_t rows, columns, r0 = task.b0 * p.n_h, x0 = task.c0 * p.n_w
    cdef Lanes* first = &p.lanes[task.lanes0]
    cdef Lanes* last = &p.lanes[task.lanes1 - 1]
    rows = min(task.b1 * p.n_h, p.dst_h) - r0
    columns = min(task.c1 * p.n_w, p.dst_w) - x0
    view.sc = 1
    view.sw = last.c0 + last.nr * p.vf - first.c0
    view.sh = columns * view.sw
    view.sn = rows * view.sh
    view.data = scratch - (task.n0 * view.sn + r0 * view.sh + x0 * view.sw
                           + first.c0) * p.itemsize


cdef void write_planes(const Run* run, const Task* task, const Image* view) noexcept nogil:
    """Transpose a task's pixels of lanes into the planes of the destination."""
    cdef const Plan* p = run.p
    cdef const Image* dst = run.dst
    cdef Py_ssize_t size = p.itemsize, n, r
    cdef Py_ssize_t co0 = p.lanes[task.lanes0].c0, count = lanes_end(p, task) - co0
    cdef Py_ssize_t r0 = task.b0 * p.n_h, r1 = min(task.b1 * p.n_h, p.dst_h)
    cdef Py_ssize_t x0 = task.c0 * p.n_w, x1 = min(task.c1 * p.n_w, p.dst_w)
    cdef Py_ssize_t pixels = x1 - x0
    cdef bint whole = dst.sh == pixels * dst.sw
    cdef char* to
    cdef const char* pixel
    cdef fc_transpose_fn turn
    for n in range(task.n0, task.n1):
        to = dst.data + (n * dst.sn + (task.g * p.CO + co0) * dst.sc
                         + r0 * dst.sh + x0 * dst.sw) * size
        pixel = view.data + (n * view.sn + r0 * view.sh + x0 * view.sw + co0) * size
        if whole:
            turn = p.leaves.transpose
            if (run.streams and dst.sc % p.vf == 0
                    and <uintptr_t>to % (p.vf * p.itemsize) == 0):
                turn = p.leaves.transpose_stream
            turn(to, dst.sc, NULL, pixel, view.sw, (r1 - r0) * pixels, count)
        else:
            for r in range(r1 - r0):
                p.leaves.transpose(to + r * dst.sh * size, dst.sc, NULL,
                                   pixel + r * view.sh * size, view.sw, pixels, count)
    # end: n
