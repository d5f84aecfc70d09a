# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The loop nest of the gradient of the kernel.

    dk[oc, ic, kh, kw] = sum over n, oh, ow of  x[n, ic, oh*s - p + kh*d, ...] * dy[n, oc, oh, ow]

Lanes are output channels, rows of the register tile are input channels of one tap, and the sum
runs over pixels: both operands are read where they lie in channels-last memory.  A tap sees only
the pixels for which it lies inside the image.  With few input channels the rows of a tile run
over (ic, kh, kw) instead, and x is packed between zeros.  With few output channels the roles are
*swapped*: lanes are input channels, rows of the tile are output channels of one tap.

In a depthwise convolution, whose lanes are the channels of both x and dy, rows are taps too, but
nothing is packed between zeros unless most columns see the border: pixels that see the same taps
share a call, whose rows are these taps.  Small groups go the same way, with x *spread* over lanes.

    task    (chunk of pixels, group, lane blocks, units)      in parallel
      block of pixels        x and dy packed where they are planar, or cannot be read in place
        lane block
          unit               the rows of one tile: MR input channels of a tap, or (ic, kh, kw);
                             it asks for a share of the next block, where that comes from memory
            run              depthwise: of pixels that see the same taps; else all
                             one call of the tile: sums images, rows, columns in registers

The last vector of a pixel's lanes reaches into the next pixel, whose lanes are dropped.  In dense
memory only the last pixel lacks a next one, and only the blocks that read it are packed.

With 1x1 kernels, and so many input channels that pixels share sets of the cache, x is packed in
*panels* of a tile's rows.

