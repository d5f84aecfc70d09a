# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The kernel gradient of 3x3 convolutions of stride 1 with fewer multiplications: Winograd's.

Here the m x m tiles of dy are the taps, slid over the n x n pixels of x that they saw: 3 x 3
results for each pair of channels, from the same n = m + 2 points as in ``winograd``.  Values of
both are multiplied and summed over tiles, which is n*n matrix products by the register tile with
input channels as rows and output channels as lanes; the sums are transformed back once.

    task    (chunk of tiles, group, input channels, lane blocks)         in parallel
      block of tiles          pixels of x and of dy become values
        value
          lane block
            MR channels       one call of the register tile: sums tiles in registers
      channel                 its sums become 3 x 3 taps of a partial kernel

Each task writes its own part of a partial kernel, so no two threads write one place; chunks are cut
by the problem's shape, and their partial kernels are added in order.
"""

from libc.stdlib cimport free

from fastconv._core.ahead cimport ask_nothing
from fastconv._core.caches cimport L2_BYTES
from fastconv._core.isa cimport FC_MAX_MR, fc_tile, fc_winograd, max_rows, vector_cycles
from fastconv._core.partials cimport add_partials, partial_size
from fastconv._core.plan cimport (
    best_width, ceil_div, cheapest_leaves, cut_lanes, tallest_tile)
from fastconv._core.threads cimport interrupted, parallel_for
from fastconv._core.tiling cimport CACHE_LINE, odd_lines, row_scratch, transform_tiles
from fastconv._core.winograd cimport tile_size

# Bytes that the values of a block of tiles may take, and the sums of a task.
cdef Py_ssize_t BLOCK_BYTES = L2_BYTES
cdef Py_ssize_t SUM_BYTES = L2_BYTES
# Tiles of a block; fewer are too short a sum, and more bring nothing.
cdef Py_ssize_t LEAST_TILES = 28
cdef Py_ssize_t MOST_TILES = 112
# Tiles of a chunk, at least: its sums are transformed back once.
cdef Py_ssize_t CHUNK_TILES = 56
# There are so many tasks, if that does not take many more transforms.
cdef Py_ssize_t ENOUGH_TASKS = 8
cdef double MORE_TRANSFORMS = 0.15
# Cycles of transforming a vector of lanes, n = 4 and 6.
cdef double X_CYCLES[2]
cdef double DY_CYCLES[2]
cdef double FOLD_CYCLES[2]
X_CYCLES[:] = [70, 180]
DY_CYCLES[:] = [50, 150]
FOLD_CYCLES[:] = [50, 130]


cdef class WinogradGradientPlan:
    """Owner of a plan's table."""

    def __dealloc__(self):
        free(self.p.lanes)


# ---- the plan -----------------------------------------------------------------------------------

