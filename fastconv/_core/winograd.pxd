from fastconv._core.geometry cimport Geometry
from fastconv._core.isa cimport fc_leaves
from fastconv._core.pack cimport Image
from fastconv._core.plan cimport Lanes
from fastconv._core.tiling cimport Tiling

cdef enum:
    KERNEL_ROWS = 16      # input channels whose taps are turned together

cdef struct Winograd:
    Py_ssize_t N, G, CI, CO
    Py_ssize_t dst_h, dst_w
    bint flipped                    # kernel is (reduced, outputs) per tap: the input's gradient
    # ---- the transform ----
    int n, m                        # n x n values of a tile give m x m results
    Tiling pixels
    Py_ssize_t tiles
    # ---- blocking ----
    const fc_leaves* leaves
    int itemsize, vf
    Py_ssize_t V, n_lanes           # vectors that hold CO, and the blocks they are cut into
    Lanes* lanes
    Py_ssize_t block, n_blocks      # tiles of a task
    Py_ssize_t split, n_splits      # blocks of lanes of a task
    Py_ssize_t n_tasks
    bint dst_planar, streams
    Py_ssize_t product_step         # from one product of a tile to its next
    Py_ssize_t order[16 * 9]        # (ci, kh, kw) -> row of the packed taps
    # ---- sizes, in elements ----
    Py_ssize_t packed_size
    Py_ssize_t values_scratch, products_scratch, src_scratch, dst_scratch
    double cycles                   # of the widest vectors, for any memory order
    double cost                     # multiply-adds, or what takes as long

cdef class WinogradPlan:
    cdef Winograd p

cdef WinogradPlan plan_winograd(
    const Geometry* g, bint backward, const fc_leaves* leaves, int itemsize,
    bint src_planar, bint dst_planar)
cdef int tile_size(Py_ssize_t H, Py_ssize_t W) noexcept nogil
cdef bint fits_winograd(const Geometry* g) noexcept nogil
cdef Py_ssize_t winograd_scratch_bytes(const Winograd* p) noexcept nogil
cdef int winograd(
    const Winograd* plan, Image* src, const char* kernel, const char* bias, Image* dst,
    bint relu, char* packed, char* scratch, int team) except -1 nogil