Pixels are cut into *chunks* by the problem's shape and the caches, never by the team; each chunk
sums into a partial kernel (rows (ic, kh, kw), lanes) of its own, and the partial kernels are added
in the order of the chunks.  So no two threads write one place, and the bits do not depend on the
team.
"""

from libc.string cimport memset

from fastconv._core.ahead cimport Stretch, ask_nothing, ask_share
from fastconv._core.geometry cimport Axis, end_of_run, end_valid, first_valid
from fastconv._core.isa cimport FC_ASKS, FC_MAX_MR, FC_SLIDE, fc_tile, tile_of
from fastconv._core.kernel_plan cimport kernel_scratch_bytes
from fastconv._core.pack cimport Box, pack_box, pack_panels, pack_pixels
from fastconv._core.partials cimport add_partials, partial_size
from fastconv._core.plan cimport Lanes, ceil_div
from fastconv._core.threads cimport interrupted, parallel_for

# After so many units, whose partial kernel may be new to the system, a task asks whether to go on.
cdef enum:
    ASK_UNITS = 16

# So many pixels of a depthwise convolution take longer than memory does.
cdef Py_ssize_t PIXELS_AHEAD = 48

cdef struct Run:
    const KernelPlan* p
    const Image* x
    const Image* dy
    char* partials
    char* scratch

cdef struct Block:
    Py_ssize_t n0, n1, i0, i1, j0, j1


cdef int kernel_gradient(
    const KernelPlan* plan, Image* x, Image* dy, char* dkernel, char* partials, char* scratch,
    int team
) except -1 nogil:
    cdef Run run
    run.p, run.x, run.dy, run.partials, run.scratch = plan, x, dy, partials, scratch
    parallel_for(plan.n_tasks, team, sum_task, &run)
    add_partials(&plan.partials, partials, dkernel, team)
    return 0


cdef void sum_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    """Sum one chunk of pixels into some lanes and units of its partial kernel."""
    cdef Run* run = <Run*>context
    cdef const KernelPlan* p = run.p
    cdef Py_ssize_t part, split, g, chunk, at, block, size = p.itemsize
    cdef Py_ssize_t lanes0, lanes1, first, end
    cdef Image x, dy
    cdef Block pixels
    cdef char* scratch = run.scratch + thread * kernel_scratch_bytes(p)
    cdef char* partial
    cdef bint last
    part, number = number % p.n_parts, number // p.n_parts
    split, number = number % p.n_splits, number // p.n_splits
    g, chunk = number % p.G, number // p.G
    lanes0, lanes1 = split * p.split, min((split + 1) * p.split, p.n_lanes)
    partial = run.partials + (chunk * partial_size(&p.partials)
                              + g * p.partials.rows * p.V * p.vf) * size
    for at in range(chunk * p.chunk, min((chunk + 1) * p.chunk, p.n_blocks)):
        pixels = block_at(p, at)
        last = p.packs_last and reaches_end(p, &pixels)
        if p.lanewise and (p.packs_x or last):
            # The nest adds a lane's channel.
            pack_x(run, &pixels, p.lanes[lanes0].c0, lanes_end(p, lanes1), scratch, &x)
            x.data -= p.lanes[lanes0].c0 * size
        elif p.panels:
            # Those of the task's units.
            first = part * p.units // (p.KH * p.KW) * p.tile_rows
            end = min((part + 1) * p.units, p.n_units) - 1
            end = min((end // (p.KH * p.KW) + 1) * p.tile_rows, p.CI)
            pack_x(run, &pixels, g * p.CI + first, g * p.CI + end, scratch, &x)
            x.data -= first // p.tile_rows * p.panel * size
        elif p.swapped and (p.packs_x or last):
            first = p.lanes[lanes0].c0
            pack_x(run, &pixels, g * p.CI + first, g * p.CI + lanes_end(p, lanes1), scratch, &x)
            x.data -= first * size
        elif p.packs_x:
            pack_x(run, &pixels, g * p.CI, (g + 1) * p.CI, scratch, &x)
        else:
            x = run.x[0]
            x.data += g * p.CI * x.sc * size
        if p.swapped and p.packs_dy:
            pack_dy(run, &pixels, g * p.CO, (g + 1) * p.CO, p.CO,
                    scratch + (p.x_scratch + p.row_scratch) * size, &dy)
        elif p.packs_dy or (last and not p.swapped):
            first = p.lanes[lanes0].c0
            pack_dy(run, &pixels, g * p.CO + first, g * p.CO + lanes_end(p, lanes1),
                    whole_lanes(p, lanes0, lanes1),
                    scratch + (p.x_scratch + p.row_scratch) * size, &dy)
            dy.data -= first * size
        else:
            dy = run.dy[0]
            dy.data += g * p.CO * dy.sc * size
        for block in range(lanes0, lanes1):
            if interrupted():
                return
            sum_block(run, &pixels, at, block - lanes0, lanes1 - lanes0, &p.lanes[block], part,
                      &x, &dy, partial, at > chunk * p.chunk)
    # end: at


cdef bint reaches_end(const KernelPlan* p, const Block* pixels) noexcept nogil:
    """Whether a block reads the last pixels of x or of dy."""
    return pixels.n1 == p.N and (pixels.i1 == p.h.n or rows_end(p, pixels) >= p.h.source)


cdef inline Py_ssize_t lanes_end(const KernelPlan* p, Py_ssize_t block) noexcept nogil:
    """One past the last channel of the blocks before `block`."""
    return p.lanes[block - 1].c0 + p.lanes[block - 1].count


cdef inline Py_ssize_t whole_lanes(
    const KernelPlan* p, Py_ssize_t block0, Py_ssize_t block1
) noexcept nogil:
    """Lanes of the vectors of some blocks, whether in use or not."""
    cdef Lanes* last = &p.lanes[block1 - 1]
    return (last.v0 + last.nr) * p.vf - p.lanes[block0].c0


cdef Block block_at(const KernelPlan* p, Py_ssize_t at) noexcept nogil:
    """The pixels of one block of all."""
    cdef Block pixels
    pixels.j0 = at % p.n_columns * p.columns
    pixels.j1 = min(pixels.j0 + p.columns, p.w.n)
    pixels.i0 = at // p.n_columns % p.n_rows * p.rows
    pixels.i1 = min(pixels.i0 + p.rows, p.h.n)
    pixels.n0 = at // (p.n_columns * p.n_rows) * p.images
    pixels.n1 = min(pixels.n0 + p.images, p.N)
    return pixels


cdef void find_next(
    const Run* run, const Block* seen, const Block* pixels, Stretch* next
) noexcept nogil:
    """What a block reads of x and dy, but for what the block before it has seen."""
    cdef const KernelPlan* p = run.p
    cdef Py_ssize_t row0, row1
    if p.n_columns > 1:     # a 1x1 kernel's pixels are one row
        next[0] = stretch(p, run.x, pixels, pixels.j0 * run.x.sw, pixels.j1 * run.x.sw)
        next[1] = stretch(p, run.dy, pixels, pixels.j0 * run.dy.sw, pixels.j1 * run.dy.sw)
        return
    row0 = max(pixels.i0 * p.h.stride + p.h.offset, 0)
    if seen.n0 == pixels.n0:
        row0 = max(row0, rows_end(p, seen))
    row1 = min(rows_end(p, pixels), p.h.source)
    next[0] = stretch(p, run.x, pixels, row0 * run.x.sh, row1 * run.x.sh)
    next[1] = stretch(p, run.dy, pixels, pixels.i0 * run.dy.sh, pixels.i1 * run.dy.sh)


cdef inline Py_ssize_t rows_end(const KernelPlan* p, const Block* pixels) noexcept nogil:
    """One past the last row of x that a block's taps see, in the image or behind it."""
    return (pixels.i1 - 1) * p.h.stride + p.h.offset + (p.KH - 1) * p.h.offset_step + 1


