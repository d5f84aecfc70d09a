# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Turning a box of an image into pixels of channels in a thread's scratch.

The loop nests pack where the source is planar, where its taps shall run over zero columns
instead of being cut into parts, where neighbouring pixels share the sets of a cache (then they are
packed with a pitch), where a vector would reach behind the array, or where small groups share a
vector of lanes (*spread*).
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy, memset

# Pixels whose channels are dealt out to panels before those of the next are touched.
cdef Py_ssize_t PANEL_PIXELS = 16


cdef void lay_out(const Box* box, Py_ssize_t size, char* scratch, Image* view) noexcept nogil:
    """Pixels of `pitch` elements, of which `view` addresses those of the box by the source's image,
    row and column."""
    view.sc, view.sw = 1, box.pitch
    view.sh = max(box.x1 - box.x0, 0) * box.pitch
    view.sn = max(box.r1 - box.r0, 0) * view.sh
    view.data = scratch - (box.n0 * view.sn + box.r0 * view.sh + box.x0 * box.pitch) * size


cdef void pack_pixels(
    const fc_leaves* leaves, Py_ssize_t size, const Image* src, const Box* box, char* scratch,
    Image* view
) noexcept nogil:
    """Copy `box` to `scratch`; `view` addresses it by the source's image, row and column.

    Channel c0 of the source is channel 0 of `view`.
    """
    cdef Py_ssize_t n, r, x, channels = box.c1 - box.c0, pitch = box.pitch
    cdef Py_ssize_t in0 = max(box.x0, 0), in1 = max(min(box.x1, box.W), in0)
    cdef Py_ssize_t low = min(in0, box.x1) - box.x0, high = max(box.x1 - max(in1, box.x0), 0)
    cdef char* row
    cdef const char* from_row
    lay_out(box, size, scratch, view)
    for n in range(box.n0, box.n1):
        row = scratch + (n - box.n0) * view.sn * size
        from_row = src.data + (
            n * src.sn + box.c0 * src.sc + box.r0 * src.sh + box.x0 * src.sw) * size
        if src.sc != 1 and src.sh == box.x1 - box.x0 and is_inside(box):
            # Whole rows of a plane are one.
            leaves.transpose(row, pitch, NULL, from_row, src.sc, channels, view.sn // pitch)
            continue
        for r in range(box.r0, box.r1):
            row = scratch + ((n - box.n0) * view.sn + (r - box.r0) * view.sh) * size
            if r < 0 or r >= box.H or in1 == in0:
                memset(row, 0, view.sh * size)
                continue
            memset(row, 0, low * pitch * size)
            memset(row + (box.x1 - box.x0 - high) * pitch * size, 0, high * pitch * size)
            row += (in0 - box.x0) * pitch * size
            from_row = src.data + (n * src.sn + box.c0 * src.sc + r * src.sh + in0 * src.sw) * size
            if src.sc == 1 and (src.sw == channels == pitch or in1 - in0 == 1):
                memcpy(row, from_row, (in1 - in0) * channels * size)
            elif src.sc == 1 and channels <= leaves.vf:
                leaves.gather(row, pitch, from_row, src.sw, in1 - in0, NULL, channels, channels)
            elif src.sc == 1:
                for x in range(in1 - in0):
                    memcpy(row + x * pitch * size, from_row + x * src.sw * size,
                           channels * size)
            else:
                leaves.transpose(row, pitch, NULL, from_row, src.sc, channels, in1 - in0)
        # end: r
    # end: n


cdef inline bint is_inside(const Box* box) noexcept nogil:
    return box.r0 >= 0 and box.r1 <= box.H and box.x0 >= 0 and box.x1 <= box.W


cdef void pack_panels(
    const fc_leaves* leaves, Py_ssize_t size, const Image* src, const Box* box, char* scratch,
    Py_ssize_t panel, Image* view
) noexcept nogil:
    """Copy `box`, which lies in the image, in panels of `pitch` channels, so many elements apart;
    `view` addresses the first of them.

    A few pixels at a time: their channels come from memory once, for all panels.
    """
    cdef Py_ssize_t n, r, x, t, count, some, pitch = box.pitch
    cdef Py_ssize_t columns = box.x1 - box.x0, channels = box.c1 - box.c0
    cdef Py_ssize_t most = PANEL_PIXELS if src.sc == 1 else columns
    cdef char* row
    cdef const char* at
    lay_out(box, size, scratch, view)
    for n in range(box.n0, box.n1):
        for r in range(box.r0, box.r1):
            x = box.x0
            while x < box.x1:
                some = min(most, box.x1 - x)
                row = view.data + (n * view.sn + r * view.sh + x * pitch) * size
                at = src.data + (n * src.sn + box.c0 * src.sc + r * src.sh + x * src.sw) * size
                for t in range((channels + pitch - 1) // pitch):
                    count = min(pitch, channels - t * pitch)
                    if src.sc == 1:
                        leaves.gather(row, pitch, at, src.sw, some, NULL, count, count)
                    else:
                        leaves.transpose(row, pitch, NULL, at, src.sc, count, some)
                    row += panel * size
                    at += pitch * src.sc * size
                x += some
            # end: x
        # end: r
    # end: n


cdef char* spread_table(
    Py_ssize_t CI, Py_ssize_t CO, Py_ssize_t lanes, Py_ssize_t pitch, Py_ssize_t size
) except NULL:
    """A `Spread`'s index, to be freed by its owner; lanes past the last repeat it."""
    cdef char* index = <char*>malloc(CI * pitch * size)
    cdef Py_ssize_t ci, lane, channel
    if index == NULL:
        raise MemoryError("cannot allocate a convolution's plan")
    for ci in range(CI):
        for lane in range(pitch):
            channel = min(lane, lanes - 1) // CO * CI + ci
            if size == 4:
                (<int32_t*>index)[ci * pitch + lane] = <int32_t>channel
            else:
                (<int64_t*>index)[ci * pitch + lane] = channel
    return index


cdef void pack_box(
    const fc_leaves* leaves, Py_ssize_t size, const Image* src, const Box* box,
    const Spread* spread, char* scratch, char* row_scratch, Image* view
) noexcept nogil:
    """Pack pixels as they are, or spread where groups are."""
    if spread.index != NULL:
        spread_pixels(leaves, size, src, box, spread, scratch, row_scratch, view)
    else:
        pack_pixels(leaves, size, src, box, scratch, view)


cdef void spread_pixels(
    const fc_leaves* leaves, Py_ssize_t size, const Image* src, const Box* box,
    const Spread* spread, char* scratch, char* row_scratch, Image* view
) noexcept nogil:
    """Like pack_pixels for lanes [c0, c1) of the box; a row's CI planes of lanes are
    `view.sc` apart.

    `row_scratch` holds a row of pixels where the source is planar.
    """
    cdef Py_ssize_t n, r, ci, lanes = box.c1 - box.c0
    cdef Py_ssize_t in0 = max(box.x0, 0), in1 = max(min(box.x1, box.W), in0)
    cdef Py_ssize_t first = box.c0 // spread.CO * spread.CI
    cdef Py_ssize_t channels = ((box.c1 - 1) // spread.CO + 1) * spread.CI - first
    cdef Py_ssize_t step = channels if src.sc != 1 else src.sw
    cdef char* row
    cdef const char* at
    view.sw, view.sc = lanes, max(box.x1 - box.x0, 0) * lanes
    view.sh = spread.CI * view.sc
    view.sn = max(box.r1 - box.r0, 0) * view.sh
    view.data = scratch - (box.n0 * view.sn + box.r0 * view.sh + box.x0 * lanes) * size
    for n in range(box.n0, box.n1):
        for r in range(box.r0, box.r1):
            row = scratch + ((n - box.n0) * view.sn + (r - box.r0) * view.sh) * size
            if r < 0 or r >= box.H or in0 > box.x0 or in1 < box.x1:
                memset(row, 0, view.sh * size)
            if r < 0 or r >= box.H:
                continue
            at = src.data + (n * src.sn + first * src.sc + r * src.sh + in0 * src.sw) * size
            if src.sc != 1:
                leaves.transpose(row_scratch, channels, NULL, at, src.sc, channels, in1 - in0)
                at = row_scratch
            row += (in0 - box.x0) * lanes * size
            for ci in range(spread.CI):
                leaves.gather(row + ci * view.sc * size, lanes, at - first * size, step,
                              in1 - in0, spread.index + (ci * spread.pitch + box.c0) * size,
                              lanes, first + channels)
        # end: r
    # end: n
