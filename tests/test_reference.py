"""The reference is the oracle of all other tests; here it is held to things simpler than itself.

Plain Python loops that add one product at a time, SciPy, PyTorch where it is installed, and tables
written by hand for the conventions (padding "same", ``ceil_mode``, dtypes, memory order).
"""

import itertools
import math

import numpy as np
import pytest
from arrays import ORDERS, assert_same, in_order, integer_operands, integers
from shapes import EDGES, Problem, random_problems

from fastconv import reference

SMALL = [p for p in (*EDGES, *random_problems(600, seed=3)) if p.flops < 40_000]


def plain_loop(problem: Problem, x, kernel, dy) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three passes, one multiplication at a time: ``y``, ``dx``, ``dkernel``."""
    (sh, sw), (dh, dw), ((top, _), (left, _)) = problem.stride, problem.dilation, problem.pads
    OC_G, IC_G = problem.oc // problem.groups, problem.ic // problem.groups
    x, kernel, dy = x.tolist(), kernel.tolist(), dy.tolist()
    y, dx, dk = (np.zeros(s) for s in (problem.y_shape, problem.x_shape, problem.kernel_shape))
    for n, oc, oh, ow in np.ndindex(y.shape):
        for ci, kh, kw in np.ndindex(problem.kernel_shape[1:]):
            ic, ih, iw = oc // OC_G * IC_G + ci, oh * sh + kh * dh - top, ow * sw + kw * dw - left
            if 0 <= ih < problem.ih and 0 <= iw < problem.iw:
                y[n, oc, oh, ow] += kernel[oc][ci][kh][kw] * x[n][ic][ih][iw]
                dx[n, ic, ih, iw] += kernel[oc][ci][kh][kw] * dy[n][oc][oh][ow]
                dk[oc, ci, kh, kw] += x[n][ic][ih][iw] * dy[n][oc][oh][ow]
    return y, dx, dk


def test_there_are_enough_small_problems():
    assert len(SMALL) > 150


@pytest.mark.parametrize("chunk", range(10))
def test_convolution_is_the_plain_loop(chunk):
    for problem in SMALL[chunk::10]:
        x, kernel, bias, dy = integer_operands(problem, np.float64)
        y, dx, dk = plain_loop(problem, x, kernel, dy)
        keywords = problem.keywords
        assert_same(reference.conv2d(x, kernel, **keywords), y, problem)
        assert_same(
            reference.conv2d(x, kernel, bias, activation="relu", **keywords),
            np.maximum(y + bias[:, None, None], 0),
            problem,
        )
        assert_same(reference.conv2d_backward_input(dy, kernel, x.shape, **keywords), dx, problem)
        assert_same(reference.conv2d_backward_kernel(dy, x, kernel.shape, **keywords), dk, problem)
        assert_same(
            reference.conv2d_backward_bias(dy),
            np.array([math.fsum(dy[:, oc].ravel()) for oc in range(problem.oc)]),
            problem,
        )


def test_convolution_is_scipys_correlation(rng):
    signal = pytest.importorskip("scipy.signal")
    x, kernel = rng.standard_normal((2, 3, 9, 11)), rng.standard_normal((4, 3, 3, 2))
    for mode, padding in (("valid", 0), ("full", (2, 1))):
        expected = [
            [sum(map(signal.correlate2d, image, k, [mode] * 3)) for k in kernel] for image in x
        ]
        got = reference.conv2d(x, kernel, padding=padding)
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_convolution_is_torchs():
    torch = pytest.importorskip("torch")
    for problem in random_problems(200, seed=4):
        x, kernel, bias, dy = integer_operands(problem, np.float64)
        if problem.n == 0:
            continue
        (top, bottom), (left, right) = problem.pads
        tx, tk = (torch.tensor(a, requires_grad=True) for a in (x, kernel))
        ty = torch.nn.functional.conv2d(
            torch.nn.functional.pad(tx, (left, right, top, bottom)),
            tk,
            torch.tensor(bias),
            problem.stride,
            0,
            problem.dilation,
            problem.groups,
        )
        ty.backward(torch.tensor(dy))
        keywords = problem.keywords
        assert_same(reference.conv2d(x, kernel, bias, **keywords), ty.detach().numpy(), problem)
        assert_same(
            reference.conv2d_backward_input(dy, kernel, x.shape, **keywords),
            tx.grad.numpy(),
            problem,
        )
        assert_same(
            reference.conv2d_backward_kernel(dy, x, kernel.shape, **keywords),
            tk.grad.numpy(),
            problem,
        )


# O = ceil(I / stride), and the odd pixel of padding goes to the end: (I, K, stride, dilation) ->
# (O, before, after), worked out on paper.
SAME = {
    (5, 3, 1, 1): (5, 1, 1),
    (5, 2, 1, 1): (5, 0, 1),
    (5, 4, 1, 1): (5, 1, 2),
    (5, 3, 1, 2): (5, 2, 2),
    (5, 3, 2, 1): (3, 1, 1),
    (6, 3, 2, 1): (3, 0, 1),
    (6, 2, 2, 1): (3, 0, 0),
    (7, 5, 3, 1): (3, 2, 2),
    (8, 5, 3, 1): (3, 1, 2),
    (9, 1, 3, 1): (3, 0, 0),
    (10, 2, 4, 1): (3, 0, 0),
    (1, 7, 2, 1): (1, 3, 3),
}


@pytest.mark.parametrize("case", SAME, ids=str)
def test_same_padding(case, rng):
    (size, taps, stride, dilation), (out, before, after) = case, SAME[case]
    x, kernel = integers(rng, (1, 1, size, 4)), integers(rng, (1, 1, taps, 1))
    rest = {"stride": (stride, 1), "dilation": (dilation, 1)}
    y = reference.conv2d(x, kernel, padding="same", **rest)
    assert y.shape == (1, 1, out, 4)
    assert_same(y, reference.conv2d(x, kernel, padding=((before, after), (0, 0)), **rest), case)


def test_padding_forms_agree(rng):
    x, kernel = integers(rng, (2, 3, 7, 8)), integers(rng, (4, 3, 3, 3))
    for a, b in ((1, (1, 1)), ((2, 1), ((2, 2), (1, 1))), ("valid", 0), ("same", 1)):
        assert_same(
            reference.conv2d(x, kernel, padding=a), reference.conv2d(x, kernel, padding=b), (a, b)
        )


def test_padding_is_skipped_not_multiplied():
    kernel = np.full((1, 1, 3, 3), np.inf)
    kernel[0, 0, 1, 1] = 2
    one = np.ones((1, 1, 1, 1))
    assert reference.conv2d(one, kernel, padding=1) == 2
    assert reference.conv2d_backward_input(one, kernel, one.shape, padding=1) == 2


# -- pooling ---------------------------------------------------------------------------------------


def plain_pool(x, size, stride, pads, dilation, out) -> tuple[np.ndarray, np.ndarray]:
    """Each window as a list of (value, place); the last NaN, or the first of the largest."""
    N, C, IH, IW = x.shape
    (top, _), (left, _) = pads
    y, indices = np.zeros((N, C, *out)), np.zeros((N, C, *out), np.int32)
    for n, c, oh, ow in np.ndindex(y.shape):
        window = [
            (x[n, c, ih, iw], ih * IW + iw)
            for kh, kw in itertools.product(range(size[0]), range(size[1]))
            if 0 <= (ih := oh * stride[0] + kh * dilation[0] - top) < IH
            and 0 <= (iw := ow * stride[1] + kw * dilation[1] - left) < IW
        ]
        nan = [pixel for pixel in window if math.isnan(pixel[0])]
        y[n, c, oh, ow], indices[n, c, oh, ow] = (
            nan[-1] if nan else max(window, key=lambda pixel: (pixel[0], -pixel[1]))
        )
    return y, indices


def test_pooling_is_the_plain_loop(rng):
    for _ in range(200):
        size, stride, dilation = ([int(v) for v in rng.integers(1, 4, 2)] for _ in range(3))
        padding = [int(rng.integers(0, k // 2 + 1)) for k in size]
        extent = [int(v) for v in rng.integers(3, 12, 2)]
        reach = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
        out = [
            (i + 2 * p - r) // s + 1
            for i, p, r, s in zip(extent, padding, reach, stride, strict=True)
        ]
        if min(out) < 1:
            continue
        x = integers(rng, (2, 3, *extent), 3, np.float64)
        x[rng.random(x.shape) < 0.02] = np.nan
        pads = [(p, p) for p in padding]
        y, indices = plain_pool(x, size, stride, pads, dilation, out)
        what = (x.shape, size, stride, padding, dilation)
        got, got_indices = reference.max_pool2d(
            x,
            tuple(size),
            stride=tuple(stride),
            padding=tuple(padding),
            dilation=tuple(dilation),
            return_indices=True,
        )
        assert_same(got, y, what)
        assert_same(got_indices, indices, what)

        dy = integers(rng, y.shape, dtype=np.float64)
        dx = np.zeros(x.shape)
        for n, c, oh, ow in np.ndindex(y.shape):
            dx[n, c, *divmod(int(indices[n, c, oh, ow]), x.shape[3])] += dy[n, c, oh, ow]
        assert_same(reference.max_pool2d_backward(dy, indices, x.shape), dx, what)


# (I, K, stride, padding) -> windows without and with ceil_mode
CEIL = {
    (5, 2, 2, 0): (2, 3),
    (6, 2, 2, 0): (3, 3),
    (6, 3, 2, 0): (2, 3),
    (7, 3, 2, 1): (4, 4),
    (7, 2, 3, 1): (3, 3),
    (8, 2, 3, 1): (3, 3),
    (5, 2, 4, 1): (2, 2),
    (6, 1, 3, 0): (2, 2),
}


@pytest.mark.parametrize("case", CEIL, ids=str)
def test_ceil_mode(case):
    (size, k, stride, padding), expected = case, CEIL[case]
    x = np.arange(float(size)).reshape(1, 1, size, 1)
    rest = {"stride": (stride, 1), "padding": (padding, 0)}
    got = [reference.max_pool2d(x, (k, 1), ceil_mode=c, **rest).shape[2] for c in (False, True)]
    assert tuple(got) == expected


# -- everything else -------------------------------------------------------------------------------


def test_dense_is_the_plain_loop(rng):
    x, kernel, bias = (integers(rng, shape, dtype=np.float64) for shape in ((5, 7), (3, 7), (3,)))
    dy = integers(rng, (5, 3), dtype=np.float64)
    y = [[sum(a * b for a, b in zip(image, row, strict=True)) for row in kernel] for image in x]
    assert_same(reference.dense(x, kernel, bias), np.array(y) + bias, "dense")
    assert_same(
        reference.dense(x, kernel, bias, activation="relu"), np.maximum(y + bias, 0), "dense, relu"
    )
    dx, dkernel, dbias = np.zeros(x.shape), np.zeros(kernel.shape), np.zeros(3)
    for n, o, i in np.ndindex(5, 3, 7):
        dx[n, i] += dy[n, o] * kernel[o, i]
        dkernel[o, i] += dy[n, o] * x[n, i]
        dbias[o] += dy[n, o] if i == 0 else 0
    for got, expected in zip(
        reference.dense_backward(dy, x, kernel), (dx, dkernel, dbias), strict=True
    ):
        assert_same(got, expected, "dense_backward")


def test_softmax_is_scipys(rng):
    special = pytest.importorskip("scipy.special")
    x = 20 * rng.standard_normal((6, 9))
    np.testing.assert_allclose(reference.softmax(x), special.softmax(x, axis=1), rtol=1e-13)
    np.testing.assert_allclose(reference.log_softmax(x), special.log_softmax(x, axis=1), rtol=1e-13)
    labels = rng.integers(0, 9, 6)
    loss, dlogits = reference.softmax_cross_entropy(x, labels)
    expected = -sum(special.log_softmax(x[n])[labels[n]] for n in range(6)) / 6
    assert loss == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(
        dlogits, (special.softmax(x, axis=1) - np.eye(9)[labels]) / 6, atol=1e-15
    )


@pytest.mark.parametrize("order", ORDERS)
def test_results_come_in_the_order_of_the_input(order, rng):
    x, dy, dp = (in_order(rng.standard_normal((2, c, 6, 7)), order) for c in (3, 5, 3))
    kernel = rng.standard_normal((5, 3, 3, 3))
    for result in (
        reference.conv2d(x, kernel, padding=1),
        reference.conv2d_backward_input(dy, kernel, x.shape, padding=1),
        *reference.max_pool2d(x, 3, return_indices=True),
        reference.max_pool2d_backward(dp, np.zeros(dp.shape, np.int32), (2, 3, 12, 14)),
    ):
        assert in_order(result, order).strides == result.strides


def test_order_of_arrays(rng):
    x = rng.standard_normal((2, 3, 4, 5))
    last = reference.as_channels_last(x)
    assert last.transpose(0, 2, 3, 1).flags.c_contiguous
    assert reference.as_channels_last(last) is last
    assert reference.as_contiguous(x) is x
    assert reference.as_contiguous(last).flags.c_contiguous
    assert_same(last, x, "as_channels_last")
    assert reference.empty((3, 4, 5), np.float32, channels_last=True).strides == (4, 60, 12)


def test_unbatched(rng):
    x, kernel = integers(rng, (2, 3, 6, 7)), integers(rng, (5, 3, 3, 3))
    y = reference.conv2d(x, kernel)
    assert_same(reference.conv2d(x[1], kernel), y[1], "conv2d")
    dx = reference.conv2d_backward_input(y, kernel, x.shape)
    assert_same(reference.conv2d_backward_input(y[1], kernel, x.shape[1:]), dx[1], "input")
    dk = reference.conv2d_backward_kernel(y[1:], x[1:], kernel.shape)
    assert_same(reference.conv2d_backward_kernel(y[1], x[1], kernel.shape), dk, "kernel")
    pooled, indices = reference.max_pool2d(x, 2, return_indices=True)
    one, one_indices = reference.max_pool2d(x[1], 2, return_indices=True)
    assert_same(one, pooled[1], "max_pool2d")
    assert_same(one_indices, indices[1], "indices")
    dx = reference.max_pool2d_backward(pooled, indices, x.shape)
    assert_same(reference.max_pool2d_backward(one, one_indices, x.shape[1:]), dx[1], "pool")


def test_out(rng):
    x, kernel = integers(rng, (2, 3, 6, 7)), integers(rng, (5, 3, 3, 3))
    y = np.empty((2, 5, 4, 5), np.float32)
    assert reference.conv2d(x, kernel, out=y) is y
    assert_same(y, reference.conv2d(x, kernel), "out")
    with pytest.raises(ValueError, match="out"):
        reference.conv2d(x, kernel, out=y.astype(np.float64))
