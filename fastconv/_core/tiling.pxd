from fastconv._core.isa cimport fc_leaves
from fastconv._core.pack cimport Image

cdef enum:
    CACHE_LINE = 64

cdef struct Tiling:
    # An image of H x W pixels cut into tiles, `tile` pixels from one to the next, each with a
    # window of size x size pixels that begins at (top, left) from it.  The transform makes n x n
    # values of a window; those of a tile lie `step` apart, those of neighbouring tiles `pitch`.
    const fc_leaves* leaves
    int itemsize
    int n, size, tile
    bint is_data                    # windows of pixels, or of taps
    bint packs                      # windows are packed first: the image is planar
    Py_ssize_t N, rows, columns     # tiles
    Py_ssize_t top, left, H, W
    Py_ssize_t pitch, step

cdef struct Place:
    # Where a tile begins.
    Py_ssize_t n, i, j

cdef Py_ssize_t odd_lines(Py_ssize_t elements, int itemsize) noexcept nogil
cdef Py_ssize_t row_scratch(const Tiling* t, Py_ssize_t tiles, Py_ssize_t channels) noexcept nogil
cdef void transform_tiles(
    const Tiling* t, const Image* src, Py_ssize_t c0, Py_ssize_t c1, Py_ssize_t tile0,
    Py_ssize_t tile1, char* values, char* scratch) noexcept nogil

cdef inline Place place_of(const Tiling* t, Py_ssize_t number) noexcept nogil:
    cdef Place place
    place.j = number % t.columns * t.tile
    place.i = number // t.columns % t.rows * t.tile
    place.n = number // t.columns // t.rows
    return place

cdef inline Py_ssize_t row_end(const Tiling* t, Py_ssize_t number, Py_ssize_t end) noexcept nogil:
    """One past the tiles from this one on that lie in its row."""
    return min(number + t.columns - number % t.columns, end)
