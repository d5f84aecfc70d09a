# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""One pass over memory: functions of single elements, their gradients, dropout, memory orders.

Tasks are runs of elements (or images, for the change of order) that no other task writes.
"""

cimport numpy as cnp
from libc.stdint cimport uint32_t, uint64_t

import numpy as np

from fastconv.arguments import boolean, float_dtype, real

from fastconv._core.arguments cimport (
    array, as_type, check_out, finish, float_type, image, integer, is_channels_last, is_relu,
    shape_text)
from fastconv._core.pack cimport Image
from fastconv._core.isa cimport (
    FC_ADD, FC_ADD_RELU, FC_GELU, FC_GELU_BACKWARD, FC_GELU_TANH, FC_GELU_TANH_BACKWARD,
    FC_LEAKY_RELU, FC_LEAKY_RELU_BACKWARD, FC_RELU, FC_RELU_BACKWARD, FC_SIGMOID,
    FC_SIGMOID_BACKWARD, FC_SILU, FC_SILU_BACKWARD, FC_TANH, FC_TANH_BACKWARD, fc_dropout,
    fc_leaves, fc_map_fn, leaves)
from fastconv._core.memory cimport new_array
from fastconv._core.threads cimport parallel_for, team_size

cnp.import_array()

# Elements of a task, and what one costs in multiply-adds: as long as memory takes to bring it.
cdef Py_ssize_t RUN = 16384
cdef double MEMORY_COST = 4, HASH_COST = 8, EXP_COST = 16

# By name: the leaf, and what an element costs.
MAPS = {
    "add": (FC_ADD, MEMORY_COST),
    "add_relu": (FC_ADD_RELU, MEMORY_COST),
    "relu": (FC_RELU, MEMORY_COST),
    "relu_backward": (FC_RELU_BACKWARD, MEMORY_COST),
    "leaky_relu": (FC_LEAKY_RELU, MEMORY_COST),
    "leaky_relu_backward": (FC_LEAKY_RELU_BACKWARD, MEMORY_COST),
    "sigmoid": (FC_SIGMOID, EXP_COST),
    "sigmoid_backward": (FC_SIGMOID_BACKWARD, MEMORY_COST),
    "tanh": (FC_TANH, EXP_COST),
    "tanh_backward": (FC_TANH_BACKWARD, MEMORY_COST),
    "silu": (FC_SILU, EXP_COST),
    "silu_backward": (FC_SILU_BACKWARD, EXP_COST),
    "gelu": (FC_GELU, EXP_COST),
    "gelu_backward": (FC_GELU_BACKWARD, EXP_COST),
    "gelu_tanh": (FC_GELU_TANH, EXP_COST),
    "gelu_tanh_backward": (FC_GELU_TANH_BACKWARD, EXP_COST),
}

cdef struct Pass:
    fc_map_fn map
    double number
    Py_ssize_t n
    int itemsize
    char* dst
    const char* a
    const char* b                 # NULL: a function of a; else a sum, or a gradient with dy = a


cdef void pass_task(void* context, Py_ssize_t task, int thread) noexcept nogil:
    cdef Pass* run = <Pass*>context
    cdef Py_ssize_t at = task * RUN * run.itemsize, count = min(RUN, run.n - task * RUN)
    run.map(run.dst + at, run.a + at, run.b + at if run.b != NULL else NULL, count, run.number)


cdef bint dense_channels_last(cnp.ndarray value):
    return value.ndim >= 3 and is_channels_last(value) and (
        (<object>value).transpose(tuple(range(value.ndim - 3))
                                  + (value.ndim - 2, value.ndim - 1, value.ndim - 3))
        .flags.c_contiguous)


cdef cnp.ndarray laid_out(cnp.ndarray value, int typenum, bint* channels_last):
    """An array in C order or channels-last without gaps; a copy in C order if it is in neither."""
    value = as_type(value, typenum)
    channels_last[0] = not cnp.PyArray_IS_C_CONTIGUOUS(value) and dense_channels_last(value)
    if not channels_last[0] and not cnp.PyArray_IS_C_CONTIGUOUS(value):
        return np.ascontiguousarray(value)
    return value


cdef cnp.ndarray in_memory_of(cnp.ndarray value, int typenum, bint channels_last):
    """The array in the memory order of another, which `laid_out` found."""
    value = as_type(value, typenum)
    if dense_channels_last(value) if channels_last else cnp.PyArray_IS_C_CONTIGUOUS(value):
        return value
    if value.ndim in (3, 4):
        return reordered(value, channels_last)
    return np.ascontiguousarray(value)


cdef cnp.ndarray run_pass(
    str function, double number, cnp.ndarray a, cnp.ndarray b, int typenum, object out,
    tuple inputs, tuple names
):
    """Over arrays in C order or channels-last; `a` (and `b` like it) are copied if in neither.

    `out` may be one of the inputs: an element is read before it is written, and no other.
    """
    cdef Pass run
    cdef cnp.ndarray y
    cdef bint channels_last
    cdef int kind
    cdef double cost
    if out is not None:
        apart = [at for at in range(len(inputs)) if inputs[at] is not out]
        check_out(out, "out", a.ndim, <const Py_ssize_t*>a.shape, typenum,
                  tuple([inputs[at] for at in apart]), tuple([names[at] for at in apart]))
    a = laid_out(a, typenum, &channels_last)
    if a.ndim > 4:
        raise ValueError(f"{names[0]}: expected at most 4 dimensions, got {shape_text(a)}")
    run.itemsize = 4 if typenum == cnp.NPY_FLOAT32 else 8
    if out is not None and cnp.PyArray_ISBEHAVED(out) and (
            dense_channels_last(out) if channels_last else cnp.PyArray_IS_C_CONTIGUOUS(out)):
        y = out
    else:
        y = new_array(a.ndim, <const Py_ssize_t*>a.shape, run.itemsize, channels_last)
    run.b = NULL
    if b is not None:
        b = in_memory_of(b, typenum, channels_last)
        run.b = <const char*>cnp.PyArray_DATA(b)
    kind, cost = MAPS[function]
    run.map, run.number = leaves(run.itemsize).map[kind], number
    run.n, run.dst, run.a = a.size, <char*>cnp.PyArray_DATA(y), <const char*>cnp.PyArray_DATA(a)
    cdef int team = team_size(cost * run.n)
    with nogil:
        parallel_for((run.n + RUN - 1) // RUN, team, pass_task, &run)
    return finish(y, out)


def mapped(str function, x_, out, double number=0):
    """A function of MAPS, of every element of x."""
    cdef cnp.ndarray x = array(x_, "x")
    return run_pass(function, number, x, None, float_type([x], ["x"]), out, (x_,), ("x",))


def mapped_backward(str function, dy_, other_, str name, out, double number=0):
    """A gradient of MAPS; `name` is that of the argument `other`, x or y."""
    return of_two(function, number, dy_, "dy", other_, name, out)


def add(x_, y_, activation, out):
    return of_two("add_relu" if is_relu(activation) else "add", 0, x_, "x", y_, "y", out)


cdef cnp.ndarray of_two(
    str function, double number, object first_, str first_name, object second_, str name,
    object out
):
    cdef cnp.ndarray first = array(first_, first_name)
    cdef cnp.ndarray second = array(second_, name)
    if (<object>first).shape != (<object>second).shape:
        raise ValueError(f"{name}: expected {first_name}'s shape {shape_text(first)}, "
                         f"got {shape_text(second)}")
    return run_pass(function, number, first, second,
                    float_type([first, second], [first_name, name]), out,
                    (first_, second_), (first_name, name))


# ---- dropout ----------------------------------------------------------------------------------

cdef struct Dropout:
    const fc_leaves* leaves
    int itemsize
    fc_dropout all
    Py_ssize_t image, image_number     # elements of an image, and where its numbers begin
    Py_ssize_t pieces, each            # tasks of an image, and rows of one


cdef void dropout_task(void* context, Py_ssize_t task, int thread) noexcept nogil:
    cdef Dropout* run = <Dropout*>context
    cdef Py_ssize_t n = task // run.pieces, row = task % run.pieces * run.each
    cdef Py_ssize_t at = (n * run.image + row * run.all.step) * run.itemsize
    cdef fc_dropout s = run.all
    s.dst, s.x = <char*>s.dst + at, <const char*>s.x + at
    s.rows = min(run.each, s.rows - row)
    s.width = min(s.width, run.image - row * s.step)
    s.first = <uint32_t>(n * run.image_number + row * s.row_number)
    run.leaves.dropout(&s)


def dropout(x_, rate, key, by_channel):
    """x with some elements, or planes, set to zero, and the others enlarged.

    The numbers of elements are those of C order, so that memory order does not matter.
    """
    cdef Dropout run
    cdef cnp.ndarray x = array(x_, "x"), y
    cdef int typenum = float_type([x], ["x"]), ndim = x.ndim
    cdef bint channels_last, planes = boolean("by_channel", by_channel)
    cdef double share = real("rate", rate)
    cdef uint64_t bits
    cdef Py_ssize_t C, HW
    if not 0 <= share < 1:
        raise ValueError(f"rate: expected a number in [0, 1), got {rate!r}")
    if isinstance(key, bool) or not isinstance(key, (int, np.integer)):
        raise TypeError(f"key: expected an integer, got {key!r}")
    if not 0 <= key < 1 << 64:
        raise ValueError(f"key: expected an integer of 64 bits, not negative, got {key!r}")
    bits = key
    if planes and ndim not in (3, 4):
        raise ValueError(f"x: expected shape (N, C, H, W) or (C, H, W), got {shape_text(x)}")
    if ndim > 4:
        raise ValueError(f"x: expected at most 4 dimensions, got {shape_text(x)}")
    x = laid_out(x, typenum, &channels_last)
    run.itemsize = 4 if typenum == cnp.NPY_FLOAT32 else 8
    y = new_array(ndim, <const Py_ssize_t*>x.shape, run.itemsize, channels_last)
    if x.size == 0:
        return y
    run.leaves = leaves(run.itemsize)
    run.all.dst, run.all.x = cnp.PyArray_DATA(y), cnp.PyArray_DATA(x)
    run.all.key[0], run.all.key[1] = <uint32_t>bits, <uint32_t>(bits >> 32)
    run.all.threshold = <uint32_t>min(share * 2.0 ** 32 + 0.5, 2.0 ** 32 - 1)
    run.all.scale = 1 / (1 - share)
    C = x.shape[ndim - 3] if ndim > 2 else 1
    HW = x.shape[ndim - 2] * x.shape[ndim - 1] if ndim > 2 else 1
    if channels_last:
        # Rows are pixels; the numbers of neighbouring channels are a plane apart.
        run.image = C * HW
        run.image_number = C if planes else C * HW
        run.all.rows, run.all.width = HW, C
        run.all.row_number, run.all.lane_number = not planes, 1 if planes else <uint32_t>HW
    elif planes:
        run.image, run.image_number = x.size, 0
        run.all.rows, run.all.width = x.size // HW, HW
        run.all.row_number, run.all.lane_number = 1, 0
    else:
        run.image, run.image_number = x.size, 0
        run.all.width = min(x.size, RUN)
        run.all.rows = (x.size + RUN - 1) // RUN
        run.all.row_number, run.all.lane_number = <uint32_t>RUN, 1
    run.all.step = run.all.width
    run.each = max(RUN // run.all.width, 1)
    run.pieces = (run.all.rows + run.each - 1) // run.each
    cdef int team = team_size(HASH_COST * x.size)
    with nogil:
        parallel_for(x.size // run.image * run.pieces, team, dropout_task, &run)
    return y


# ---- memory order -----------------------------------------------------------------------------

cdef struct Reorder:
    const fc_leaves* leaves
    int itemsize
    Py_ssize_t C, pixels
    Image src, dst
    bint to_channels_last


cdef void reorder_task(void* context, Py_ssize_t n, int thread) noexcept nogil:
    """One image: its planes become pixels of channels, or the other way round."""
    cdef Reorder* run = <Reorder*>context
    cdef char* dst = run.dst.data + n * run.dst.sn * run.itemsize
    cdef const char* src = run.src.data + n * run.src.sn * run.itemsize
    if run.to_channels_last:
        run.leaves.transpose(dst, run.C, NULL, src, run.src.sc, run.C, run.pixels)
    else:
        run.leaves.transpose(dst, run.dst.sc, NULL, src, run.src.sw, run.pixels, run.C)


cdef cnp.ndarray reordered(cnp.ndarray value, bint channels_last):
    """A copy of a float image array in C order or channels-last."""
    cdef Reorder run
    cdef cnp.ndarray copy
    cdef int i = value.ndim - 3, team
    cdef Py_ssize_t N = value.shape[0] if i else 1
    run.itemsize = cnp.PyArray_ITEMSIZE(value)
    copy = new_array(value.ndim, <const Py_ssize_t*>value.shape, run.itemsize, channels_last)
    run.src, run.dst = image(value), image(copy)
    run.C, run.pixels = value.shape[i], value.shape[i + 1] * value.shape[i + 2]
    run.leaves, run.to_channels_last = leaves(run.itemsize), channels_last
    if value.size == 0 or run.C == 1 or run.src.sh != value.shape[i + 2] * run.src.sw or (
            run.src.sw != 1 if channels_last else run.src.sc != 1):
        copy[...] = value
        return copy
    team = team_size(2 * MEMORY_COST * value.size)
    with nogil:
        parallel_for(N, team, reorder_task, &run)
    return copy


cdef cnp.ndarray in_order(object x_, bint channels_last):
    cdef cnp.ndarray x = array(x_, "x")
    cdef int typenum = float_type([x], ["x"]), i = x.ndim - 3
    if x.ndim not in (3, 4):
        raise ValueError(f"x: expected shape (N, C, H, W) or (C, H, W), got {shape_text(x)}")
    x = as_type(x, typenum)
    if channels_last and dense_channels_last(x) or (
            not channels_last and cnp.PyArray_IS_C_CONTIGUOUS(x)):
        return x
    if x.shape[i] == 1 and cnp.PyArray_IS_C_CONTIGUOUS(x):
        # One channel: both orders are the same memory, only the stride tells them apart.
        shape = (<object>x).shape
        return (<object>x).reshape(shape[:i] + shape[i + 1:] + (1,)).transpose(
            tuple(range(i)) + (i + 2, i, i + 1))
    return reordered(x, channels_last)


def as_channels_last(x):
    return in_order(x, True)


def as_contiguous(x):
    return in_order(x, False)


def empty(shape, dtype, channels_last):
    cdef Py_ssize_t sizes[4]
    cdef int ndim
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"shape: expected a tuple of sizes, got {shape!r}")
    boolean("channels_last", channels_last)
    ndim = len(shape)
    if ndim > 4 or channels_last and ndim < 3:
        raise ValueError(f"shape: expected up to 4 sizes (3 or 4 for channels_last), got {shape}")
    for i in range(ndim):
        sizes[i] = integer(shape[i], "shape", 0)
    return new_array(ndim, sizes, float_dtype("dtype", dtype).itemsize, channels_last)
