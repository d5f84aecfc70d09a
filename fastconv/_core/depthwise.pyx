# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The loop nest of a depthwise convolution, forward and gradient of the input.

    dst[n, c, i, j] = sum over t, u of  src[n, c, row(i, t), column(j, u)] * k[c, t, u]

Lanes are the channels of both operands, rows of the register tile are pixels that see the same
taps.  Groups of a few channels go the same way: their source is *spread* while it is packed, so
that plane ci of a row holds channel ci of each lane's group, and the sum runs over ci as well.

There is little arithmetic for each byte, so the nest follows memory:

    task   (images, rows, lane blocks)                  in parallel
      phase
        row                  wide tiles: up to MR pixels of a row
          column tiles       as many alike as one call may take
            image
              lane block     one call: a tile after the other, sums t, ci, u in registers
        column tile          narrow tiles, at the border: pixels of several rows, then images
          rows, images
            lane block

Tasks write disjoint pixels and channels of the destination, so no two threads write one place.
(The last block of lanes may overlap the one before it: both are in one task.)  Large results are
streamed past the caches.  Wide tiles ask for what the tiles below them will be the first to see and
to write.
"""

from fastconv._core.ahead cimport Stretch, ask_nothing, ask_share
from fastconv._core.geometry cimport Axis, most_see_the_border
from fastconv._core.isa cimport FC_ASKS, FC_LANEWISE_NR, FC_MAX_MR, fc_leaves, fc_tile
from fastconv._core.pack cimport Image, spread_table
from fastconv._core.plan cimport (
    ENOUGH_TASKS, PACKED_LANES, SCRATCH_BYTES, TASK_WORK, ColumnTile, Lanes, Plan, ceil_div,
    cut_columns, cut_lanes, destination_pixels, lanewise_leaves, order_kernel, source_elements,
    split_lanes)
from fastconv._core.task cimport (
    Run, Task, lanes_end, pack_source, run_tasks, scratch_bytes, scratch_image, unpack_task,
    write_planes)
from fastconv._core.threads cimport interrupted

# A task asks after so many pixels of a row whether to go on.
cdef enum:
    LONG_ROW = 4096


# ---- the plan -----------------------------------------------------------------------------------

cdef int plan_depthwise(
    Plan* p, const fc_leaves* wide, bint src_planar, bint dst_planar
) except -1:
    """Lanes are the channels of both sides, rows of the tile are pixels.

    A tile's pixels all see the same taps, so nothing is packed between zeros, unless most
    columns see the border.  Small groups are spread over lanes while they are packed.
    """
    cdef Py_ssize_t width
    cdef bint packs
    p.spread.CI, p.spread.CO = p.CI, p.CO
    p.cost *= 4 if p.CI * p.CO == 1 else 2       # each product loads its own vector
    p.G, p.CO = 1, p.G * p.CO
    p.leaves = lanewise_leaves(wide, p.CO)
    p.vf = p.leaves.vf
    p.V = ceil_div(p.CO, p.vf)
    p.n_lanes = cut_lanes(p.leaves, p.V, p.CO, <int>min(p.V, FC_LANEWISE_NR), &p.lanes)
    fill_last_lanes(p)
    width = p.lanes[0].nr * p.vf
    p.n_ci = p.n_columns = p.images = 1
    p.ci_block = p.CI
    p.columns = max(p.w[0].n, 1)
    p.padded = most_see_the_border(p.w)
    packs = src_planar or p.padded or p.lanes[0].count < width
    if p.CI * p.spread.CO > 1:
        packs = True
        p.spread.pitch = p.V * p.vf
        p.spread.index = spread_table(p.CI, p.spread.CO, p.CO, p.spread.pitch, p.itemsize)
    cut_depthwise_tasks(p, packs, dst_planar)
    cut_columns(p)
    order_kernel(p)
    p.packed_size = p.V * p.vf * p.CI * p.KH * p.KW
    # A tile's last vector may read past the last packed pixel.
    p.src_scratch = source_elements(p, p.images, p.rows) + FC_LANEWISE_NR * p.vf if packs else 0
    if p.spread.index != NULL and src_planar:
        p.row_scratch = p.src_w * source_width(p)
    p.dst_scratch = destination_pixels(p) * split_lanes(p) if dst_planar else 0
    return 0


cdef Py_ssize_t source_width(const Plan* p) noexcept nogil:
    """Source channels of all groups."""
    return p.CO // p.spread.CO * p.CI


cdef void fill_last_lanes(Plan* p) noexcept nogil:
    """Move the last block back until its lanes are all channels: some are computed twice.

    So no vector reaches past a pixel's channels.  (A single block with too few channels stays as
    it is; its source is packed.)
    """
    cdef Lanes* last = &p.lanes[p.n_lanes - 1]
    cdef Py_ssize_t width = last.nr * p.vf
    if p.CO >= width:
        last.c0, last.count = p.CO - width, width


cdef void cut_depthwise_tasks(Plan* p, bint packs, bint dst_planar) noexcept nogil:
    """Rows, images and lanes of a task: what it reads and writes stays in the L2 cache."""
    cdef Py_ssize_t base_rows = max(p.h[0].n, 1), fewest, most
    cdef Py_ssize_t budget = 2 * SCRATCH_BYTES // p.itemsize
    cdef Py_ssize_t pixels
    p.split, p.rows = p.n_lanes, min(base_rows, 4)
    # Whole pixels are one stretch of memory; but a few rows of them have to fit.
    fewest = max(PACKED_LANES // (p.lanes[0].nr * p.vf), 2)
    while p.split > fewest and depthwise_elements(p) > budget:
        p.split = max(p.split // 2, fewest)
    while p.rows < base_rows:
        p.rows += 1
        if depthwise_elements(p) > budget or (
                p.N * ceil_div(base_rows, p.rows) * (p.n_lanes // p.split) < ENOUGH_TASKS):
            p.rows -= 1
            break
    while p.rows > 1 and depthwise_elements(p) > budget:
        p.rows -= 1
    p.rows = ceil_div(base_rows, ceil_div(base_rows, p.rows))
    p.n_rows = ceil_div(base_rows, p.rows)
    if p.n_rows == 1:
        pixels = max(destination_pixels(p) * p.CO * p.CI * p.KH * p.KW, 1)
        most = min(<Py_ssize_t>(TASK_WORK / 4 / pixels), budget // max(depthwise_elements(p), 1))
        p.images = max(min(most, p.N // (ENOUGH_TASKS // 4)), 1)
    p.n_images = ceil_div(p.N, p.images)
    # The last block may share channels with the one before it: one task must have both.
    p.split = max(p.split, 2)
    p.n_splits = max(p.n_lanes // p.split, 1)
    p.n_tasks = p.n_images * p.n_rows * p.n_splits


cdef Py_ssize_t depthwise_elements(const Plan* p) noexcept nogil:
    """What a task reads and writes."""
    return source_elements(p, p.images, p.rows) + destination_pixels(p) * split_lanes(p)


# ---- the nest -----------------------------------------------------------------------------------

cdef int depthwise(
    const Plan* plan, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* packed, char* scratch, int team
) except -1 nogil:
    run_tasks(plan, src, kernel, bias, dst, relu, packed, scratch, team, depthwise_task)


cdef void depthwise_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef Run* run = <Run*>context
    cdef const Plan* p = run.p
    cdef Task task
    cdef Image src = run.src[0], dst = run.dst[0]
    cdef Py_ssize_t first
    cdef char* scratch = run.scratch + thread * scratch_bytes(p)
    cdef int ph, pw
    unpack_task(p, number, &task)
    if p.src_scratch > 0:
        first = p.lanes[task.lanes0].c0
        pack_source(run, &task, first, lanes_end(p, &task), scratch, &src)
        src.data -= first * p.itemsize
    if p.dst_scratch > 0:
        scratch_image(run, &task, scratch + (p.src_scratch + p.row_scratch) * p.itemsize, &dst)
    for ph in range(p.n_h):
        for pw in range(p.n_w):
            sweep_wide(run, &task, ph, pw, &src, &dst)
            sweep_narrow(run, &task, ph, pw, &src, &dst)
    if p.dst_scratch > 0:
        write_planes(run, &task, &dst)
    if run.streams:
        p.leaves.fence()


cdef inline Py_ssize_t first_tile(const Plan* p, int nr, int pw) noexcept nogil:
    return p.tile0[(nr - 1) * p.n_w + pw]


cdef inline Py_ssize_t joined_rows(const Plan* p, int nr, const ColumnTile* tile) noexcept nogil:
    """How many rows of so few columns fit a tile."""
    return p.leaves.max_mr[nr - 1] // (tile.j1 - tile.j0)


cdef void sweep_wide(
    const Run* run, const Task* task, int ph, int pw, const Image* src, const Image* dst
) noexcept nogil:
    """One phase of a task: the tiles that a row's pixels fill."""
    cdef const Plan* p = run.p
    cdef Py_ssize_t i, n, at, count, most = min(p.columns, LONG_ROW)
    cdef int nr
    cdef ColumnTile* tile
    cdef Stretch below[FC_ASKS]
    cdef bint first = ph == pw == 0, asks
    for i in range(task.b0, min(task.b1, p.h[ph].n)):
        for nr in range(1, p.lanes[0].nr + 1):
            asks = first and nr == p.lanes[0].nr and (run.asks_src or run.asks_dst)
            at = first_tile(p, nr, pw)
            while at < first_tile(p, nr, pw + 1):
                tile = &p.tiles[at]
                count = 1
                if joined_rows(p, nr, tile) < 2:
                    count = tiles_alike(p, at, first_tile(p, nr, pw + 1), most)
                    for n in range(task.n0, task.n1):
                        if asks:
                            find_below(run, tile, count, n, i, src, dst, below)
                        run_tiles(run, task, ph, pw, nr, tile, count, n, 1, i, 1, src, dst,
                                  below if asks else NULL)
                at += count
                if p.tiles[at - 1].j1 // LONG_ROW > tile.j0 // LONG_ROW and interrupted():
                    return
            # end: at
        # end: nr
    # end: i


