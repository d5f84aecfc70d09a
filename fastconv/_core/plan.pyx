# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""How a correlation is cut: what the plans of all its nests share.

A plan follows from the problem's shape, the register tile and the cache sizes, never from the
number of threads; what could change the order of a sum (lanes, channel blocks, column tiles) does
not depend on the batch or on the memory order either.  Plans are made by the nest that runs them
(``correlate``, ``depthwise``, ``planes``), which ``nests`` chooses; here are their parts.

**Lanes.**  V vectors of lanes are cut into blocks of a width that is chosen by counting the cycles
of all tiles, tails and calls included.  A cycle is the time of a multiply-add of the processor's
widest vectors, whichever a plan uses.

**Columns.**  A row of outputs is cut into tiles of at most MR pixels.  Near a border some taps
fall outside the source for some pixels of a tile; the taps are grouped into *parts*, runs of taps
that are valid for the same pixels, and each part is one call of the tile.  So a tap on padding is
never computed and no padded copy of the image is needed.  Lane-wise tiles end where the taps
change and have one part.  Where parts would be too short the source is packed between zeros
(`padded`), and a tile has one part again.

**The kernel** is packed in the order in which the tiles read it.
"""

from libc.stdlib cimport calloc, free

from fastconv._core.caches cimport L2_BYTES, L3_BYTES
from fastconv._core.geometry cimport (
    Axis, all_inside, end_of_run, end_valid, first_valid, span, valid_taps)
from fastconv._core.isa cimport (
    FC_LONG_SLIDE, FC_MAX_NR, FC_SLIDE, Costs, costs, fc_leaves, max_rows, vector_cycles)

# Below this many reduced channels a part of a tile is too short a call.
FEW_CHANNELS = 16
# Bytes of the L2 cache that each scratch of a task may take.
SCRATCH_BYTES = L2_BYTES // 4
# A call that moves so many bytes asks ahead for what it reads: more than a core's own cache keeps.
ASK_BYTES = 2 * L2_BYTES
# A call that moves so many bytes streams its result: its first lines would be gone from the last
# cache before anyone came to read them.
STREAM_BYTES = L3_BYTES // 4
# A task is enough work to be handed out; there are enough tasks to share among many threads.
TASK_WORK = 1.0e6
ENOUGH_TASKS = 32
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


cdef double tile_cycles(
    const fc_leaves* leaves, Py_ssize_t mr, int nr, bint aligned
) noexcept nogil:
    """Cycles of one step of the reduction.

    Too few chains cannot hide the FMA's latency.  A vector that is not aligned is two loads.  Of a
    tile that has no register left for its last vector each row but the first loads that again.
    More than eight rows have more pointers than one.
    """
    cdef Costs c = costs(leaves)
    cdef double loads = (nr if aligned else 2 * nr) * c.load + mr * c.broadcast
    if mr * nr + nr >= leaves.registers:
        loads += (mr - 1) * c.load
    return (max(max(mr * nr * c.fma, c.latency), loads) + 0.2 * nr * c.fma + 0.05 * mr
            + 0.1 * max(mr - 8, 0))


cdef double call_cycles(
    const fc_leaves* leaves, Py_ssize_t mr, int nr, double runs
) noexcept nogil:
    """What a tile costs beside its steps: most of it for each vector that is begun and stored.

    Its innermost loop begins `runs` times.  Where rows have but one vector, nothing hides that the
    pointers to all rows are read again.
    """
    return 30 + 4 * mr * nr * vector_cycles(leaves) + (2 * mr * runs if nr == 1 else 0)


cdef Py_ssize_t tile_height(
    const fc_leaves* leaves, Py_ssize_t rows, int nr, Py_ssize_t* joined
) noexcept nogil:
    """Rows of a tile that has so many to cover; as many images as `joined` may share it."""
    cdef Py_ssize_t most = max_rows(leaves, nr)
    joined[0] = 1
    if rows > most:
        return ceil_div(rows, ceil_div(rows, most))
    if 2 * rows <= most:
        joined[0] = most // max(rows, 1)
    return rows


cdef double row_cycles(
    const fc_leaves* leaves, Py_ssize_t rows, int nr, Py_ssize_t depth, Py_ssize_t run, bint joins,
    bint aligned
) noexcept nogil:
    """Cycles of a row of tiles per step of a reduction of `depth` steps, in runs of `run`."""
    cdef Py_ssize_t joined
    cdef Py_ssize_t mr = tile_height(leaves, rows, nr, &joined)
    cdef double cycles
    if not joins:
        joined = 1
    cycles = <double>(rows // mr) / joined * (
        tile_cycles(leaves, mr * joined, nr, aligned)
        + call_cycles(leaves, mr * joined, nr, <double>depth / run) / depth)
    if rows % mr:
        cycles += tile_cycles(leaves, rows % mr, nr, aligned)
        cycles += call_cycles(leaves, rows % mr, nr, <double>depth / run) / depth
    return cycles


cdef int best_width(
    const fc_leaves* leaves, Py_ssize_t V, Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t run,
    bint joins, bint aligned, double* cycles
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
        cost = (blocks - wide) * row_cycles(leaves, rows, narrow, depth, run, joins, aligned)
        if wide:
            cost += wide * row_cycles(leaves, rows, narrow + 1, depth, run, joins, aligned)
        if nr == 1 or cost < cycles[0] * 0.999:
            best, cycles[0] = nr, cost
    return best


cdef const fc_leaves* cheapest_leaves(
    const fc_leaves* wide, Py_ssize_t lanes, Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t run,
    double share
) noexcept nogil:
    """Narrow vectors where wide ones would stay half empty, or where they cover so many lanes x
    rows in less than a share of the cycles.

    Without rows the lanes alone decide.
    """
    cdef double wide_cycles = 0, narrow_cycles = 0
    cdef const fc_leaves* narrow = wide.narrow
    if narrow == NULL:
        return wide
    if 2 * lanes <= wide.vf:
        return narrow
    if rows == 0:
        return wide
    best_width(wide, ceil_div(lanes, wide.vf), rows, depth, run, True, True, &wide_cycles)
    best_width(narrow, ceil_div(lanes, narrow.vf), rows, depth, run, True, True, &narrow_cycles)
    return narrow if narrow_cycles < share * wide_cycles else wide


cdef double shared_cycles(
    const fc_leaves* leaves, Py_ssize_t lanes, Py_ssize_t CI, double depth, double step,
    double sources
) noexcept nogil:
    """Cycles of a pixel of small groups that share vectors: `depth` steps for each of these.

    A step of a wide vector costs so much, with its own load, and one of a narrow vector not much
    less; so many source pixels are spread over lanes for it.
    """
    step *= 0.5 + 0.5 * vector_cycles(leaves)
    return ceil_div(lanes, leaves.vf) * (step * depth + 5 + 5 * CI * sources)


cdef const fc_leaves* lanewise_leaves(const fc_leaves* wide, Py_ssize_t lanes) noexcept nogil:
    """Leaves for lanes that meet lanes: of vectors that are no shorter than they must be, as a
    vector takes its time, however short."""
    return cheapest_leaves(wide, lanes, 0, 0, 0, 1)


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
    if p.padded or all_inside(w, tile.j0, tile.j1):
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


cdef void border_cycles(
    const Plan* p, int nr, double* inside, double* by_parts, double* by_zeros
) noexcept nogil:
    """Cycles of a row for one block of nr vectors: if all taps were inside; with the tiles cut into
    parts; and packed between zeros, the packing included.

    Of a large kernel on a small image nearly all taps meet a border, and parts are short.
    """
    cdef const Axis* w = &p.w[0]
    cdef Py_ssize_t j = 0, u, a, b, last_a, last_b, mr, joined
    cdef double runs = max_taps(p.h, p.n_h), steps = p.CI * runs, whole
    inside[0] = by_parts[0] = 0
    while j < w.n:
        mr = tile_height(p.leaves, w.n - j, nr, &joined)
        whole = w.taps * steps * tile_cycles(p.leaves, mr, nr, True)
        whole += call_cycles(p.leaves, mr, nr, runs)
        inside[0] += whole
        last_a = last_b = -1
        if all_inside(w, j, j + mr):
            by_parts[0] += whole
        else:
            for u in range(w.taps):
                a, b = max(first_valid(w, u), j), min(end_valid(w, u), j + mr)
                if a < b:
                    by_parts[0] += steps * tile_cycles(p.leaves, b - a, nr, True)
                    if a != last_a or b != last_b:
                        by_parts[0] += call_cycles(p.leaves, b - a, nr, runs)
                last_a, last_b = a, b
        j += mr
    by_zeros[0] = inside[0] + 0.5 * p.CI * w.n * w.stride * runs


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
                    j = stop = cb * p.columns
                    end = min(j + p.columns, w.n)
                    while j < end:
                        if j == stop:
                            stop = end
                            if p.lanewise and not p.padded:
                                stop = end_of_run(w, j, end, &u0, &u1)
                        mr = tile_height(p.leaves, stop - j, nr, &joined)
                        if p.lanewise and w.stride == w.offset_step:
                            mr = following_height(
                                p.leaves, stop - j, nr, w.taps if p.padded else u1 - u0, mr)
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


cdef Py_ssize_t following_height(
    const fc_leaves* leaves, Py_ssize_t rows, int nr, Py_ssize_t taps, Py_ssize_t mr
) noexcept nogil:
    """Rows of a lane-wise tile that lie one tap apart: mr, or so many that each can hand its
    vectors to the next, where there are more taps than are read at once."""
    cdef Py_ssize_t most = leaves.max_mr[nr - 1] // FC_SLIDE * FC_SLIDE
    if rows < 2 * FC_SLIDE or taps <= FC_SLIDE or taps == FC_LONG_SLIDE:
        return mr
    mr = ceil_div(ceil_div(rows, ceil_div(rows, most)), FC_SLIDE) * FC_SLIDE
    return min(mr, rows // FC_SLIDE * FC_SLIDE)


cdef bint uses_width(const Plan* p, int nr) noexcept nogil:
    return p.lanes[0].nr == nr or p.lanes[p.n_lanes - 1].nr == nr


cdef int order_kernel(Plan* p) except -1:
    """Where the taps go: packed rows run over phases, blocks of CI, then (t, u, ci).

    Lane-wise they run over (t, ci, u): the tile takes neighbouring taps innermost.

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


