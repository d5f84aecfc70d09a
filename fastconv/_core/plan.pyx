# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""How a correlation is cut: lanes, columns, rows, images, tasks.

Everything here follows from the problem's shape, the register tile and the cache sizes, never
from the number of threads; what could change the order of a sum (lanes, channel blocks, column
tiles) does not depend on the batch or on the memory order either.  A plan is made once per
problem and cached.

**Lanes.**  Output channels fill the lanes of a tile, pixels its rows.  A width of NR vectors is
chosen by counting the cycles of all tiles, tails included.

**Columns.**  A row of outputs is cut into tiles of at most MR pixels.  Near a border some taps
fall outside the source for some pixels of a tile; the taps are grouped into *parts*, runs of taps
that are valid for the same pixels, and each part is one call of the tile.  So a tap on padding is
never computed and no padded copy of the image is needed.  With few channels a part is too short
to pay for its call: then (``padded``) the source rows are packed between zero columns.

**Pixels in the lanes.**  Where output channels would leave many lanes empty (a first layer's
input gradient, small groups), the roles swap: lanes are neighbouring pixels of packed planes,
rows of the tile are output channels.  The choice is made by the same count of cycles.

**Reduced channels** are blocked so that one block of packed kernel stays in the L2 cache while a
task's pixels pass by.
"""

from libc.stdlib cimport calloc, free

from fastconv._core.caches cimport L2_BYTES, L3_BYTES
from fastconv._core.geometry cimport (
    Axis, Geometry, end_of_run, end_valid, first_valid, forward_axis, gradient_axes,
    most_see_the_border, span, valid_taps)
from fastconv._core.isa cimport FC_LANEWISE_NR, FC_MAX_NR, fc_leaves
from fastconv._core.pack cimport spread_table

# Below this many reduced channels a part of a tile is too short a call.
FEW_CHANNELS = 16
# Bytes of the L2 cache that the packed kernel, and each scratch, may take.
cdef Py_ssize_t PANEL_BYTES = L2_BYTES // 8 * 3
cdef Py_ssize_t SCRATCH_BYTES = L2_BYTES // 4
# A call that moves so many bytes streams its result: its first lines would be gone from the last
# cache before anyone came to read them.
cdef Py_ssize_t STREAM_BYTES = L3_BYTES // 4
# A task has enough pixels to read a block of packed kernel for and enough work to be handed out;
# there are enough tasks to share among many threads.
cdef Py_ssize_t TASK_PIXELS = 192
cdef Py_ssize_t FEW_PIXELS = 28
cdef double TASK_WORK = 1.0e6
cdef Py_ssize_t ENOUGH_TASKS = 32
# Columns further apart than this are not brought together for the lanes.
cdef Py_ssize_t WIDEST_STRIDE = 8
# What a call of the tile costs beside its FMAs.
cdef double TILE_CYCLES = 100
# The fewest channels of a depthwise convolution that a task works on.
PACKED_LANES = 64


cdef class CorrelationPlan:
    """Owner of a plan's tables."""

    def __dealloc__(self):
        free(self.p.h)
        free(self.p.w)
        free(self.p.lanes)
        free(self.p.valid)
        free(self.p.tile0)
        free(self.p.tiles)
        free(self.p.parts)
        free(self.p.order)
        free(self.p.phase_row)
        free(self.p.spread.index)


cdef void* table(Py_ssize_t count, size_t size) except NULL:
    cdef void* memory = calloc(max(count, 1), size)
    if memory == NULL:
        raise MemoryError("cannot allocate a convolution's plan")
    return memory


cdef double tile_cycles(Py_ssize_t mr, int nr, bint aligned) noexcept nogil:
    """Cycles of one step of the reduction, in units of one vector FMA.

    Fewer than four chains cannot hide the FMA's latency, and a vector that is not aligned is two
    loads.
    """
    cdef double cycles = max(mr * nr, 4, nr if aligned else 2 * nr)
    return cycles + 0.2 * nr + 0.05 * mr


