# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The correlation with pixels in the lanes, for few output channels.

The same sum as in ``correlate`` with the roles of the tile's operands swapped: rows of the
register tile are output channels, whose kernel values are broadcast from the kernel array as it
lies; lanes are neighbouring output pixels, and a tap is a shifted read of a packed plane.  Shifted
vectors lie across the ends of cache lines: with few rows to serve, they are narrow where that is
no slower (``unaligned_leaves``).

    task   (image, group, rows)                        in parallel
      ci block           planes of the source packed between zeros, columns by remainder of the
                         stride, so that the pixels of a tap are neighbours
        phase, channels  MR output channels
          row            or all rows at once where rows are short (`flat`): the lanes then run
            lanes        on over the ends of rows, and what they compute there is dropped

A task's outputs are collected as planes in its scratch and copied (planar destination) or
transposed (channels-last) into rows that no other task writes.
"""

from libc.math cimport INFINITY
from libc.string cimport memcpy, memset

from fastconv._core.geometry cimport Axis, span
from fastconv._core.ahead cimport ask_nothing
from fastconv._core.isa cimport FC_MAX_MR, FC_MAX_NR, fc_leaves, fc_tile, unaligned_leaves
from fastconv._core.pack cimport Image
from fastconv._core.plan cimport (
    SCRATCH_BYTES, TASK_WORK, Lanes, Plan, axis_span, best_width, ceil_div, cut_lanes,
    max_taps, rows_alike, tallest_tile)
from fastconv._core.task cimport scratch_bytes
from fastconv._core.threads cimport interrupted, parallel_for

# Columns further apart than this are not brought together for the lanes.
cdef Py_ssize_t WIDEST_STRIDE = 8
# So many reduced channels are worth an innermost loop; and with so many a step takes twice as long.
cdef Py_ssize_t MANY_CHANNELS = 8
cdef Py_ssize_t MANY_PLANES = 128

cdef struct Run:
    const Plan* p
    const Image* src
    const Image* dst
    const char* kernel
    const char* bias          # CO values per group, or NULL
    char* scratch             # per thread: source planes, then destination planes
    bint relu

cdef struct Task:
    Py_ssize_t n, g, b0, b1
    Py_ssize_t r0, x0         # source row and column at the start of a packed plane


# ---- the plan -----------------------------------------------------------------------------------

cdef double cycles_by_pixels(
    const Plan* p, const fc_leaves* wide, Py_ssize_t depth
) noexcept nogil:
    """Cycles of a row of a phase with pixels in the lanes, the packing of its planes included."""
    cdef Py_ssize_t columns = p.w[0].n, rows = p.h[0].n
    cdef Py_ssize_t lines = 1
    cdef Py_ssize_t V
    cdef double cycles = 0
    cdef const fc_leaves* leaves = unaligned_leaves(wide, p.CO)
    if p.w[0].stride > WIDEST_STRIDE or p.KH * p.KW == 1:
        return INFINITY
    if is_flat(p, leaves.vf):
        lines = rows
        V = ceil_div(rows * flat_pitch(p), leaves.vf)
    else:
        V = ceil_div(columns, leaves.vf)
    best_width(leaves, V, p.CO, depth, inner_run(p), False, False, &cycles)
    # The lines of so many planes do not stay in the L1 cache until the next tap wants them.
    cycles *= 1 + min(<double>p.CI / MANY_PLANES, 1.0) ** 2
    # A result of fewer channels than lanes is turned value by value.
    return cycles * depth / lines + columns * (
        0.5 * p.CI * p.h[0].stride * p.w[0].stride + p.CO)


cdef Py_ssize_t inner_run(const Plan* p) noexcept nogil:
    """Steps of a tile's innermost loop: reduced channels, or taps where these are few."""
    return p.CI if p.CI >= MANY_CHANNELS else max(max_taps(p.w, p.n_w), 1)


cdef Py_ssize_t flat_pitch(const Plan* p) noexcept nogil:
    return axis_span(p.w, p.n_w, p.w[0].n)


cdef bint is_flat(const Plan* p, int vf) noexcept nogil:
    """Whether the lanes run on over the ends of rows: shorter rows would leave many empty."""
    cdef Py_ssize_t n = p.w[0].n, rows = p.h[0].n
    if p.h[0].stride != 1 or p.w[0].stride != 1:
        return False
    return ceil_div(rows * flat_pitch(p), vf) < 0.9 * rows * ceil_div(n, vf)


