from fastconv._core.geometry cimport Axis
from fastconv._core.isa cimport fc_leaves, max_rows
from fastconv._core.pack cimport Spread

cdef struct Part:
    # Taps [u0, u1) of a column tile, valid for its columns [j0, j1).
    Py_ssize_t u0, u1, j0, j1

cdef struct ColumnTile:
    # Columns [j0, j1) of one phase and the parts their taps fall into.
    Py_ssize_t j0, j1
    Py_ssize_t part0, part1

cdef struct Lanes:
    # A block of lanes: nr vectors from vector v0 on.  The first lane is channel (or pixel) c0, and
    # `count` lanes are in use.
    Py_ssize_t v0, c0, count
    int nr

cdef struct Plan:
    # ---- the correlation: CI channels are summed into each of CO, per group ----
    Py_ssize_t N, G, CI, CO
    Py_ssize_t src_h, src_w, dst_h, dst_w
    int n_h, n_w                    # phases of each axis; also the step between their outputs
    Axis* h
    Axis* w
    Py_ssize_t KH, KW
    bint lanewise                   # lane l of the source meets lane l of the kernel: depthwise,
    Spread spread                   # or small groups spread over lanes; no index: depthwise
    bint flipped                    # kernel is (reduced, outputs) per tap: the input's gradient
    # ---- blocking ----
    const fc_leaves* leaves
    int itemsize
    int vf
    Py_ssize_t V                    # vectors that hold CO
    Py_ssize_t n_lanes              # blocks of output channels
    Lanes* lanes
    Py_ssize_t ci_block, n_ci       # reduced channels per sweep
    Py_ssize_t pitch                # from one packed pixel of them to the next
    bint padded                     # the source is packed between zero columns
    bint neighbours                 # the taps of a row are neighbouring pixels
    Py_ssize_t images, rows, columns  # extent of a task: images, base rows, base columns
    Py_ssize_t joined               # images whose rows share a tile
    Py_ssize_t n_images, n_rows, n_columns, n_splits   # tasks: x G
    Py_ssize_t split                # blocks of lanes per task
    Py_ssize_t n_tasks
    bint streams                    # results go past the caches, where they are aligned
    bint asks                       # the arrays come from memory: what is read next is asked for
    # ---- pixels in the lanes ----
    bint pixel_lanes
    bint flat                       # lanes run on over the ends of rows
    Py_ssize_t split_columns        # a packed row holds its columns by remainder of this
    Py_ssize_t src_pitch, src_plane, dst_pitch, dst_plane   # of the packed planes
    # ---- tables ----
    Py_ssize_t* valid               # [ph][row] -> taps [t0, t1) inside the source, two numbers
    Py_ssize_t* tile0               # [nr - 1][pw][column block] -> first tile; one more at the end
    ColumnTile* tiles
    Part* parts
    Py_ssize_t* order               # (ci, kh, kw) -> row of the packed kernel
    Py_ssize_t* phase_row           # [ph][pw] -> first row of the phase in the packed kernel
    # ---- sizes, in elements ----
    Py_ssize_t packed_size
    Py_ssize_t src_scratch, row_scratch, dst_scratch
    double cost                     # multiply-adds, or what takes as long
    double cycles                   # with channels in the lanes, as their width was chosen by

cdef class CorrelationPlan:
    cdef Plan p

cdef Py_ssize_t ASK_BYTES, FEW_CHANNELS, PACKED_LANES, SCRATCH_BYTES, STREAM_BYTES, ENOUGH_TASKS
cdef double TASK_WORK

cdef void* table(Py_ssize_t count, size_t size) except NULL
cdef double tile_cycles(
    const fc_leaves* leaves, Py_ssize_t mr, int nr, bint aligned) noexcept nogil
cdef double call_cycles(
    const fc_leaves* leaves, Py_ssize_t mr, int nr, double runs) noexcept nogil
cdef void border_cycles(
    const Plan* p, int nr, double* inside, double* by_parts, double* by_zeros) noexcept nogil
cdef int best_width(
    const fc_leaves* leaves, Py_ssize_t V, Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t run,
    bint joins, bint aligned, double* cycles
) noexcept nogil
cdef const fc_leaves* cheapest_leaves(
    const fc_leaves* wide, Py_ssize_t lanes, Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t run,
    double share
) noexcept nogil
cdef double shared_cycles(
    const fc_leaves* leaves, Py_ssize_t lanes, Py_ssize_t CI, double depth, double step,
    double sources
) noexcept nogil
cdef const fc_leaves* lanewise_leaves(const fc_leaves* wide, Py_ssize_t lanes) noexcept nogil
cdef Py_ssize_t cut_lanes(
    const fc_leaves* leaves, Py_ssize_t V, Py_ssize_t count, int width, Lanes** lanes
) except -1

cdef int cut_columns(Plan* p) except -1
cdef int order_kernel(Plan* p) except -1
cdef int valid_rows(Plan* p) except -1
cdef Py_ssize_t max_taps(const Axis* axes, int count) noexcept nogil
cdef Py_ssize_t axis_span(const Axis* axes, int count, Py_ssize_t n) noexcept nogil
cdef Py_ssize_t source_elements(const Plan* p, Py_ssize_t images, Py_ssize_t rows) noexcept nogil
cdef Py_ssize_t destination_pixels(const Plan* p) noexcept nogil
cdef Py_ssize_t split_lanes(const Plan* p) noexcept nogil

cdef inline Py_ssize_t tallest_tile(
    const fc_leaves* leaves, const Lanes* lanes, Py_ssize_t count
) noexcept nogil:
    """The most rows that a tile of every width in use can have."""
    return min(max_rows(leaves, lanes[0].nr), max_rows(leaves, lanes[count - 1].nr))

cdef inline Py_ssize_t rows_alike(
    const Py_ssize_t* valid, Py_ssize_t i, Py_ssize_t end
) noexcept nogil:
    """How many rows from i on see the taps of row i."""
    cdef Py_ssize_t j = i + 1
    while j < end and valid[2 * j] == valid[2 * i] and valid[2 * j + 1] == valid[2 * i + 1]:
        j += 1
    return j - i

cdef inline bint may_share_vectors(
    Py_ssize_t G, Py_ssize_t CI, Py_ssize_t CO, Py_ssize_t taps, int vf
) noexcept nogil:
    """Whether groups are so small that several could share a vector."""
    return G > 1 and CI * CO > 1 and taps > 1 and CO < vf and 4 * CI <= vf

cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b
