from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "ukernels/ukernels.h" nogil:
    enum:
        FC_MAX_MR
        FC_MAX_NR
        FC_LANEWISE_NR
        FC_ASKS
        FC_LINE_BYTES
        FC_SLIDE
        FC_LONG_SLIDE
        FC_MAX_TIERS
        FC_ROOF_FMAS
        FC_ADD
        FC_ADD_RELU
        FC_RELU
        FC_RELU_BACKWARD
        FC_LEAKY_RELU
        FC_LEAKY_RELU_BACKWARD
        FC_SIGMOID
        FC_SIGMOID_BACKWARD
        FC_TANH
        FC_TANH_BACKWARD
        FC_SILU
        FC_SILU_BACKWARD
        FC_GELU
        FC_GELU_BACKWARD
        FC_GELU_TANH
        FC_GELU_TANH_BACKWARD
        FC_MAPS

    ctypedef struct fc_tile:
        const void* a
        const void* b
        void* c
        const Py_ssize_t* a_off
        const Py_ssize_t* c_off
        Py_ssize_t a_t, a_u, a_k
        Py_ssize_t b_t, b_u, b_k
        Py_ssize_t nt, nu, nk
        Py_ssize_t n, a_n, b_n, c_n
        const char* ask[2]
        Py_ssize_t ask_step[2]
        Py_ssize_t ask_lines
        Py_ssize_t a_ahead, b_ahead
        const void* lane_bias
        const void* row_bias
        Py_ssize_t lanes
        int accumulate
        int relu
        int stream

    ctypedef void (*fc_tile_fn)(fc_tile* t) noexcept nogil

    ctypedef struct fc_dots:
        const void* a
        const void* b
        const void* bias
        void* c
        Py_ssize_t a_row, b_row, c_row
        Py_ssize_t rows, cols, n
        int accumulate, relu

    ctypedef void (*fc_dots_fn)(const fc_dots* d) noexcept nogil
    ctypedef void (*fc_transpose_fn)(
        void* dst, Py_ssize_t dst_row, const Py_ssize_t* order,
        const void* src, Py_ssize_t src_row, Py_ssize_t rows, Py_ssize_t cols) noexcept nogil
    ctypedef void (*fc_gather_fn)(
        void* dst, Py_ssize_t dst_step, const void* src, Py_ssize_t src_step,
        Py_ssize_t pixels, const void* index, Py_ssize_t n, Py_ssize_t room) noexcept nogil
    ctypedef void (*fc_add_fn)(void* dst, const void* src, Py_ssize_t n) noexcept nogil
    ctypedef void (*fc_map_fn)(
        void* dst, const void* a, const void* b, Py_ssize_t n, double number) noexcept nogil

    ctypedef struct fc_pool:
        const void* x
        void* y
        int32_t* indices
        uint8_t* taps
        Py_ssize_t n, channels
        Py_ssize_t nt, nu, x_n, x_t, x_u
        int32_t index, index_n, index_t, index_u
        Py_ssize_t x_room, y_room

    ctypedef void (*fc_max_pool_fn)(const fc_pool* p) noexcept nogil

    ctypedef Py_ssize_t (*fc_unpool_fn)(
        void* dx, const void* dy, const int32_t* indices,
        Py_ssize_t pixels, Py_ssize_t channels, Py_ssize_t plane) noexcept nogil

    ctypedef double (*fc_roof_fn)(Py_ssize_t n) noexcept nogil
    ctypedef void (*fc_fence_fn)() noexcept nogil
    ctypedef void (*fc_prefetch_fn)(const void* p, Py_ssize_t bytes) noexcept nogil

    ctypedef struct fc_unpool:
        void* dx
        const void* dy
        const void* y
        const uint8_t* taps
        const Py_ssize_t* window
        const Py_ssize_t* tap
        Py_ssize_t pixels, channels, dx_step, windows, room
        Py_ssize_t rows, dx_row, row

    ctypedef void (*fc_unpool_pixels_fn)(const fc_unpool* p) noexcept nogil
    ctypedef int (*fc_most_fn)(const uint8_t* taps, Py_ssize_t n) noexcept nogil

    ctypedef struct fc_step:
        void* value
        void* first
        void* second
        const void* grad
        Py_ssize_t n
        double rate, momentum, new1, new2, epsilon, decay
        double scale, limit
        int nesterov

    ctypedef void (*fc_step_fn)(const fc_step* s) noexcept nogil
    ctypedef double (*fc_square_sum_fn)(const void* x, Py_ssize_t n) noexcept nogil

    ctypedef struct fc_softmax_loss:
        void* dst
        const void* x
        const void* spread
        const int64_t* labels
        const double* weights
        const double* own
        double* sums
        double* scores
        Py_ssize_t rows, classes
        double scale, spread_sum

    ctypedef void (*fc_softmax_loss_fn)(const fc_softmax_loss* s) noexcept nogil

    ctypedef struct fc_softmax:
        void* dst
        const void* a
        const void* b
        Py_ssize_t rows, classes
        int log

    ctypedef void (*fc_softmax_fn)(const fc_softmax* s) noexcept nogil
    enum:
        FC_SQUARED
        FC_HUBER
        FC_LOGISTIC

    ctypedef struct fc_loss:
        void* dst
        const void* x
        const void* t
        const void* by
        Py_ssize_t n
        double scale, delta
        int outside

    ctypedef double (*fc_loss_fn)(fc_loss* s) noexcept nogil

    ctypedef void (*fc_scale_fn)(
        void* dst, const void* x, const void* by, Py_ssize_t n) noexcept nogil

    ctypedef struct fc_mix:
        const void* x
        void* y
        const Py_ssize_t* start
        const Py_ssize_t* index
        const void* weight
        const void* divisor
        double divide, fill
        Py_ssize_t n, channels, pitch
        const Py_ssize_t* row
        const void* row_weight
        Py_ssize_t rows, row_pitch
        int stream

    ctypedef void (*fc_mix_fn)(const fc_mix* m) noexcept nogil

    enum:
        FC_BEGINS
        FC_IN_ORDER

    ctypedef struct fc_mix_rows:
        const void** x
        void* y
        const Py_ssize_t* first
        const Py_ssize_t* base
        const Py_ssize_t* run
        const uint8_t* kind
        const void* place
        const void* weight
        const void* divisor
        const void* divide
        double fill
        Py_ssize_t rows, n, source
        int stream, alone

    ctypedef void (*fc_mix_rows_fn)(const fc_mix_rows* m) noexcept nogil

    ctypedef struct fc_winograd:
        const void* src
        const void* bias
        void* dst
        Py_ssize_t src_h, src_w, dst_h, dst_w
        Py_ssize_t h0, h1, w0, w1
        Py_ssize_t lanes
        int n, size
        int relu, stream

    ctypedef void (*fc_winograd_fn)(const fc_winograd* w) noexcept nogil

    enum:
        FC_BY_POSITION
        FC_UNIFORM
        FC_BY_ROW

    ctypedef struct fc_norm:
        void* dst
        const void* x
        const void* dy
        const void* center
        const void* scale
        const void* shift
        const void* tilt
        const void* level
        const void* by
        double* first
        double* second
        void* dz_sums
        void* dz_products
        Py_ssize_t rows, width, step
        int kind, relu, stream

    ctypedef void (*fc_norm_fn)(const fc_norm* s) noexcept nogil

    ctypedef struct fc_dropout:
        void* dst
        const void* x
        Py_ssize_t rows, width, step
        uint32_t first, row_number, lane_number
        uint32_t key[2]
        uint32_t threshold
        double scale

    ctypedef void (*fc_dropout_fn)(const fc_dropout* s) noexcept nogil

    ctypedef struct fc_leaves:
        int vf
        int registers
        int max_mr[4]
        fc_tile_fn tile[4][14]
        fc_tile_fn lanewise[2][14]
        fc_transpose_fn transpose
        fc_transpose_fn transpose_stream
        fc_gather_fn gather
        fc_add_fn add
        fc_map_fn map[14]
        fc_max_pool_fn max_pool
        fc_unpool_fn unpool
        fc_roof_fn roof
        fc_fence_fn fence
        fc_prefetch_fn prefetch
        const fc_leaves* narrow
        fc_unpool_pixels_fn unpool_pixels
        fc_most_fn most
        fc_dots_fn dots
        fc_step_fn sgd
        fc_step_fn adam
        fc_step_fn rmsprop
        fc_square_sum_fn square_sum
        fc_softmax_loss_fn softmax_loss
        fc_softmax_fn softmax
        fc_softmax_fn softmax_backward
        fc_loss_fn loss[3]
        fc_scale_fn scale
        fc_mix_fn mix
        fc_mix_rows_fn mix_rows
        fc_winograd_fn winograd_data
        fc_winograd_fn winograd_spread
        fc_winograd_fn winograd_fold
        fc_norm_fn moments
        fc_norm_fn normalize
        fc_norm_fn norm_sums
        fc_norm_fn norm_gradient
        fc_dropout_fn dropout

    ctypedef struct fc_isa:
        const char* name
        const fc_leaves* f32
        const fc_leaves* f64

    int fc_detect(const fc_isa** found)
    bint fc_wide_is_two_narrow()
    uint64_t fc_float_mode()
    uint64_t fc_flushed(uint64_t mode)
    uint64_t fc_set_float_mode(uint64_t mode)

cdef const fc_leaves* leaves(int itemsize) noexcept nogil
cdef const fc_leaves* unaligned_leaves(const fc_leaves* leaves, Py_ssize_t rows) noexcept nogil

cdef struct Costs:
    double fma, load, broadcast, latency

cdef double vector_cycles(const fc_leaves* leaves) noexcept nogil
cdef Costs costs(const fc_leaves* leaves) noexcept nogil
cdef int max_rows(const fc_leaves* leaves, int nr) noexcept nogil

cdef bint flushes       # denormals are zero inside of calls
cdef uint64_t float_mode() noexcept nogil
cdef uint64_t set_float_mode(uint64_t mode) noexcept nogil

cdef inline fc_tile_fn tile_of(
    const fc_leaves* leaves, bint lanewise, Py_ssize_t mr, int nr
) noexcept nogil:
    """The register tile of mr rows and nr vectors."""
    if lanewise:
        return leaves.lanewise[nr - 1][mr - 1]
    return leaves.tile[nr - 1][mr - 1]
