# cython: language_level=3
"""Linear maps along one axis: averages, borders and enlargements as tables.

Average pooling, padding and interpolation do the same thing to every column and every row: output
``o`` is a weighted sum of a few inputs. So each of them is two small tables, one for rows and one
for columns, and one loop nest serves them all (``resample``). The gradient is the transposed map,
that is, the same taps sorted by input: nothing is scattered, and no two tasks write one place.

A divisor for each output stands beside the weights, since 1/9 is no floating-point number and a
sum divided by 9 is rounded once. The transposed map divides by the largest of them, and what is
smaller becomes a weight.
"""

cimport numpy as cnp

from functools import lru_cache

import numpy as np

cnp.import_array()

# Fewer neighbours are not worth a copy of their own.
cdef Py_ssize_t SHORTEST_COPY = 4


cdef class AxisMap:
    def __init__(self, source, n, outputs, inputs, weights, divisors):
        order = np.lexsort((inputs, outputs))
        outputs, inputs, weights = outputs[order], inputs[order], weights[order]
        self.arrays = (outputs, inputs, weights, divisors)
        self.source, self.n, self.n_taps = source, n, len(order)
        start = np.searchsorted(outputs, np.arange(n + 1)).astype(np.intp)
        index = np.ascontiguousarray(inputs, np.intp)
        stretch = stretches(n, start, index, (weights == 1) & (divisors[outputs] == 1))
        self.held = (start, index, stretch)
        self.start = <Py_ssize_t*>cnp.PyArray_DATA(start)
        self.index = <Py_ssize_t*>cnp.PyArray_DATA(index)
        self.stretch = <Py_ssize_t*>cnp.PyArray_DATA(stretch)
        self.divides = bool((divisors != 1).any())
        self.weight64 = np.ascontiguousarray(weights, np.float64)
        self.weight32 = self.weight64.astype(np.float32)
        self.divisor64 = np.ascontiguousarray(divisors, np.float64)
        self.divisor32 = self.divisor64.astype(np.float32)

    def transposed(self):
        """The gradient with respect to the inputs."""
        if self.gradient is None:
            outputs, inputs, weights, divisors = self.arrays
            largest = divisors.max()
            self.gradient = AxisMap(
                self.n, self.source, inputs, outputs, weights * (largest / divisors[outputs]),
                np.full(self.source, largest))
        return self.gradient


def stretches(n, start, index, unit):
    """For the first output of every stretch: how many are copies of neighbours, or minus others."""
    taps = np.diff(start)
    first = start[:-1][taps > 0]
    source = np.full(n, -2)      # whose copy an output is
    source[taps > 0] = np.where((taps[taps > 0] == 1) & unit[first], index[first], -2)
    follows = (source[1:] == source[:-1] + 1) & (source[1:] >= 0)
    ends = np.append(np.flatnonzero(~follows) + 1, n)
    starts = np.append(0, ends[:-1])
    found = np.zeros(n, np.intp)
    mixed = None
    for begin, end in zip(starts.tolist(), ends.tolist()):
        if source[begin] >= 0 and end - begin >= SHORTEST_COPY:
            found[begin], mixed = end - begin, None
        else:
            mixed = begin if mixed is None else mixed
            found[mixed] -= end - begin
    return found


def ranges(first, end):
    """Taps of outputs that each sum the inputs [first, end): outputs, inputs."""
    counts = end - first
    outputs = np.repeat(np.arange(len(first)), counts)
    inputs = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return outputs, inputs + np.repeat(first, counts)


@lru_cache(256)
def pooled(n, count, taps, stride, padding, include_padding):
    """Averages of ``count`` windows; padding counts as zeros, or does not count."""
    first = np.arange(count) * stride - padding
    # A window that hangs over the padding too divides by what it holds of both.
    end = np.minimum(first + taps, n + padding)
    inside = np.maximum(first, 0), np.minimum(end, n)
    outputs, inputs = ranges(*inside)
    divisors = end - first if include_padding else inside[1] - inside[0]
    return AxisMap(n, count, outputs, inputs, np.ones(len(inputs)), divisors.astype(float))


@lru_cache(256)
def adaptive(n, count):
    """Averages of ``count`` windows that cover the axis, of nearly the same size."""
    o = np.arange(count)
    first, end = o * n // count, -(-(o + 1) * n // count)
    outputs, inputs = ranges(first, end)
    return AxisMap(n, count, outputs, inputs, np.ones(len(inputs)), (end - first).astype(float))


@lru_cache(256)
def padded(n, before, after, mode):
    """The axis with pixels added at both ends; "constant" has no input there."""
    at = np.arange(-before, n + after)
    if mode == "replicate":
        inputs = np.clip(at, 0, n - 1)
    elif mode == "reflect":
        inputs = n - 1 - abs(n - 1 - abs(at))
    else:
        inputs = at % n
    outputs = np.arange(len(at))
    if mode == "constant":
        outputs, inputs = outputs[before:before + n], inputs[before:before + n]
    return AxisMap(n, len(at), outputs, inputs, np.ones(len(inputs)), np.ones(len(at)))


@lru_cache(256)
def upsampled(n, scale, bilinear, align_corners):
    """``scale`` times as many pixels, by the coordinates that PyTorch uses."""
    count = n * scale
    o = np.arange(count)
    if not bilinear:
        return AxisMap(n, count, o, o // scale, np.ones(count), np.ones(count))
    if align_corners:
        at = o * (n - 1) / max(count - 1, 1)
    else:
        at = np.clip((o + 0.5) / scale - 0.5, 0, n - 1)
    low = np.minimum(at.astype(np.intp), max(n - 2, 0))
    share = at - low
    weights = np.concatenate([1 - share, share])
    taps = weights != 0
    outputs, inputs = np.concatenate([o, o])[taps], np.concatenate([low, low + 1])[taps]
    return AxisMap(n, count, outputs, inputs, weights[taps], np.ones(count))