cdef Py_ssize_t tiles_alike(
    const Plan* p, Py_ssize_t at, Py_ssize_t end, Py_ssize_t most
) noexcept nogil:
    """How many column tiles from one on have its height and taps, of at most so many pixels."""
    cdef const ColumnTile* tile = &p.tiles[at]
    cdef const ColumnTile* other
    cdef Py_ssize_t height = tile.j1 - tile.j0, count = 1
    while at + count < end and (count + 1) * height <= most:
        other = &p.tiles[at + count]
        if other.j1 - other.j0 != height or not sees_same(p, tile, other):
            break
        count += 1
    return count


cdef bint sees_same(const Plan* p, const ColumnTile* a, const ColumnTile* b) noexcept nogil:
    if a.part0 == a.part1 or b.part0 == b.part1:
        return a.part0 == a.part1 and b.part0 == b.part1
    return p.parts[a.part0].u0 == p.parts[b.part0].u0 and (
        p.parts[a.part0].u1 == p.parts[b.part0].u1)


cdef void find_below(
    const Run* run, const ColumnTile* tile, Py_ssize_t count, Py_ssize_t n, Py_ssize_t i,
    const Image* src, const Image* dst, Stretch* below
) noexcept nogil:
    """What the row of tiles below is the first to see and to write, these tiles' share of it."""
    cdef const Plan* p = run.p
    cdef const Axis* h = &p.h[0]
    cdef Py_ssize_t last = (i + 1) * h.stride + h.offset + (h.taps - 1) * h.offset_step, k
    cdef Py_ssize_t j1 = tile.j0 + count * (tile.j1 - tile.j0)
    cdef Py_ssize_t bytes
    below[0].at, below[0].bytes = src.data + (n * src.sn + last * src.sh) * p.itemsize, 0
    below[1].at, below[1].bytes = below[0].at, 0
    if run.asks_src:
        below[0].bytes = h.stride * src.sh * p.itemsize
    if run.asks_dst:
        below[1].at = dst.data + (n * dst.sn + (i + 1) * h.step * dst.sh) * p.itemsize
        below[1].bytes = h.step * dst.sh * p.itemsize
    for k in range(FC_ASKS):
        bytes = below[k].bytes
        below[k].at += bytes * tile.j0 // p.w[0].n
        below[k].bytes = bytes * (j1 - tile.j0) // p.w[0].n


