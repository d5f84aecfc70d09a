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
"""

from fastconv._core.geometry cimport Axis
from fastconv._core.isa cimport FC_MAX_MR, fc_tile, fc_tile_fn
from fastconv._core.pack cimport Image
from fastconv._core.plan cimport ColumnTile, Lanes, Part, Plan
from fastconv._core.task cimport (
    Run, Task, pack_source, run_tasks, scratch_bytes, scratch_image, unpack_task, write_planes)

cdef void correlate(
    const Plan* plan, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* packed, char* scratch, int team
) noexcept nogil:
    run_tasks(plan, src, kernel, bias, dst, relu, packed, scratch, team, correlate_task)


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
        if packs:
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
    t.a_t, t.a_k = h.offset_step * src.sh, 1
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
    n = task.n0
    while n < task.n1:
        joined = min(p.joined, task.n1 - n)
        if joined * columns != rows:
            rows = joined * columns
            run = p.leaves.tile[lanes.nr - 1][rows - 1]
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


