"""Dropout: bit for bit what the numbers of elements and the key say, in any memory order."""

import numpy as np
import pytest
from arrays import ORDERS, assert_same_bits, in_order
from shapes import TILE_EDGES

import fastconv
from fastconv.training import dropout

SHAPES = [
    (),
    (0, 3),
    (5,),
    (3, 7),
    (70, 131),
    (3, 40, 11),
    (2, 0, 3, 4),
    (2, 1, 5, 5),
    (3, 19, 1, 1),
    (2, 33, 70, 71),
    (1, 5000, 2, 1),
    *((2, c, 3, w) for c, w in zip(TILE_EDGES, TILE_EDGES[5:] + TILE_EDGES[:5], strict=True)),
]
KEYS = (0, 1, (1 << 64) - 1, 0x0123456789ABCDEF)


def dropped(x, rate, key, by_channel):
    """The definition, in NumPy's integers: which element it is, and the hash of that."""
    count = np.prod(x.shape[:-2], dtype=int) if by_channel else x.size
    low, high = (np.uint32(part) for part in (key & 0xFFFFFFFF, key >> 32))
    with np.errstate(over="ignore"):
        h = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B1) + low
        h ^= h >> 16
        h += high
        h *= np.uint32(0x21F0AAAD)
        h ^= h >> 15
        h *= np.uint32(0xD35A2D97)
        h ^= h >> 15
    keep = h.reshape((*x.shape[:-2], 1, 1) if by_channel else x.shape) >= rate * 2.0**32
    return np.where(keep, x * x.dtype.type(1 / (1 - rate)), x.dtype.type(0))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("by_channel", [False, True])
def test_it_is_its_definition(by_channel, dtype, order, isa, rng):
    for at, shape in enumerate(SHAPES):
        if by_channel and len(shape) < 3:
            continue
        x = np.asarray(rng.standard_normal(shape)).astype(dtype)
        x = in_order(x, order) if x.ndim > 2 else x
        for rate in (0, 0.25, 0.7):
            key = KEYS[at % len(KEYS)]
            y = dropout(x, rate, key, by_channel=by_channel)
            assert_same_bits(y + 0, dropped(x, rate, key, by_channel) + 0, shape)
            assert x.size == 0 or y.strides == x.strides


@pytest.mark.parametrize("by_channel", [False, True])
def test_threads_do_not_matter(by_channel, rng):
    x = in_order(rng.standard_normal((7, 40, 60, 61)).astype(np.float32), "channels_last")
    expected = dropped(x, 0.5, 77, by_channel)
    before = fastconv.get_num_threads()
    try:
        for threads in (1, 2, 3, 7):
            fastconv.set_num_threads(threads)
            assert_same_bits(dropout(x, 0.5, 77, by_channel=by_channel) + 0, expected + 0, threads)
    finally:
        fastconv.set_num_threads(before)


def test_elements_are_dropped_independently(rng):
    """Of each other, of those of the next key, and of their place: within five deviations."""
    n = 1 << 20
    for rate in (0.1, 0.5):
        kept = [dropout(np.ones(n, np.float32), rate, key) > 0 for key in (3, 4, 3 + (1 << 32))]
        allowed = 5 * np.sqrt(rate * (1 - rate) / n)
        for mask in kept:
            assert abs(mask.mean() - (1 - rate)) < allowed
            for axis in (0, 1):
                means = mask.reshape(1024, 1024).mean(axis=axis)
                spread = means.std() / np.sqrt(rate * (1 - rate) / 1024)
                assert 0.9 < spread < 1.1
        pairs = [(kept[0][:-lag], kept[0][lag:]) for lag in (1, 2, 3, 16, 1000, 4096, 1 << 16)]
        pairs += [(kept[0], kept[1]), (kept[0], kept[2])]
        for a, b in pairs:
            assert abs((a & b).mean() - (1 - rate) ** 2) < 2 * allowed


def test_nothing_that_is_dropped_comes_through():
    x = np.array([np.nan, np.inf, -np.inf] * 40)
    kept = dropout(np.ones(x.size), 0.5, 9) > 0
    y = dropout(x, 0.5, 9)
    np.testing.assert_array_equal(y, np.where(kept, x, 0))


def test_what_it_refuses():
    x = np.ones((2, 3))
    for rate in (1, -0.1, np.nan):
        with pytest.raises(ValueError, match="rate: expected a number in"):
            dropout(x, rate, 1)
    for key in (-1, 1 << 64):
        with pytest.raises(ValueError, match="key: expected an integer of 64 bits"):
            dropout(x, 0.5, key)
    with pytest.raises(TypeError, match="key: expected an integer, got"):
        dropout(x, 0.5, 0.5)
    with pytest.raises(ValueError, match="x: expected shape"):
        dropout(x, 0.5, 1, by_channel=True)
    with pytest.raises(ValueError, match="x: expected at most 4 dimensions"):
        dropout(np.ones((1,) * 5), 0.5, 1)
