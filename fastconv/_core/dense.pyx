# cython: language_level=3, cdivision=True
"""The doors of dense layers; ``matrix`` has their loop nests.

The kernel gradient of a single sample, an outer product, has no sum at all.
"""

cimport numpy as cnp

from fastconv.arguments import boolean

from fastconv._core.arguments cimport (
    array, c_destination, check_bias, contiguous, finish, float_type, is_relu, shape_text)
from fastconv._core.isa cimport fc_leaves, leaves
from fastconv._core.matrix cimport product, products_of_rows, sums_of_columns
from fastconv._core.memory cimport new_array
from fastconv._core.threads cimport parallel_for, team_size

cnp.import_array()


cdef cnp.ndarray matrix(object value, str name, str letters):
    cdef cnp.ndarray checked = array(value, name)
    if checked.ndim != 2:
        raise ValueError(f"{name}: expected shape ({letters}), got {shape_text(checked)}")
    return checked


def dense(x_, kernel_, bias_, activation, out):
    cdef Py_ssize_t shape[2]
    cdef int typenum
    cdef const char* summand = NULL
    cdef bint relu = is_relu(activation)
    cdef cnp.ndarray x = matrix(x_, "x", "N, in_features")
    cdef cnp.ndarray kernel = matrix(kernel_, "kernel", "out_features, in_features")
    cdef cnp.ndarray bias = None if bias_ is None else array(bias_, "bias")
    cdef cnp.ndarray y
    check_features(x, kernel, "x")
    check_bias(bias, kernel.shape[0])
    if bias is None:
        typenum = float_type([x, kernel], ["x", "kernel"])
    else:
        typenum = float_type([x, kernel, bias], ["x", "kernel", "bias"])
        bias = contiguous(bias, typenum)
        summand = <const char*>cnp.PyArray_DATA(bias)
    shape[0], shape[1] = x.shape[0], kernel.shape[0]
    y = c_destination(out, 2, shape, typenum, (x_, kernel_, bias_), ("x", "kernel", "bias"))
    if shape[0]:
        x, kernel = contiguous(x, typenum), contiguous(kernel, typenum)
        products_of_rows(
            <const char*>cnp.PyArray_DATA(x), <const char*>cnp.PyArray_DATA(kernel), summand,
            <char*>cnp.PyArray_DATA(y), x.shape[0], kernel.shape[0], x.shape[1], relu,
            <int>cnp.PyArray_ITEMSIZE(x))
    return finish(y, out)


def dense_backward(dy_, x_, kernel_, need_dx):
    cdef Py_ssize_t N, inputs, outputs
    cdef int itemsize
    cdef cnp.ndarray dy = matrix(dy_, "dy", "N, out_features")
    cdef cnp.ndarray x = matrix(x_, "x", "N, in_features")
    cdef cnp.ndarray kernel = matrix(kernel_, "kernel", "out_features, in_features")
    cdef cnp.ndarray dx = None
    cdef cnp.ndarray dkernel, dbias
    cdef int typenum
    boolean("need_dx", need_dx)
    check_features(x, kernel, "x")
    if dy.shape[0] != x.shape[0] or dy.shape[1] != kernel.shape[0]:
        raise ValueError(
            f"dy: expected shape ({x.shape[0]}, {kernel.shape[0]}), got {shape_text(dy)}")
    typenum = float_type([dy, x, kernel], ["dy", "x", "kernel"])
    itemsize = 4 if typenum == cnp.NPY_FLOAT32 else 8
    if need_dx:
        dx = new_array(2, <const Py_ssize_t*>x.shape, itemsize, False)
    dkernel = new_array(2, <const Py_ssize_t*>kernel.shape, itemsize, False)
    dy, x = contiguous(dy, typenum), contiguous(x, typenum)
    N, inputs, outputs = x.shape[0], x.shape[1], kernel.shape[0]
    dbias = new_array(1, &outputs, itemsize, False)
    if N == 0:
        dkernel.fill(0)
        dbias.fill(0)
    else:
        sums_of_columns(<const char*>cnp.PyArray_DATA(dy), <char*>cnp.PyArray_DATA(dbias),
                        outputs, N, itemsize)
        if need_dx:
            kernel = contiguous(kernel, typenum)
            product(<const char*>cnp.PyArray_DATA(dy), False,
                    <const char*>cnp.PyArray_DATA(kernel), <char*>cnp.PyArray_DATA(dx),
                    N, inputs, outputs, itemsize)
        if N == 1:
            outer_product(dy, x, dkernel)
        else:
            product(<const char*>cnp.PyArray_DATA(dy), True,
                    <const char*>cnp.PyArray_DATA(x), <char*>cnp.PyArray_DATA(dkernel),
                    outputs, inputs, N, itemsize)
    return dx, dkernel, dbias


cdef struct Outer:
    const fc_leaves* leaves
    Py_ssize_t row                # bytes of a row of dkernel
    int itemsize
    const char* dy
    const char* x
    char* dkernel


cdef void outer_task(void* context, Py_ssize_t o, int thread) noexcept nogil:
    cdef Outer* run = <Outer*>context
    run.leaves.scale(run.dkernel + o * run.row, run.x, run.dy + o * run.itemsize,
                     run.row // run.itemsize)


cdef void outer_product(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray dkernel) noexcept:
    """The kernel gradient of one sample: no sum, so all that counts is to write it once."""
    cdef Outer run
    cdef Py_ssize_t outputs = dkernel.shape[0]
    run.itemsize = <int>cnp.PyArray_ITEMSIZE(x)
    run.leaves, run.row = leaves(run.itemsize), x.shape[1] * run.itemsize
    run.dy, run.x = <const char*>cnp.PyArray_DATA(dy), <const char*>cnp.PyArray_DATA(x)
    run.dkernel = <char*>cnp.PyArray_DATA(dkernel)
    cdef int team = team_size(4.0 * outputs * x.shape[1])
    with nogil:
        parallel_for(outputs, team, outer_task, &run)


cdef int check_features(cnp.ndarray x, cnp.ndarray kernel, str name) except -1:
    if kernel.shape[0] < 1 or kernel.shape[1] < 1:
        raise ValueError(f"kernel: expected no empty dimension, got {shape_text(kernel)}")
    if x.shape[1] != kernel.shape[1]:
        raise ValueError(
            f"{name}: expected shape (N, {kernel.shape[1]}), got {shape_text(x)}")
    return 0
