"""The convolution and its gradients are exactly right, on every instruction set.

The operands are small integers (see `arrays`), so nothing rounds in float32, and every value of
every result must equal the reference in float64. Five thousand problems, three passes,
both memory orders, every tier: what each pass sums, and in which tiles and blocks, does not matter.
"""

from collections import Counter

import numpy as np
import pytest
from arrays import ORDERS, assert_same, in_order, integer_operands
from shapes import EDGES, LAYERS, Problem, random_problems

import fastconv
from fastconv import reference

PROBLEMS = (*EDGES, *random_problems(5000, seed=1))
CHUNKS = 50

# Layers small enough for the reference, with their real sizes.
SMALL_LAYERS = {
    name: layer.with_batch(2) for name, layer in LAYERS.items() if 2 * layer.flops < 40e6
}


class Zeros:
    """Counts the zeros among the expected values: a test that compares zeros proves nothing."""

    def __init__(self):
        self.zeros, self.values = Counter(), Counter()

    def count(self, **arrays):
        for name, array in arrays.items():
            self.zeros[name] += array.size - np.count_nonzero(array)
            self.values[name] += array.size

    def check(self):
        for name, values in self.values.items():
            assert self.zeros[name] <= 0.7 * values, f"{name}: nearly all expected values are 0"


def check(problem: Problem, dtype, zeros: Zeros) -> None:
    """All passes of one problem in every order on every instruction set."""
    x, kernel, bias, dy = integer_operands(problem, dtype)
    keywords = problem.keywords
    y = reference.conv2d(x, kernel, **keywords)
    dx = reference.conv2d_backward_input(dy, kernel, x.shape, **keywords)
    dk = reference.conv2d_backward_kernel(dy, x, kernel.shape, **keywords)
    fused = np.maximum(y + bias[:, None, None], 0)
    zeros.count(y=y, dx=dx, dkernel=dk, fused=fused)

    for isa in fastconv.available_isas():
        for order in ORDERS:
            xo, dyo = in_order(x, order), in_order(dy, order)
            out = in_order(np.full(y.shape, np.nan, dtype), order)
            what = f"{problem}, {np.dtype(dtype)}, {order}, {isa}"
            with fastconv.use_isa(isa):
                assert_same(fastconv.conv2d(xo, kernel, **keywords), y, f"forward of {what}")
                got = fastconv.conv2d(xo, kernel, bias, activation="relu", out=out, **keywords)
                assert got is out
                assert_same(got, fused, f"forward with bias, relu and out of {what}")
                got = fastconv.conv2d_backward_input(dyo, kernel, x.shape, **keywords)
                assert_same(got, dx, f"input gradient of {what}")
                got = fastconv.conv2d_backward_kernel(dyo, xo, kernel.shape, **keywords)
                assert_same(got, dk, f"kernel gradient of {what}")


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_float32(chunk):
    zeros = Zeros()
    for problem in PROBLEMS[chunk::CHUNKS]:
        check(problem, np.float32, zeros)
    zeros.check()


@pytest.mark.parametrize("chunk", range(10))
def test_float64(chunk):
    zeros = Zeros()
    for problem in PROBLEMS[chunk::40]:
        check(problem, np.float64, zeros)
    zeros.check()


@pytest.mark.parametrize("name", SMALL_LAYERS)
def test_layers_of_known_networks(name):
    zeros = Zeros()
    check(SMALL_LAYERS[name], np.float32, zeros)
    zeros.check()


