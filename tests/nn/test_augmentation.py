"""Augmentation: every image against its slices, image by image."""

import numpy as np
import pytest
from arrays import ORDERS, in_order

from fastconv.augmentation import Compose, Normalize, RandomCrop, RandomFlip, RandomShift


def numbered(n=40, c=3, h=5, w=6, dtype=np.float32):
    """Images of which no two elements are equal."""
    return np.arange(1, n * c * h * w + 1, dtype=dtype).reshape(n, c, h, w)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("axis", ["horizontal", "vertical"])
def test_flips(order, axis):
    x = in_order(numbered(), order)
    got = RandomFlip(axis)(x, np.random.default_rng(1))
    flipped = 0
    for image, result in zip(x, got, strict=True):
        mirror = image[:, :, ::-1] if axis == "horizontal" else image[:, ::-1]
        flipped += np.array_equal(result, mirror)
        assert np.array_equal(result, mirror) != np.array_equal(result, image)
    assert 10 < flipped < 30
    assert got.strides == x.strides
    np.testing.assert_array_equal(RandomFlip(axis, p=0.0)(x, np.random.default_rng(1)), x)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_crops(order, mode):
    x = in_order(numbered(dtype=np.int32), order)
    got = RandomCrop(4, padding=2, mode=mode)(x, np.random.default_rng(2))
    assert got.shape == (40, 3, 4, 4) and got.dtype == np.int32
    assert got.strides == in_order(np.empty(got.shape, np.int32), order).strides
    places = set()
    for image, result in zip(x, got, strict=True):
        wide = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode)
        found = [
            (i, j)
            for i in range(6)
            for j in range(7)
            if np.array_equal(wide[:, i : i + 4, j : j + 4], result)
        ]
        assert found
        places.add(found[0])
    assert {i for i, _ in places} == set(range(6))
    assert {j for _, j in places} == set(range(7))


def test_shifts():
    x = numbered()
    got = RandomShift(1)(x, np.random.default_rng(3))
    assert got.shape == x.shape
    for image, result in zip(x, got, strict=True):
        wide = np.pad(image, ((0, 0), (1, 1), (1, 1)))
        assert sum(
            np.array_equal(wide[:, i : i + 5, j : j + 6], result)
            for i in range(3)
            for j in range(3)
        ) == 1


def test_what_is_given_stays_as_it_is():
    x = numbered()
    kept = x.copy()
    augment = Compose(RandomFlip(), RandomShift(2), Normalize(1.0, 2.0))
    augment(x, np.random.default_rng(0))
    np.testing.assert_array_equal(x, kept)


def test_a_seed_draws_the_same_changes_whatever_the_order():
    augment = Compose(RandomCrop(padding=2), RandomFlip())
    results = [
        augment(in_order(numbered(), order), np.random.default_rng(7))
        for order in ("contiguous", "contiguous", "channels_last")
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    other = augment(numbered(), np.random.default_rng(8))
    assert not np.array_equal(results[0], other)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_normalize(dtype, rng):
    x = rng.integers(0, 255, (20, 3, 4, 4)).astype(dtype)
    x[:, 2] = 7
    got = Normalize.of(x)(x)
    assert got.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_allclose(got.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(got[:, :2].std(axis=(0, 2, 3)), 1, rtol=1e-6)
    np.testing.assert_allclose(got[:, 2], 0, atol=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RandomFlip("diagonal"), "axis: expected one of 'horizontal', 'vertical'"),
        (lambda: RandomFlip(p=1.5), r"p: expected a number in \[0, 1\]"),
        (lambda: RandomCrop(0), "size: expected a positive integer"),
        (lambda: RandomCrop(padding=-1), "padding: expected a positive integer"),
        (lambda: RandomShift(0), "pixels: expected a positive integer"),
        (lambda: RandomCrop(9)(numbered(), np.random.default_rng()), "size: expected at most"),
        (lambda: RandomFlip()(np.zeros((3, 4)), np.random.default_rng()), "x: expected images"),
        (lambda: Normalize(0.0, 0.0), "std: expected numbers above 0"),
        (lambda: Normalize(0.0, [1.0, 1.0])(numbered()), "x: expected 2 channels"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    with pytest.raises(TypeError, match="transforms: expected functions"):
        Compose(3)