cdef void sweep_narrow(
    const Run* run, const Task* task, int ph, int pw, const Image* src, const Image* dst
) noexcept nogil:
    """One phase of a task: the tiles that pixels of several rows and images fill."""
    cdef const Plan* p = run.p
    cdef Py_ssize_t at, i, n, rows, images, most
    cdef Py_ssize_t end = min(task.b1, p.h[ph].n)
    cdef const Py_ssize_t* valid = p.valid + 2 * ph * p.h[0].n
    cdef int nr
    for nr in range(1, p.lanes[0].nr + 1):
        for at in range(first_tile(p, nr, pw), first_tile(p, nr, pw + 1)):
            most = joined_rows(p, nr, &p.tiles[at])
            if most < 2:
                continue
            i = task.b0
            while i < end:
                rows = 1
                while (rows < most and i + rows < end
                       and valid[2 * (i + rows)] == valid[2 * i]
                       and valid[2 * (i + rows) + 1] == valid[2 * i + 1]):
                    rows += 1
                n = task.n0
                while n < task.n1:
                    images = min(most // rows, task.n1 - n)
                    run_tiles(run, task, ph, pw, nr, &p.tiles[at], 1, n, images, i, rows, src, dst,
                              NULL)
                    n += images
                i += rows
            # end: i
        # end: at
    # end: nr


cdef void run_tiles(
    const Run* run, const Task* task, int ph, int pw, int nr, const ColumnTile* tile,
    Py_ssize_t count, Py_ssize_t n, Py_ssize_t images, Py_ssize_t i, Py_ssize_t rows,
    const Image* src, const Image* dst, const Stretch* below
) noexcept nogil:
    """The columns of a tile, and of those after it that are alike, of some rows and images.

    For every block of nr vectors of the task; they ask for what lies `below`, if it is not NULL.
    """
    cdef const Plan* p = run.p
    cdef const Axis* h = &p.h[ph]
    cdef const Axis* w = &p.w[pw]
    cdef Py_ssize_t a_off[FC_MAX_MR]
    cdef Py_ssize_t c_off[FC_MAX_MR]
    cdef Py_ssize_t q, r, at, block, blocks = 0, height = 0, size = p.itemsize, width = nr * p.vf
    cdef Py_ssize_t columns = tile.j1 - tile.j0, a_at, c_at
    cdef Py_ssize_t a_j = w.stride * src.sw, c_j = w.step * dst.sw
    cdef Py_ssize_t depth = p.CI * p.KH * p.KW
    cdef const Py_ssize_t* valid = p.valid + 2 * (ph * p.h[0].n + i)
    cdef Py_ssize_t t0 = valid[0], u0 = 0
    cdef Lanes* lanes
    cdef const char* a
    cdef const char* b
    cdef char* c
    cdef fc_tile t
    ask_nothing(&t)
    for q in range(images):
        for r in range(rows):
            a_at = q * src.sn + r * h.stride * src.sh
            c_at = q * dst.sn + r * h.step * dst.sh
            for at in range(height, height + columns):
                a_off[at], c_off[at] = a_at, c_at
                a_at += a_j
                c_at += c_j
            height += columns
    t.nt, t.nk = valid[1] - t0, 0
    if tile.part1 > tile.part0:
        u0 = p.parts[tile.part0].u0
        t.nk = p.parts[tile.part0].u1 - u0
    t.a_off, t.c_off = a_off, c_off
    t.n, t.b_n, t.a_ahead, t.b_ahead = count, 0, 0, 0
    t.a_n, t.c_n = columns * a_j, columns * c_j
    t.nu, t.a_u, t.b_u = p.CI, src.sc, w.taps * width
    t.a_t, t.a_k = h.offset_step * src.sh, w.offset_step * src.sw
    t.b_t, t.b_k = p.CI * w.taps * width, width
    t.accumulate, t.relu, t.lane_bias, t.row_bias = False, run.relu, NULL, NULL
    a = src.data + (n * src.sn
                    + (i * h.stride + h.offset + t0 * h.offset_step) * src.sh
                    + (tile.j0 * w.stride + w.offset + u0 * w.offset_step) * src.sw) * size
    b = run.packed + (p.phase_row[ph * p.n_w + pw] + t0 * p.CI * w.taps + u0) * width * size
    c = dst.data + (n * dst.sn + (h.start + i * h.step) * dst.sh
                    + (w.start + tile.j0 * w.step) * dst.sw) * size
    # The wide blocks come first.
    while task.lanes0 + blocks < task.lanes1 and p.lanes[task.lanes0 + blocks].nr == nr:
        blocks += 1
    for block in range(task.lanes0, task.lanes1):
        lanes = &p.lanes[block]
        if lanes.nr != nr:
            continue
        t.a = a + lanes.c0 * size
        t.b = b + lanes.v0 * p.vf * depth * size
        t.c = c + lanes.c0 * size
        t.lanes = lanes.count
        if run.bias != NULL:
            t.lane_bias = run.bias + lanes.c0 * size
        t.stream = run.streams and p.dst_scratch == 0 and lanes.c0 % p.vf == 0
        if below != NULL:
            ask_share(&t, below, block - task.lanes0, blocks, count * t.nt * t.nu)
        p.leaves.lanewise[nr - 1][height - 1](&t)
    # end: block
