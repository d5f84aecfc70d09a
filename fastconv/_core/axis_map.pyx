# cython: language_level=3
"""Linear maps along one axis: averages, borders and enlargements as tables.

Average pooling, padding and interpolation do the same thing to every column and every row: output
``o`` is a weighted sum of a few inputs. So each of them is two small tables, one for rows and one
for columns, and one loop nest serves them all (``resample``). The gradient is the transposed map,
that is, the same taps sorted by input: nothing is scattered, and no two tasks write one place.

A divisor for each output stands beside the weights, since 1/9 is no floating-point number and a
sum divided by 9 is rounded once. The transposed map divides by the largest of them, and what is
smaller becomes a weight.

The rules that say which taps these are stand in ``fastconv/axis_tables.py``.
"""

cimport numpy as cnp

from fastconv._core.isa cimport FC_BEGINS, FC_IN_ORDER

from functools import lru_cache

import numpy as np

from fastconv import axis_tables

cnp.import_array()

# Vectors of a row that is copied so far, that rows are better made one after the other.
cdef Py_ssize_t LONG_RUN = 4


cdef class AxisMap:
    def __init__(self, source, n, outputs, inputs, weights, divisors):
        order = np.lexsort((inputs, outputs))
        outputs, inputs, weights = outputs[order], inputs[order], weights[order]
        self.arrays = (outputs, inputs, weights, divisors)
        self.source, self.n, self.n_taps = source, n, len(order)
        start = np.searchsorted(outputs, np.arange(n + 1)).astype(np.intp)
        index = np.ascontiguousarray(inputs, np.intp)
        stretch = axis_tables.stretches(n, start, index, (weights == 1) & (divisors[outputs] == 1))
        self.held = (start, index, stretch)
        self.tables = {}
        self.start = <Py_ssize_t*>cnp.PyArray_DATA(start)
        self.index = <Py_ssize_t*>cnp.PyArray_DATA(index)
        self.stretch = <Py_ssize_t*>cnp.PyArray_DATA(stretch)
        self.divides = bool((divisors != 1).any())
        self.weight64 = np.ascontiguousarray(weights, np.float64)
        self.weight32 = self.weight64.astype(np.float32)
        self.divisor64 = np.ascontiguousarray(divisors, np.float64)
        self.divisor32 = self.divisor64.astype(np.float32)

    def table(self, channels, lanes, itemsize):
        """The `RowTable` of a row of so many channels for vectors of so many lanes."""
        key = channels, lanes, itemsize
        if key not in self.tables:
            self.tables[key] = RowTable(self, channels, lanes, itemsize)
        return self.tables[key]

    def transposed(self):
        """The gradient with respect to the inputs."""
        if self.gradient is None:
            outputs, inputs, weights, divisors = self.arrays
            largest = divisors.max()
            self.gradient = AxisMap(
                self.n, self.source, inputs, outputs, weights * (largest / divisors[outputs]),
                np.full(self.source, largest))
        return self.gradient


cdef class RowTable:
    """The vectors of a row of C channels, for leaves of so many lanes."""

    def __init__(self, AxisMap axis, C, lanes, itemsize):
        rule = (axis.source, axis.n, *axis.arrays)
        slots = axis_tables.slots_of(
            rule, C, lanes, "float32" if itemsize == 4 else "float64", FC_BEGINS, FC_IN_ORDER)
        self.held = tuple(slots)
        self.first = <const Py_ssize_t*>cnp.PyArray_DATA(slots.first)
        self.base = <const Py_ssize_t*>cnp.PyArray_DATA(slots.base)
        self.run = <const Py_ssize_t*>cnp.PyArray_DATA(slots.run)
        self.kind = <const uint8_t*>cnp.PyArray_DATA(slots.kind)
        self.place = <const char*>cnp.PyArray_DATA(slots.place)
        self.weight = <const char*>cnp.PyArray_DATA(slots.weight)
        self.divisor = <const char*>cnp.PyArray_DATA(slots.divisor)
        self.alone = slots.run.max(initial=0) > LONG_RUN


def mapped(rule):
    """The map that a rule of ``axis_tables`` makes of its arguments, kept for the next call."""
    return lru_cache(256)(lambda *arguments: AxisMap(*rule(*arguments)))


adaptive = mapped(axis_tables.adaptive)
padded = mapped(axis_tables.padded)
pooled = mapped(axis_tables.pooled)
upsampled = mapped(axis_tables.upsampled)
