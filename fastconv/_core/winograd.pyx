# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The loop nest of 3x3 convolutions of stride 1 with fewer multiplications: Winograd's.

An output tile of m x m pixels is seen by n x n source pixels, n = m + 2.  Transformed, both the
pixels and the kernel are n x n *values*, and a sum over channels of products of values, transformed
back, is the tile: n*n multiplications for each pair of channels, where the direct sum takes 9*m*m.
With m = 4 that is a quarter.  The transforms are leaves (``winograd.inc.h``); the sums over
channels are n*n matrix products by the register tile, whose rows are tiles of the image:

    task    (group, block of tiles, lane blocks)                         in parallel
      tile                    its pixels, all channels, become values
      lane block              one panel of the transformed kernel for each value
        value
          MR tiles            one call of the register tile: sums channels in registers
        tile                  its products become pixels: bias and ReLU are applied

Values and products of a task stay in L2 and are never written elsewhere.  Tiles at the border hang
over it; what lies outside counts as zero and is not stored.  A planar result is turned a row of
tiles at a time.

Tasks write disjoint pixels and channels of the destination, so no two threads write one place.  The
sum of an output has one order, by channels, whatever the task; so it has the same bits on any team.
"""

from libc.stdlib cimport free
from libc.string cimport memset

from fastconv._core.ahead cimport ask_nothing
from fastconv._core.caches cimport L2_BYTES
from fastconv._core.geometry cimport Axis, forward_axis, gradient_axes
from fastconv._core.isa cimport FC_MAX_MR, fc_tile, fc_winograd, max_rows, vector_cycles
from fastconv._core.plan cimport (
    STREAM_BYTES, best_width, ceil_div, cheapest_leaves, cut_lanes, tallest_tile)
from fastconv._core.threads cimport parallel_for
from fastconv._core.tiling cimport (
    CACHE_LINE, Place, Tiling, odd_lines, place_of, row_end, row_scratch, transform_tiles)

# Bytes of the L2 cache that the values and products of a task may take.
cdef Py_ssize_t TASK_BYTES = L2_BYTES // 4 * 3
# A panel of the kernel is read for so many tiles at most.
cdef Py_ssize_t MOST_TILES = 56
# There are so many tasks, if that does not take many more transforms.
cdef Py_ssize_t ENOUGH_TASKS = 8
cdef double MORE_TRANSFORMS = 0.1
# Cycles of transforming a vector of lanes of a tile, n = 4 and 6.
cdef double DATA_CYCLES[2]
cdef double FOLD_CYCLES[2]
# Channels summed in a register before the sum is added to others: long sums round more.
cdef Py_ssize_t LONGEST_SUM = 128
# From and to the last cache or memory.
cdef double BYTES_PER_CYCLE = 8
cdef double KERNEL_CYCLES[2]
DATA_CYCLES[:] = [70, 180]
FOLD_CYCLES[:] = [50, 130]
KERNEL_CYCLES[:] = [60, 150]


cdef class WinogradPlan:
    """Owner of a plan's table."""

    def __dealloc__(self):
        free(self.p.lanes)


# ---- the plan -----------------------------------------------------------------------------------

cdef bint fits_winograd(const Geometry* g) noexcept nogil:
    return g.KH == 3 and g.KW == 3 and g.stride_h == g.stride_w == g.dil_h == g.dil_w == 1


cdef int tile_size(Py_ssize_t H, Py_ssize_t W) noexcept nogil:
    """Outputs on a side of a tile, 2 or 4: what takes fewer products for an image."""
    return 2 if (16 * ceil_div(H, 2) * ceil_div(W, 2)
                 < 36 * ceil_div(H, 4) * ceil_div(W, 4)) else 4


