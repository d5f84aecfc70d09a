from fastconv._core.geometry cimport Geometry
from fastconv._core.isa cimport fc_leaves
from fastconv._core.pack cimport Image
from fastconv._core.partials cimport Partials
from fastconv._core.plan cimport Lanes
from fastconv._core.tiling cimport Tiling

cdef struct WinogradGradient:
    Py_ssize_t G, CI, CO
    Partials partials
    # ---- the transform: n x n values of x and of an m x m tile of dy; 3 x 3 results ----
    int n, m
    Tiling x, dy
    Py_ssize_t tiles
    # ---- blocking ----
    const fc_leaves* leaves
    int itemsize, vf
    Py_ssize_t V, n_lanes           # vectors that hold CO, and the blocks they are cut into
    Lanes* lanes
    Py_ssize_t split, n_splits      # blocks of lanes of a task
    Py_ssize_t channels, n_channels  # input channels of a task
    Py_ssize_t block                # tiles whose values are in L2
    Py_ssize_t chunk                # tiles of a task
    Py_ssize_t n_tasks
    Py_ssize_t width, sum_step      # lanes of a task; from one value's sums to the next one's
    # ---- sizes, in elements ----
    Py_ssize_t x_scratch, dy_scratch, sum_scratch, row_scratch
    double cycles                   # of the widest vectors, for any memory order
    double cost                     # multiply-adds, or what takes as long

cdef class WinogradGradientPlan:
    cdef WinogradGradient p

cdef WinogradGradientPlan plan_winograd_gradient(
    const Geometry* g, const fc_leaves* leaves, int itemsize, bint x_planar, bint dy_planar)
cdef Py_ssize_t winograd_gradient_scratch_bytes(const WinogradGradient* p) noexcept nogil
cdef int winograd_gradient(
    const WinogradGradient* plan, Image* x, Image* dy, char* dkernel, char* partials,
    char* scratch, int team) except -1 nogil
