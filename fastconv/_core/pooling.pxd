from fastconv._core.geometry cimport Axis

cdef enum:
    MOST_TAPS = 256          # of a window whose tap fits a byte

cdef struct Window:
    # Size, stride, padding and dilation, each of height and width.
    Py_ssize_t KH, KW, sh, sw, ph, pw, dh, dw

cdef int window_of(Window* k, object size, object stride, object padding, object dilation) except -1
cdef int pool_axis(
    Axis* axis, Py_ssize_t n, Py_ssize_t taps, Py_ssize_t stride, Py_ssize_t pad,
    Py_ssize_t dilation, bint ceil_mode) except -1