cdef int plan_planes(Plan* p, const fc_leaves* wide) except -1:
    """Lanes are neighbouring pixels of a plane, rows of the tile are output channels."""
    cdef Py_ssize_t reach = axis_span(p.w, p.n_w, p.w[0].n), base_rows = p.h[0].n
    cdef Py_ssize_t run, in_rows
    cdef double cycles = 0
    cdef int width
    p.leaves = unaligned_leaves(wide, p.CO)
    p.vf = p.leaves.vf
    p.flat = is_flat(p, p.vf)
    p.ci_block = p.pitch = p.CI
    p.split_columns = p.w[0].stride
    p.src_pitch = ceil_div(reach, p.split_columns) * p.split_columns
    # Rows of a task: what fits the scratch, and enough of them to be worth a task.
    p.rows = max(base_rows, 1)
    while p.rows > 1 and (planes_elements(p) * p.itemsize > SCRATCH_BYTES or (
            not p.flat and p.rows * p.w[0].n * p.CO * p.CI * p.KH * p.KW > 4 * TASK_WORK)):
        p.rows = ceil_div(p.rows, 2)
    while p.ci_block > 16 and planes_elements(p) * p.itemsize > SCRATCH_BYTES:
        p.ci_block = ceil_div(p.ci_block, 2)
    p.n_ci = ceil_div(p.CI, p.ci_block)
    p.n_rows = ceil_div(base_rows, p.rows)
    p.images = p.n_columns = p.n_splits = 1
    p.n_images = p.N
    p.columns = p.w[0].n
    run = (p.rows - 1) * p.src_pitch + p.w[0].n if p.flat else p.w[0].n
    p.V = ceil_div(run, p.vf)
    width = best_width(
        p.leaves, p.V, p.CO, p.CI * p.KH * p.KW, inner_run(p), False, False, &cycles)
    p.n_lanes = cut_lanes(p.leaves, p.V, run, width, &p.lanes)
    p.dst_pitch = p.src_pitch if p.flat else p.V * p.vf
    p.dst_plane = p.V * p.vf if p.flat else p.rows * p.dst_pitch
    p.n_tasks = p.N * p.G * p.n_rows
    in_rows = axis_span(p.h, p.n_h, p.rows)
    p.src_plane = in_rows * p.src_pitch
    # A tile's last vectors may read past the last row.
    p.src_scratch = p.ci_block * p.src_plane + (FC_MAX_NR + 1) * p.vf
    p.dst_scratch = p.n_h * p.n_w * p.CO * p.dst_plane
    p.packed_size = 0
    return 0


cdef Py_ssize_t planes_elements(const Plan* p) noexcept nogil:
    return p.ci_block * axis_span(p.h, p.n_h, p.rows) * p.src_pitch


# ---- the nest -----------------------------------------------------------------------------------

cdef int correlate_planes(
    const Plan* plan, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* scratch, int team
) except -1 nogil:
    cdef Run run
    run.p, run.src, run.dst, run.kernel, run.bias = plan, src, dst, kernel, bias
    run.scratch, run.relu = scratch, relu
    parallel_for(plan.n_tasks, team, planes_task, &run)


cdef void planes_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef Run* run = <Run*>context
    cdef const Plan* p = run.p
    cdef Task task
    cdef char* src = run.scratch + thread * scratch_bytes(p)
    cdef char* dst = src + p.src_scratch * p.itemsize
    cdef char* phase
    cdef Py_ssize_t block, ci0, ci_len
    cdef int ph, pw
    task.b0 = number % p.n_rows * p.rows
    task.b1 = min(task.b0 + p.rows, p.h[0].n)
    task.g, task.n = number // p.n_rows % p.G, number // p.n_rows // p.G
    for block in range(p.n_ci):
        if block > 0 and interrupted():
            return
        ci0 = block * p.ci_block
        ci_len = min(p.ci_block, p.CI - ci0)
        pack_planes(run, &task, ci0, ci_len, src)
        for ph in range(p.n_h):
            for pw in range(p.n_w):
                phase = dst + (ph * p.n_w + pw) * p.CO * p.dst_plane * p.itemsize
                sweep(run, &task, ph, pw, ci0, ci_len, src, phase)
    # end: block
    for ph in range(p.n_h):
        for pw in range(p.n_w):
            phase = dst + (ph * p.n_w + pw) * p.CO * p.dst_plane * p.itemsize
            write_phase(run, &task, &p.h[ph], &p.w[pw], phase)


