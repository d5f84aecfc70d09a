cimport numpy as cnp
from fastconv._core.pack cimport Image
from fastconv._core.geometry cimport Geometry

cdef Py_ssize_t LARGEST           # of the whole numbers that describe a call

cdef Py_ssize_t integer(object value, str name, Py_ssize_t least) except -1
cdef int pair(object value, str name, Py_ssize_t least, Py_ssize_t* h, Py_ssize_t* w) except -1
cdef int pads(
    object padding, Py_ssize_t* top, Py_ssize_t* bottom, Py_ssize_t* left, Py_ssize_t* right
) except -1
cdef cnp.ndarray array(object value, str name)
cdef int float_type(list arrays, list names) except -1
cdef cnp.ndarray as_type(cnp.ndarray value, int typenum)
cdef cnp.ndarray contiguous(cnp.ndarray value, int typenum)
cdef cnp.ndarray image_array(cnp.ndarray value, int typenum)
cdef bint is_channels_last(cnp.ndarray value) noexcept
cdef Image image(cnp.ndarray value) noexcept
cdef bint writable_in_place(cnp.ndarray value) noexcept
cdef bint is_planar(const Image* view) noexcept
cdef int window(
    Geometry* g, str kernel_name, object stride, object padding, object dilation,
    object groups) except -1
cdef int check_out(object out, str name, int ndim, const Py_ssize_t* shape, int typenum,
                   tuple inputs, tuple names) except -1
cdef str shape_text(cnp.ndarray value)
cdef bint is_relu(object activation) except -1
cdef cnp.ndarray weights(object value, str name, Py_ssize_t count)
cdef int check_bias(cnp.ndarray bias, Py_ssize_t count) except -1
cdef int gradient_shape(
    cnp.ndarray dy, object input_shape, Py_ssize_t* shape) except -1
cdef cnp.ndarray destination(
    object out, int ndim, const Py_ssize_t* shape, int typenum, bint channels_last,
    tuple inputs, tuple names)
cdef cnp.ndarray c_destination(
    object out, int ndim, const Py_ssize_t* shape, int typenum, tuple inputs, tuple names)
cdef cnp.ndarray finish(cnp.ndarray computed, object out)
