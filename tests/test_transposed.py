"""Transposed convolution: plain loops, the reference, PyTorch, and its kinship with `conv2d`."""

import numpy as np
import pytest
from arrays import LAYOUTS, ORDERS, assert_same, assert_same_bits, in_order, integers
from shapes import TILE_EDGES

import fastconv
from fastconv import reference


def random_cases(count: int, seed: int):
    """``(x shape, kernel shape, keywords)``: every argument in every combination."""
    rng = np.random.default_rng(seed)
    cases = []
    while len(cases) < count:
        groups = int(rng.choice((1, 1, 1, 2, 3)))
        few = int(rng.integers(1, 5)), int(rng.integers(1, 5))
        if rng.random() < 0.3:
            few = int(rng.choice(TILE_EDGES)), int(rng.choice(TILE_EDGES))
        if rng.random() < 0.2:
            groups, few = int(rng.choice((2, 5, 16, 33))), (1, int(rng.integers(1, 3)))
        size = [int(n) for n in rng.integers(1, 5, 2)]
        stride, dilation = (tuple(map(int, rng.integers(1, 4, 2))) for _ in range(2))
        image = [int(n) for n in rng.integers(1, 10, 2)]
        more = tuple(
            int(rng.integers(0, max(s, d))) if rng.random() < 0.5 else 0
            for s, d in zip(stride, dilation, strict=True)
        )
        pads = tuple(
            tuple(int(rng.integers(0, (k - 1) * d + 2)) for _ in range(2))
            for k, d in zip(size, dilation, strict=True)
        )
        padding = [0, (pads[0][0], pads[1][0]), pads, "same", "valid"][rng.integers(5)]
        if padding == "same":
            more = 0
        keywords = {
            "stride": stride if rng.random() < 0.7 else stride[0],
            "padding": padding,
            "output_padding": more,
            "dilation": dilation if rng.random() < 0.5 else 1,
            "groups": groups,
        }
        if keywords["stride"] == stride[0] or keywords["dilation"] == 1:
            keywords["output_padding"] = 0
        x_shape = (int(rng.choice((1, 1, 2, 3))), groups * few[0], *image)
        kernel_shape = (groups * few[0], few[1], *size)
        try:
            empty = np.zeros((0, *x_shape[1:]))
            fastconv.conv_transpose2d(empty, np.ones(kernel_shape), **keywords)
        except ValueError as error:
            assert "padding: expected to leave" in str(error)
            continue
        cases.append((x_shape, kernel_shape, keywords))
    return cases


CASES = random_cases(400, seed=41)


def plain(x, kernel, stride, pads, more, dilation, groups):
    """Pixel by pixel, as the docstring says it."""
    N, IC, IH, IW = x.shape
    _, OC_G, KH, KW = kernel.shape
    shape = [
        (n - 1) * s - sum(p) + d * (k - 1) + m + 1
        for n, s, p, d, k, m in zip((IH, IW), stride, pads, dilation, (KH, KW), more, strict=True)
    ]
    y = np.zeros((N, OC_G * groups, *shape))
    for n, ic, ih, iw in np.ndindex(x.shape):
        g = ic // (IC // groups)
        for oc, kh, kw in np.ndindex(kernel.shape[1:]):
            oh = ih * stride[0] + kh * dilation[0] - pads[0][0]
            ow = iw * stride[1] + kw * dilation[1] - pads[1][0]
            if 0 <= oh < shape[0] and 0 <= ow < shape[1]:
                y[n, g * OC_G + oc, oh, ow] += kernel[ic, oc, kh, kw] * x[n, ic, ih, iw]
    return y


