# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Plans in words and numbers, for those who ask what runs.

Nothing is decided here.  Each function reads a finished plan, the one that the nest would walk, and
counts what the nest would do: calls of the tile, vector multiply-adds, and the cycles that these
take by the rule that chose the tile's width (``tile_cycles``).

What the border cuts is counted tap by tap, with two exceptions where lanes meet lanes: narrow
tiles, which join rows, are counted as if they were always full, and the kernel gradient as if every
pixel saw all taps.  An operand that is packed at its last pixels only is counted as packed.
"""

import numpy as np

from fastconv._core.geometry cimport Axis, end_of_run, end_valid, first_valid
from fastconv._core.isa cimport fc_leaves, max_rows
from fastconv._core.kernel_plan cimport KernelPlan, kernel_scratch_bytes
from fastconv._core.pack cimport Image
from fastconv._core.partials cimport partial_size
from fastconv._core.plan cimport (
    ColumnTile, Part, Plan, call_cycles, ceil_div, tallest_tile, tile_cycles)
from fastconv._core.task cimport is_aligned, scratch_bytes
from fastconv._core.winograd cimport Winograd, winograd_scratch_bytes
from fastconv._core.winograd_gradient cimport WinogradGradient, winograd_gradient_scratch_bytes

cdef struct Count:
    double calls, fmas, step_cycles, call_cycles
    Py_ssize_t rows            # of the tallest tile


cdef void add_calls(
    Count* count, const fc_leaves* leaves, double calls, double steps, double run, Py_ssize_t mr,
    int nr, bint aligned
) noexcept:
    """So many calls of a tile of mr rows and nr vectors, of so many steps together, in runs."""
    count.calls += calls
    count.fmas += steps * mr * nr
    count.step_cycles += steps * tile_cycles(leaves, mr, nr, aligned)
    count.call_cycles += calls * call_cycles(
        leaves, mr, nr, steps / max(calls, 1) / run)
    count.rows = max(count.rows, mr)


cdef dict counted(const Count* count):
    return {
        "tile_calls": int(count.calls),
        "vector_fmas": int(count.fmas),
        "step_cycles": count.step_cycles,
        "call_cycles": count.call_cycles,
    }


# ---- forward and gradient of the input ----------------------------------------------------------

cdef dict describe_correlation(const Plan* p, const Image* dst):
    """The plan of a correlation into a new array that lies like `dst`."""
    cdef Count count
    count.calls = count.fmas = count.step_cycles = count.call_cycles = count.rows = 0
    cdef int ph, pw
    cdef Py_ssize_t i, taps
    for ph in range(p.n_h):
        taps = 0
        for i in range(p.h[ph].n):
            taps += p.valid[2 * (ph * p.h[0].n + i) + 1] - p.valid[2 * (ph * p.h[0].n + i)]
        for pw in range(p.n_w):
            if p.pixel_lanes:
                count_pixel_lanes(p, &p.h[ph], &p.w[pw], taps, &count)
            else:
                count_column_tiles(p, &p.h[ph], pw, taps, &count)
    path = "channels in the lanes"
    if p.pixel_lanes:
        path = "pixels in the lanes"
    elif p.lanewise:
        path = "lanes meet lanes"
    return {
        "path": path,
        "tile": (count.rows, p.lanes[0].nr, p.vf),
        "lane_blocks": p.n_lanes,
        "sum_blocks": p.n_ci,
        "packs": (p.src_scratch > 0, p.dst_scratch > 0),
        "padded": p.padded or p.pixel_lanes,
        "spread": p.spread.index != NULL,
        "streams": p.streams and (p.dst_scratch > 0 or is_aligned(p, dst)),
        "task": {"images": 1 if p.pixel_lanes else p.images, "rows": p.rows,
                 "columns": p.columns,
                 "lane blocks": p.n_lanes if p.pixel_lanes else min(p.split, p.n_lanes)},
        "tasks": p.n_tasks,
        "scratch_bytes": scratch_bytes(p),
        "kernel_bytes": p.packed_size * p.itemsize,
        "packed_values": p.packed_size + p.n_tasks * (p.n_ci * p.src_scratch + p.dst_scratch),
        **counted(&count),
    }


cdef void count_column_tiles(
    const Plan* p, const Axis* h, int pw, Py_ssize_t taps, Count* count
) noexcept:
    """Channels in the lanes: `taps` is the sum over all rows of the taps that they see."""
    cdef Py_ssize_t block, cb, index, at, entry, columns, joined, last = p.N % p.images
    cdef int nr
    cdef ColumnTile* tile
    cdef Part* part
    # Whether a row's taps and channels are one run of a source without gaps.
    cdef bint one_run = (p.neighbours and p.n_ci == 1 and p.pitch == p.CI
                         and (p.src_scratch > 0 or p.G == 1))
    for block in range(p.n_lanes):
        nr = p.lanes[block].nr
        for cb in range(p.n_columns):
            entry = ((nr - 1) * p.n_w + pw) * p.n_columns + cb
            for index in range(p.tile0[entry], p.tile0[entry + 1]):
                tile = &p.tiles[index]
                columns = tile.j1 - tile.j0
                if p.lanewise:
                    # One part at most; a narrow tile takes pixels of several rows and images.
                    joined = max(min(p.leaves.max_mr[nr - 1] // columns, p.images * p.rows), 1)
                    if tile.part0 < tile.part1:
                        part = &p.parts[tile.part0]
                        add_calls(count, p.leaves, <double>p.N * h.n / joined,
                                  <double>p.N * taps / joined * (part.u1 - part.u0) * p.CI,
                                  part.u1 - part.u0, joined * columns, nr, True)
                    continue
                if tile.part0 == tile.part1 or p.parts[tile.part0].j1 - (
                        p.parts[tile.part0].j0) < columns:
                    add_joined(p, h, columns, 0, 1, nr, last, 1, count)
                for at in range(tile.part0, tile.part1):
                    part = &p.parts[at]
                    add_joined(p, h, part.j1 - part.j0,
                               <double>taps * (part.u1 - part.u0) * p.CI,
                               p.ci_block * (part.u1 - part.u0 if one_run else 1),
                               nr, last, p.n_ci, count)
            # end: index
        # end: cb


cdef void add_joined(
    const Plan* p, const Axis* h, Py_ssize_t columns, double steps, double run, int nr,
    Py_ssize_t last, Py_ssize_t sweeps, Count* count
) noexcept:
    """A part of a column tile down all rows: the images of a task are joined, some at a time."""
    cdef Py_ssize_t whole, rest, times
    whole = (p.N // p.images * (p.images // p.joined) + last // p.joined) * p.G
    if whole:
        add_calls(count, p.leaves, <double>whole * h.n * sweeps, whole * steps, run,
                  p.joined * columns, nr, True)
    for rest, times in ((p.images % p.joined, p.N // p.images), (last % p.joined, 1)):
        times *= p.G
        if rest and times:
            add_calls(count, p.leaves, <double>times * h.n * sweeps, times * steps, run,
                      rest * columns, nr, True)


cdef void count_pixel_lanes(
    const Plan* p, const Axis* h, const Axis* w, Py_ssize_t taps, Count* count
) noexcept:
    """Pixels in the lanes: rows of the tile are output channels."""
    cdef Py_ssize_t most = tallest_tile(p.leaves, p.lanes, p.n_lanes)
    cdef Py_ssize_t tiles = ceil_div(p.CO, most), rows, tile, block, every = 1
    cdef double images = <double>p.N * p.G, calls, steps
    while every * w.offset_step % p.split_columns != 0:
        every += 1
    calls = images * p.n_ci * max(min(every, w.taps), 1) * (p.n_rows if p.flat else h.n)
    steps = images * p.CI * w.taps * (p.n_rows * h.taps if p.flat else taps)
    for tile in range(tiles):
        rows = min(ceil_div(p.CO, tiles), p.CO - tile * ceil_div(p.CO, tiles))
        for block in range(p.n_lanes):
            add_calls(count, p.leaves, calls, steps, p.ci_block, rows, p.lanes[block].nr, False)


cdef dict describe_winograd(const Winograd* p):
    cdef Count count
    count.calls = count.fmas = count.step_cycles = count.call_cycles = count.rows = 0
    cdef Py_ssize_t at, block, tiles, most, height, first
    for at in range(p.n_blocks):
        tiles = min(p.block, p.tiles - at * p.block)
        for block in range(p.n_lanes):
            most = max_rows(p.leaves, p.lanes[block].nr)
            height = ceil_div(tiles, ceil_div(tiles, most))
            for first in range(0, tiles, height):
                add_calls(&count, p.leaves, p.G * p.n * p.n, <double>p.G * p.n * p.n * p.CI, p.CI,
                          min(height, tiles - first), p.lanes[block].nr, True)
    return {
        "path": f"Winograd, {p.m}x{p.m} outputs from {p.n}x{p.n} values",
        "tile": (count.rows, p.lanes[0].nr, p.vf),
        "lane_blocks": p.n_lanes,
        "sum_blocks": 1,
        "packs": (p.pixels.packs, p.dst_planar),
        "padded": p.pixels.packs,
        "spread": False,
        "streams": p.streams,
        "task": {"tiles": p.block, "lane blocks": p.split},
        "tasks": p.n_tasks,
        "scratch_bytes": winograd_scratch_bytes(p),
        "kernel_bytes": p.packed_size * p.itemsize,
        # The values of pixels and kernel, and the products: each is moved through the transforms.
        "packed_values": p.packed_size + p.n_tasks * p.values_scratch + (
            p.n_blocks * p.G * p.n_lanes * p.products_scratch),
        **counted(&count),
    }


# ---- gradient of the kernel ---------------------------------------------------------------------

cdef dict describe_kernel_gradient(const KernelPlan* p):
    cdef Count count
    count.calls = count.fmas = count.step_cycles = count.call_cycles = count.rows = 0
    cdef Py_ssize_t block, tile, rows, kh, kw
    cdef double pixel_blocks = <double>p.n_blocks
    cdef double calls = pixel_blocks, steps = <double>p.N * p.h.n * p.w.n
    cdef int nr
    if p.by_taps and not p.padded:
        # A run of pixels that see the same taps is a call of its own; one more writes zeros.
        calls = (<double>p.n_images * (p.n_rows + runs(&p.h) - 1)
                 * (p.n_columns + runs(&p.w) - 1) + p.n_chunks)
    for block in range(p.n_lanes):
        nr = p.lanes[block].nr
        for tile in range(p.n_tiles):
            rows = min(p.tile_rows, p.unit_rows - tile * p.tile_rows)
            if p.by_taps:
                add_calls(&count, p.leaves, calls * p.G, steps * p.G, p.columns, rows, nr, True)
                continue
            for kh in range(p.KH):
                for kw in range(p.KW):
                    steps = <double>p.N * seen(&p.h, kh) * seen(&p.w, kw)
                    add_calls(&count, p.leaves, calls * p.G, steps * p.G, p.columns, rows, nr, True)
    path = "kernel gradient, channels of a tap as rows"
    if p.lanewise:
        path = "kernel gradient, lanes meet lanes"
    elif p.by_taps:
        path = "kernel gradient, taps and channels as rows"
    elif p.swapped:
        path = "kernel gradient, output channels as rows"
    return {
        "path": path,
        "tile": (count.rows, p.lanes[0].nr, p.vf),
        "lane_blocks": p.n_lanes,
        "sum_blocks": <Py_ssize_t>pixel_blocks,
        "packs": (p.x_scratch > 0, p.dy_scratch > 0),
        "padded": p.padded,
        "spread": p.spread.index != NULL,
        "streams": False,
        "task": {"images": p.images, "rows": p.rows, "columns": p.columns, "blocks": p.chunk,
                 "lane blocks": min(p.split, p.n_lanes), "units": p.units},
        "tasks": p.n_tasks,
        "scratch_bytes": kernel_scratch_bytes(p),
        "kernel_bytes": p.n_chunks * partial_size(&p.partials) * p.itemsize,
        "packed_values": (p.n_tasks * p.chunk * (p.x_scratch + p.dy_scratch)
                          + p.n_chunks * partial_size(&p.partials)),
        **counted(&count),
    }


cdef dict describe_winograd_gradient(const WinogradGradient* p):
    cdef Count count
    count.calls = count.fmas = count.step_cycles = count.call_cycles = count.rows = 0
    cdef Py_ssize_t block, part, channels, ci, most, height
    cdef double values = <double>p.G * p.n * p.n, blocks = ceil_div(p.tiles, p.block)
    for block in range(p.n_lanes):
        most = max_rows(p.leaves, p.lanes[block].nr)
        for part in range(p.n_channels):
            channels = min(p.channels, p.CI - part * p.channels)
            height = ceil_div(channels, ceil_div(channels, most))
            for ci in range(0, channels, height):
                add_calls(&count, p.leaves, values * blocks, values * p.tiles, p.block,
                          min(height, channels - ci), p.lanes[block].nr, True)
    return {
        "path": f"Winograd's kernel gradient, {p.m}x{p.m} of dy from {p.n}x{p.n} values",
        "tile": (count.rows, p.lanes[0].nr, p.vf),
        "lane_blocks": p.n_lanes,
        "sum_blocks": <Py_ssize_t>blocks,
        "packs": (p.x.packs, p.dy.packs),
        "padded": p.x.packs,
        "spread": False,
        "streams": False,
        "task": {"tiles": p.chunk, "lane blocks": p.split, "channels": p.channels},
        "tasks": p.n_tasks,
        "scratch_bytes": winograd_gradient_scratch_bytes(p),
        "kernel_bytes": p.partials.count * partial_size(&p.partials) * p.itemsize,
        "packed_values": (
            <Py_ssize_t>blocks * p.G * (p.n_splits * p.n_channels * (p.x_scratch + p.dy_scratch))
            + p.n_tasks * p.sum_scratch),
        **counted(&count),
    }


cdef Py_ssize_t seen(const Axis* axis, Py_ssize_t tap) noexcept:
    """Outputs for which a tap lies inside the source."""
    return max(end_valid(axis, tap) - first_valid(axis, tap), 0)


cdef Py_ssize_t runs(const Axis* axis) noexcept:
    """Runs of neighbouring outputs that see the same taps."""
    cdef Py_ssize_t i = 0, count = 0, t0, t1
    while i < axis.n:
        i = end_of_run(axis, i, axis.n, &t0, &t1)
        count += 1
    return count


cdef double inside(const Axis* axis) noexcept:
    """Pairs of an output and a tap that lies inside the source."""
    cdef double pairs = 0
    cdef Py_ssize_t tap
    for tap in range(axis.taps):
        pairs += seen(axis, tap)
    return pairs


cdef object stand_in(tuple shape, object dtype, bint channels_last):
    """An array to be asked how it lies, and never read: it has no memory."""
    c, h, w = shape[1:]
    if shape[0] * c * h * w > 1 << 59:
        raise MemoryError(f"cannot allocate an array of shape {shape}")
    steps = (h * w * c, 1, w * c, c) if channels_last else (c * h * w, h * w, w, 1)
    return np.lib.stride_tricks.as_strided(
        np.empty(1, dtype), shape, [dtype.itemsize * step for step in steps])
