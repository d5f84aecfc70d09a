# cython: language_level=3, cdivision=True
"""Measures the register tile and the arithmetic peak of one core, for the benchmarks."""

import time

from libc.string cimport memset

from fastconv._core.ahead cimport ask_nothing
from fastconv._core.isa cimport FC_MAX_MR, FC_MAX_NR, FC_ROOF_FMAS, fc_leaves, fc_tile, leaves
from fastconv._core.memory cimport Block, take

from fastconv._core import isa

# Steps of a tile's reduction: operands stay in the L1 cache, loading and storing the tile vanish.
cdef Py_ssize_t DEPTH = 192


cdef const fc_leaves* leaves_of(str name, str dtype) except NULL:
    """The leaves of a tier, whichever is in use."""
    cdef const fc_leaves* found
    cdef str before = isa.name()
    isa.select(name)
    found = leaves(4 if dtype == "float32" else 8)
    isa.select(before)
    return found


def roof(str name, double seconds):
    """GFLOP/s of one core in float32: independent multiply-adds on registers alone."""
    cdef const fc_leaves* of = leaves_of(name, "float32")
    cdef Py_ssize_t n = 20000
    cdef double best = 0, end = time.perf_counter() + seconds, start, sink = 0
    while time.perf_counter() < end:
        start = time.perf_counter()
        sink += of.roof(n)
        best = max(best, 2.0 * n * FC_ROOF_FMAS * of.vf / (time.perf_counter() - start))
    return best / 1e9


def tiles(str name, str dtype):
    """The tallest tile of each width: pairs (rows, vectors)."""
    cdef const fc_leaves* of = leaves_of(name, dtype)
    return [(of.max_mr[nr], nr + 1) for nr in range(FC_MAX_NR) if of.max_mr[nr]]


def tile(str name, int mr, int nr, str dtype):
    """GFLOP/s of a tile of mr rows and nr vectors on operands in the L1 cache."""
    cdef const fc_leaves* of = leaves_of(name, dtype)
    cdef Py_ssize_t a_off[FC_MAX_MR]
    cdef Py_ssize_t c_off[FC_MAX_MR]
    cdef Py_ssize_t size = 4 if dtype == "float32" else 8, width = nr * of.vf
    cdef int p, calls = 200
    cdef double best = 0, end = time.perf_counter() + 0.1, start
    cdef fc_tile t
    ask_nothing(&t)
    if (mr, nr) not in [(rows, w) for top, w in tiles(name, dtype) for rows in range(1, top + 1)]:
        raise ValueError(f"mr, nr: expected a tile of {name}, got {(mr, nr)}")
    cdef Block block = take((mr * DEPTH + DEPTH * width + mr * width) * size)
    memset(block.data, 0, (mr * DEPTH + DEPTH * width + mr * width) * size)
    for p in range(mr):
        a_off[p], c_off[p] = p * DEPTH, p * width
    t.a, t.b = block.data, block.data + mr * DEPTH * size
    t.c = block.data + (mr * DEPTH + DEPTH * width) * size
    t.a_off, t.c_off, t.lane_bias, t.row_bias = a_off, c_off, NULL, NULL
    t.a_t = t.a_u = t.b_t = t.b_u = 0
    t.a_k, t.b_k, t.nt, t.nu, t.nk = 1, width, 1, 1, DEPTH
    t.n, t.a_n, t.b_n, t.c_n = calls, 0, 0, 0
    t.lanes, t.accumulate, t.relu, t.stream = width, False, False, False
    while time.perf_counter() < end:
        start = time.perf_counter()
        of.tile[nr - 1][mr - 1](&t)
        best = max(best, 2.0 * calls * mr * width * DEPTH / (time.perf_counter() - start))
    return best / 1e9