cdef Stretch stretch(
    const KernelPlan* p, const Image* image, const Block* pixels, Py_ssize_t begin, Py_ssize_t end
) noexcept nogil:
    """The elements [begin, end) of a block's images; of several, all between the first and the
    last."""
    cdef Stretch found
    found.at = image.data + (pixels.n0 * image.sn + begin) * p.itemsize
    found.bytes = max((pixels.n1 - 1 - pixels.n0) * image.sn + end - begin, 0) * p.itemsize
    return found


cdef void sum_block(
    const Run* run, const Block* pixels, Py_ssize_t at, Py_ssize_t block, Py_ssize_t blocks,
    const Lanes* lanes, Py_ssize_t part, const Image* x, const Image* dy, char* partial,
    bint accumulate
) noexcept nogil:
    """All units of a task over block `at` of pixels, for one of so many blocks of lanes."""
    cdef const KernelPlan* p = run.p
    cdef Py_ssize_t unit, first, rows, tap, unit0 = part * p.units
    cdef Py_ssize_t units = min(p.units, p.n_units - unit0)
    cdef Py_ssize_t taps_of_unit = 1 if p.by_taps else p.KH * p.KW
    cdef Box seen
    cdef Block inside, next_pixels
    cdef Stretch next[FC_ASKS]
    # Where its rows follow each other, a lane-wise tile asks for the image's next row.
    cdef bint follows = p.lanewise and p.h.stride == p.w.stride == 1 and p.KW == FC_SLIDE
    cdef bint asks = p.asks and not follows and at + 1 < p.n_blocks
    cdef fc_tile t
    ask_nothing(&t)
    if asks:
        next_pixels = block_at(p, at + 1)
        find_next(run, pixels, &next_pixels, next)
    t.a_t, t.a_u, t.a_k = x.sn, p.h.stride * x.sh, p.w.stride * x.sw
    t.b_t, t.b_u, t.b_k = dy.sn, dy.sh, dy.sw
    if p.swapped:
        t.a_t, t.b_t, t.a_u, t.b_u, t.a_k, t.b_k = t.b_t, t.a_t, t.b_u, t.a_u, t.b_k, t.a_k
    t.lane_bias = t.row_bias = NULL
    t.lanes, t.relu, t.stream = lanes.count, False, False
    t.n, t.a_n, t.b_n, t.c_n = 1, 0, 0, 0
    t.a_ahead = t.b_ahead = 0
    if p.asks and follows:
        rows = ceil_div(PIXELS_AHEAD, p.columns)
        t.a_ahead, t.b_ahead = rows * x.sh, rows * dy.sh
    for unit in range(unit0, unit0 + units):
        if unit % ASK_UNITS == ASK_UNITS - 1 and interrupted():
            return
        if asks:
            ask_share(&t, next, block * units + unit - unit0, blocks * units,
                      (pixels.n1 - pixels.n0) * (pixels.i1 - pixels.i0))
        first = unit // taps_of_unit * p.tile_rows
        rows = min(p.tile_rows, p.unit_rows - first)
        t.accumulate = accumulate
        if not p.by_taps:
            tap = unit % taps_of_unit
            sum_channels(p, pixels, lanes, tap, first, rows, x, dy, partial, &t)
        elif p.padded or not p.lanewise:
            seen.r0, seen.r1, seen.x0, seen.x1 = 0, p.KH, 0, p.KW
            inside = rows_inside(p, pixels, first, rows)
            sum_taps(p, &inside, &seen, lanes, first, rows, x, dy, partial, &t)
        else:
            sum_seen_taps(p, pixels, lanes, first, rows, x, dy, partial, &t)
    # end: unit