cdef Py_ssize_t tile_height(
    const fc_leaves* leaves, Py_ssize_t rows, int nr, Py_ssize_t* joined
) noexcept nogil:
    """Rows of a tile that has so many to cover; as many images as `joined` may share it."""
    cdef Py_ssize_t most = leaves.max_mr[nr - 1]
    joined[0] = 1
    if rows > most:
        return ceil_div(rows, ceil_div(rows, most))
    if 2 * rows <= most:
        joined[0] = most // max(rows, 1)
    return rows


cdef double row_cycles(
    const fc_leaves* leaves, Py_ssize_t rows, int nr, Py_ssize_t depth, bint joins, bint aligned
) noexcept nogil:
    """Cycles of a row of tiles per step of a reduction of `depth` steps."""
    cdef Py_ssize_t joined
    cdef Py_ssize_t mr = tile_height(leaves, rows, nr, &joined)
    cdef double cycles
    if not joins:
        joined = 1
    cycles = rows // mr * (tile_cycles(mr * joined, nr, aligned) + TILE_CYCLES / depth) / joined
    if rows % mr:
        cycles += tile_cycles(rows % mr, nr, aligned) + TILE_CYCLES / depth
    return cycles


cdef int best_width(
    const fc_leaves* leaves, Py_ssize_t V, Py_ssize_t rows, Py_ssize_t depth, bint joins,
    bint aligned, double* cycles
) noexcept nogil:
    """The width of blocks, in vectors, that covers V vectors x rows in the fewest cycles."""
    cdef int nr, best = 1, narrow
    cdef Py_ssize_t blocks, wide
    cdef double cost
    for nr in range(1, FC_MAX_NR + 1):
        if nr > V or leaves.max_mr[nr - 1] == 0:
            break
        blocks = ceil_div(V, nr)
        narrow = <int>(V // blocks)
        wide = V - blocks * narrow
        cost = (blocks - wide) * row_cycles(leaves, rows, narrow, depth, joins, aligned)
        if wide:
            cost += wide * row_cycles(leaves, rows, narrow + 1, depth, joins, aligned)
        if nr == 1 or cost < cycles[0] * 0.999:
            best, cycles[0] = nr, cost
    return best


cdef Py_ssize_t cut_lanes(
    const fc_leaves* leaves, Py_ssize_t V, Py_ssize_t count, int width, Lanes** lanes
) except -1:
    """Cut V vectors, `count` lanes of which are used, into blocks of about `width` vectors."""
    cdef Py_ssize_t blocks = ceil_div(V, width), wide = V - blocks * (V // blocks), b, v = 0
    lanes[0] = <Lanes*>table(blocks, sizeof(Lanes))
    for b in range(blocks):
        lanes[0][b].v0 = v
        lanes[0][b].nr = <int>(V // blocks) + (1 if b < wide else 0)
        v += lanes[0][b].nr
        lanes[0][b].c0 = lanes[0][b].v0 * leaves.vf
        lanes[0][b].count = min(v * leaves.vf, count) - lanes[0][b].c0
    return blocks


cdef Py_ssize_t cut_tile(
    const Plan* p, const Axis* w, ColumnTile* tile, Part* parts
) noexcept nogil:
    """Group the taps of one column tile into parts; returns their number (parts may be NULL).

    The first part is the one that is valid for all columns, if there is one.
    """
    cdef Py_ssize_t u, a, b, count = 0
    cdef Py_ssize_t last_a = -1, last_b = -1
    cdef Part swap
    if p.padded:
        if parts != NULL:
            parts[0].u0, parts[0].u1 = 0, w.taps
            parts[0].j0, parts[0].j1 = tile.j0, tile.j1
        return 1
    for u in range(w.taps):
        a = max(first_valid(w, u), tile.j0)
        b = min(end_valid(w, u), tile.j1)
        if a >= b:
            last_a = last_b = -1
            continue
        if a == last_a and b == last_b:
            if parts != NULL:
                parts[count - 1].u1 = u + 1
            continue
        last_a, last_b = a, b
        if parts != NULL:
            parts[count].u0, parts[count].u1 = u, u + 1
            parts[count].j0, parts[count].j1 = a, b
        count += 1
    if parts != NULL:
        for u in range(count):
            if parts[u].j0 == tile.j0 and parts[u].j1 == tile.j1:
                swap = parts[u]
                parts[u] = parts[0]
                parts[0] = swap
                break
    return count


cdef int cut_columns(Plan* p) except -1:
    """Tiles and parts of every width, phase and block of columns."""
    cdef Py_ssize_t n_tiles, n_parts, cb, j, end, stop, mr, joined, entry, u0, u1
    cdef int nr, pw, round
    cdef Axis* w
    cdef ColumnTile tile
    p.tile0 = <Py_ssize_t*>table(FC_MAX_NR * p.n_w * p.n_columns + 1, sizeof(Py_ssize_t))
    for round in range(2):       # count, then fill
        n_tiles = n_parts = entry = 0
        for nr in range(1, FC_MAX_NR + 1):
            for pw in range(p.n_w):
                w = &p.w[pw]
                for cb in range(p.n_columns):
                    p.tile0[entry] = n_tiles
                    entry += 1
                    if not uses_width(p, nr):
                        continue
                    j = cb * p.columns
                    end = min(j + p.columns, w.n)
                    while j < end:
                        stop = end
                        if p.lanewise and not p.padded:
                            stop = end_of_run(w, j, end, &u0, &u1)
                        mr = tile_height(p.leaves, stop - j, nr, &joined)
                        tile.j0, tile.j1 = j, j + mr
                        tile.part0 = n_parts
                        n_parts += cut_tile(p, w, &tile, p.parts + n_parts if round else NULL)
                        tile.part1 = n_parts
                        if round:
                            p.tiles[n_tiles] = tile
                        n_tiles += 1
                        j = tile.j1
        p.tile0[entry] = n_tiles
        if round == 0:
            p.tiles = <ColumnTile*>table(n_tiles, sizeof(ColumnTile))
            p.parts = <Part*>table(n_parts, sizeof(Part))
    return 0


cdef bint uses_width(const Plan* p, int nr) noexcept nogil:
    return p.lanes[0].nr == nr or p.lanes[p.n_lanes - 1].nr == nr


cdef int order_kernel(Plan* p) except -1:
    """Where the taps go: packed rows run over phases, blocks of CI, then (t, u, ci).

    Lane-wise they run over (t, ci, u): neighbouring taps share vectors.

    A tap belongs to exactly one phase.  Those of phases without outputs are never read and lie
    behind the others.
    """
    cdef Py_ssize_t kh, kw, t, u, ci, block, c0, c_len, at, row = 0
    cdef int ph, pw
    cdef Axis* h
    cdef Axis* w
    cdef Py_ssize_t taps = p.KH * p.KW
    p.order = <Py_ssize_t*>table(p.CI * taps, sizeof(Py_ssize_t))
    p.phase_row = <Py_ssize_t*>table(p.n_h * p.n_w, sizeof(Py_ssize_t))
    for t in range(p.CI * taps):
        p.order[t] = -1
    for ph in range(p.n_h):
        h = &p.h[ph]
        for pw in range(p.n_w):
            w = &p.w[pw]
            p.phase_row[ph * p.n_w + pw] = row
            for block in range(p.n_ci):
                c0 = block * p.ci_block
                c_len = min(p.ci_block, p.CI - c0)
                for t in range(h.taps):
                    for u in range(w.taps):
                        kh, kw = h.tap + t * h.tap_step, w.tap + u * w.tap_step
                        for ci in range(c0, c0 + c_len):
                            at = row + (t * w.taps + u) * c_len + ci - c0
                            if p.lanewise:
                                at = row + (t * c_len + ci - c0) * w.taps + u
                            p.order[(ci * p.KH + kh) * p.KW + kw] = at
                row += h.taps * w.taps * c_len
    for t in range(p.CI * taps):
        if p.order[t] < 0:
            p.order[t] = row
            row += 1
    return 0


cdef Py_ssize_t axis_span(const Axis* axes, int count, Py_ssize_t n) noexcept nogil:
    """Source positions that n outputs of every phase may read, padding included."""
    cdef Py_ssize_t low, high
    span(axes, count, 0, n, &low, &high)
    return high - low


cdef void cut_tasks(Plan* p, bint packs, bint dst_planar) noexcept nogil:
    """Images, base rows and lanes of a task."""
    cdef Py_ssize_t base_rows = p.h[0].n, base_columns = p.w[0].n
    cdef Py_ssize_t pixels, tasks, most, lanes
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
    if tasks < ENOUGH_TASKS and tasks > 0:
        p.split = max(p.n_lanes // ceil_div(ENOUGH_TASKS, tasks), 1)
    if dst_planar:
        lanes = SCRATCH_BYTES // p.itemsize // max(destination_pixels(p), 1)
        p.split = max(min(p.split, lanes // (p.lanes[0].nr * p.vf)), 1)
    p.n_splits = ceil_div(p.n_lanes, p.split)
    p.n_tasks = tasks * p.n_splits


cdef Py_ssize_t source_elements(const Plan* p, Py_ssize_t images, Py_ssize_t rows) noexcept nogil:
    cdef Py_ssize_t n_rows = axis_span(p.h, p.n_h, rows)
    cdef Py_ssize_t n_columns = axis_span(p.w, p.n_w, p.columns)
    if not p.padded:
        n_columns = min(n_columns, p.src_w)
    return images * min(n_rows, p.src_h) * n_columns * source_channels(p)


cdef Py_ssize_t source_channels(const Plan* p) noexcept nogil:
    """Channels of a packed pixel."""
    return split_lanes(p) * p.CI if p.lanewise else p.ci_block


cdef Py_ssize_t destination_pixels(const Plan* p) noexcept nogil:
    return p.images * min(p.rows * p.n_h, p.dst_h) * min(p.columns * p.n_w, p.dst_w)


cdef CorrelationPlan make_plan(
    const Geometry* g, bint backward, const fc_leaves* leaves, int itemsize,
    bint src_planar, bint dst_planar, bint pixels_contiguous
):
    cdef CorrelationPlan plan = CorrelationPlan.__new__(CorrelationPlan)
    cdef Plan* p = &plan.p
    cdef Py_ssize_t OH = g.OH, OW = g.OW, IH = g.IH, IW = g.IW, N = g.N
    cdef double by_channels = 0
    cdef Py_ssize_t depth
    cdef int width
    p.leaves, p.itemsize, p.vf = leaves, itemsize, leaves.vf
    p.G, p.KH, p.KW, p.flipped = g.G, g.KH, g.KW, backward
    p.cost = (<double>g.N * g.OH * g.OW * g.KH * g.KW) * g.OC * (g.IC // g.G)
    if pixels_contiguous:
        # A 1x1 kernel does not see rows or images: all their pixels are one row.
        if src_planar or dst_planar:
            OH, OW, IH, IW = 1, OH * OW, 1, IH * IW
        else:
            N, OH, OW, IH, IW = 1, 1, N * OH * OW, 1, N * IH * IW
    p.N = N
    if backward:
        p.CI, p.CO = g.OC // g.G, g.IC // g.G
        p.src_h, p.src_w, p.dst_h, p.dst_w = OH, OW, IH, IW
        p.n_h, p.n_w = <int>min(g.stride_h, max(IH, 1)), <int>min(g.stride_w, max(IW, 1))
    else:
        p.CI, p.CO = g.IC // g.G, g.OC // g.G
        p.src_h, p.src_w, p.dst_h, p.dst_w = IH, IW, OH, OW
        p.n_h = p.n_w = 1
    p.h = <Axis*>table(p.n_h, sizeof(Axis))
    p.w = <Axis*>table(p.n_w, sizeof(Axis))
    if backward:
        gradient_axes(p.h, IH, OH, g.KH, g.stride_h, g.pad_t, g.dil_h)
        gradient_axes(p.w, IW, OW, g.KW, g.stride_w, g.pad_l, g.dil_w)
    else:
        forward_axis(p.h, IH, OH, g.KH, g.stride_h, g.pad_t, g.dil_h)
        forward_axis(p.w, IW, OW, g.KW, g.stride_w, g.pad_l, g.dil_w)

    valid_rows(p)

    p.lanewise = is_lanewise(g.G, p.CI, p.CO, g.KH * g.KW, p.vf)
    if p.lanewise:
        p.spread.CI, p.spread.CO = p.CI, p.CO
        p.cost *= 4 if p.CI * p.CO == 1 else 2       # each product loads its own vector
        p.G, p.CO = 1, g.G * p.CO
    p.V = ceil_div(p.CO, p.vf)
    depth = max(p.CI * max_taps(p.h, p.n_h) * max_taps(p.w, p.n_w), 1)
    width = best_width(leaves, p.V, p.w[0].n, depth, True, True, &by_channels)
    p.pixel_lanes = g.KH * g.KW > 1 and not p.lanewise and (
        p.w[0].stride <= WIDEST_STRIDE and by_pixels_is_cheaper(p, depth, by_channels))
    if p.pixel_lanes:
        plan_pixel_lanes(p)
    elif p.lanewise:
        plan_depthwise(p, src_planar, dst_planar)
    else:
        p.n_lanes = cut_lanes(leaves, p.V, p.CO, width, &p.lanes)
        plan_channel_lanes(p, src_planar, dst_planar)
    # A planar destination is written in pieces of lines.
    p.streams = not dst_planar and not p.pixel_lanes and p.itemsize * N * (
        <double>g.IC * g.IH * g.IW + <double>g.OC * g.OH * g.OW) >= STREAM_BYTES
    return plan


cdef int valid_rows(Plan* p) except -1:
    cdef int ph
    cdef Py_ssize_t i, at
    p.valid = <Py_ssize_t*>table(2 * p.n_h * p.h[0].n, sizeof(Py_ssize_t))
    for ph in range(p.n_h):
        for i in range(p.h[ph].n):
            at = 2 * (ph * p.h[0].n + i)
            valid_taps(&p.h[ph], i, &p.valid[at], &p.valid[at + 1])
    return 0


cdef bint by_pixels_is_cheaper(
    const Plan* p, Py_ssize_t depth, double by_channels
) noexcept nogil:
    """Whether pixels fill the lanes so much better than channels that packing planes pays."""
    cdef Py_ssize_t columns = p.w[0].n, rows = p.h[0].n
    cdef Py_ssize_t lines = 1
    cdef Py_ssize_t V
    cdef double by_pixels = 0, channels, pixels
    if is_flat(p):
        lines = rows
        V = ceil_div(rows * flat_pitch(p), p.vf)
    else:
        V = ceil_div(columns, p.vf)
    best_width(p.leaves, V, p.CO, depth, False, False, &by_pixels)
    channels = by_channels * depth
    pixels = by_pixels * depth / lines + 0.5 * columns * (
        p.CI * p.h[0].stride * p.w[0].stride + p.CO)
    return pixels < 0.9 * channels


cdef Py_ssize_t flat_pitch(const Plan* p) noexcept nogil:
    return axis_span(p.w, p.n_w, p.w[0].n)


cdef bint is_flat(const Plan* p) noexcept nogil:
    """Whether the lanes run on over the ends of rows: shorter rows would leave many empty."""
    cdef Py_ssize_t n = p.w[0].n, rows = p.h[0].n
    if p.h[0].stride != 1 or p.w[0].stride != 1:
        return False
    return ceil_div(rows * flat_pitch(p), p.vf) < 0.9 * rows * ceil_div(n, p.vf)


cdef int plan_pixel_lanes(Plan* p) except -1:
    """Lanes are neighbouring pixels of a plane, rows of the tile are output channels."""
    cdef Py_ssize_t reach = axis_span(p.w, p.n_w, p.w[0].n), base_rows = p.h[0].n
    cdef Py_ssize_t run, in_rows
    cdef double cycles = 0
    cdef int width
    p.flat = is_flat(p)
    p.ci_block = p.CI
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
    width = best_width(p.leaves, p.V, p.CO, p.CI * p.KH * p.KW, False, False, &cycles)
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


# ---- depthwise -----------------------------------------------------------------------------------

cdef int plan_depthwise(Plan* p, bint src_planar, bint dst_planar) except -1:
    """Lanes are the channels of both sides, rows of the tile are pixels.

    A tile's pixels all see the same taps, so nothing is packed between zeros, unless most
    columns see the border.  Small groups are spread over lanes while they are packed.
    """
    cdef Py_ssize_t width
    cdef bint packs
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
        p.row_scratch = p.src_w * g_channels(p)
    p.dst_scratch = destination_pixels(p) * split_lanes(p) if dst_planar else 0
    return 0


cdef Py_ssize_t g_channels(const Plan* p) noexcept nogil:
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


cdef Py_ssize_t split_lanes(const Plan* p) noexcept nogil:
    """Lanes of the widest split: of a depthwise convolution, the last one."""
    return min((2 * p.split - 1 if p.lanewise else p.split) * p.lanes[0].nr, p.V) * p.vf


# ---- channels in the lanes -----------------------------------------------------------------------

cdef int plan_channel_lanes(Plan* p, bint packs, bint dst_planar) except -1:
    """Lanes are output channels, rows of the tile are pixels."""
    cdef Py_ssize_t taps = max(max_taps(p.h, p.n_h) * max_taps(p.w, p.n_w), 1)
    # A 1x1 kernel's lanes may depend on the batch, so its blocks must not follow from them.
    cdef Py_ssize_t widest = (FC_MAX_NR if taps == 1 else p.lanes[0].nr) * p.vf * p.itemsize
    p.ci_block = max(PANEL_BYTES // widest // taps // 16 * 16, 16)
    p.n_ci = max(ceil_div(p.CI, p.ci_block), 1)
    p.ci_block = ceil_div(ceil_div(p.CI, p.n_ci), 16) * 16 if p.n_ci > 1 else p.CI
    p.n_ci = max(ceil_div(p.CI, max(p.ci_block, 1)), 1)
    p.padded = p.CI < FEW_CHANNELS and taps > 1
    packs |= p.padded
    p.merged = p.n_ci == 1 and (packs or p.G == 1) and contiguous_taps(p.w, p.n_w)
    cut_tasks(p, packs, dst_planar)
    cut_columns(p)
    order_kernel(p)
    p.packed_size = p.G * p.V * p.vf * max(p.CI * p.KH * p.KW, 1)
    p.src_scratch = source_elements(p, p.images, p.rows) if packs else 0
    p.dst_scratch = destination_pixels(p) * split_lanes(p) if dst_planar else 0
    return 0


cdef Py_ssize_t max_taps(const Axis* axes, int count) noexcept nogil:
    cdef Py_ssize_t most = 0
    cdef int i
    for i in range(count):
        most = max(most, axes[i].taps)
    return most


cdef bint contiguous_taps(const Axis* axes, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        if axes[i].taps > 1 and axes[i].offset_step != 1:
            return False
    return True
