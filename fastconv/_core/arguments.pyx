# cython: language_level=3, cdivision=True
"""What a caller may pass, and what he is told when he may not.

Every check of the public operations lives here or in the door of its own operation; below the
doors nothing can fail.  Messages name the argument, say what was expected and what came.

**The dtype rule.**  Float arrays decide: float32 (and float16) compute in float32, and float64 as
soon as one of them is float64.  Integer and bool arrays follow the float ones; when there are
none, the result is float64.  Anything else (complex, longdouble, object, text) is a TypeError.

**Memory.**  An array is read where it lies when it is aligned, in native byte order, of the
computing type, and has unit stride along its channels (channels-last) or along its rows (planar).
Anything else is copied first.
"""

cimport numpy as cnp
from cpython.long cimport PyLong_CheckExact

import numpy as np

from fastconv.arguments import LARGEST as most
from fastconv.arguments import as_array, as_tuple

from fastconv._core.pack cimport Image
from fastconv._core.geometry cimport Geometry
from fastconv._core.memory cimport new_array

cnp.import_array()

LARGEST = most


cdef str shape_text(cnp.ndarray value):
    return str(tuple([value.shape[i] for i in range(value.ndim)]))


cdef Py_ssize_t integer(object value, str name, Py_ssize_t least) except -1:
    """A whole number of at least `least`; bool is not one."""
    if not PyLong_CheckExact(value):
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            raise TypeError(f"{name}: expected an integer, got {value!r}")
        value = int(value)
    if value < least or value > LARGEST:
        raise ValueError(f"{name}: expected an integer from {least} to {LARGEST}, got {value}")
    return value


cdef int pair(object value, str name, Py_ssize_t least, Py_ssize_t* h, Py_ssize_t* w) except -1:
    """An integer for both axes, or a pair (height, width) of them."""
    if PyLong_CheckExact(value):
        h[0] = w[0] = integer(value, name, least)
    elif isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{name}: expected an integer or a pair of them, got {value!r}")
        h[0] = integer(value[0], name, least)
        w[0] = integer(value[1], name, least)
    elif isinstance(value, np.integer):
        h[0] = w[0] = integer(value, name, least)
    else:
        raise TypeError(f"{name}: expected an integer or a pair of them, got {value!r}")
    return 0


cdef cnp.ndarray array(object value, str name):
    """The argument as an ndarray."""
    return value if type(value) is np.ndarray else as_array(value, name)


cdef int float_type(list arrays, list names) except -1:
    """The type to compute in, by the rule above: NPY_FLOAT32 or NPY_FLOAT64."""
    cdef int found = cnp.NPY_NOTYPE, typenum
    cdef cnp.ndarray value
    for index, value in enumerate(arrays):
        typenum = cnp.PyArray_TYPE(value)
        if typenum == cnp.NPY_FLOAT64:
            found = cnp.NPY_FLOAT64
        elif typenum == cnp.NPY_FLOAT32 or typenum == cnp.NPY_FLOAT16:
            if found == cnp.NPY_NOTYPE:
                found = cnp.NPY_FLOAT32
        elif not (cnp.PyTypeNum_ISINTEGER(typenum) or typenum == cnp.NPY_BOOL):
            raise TypeError(
                f"{names[index]}: expected a float32 or float64 array (or float16, integer, "
                f"bool), got dtype {value.dtype}")
    return cnp.NPY_FLOAT64 if found == cnp.NPY_NOTYPE else found


cdef inline bint in_place(cnp.ndarray value, int typenum) noexcept:
    """Whether the values can be read where they lie."""
    return cnp.PyArray_TYPE(value) == typenum and cnp.PyArray_ISALIGNED(value) and (
        cnp.PyArray_ISNOTSWAPPED(value))


cdef cnp.ndarray as_type(cnp.ndarray value, int typenum):
    if in_place(value, typenum):
        return value
    return np.array(value, dtype=np.float32 if typenum == cnp.NPY_FLOAT32 else np.float64,
                    order="K")


cdef cnp.ndarray contiguous(cnp.ndarray value, int typenum):
    """The array, C-contiguous, of that type."""
    value = as_type(value, typenum)
    if cnp.PyArray_IS_C_CONTIGUOUS(value):
        return value
    return np.ascontiguousarray(value)


cdef cnp.ndarray image_array(cnp.ndarray value, int typenum):
    """An array (..., C, H, W) that `image` can describe."""
    cdef int i
    cdef Py_ssize_t size
    value = as_type(value, typenum)
    size = cnp.PyArray_ITEMSIZE(value)
    for i in range(value.ndim):
        if value.strides[i] % size != 0:
            return np.ascontiguousarray(value)
    i = value.ndim - 3
    if value.strides[i] == size or value.shape[i] == 1 or value.strides[i + 2] == size:
        return value
    return np.ascontiguousarray(value)


cdef bint is_channels_last(cnp.ndarray value) noexcept:
    """Whether channels are innermost in memory; C order where both descriptions hold."""
    cdef int i = value.ndim - 3
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(value)
    return value.strides[i] == size and (value.shape[i] == 1 or value.strides[i + 2] != size)


