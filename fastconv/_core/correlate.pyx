# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The loop nest of the forward pass and of the gradient of the input.

    dst[n, co, i, j] = sum over t, u, ci of  src[n, ci, row(i, t), column(j, u)] * k[co, ci, t, u]

Lanes are output channels, rows of the register tile are output pixels.  The nest, from outside:

    task   (images, group, rows, columns, lane blocks)     in parallel
      ci block             source rows are packed when they are planar or need zero columns
        lane block         one panel of the packed kernel, in L2
          phase
            column tile, part         MR pixels, taps valid for all of them
              image, row              one call of the tile: sums t, u, ci in registers

Tasks write disjoint pixels and channels of the destination, so no two threads write one place.
A planar destination is collected as pixels of lanes in the task's scratch and transposed at the
end of the task.
"""

from libc.stdint cimport uintptr_t
from libc.string cimport memcpy, memset

from fastconv._core.geometry cimport Axis, span
from fastconv._core.isa cimport FC_MAX_MR, fc_tile, fc_tile_fn, tile_of
from fastconv._core.pack cimport Box, Image, pack_pixels
from fastconv._core.plan cimport ColumnTile, Lanes, Part, Plan
from fastconv._core.threads cimport parallel_for

cdef struct Run:
    const Plan* p
    const Image* src
    const Image* dst
    const char* kernel
    const char* bias          # V * vf values per group, or NULL
    char* packed
    char* scratch             # per thread: source, then destination
    bint relu
    bint streams

cdef struct Task:
    Py_ssize_t n0, n1, g, b0, b1, c0, c1, lanes0, lanes1
    Py_ssize_t column_block


cdef Py_ssize_t scratch_bytes(const Plan* p) noexcept nogil:
    """Bytes of scratch that one thread needs, a whole number of cache lines."""
    return ((p.src_scratch + p.dst_scratch) * p.itemsize + 127) // 64 * 64


cdef void correlate(
    const Plan* plan, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* packed, char* scratch, int team
) noexcept nogil:
    cdef Run run
    run.p, run.src, run.dst, run.kernel, run.bias = plan, src, dst, kernel, bias
    run.packed, run.scratch, run.relu = packed, scratch, relu
    run.streams = plan.streams and is_aligned(plan, dst)
    parallel_for(plan.G * plan.n_lanes, team, pack_kernel_task, &run)
    parallel_for(plan.n_tasks, team, correlate_task, &run)


cdef bint is_aligned(const Plan* p, const Image* dst) noexcept nogil:
    """Whether every vector of lanes begins at a multiple of its size."""
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
    cdef Py_ssize_t co0 = lanes.c0, ci, v, count
    # The kernel array is (OC, IC / G, KH, KW).
    cdef Py_ssize_t k_co = taps if p.flipped else depth
    cdef Py_ssize_t k_ci = p.CO * taps if p.flipped else taps
    cdef const char* k = run.kernel + (g * p.CO * depth + co0 * k_co) * size
    cdef char* panel = run.packed + (g * p.V + lanes.v0) * p.vf * depth * size
    if lanes.count < width:
        memset(panel, 0, depth * width * size)
    if k_co == 1:
        for ci in range(p.CI):
            memcpy(panel + p.order[ci] * width * size, k + ci * k_ci * size, lanes.count * size)
        return
    for v in range(lanes.nr):
        count = min(p.vf, lanes.count - v * p.vf)
        if k_ci == taps:
            p.leaves.transpose(panel + v * p.vf * size, width, p.order,
                               k + v * p.vf * k_co * size, k_co, count, depth)
        else:
            for ci in range(p.CI):
                p.leaves.transpose(panel + v * p.vf * size, width, p.order + ci * taps,
                                   k + (v * p.vf * k_co + ci * k_ci) * size, k_co, count, taps)


# ---- a task -----------------------------------------------------------------------------------

cdef void correlate_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef Run* run = <Run*>context
    cdef const Plan* p = run.p
    cdef Task task
    cdef Image src, dst
    cdef Lanes* lanes
    cdef Py_ssize_t block, ci_index, ci0, ci_len, first, size = p.itemsize
    cdef char* panel
    cdef char* scratch = run.scratch + thread * scratch_bytes(p)
    cdef int ph, pw
    cdef bint packs = p.src_scratch > 0
    unpack_task(p, number, &task)

    if p.dst_scratch > 0:
        scratch_image(run, &task, scratch + p.src_scratch * size, &dst)
    else:
        dst = run.dst[0]
        dst.data += task.g * p.CO * dst.sc * size
    for ci_index in range(p.n_ci):
        ci0 = ci_index * p.ci_block
        ci_len = min(p.ci_block, p.CI - ci0)
        if packs and p.lanewise:
            # The nest adds a lane's channel.
            first = p.lanes[task.lanes0].c0
            pack_source(run, &task, first, lanes_end(p, &task), scratch, &src)
            src.data -= first * size
        elif packs:
            first = task.g * p.CI + ci0
            pack_source(run, &task, first, first + ci_len, scratch, &src)
        else:
            src = run.src[0]
            src.data += (task.g * p.CI + ci0) * src.sc * size
        for block in range(task.lanes0, task.lanes1):
            lanes = &p.lanes[block]
            panel = run.packed + (task.g * p.V + lanes.v0) * p.vf * p.CI * p.KH * p.KW * size
            for ph in range(p.n_h):
                for pw in range(p.n_w):
                    sweep(run, &task, lanes, ph, pw, ci0, ci_len, &src, panel, &dst)
        # end: block
    # end: ci_index
    if p.dst_scratch > 0:
        write_planes(run, &task, &dst)
    if run.streams:
        p.leaves.fence()


cdef inline Py_ssize_t lanes_end(const Plan* p, const Task* task) noexcept nogil:
    """One past the last channel of a task."""
    cdef Lanes* last = &p.lanes[task.lanes1 - 1]
    return last.c0 + last.count


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


cdef void sweep(
    const Run* run, const Task* task, const Lanes* lanes, int ph, int pw,
    Py_ssize_t ci0, Py_ssize_t ci_len, const Image* src, const char* panel, const Image* dst
) noexcept nogil:
    """One phase of a task for one block of lanes and one block of reduced channels."""
    cdef const Plan* p = run.p
    cdef const Axis* h = &p.h[ph]
    cdef const Axis* w = &p.w[pw]
    cdef Py_ssize_t width = lanes.nr * p.vf, size = p.itemsize
    cdef Py_ssize_t entry = ((lanes.nr - 1) * p.n_w + pw) * p.n_columns + task.column_block
    cdef Py_ssize_t index, at
    cdef ColumnTile* tile
    cdef Part all
    cdef bint first = ci0 == 0, last = ci0 + ci_len == p.CI
    cdef bint starts, alone
    cdef fc_tile t
    t.lanes = lanes.count
    t.row_bias = NULL
    t.b = panel + (p.phase_row[ph * p.n_w + pw] + ci0 * h.taps * w.taps) * width * size
    t.a_t, t.a_k = h.offset_step * src.sh, w.offset_step * src.sw if p.lanewise else 1
    t.b_t, t.b_k = w.taps * ci_len * width, width
    if p.merged:
        t.a_u = t.b_u = 0
    else:
        t.a_u, t.b_u = w.offset_step * src.sw, ci_len * width
    cdef const char* bias = NULL
    if run.bias != NULL:
        bias = run.bias + (task.g * p.V * p.vf + lanes.c0) * size

    for index in range(p.tile0[entry], p.tile0[entry + 1]):
        tile = &p.tiles[index]
        all.u0 = all.u1 = 0
        all.j0, all.j1 = tile.j0, tile.j1
        starts = tile.part0 < tile.part1 and (
            p.parts[tile.part0].j0 == tile.j0 and p.parts[tile.part0].j1 == tile.j1)
        t.accumulate, t.relu, t.lane_bias = not first, False, bias if first else NULL
        t.stream = False
        if first and not starts:
            # No tap is valid for every column: begin with the bias alone.
            run_part(p, task, h, w, &all, ci_len, src, dst, lanes, &t)
            t.accumulate, t.lane_bias = True, NULL
        for at in range(tile.part0, tile.part1):
            alone = last and starts and tile.part1 - tile.part0 == 1
            t.relu = run.relu and alone
            # What is added to soon stays in the caches.
            t.stream = run.streams and alone and lanes.c0 % p.vf == 0
            run_part(p, task, h, w, &p.parts[at], ci_len, src, dst, lanes, &t)
            t.accumulate, t.lane_bias = True, NULL
        if run.relu and last and not t.relu:
            t.relu, t.stream = True, False
            run_part(p, task, h, w, &all, ci_len, src, dst, lanes, &t)
    # end: index


cdef void run_part(
    const Plan* p, const Task* task, const Axis* h, const Axis* w, const Part* part,
    Py_ssize_t ci_len, const Image* src, const Image* dst, const Lanes* lanes, fc_tile* whole
) noexcept nogil:
    """One part of a column tile, down all rows and images of the task."""
    cdef Py_ssize_t a_off[FC_MAX_MR]
    cdef Py_ssize_t c_off[FC_MAX_MR]
    cdef Py_ssize_t columns = part.j1 - part.j0, size = p.itemsize
    cdef Py_ssize_t i0 = min(task.b0, h.n), i1 = min(task.b1, h.n)
    cdef Py_ssize_t n, i, j, q, joined, rows = 0, t0, t1
    cdef const Py_ssize_t* valid = p.valid + 2 * (h - p.h) * p.h[0].n
    cdef fc_tile_fn run = NULL
    cdef fc_tile t = whole[0]
    t.a_off, t.c_off = a_off, c_off
    t.b = <const char*>whole.b + part.u0 * ci_len * lanes.nr * p.vf * size
    if p.merged:
        t.nu, t.nk = 1, (part.u1 - part.u0) * ci_len
    else:
        t.nu, t.nk = part.u1 - part.u0, ci_len
    cdef const char* a = src.data + (w.offset + part.u0 * w.offset_step) * src.sw * size
    cdef char* c = dst.data + lanes.c0 * size
    cdef const char* b = <const char*>t.b
    if p.lanewise:
        a += lanes.c0 * size
    n = task.n0
    while n < task.n1:
        joined = min(p.joined, task.n1 - n)
        if joined * columns != rows:
            rows = joined * columns
            run = tile_of(p.leaves, p.lanewise, rows, lanes.nr)
            for q in range(joined):
                for j in range(columns):
                    a_off[q * columns + j] = q * src.sn + (part.j0 + j) * w.stride * src.sw
                    c_off[q * columns + j] = (
                        q * dst.sn + (w.start + (part.j0 + j) * w.step) * dst.sw)
        for i in range(i0, i1):
            t0, t1 = valid[2 * i], valid[2 * i + 1]
            t.nt = t1 - t0 if part.u1 > part.u0 else 0
            t.a = a + (n * src.sn + (i * h.stride + h.offset + t0 * h.offset_step) * src.sh) * size
            t.b = b + t0 * t.b_t * size
            t.c = c + (n * dst.sn + (h.start + i * h.step) * dst.sh) * size
            run(&t)
        # end: i
        n += joined
    # end: n


# ---- planar sources and destinations -------------------------------------------------------------

cdef void pack_source(
    const Run* run, const Task* task, Py_ssize_t c0, Py_ssize_t c1, char* scratch, Image* view
) noexcept nogil:
    """Channels [c0, c1) of all that a task reads."""
    cdef const Plan* p = run.p
    cdef Box box
    box.n0, box.n1, box.c0, box.c1 = task.n0, task.n1, c0, c1
    box.H, box.W = p.src_h, p.src_w
    span(p.h, p.n_h, task.b0, task.b1, &box.r0, &box.r1)
    span(p.w, p.n_w, task.c0, task.c1, &box.x0, &box.x1)
    # No tap reads a row outside, and without `padded` no column either.
    box.r0, box.r1 = max(box.r0, 0), min(box.r1, p.src_h)
    if not p.padded:
        box.x0, box.x1 = max(box.x0, 0), min(box.x1, p.src_w)
    pack_pixels(p.leaves, p.itemsize, run.src, &box, scratch, view)


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
    for n in range(task.n0, task.n1):
        to = dst.data + (n * dst.sn + (task.g * p.CO + co0) * dst.sc
                         + r0 * dst.sh + x0 * dst.sw) * size
        pixel = view.data + (n * view.sn + r0 * view.sh + x0 * view.sw + co0) * size
        if whole:
            p.leaves.transpose(to, dst.sc, NULL, pixel, view.sw, (r1 - r0) * pixels, count)
        else:
            for r in range(r1 - r0):
                p.leaves.transpose(to + r * dst.sh * size, dst.sc, NULL,
                                   pixel + r * view.sh * size, view.sw, pixels, count)
    # end: n
