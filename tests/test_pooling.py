"""Max pooling and its gradient equal the reference bit by bit: nothing is rounded in a maximum."""

import numpy as np
import pytest
from arrays import ORDERS, assert_same, in_order, integers
from shapes import TILE_EDGES

import fastconv
from fastconv import reference


def random_pools(count: int, seed: int):
    """``(shape, size, keywords)`` such that every window sees at least one pixel."""
    rng = np.random.default_rng(seed)
    pools = []
    while len(pools) < count:
        size = tuple(map(int, rng.integers(1, 5, 2)))
        dilation = (1, 1) if rng.random() < 0.7 else tuple(map(int, rng.integers(1, 4, 2)))
        extent = [int(rng.choice((rng.integers(1, 12), rng.choice(TILE_EDGES)))) for _ in "hw"]
        channels = int(rng.choice((rng.integers(1, 9), rng.choice(TILE_EDGES))))
        stride = tuple(map(int, rng.integers(1, 5, 2)))
        halves = tuple(int(rng.integers(0, k // 2 + 1)) for k in size)
        keywords = {
            "stride": [None, size, stride, stride[0]][rng.integers(4)],
            "padding": [0, halves, min(halves)][rng.integers(3)],
            "dilation": dilation,
            "ceil_mode": bool(rng.random() < 0.3),
        }
        shape = (int(rng.choice((0, 1, 2, 3), p=(0.02, 0.5, 0.28, 0.2))), channels, *extent)
        try:
            reference.max_pool2d(np.zeros((1, 1, *extent)), size, **keywords)
        except ValueError:
            continue
        pools.append((shape, size, keywords))
    return pools


POOLS = random_pools(600, seed=14)


def check(x, size, keywords, order: str, rng) -> None:
    what = f"x {x.shape}, size {size}, {keywords}, {order}"
    expected, expected_indices = reference.max_pool2d(x, size, return_indices=True, **keywords)
    xo = in_order(x, order)
    y, indices = fastconv.max_pool2d(xo, size, return_indices=True, **keywords)
    assert_same(y, expected, what)
    assert_same(indices, expected_indices, f"indices, {what}")
    assert_same(fastconv.max_pool2d(xo, size, **keywords), expected, f"without indices, {what}")

    dy = integers(rng, y.shape, dtype=x.dtype)
    dx = reference.max_pool2d_backward(dy, expected_indices, x.shape)
    for kind in (np.int32, np.int64):
        got = fastconv.max_pool2d_backward(in_order(dy, order), indices.astype(kind), x.shape)
        assert_same(got, dx, f"gradient, {what}")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunk", range(4))
def test_pooling(chunk, dtype, order, isa, rng):
    for shape, size, keywords in POOLS[chunk::4]:
        check(rng.standard_normal(shape).astype(dtype), size, keywords, order, rng)


@pytest.mark.parametrize("order", ORDERS)
def test_ties_go_to_the_first(order, isa, rng):
    """Few different values, so that nearly every window has several largest."""
    for shape, size, keywords in POOLS[::3]:
        check(integers(rng, shape, 1), size, keywords, order, rng)


@pytest.mark.parametrize("order", ORDERS)
def test_special_values(order, isa, rng):
    for shape, size, keywords in POOLS[::3]:
        x = rng.standard_normal(shape).astype(np.float32)
        for special in (np.nan, -np.inf, np.inf):
            x[rng.random(shape) < 0.2] = special
        check(x, size, keywords, order, rng)


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf, np.finfo(np.float32).min])
@pytest.mark.parametrize("order", ORDERS)
def test_windows_of_one_value(value, order, isa):
    """The padding never wins, and every index is a pixel of the image."""
    x = in_order(np.full((2, 17, 6, 19), value, np.float32), order)
    y, indices = fastconv.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)
    assert np.array_equal(y, np.full(y.shape, value, np.float32), equal_nan=True)
    assert_same(
        indices, reference.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)[1], value
    )
    assert fastconv.max_pool2d_backward(np.ones_like(y), indices, x.shape).sum() == y.size


@pytest.mark.parametrize("order", ORDERS)
def test_unbatched(order, rng):
    x = rng.standard_normal((3, 9, 11), np.float32)
    y, indices = reference.max_pool2d(x, 2, return_indices=True)
    got, got_indices = fastconv.max_pool2d(in_order(x, order), 2, return_indices=True)
    assert_same(got, y, order)
    assert_same(got_indices, indices, order)
    assert_same(
        fastconv.max_pool2d_backward(in_order(y, order), indices, x.shape),
        reference.max_pool2d_backward(y, indices, x.shape),
        order,
    )


@pytest.mark.parametrize("order", ORDERS)
def test_gradient_for_any_indices(order, isa, rng):
    """The gradient asks only that the indices lie in the plane, not that pooling made them."""
    for shape, out in (((2, 5, 7, 9), (3, 4)), ((1, 33, 2, 2), (6, 7)), ((3, 1, 1, 1), (2, 2))):
        dy = integers(rng, (*shape[:2], *out))
        indices = rng.integers(0, shape[2] * shape[3], dy.shape, dtype=np.int32)
        expected = reference.max_pool2d_backward(dy, indices, shape)
        got = fastconv.max_pool2d_backward(in_order(dy, order), in_order(indices, order), shape)
        assert_same(got, expected, (shape, out))