def explicit(case):
    """Stride, pads, output padding and dilation as pairs."""
    x_shape, kernel_shape, keywords = case
    stride, dilation, more = (
        value if isinstance(value, tuple) else (value, value)
        for value in (keywords["stride"], keywords["dilation"], keywords["output_padding"])
    )
    padding = keywords["padding"]
    if padding == "same":
        total = [
            max((n - 1) * s + (k - 1) * d + 1 - n * s, 0)
            for n, k, s, d in zip(x_shape[2:], kernel_shape[2:], stride, dilation, strict=True)
        ]
        pads = tuple((t // 2, t - t // 2) for t in total)
        # A stride longer than the kernel leaves rows that no pixel reaches.
        more = tuple(
            max(n * s - (n - 1) * s - (k - 1) * d - 1, 0)
            for n, k, s, d in zip(x_shape[2:], kernel_shape[2:], stride, dilation, strict=True)
        )
    elif padding == "valid":
        pads = ((0, 0), (0, 0))
    else:
        pads = tuple(
            p if isinstance(p, tuple) else (p, p)
            for p in (padding if isinstance(padding, tuple) else (padding, padding))
        )
    return stride, pads, more, dilation


def test_the_reference_is_the_plain_loop(rng):
    for case in CASES[::5]:
        x_shape, kernel_shape, keywords = case
        if np.prod(x_shape) * np.prod(kernel_shape[1:]) > 30000:
            continue
        x, kernel = (integers(rng, s, dtype=np.float64) for s in (x_shape, kernel_shape))
        y = plain(x, kernel, *explicit(case), keywords["groups"])
        assert_same(reference.conv_transpose2d(x, kernel, **keywords), y, case)
        dy = integers(rng, y.shape, dtype=np.float64)
        dx = reference.conv_transpose2d_backward_input(dy, kernel, x_shape, **keywords)
        dk = reference.conv_transpose2d_backward_kernel(dy, x, kernel_shape, **keywords)
        assert np.vdot(dy, y) == np.vdot(dx, x) == np.vdot(dk, kernel), case


def three_passes(case, x, kernel, bias, dy, order, **out):
    x_shape, kernel_shape, keywords = case
    x, dy = in_order(x, order), in_order(dy, order)
    return {
        "forward": fastconv.conv_transpose2d(x, kernel, bias, **keywords),
        "relu": fastconv.conv_transpose2d(x, kernel, bias, activation="relu", **keywords),
        "input": fastconv.conv_transpose2d_backward_input(
            dy, kernel, x_shape[-x.ndim :], **keywords
        ),
        "kernel": fastconv.conv_transpose2d_backward_kernel(dy, x, kernel_shape, **keywords),
    }


def operands(rng, case, dtype=np.float32, amplitude=8):
    x_shape, kernel_shape, keywords = case
    y_shape = fastconv.conv_transpose2d(np.zeros(x_shape), np.ones(kernel_shape), **keywords).shape
    return [
        integers(rng, shape, amplitude, dtype)
        for shape in (x_shape, kernel_shape, y_shape[1:2], y_shape)
    ]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_three_passes(dtype, order, isa, rng):
    for case in CASES:
        x_shape, kernel_shape, keywords = case
        x, kernel, bias, dy = operands(rng, case, dtype)
        got = three_passes(case, x, kernel, bias, dy, order)
        expected = {
            "forward": reference.conv_transpose2d(x, kernel, bias, **keywords),
            "relu": reference.conv_transpose2d(x, kernel, bias, activation="relu", **keywords),
            "input": reference.conv_transpose2d_backward_input(dy, kernel, x_shape, **keywords),
            "kernel": reference.conv_transpose2d_backward_kernel(dy, x, kernel_shape, **keywords),
        }
        for name, result in got.items():
            assert_same(result, expected[name], f"{name}: {case}, {order}")
            if name != "kernel" and not {1} & {*x.shape, *dy.shape}:
                assert in_order(result, order).strides == result.strides


def test_it_is_the_gradient_of_a_convolution(rng):
    """On real values too, bit by bit: it is the same engine."""
    x, kernel = rng.standard_normal((2, 24, 9, 11)), rng.standard_normal((24, 8, 3, 3))
    rest = {"stride": 2, "padding": 1, "groups": 2}
    y = fastconv.conv_transpose2d(x, kernel, output_padding=1, **rest)
    assert y.shape == (2, 16, 18, 22)
    assert_same_bits(y, fastconv.conv2d_backward_input(x, kernel, y.shape, **rest), "forward")
    dx = fastconv.conv_transpose2d_backward_input(y, kernel, x.shape, output_padding=1, **rest)
    assert_same_bits(dx, fastconv.conv2d(y, kernel, **rest), "input gradient")


def test_the_same_bits(rng):
    cases = [
        ((24, 16, 14, 15), (16, 24, 4, 4), {"stride": 2, "padding": 1}),
        ((24, 40, 14, 15), (40, 1, 3, 3), {"groups": 40, "padding": 1}),
        ((24, 7, 14, 15), (7, 3, 5, 5), {"stride": (2, 3), "dilation": 2, "output_padding": 1}),
    ]
    for case in cases:
        *arrays, y = operands(rng, case)
        arrays = [rng.standard_normal(a.shape, np.float32) for a in (*arrays, y)]
        fastconv.set_num_threads(1)
        expected = three_passes(case, *arrays, "contiguous")
        for threads in (1, 2, 5):
            fastconv.set_num_threads(threads)
            for order in ORDERS:
                for name, result in three_passes(case, *arrays, order).items():
                    assert_same_bits(result, expected[name], f"{name}, {order}, {threads}: {case}")
        x, kernel, bias, dy = arrays
        alone = three_passes(case, x[3], kernel, bias, dy[3], "channels_last")
        for name in ("forward", "relu", "input"):
            assert_same_bits(alone[name], expected[name][3], f"{name} unbatched: {case}")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_out(layout, rng):
    case = ((2, 5, 6, 7), (5, 3, 3, 2), {"stride": 2, "output_padding": 1})
    x, kernel, bias, dy = operands(rng, case)
    expected = fastconv.conv_transpose2d(x, kernel, bias, **case[2])
    moved = [LAYOUTS[layout](a) for a in (x, kernel, bias)]
    assert_same_bits(fastconv.conv_transpose2d(*moved, **case[2]), expected, layout)
    out = LAYOUTS[layout](np.zeros_like(expected))
    if out.flags.writeable and out.dtype == expected.dtype and out.dtype.isnative:
        assert fastconv.conv_transpose2d(x, kernel, bias, out=out, **case[2]) is out
        assert_same(out, expected, layout)
    dx, dk = np.empty_like(x), np.empty_like(kernel)
    rest = case[2]
    fastconv.conv_transpose2d_backward_input(dy, kernel, x.shape, out=dx, **rest)
    assert_same(dx, reference.conv_transpose2d_backward_input(dy, kernel, x.shape, **rest), layout)
    fastconv.conv_transpose2d_backward_kernel(dy, x, kernel.shape, out=dk, **rest)
    assert_same(dk, reference.conv_transpose2d_backward_kernel(dy, x, kernel.shape, **rest), layout)


def test_empty_batches():
    x, kernel = np.zeros((0, 3, 4, 5)), np.ones((3, 2, 3, 3))
    y = fastconv.conv_transpose2d(x, kernel, stride=2)
    assert y.shape == (0, 2, 9, 11)
    assert fastconv.conv_transpose2d_backward_input(y, kernel, x.shape, stride=2).shape == x.shape
    dk = fastconv.conv_transpose2d_backward_kernel(y, x, kernel.shape, stride=2)
    assert_same(dk, np.zeros(kernel.shape), "no image, no gradient")


X, K = np.zeros((2, 4, 5, 6)), np.zeros((4, 3, 3, 3))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda f: f(X[0, 0], K), ValueError, r"x: expected shape \(N, IC, IH, IW\)"),
        (lambda f: f(X[:, :0], K), ValueError, "x: expected at least one channel"),
        (lambda f: f(X, K[0]), ValueError, r"kernel: expected shape \(IC, OC // groups, KH, KW\)"),
        (lambda f: f(X, K[:3]), ValueError, r"kernel: .* with IC = 4, got \(3, 3, 3, 3\)"),
        (lambda f: f(X, K[:, :0]), ValueError, "kernel: expected no empty dimension"),
        (lambda f: f(X, K, groups=3), ValueError, "groups: expected a divisor of the 4 input"),
        (lambda f: f(X, K, np.zeros(4)), ValueError, r"bias: expected shape \(3,\)"),
        (lambda f: f(X, K, stride=0), ValueError, "stride: expected an integer from 1"),
        (lambda f: f(X, K, padding=9), ValueError, "padding: expected to leave a row"),
        (lambda f: f(X, K, padding="full"), ValueError, "padding: expected"),
        (lambda f: f(X, K, stride=2, output_padding=2), ValueError, "output_padding: expected"),
        (
            lambda f: f(X, K, stride=2, padding="same", output_padding=1),
            ValueError,
            'output_padding: expected 0 with padding "same"',
        ),
        (lambda f: f(X, K, activation="tan"), ValueError, "activation: expected"),
        (lambda f: f(X, K, out=np.zeros((2, 3, 7, 7))), ValueError, "out: expected shape"),
        (lambda f: f(X * 1j, K), TypeError, "x: expected a float32"),
        (
            lambda f: fastconv.conv_transpose2d_backward_input(X, K, X.shape),
            ValueError,
            r"dy: expected shape \(2, 3, 7, 8\), got \(2, 4, 5, 6\)",
        ),
        (
            lambda f: fastconv.conv_transpose2d_backward_input(X, K, (4, 5, 6)),
            ValueError,
            "input_shape: expected 4 sizes",
        ),
        (
            lambda f: fastconv.conv_transpose2d_backward_kernel(X, X[0], K.shape),
            ValueError,
            "dy: expected 3 dimensions like x",
        ),
        (
            lambda f: fastconv.conv_transpose2d_backward_kernel(X, X, 3),
            TypeError,
            "kernel_shape: expected a tuple",
        ),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(fastconv.conv_transpose2d)


@pytest.mark.parametrize("order", ORDERS)
def test_torch(order, rng):
    torch = pytest.importorskip("torch")
    asked = 0
    for case in CASES:
        keywords = case[2]
        _, pads, more, _ = explicit(case)
        if keywords["padding"] == "same" or any(a != b for a, b in pads):
            continue  # PyTorch cuts both sides alike
        asked += 1
        arrays = [rng.standard_normal(a.shape) for a in operands(rng, case)]
        x, kernel, bias = (torch.tensor(a, requires_grad=True) for a in arrays[:3])
        y = torch.nn.functional.conv_transpose2d(
            x, kernel, bias, keywords["stride"], (pads[0][0], pads[1][0]), more,
            keywords["groups"], keywords["dilation"],
        )  # fmt: skip
        y.backward(torch.tensor(arrays[3]))
        got = three_passes(case, *arrays, order)
        for name, expected in (("forward", y), ("input", x.grad), ("kernel", kernel.grad)):
            np.testing.assert_allclose(
                got[name], expected.detach().numpy(), rtol=1e-10, atol=1e-10, err_msg=str(case)
            )
        assert np.allclose(fastconv.conv2d_backward_bias(arrays[3]), bias.grad.numpy())
    assert asked > 100