def test_the_problems_cover_every_feature():
    seen = Counter()
    for p in PROBLEMS:
        seen["empty batch"] += p.n == 0
        seen["grouped"] += 1 < p.groups < p.ic
        seen["depthwise"] += 1 < p.groups == p.ic == p.oc
        seen["depthwise with multiplier"] += 1 < p.groups == p.ic < p.oc
        seen["stride"] += p.stride != (1, 1)
        seen["stride larger than the kernel"] += p.stride[0] > p.kh or p.stride[1] > p.kw
        seen["uneven stride"] += p.stride[0] != p.stride[1]
        seen["dilation"] += p.dilation != (1, 1)
        seen["dilation and stride"] += p.dilation != (1, 1) and p.stride != (1, 1)
        seen["uneven kernel"] += p.kh != p.kw
        seen["kernel larger than the image"] += p.kh > p.ih or p.kw > p.iw
        seen["padding larger than the kernel"] += p.pads[0][0] >= p.kh or p.pads[1][0] >= p.kw
        seen["uneven padding"] += p.pads[0][0] != p.pads[0][1] or p.pads[1][0] != p.pads[1][1]
        seen["same"] += p.padding == "same" and p.stride != (1, 1)
        seen["valid"] += p.padding == "valid"
        seen["1x1"] += p.kh == p.kw == 1
        seen["one channel in"] += p.ic == 1
        seen["one channel out"] += p.oc == 1
        seen["many channels both sides"] += min(p.ic, p.oc) >= 16 and p.groups == 1
        seen["more than two megaflops"] += p.flops > 2e6
    assert len(PROBLEMS) >= 5000
    assert min(seen.values()) >= 15, seen


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_every_epilogue(order, activation, with_bias, isa):
    for problem in (*EDGES[::5], *random_problems(60, seed=5)):
        x, kernel, bias, _ = integer_operands(problem)
        bias = bias if with_bias else None
        rest = {"activation": activation, **problem.keywords}
        got = fastconv.conv2d(in_order(x, order), kernel, bias, **rest)
        assert_same(got, reference.conv2d(x, kernel, bias, **rest), (problem, rest))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("out_order", [*ORDERS, "sliced"])
def test_out_of_the_gradients(order, out_order):
    """Whatever was in ``out`` is overwritten, in whatever memory it lies."""
    for problem in (*EDGES[::3], *random_problems(60, seed=6)):
        x, kernel, _, dy = integer_operands(problem)
        xo, dyo = in_order(x, order), in_order(dy, order)
        keywords = problem.keywords

        def fresh(shape):
            if out_order == "sliced":
                return np.full([n + 2 for n in shape], np.nan, np.float32)[1:-1, 1:-1, 1:-1, 1:-1]
            return in_order(np.full(shape, np.nan, np.float32), out_order)

        y, dx, dk = fresh(problem.y_shape), fresh(x.shape), fresh(kernel.shape)
        assert fastconv.conv2d(xo, kernel, out=y, **keywords) is y
        assert fastconv.conv2d_backward_input(dyo, kernel, x.shape, out=dx, **keywords) is dx
        assert fastconv.conv2d_backward_kernel(dyo, xo, kernel.shape, out=dk, **keywords) is dk
        assert_same(y, reference.conv2d(x, kernel, **keywords), problem)
        assert_same(dx, reference.conv2d_backward_input(dy, kernel, x.shape, **keywords), problem)
        assert_same(dk, reference.conv2d_backward_kernel(dy, x, kernel.shape, **keywords), problem)
        if out_order == "sliced":
            for array in (y, dx, dk):
                margin = array.base.copy()
                margin[1:-1, 1:-1, 1:-1, 1:-1] = np.nan
                assert np.isnan(margin).all(), f"wrote outside of out: {problem}"


@pytest.mark.parametrize("order", ORDERS)
def test_unbatched(order, isa):
    for problem in random_problems(60, seed=7):
        problem = problem.with_batch(1)
        x, kernel, bias, dy = integer_operands(problem)
        y = reference.conv2d(x, kernel, bias, **problem.keywords)
        dx = reference.conv2d_backward_input(dy, kernel, x.shape, **problem.keywords)
        dk = reference.conv2d_backward_kernel(dy, x, kernel.shape, **problem.keywords)
        xo, dyo = in_order(x[0], order), in_order(dy[0], order)
        assert_same(fastconv.conv2d(xo, kernel, bias, **problem.keywords), y[0], problem)
        got = fastconv.conv2d_backward_input(dyo, kernel, xo.shape, **problem.keywords)
        assert_same(got, dx[0], problem)
        got = fastconv.conv2d_backward_kernel(dyo, xo, kernel.shape, **problem.keywords)
        assert_same(got, dk, problem)


@pytest.mark.parametrize("order", ORDERS)
def test_bias_gradient(order):
    for problem in (*EDGES, *random_problems(60, seed=8)):
        dy = integer_operands(problem)[3]
        expected = reference.conv2d_backward_bias(dy)
        assert_same(fastconv.conv2d_backward_bias(in_order(dy, order)), expected, problem)
    assert_same(fastconv.conv2d_backward_bias(dy[0]), reference.conv2d_backward_bias(dy[0]), "one")
