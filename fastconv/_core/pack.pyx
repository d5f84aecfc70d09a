# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Turning a box of an image into pixels of channels in a thread's scratch.

The loop nests pack where the source is planar, or where its taps shall run over zero columns
instead of being cut into parts.
"""

from libc.string cimport memcpy, memset


cdef void pack_pixels(
    const fc_leaves* leaves, Py_ssize_t size, const Image* src, const Box* box, char* scratch,
    Image* view
) noexcept nogil:
    """Copy `box` to `scratch`; `view` addresses it by the source's image, row and column.

    Channel c0 of the source is channel 0 of `view`.
    """
    cdef Py_ssize_t n, r, x, channels = box.c1 - box.c0
    cdef Py_ssize_t in0 = max(box.x0, 0), in1 = max(min(box.x1, box.W), in0)
    cdef Py_ssize_t low = min(in0, box.x1) - box.x0, high = max(box.x1 - max(in1, box.x0), 0)
    cdef char* row
    cdef const char* from_row
    view.sc, view.sw = 1, channels
    view.sh = max(box.x1 - box.x0, 0) * channels
    view.sn = max(box.r1 - box.r0, 0) * view.sh
    view.data = scratch - (box.n0 * view.sn + box.r0 * view.sh + box.x0 * channels) * size
    for n in range(box.n0, box.n1):
        for r in range(box.r0, box.r1):
            row = scratch + ((n - box.n0) * view.sn + (r - box.r0) * view.sh) * size
            if r < 0 or r >= box.H or in1 == in0:
                memset(row, 0, view.sh * size)
                continue
            memset(row, 0, low * channels * size)
            memset(row + (box.x1 - box.x0 - high) * channels * size, 0, high * channels * size)
            row += (in0 - box.x0) * channels * size
            from_row = src.data + (n * src.sn + box.c0 * src.sc + r * src.sh + in0 * src.sw) * size
            if src.sc == 1 and (src.sw == channels or in1 - in0 == 1):
                memcpy(row, from_row, (in1 - in0) * channels * size)
            elif src.sc == 1:
                for x in range(in1 - in0):
                    memcpy(row + x * channels * size, from_row + x * src.sw * size,
                           channels * size)
            else:
                leaves.transpose(row, channels, NULL, from_row, src.sc, channels, in1 - in0)
        # end: r
    # end: n
