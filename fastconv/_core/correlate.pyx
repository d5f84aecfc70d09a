# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The loop nest of the forward pass and of the gradient of the input.

    dst[n, co, i, j] = sum over t, u, ci of  src[n, ci, row(i, t), column(j, u)] * k[co, ci, t, u]

Lanes are output channels, rows of the register tile are output pixels.  The nest, from outside:

    task   (images, group, rows, columns, lane blocks)     in parallel
      ci block             source rows are packed when they are planar, need zero columns, or lie
                           so far apart that they push each other out of the L1 cache
        lane block         one panel of the packed kernel, in L2
          phase
            column tile, part         MR pixels, taps valid for all of them; they ask for a share of
                                      what the next task reads, where that comes from memory
              image, run of rows      one call: a tile for each row, sums t, u, ci in registers

With few reduced channels a part of a tile would be too short to pay for its call, and with large
kernels on small images there are too many parts: then (`padded`) the source rows are packed between
zero columns.  Reduced channels are blocked so that one block of
packed kernel stays in the L2 cache while a task's pixels pass by.

A large result is streamed past the caches, but for tiles of several parts and for all but the only
block of reduced channels: what is added to soon stays.

Tasks write disjoint pixels and channels of the destination, so no two threads write one place.
"""

from fastconv._core.ahead cimport ask_nothing, ask_share
from fastconv._core.caches cimport L2_BYTES
from fastconv._core.geometry cimport Axis, span
from fastconv._core.isa cimport FC_LINE_BYTES, FC_MAX_MR, FC_MAX_NR, fc_tile, fc_tile_fn
from fastconv._core.pack cimport Image
from fastconv._core.plan cimport (
    ENOUGH_TASKS, FEW_CHANNELS, SCRATCH_BYTES, TASK_WORK, ColumnTile, Lanes, Part, Plan,
    border_cycles, ceil_div, cut_columns, cut_lanes, destination_pixels, max_taps, order_kernel,
    rows_alike, source_elements, split_lanes, tallest_tile)
from fastconv._core.task cimport (
    Run, Task, pack_source, run_tasks, scratch_bytes, scratch_image, unpack_task, write_planes)
from fastconv._core.threads cimport interrupted

# Bytes of the L2 cache that a block of packed kernel may take.
cdef Py_ssize_t PANEL_BYTES = L2_BYTES // 8 * 3
# A task has enough pixels to read a block of packed kernel for: many, or few where all of the
# kernel stays in the cache.
cdef Py_ssize_t TASK_PIXELS = 192
cdef Py_ssize_t FEW_PIXELS = 28
# After so many tiles of a row a task asks whether it shall go on.
cdef enum:
    ASK_TILES = 256
# Of the L1 cache: addresses this far apart share a set, which holds so many lines.
cdef Py_ssize_t SETS_BYTES = 4096
cdef Py_ssize_t WAYS = 8
# What is read once is asked for so far ahead.
cdef Py_ssize_t AHEAD_BYTES = 1 << 16


# ---- the plan -----------------------------------------------------------------------------------

cdef int plan_correlate(Plan* p, int width, bint packs, bint dst_planar) except -1:
    """Lanes are output channels in blocks of about `width` vectors, rows of the tile are pixels."""
    cdef Py_ssize_t taps = max(max_taps(p.h, p.n_h) * max_taps(p.w, p.n_w), 1), widest
    cdef double inside, by_parts, by_zeros
    p.n_lanes = cut_lanes(p.leaves, p.V, p.CO, width, &p.lanes)
    # A 1x1 kernel's lanes may depend on the batch, so its blocks must not follow from them.
    widest = (FC_MAX_NR if taps == 1 else p.lanes[0].nr) * p.vf * p.itemsize
    p.ci_block = max(PANEL_BYTES // widest // taps // 16 * 16, 16)
    p.n_ci = max(ceil_div(p.CI, p.ci_block), 1)
    p.ci_block = ceil_div(ceil_div(p.CI, p.n_ci), 16) * 16 if p.n_ci > 1 else p.CI
    p.n_ci = max(ceil_div(p.CI, max(p.ci_block, 1)), 1)
    border_cycles(p, p.lanes[0].nr, &inside, &by_parts, &by_zeros)
    p.padded = by_parts != inside and (p.CI < FEW_CHANNELS or by_zeros < by_parts)
    # Few channels are copied faster from memory than tiles find them there.
    packs |= p.padded or (p.streams and p.CI < FEW_CHANNELS and taps > 1)
    p.pitch = p.ci_block
    if shares_sets(p, p.G * p.CI * p.w[0].stride):
        packs = True
    if packs and shares_sets(p, p.pitch * p.w[0].stride):
        p.pitch += FC_LINE_BYTES // p.itemsize
    p.neighbours = neighbouring_taps(p.w, p.n_w)
    cut_tasks(p, packs, dst_planar)
    cut_columns(p)
    order_kernel(p)
    p.packed_size = p.G * p.V * p.vf * max(p.CI * p.KH * p.KW, 1)
    p.src_scratch = source_elements(p, p.images, p.rows) if packs else 0
    p.dst_scratch = destination_pixels(p) * split_lanes(p) if dst_planar else 0
    return 0


cdef bint shares_sets(const Plan* p, Py_ssize_t step) noexcept nogil:
    """Whether pixels so many elements apart push each other out of the L1 cache."""
    return step > 0 and step * p.itemsize % SETS_BYTES == 0 and (
        tallest_tile(p.leaves, p.lanes, p.n_lanes) > WAYS)


cdef void cut_tasks(Plan* p, bint packs, bint dst_planar) noexcept nogil:
    """Images, base rows and lanes of a task."""
    cdef Py_ssize_t base_rows = p.h[0].n, base_columns = p.w[0].n
    cdef Py_ssize_t pixels, tasks, wanted, most, lanes
    cdef double work = <double>p.CI * p.CO * p.KH * p.KW / (p.n_h * p.n_w)
    cdef Py_ssize_t enough = TASK_PIXELS
    if p.CI * p.KH * p.KW * p.V * p.vf * p.itemsize <= PANEL_BYTES and not (
            packs and p.KH > 1):
        # The whole packed kernel stays in L2: few pixels at a time, so that a pixel's channels
        # are written before its cache lines leave.
        enough = FEW_PIXELS
    enough = max(enough, <Py_ssize_t>(TASK_WORK / max(work, 1)))
    p.joined = 1
    # Columns are only cut where no tile has more than one part: elsewhere the cut, which looks
    # at the batch, would change the order of sums.
    p.columns = max(base_columns, 1)
    if base_rows == 1 and p.h[0].taps == 1 and (p.padded or p.w[0].taps == 1) and p.n_w == 1:
        p.columns = max(min(p.columns, enough // FEW_PIXELS * FEW_PIXELS), 1)
    p.n_columns = ceil_div(base_columns, p.columns)
    p.joined = max(min(tallest_tile(p.leaves, p.lanes, p.n_lanes) // p.columns, p.N), 1)

    p.rows = min(max(enough // p.columns, 1), max(base_rows, 1))
    while p.rows > 1 and packs and source_elements(p, 1, p.rows) * p.itemsize > SCRATCH_BYTES:
        p.rows -= 1
    p.rows = max(ceil_div(base_rows, ceil_div(base_rows, p.rows)), 1) if base_rows else 1
    p.n_rows = ceil_div(base_rows, p.rows)
    p.images = 1
    if p.n_rows * p.n_columns == 1:
        pixels = max(p.rows * p.columns, 1)
        most = max(enough // pixels, 1)
        if packs:
            pixels = source_elements(p, 1, p.rows) * p.itemsize
            most = max(min(most, SCRATCH_BYTES // max(pixels, 1)), 1)
        p.images = max(min(ceil_div(most, p.joined) * p.joined, p.N), 1)
        # Rather more tasks than long ones.
        while p.images > p.joined and ceil_div(p.N, p.images) * p.G < ENOUGH_TASKS // 4:
            p.images = ceil_div(p.images // 2, p.joined) * p.joined
    p.n_images = ceil_div(p.N, p.images)

    tasks = p.n_images * p.n_rows * p.n_columns * p.G
    p.split = p.n_lanes
    wanted = ENOUGH_TASKS
    if not dst_planar and p.G * p.CO * p.itemsize % FC_LINE_BYTES:
        # Tasks with the channels of one pixel would write to the same cache lines.
        wanted //= 4
    if tasks < wanted and tasks > 0:
        p.split = max(p.n_lanes // ceil_div(wanted, tasks), 1)
    if dst_planar:
        lanes = SCRATCH_BYTES // p.itemsize // max(destination_pixels(p), 1)
        p.split = max(min(p.split, lanes // (p.lanes[0].nr * p.vf)), 1)
    p.n_splits = ceil_div(p.n_lanes, p.split)
    p.n_tasks = tasks * p.n_splits


cdef bint neighbouring_taps(const Axis* axes, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        if axes[i].taps > 1 and axes[i].offset_step != 1:
            return False
    return True


# ---- the nest -----------------------------------------------------------------------------------

cdef int correlate(
    const Plan* plan, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* packed, char* scratch, int team
) except -1 nogil:
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
    if run.asks_src:
        find_next(run, &task)

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
            if block > task.lanes0 and interrupted():
                return
            lanes = &p.lanes[block]
            panel = run.packed + (task.g * p.V + lanes.v0) * p.vf * p.CI * p.KH * p.KW * size
            for ph in range(p.n_h):
                for pw in range(p.n_w):
                    sweep(run, &task, block, ph, pw, ci0, ci_len, &src, panel, &dst)
        # end: block
    # end: ci_index
    if p.dst_scratch > 0:
        write_planes(run, &task, &dst)
    if run.streams:
        p.leaves.fence()


cdef void find_next(const Run* run, Task* task) noexcept nogil:
    """What the next task is the first to read: it lies behind what this one reads."""
    cdef const Plan* p = run.p
    cdef const Image* src = run.src
    cdef Py_ssize_t low, high, begin, length
    cdef Py_ssize_t most = (p.N - 1) * src.sn + (p.src_h - 1) * src.sh + p.src_w * src.sw
    if p.n_columns > 1:
        begin = task.c1 * p.w[0].stride * src.sw
        length = (task.c1 - task.c0) * p.w[0].stride * src.sw
        if task.lanes1 - task.lanes0 == 1:
            # Read but once, it need not come so long before.
            begin -= max(length - AHEAD_BYTES // p.itemsize, 0)
    else:
        span(p.h, p.n_h, task.b0, task.b1, &low, &high)
        begin = max(min(high, p.src_h), 0) * src.sh
        length = (task.b1 - task.b0) * p.h[0].stride * src.sh
    begin += (task.n1 - 1) * src.sn
    task.next[0].at = src.data + begin * p.itemsize
    task.next[0].bytes = max(min(length * (task.n1 - task.n0), most - begin), 0) * p.itemsize
    task.next[1].at, task.next[1].bytes = task.next[0].at, 0


cdef void sweep(
    const Run* run, const Task* task, Py_ssize_t block, int ph, int pw,
    Py_ssize_t ci0, Py_ssize_t ci_len, const Image* src, const char* panel, const Image* dst
) noexcept nogil:
    """One phase of a task for one block of lanes and one block of reduced channels."""
    cdef const Plan* p = run.p
    cdef const Lanes* lanes = &p.lanes[block]
    cdef const Axis* h = &p.h[ph]
    cdef const Axis* w = &p.w[pw]
    # The first and last valid tap of each of the phase's rows.
    cdef const Py_ssize_t* valid = p.valid + 2 * ph * p.h[0].n
    cdef Py_ssize_t width = lanes.nr * p.vf, size = p.itemsize
    cdef Py_ssize_t entry = ((lanes.nr - 1) * p.n_w + pw) * p.n_columns + task.column_block
    cdef Py_ssize_t index, at
    cdef ColumnTile* tile
    cdef Part all
    cdef bint first = ci0 == 0, last = ci0 + ci_len == p.CI
    cdef bint starts, alone
    cdef fc_tile t
    ask_nothing(&t)
    t.lanes = lanes.count
    t.row_bias = NULL
    t.b = panel + (p.phase_row[ph * p.n_w + pw] + ci0 * h.taps * w.taps) * width * size
    t.a_t, t.a_k = h.offset_step * src.sh, 1
    t.b_t, t.b_k = w.taps * ci_len * width, width
    cdef Py_ssize_t runs = (task.n1 - task.n0) * (task.b1 - task.b0) * h.taps
    if is_one_run(p, src, ci_len):
        t.a_u = t.b_u = 0
    else:
        t.a_u, t.b_u = w.offset_step * src.sw, ci_len * width
        runs *= w.taps
    cdef const char* bias = NULL
    if run.bias != NULL:
        bias = run.bias + (task.g * p.V * p.vf + lanes.c0) * size

    cdef Py_ssize_t tiles = p.tile0[entry + 1] - p.tile0[entry]
    cdef bint asks = run.asks_src and first and ph == pw == 0
    for index in range(p.tile0[entry], p.tile0[entry + 1]):
        if asks:
            ask_share(&t, task.next, (block - task.lanes0) * tiles + index - p.tile0[entry],
                      (task.lanes1 - task.lanes0) * tiles, runs)
        if index % ASK_TILES == ASK_TILES - 1 and interrupted():
            return
        tile = &p.tiles[index]
        all.u0 = all.u1 = 0
        all.j0, all.j1 = tile.j0, tile.j1
        starts = tile.part0 < tile.part1 and (
            p.parts[tile.part0].j0 == tile.j0 and p.parts[tile.part0].j1 == tile.j1)
        t.accumulate, t.relu, t.lane_bias = not first, False, bias if first else NULL
        t.stream = False
        if first and not starts:
            # No tap is valid for every column: begin with the bias alone.
            run_part(p, task, h, w, valid, &all, ci_len, src, dst, lanes, &t)
            t.accumulate, t.lane_bias = True, NULL
        for at in range(tile.part0, tile.part1):
            alone = last and starts and tile.part1 - tile.part0 == 1
            t.relu = run.relu and alone
            # What is added to soon stays in the caches.
            t.stream = run.streams and alone and p.dst_scratch == 0
            run_part(p, task, h, w, valid, &p.parts[at], ci_len, src, dst, lanes, &t)
            t.accumulate, t.lane_bias = True, NULL
        if run.relu and last and not t.relu:
            t.relu, t.stream = True, False
            run_part(p, task, h, w, valid, &all, ci_len, src, dst, lanes, &t)
    # end: index


cdef inline bint is_one_run(const Plan* p, const Image* src, Py_ssize_t ci_len) noexcept nogil:
    """Whether (u, ci) is one run of the source: its pixels may have more channels than these."""
    return p.neighbours and src.sw == ci_len


cdef void run_part(
    const Plan* p, const Task* task, const Axis* h, const Axis* w, const Py_ssize_t* valid,
    const Part* part, Py_ssize_t ci_len, const Image* src, const Image* dst, const Lanes* lanes,
    fc_tile* whole
) noexcept nogil:
    """One part of a column tile, down all rows and images of the task."""
    cdef Py_ssize_t a_off[FC_MAX_MR]
    cdef Py_ssize_t c_off[FC_MAX_MR]
    cdef Py_ssize_t columns = part.j1 - part.j0, size = p.itemsize
    cdef Py_ssize_t i0 = min(task.b0, h.n), i1 = min(task.b1, h.n)
    cdef Py_ssize_t n, i, j, q, joined, rows = 0, t0, t1
    cdef fc_tile_fn run = NULL
    cdef fc_tile t = whole[0]
    t.a_off, t.c_off = a_off, c_off
    t.a_n, t.b_n, t.c_n = h.stride * src.sh, 0, h.step * dst.sh
    t.b = <const char*>whole.b + part.u0 * ci_len * lanes.nr * p.vf * size
    if is_one_run(p, src, ci_len):
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
        i = i0
        while i < i1:
            t0, t1 = valid[2 * i], valid[2 * i + 1]
            t.n = rows_alike(valid, i, i1)
            t.nt = t1 - t0 if part.u1 > part.u0 else 0
            t.a = a + (n * src.sn + (i * h.stride + h.offset + t0 * h.offset_step) * src.sh) * size
            t.b = b + t0 * t.b_t * size
            t.c = c + (n * dst.sn + (h.start + i * h.step) * dst.sh) * size
            run(&t)
            i += t.n
        # end: i
        n += joined
    # end: n
    whole.ask = t.ask
