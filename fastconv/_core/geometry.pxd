cdef struct Axis:
    # One spatial axis of a correlation: output i of n reads the source at
    #     i*stride + offset + t*offset_step      for tap t of taps
    # where it lies inside [0, source), with kernel index tap + t*tap_step,
    # and is written to the destination at start + i*step.
    Py_ssize_t n, start, step
    Py_ssize_t source, stride
    Py_ssize_t taps, offset, offset_step
    Py_ssize_t tap, tap_step

cdef struct Geometry:
    # A convolution as its user states it, checked.
    Py_ssize_t N, IC, IH, IW
    Py_ssize_t OC, OH, OW
    Py_ssize_t KH, KW
    Py_ssize_t G
    Py_ssize_t stride_h, stride_w
    Py_ssize_t pad_t, pad_b, pad_l, pad_r
    Py_ssize_t dil_h, dil_w

cdef void forward_axis(
    Axis* axis, Py_ssize_t source, Py_ssize_t n, Py_ssize_t taps,
    Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t dilation) noexcept nogil
cdef void gradient_axes(
    Axis* axes, Py_ssize_t n, Py_ssize_t source, Py_ssize_t taps,
    Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t dilation) noexcept nogil
cdef Py_ssize_t first_valid(const Axis* axis, Py_ssize_t t) noexcept nogil
cdef Py_ssize_t end_valid(const Axis* axis, Py_ssize_t t) noexcept nogil
cdef void valid_taps(
    const Axis* axis, Py_ssize_t i, Py_ssize_t* t0, Py_ssize_t* t1) noexcept nogil
cdef void span(
    const Axis* axes, int count, Py_ssize_t b0, Py_ssize_t b1, Py_ssize_t* low, Py_ssize_t* high
) noexcept nogil
cdef Py_ssize_t end_of_run(
    const Axis* axis, Py_ssize_t i, Py_ssize_t end, Py_ssize_t* t0, Py_ssize_t* t1
) noexcept nogil
cdef bint all_inside(const Axis* axis, Py_ssize_t i0, Py_ssize_t i1) noexcept nogil
cdef bint most_see_the_border(const Axis* axis) noexcept nogil
