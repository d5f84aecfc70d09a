"""Paths that only certain sizes take: streamed results, and pixels that share cache sets."""

import numpy as np
import pytest
from arrays import ORDERS, assert_same, in_order, integers
from shapes import Problem

import fastconv
from fastconv import reference

# ---- results larger than a share of the last cache ----------------------------------------------


def large(channels: int) -> int:
    """Rows of 64 columns whose results are certainly streamed."""
    share = fastconv.cache_sizes().get("L3", 1 << 25) // 4
    return share // (64 * channels * 4) // 2 + 1


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("channels", [32, 40])
def test_streamed_depthwise(order, channels):
    rng = np.random.default_rng(channels)
    rows = large(channels)
    x, kernel = integers(rng, (1, channels, rows, 64), 8), integers(rng, (channels, 1, 3, 3), 8)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = sum(
        padded[:, :, kh : kh + rows, kw : kw + 64] * kernel[:, 0, kh, kw, None, None]
        for kh in range(3)
        for kw in range(3)
    )
    for isa in fastconv.available_isas():
        with fastconv.use_isa(isa):
            got = fastconv.conv2d(in_order(x, order), kernel, padding=1, groups=channels)
            assert_same(got, expected, (order, channels, isa))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("ic", "oc"), [(3, 32), (16, 48), (5, 40)])
def test_streamed_pointwise(order, ic, oc):
    rng = np.random.default_rng(ic)
    x, kernel = integers(rng, (2, ic, large(oc), 64), 8), integers(rng, (oc, ic, 1, 1), 8)
    bias = integers(rng, oc, 8)
    expected = np.maximum(
        np.einsum("nihw,oi->nohw", x, kernel[:, :, 0, 0]) + bias[:, None, None], 0
    )
    for isa in fastconv.available_isas():
        with fastconv.use_isa(isa):
            got = fastconv.conv2d(in_order(x, order), kernel, bias, activation="relu")
            assert_same(got, expected, (order, ic, oc, isa))
            # Where no vector is aligned.
            out = in_order(expected, order).copy(order="K")
            memory = np.empty(out.size + 1, np.float32)[1:]
            strided = np.lib.stride_tricks.as_strided(memory, out.shape, out.strides)
            fastconv.conv2d(in_order(x, order), kernel, bias, activation="relu", out=strided)
            assert_same(strided, expected, (order, ic, oc, isa, "out"))


# ---- pixels 4 KiB apart --------------------------------------------------------------------------

FAR_PIXELS = [
    Problem(2, 1024, 5, 9, 24, 1, 1),
    Problem(1, 24, 5, 9, 1024, 1, 1),
    Problem(1, 512, 5, 40, 24, 3, 3, (2, 2), 1),
    Problem(1, 1024, 4, 18, 20, 3, 3, (1, 1), 1),
    Problem(2, 1024, 5, 20, 48, 1, 1, groups=2),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("problem", FAR_PIXELS, ids=str)
def test_pixels_that_share_cache_sets(problem, dtype):
    rng = np.random.default_rng(1)
    x = integers(rng, problem.x_shape, 3, dtype)
    kernel = integers(rng, problem.kernel_shape, 3, dtype)
    y = reference.conv2d(x, kernel, **problem.keywords)
    dy = integers(rng, y.shape, 3, dtype)
    dx = reference.conv2d_backward_input(dy, kernel, x.shape, **problem.keywords)
    for order in ORDERS:
        xo, dyo = in_order(x, order), in_order(dy, order)
        assert_same(fastconv.conv2d(xo, kernel, **problem.keywords), y, (problem, order))
        got = fastconv.conv2d_backward_input(dyo, kernel, x.shape, **problem.keywords)
        assert_same(got, dx, (problem, order))