cdef void sweep(
    const Run* run, const Task* task, int ph, int pw, Py_ssize_t ci0, Py_ssize_t ci_len,
    const char* src, char* dst
) noexcept nogil:
    """One phase of a task over one block of reduced channels."""
    cdef const Plan* p = run.p
    cdef const Axis* h = &p.h[ph]
    cdef const Axis* w = &p.w[pw]
    cdef Py_ssize_t a_off[FC_MAX_MR]
    cdef Py_ssize_t c_off[FC_MAX_MR]
    cdef Py_ssize_t size = p.itemsize, taps = p.KH * p.KW
    cdef Py_ssize_t k_co = taps if p.flipped else p.CI * taps
    cdef Py_ssize_t k_ci = p.CO * taps if p.flipped else taps
    cdef Py_ssize_t co, rows, most = tallest_tile(p.leaves, p.lanes, p.n_lanes), tiles, tile
    cdef Py_ssize_t q, i, t0, t1
    cdef const Py_ssize_t* valid = p.valid + 2 * ph * p.h[0].n
    cdef Py_ssize_t i1 = min(task.b1, h.n)
    cdef const char* kernel = run.kernel + (task.g * p.CO * p.CI * taps + ci0 * k_ci) * size
    cdef bint last = ci0 + ci_len == p.CI
    cdef fc_tile t
    ask_nothing(&t)
    if i1 <= task.b0 or w.n == 0:
        return
    t.a_off, t.c_off, t.lane_bias = a_off, c_off, NULL
    tiles = ceil_div(p.CO, most)
    for tile in range(tiles):
        co = tile * ceil_div(p.CO, tiles)
        rows = min(ceil_div(p.CO, tiles), p.CO - co)
        for q in range(rows):
            a_off[q] = q * k_co
            c_off[q] = q * p.dst_plane
        t.row_bias = NULL
        if run.bias != NULL and ci0 == 0:
            t.row_bias = run.bias + (task.g * p.CO + co) * size
        t.a_n = 0
        if p.flat:
            sweep_rows(p, task, h, w, 0, h.taps, task.b0, ci0, ci_len, k_ci, rows,
                       run.relu and last, kernel + co * k_co * size, src,
                       dst + co * p.dst_plane * size, &t)
            continue
        i = task.b0
        while i < i1:
            t0, t1 = valid[2 * i], valid[2 * i + 1]
            t.n, t.b_n, t.c_n = rows_alike(valid, i, i1), h.stride * p.src_pitch, p.dst_pitch
            sweep_rows(p, task, h, w, t0, t1, i, ci0, ci_len, k_ci, rows,
                       run.relu and last, kernel + co * k_co * size, src,
                       dst + (co * p.dst_plane + (i - task.b0) * p.dst_pitch) * size, &t)
            i += t.n
        # end: i
    # end: tile