cdef WinogradGradientPlan plan_winograd_gradient(
    const Geometry* g, const fc_leaves* leaves, int itemsize, bint x_planar, bint dy_planar
):
    """What is summed in which order must not depend on the memory's order."""
    cdef WinogradGradientPlan plan = WinogradGradientPlan.__new__(WinogradGradientPlan)
    cdef WinogradGradient* p = &plan.p
    cdef Py_ssize_t values, most, chunks
    cdef double products = 0, x, dy, fold, vector
    cdef int width, m = tile_size(g.OH, g.OW), size = m // 4
    p.G, p.CI, p.CO, p.m, p.n = g.G, g.IC // g.G, g.OC // g.G, m, m + 2
    leaves = cheapest_leaves(leaves, p.CO, p.CI, LEAST_TILES, LEAST_TILES, 0.95)
    p.leaves, p.itemsize, p.vf = leaves, itemsize, leaves.vf
    values = p.n * p.n
    p.x.leaves = p.dy.leaves = leaves
    p.x.itemsize = p.dy.itemsize = itemsize
    p.x.n = p.dy.n = p.x.size = p.n
    p.dy.size = p.x.tile = p.dy.tile = m
    p.x.is_data, p.dy.is_data = True, False
    p.x.packs, p.dy.packs = x_planar, dy_planar
    p.x.N = p.dy.N = g.N
    p.x.rows = p.dy.rows = ceil_div(g.OH, m)
    p.x.columns = p.dy.columns = ceil_div(g.OW, m)
    p.x.top, p.x.left, p.x.H, p.x.W = -g.pad_t, -g.pad_l, g.IH, g.IW
    p.dy.top, p.dy.left, p.dy.H, p.dy.W = 0, 0, g.OH, g.OW
    p.tiles = g.N * p.x.rows * p.x.columns

    p.V = ceil_div(p.CO, p.vf)
    width = best_width(leaves, p.V, p.CI, LEAST_TILES, LEAST_TILES, False, True, &products)
    p.n_lanes = cut_lanes(leaves, p.V, p.CO, width, &p.lanes)
    width = p.lanes[0].nr
    most = tallest_tile(leaves, p.lanes, p.n_lanes)

    # Tasks: chunks of tiles first, then lanes and channels, each as far as it is cheap.
    chunks = max(min(p.tiles // CHUNK_TILES, ENOUGH_TASKS), 1)
    p.split, p.n_splits, p.channels, p.n_channels = p.n_lanes, 1, p.CI, 1
    while values * p.channels * p.split * width * p.vf * itemsize > SUM_BYTES:
        if p.channels > most and (p.channels >= p.split * width * p.vf or p.split == 1):
            cut_channels(p, most)
        elif p.split > 1:
            cut_split(p)
        else:
            break
    vector = vector_cycles(leaves)
    products *= <double>values * p.tiles * p.G
    x = <double>p.tiles * p.G * ceil_div(p.CI, p.vf) * X_CYCLES[size] * vector
    dy = <double>p.tiles * p.G * p.V * DY_CYCLES[size] * vector
    while (chunks * p.G * p.n_splits * p.n_channels < ENOUGH_TASKS and p.split > 1
           and x * p.n_splits < MORE_TRANSFORMS * products):
        cut_split(p)
    while (chunks * p.G * p.n_splits * p.n_channels < ENOUGH_TASKS and p.channels > most
           and dy * p.n_channels < MORE_TRANSFORMS * products):
        cut_channels(p, most)
    p.width = min(p.split * width, p.V) * p.vf
    p.x.pitch = ceil_div(p.channels * itemsize, CACHE_LINE) * CACHE_LINE // itemsize
    p.dy.pitch = p.width

    p.block = BLOCK_BYTES // (values * (p.x.pitch + p.dy.pitch) * itemsize)
    p.block = max(min(p.block, MOST_TILES), LEAST_TILES)
    p.chunk = ceil_div(p.tiles, chunks)
    p.block = ceil_div(p.chunk, ceil_div(p.chunk, p.block))
    p.chunk = ceil_div(p.chunk, p.block) * p.block
    chunks = max(ceil_div(p.tiles, p.chunk), 1)
    p.x.step, p.dy.step = odd_lines(p.block * p.x.pitch, itemsize), odd_lines(
        p.block * p.dy.pitch, itemsize)
    p.sum_step = odd_lines(p.channels * p.width, itemsize)
    p.n_tasks = chunks * p.G * p.n_splits * p.n_channels

    p.partials.leaves, p.partials.itemsize = leaves, itemsize
    p.partials.count, p.partials.G, p.partials.rows = chunks, p.G, p.CI * 9
    p.partials.width, p.partials.lanes, p.partials.taps = p.V * p.vf, p.CO, 0
    fold = <double>chunks * p.G * p.CI * p.V * FOLD_CYCLES[size] * vector
    p.cycles = products * (1 + 3.5 / p.block) + x * p.n_splits + dy * p.n_channels + fold
    p.cost = p.cycles * leaves.vf / vector
    p.x_scratch, p.dy_scratch = values * p.x.step, values * p.dy.step
    p.sum_scratch = values * p.sum_step
    p.row_scratch = max(row_scratch(&p.x, p.block, p.channels),
                        row_scratch(&p.dy, p.block, p.width))
    return plan


cdef void cut_split(WinogradGradient* p) noexcept:
    """The next smaller even share of the blocks of lanes, of which there is more than one."""
    p.n_splits = ceil_div(p.n_lanes, p.split - 1)
    p.split = ceil_div(p.n_lanes, p.n_splits)
    p.n_splits = ceil_div(p.n_lanes, p.split)


cdef void cut_channels(WinogradGradient* p, Py_ssize_t most) noexcept:
    """The next smaller even share of the input channels, in whole register tiles."""
    cdef Py_ssize_t tiles = ceil_div(p.CI, most)
    p.n_channels = ceil_div(tiles, ceil_div(p.channels, most) - 1)
    p.channels = ceil_div(tiles, p.n_channels) * most
    p.n_channels = ceil_div(p.CI, p.channels)


cdef Py_ssize_t winograd_gradient_scratch_bytes(const WinogradGradient* p) noexcept nogil:
    """Bytes of scratch that one thread needs, a whole number of cache lines."""
    return ((p.x_scratch + p.dy_scratch + p.sum_scratch + p.row_scratch)
            * p.itemsize + 127) // 64 * 64


# ---- the nest -----------------------------------------------------------------------------------

cdef struct Run:
    const WinogradGradient* p
    const Image* x
    const Image* dy
    char* partials
    char* scratch


cdef int winograd_gradient(
    const WinogradGradient* plan, Image* x, Image* dy, char* dkernel, char* partials,
    char* scratch, int team
) except -1 nogil:
    cdef Run run
    run.p, run.x, run.dy, run.partials, run.scratch = plan, x, dy, partials, scratch
    parallel_for(plan.n_tasks, team, sum_task, &run)
    add_partials(&plan.partials, partials, dkernel, team)


cdef void sum_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    """Sum a chunk of tiles into some channels and lanes of its partial kernel."""
    cdef Run* run = <Run*>context
    cdef const WinogradGradient* p = run.p
    cdef Py_ssize_t size = p.itemsize, split, part, g, chunk, tile, end
    cdef char* x = run.scratch + thread * winograd_gradient_scratch_bytes(p)
    cdef char* dy = x + p.x_scratch * size
    cdef char* sums = dy + p.dy_scratch * size
    cdef char* scratch = sums + p.sum_scratch * size
    split, number = number % p.n_splits, number // p.n_splits
    part, number = number % p.n_channels, number // p.n_channels
    g, chunk = number % p.G, number // p.G
    cdef Py_ssize_t ci0 = part * p.channels, ci1 = min(ci0 + p.channels, p.CI)
    cdef Py_ssize_t first = split * p.split, last = min(first + p.split, p.n_lanes) - 1
    cdef Py_ssize_t co0 = p.lanes[first].c0, co1 = p.lanes[last].c0 + p.lanes[last].count
    tile, end = chunk * p.chunk, min((chunk + 1) * p.chunk, p.tiles)
    cdef Py_ssize_t begin = tile, stop
    while tile < end and not interrupted():
        stop = min(tile + p.block, end)
        transform_tiles(&p.x, run.x, g * p.CI + ci0, g * p.CI + ci1, tile, stop, x, scratch)
        transform_tiles(&p.dy, run.dy, g * p.CO + co0, g * p.CO + co1, tile, stop, dy, scratch)
        multiply(p, first, last, ci1 - ci0, stop - tile, x, dy, sums, tile > begin)
        tile = stop
    write_taps(run, g, chunk, ci0, ci1, first, last, sums)


cdef void multiply(
    const WinogradGradient* p, Py_ssize_t first, Py_ssize_t last, Py_ssize_t channels,
    Py_ssize_t tiles, const char* x, const char* dy, char* sums, bint accumulate
) noexcept nogil:
    """sums[value][ci][lane] (+)= sum over tiles of x[value][tile][ci] * dy[value][tile][lane]"""
    cdef Py_ssize_t a_off[FC_MAX_MR]
    cdef Py_ssize_t c_off[FC_MAX_MR]
    cdef Py_ssize_t size = p.itemsize, value, block, ci, row, most, tallest, height
    cdef Lanes* lanes
    cdef fc_tile t
    ask_nothing(&t)
    for row in range(FC_MAX_MR):
        a_off[row], c_off[row] = row, row * p.width
    t.a_off, t.c_off = a_off, c_off
    t.a_t = t.a_u = t.b_t = t.b_u = t.b_n = 0
    t.a_k, t.b_k = p.x.pitch, p.dy.pitch
    t.nt, t.nu, t.nk = 1, 1, tiles
    t.lane_bias = t.row_bias = NULL
    t.accumulate, t.relu, t.stream = accumulate, False, False
    for value in range(p.n * p.n):
        for block in range(first, last + 1):
            lanes = &p.lanes[block]
            most = max_rows(p.leaves, lanes.nr)
            tallest = ceil_div(channels, ceil_div(channels, most))
            t.lanes = lanes.nr * p.vf
            t.b = dy + (value * p.dy.step + lanes.c0 - p.lanes[first].c0) * size
            ci = 0
            while ci < channels:
                t.a = x + (value * p.x.step + ci) * size
                t.c = sums + (value * p.sum_step + ci * p.width
                              + lanes.c0 - p.lanes[first].c0) * size
                height = min(tallest, channels - ci)
                t.n, t.a_n, t.c_n = (channels - ci) // height, height, height * p.width
                p.leaves.tile[lanes.nr - 1][height - 1](&t)
                ci += t.n * height
        # end: block
    # end: value


cdef void write_taps(
    const Run* run, Py_ssize_t g, Py_ssize_t chunk, Py_ssize_t ci0, Py_ssize_t ci1,
    Py_ssize_t first, Py_ssize_t last, const char* sums
) noexcept nogil:
    """Sums (value, ci, lane) become rows (ic, kh, kw) of a partial kernel."""
    cdef const WinogradGradient* p = run.p
    cdef Py_ssize_t size = p.itemsize, ci
    cdef fc_winograd w
    w.n, w.size, w.relu, w.stream, w.bias = p.n, 3, False, False, NULL
    w.h1 = w.w1 = 3
    w.src_w = p.sum_step
    w.src_h = p.n * p.sum_step
    w.dst_w = p.partials.width
    w.dst_h = 3 * p.partials.width
    w.lanes = (p.lanes[last].v0 + p.lanes[last].nr - p.lanes[first].v0) * p.vf
    for ci in range(ci0, ci1):
        w.src = sums + (ci - ci0) * p.width * size
        w.dst = run.partials + (chunk * partial_size(&p.partials) + (
            (g * p.CI + ci) * 9) * p.partials.width + p.lanes[first].c0) * size
        p.leaves.winograd_fold(&w)
