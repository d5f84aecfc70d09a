# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""One pass over memory: ReLU and its gradient, and the change of memory order.

Tasks are runs of elements (or images, for the change of order) that no other task writes.
"""

cimport numpy as cnp

import numpy as np

from fastconv._core.arguments cimport (
    array, as_type, check_out, finish, float_type, image, integer, is_channels_last, shape_text)
from fastconv._core.pack cimport Image
from fastconv._core.isa cimport fc_leaves, leaves
from fastconv._core.memory cimport new_array
from fastconv._core.threads cimport parallel_for, team_size

cnp.import_array()

# Elements of a task, and what one costs in multiply-adds: as long as memory takes to bring it.
cdef Py_ssize_t RUN = 16384
cdef double MEMORY_COST = 4

cdef struct Pass:
    const fc_leaves* leaves
    Py_ssize_t n
    int itemsize
    char* dst
    const char* a
    const char* b                 # NULL: relu of a; else relu's gradient, dy = a and y = b


cdef void pass_task(void* context, Py_ssize_t number, int thread) noexcept nogil:
    cdef Pass* run = <Pass*>context
    cdef Py_ssize_t at = number * RUN, count = min(RUN, run.n - number * RUN)
    cdef char* dst = run.dst + at * run.itemsize
    if run.b == NULL:
        run.leaves.relu(dst, run.a + at * run.itemsize, count)
    else:
        run.leaves.relu_backward(dst, run.a + at * run.itemsize, run.b + at * run.itemsize, count)


cdef bint dense_channels_last(cnp.ndarray value):
    return value.ndim >= 3 and is_channels_last(value) and (
        (<object>value).transpose(tuple(range(value.ndim - 3))
                                  + (value.ndim - 2, value.ndim - 1, value.ndim - 3))
        .flags.c_contiguous)


cdef cnp.ndarray run_pass(
    cnp.ndarray a, str name, cnp.ndarray b, int typenum, object out, tuple inputs, tuple names
):
    """Over arrays in C order or channels-last; `a` (and `b` like it) are copied if in neither.

    `out` may be one of the inputs: an element is read before it is written, and no other.
    """
    cdef Pass run
    cdef cnp.ndarray y
    cdef bint channels_last
    if out is not None:
        apart = [at for at in range(len(inputs)) if inputs[at] is not out]
        check_out(out, "out", a.ndim, <const Py_ssize_t*>a.shape, typenum,
                  tuple([inputs[at] for at in apart]), tuple([names[at] for at in apart]))
    a = as_type(a, typenum)
    channels_last = not cnp.PyArray_IS_C_CONTIGUOUS(a) and dense_channels_last(a)
    if not channels_last and not cnp.PyArray_IS_C_CONTIGUOUS(a):
        a = np.ascontiguousarray(a)
    if a.ndim > 4:
        raise ValueError(f"{name}: expected at most 4 dimensions, got {shape_text(a)}")
    run.itemsize = 4 if typenum == cnp.NPY_FLOAT32 else 8
    if out is not None and cnp.PyArray_ISBEHAVED(out) and (
            dense_channels_last(out) if channels_last else cnp.PyArray_IS_C_CONTIGUOUS(out)):
        y = out
    else:
        y = new_array(a.ndim, <const Py_ssize_t*>a.shape, run.itemsize, channels_last)
    run.b = NULL
    if b is not None:
        b = as_type(b, typenum)
        if channels_last and not dense_channels_last(b) or (
                not channels_last and not cnp.PyArray_IS_C_CONTIGUOUS(b)):
            b = copy_in_order(b, channels_last)
        run.b = <const char*>cnp.PyArray_DATA(b)
    run.leaves = leaves(run.itemsize)
    run.n, run.dst, run.a = a.size, <char*>cnp.PyArray_DATA(y), <const char*>cnp.PyArray_DATA(a)
    cdef int team = team_size(MEMORY_COST * run.n)
    with nogil:
        parallel_for((run.n + RUN - 1) // RUN, team, pass_task, &run)
    return finish(y, out)


cdef cnp.ndarray copy_in_order(cnp.ndarray value, bint channels_last):
    if value.ndim in (3, 4):
        return reordered(value, channels_last)
    return np.ascontiguousarray(value)


def relu(x_, out):
    cdef cnp.ndarray x = array(x_, "x")
    return run_pass(x, "x", None, float_type([x], ["x"]), out, (x_,), ("x",))


def relu_backward(dy_, y_, out):
    cdef cnp.ndarray dy = array(dy_, "dy")
    cdef cnp.ndarray y = array(y_, "y")
    if (<object>dy).shape != (<object>y).shape:
        raise ValueError(f"y: expected dy's shape {shape_text(dy)}, got {shape_text(y)}")
    return run_pass(dy, "dy", y, float_type([dy, y], ["dy", "y"]), out, (dy_, y_), ("dy", "y"))


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
    if not isinstance(channels_last, (bool, np.bool_)):
        raise TypeError(f"channels_last: expected a bool, got {channels_last!r}")
    ndim = len(shape)
    if ndim > 4 or channels_last and ndim < 3:
        raise ValueError(f"shape: expected up to 4 sizes (3 or 4 for channels_last), got {shape}")
    for i in range(ndim):
        sizes[i] = integer(shape[i], "shape", 0)
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype: expected float32 or float64, got {dtype}")
    return new_array(ndim, sizes, dtype.itemsize, channels_last)