cdef Py_ssize_t source_elements(const Plan* p, Py_ssize_t images, Py_ssize_t rows) noexcept nogil:
    cdef Py_ssize_t n_rows = axis_span(p.h, p.n_h, rows)
    cdef Py_ssize_t n_columns = axis_span(p.w, p.n_w, p.columns)
    if not p.padded:
        n_columns = min(n_columns, p.src_w)
    return images * min(n_rows, p.src_h) * n_columns * source_channels(p)


cdef Py_ssize_t source_channels(const Plan* p) noexcept nogil:
    """Channels of a packed pixel."""
    return split_lanes(p) * p.CI if p.lanewise else p.pitch


cdef Py_ssize_t destination_pixels(const Plan* p) noexcept nogil:
    return p.images * min(p.rows * p.n_h, p.dst_h) * min(p.columns * p.n_w, p.dst_w)


cdef int valid_rows(Plan* p) except -1:
    cdef int ph
    cdef Py_ssize_t i, at
    p.valid = <Py_ssize_t*>table(2 * p.n_h * p.h[0].n, sizeof(Py_ssize_t))
    for ph in range(p.n_h):
        for i in range(p.h[ph].n):
            at = 2 * (ph * p.h[0].n + i)
            valid_taps(&p.h[ph], i, &p.valid[at], &p.valid[at + 1])
    return 0


cdef Py_ssize_t split_lanes(const Plan* p) noexcept nogil:
    """Lanes of the widest split: of a depthwise convolution, the last one."""
    return min((2 * p.split - 1 if p.lanewise else p.split) * p.lanes[0].nr, p.V) * p.vf


cdef Py_ssize_t max_taps(const Axis* axes, int count) noexcept nogil:
    cdef Py_ssize_t most = 0
    cdef int i
    for i in range(count):
        most = max(most, axes[i].taps)
    return most
