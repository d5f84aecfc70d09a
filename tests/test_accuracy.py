"""Real values: rounding errors stay within their bound, and special values behave.

A sum of n products in float32, in whatever order, is off by at most ``n * u * sum(|a| * |b|)`` with
``u = 2**-24``; random errors stay far below. Both limits are held here against float64, instead of
a relative tolerance, which would be too tight where terms cancel and too loose elsewhere.
"""

import numpy as np
import pytest
from arrays import ORDERS, assert_same, in_order, real_operands
from shapes import EDGES, LAYERS, random_problems

import fastconv
from fastconv import reference

PROBLEMS = (*EDGES, *random_problems(1000, seed=10))
UNIT = 2.0**-24


def check_bound(got, exact, magnitude, terms: int, what: str) -> None:
    """``|got - exact|`` against ``2 n u S``, and against ``16 u S``, S the sum of magnitudes."""
    error = np.abs(got - exact)
    bound = UNIT * magnitude * min(2 * terms, 16) + 1e-300
    assert (error <= bound).all(), f"{(error / bound).max():.3g} times the allowed error: {what}"


def check(problem, order: str) -> None:
    x, kernel, bias, dy = real_operands(problem)
    keywords = problem.keywords
    ax, ak, ab, ady = (np.abs(a).astype(np.float64) for a in (x, kernel, bias, dy))
    xo, dyo = in_order(x, order), in_order(dy, order)
    x, kernel64, bias64, dy = (a.astype(np.float64) for a in (x, kernel, bias, dy))
    n, _, oh, ow = problem.y_shape
    taps = problem.kh * problem.kw

    check_bound(
        fastconv.conv2d(xo, kernel, bias, **keywords),
        reference.conv2d(x, kernel64, bias64, **keywords),
        reference.conv2d(ax, ak, ab, **keywords),
        problem.ic // problem.groups * taps + 1,
        f"forward of {problem}, {order}",
    )
    check_bound(
        fastconv.conv2d_backward_input(dyo, kernel, x.shape, **keywords),
        reference.conv2d_backward_input(dy, kernel64, x.shape, **keywords),
        reference.conv2d_backward_input(ady, ak, x.shape, **keywords),
        problem.oc // problem.groups * taps,
        f"input gradient of {problem}, {order}",
    )
    check_bound(
        fastconv.conv2d_backward_kernel(dyo, xo, kernel.shape, **keywords),
        reference.conv2d_backward_kernel(dy, x, kernel.shape, **keywords),
        reference.conv2d_backward_kernel(ady, ax, kernel.shape, **keywords),
        n * oh * ow,
        f"kernel gradient of {problem}, {order}",
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("chunk", range(5))
def test_error_bound(chunk, order, isa):
    for problem in PROBLEMS[chunk::5]:
        check(problem, order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["lenet5.conv2", "mnist_cnn.conv2", "resnet20.stage3"])
def test_error_bound_of_layers(name, order):
    check(LAYERS[name].with_batch(4), order)


@pytest.mark.parametrize("order", ORDERS)
def test_long_sums(order, isa):
    """800 000 equal terms: added one by one in float32 they would be off by 8e-3.

    Sums are added in blocks, and those in blocks again; 3e-6 is reached.
    """
    x = in_order(np.full((256, 1, 56, 56), 0.1, np.float32), order)
    exact = 256 * 56 * 56 * float(np.float32(0.1))
    got = fastconv.conv2d_backward_kernel(np.ones_like(x), x, (1, 1, 1, 1)).item()
    assert got == pytest.approx(exact, rel=1e-5)
    assert fastconv.conv2d_backward_bias(x).item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_nan_and_infinity_reach_the_outputs_that_see_them_and_no_other(order, isa):
    """In the image that a pass slides over; in the other operand they may meet padding's zeros."""
    for problem in (*EDGES[::3], *random_problems(80, seed=11)):
        keywords = problem.keywords
        for special in (np.nan, np.inf):
            x, kernel, bias, dy = real_operands(problem)
            bad_x, bad_dy = x.copy(), dy.copy()
            for array in (bad_x, bad_dy):
                if array.size:
                    array.reshape(-1)[array.size // 2] = special
            # Infinity against infinity, and against 0, is NaN in IEEE arithmetic, not a fault.
            with np.errstate(invalid="ignore"):
                expected = (
                    reference.conv2d(bad_x, kernel, bias, **keywords),
                    reference.conv2d_backward_input(bad_dy, kernel, x.shape, **keywords),
                    reference.conv2d_backward_kernel(dy, bad_x, kernel.shape, **keywords),
                )
            bad_x, dy, bad_dy = (in_order(array, order) for array in (bad_x, dy, bad_dy))
            got = (
                fastconv.conv2d(bad_x, kernel, bias, **keywords),
                fastconv.conv2d_backward_input(bad_dy, kernel, x.shape, **keywords),
                fastconv.conv2d_backward_kernel(dy, bad_x, kernel.shape, **keywords),
            )
            for name, a, b in zip(("forward", "input", "kernel"), got, expected, strict=True):
                what = f"{special}, {name}: {problem}, {order}"
                assert_same(np.isnan(a), np.isnan(b), f"NaN from {what}")
                assert_same(np.isinf(a), np.isinf(b), f"infinite from {what}")
                finite = np.isfinite(b)
                np.testing.assert_allclose(a[finite], b[finite], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu_in_the_store_keeps_nan(dtype, order, isa):
    for channels, size in ((1, 1), (3, 1), (16, 3), (33, 3), (2, 5)):
        x = np.zeros((2, channels, 7, 33), dtype)
        x[1, -1, 3, 16] = np.nan
        kernel = np.ones((channels, channels, size, size), dtype)
        rest = {"padding": size // 2, "activation": "relu"}
        got = fastconv.conv2d(in_order(x, order), kernel, np.full(channels, -1, dtype), **rest)
        assert_same(
            got, reference.conv2d(x, kernel, np.full(channels, -1.0), **rest).astype(dtype), size
        )
    y = fastconv.dense(x[:, :, 3, 16], np.ones((9, channels), dtype), activation="relu")
    assert np.isnan(y[1]).all() and not y[0].any()


def test_subnormal_numbers_survive(isa):
    tiny = np.full((1, 1, 4, 40), 1e-40, np.float32)
    assert fastconv.conv2d(tiny, np.ones((1, 1, 1, 1), np.float32)).min() > 0
    assert fastconv.relu(tiny).min() > 0
    assert (tiny * np.float32(1)).min() > 0, "the floating-point mode of the process has changed"