cdef void sweep_rows(
    const Plan* p, const Task* task, const Axis* h, const Axis* w, Py_ssize_t t0, Py_ssize_t t1,
    Py_ssize_t i, Py_ssize_t ci0, Py_ssize_t ci_len, Py_ssize_t k_ci, Py_ssize_t rows, bint relu,
    const char* kernel, const char* src, char* dst, const fc_tile* whole
) noexcept nogil:
    """Taps [t0, t1) of some (or all) output rows from i on, for `rows` output channels."""
    cdef Py_ssize_t size = p.itemsize, split = p.split_columns
    cdef Py_ssize_t taps, every, shift, part, parts, column
    cdef fc_tile t = whole[0]
    # Taps u, u + every, ... have one remainder: their pixels lie `shift` apart.
    every = 1
    while every * w.offset_step % split != 0:
        every += 1
    shift = w.offset_step * every // split
    parts = max(min(every, w.taps), 1)
    src += ((i * h.stride + h.offset + t0 * h.offset_step - task.r0) * p.src_pitch) * size
    kernel += (h.tap + t0 * h.tap_step) * p.KW * size
    for part in range(parts):
        taps = 0 if w.taps == 0 else (w.taps - 1 - part) // every + 1
        column = w.offset - task.x0 + part * w.offset_step
        t.a = kernel + (w.tap + part * w.tap_step) * size
        t.b = src + (column % split * (p.src_pitch // split) + column // split) * size
        if ci_len >= MANY_CHANNELS:
            t.nt, t.a_t, t.b_t = t1 - t0, h.tap_step * p.KW, h.offset_step * p.src_pitch
            t.nu, t.a_u, t.b_u = taps, every * w.tap_step, shift
            t.nk, t.a_k, t.b_k = ci_len, k_ci, p.src_plane
        else:
            t.nt, t.a_t, t.b_t = ci_len, k_ci, p.src_plane
            t.nu, t.a_u, t.b_u = t1 - t0, h.tap_step * p.KW, h.offset_step * p.src_pitch
            t.nk, t.a_k, t.b_k = taps, every * w.tap_step, shift
        t.accumulate = ci0 > 0 or part > 0
        t.relu, t.stream = relu and part == parts - 1, False
        if part > 0:
            t.row_bias = NULL
        run_lanes(p, rows, dst, &t)


cdef void run_lanes(const Plan* p, Py_ssize_t rows, char* dst, fc_tile* t) noexcept nogil:
    """Runs of pixels, block of lanes by block; whole vectors are written."""
    cdef Py_ssize_t block = 0, size = p.itemsize
    cdef const char* b = <const char*>t.b
    cdef Lanes* lanes
    while block < p.n_lanes:
        lanes = &p.lanes[block]
        t.b = b + lanes.v0 * p.vf * size
        t.c = dst + lanes.v0 * p.vf * size
        t.lanes = lanes.nr * p.vf
        block += 1
        if p.flat:
            # One run: its blocks of one width are the tiles of a call.
            t.n, t.b_n, t.c_n = 1, t.lanes, t.lanes
            while block < p.n_lanes and p.lanes[block].nr == lanes.nr:
                t.n += 1
                block += 1
        p.leaves.tile[lanes.nr - 1][rows - 1](t)


cdef void pack_planes(
    const Run* run, Task* task, Py_ssize_t ci0, Py_ssize_t ci_len, char* scratch
) noexcept nogil:
    """Copy what a task reads as planes between zeros; row by row, columns by remainder."""
    cdef const Plan* p = run.p
    cdef const Image* src = run.src
    cdef Py_ssize_t size = p.itemsize, split = p.split_columns, half = p.src_pitch // split
    cdef Py_ssize_t r0, r1, x0, x1, r, ci, part, first, count
    cdef char* row
    cdef const char* from_row
    span(p.h, p.n_h, task.b0, task.b1, &r0, &r1)
    span(p.w, p.n_w, 0, p.w[0].n, &x0, &x1)
    task.r0, task.x0 = r0, x0
    for r in range(r0, r1):
        row = scratch + (r - r0) * p.src_pitch * size
        if r < 0 or r >= p.src_h or x0 < 0 or x1 > p.src_w or x1 - x0 < p.src_pitch:
            for ci in range(ci_len):
                memset(row + ci * p.src_plane * size, 0, p.src_pitch * size)
        if r < 0 or r >= p.src_h:
            continue
        for part in range(split):
            # Columns x0 + part, x0 + part + split, ... that lie inside the image.
            first = max(ceil_div(-x0 - part, split), 0) if x0 + part < 0 else 0
            count = min(ceil_div(min(x1, p.src_w) - x0 - part, split), half) - first
            if count <= 0:
                continue
            from_row = src.data + (task.n * src.sn + (task.g * p.CI + ci0) * src.sc + r * src.sh
                                   + (x0 + part + first * split) * src.sw) * size
            if src.sw == 1 and split == 1:
                for ci in range(ci_len):
                    memcpy(row + (ci * p.src_plane + first) * size,
                           from_row + ci * src.sc * size, count * size)
            elif src.sc == 1:
                p.leaves.transpose(row + (part * half + first) * size, p.src_plane, NULL,
                                   from_row, split * src.sw, count, ci_len)
            else:
                for ci in range(ci_len):
                    p.leaves.transpose(row + (ci * p.src_plane + part * half + first) * size, 0,
                                       NULL, from_row + ci * src.sc * size, split, count, 1)
        # end: part
    # end: r


cdef void write_phase(
    const Run* run, const Task* task, const Axis* h, const Axis* w, const char* planes
) noexcept nogil:
    """Bring one phase's planes to the rows of the destination."""
    cdef const Plan* p = run.p
    cdef const Image* dst = run.dst
    cdef Py_ssize_t size = p.itemsize, i, co
    cdef char* row
    cdef const char* from_row
    for i in range(task.b0, min(task.b1, h.n)):
        from_row = planes + (i - task.b0) * p.dst_pitch * size
        row = dst.data + (task.n * dst.sn + task.g * p.CO * dst.sc
                          + (h.start + i * h.step) * dst.sh + w.start * dst.sw) * size
        if dst.sc == 1:
            p.leaves.transpose(row, w.step * dst.sw, NULL, from_row, p.dst_plane, p.CO, w.n)
        elif w.step * dst.sw == 1:
            for co in range(p.CO):
                memcpy(row + co * dst.sc * size, from_row + co * p.dst_plane * size, w.n * size)
        else:
            for co in range(p.CO):
                p.leaves.transpose(row + co * dst.sc * size, w.step * dst.sw, NULL,
                                   from_row + co * p.dst_plane * size, w.n, 1, w.n)
    # end: i
