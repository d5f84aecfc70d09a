"""Dense layers: exact on integers, for every size around the edges of the tiles."""

import numpy as np
import pytest
from arrays import assert_same, integers
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


def test_samples_do_not_depend_on_each_other(rng):
    x, kernel = (
        rng.standard_normal((67, 300), np.float32),
        rng.standard_normal((50, 300), np.float32),
    )
    together = fastconv.dense(x, kernel)
    np.testing.assert_allclose(
        together, x.astype(np.float64) @ kernel.T.astype(np.float64), rtol=1e-4, atol=1e-4
    )
    for n in (0, 33, 66):
        np.testing.assert_allclose(
            fastconv.dense(x[n : n + 1], kernel)[0], together[n], rtol=1e-4, atol=1e-4
        )
