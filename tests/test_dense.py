"""Dense layers: exact on integers, for every size around the edges of the tiles."""

import numpy as np
import pytest
from arrays import assert_same, assert_same_bits, integers
from shapes import PRIMES, TILE_EDGES

import fastconv
from fastconv import reference

SIZES = [
    (1, 1, 1),
    (0, 5, 3),
    (64, 784, 10),
    (1, 1568, 128),
    (128, 10, 1),
    (33, 1, 65),
    (2, 5000, 3),
    *((n, 2100, 300) for n in (1, 2, 3)),  # several runs of inputs, and blocks of their sums
    (300, 600, 270),  # several blocks of samples, inputs, outputs, and of every sum
    *zip(TILE_EDGES, TILE_EDGES[9:] + TILE_EDGES[:9], TILE_EDGES[4:] + TILE_EDGES[:4], strict=True),
    *zip(PRIMES, PRIMES[3:] + PRIMES[:3], PRIMES[7:] + PRIMES[:7], strict=True),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dense(dtype, isa, rng):
    for n, inputs, outputs in SIZES:
        x, kernel = (
            integers(rng, (n, inputs), dtype=dtype),
            integers(rng, (outputs, inputs), dtype=dtype),
        )
        bias, dy = integers(rng, outputs, dtype=dtype), integers(rng, (n, outputs), dtype=dtype)
        what = f"{n} samples, {inputs} -> {outputs}"
        for b in (None, bias):
            for activation in (None, "relu"):
                assert_same(
                    fastconv.dense(x, kernel, b, activation=activation),
                    reference.dense(x, kernel, b, activation=activation),
                    what,
                )
        expected = reference.dense_backward(dy, x, kernel)
        for got, wanted in zip(fastconv.dense_backward(dy, x, kernel), expected, strict=True):
            assert_same(got, wanted, what)
        dx, *others = fastconv.dense_backward(dy, x, kernel, need_dx=False)
        assert dx is None
        for got, wanted in zip(others, expected[1:], strict=True):
            assert_same(got, wanted, what)


def test_out(rng):
    x, kernel, bias = rng.standard_normal((5, 7)), rng.standard_normal((9, 7)), np.ones(9)
    expected = fastconv.dense(x, kernel, bias, activation="relu")
    for out in (np.empty((5, 9)), np.empty((9, 5)).T, np.empty((10, 9))[::2]):
        assert fastconv.dense(x, kernel, bias, activation="relu", out=out) is out
        assert_same(out, expected, out.strides)
    square = np.ones((7, 7))
    with pytest.raises(ValueError, match="out: expected memory apart from kernel's"):
        fastconv.dense(x, square, out=square[:5])


def test_adjoint(rng):
    """<dy, dense(x, kernel)> = <dx, x> = <dkernel, kernel>, exactly."""
    for n, inputs, outputs in SIZES:
        x, kernel, dy = (
            integers(rng, shape) for shape in ((n, inputs), (outputs, inputs), (n, outputs))
        )
        dx, dkernel, _ = fastconv.dense_backward(dy, x, kernel)
        inner = [
            np.vdot(a.astype(np.int64), b.astype(np.int64))
            for a, b in ((dy, fastconv.dense(x, kernel)), (dx, x), (dkernel, kernel))
        ]
        assert inner[0] == inner[1] == inner[2]


def test_results_that_outgrow_the_caches(isa, rng):
    """A kernel's gradient that is stored past the caches, its rows aligned and not."""
    for inputs in (2048, 2043):
        x, dy = integers(rng, (3, inputs)), integers(rng, (3, 2048))
        for threads in (1, 2):
            fastconv.set_num_threads(threads)
            _, dkernel, _ = fastconv.dense_backward(dy, x, np.zeros((2048, inputs), np.float32))
            assert_same(dkernel, dy.T @ x, f"{inputs} inputs, {isa}")


def test_the_same_bits_for_any_number_of_threads(isa, rng):
    x, dy = rng.standard_normal((300, 600), np.float32), rng.standard_normal((300, 270), np.float32)
    kernel = rng.standard_normal((270, 600), np.float32)
    results = []
    for threads in (1, 2, 5):
        fastconv.set_num_threads(threads)
        found = fastconv.dense(x, kernel), *fastconv.dense_backward(dy, x, kernel)
        results.append([array.tobytes() for array in found])
    assert results[0] == results[1] == results[2]


def test_samples_do_not_depend_on_each_other(isa, rng):
    """A sample, and its gradient, has the same bits alone and among others."""
    for n, inputs, outputs in SIZES:
        x = rng.standard_normal((n, inputs), np.float32)
        kernel = rng.standard_normal((outputs, inputs), np.float32)
        dy = rng.standard_normal((n, outputs), np.float32)
        together, dx = fastconv.dense(x, kernel), fastconv.dense_backward(dy, x, kernel)[0]
        for i in {0, n // 2, n - 1} if n else ():
            one = fastconv.dense(x[i : i + 1], kernel)[0]
            what = f"sample {i} of {n}, {inputs} -> {outputs}, {isa}"
            assert_same_bits(one, together[i], what)
            one_dx = fastconv.dense_backward(dy[i : i + 1], x[i : i + 1], kernel)[0]
            assert_same_bits(one_dx[0], dx[i], what)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zeros_have_one_sign_alone_and_among_others(dtype, isa):
    for outputs in (1, 300):
        x, dy = np.zeros((3, 40), dtype), np.zeros((3, outputs), dtype)
        kernel = -np.ones((outputs, 40), dtype)
        y, dx = fastconv.dense(x, kernel), fastconv.dense_backward(dy, x, kernel)[0]
        for n in (1, 2):
            assert_same_bits(fastconv.dense(x[:n], kernel), y[:n], f"{n} forward, {isa}")
            found = fastconv.dense_backward(dy[:n], x[:n], kernel)[0]
            assert_same_bits(found, dx[:n], f"{n} backward, {isa}")
