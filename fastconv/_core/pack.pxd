from fastconv._core.isa cimport fc_leaves

cdef struct Image:
    # An array of logical shape (N, C, H, W): strides in elements.  Either sc == 1 (channels-last)
    # or sw == 1 (planar).
    char* data
    Py_ssize_t sn, sc, sh, sw

cdef inline bint is_gapless(
    const Image* image, Py_ssize_t N, Py_ssize_t C, Py_ssize_t H, Py_ssize_t W
) noexcept nogil:
    """Whether the pixels of a channels-last image, rows and images follow each other in memory."""
    return image.sw == C and (H == 1 or image.sh == W * C) and (N == 1 or image.sn == H * W * C)

cdef struct Box:
    # What to pack: images [n0, n1), channels [c0, c1), rows [r0, r1), columns [x0, x1) of an image
    # of H x W pixels.  Rows and columns outside the image are zero.  Packed pixels are `pitch`
    # elements apart.
    Py_ssize_t n0, n1, c0, c1, r0, r1, x0, x1, pitch
    Py_ssize_t H, W

cdef struct Spread:
    # How the channels of small groups come to lie in lanes: plane ci of a packed row holds, for
    # every pixel and lane, channel ci of the lane's group.  `index` is (CI, pitch) channels, see
    # fc_gather_fn.
    char* index
    Py_ssize_t CI, CO, pitch      # channels in, lanes of a group; lanes of the table

cdef void pack_pixels(
    const fc_leaves* leaves, Py_ssize_t size, const Image* src, const Box* box, char* scratch,
    Image* view) noexcept nogil
cdef void pack_box(
    const fc_leaves* leaves, Py_ssize_t size, const Image* src, const Box* box,
    const Spread* spread, char* scratch, char* row_scratch, Image* view) noexcept nogil
cdef void pack_panels(
    const fc_leaves* leaves, Py_ssize_t size, const Image* src, const Box* box, char* scratch,
    Py_ssize_t panel, Image* view) noexcept nogil
cdef char* spread_table(
    Py_ssize_t CI, Py_ssize_t CO, Py_ssize_t lanes, Py_ssize_t pitch, Py_ssize_t size
) except NULL