cdef Image image(cnp.ndarray value) noexcept:
    """Strides in elements; an unbatched array is a batch of one, one channel is channels-last."""
    cdef Image view
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(value)
    cdef int i = value.ndim - 3
    view.data = <char*>cnp.PyArray_DATA(value)
    view.sn = value.strides[0] // size if i == 1 else 0
    view.sc = value.strides[i] // size if value.shape[i] > 1 else 1
    view.sh = value.strides[i + 1] // size
    view.sw = value.strides[i + 2] // size
    return view


cdef bint writable_in_place(cnp.ndarray value) noexcept:
    """Whether a nest may write here: no two elements share memory, channels or rows are dense."""
    cdef int i = value.ndim - 3
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(value)
    cdef const Py_ssize_t* s = <const Py_ssize_t*>&value.strides[i]
    cdef const Py_ssize_t* n = <const Py_ssize_t*>&value.shape[i]
    cdef Py_ssize_t whole, axis
    if not cnp.PyArray_ISBEHAVED(value):
        return False
    for axis in range(value.ndim):
        if value.strides[axis] % size != 0:
            return False
    if s[0] == size and s[2] >= n[0] * size and s[1] >= n[2] * s[2]:
        whole = n[1] * s[1]
    elif s[2] == size and s[1] >= n[2] * size and s[0] >= n[1] * s[1]:
        whole = n[0] * s[0]
    else:
        return False
    return i == 0 or value.shape[0] == 1 or value.strides[0] >= whole


cdef bint is_planar(const Image* view) noexcept:
    return view.sc != 1


