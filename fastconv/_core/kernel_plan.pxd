from fastconv._core.geometry cimport Axis, Geometry
from fastconv._core.isa cimport fc_leaves
from fastconv._core.pack cimport Spread
from fastconv._core.partials cimport Partials
from fastconv._core.plan cimport Lanes

cdef struct KernelPlan:
    Py_ssize_t N, G, CI, CO, KH, KW
    bint swapped                 # rows of a tile are output channels, lanes are input channels
    Py_ssize_t in_rows, in_lanes     # channels: CI and CO, or swapped
    Axis h, w
    const fc_leaves* leaves
    int itemsize, vf
    Py_ssize_t V, n_lanes, split, n_splits   # lanes: blocks of channels, blocks per task
    Lanes* lanes
    bint lanewise                # lane l of x meets lane l of dy: depthwise,
    Spread spread                # or small groups spread over lanes; no index: depthwise
    bint by_taps                 # rows of a tile run over (ci, kh, kw)
    bint padded                  # x is packed between zeros
    bint packs_x, packs_dy
    bint panels                  # x is packed in panels of a tile's channels,
    Py_ssize_t panel             # so many elements apart
    bint packs_last              # ... the blocks that read the last pixels
    bint asks                    # the next rows of x and dy are asked for while a block is summed
    Py_ssize_t unit_rows, tile_rows, n_tiles, n_units    # a unit: one tile's rows of one tap
    Py_ssize_t units, n_parts    # units per task
    Py_ssize_t images, rows, columns         # extent of a block of pixels
    Py_ssize_t n_images, n_rows, n_columns, n_blocks
    Py_ssize_t chunk, n_chunks   # blocks per chunk; each chunk sums into its own partial kernel
    Py_ssize_t n_tasks
    Partials partials
    Py_ssize_t x_channels        # of a packed pixel
    Py_ssize_t x_scratch, row_scratch, dy_scratch
    double cost                  # multiply-adds, or what takes as long
    double cycles                # of the tiles, as their width was chosen by

cdef class KernelGradientPlan:
    cdef KernelPlan p

cdef KernelGradientPlan make_kernel_plan(
    const Geometry* geometry, const fc_leaves* leaves, int itemsize,
    bint x_planar, bint dy_planar, bint dense)
cdef Py_ssize_t kernel_scratch_bytes(const KernelPlan* plan) noexcept nogil