cdef WinogradPlan plan_winograd(
    const Geometry* g, bint backward, const fc_leaves* leaves, int itemsize,
    bint src_planar, bint dst_planar
):
    cdef WinogradPlan plan = WinogradPlan.__new__(WinogradPlan)
    cdef Winograd* p = &plan.p
    cdef Tiling* x = &p.pixels
    cdef Axis h, w
    cdef Py_ssize_t t, u, ci, most, values, bytes
    cdef double products = 0, data, fold, taps, vector
    cdef int width, m, size
    p.N, p.G, p.flipped = g.N, g.G, backward
    p.dst_planar = dst_planar
    if backward:
        p.CI, p.CO, p.dst_h, p.dst_w = g.OC // g.G, g.IC // g.G, g.IH, g.IW
        gradient_axes(&h, g.IH, g.OH, 3, 1, g.pad_t, 1)
        gradient_axes(&w, g.IW, g.OW, 3, 1, g.pad_l, 1)
    else:
        p.CI, p.CO, p.dst_h, p.dst_w = g.IC // g.G, g.OC // g.G, g.OH, g.OW
        forward_axis(&h, g.IH, g.OH, 3, 1, g.pad_t, 1)
        forward_axis(&w, g.IW, g.OW, 3, 1, g.pad_l, 1)
    m = tile_size(p.dst_h, p.dst_w)
    p.m, p.n, size = m, m + 2, m // 4
    leaves = cheapest_leaves(leaves, p.CO, MOST_TILES, p.CI, p.CI, 0.95)
    p.leaves, p.itemsize, p.vf = leaves, itemsize, leaves.vf
    x.leaves, x.itemsize, x.packs, x.is_data = leaves, itemsize, src_planar, True
    x.n = x.size = p.n
    x.tile, x.N = m, p.N
    x.rows, x.columns = ceil_div(p.dst_h, m), ceil_div(p.dst_w, m)
    x.top, x.left, x.H, x.W = h.offset, w.offset, h.source, w.source
    p.tiles = x.N * x.rows * x.columns
    values = p.n * p.n
    for ci in range(KERNEL_ROWS):
        for t in range(3):
            for u in range(3):
                p.order[(ci * 3 + h.tap + t * h.tap_step) * 3 + w.tap + u * w.tap_step] = (
                    (t * 3 + u) * KERNEL_ROWS + ci)

    p.V = ceil_div(p.CO, p.vf)
    width = best_width(leaves, p.V, min(p.tiles, MOST_TILES), p.CI, p.CI, False, True, &products)
    p.n_lanes = cut_lanes(leaves, p.V, p.CO, width, &p.lanes)
    width = p.lanes[0].nr
    most = tallest_tile(leaves, p.lanes, p.n_lanes)
    x.pitch = ceil_div(p.CI * itemsize, CACHE_LINE) * CACHE_LINE // itemsize
    if x.pitch * itemsize % 4096 == 0:
        x.pitch += CACHE_LINE // itemsize       # rows of the tile would share the sets of L1

    # Tiles of a task: as many as L2 holds, in whole register tiles.
    bytes = values * (x.pitch + width * p.vf) * itemsize
    p.block = min(TASK_BYTES // bytes, MOST_TILES) // most * most
    p.block = max(p.block, most)
    p.n_blocks = ceil_div(p.tiles, p.block)
    while p.n_blocks * p.G < ENOUGH_TASKS and p.block > 2 * most:
        p.block -= most
        p.n_blocks = ceil_div(p.tiles, p.block)
    p.block = ceil_div(p.tiles, max(p.n_blocks, 1))
    p.n_blocks = ceil_div(p.tiles, max(p.block, 1))
    x.step = odd_lines(p.block * x.pitch, itemsize)
    p.product_step = odd_lines(p.block * width * p.vf, itemsize)

    vector = vector_cycles(leaves)
    best_width(leaves, p.V, p.block, p.CI, p.CI, False, True, &products)
    products *= <double>values * p.CI * p.n_blocks * p.G
    data = <double>p.tiles * p.G * ceil_div(p.CI, p.vf) * DATA_CYCLES[size] * vector
    fold = <double>p.tiles * p.G * p.V * FOLD_CYCLES[size] * vector
    p.packed_size = p.G * p.V * p.vf * p.CI * values
    taps = <double>p.G * p.CI * p.V * KERNEL_CYCLES[size] * vector
    if p.packed_size * itemsize > L2_BYTES:
        taps += 2.0 * p.packed_size * itemsize / BYTES_PER_CYCLE     # written, and read again
    # Few tiles share their lanes among several tasks, which transform the same pixels.
    p.n_splits = 1
    while (p.n_blocks * p.G * p.n_splits < ENOUGH_TASKS and p.n_splits < p.n_lanes
           and data * p.n_splits < MORE_TRANSFORMS * products):
        p.n_splits += 1
    p.split = ceil_div(p.n_lanes, p.n_splits)
    p.n_splits = ceil_div(p.n_lanes, p.split)
    p.n_tasks = p.n_blocks * p.n_splits * p.G
    p.cycles = products + data * p.n_splits + fold + taps
    p.cost = p.cycles * leaves.vf / vector

    p.values_scratch, p.products_scratch = values * x.step, values * p.product_step
    p.src_scratch = max(row_scratch(x, p.block, p.CI), 9 * KERNEL_ROWS * width * p.vf)
    p.dst_scratch = m * min(p.block, x.columns) * m * width * p.vf if p.dst_planar else 0
    p.streams = not dst_planar and itemsize * g.N * (
        <double>g.IC * g.IH * g.IW + <double>g.OC * g.OH * g.OW) >= STREAM_BYTES
    return plan


cdef Py_ssize_t winograd_scratch_bytes(const Winograd* p) noexcept nogil:
    """Bytes of scratch that one thread needs, a whole number of cache lines."""
    return ((p.values_scratch + p.products_scratch + p.src_scratch + p.dst_scratch)
            * p.itemsize + 127) // 64 * 64


# ---- the nest -----------------------------------------------------------------------------------

cdef struct Run:
    const Winograd* p
    const Image* src
    const Image* dst
    const char* kernel
    const char* bias
    char* packed
    char* scratch
    bint relu, streams

cdef int winograd(
    const Winograd* plan, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* packed, char* scratch, int team
) except -1 nogil:
    cdef Run run
    run.p, run.src, run.dst, run.kernel, run.bias = plan, src, dst, kernel, bias
    run.packed, run.scratch, run.relu = packed, scratch, relu
    run.streams = plan.streams and is_aligned(plan, dst)
    if kernel != NULL:      # it may be packed already
        parallel_for(plan.G * plan.n_lanes * ceil_div(plan.CI, KERNEL_ROWS), team, kernel_task,
                     &run)
    parallel_for(plan.n_tasks, team, winograd_task, &run)


cdef bint is_aligned(const Winograd* p, const Image* dst) noexcept nogil:
    return (<size_t>dst.data % (p.vf * p.itemsize) == 0 and dst.sn % p.vf == 0
            and dst.sh % p.vf == 0 and dst.sw % p.vf == 0 and (p.G == 1 or p.CO % p.vf == 0))


cdef void kernel_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    """Values of some input channels' taps for one block of lanes: panels (value, ci) of lanes."""
    cdef Run* run = <Run*>context
    cdef const Winograd* p = run.p
    cdef Py_ssize_t chunks = ceil_div(p.CI, KERNEL_ROWS), size = p.itemsize
    cdef Py_ssize_t ci0 = number % chunks * KERNEL_ROWS, ci1 = min(ci0 + KERNEL_ROWS, p.CI)
    cdef Lanes* lanes = &p.lanes[number // chunks % p.n_lanes]
    cdef Py_ssize_t g = number // chunks // p.n_lanes
    cdef Py_ssize_t width = lanes.nr * p.vf, v, ci, count
    # The kernel array is (OC, IC / G, 3, 3).
    cdef Py_ssize_t k_co = 9 if p.flipped else 9 * p.CI
    cdef Py_ssize_t k_ci = 9 * p.CO if p.flipped else 9
    cdef const char* k = run.kernel + (
        g * p.CO * p.CI * 9 + lanes.c0 * k_co + ci0 * k_ci) * size
    cdef char* taps = run.scratch + thread * winograd_scratch_bytes(p)
    cdef fc_winograd t
    if lanes.count < width:
        memset(taps, 0, 9 * KERNEL_ROWS * width * size)
    for v in range(lanes.nr):
        count = min(p.vf, lanes.count - v * p.vf)
        if p.flipped:
            for ci in range(ci1 - ci0):
                p.leaves.transpose(taps + v * p.vf * size, width, p.order + ci * 9,
                                   k + (v * p.vf * k_co + ci * k_ci) * size, k_co, count, 9)
        else:
            p.leaves.transpose(taps + v * p.vf * size, width, p.order,
                               k + v * p.vf * k_co * size, k_co, count, 9 * (ci1 - ci0))
    t.n, t.size, t.lanes = p.n, 3, width
    t.h0 = t.w0 = 0
    t.h1 = t.w1 = 3
    t.src_w, t.dst_w = KERNEL_ROWS * width, p.CI * width
    t.src_h, t.dst_h = 3 * t.src_w, p.n * t.dst_w
    for ci in range(ci0, ci1):
        t.src = taps + (ci - ci0) * width * size
        t.dst = (run.packed + ((g * p.V + lanes.v0) * p.vf * p.CI * p.n * p.n + ci * width) * size)
        p.leaves.winograd_spread(&t)


cdef void winograd_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef Run* run = <Run*>context
    cdef const Winograd* p = run.p
    cdef char* values = run.scratch + thread * winograd_scratch_bytes(p)
    cdef char* products = values + p.values_scratch * p.itemsize
    cdef char* scratch = products + p.products_scratch * p.itemsize
    cdef Py_ssize_t split, g, tile0, tile1, block
    split, number = number % p.n_splits, number // p.n_splits
    g, number = number % p.G, number // p.G
    tile0, tile1 = number * p.block, min((number + 1) * p.block, p.tiles)
    transform_tiles(&p.pixels, run.src, g * p.CI, (g + 1) * p.CI, tile0, tile1, values, scratch)
    for block in range(split * p.split, min((split + 1) * p.split, p.n_lanes)):
        multiply(run, g, &p.lanes[block], tile1 - tile0, values, products)
        write_pixels(run, g, &p.lanes[block], tile0, tile1, products,
                     scratch + p.src_scratch * p.itemsize)
    if run.streams:
        p.leaves.fence()


cdef void multiply(
    const Run* run, Py_ssize_t g, const Lanes* lanes, Py_ssize_t tiles, const char* values,
    char* products
) noexcept nogil:
    """products[value][tile][lane] = sum over ci of values[value][tile][ci] * panel[value][ci][lane]
    """
    cdef const Winograd* p = run.p
    cdef Py_ssize_t a_off[FC_MAX_MR]
    cdef Py_ssize_t c_off[FC_MAX_MR]
    cdef Py_ssize_t most = max_rows(p.leaves, lanes.nr), width = lanes.nr * p.vf
    cdef Py_ssize_t tallest = ceil_div(tiles, ceil_div(tiles, most)), height, size = p.itemsize
    cdef Py_ssize_t value, first, row, ci0
    cdef Py_ssize_t sum_length = ceil_div(p.CI, ceil_div(p.CI, LONGEST_SUM))
    cdef fc_tile t
    ask_nothing(&t)
    for row in range(tallest):
        a_off[row], c_off[row] = row * p.pixels.pitch, row * width
    t.a_off, t.c_off = a_off, c_off
    t.a_t = t.a_u = t.b_t = t.b_u = t.b_n = 0
    t.a_k, t.b_k = 1, width
    t.nt, t.nu = 1, 1
    t.lane_bias = t.row_bias = NULL
    t.lanes, t.relu, t.stream = width, False, False
    t.b = run.packed + (g * p.V + lanes.v0) * p.vf * p.CI * p.n * p.n * size
    for value in range(p.n * p.n):
        ci0 = 0
        while ci0 < p.CI:
            t.nk, t.accumulate = min(sum_length, p.CI - ci0), ci0 > 0
            first = 0
            while first < tiles:
                t.a = values + (value * p.pixels.step + first * p.pixels.pitch + ci0) * size
                t.c = products + (value * p.product_step + first * width) * size
                height = min(tallest, tiles - first)
                t.n = (tiles - first) // height
                t.a_n, t.c_n = height * p.pixels.pitch, height * width
                p.leaves.tile[lanes.nr - 1][height - 1](&t)
                first += t.n * height
            t.b = <const char*>t.b + t.nk * width * size
            ci0 += sum_length
    # end: value


cdef void write_pixels(
    const Run* run, Py_ssize_t g, const Lanes* lanes, Py_ssize_t tile0, Py_ssize_t tile1,
    const char* products, char* scratch
) noexcept nogil:
    """Products (value, tile, lane) become the pixels of one block of lanes."""
    cdef const Winograd* p = run.p
    cdef const Tiling* x = &p.pixels
    cdef Py_ssize_t number, first = tile0, width = lanes.nr * p.vf, size = p.itemsize, r
    cdef Place tile
    cdef Image dst = run.dst[0]
    cdef char* planes
    cdef fc_winograd t
    t.n, t.size, t.relu, t.stream = p.n, p.m, run.relu, run.streams
    t.src_w = p.product_step
    t.src_h = p.n * t.src_w
    t.bias = NULL
    if run.bias != NULL:
        t.bias = run.bias + (g * p.V * p.vf + lanes.c0) * size
    dst.data += (g * p.CO + lanes.c0) * dst.sc * size
    t.lanes = lanes.count
    for number in range(tile0, tile1):
        tile = place_of(x, number)
        if number == tile0 or tile.j == 0:
            first = number
        t.h1, t.w1 = p.dst_h - tile.i, p.dst_w - tile.j
        t.src = products + (number - tile0) * width * size
        if p.dst_planar:
            t.lanes = width
            t.dst_w = width
            t.dst_h = (row_end(x, first, tile1) - first) * p.m * width
            t.dst = scratch + (number - first) * p.m * width * size
        else:
            t.dst_h, t.dst_w = dst.sh, dst.sw
            t.dst = dst.data + (tile.n * dst.sn + tile.i * dst.sh + tile.j * dst.sw) * size
        p.leaves.winograd_fold(&t)
        if p.dst_planar and number + 1 == row_end(x, first, tile1):
            planes = dst.data + (tile.n * dst.sn + tile.i * dst.sh
                                 + first % x.columns * p.m * dst.sw) * size
            for r in range(min(p.m, t.h1)):
                p.leaves.transpose(planes + r * dst.sh * size, dst.sc, NULL,
                                   scratch + r * t.dst_h * size, width,
                                   min(p.dst_w, tile.j + p.m) - first % x.columns * p.m,
                                   lanes.count)
    # end: number