cdef int window(
    Geometry* g, str kernel_name, object stride, object padding, object dilation, object groups
) except -1:
    """Fill in stride, padding, dilation, groups and the output's extent, given the sizes."""
    cdef Py_ssize_t total
    cdef Py_ssize_t extent_h, extent_w
    pair(stride, "stride", 1, &g.stride_h, &g.stride_w)
    pair(dilation, "dilation", 1, &g.dil_h, &g.dil_w)
    g.G = integer(groups, "groups", 1)
    if <double>g.KH * g.dil_h > LARGEST or <double>g.KW * g.dil_w > LARGEST:
        raise ValueError(
            f"dilation: expected a kernel's extent of at most {LARGEST}, got {dilation!r} for "
            f"{kernel_name} of ({g.KH}, {g.KW})")
    extent_h, extent_w = (g.KH - 1) * g.dil_h + 1, (g.KW - 1) * g.dil_w + 1
    if isinstance(padding, str):
        if padding == "valid":
            g.pad_t = g.pad_b = g.pad_l = g.pad_r = 0
        elif padding == "same":
            total = max(((g.IH + g.stride_h - 1) // g.stride_h - 1) * g.stride_h
                        + extent_h - g.IH, 0)
            g.pad_t, g.pad_b = total // 2, total - total // 2
            total = max(((g.IW + g.stride_w - 1) // g.stride_w - 1) * g.stride_w
                        + extent_w - g.IW, 0)
            g.pad_l, g.pad_r = total // 2, total - total // 2
        else:
            raise ValueError(f'padding: expected "valid" or "same", got {padding!r}')
    else:
        pads(padding, &g.pad_t, &g.pad_b, &g.pad_l, &g.pad_r)
    g.OH = output_extent(g.IH, extent_h, g.stride_h, g.pad_t, g.pad_b, kernel_name, "height")
    g.OW = output_extent(g.IW, extent_w, g.stride_w, g.pad_l, g.pad_r, kernel_name, "width")
    return 0


cdef int pads(
    object padding, Py_ssize_t* top, Py_ssize_t* bottom, Py_ssize_t* left, Py_ssize_t* right
) except -1:
    """An integer, a pair (height, width), or ((top, bottom), (left, right))."""
    if isinstance(padding, (tuple, list)) and len(padding) == 2 and (
            isinstance(padding[0], (tuple, list)) or isinstance(padding[1], (tuple, list))):
        pair_of(padding[0], top, bottom, padding)
        pair_of(padding[1], left, right, padding)
    else:
        pair(padding, "padding", 0, top, left)
        bottom[0], right[0] = top[0], left[0]
    return 0


cdef int pair_of(object value, Py_ssize_t* before, Py_ssize_t* after, object padding) except -1:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(
            "padding: expected an integer, a pair, ((top, bottom), (left, right)), "
            f'"valid" or "same", got {padding!r}')
    before[0] = integer(value[0], "padding", 0)
    after[0] = integer(value[1], "padding", 0)
    return 0


cdef Py_ssize_t output_extent(
    Py_ssize_t n, Py_ssize_t extent, Py_ssize_t stride, Py_ssize_t before, Py_ssize_t after,
    str name, str axis
) except -1:
    """floor((n + padding - dilation*(kernel - 1) - 1) / stride) + 1."""
    if n + before + after < extent:
        raise ValueError(
            f"{name}: expected an extent of at most the padded input's {axis} "
            f"{n + before + after}, got {extent}")
    return (n + before + after - extent) // stride + 1


cdef int check_out(
    object out, str name, int ndim, const Py_ssize_t* shape, int typenum, tuple inputs, tuple names
) except -1:
    """`out` must be a writable array of that shape and type that shares no memory with an input."""
    cdef cnp.ndarray target
    cdef tuple expected = tuple([shape[i] for i in range(ndim)])
    dtype = "float32" if typenum == cnp.NPY_FLOAT32 else "float64"
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name}: expected an array or None, got {type(out).__name__}")
    target = out
    if (<object>target).shape != expected:
        raise ValueError(f"{name}: expected shape {expected}, got {shape_text(target)}")
    if cnp.PyArray_TYPE(target) != typenum:
        raise TypeError(f"{name}: expected dtype {dtype}, got {target.dtype}")
    if not cnp.PyArray_ISWRITEABLE(target):
        raise ValueError(f"{name}: expected a writable array, got a read-only one")
    for value, other in zip(inputs, names):
        if value is not None and np.may_share_memory(target, array(value, other)):
            raise ValueError(f"{name}: expected memory apart from {other}'s, got an overlap")
    return 0


cdef bint is_relu(object activation) except -1:
    if activation is None:
        return False
    if isinstance(activation, str) and activation == "relu":
        return True
    raise ValueError(f'activation: expected None or "relu", got {activation!r}')


cdef int check_bias(cnp.ndarray bias, Py_ssize_t count) except -1:
    """A bias is None or one number for each output."""
    if bias is not None and (bias.ndim != 1 or bias.shape[0] != count):
        raise ValueError(f"bias: expected shape ({count},), got {shape_text(bias)}")
    return 0


cdef int gradient_shape(cnp.ndarray dy, object input_shape, Py_ssize_t* shape) except -1:
    """(N, C, H, W) of `input_shape`, which must fit dy; returns how many axes dy lacks."""
    cdef int i, missing = 4 - dy.ndim
    if dy.ndim != 3 and dy.ndim != 4:
        raise ValueError(f"dy: expected shape (N, C, OH, OW) or (C, OH, OW), got {shape_text(dy)}")
    if type(input_shape) is not tuple:
        input_shape = as_tuple("input_shape", input_shape)
    if len(input_shape) != dy.ndim:
        raise ValueError(f"input_shape: expected {dy.ndim} sizes like dy's, got {input_shape}")
    shape[0] = 1
    for i in range(dy.ndim):
        shape[missing + i] = integer(input_shape[i], "input_shape", 0)
    for i in range(dy.ndim - 2):
        if shape[missing + i] != dy.shape[i]:
            raise ValueError(
                f"input_shape: expected dy's batch and channels {shape_text(dy)}, "
                f"got {input_shape}")
    return missing

cdef cnp.ndarray weights(object value, str name, Py_ssize_t count):
    """How much each of `count` things counts: numbers of at least 0, as float64; None is 1 each."""
    cdef cnp.ndarray found
    if value is None:
        return np.ones(count)
    found = array(value, name)
    float_type([found], [name])
    if found.ndim != 1 or found.shape[0] != count:
        raise ValueError(f"{name}: expected shape ({count},), got {shape_text(found)}")
    found = contiguous(found, cnp.NPY_FLOAT64)
    if not (np.min(found, initial=0) >= 0 and np.max(found, initial=0) < np.inf):
        raise ValueError(f"{name}: expected finite numbers of at least 0, got {found.min()} to "
                         f"{found.max()}")
    return found


# ---- results ----------------------------------------------------------------------------------

cdef cnp.ndarray destination(
    object out, int ndim, const Py_ssize_t* shape, int typenum, bint channels_last,
    tuple inputs, tuple names
):
    """The array to compute into: `out` where the nest can write it, else a new one."""
    cdef int size = 4 if typenum == cnp.NPY_FLOAT32 else 8
    if out is not None:
        check_out(out, "out", ndim, shape + 4 - ndim, typenum, inputs, names)
        if writable_in_place(out):
            return out
        channels_last = is_channels_last(out)
    return new_array(ndim, shape + 4 - ndim, size, channels_last)


cdef cnp.ndarray c_destination(
    object out, int ndim, const Py_ssize_t* shape, int typenum, tuple inputs, tuple names
):
    """The same for a result that is written in C order."""
    if out is not None:
        check_out(out, "out", ndim, shape, typenum, inputs, names)
        if cnp.PyArray_IS_C_CONTIGUOUS(out) and cnp.PyArray_ISBEHAVED(out):
            return out
    return new_array(ndim, shape, 4 if typenum == cnp.NPY_FLOAT32 else 8, False)


cdef cnp.ndarray finish(cnp.ndarray computed, object out):
    """Bring the result to where the caller wants it."""
    if out is None or out is computed:
        return computed
    out[...] = computed
    return out
