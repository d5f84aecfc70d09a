# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Images as tiles, and tiles as values: the first step of Winograd's convolutions.

Tiles are numbered through a batch, row by row.  Windows at the border hang over it; what lies
outside counts as zero.  A planar image is packed, a row of tiles at a time.
"""

from fastconv._core.isa cimport fc_winograd
from fastconv._core.pack cimport Box, Spread, pack_box
from fastconv._core.plan cimport ceil_div


cdef Py_ssize_t odd_lines(Py_ssize_t elements, int itemsize) noexcept nogil:
    """At least so many elements, an odd number of cache lines.

    A transform reads or writes places that lie multiples of it apart; so they share no set of L1.
    """
    return (ceil_div(elements * itemsize, CACHE_LINE) | 1) * CACHE_LINE // itemsize


cdef Py_ssize_t row_scratch(const Tiling* t, Py_ssize_t tiles, Py_ssize_t channels) noexcept nogil:
    """Elements that a packed row of up to so many tiles takes."""
    if not t.packs:
        return 0
    return t.size * (min(tiles, t.columns) * t.tile + t.size - t.tile) * channels


cdef void transform_tiles(
    const Tiling* t, const Image* src, Py_ssize_t c0, Py_ssize_t c1, Py_ssize_t tile0,
    Py_ssize_t tile1, char* values, char* scratch
) noexcept nogil:
    """Channels [c0, c1) of tiles [tile0, tile1), as values (value, tile, channel)."""
    cdef Py_ssize_t number, size = t.itemsize, i, j
    cdef Place place
    cdef Image image = src[0]
    cdef fc_winograd w
    image.data += c0 * src.sc * size
    w.n, w.size, w.lanes = t.n, t.size, c1 - c0
    w.dst_w = t.step
    w.dst_h = t.n * t.step
    for number in range(tile0, tile1):
        place = place_of(t, number)
        i, j = place.i + t.top, place.j + t.left
        w.h0, w.h1, w.w0, w.w1 = -i, t.H - i, -j, t.W - j
        if t.packs:
            if number == tile0 or place.j == 0:
                pack_row(t, src, c0, c1, &place, row_end(t, number, tile1) - number, scratch,
                         &image)
            w.h0 = w.w0 = 0
            w.h1 = w.w1 = t.size
        w.src = image.data + (place.n * image.sn + i * image.sh + j * image.sw) * size
        w.src_h, w.src_w = image.sh, image.sw
        w.dst = values + (number - tile0) * t.pitch * size
        if t.is_data:
            t.leaves.winograd_data(&w)
        else:
            t.leaves.winograd_spread(&w)
    # end: number


cdef void pack_row(
    const Tiling* t, const Image* src, Py_ssize_t c0, Py_ssize_t c1, const Place* first,
    Py_ssize_t count, char* scratch, Image* view
) noexcept nogil:
    """The windows of neighbouring tiles of one row, between zeros."""
    cdef Box box
    cdef Spread spread
    spread.index = NULL
    box.n0, box.n1, box.c0, box.c1 = first.n, first.n + 1, c0, c1
    box.r0, box.x0 = first.i + t.top, first.j + t.left
    box.r1, box.x1 = box.r0 + t.size, box.x0 + count * t.tile + t.size - t.tile
    box.pitch, box.H, box.W = c1 - c0, t.H, t.W
    pack_box(t.leaves, t.itemsize, src, &box, &spread, scratch, NULL, view)
