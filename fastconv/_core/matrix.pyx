# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The loop nests of dense layers: products of a batch x with a kernel, and their gradients.

    y = x kernelᵀ          both are read along the sum: nothing is packed       (leaf ``dots``)
    dx = dy kernel         a row of the kernel is lanes, its outputs are the sum      (``tile``)
    dkernel = dyᵀ x        a row of x is lanes, samples are the sum                   (``tile``)

A dense kernel is large and used once for each sample, so that a packed copy of it in memory would
cost as much as it saves.  Forward there is none.  In the gradients a task packs a block of lanes by
steps of the sum into its own scratch, where it stays in the second cache while the rows pass by.
With few rows the block is not even packed.  While a block is used, the next one is asked for.  One
row or two are sums of long runs of b (leaf ``mix``), which memory brings sooner than short ones.

Sums are cut into blocks of fixed length and added in their order: a sample's bits depend neither on
its batch nor on the threads.
"""

from libc.stdint cimport uintptr_t
from libc.string cimport memcpy, memset

from fastconv._core.caches cimport L3_BYTES
from fastconv._core.isa cimport (
    FC_MAX_MR, FC_MAX_NR, fc_dots, fc_leaves, fc_mix, fc_tile, leaves, max_rows)
from fastconv._core.memory cimport Block, take
from fastconv._core.threads cimport interrupted, parallel_for, team_size

# Of the product of rows: steps of a block of the sum, and rows and outputs of a task.
cdef Py_ssize_t DOT_STEPS = 1024, DOT_ROWS = 256, DOT_OUTPUTS = 32
# Of the others: steps and lanes that are packed at a time, and rows of a task.
cdef enum:
    STEPS = 256
    LANES = 256
    ROWS = 256
# Lanes are cut into so many tasks, but not into narrower ones; half as wide where these were few.
cdef Py_ssize_t TASKS = 16, FEWEST_TASKS = 8, FEWEST_LANES = 128
# So many rows are sums of runs, of so many doubles (twice as many floats) where there are enough.
cdef enum:
    FEW_ROWS = 2
    RUN = 1024
# What an element of a sum of columns costs in multiply-adds: as long as memory takes to bring it.
cdef double COLUMN_COST = 4
# Between rows (or steps) of the packed operand, beside their elements: they shall not meet in few
# sets of the first cache.
cdef enum:
    APART = 16


# ---- y = a bᵀ -----------------------------------------------------------------------------------

cdef struct Dots:
    const fc_leaves* leaves
    Py_ssize_t itemsize, row_blocks, outputs
    fc_dots all


cdef int products_of_rows(
    const char* a, const char* b, const char* bias, char* c,
    Py_ssize_t rows, Py_ssize_t outputs, Py_ssize_t n, bint relu, int itemsize
) except -1:
    """c = relu?(a bᵀ + bias) of contiguous matrices (rows, n) and (outputs, n)."""
    cdef Dots run
    run.leaves, run.itemsize = leaves(itemsize), itemsize
    run.all.a, run.all.b, run.all.bias, run.all.c = a, b, bias, c
    run.all.a_row = run.all.b_row = run.all.n = n
    run.all.c_row = run.all.cols = outputs
    run.all.rows, run.all.relu = rows, relu
    run.row_blocks = (rows + DOT_ROWS - 1) // DOT_ROWS
    run.outputs = DOT_OUTPUTS
    cdef Py_ssize_t tasks = (outputs + DOT_OUTPUTS - 1) // DOT_OUTPUTS * run.row_blocks
    cdef int team = team_size(<double>rows * outputs * n)
    with nogil:
        parallel_for(tasks, team, dots_task, &run)
    return 0


cdef void dots_task(void* context, Py_ssize_t task, int thread) noexcept nogil:
    cdef Dots* run = <Dots*>context
    cdef Py_ssize_t r0 = task % run.row_blocks * DOT_ROWS
    cdef Py_ssize_t o0 = task // run.row_blocks * run.outputs
    cdef Py_ssize_t k = 0, size = run.itemsize, n = run.all.n
    cdef fc_dots d = run.all
    d.rows, d.cols = min(d.rows - r0, DOT_ROWS), min(d.cols - o0, run.outputs)
    d.c = <char*>d.c + (r0 * d.c_row + o0) * size
    while True:
        d.n = min(n - k, DOT_STEPS)
        d.a = <const char*>run.all.a + (r0 * n + k) * size
        d.b = <const char*>run.all.b + (o0 * n + k) * size
        d.accumulate = k > 0
        k += d.n
        # What follows a sum follows its last block.
        d.bias = NULL
        if k == n and run.all.bias != NULL:
            d.bias = <const char*>run.all.bias + o0 * size
        d.relu = run.all.relu and k == n
        run.leaves.dots(&d)
        if k == n or interrupted():
            return


# ---- c = a b ------------------------------------------------------------------------------------

cdef struct Product:
    # c[r, l] = sum over k of a(r, k) b[k, l].
    const fc_leaves* leaves
    Py_ssize_t itemsize
    const char* a
    const char* b
    char* c
    Py_ssize_t a_row              # of its outer axis: rows, or steps of the sum
    bint transposed               # steps are the outer axis of a
    Py_ssize_t rows, lanes, n
    Py_ssize_t width              # lanes of a task
    Py_ssize_t lane_blocks
    bint pack                     # b
    bint stream
    char* scratch
    Py_ssize_t thread_bytes


cdef int product(
    const char* a, bint transposed, const char* b, char* c,
    Py_ssize_t rows, Py_ssize_t lanes, Py_ssize_t n, int itemsize
) except -1:
    """c = a b, or aᵀ b with `transposed`, of contiguous matrices; c is (rows, lanes)."""
    cdef Product run
    cdef Py_ssize_t tile, row_blocks = (rows + ROWS - 1) // ROWS
    cdef int vf, team
    cdef Block block
    run.leaves, run.itemsize = leaves(itemsize), itemsize
    vf = run.leaves.vf
    run.a, run.b, run.c, run.transposed = a, b, c, transposed
    run.rows, run.lanes, run.n = rows, lanes, n
    run.a_row = rows if transposed else n
    team = team_size(<double>rows * lanes * n)
    if rows <= FEW_ROWS and not transposed:
        return sums_of_runs(&run, team)
    run.pack = rows > max_rows(run.leaves, FC_MAX_NR) or lanes % vf != 0
    tile = 4 * vf
    run.width = min(max(lanes * row_blocks // TASKS, FEWEST_LANES), LANES)
    if lanes * row_blocks < FEWEST_TASKS * FEWEST_LANES:
        run.width = FEWEST_LANES // 2
    run.width = (run.width + tile - 1) // tile * tile
    run.lane_blocks = (lanes + run.width - 1) // run.width
    run.stream = n <= STEPS and 4.0 * rows * lanes * itemsize >= L3_BYTES and (
        lanes % vf == 0 and <uintptr_t>c % (vf * itemsize) == 0)
    run.thread_bytes = (STEPS * run.width + STEPS * ROWS + STEPS * APART) * itemsize
    block = take(team * run.thread_bytes)
    run.scratch = block.data
    with nogil:
        parallel_for(row_blocks * run.lane_blocks, team, product_task, &run)
    return 0


cdef int sums_of_columns(
    const char* b, char* c, Py_ssize_t lanes, Py_ssize_t n, int itemsize
) except -1:
    """c[l] = sum over k of b[k, l]: a product with ones."""
    cdef Product run
    run.leaves, run.itemsize = leaves(itemsize), itemsize
    run.a, run.b, run.c, run.a_row = NULL, b, c, 0
    run.rows, run.lanes, run.n = 1, lanes, n
    return sums_of_runs(&run, team_size(COLUMN_COST * lanes * n))


cdef int sums_of_runs(Product* run, int team) except -1:
    """The sums of `product_task`, block by block of their steps, which are then added in order."""
    cdef Py_ssize_t blocks = (run.n + STEPS - 1) // STEPS
    run.width = 8 * RUN // run.itemsize
    run.lane_blocks = (run.lanes + run.width - 1) // run.width
    cdef Block block = take((blocks - 1) * run.rows * run.lanes * run.itemsize)
    run.scratch = block.data
    with nogil:
        parallel_for(blocks * run.lane_blocks, team, runs_task, run)
        if blocks > 1:
            parallel_for(run.lane_blocks, team, add_task, run)
    return 0


cdef char* part_of(const Product* run, Py_ssize_t part, Py_ssize_t r, Py_ssize_t l0) noexcept nogil:
    """Where a block of steps leaves lanes of a row."""
    cdef char* at = run.c if part == 0 else (
        run.scratch + (part - 1) * run.rows * run.lanes * run.itemsize)
    return at + (r * run.lanes + l0) * run.itemsize


cdef void runs_task(void* context, Py_ssize_t task, int thread) noexcept nogil:
    cdef Product* run = <Product*>context
    cdef Py_ssize_t part = task // run.lane_blocks, l0 = task % run.lane_blocks * run.width
    cdef Py_ssize_t k = part * STEPS, r
    cdef Py_ssize_t index[STEPS]
    cdef Py_ssize_t start[2]
    cdef double ones[STEPS]
    cdef double sums[RUN]
    cdef char* c
    cdef fc_mix m
    memset(&m, 0, sizeof(fc_mix))
    for r in range(STEPS):
        index[r] = r
        if run.itemsize == 4:
            (<float*>ones)[r] = 1
        else:
            ones[r] = 1
    start[0], start[1] = 0, min(STEPS, run.n - k)
    m.start, m.index = start, index
    m.n, m.channels, m.pitch = 1, min(run.width, run.lanes - l0), run.lanes
    m.x, m.y = run.b + (k * run.lanes + l0) * run.itemsize, sums
    for r in range(run.rows):
        m.weight = ones
        if run.a != NULL:
            m.weight = run.a + (r * run.a_row + k) * run.itemsize
        run.leaves.mix(&m)
        # A tile adds its products to 0, so that no sum is -0.
        c = part_of(run, part, r, l0)
        memset(c, 0, m.channels * run.itemsize)
        run.leaves.add(c, <char*>sums, m.channels)


cdef void add_task(void* context, Py_ssize_t task, int thread) noexcept nogil:
    cdef Product* run = <Product*>context
    cdef Py_ssize_t l0 = task * run.width, part, r
    for r in range(run.rows):
        for part in range(1, (run.n + STEPS - 1) // STEPS):
            run.leaves.add(part_of(run, 0, r, l0), part_of(run, part, r, l0),
                           min(run.width, run.lanes - l0))


cdef void product_task(void* context, Py_ssize_t task, int thread) noexcept nogil:
    cdef Product* run = <Product*>context
    cdef Py_ssize_t l0 = task % run.lane_blocks * run.width, size = run.itemsize
    cdef Py_ssize_t r0 = task // run.lane_blocks * ROWS, tile = 4 * run.leaves.vf
    cdef Py_ssize_t rows = min(ROWS, run.rows - r0), width = min(run.width, run.lanes - l0)
    cdef Py_ssize_t most = max_rows(run.leaves, FC_MAX_NR)
    cdef Py_ssize_t tiles = (rows + most - 1) // most
    cdef Py_ssize_t calls = tiles * ((width + tile - 1) // tile)
    cdef Py_ssize_t i, mr, r, at, k = 0, steps, asked, share, a_row, a_k
    cdef char* panel = run.scratch + thread * run.thread_bytes
    cdef char* columns = panel + STEPS * run.width * size
    cdef Py_ssize_t a_off[FC_MAX_MR]
    cdef Py_ssize_t c_off[FC_MAX_MR]
    cdef fc_tile t
    memset(&t, 0, sizeof(fc_tile))
    t.nt = t.nu = t.n = 1
    t.stream = run.stream
    while k < run.n:
        steps = min(STEPS, run.n - k)
        if run.pack:
            pack_lanes(run, k, steps, l0, width, panel)
        if run.transposed:
            copy_block(run, k, steps, r0, rows, columns)
            a_row, a_k = 1, rows + APART
        else:
            copy_block(run, r0, rows, k, steps, columns)
            a_row, a_k = steps + APART, 1
        t.accumulate, t.nk, t.a_k = k > 0, steps, a_k
        # Each call asks for some rows of what is packed next, or for what the next call reads.
        asked = k + steps
        share = (min(STEPS, run.n - asked) + calls - 1) // calls
        r = 0
        for i in range(tiles):
            # As even as can be.
            mr = (rows - r + tiles - i - 1) // (tiles - i)
            for at in range(mr):
                a_off[at], c_off[at] = (r + at) * a_row, (r + at) * run.lanes
            at = 0
            while at < width:
                t.a, t.a_off, t.c_off = columns, a_off, c_off
                t.lanes = min(tile, width - at)
                if run.pack:
                    t.b, t.b_k = panel + at * steps * size, tile
                else:
                    t.b, t.b_k = run.b + (k * run.lanes + l0 + at) * size, run.lanes
                t.c = run.c + (r0 * run.lanes + l0 + at) * size
                if run.pack:
                    ask(run, asked, min(asked + share, run.n), l0, width)
                    asked = min(asked + share, run.n)
                else:
                    ask(run, k, k + steps, l0 + at + tile, tile)
                compute(run.leaves, &t, mr)
                at += tile
            r += mr
        k += steps
        if interrupted():
            break
    if run.stream:
        run.leaves.fence()


cdef void ask(
    const Product* run, Py_ssize_t k0, Py_ssize_t k1, Py_ssize_t l0, Py_ssize_t width
) noexcept nogil:
    """Ask for lanes of some rows of b."""
    cdef Py_ssize_t k
    for k in range(k0, k1):
        run.leaves.prefetch(run.b + (k * run.lanes + l0) * run.itemsize, width * run.itemsize)


cdef void compute(const fc_leaves* tiles, fc_tile* t, Py_ssize_t mr) noexcept nogil:
    """A tile of mr rows: two, if so many rows are too many for few lanes."""
    cdef int nr = <int>((t.lanes - 1) // tiles.vf)
    cdef Py_ssize_t most = max_rows(tiles, nr + 1)
    while mr > most:
        tiles.tile[nr][most - 1](t)
        t.a_off += most
        t.c_off += most
        mr -= most
    tiles.tile[nr][mr - 1](t)


cdef void pack_lanes(
    const Product* run, Py_ssize_t k0, Py_ssize_t steps, Py_ssize_t l0, Py_ssize_t width,
    char* panel
) noexcept nogil:
    """Steps of a block of lanes: tile after tile, each step a row of it."""
    cdef Py_ssize_t size = run.itemsize, tile = 4 * run.leaves.vf, k, at, count
    cdef const char* row
    for k in range(steps):
        row = run.b + ((k0 + k) * run.lanes + l0) * size
        at = 0
        while at < width:
            count = min(tile, width - at)
            memcpy(panel + (at * steps + k * tile) * size, row + at * size, count * size)
            if count < tile:
                memset(panel + (at * steps + k * tile + count) * size, 0, (tile - count) * size)
            at += tile


cdef void copy_block(
    const Product* run, Py_ssize_t i0, Py_ssize_t count, Py_ssize_t j0, Py_ssize_t length,
    char* to
) noexcept nogil:
    """`count` rows of a from row i0, their `length` elements from j0, with a gap after each."""
    cdef Py_ssize_t size = run.itemsize, i
    for i in range(count):
        memcpy(to + i * (length + APART) * size, run.a + ((i0 + i) * run.a_row + j0) * size,
               length * size)