cdef Block rows_inside(
    const KernelPlan* p, const Block* pixels, Py_ssize_t first, Py_ssize_t rows
) noexcept nogil:
    """The pixel rows of a block for which some of these rows of (ic, kh, kw) lie inside the image:
    for the others x is zero."""
    cdef Block inside = pixels[0]
    cdef Py_ssize_t taps = p.KH * p.KW, last = first + rows - 1
    if first // taps == last // taps:
        inside.i0 = max(inside.i0, first_valid(&p.h, last % taps // p.KW))
        inside.i1 = min(inside.i1, end_valid(&p.h, first % taps // p.KW))
    return inside


cdef void sum_channels(
    const KernelPlan* p, const Block* pixels, const Lanes* lanes, Py_ssize_t tap,
    Py_ssize_t first, Py_ssize_t rows, const Image* x, const Image* dy, char* partial,
    fc_tile* t
) noexcept nogil:
    """Channels [first, first + rows) of one tap, over the pixels that see the tap."""
    cdef Py_ssize_t a_off[FC_MAX_MR]
    cdef Py_ssize_t c_off[FC_MAX_MR]
    cdef Py_ssize_t i, kh = tap // p.KW, kw = tap % p.KW
    cdef Block seen = pixels[0]
    seen.i0, seen.i1 = max(seen.i0, first_valid(&p.h, kh)), min(seen.i1, end_valid(&p.h, kh))
    seen.j0, seen.j1 = max(seen.j0, first_valid(&p.w, kw)), min(seen.j1, end_valid(&p.w, kw))
    for i in range(rows):
        a_off[i] = first + i
        if p.panels:
            a_off[i] = first // p.tile_rows * p.panel + i
        c_off[i] = ((first + i) * p.KH * p.KW + tap) * p.V * p.vf
    t.a_off, t.c_off = a_off, c_off
    run_tile(p, &seen, lanes, kh, kw, rows, x, dy, partial, t)


cdef void sum_taps(
    const KernelPlan* p, const Block* pixels, const Box* seen, const Lanes* lanes,
    Py_ssize_t first, Py_ssize_t rows, const Image* x, const Image* dy, char* partial,
    fc_tile* t
) noexcept nogil:
    """Rows [first, first + rows) of (ic, kh, kw) that are `seen` from all the pixels."""
    cdef Py_ssize_t a_off[FC_MAX_MR]
    cdef Py_ssize_t c_off[FC_MAX_MR]
    cdef Py_ssize_t row, kh, kw, count = 0
    for row in range(first, first + rows):
        kh, kw = row % (p.KH * p.KW) // p.KW, row % p.KW
        if seen.r0 <= kh < seen.r1 and seen.x0 <= kw < seen.x1:
            a_off[count] = (row // (p.KH * p.KW) * x.sc + kh * p.h.offset_step * x.sh
                            + kw * p.w.offset_step * x.sw)
            c_off[count] = row * p.V * p.vf
            count += 1
    t.a_off, t.c_off = a_off, c_off
    if count:
        run_tile(p, pixels, lanes, 0, 0, count, x, dy, partial, t)


cdef void sum_seen_taps(
    const KernelPlan* p, const Block* pixels, const Lanes* lanes,
    Py_ssize_t first, Py_ssize_t rows, const Image* x, const Image* dy, char* partial,
    fc_tile* t
) noexcept nogil:
    """The same, where the border hides some taps from some pixels: one run of them at a time."""
    cdef Block run = pixels[0]
    cdef Box seen
    if not t.accumulate:
        # Begin every row with zero: the first run may not see it.
        run.i1 = run.i0
        seen.r0, seen.r1, seen.x0, seen.x1 = 0, p.KH, 0, p.KW
        sum_taps(p, &run, &seen, lanes, first, rows, x, dy, partial, t)
        t.accumulate = True
    run.i1 = pixels.i0
    while run.i1 < pixels.i1:
        run.i0 = run.i1
        run.i1 = end_of_run(&p.h, run.i0, pixels.i1, &seen.r0, &seen.r1)
        run.j1 = pixels.j0
        while run.j1 < pixels.j1:
            run.j0 = run.j1
            run.j1 = end_of_run(&p.w, run.j0, pixels.j1, &seen.x0, &seen.x1)
            sum_taps(p, &run, &seen, lanes, first, rows, x, dy, partial, t)


cdef void run_tile(
    const KernelPlan* p, const Block* pixels, const Lanes* lanes, Py_ssize_t kh, Py_ssize_t kw,
    Py_ssize_t rows, const Image* x, const Image* dy, char* partial, fc_tile* t
) noexcept nogil:
    """Sum the pixels of a block; offsets of the rows count from tap (kh, kw)."""
    cdef Py_ssize_t size = p.itemsize
    t.nt = pixels.n1 - pixels.n0
    t.nu, t.nk = max(pixels.i1 - pixels.i0, 0), max(pixels.j1 - pixels.j0, 0)
    t.a = x.data + (pixels.n0 * x.sn
                    + (pixels.i0 * p.h.stride + p.h.offset + kh * p.h.offset_step) * x.sh
                    + (pixels.j0 * p.w.stride + p.w.offset + kw * p.w.offset_step) * x.sw) * size
    t.b = dy.data + (pixels.n0 * dy.sn + pixels.i0 * dy.sh + pixels.j0 * dy.sw) * size
    if p.swapped:
        t.a, t.b = t.b, t.a
    if p.lanewise:
        t.a = <const char*>t.a + lanes.c0 * size
    t.b = <const char*>t.b + lanes.c0 * size
    t.c = partial + lanes.c0 * size
    tile_of(p.leaves, p.lanewise, rows, lanes.nr)(t)


cdef void pack_x(
    const Run* run, const Block* pixels, Py_ssize_t c0, Py_ssize_t c1, char* scratch, Image* view
) noexcept nogil:
    """Channels [c0, c1) of all that a block's taps see of x."""
    cdef const KernelPlan* p = run.p
    cdef const Axis* h = &p.h
    cdef const Axis* w = &p.w
    cdef Box box
    box.n0, box.n1, box.c0, box.c1 = pixels.n0, pixels.n1, c0, c1
    box.pitch = c1 - c0
    if p.panels:
        box.pitch = p.tile_rows
    elif p.swapped:
        box.pitch = ceil_div(c1 - c0, p.vf) * p.vf
    box.H, box.W = h.source, w.source
    box.r0 = pixels.i0 * h.stride + h.offset
    box.r1 = (pixels.i1 - 1) * h.stride + h.offset + (p.KH - 1) * h.offset_step + 1
    box.x0 = pixels.j0 * w.stride + w.offset
    box.x1 = (pixels.j1 - 1) * w.stride + w.offset + (p.KW - 1) * w.offset_step + 1
    if not p.padded:
        box.r0, box.r1 = max(box.r0, 0), min(box.r1, h.source)
        box.x0, box.x1 = max(box.x0, 0), min(box.x1, w.source)
    if p.panels:
        pack_panels(p.leaves, p.itemsize, run.x, &box, scratch, p.panel, view)
    else:
        pack_box(p.leaves, p.itemsize, run.x, &box, &p.spread, scratch,
                 scratch + p.x_scratch * p.itemsize, view)


cdef void pack_dy(
    const Run* run, const Block* pixels, Py_ssize_t c0, Py_ssize_t c1, Py_ssize_t width,
    char* scratch, Image* view
) noexcept nogil:
    """Channels [c0, c1) of a block of dy as pixels of `width` values, the last of no use."""
    cdef const KernelPlan* p = run.p
    cdef Box box
    box.n0, box.n1, box.c0, box.c1, box.pitch = pixels.n0, pixels.n1, c0, c1, width
    box.r0, box.r1, box.x0, box.x1 = pixels.i0, pixels.i1, pixels.j0, pixels.j1
    box.H, box.W = p.h.n, p.w.n
    if c1 - c0 < width:
        memset(scratch, 0, (box.n1 - box.n0) * (box.r1 - box.r0) * (box.x1 - box.x0)
               * width * p.itemsize)
    pack_pixels(p.leaves, p.itemsize, run.dy, &box, scratch, view)
