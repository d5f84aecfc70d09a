"""What average pooling, borders and enlargement do along one axis, as tables of taps.

Output ``o`` is a weighted sum of a few inputs, divided by a divisor of its own. A *rule* says how
many inputs and outputs there are, then for each tap its output, its input and its weight, and for
each output its divisor; ``fastconv/_core/axis_map.pyx`` makes of it what the compiled loops read.

Where pixels have few channels, or one as in a plane, a vector holds neighbouring values of a row,
and `slots_of` says where each lane's inputs are: slot by slot, a window of the row and the place in
it of those lanes whose input is there::

    y[j] = x[2j] + x[2j + 1], vectors of 4         lanes   0  1  2  3
                                         x[0:4]            0  2  .  .     begin
    slots of the first vector            x[4:8]            .  .  0  2     begin
                                         x[1:5]            0  2  .  .     are added
                                         x[5:9]            .  .  0  2     are added
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Fewer neighbours are not worth a copy of their own.
SHORTEST_COPY = 4

Rule = tuple[int, int, NDArray, NDArray, NDArray, NDArray]


def pooled(n: int, count: int, taps: int, stride: int, padding: int, include_padding: bool) -> Rule:
    """Averages of ``count`` windows; padding counts as zeros, or does not count."""
    first = np.arange(count) * stride - padding
    # A window that hangs over the padding too divides by what it holds of both.
    end = np.minimum(first + taps, n + padding)
    inside = np.maximum(first, 0), np.minimum(end, n)
    outputs, inputs = ranges(*inside)
    divisors = end - first if include_padding else inside[1] - inside[0]
    return n, count, outputs, inputs, np.ones(len(inputs)), divisors.astype(float)


def adaptive(n: int, count: int) -> Rule:
    """Averages of ``count`` windows that cover the axis, of nearly the same size."""
    o = np.arange(count)
    first, end = o * n // count, -(-(o + 1) * n // count)
    outputs, inputs = ranges(first, end)
    return n, count, outputs, inputs, np.ones(len(inputs)), (end - first).astype(float)


def padded(n: int, before: int, after: int, mode: str) -> Rule:
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
        outputs, inputs = outputs[before : before + n], inputs[before : before + n]
    return n, len(at), outputs, inputs, np.ones(len(inputs)), np.ones(len(at))


def upsampled(n: int, scale: int, bilinear: bool, align_corners: bool) -> Rule:
    """``scale`` times as many pixels, by the coordinates that PyTorch uses."""
    count = n * scale
    o = np.arange(count)
    if not bilinear:
        return n, count, o, o // scale, np.ones(count), np.ones(count)
    if align_corners:
        at = o * (n - 1) / max(count - 1, 1)
    else:
        at = np.clip((o + 0.5) / scale - 0.5, 0, n - 1)
    low = np.minimum(at.astype(np.intp), max(n - 2, 0))
    share = at - low
    weights = np.concatenate([1 - share, share])
    taps = weights != 0
    outputs, inputs = np.concatenate([o, o])[taps], np.concatenate([low, low + 1])[taps]
    return n, count, outputs, inputs, weights[taps], np.ones(count)


def ranges(first: NDArray, end: NDArray) -> tuple[NDArray, NDArray]:
    """Taps of outputs that each sum the inputs [first, end): outputs, inputs."""
    counts = end - first
    outputs = np.repeat(np.arange(len(first)), counts)
    inputs = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return outputs, inputs + np.repeat(first, counts)


def stretches(n: int, start: NDArray, index: NDArray, unit: NDArray) -> NDArray[np.intp]:
    """For the first output of every stretch: how many are copies of neighbours, or minus others."""
    taps = np.diff(start)
    first = start[:-1][taps > 0]
    source = np.full(n, -2)  # whose copy an output is
    source[taps > 0] = np.where((taps[taps > 0] == 1) & unit[first], index[first], -2)
    follows = (source[1:] == source[:-1] + 1) & (source[1:] >= 0)
    ends = np.append(np.flatnonzero(~follows) + 1, n)
    begins = np.append(0, ends[:-1])
    found = np.zeros(n, np.intp)
    mixed = None
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if source[begin] >= 0 and end - begin >= SHORTEST_COPY:
            found[begin], mixed = end - begin, None
        else:
            mixed = begin if mixed is None else mixed
            found[mixed] -= end - begin
    return found


class Slots(NamedTuple):
    """What `fc_mix_rows` wants to know of a row."""

    first: NDArray[np.intp]
    base: NDArray[np.intp]
    run: NDArray[np.intp]
    kind: NDArray[np.uint8]
    place: NDArray
    weight: NDArray
    divisor: NDArray


def slots_of(rule: Rule, C: int, lanes: int, dtype: str, begins: int, in_order: int) -> Slots:
    """The slots of a row of C channels, for vectors of so many lanes of a type.

    `begins` and `in_order` are the flags that a slot may have.
    """
    source, n, outputs, inputs, weights, divisors = rule
    start = np.searchsorted(outputs, np.arange(n + 1))
    tap, channel = np.arange(len(outputs)) - start[outputs], np.arange(C)
    to, at = ((pixel[:, None] * C + channel).ravel() for pixel in (outputs, inputs))
    tap, weights = np.repeat(tap, C), np.repeat(weights, C)
    n, width = n * C, source * C
    vector, lane = np.divmod(to, lanes)
    if n > lanes and n % lanes:
        # The last vector ends with the row: some values are in two.
        whole, begin = n // lanes, n - lanes
        inside, again = np.flatnonzero(vector < whole), np.flatnonzero(to >= begin)
        vector = np.append(vector[inside], np.full(len(again), whole))
        lane = np.append(lane[inside], to[again] - begin)
        taken = np.append(inside, again)
        tap, at, weights = tap[taken], at[taken], weights[taken]
    order = np.lexsort((at, tap, vector))
    vector, lane, tap, at, weights = (column[order] for column in (vector, lane, tap, at, weights))
    # A vector's inputs of one tap are looked for in windows, beginning with the first of them.
    group = starts(vector, tap)
    window = (at - at[group][np.cumsum(group) - 1]) // lanes
    flags = starts(vector, tap, window)
    slot = np.cumsum(flags) - 1
    base = np.minimum(at[flags], max(width - lanes, 0)).astype(np.intp)
    place = np.full((len(base), lanes), -1, np.int32 if dtype == "float32" else np.int64)
    place[slot, lane] = at - base[slot]
    weight = np.zeros((len(base), lanes), dtype)
    weight[slot, lane] = weights
    kind = begins * (tap[flags] == 0) + in_order * (place == np.arange(lanes)).all(axis=1)
    vectors = -(-n // lanes)
    first = np.searchsorted(vector[flags], np.arange(vectors + 1)).astype(np.intp)
    # Vectors that are copies as a whole, each followed by so many that go on where it ends.
    copies = (np.diff(first) == 1) & (np.arange(vectors) < n // lanes)
    only = np.minimum(first[:-1], len(kind) - 1)
    copies &= (kind[only] == begins + in_order) & (weight[only] == 1).all(axis=1)
    run = lengths(copies, copies[:-1] & copies[1:] & (np.diff(base[only]) == lanes))
    divisor = np.repeat(divisors, C).astype(dtype)
    return Slots(first, base, run, kind.astype(np.uint8), place, weight, divisor)


def starts(*columns: NDArray) -> NDArray[np.bool_]:
    """Flags of the rows of a sorted table that differ from the row before them."""
    differs = np.ones(len(columns[0]), bool)
    differs[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return differs


def lengths(flags: NDArray, joined: NDArray) -> NDArray[np.intp]:
    """How many flags follow each other from each on, each of them `joined` to the next."""
    n = len(flags)
    end = np.append(np.flatnonzero(~joined), n - 1)
    return np.where(flags, end[np.searchsorted(end, np.arange(n))] + 1 - np.arange(n), 0)
