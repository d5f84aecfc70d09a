"""Average and global pooling: plain loops, PyTorch, gradients, and the same bits in any company.

Sums of small integers are exact, and a quotient is rounded once: so forward results are compared
with ``==``. Shares of a gradient are exact too where all windows are divided by one number; where
windows at the border are divided by less, they are compared within rounding.
"""

import math

import numpy as np
import pytest
from arrays import LAYOUTS, ORDERS, assert_same, assert_same_bits, in_order, integers
from shapes import TILE_EDGES

import fastconv
from fastconv import reference


def random_pools(count: int, seed: int):
    rng = np.random.default_rng(seed)
    pools = []
    while len(pools) < count:
        size = tuple(map(int, rng.integers(1, 6, 2)))
        extent = [int(rng.choice((rng.integers(1, 12), rng.choice(TILE_EDGES)))) for _ in "hw"]
        channels = int(rng.choice((rng.integers(1, 9), rng.choice(TILE_EDGES))))
        stride = tuple(map(int, rng.integers(1, 6, 2)))
        keywords = {
            "stride": [None, stride, stride[0]][rng.integers(3)],
            "padding": [0, tuple(int(rng.integers(0, k // 2 + 1)) for k in size)][rng.integers(2)],
            "ceil_mode": bool(rng.random() < 0.4),
            "count_include_pad": bool(rng.random() < 0.6),
        }
        pads = keywords["padding"] or (0, 0)
        if any(n + 2 * p < k for n, p, k in zip(extent, pads, size, strict=True)):
            continue
        batch = int(rng.choice((0, 1, 2, 3), p=(0.02, 0.5, 0.28, 0.2)))
        pools.append(((batch, channels, *extent), size, keywords))
    return pools


POOLS = random_pools(400, seed=31)
PLAIN = [pool for pool in random_pools(900, seed=32) if 0 < math.prod(pool[0]) < 1000]


def plain_pool(x, size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """Each window by itself, and its divisor; the definition of PyTorch's documentation."""
    stride = stride if stride is not None else size
    stride, padding = (p if isinstance(p, tuple) else (p, p) for p in (stride, padding))
    axes = []
    for n, k, s, p in zip(x.shape[2:], size, stride, padding, strict=True):
        count = (math.ceil if ceil_mode else math.floor)((n + 2 * p - k) / s) + 1
        if (count - 1) * s >= n + p:  # windows must start in the image or in front of it
            count -= 1
        bounds = [(o * s - p, min(o * s - p + k, n + p)) for o in range(count)]
        axes.append([(max(a, 0), min(b, n), b - a) for a, b in bounds])
    y = np.empty((*x.shape[:2], len(axes[0]), len(axes[1])))
    divisors = np.empty(y.shape[2:])
    dx = [np.zeros(x.shape) for _ in range(y[0, 0].size)] if y.size else []
    for oh, (top, bottom, rows) in enumerate(axes[0]):
        for ow, (left, right, columns) in enumerate(axes[1]):
            inside = (bottom - top) * (right - left)
            divisors[oh, ow] = rows * columns if count_include_pad else inside
            window = x[:, :, top:bottom, left:right]
            y[:, :, oh, ow] = window.sum(axis=(2, 3)) / divisors[oh, ow]
            if dx:
                dx[oh * y.shape[3] + ow][:, :, top:bottom, left:right] = 1 / divisors[oh, ow]
    return y, divisors, dx


def test_the_reference_is_the_plain_loop(rng):
    for shape, size, keywords in PLAIN:
        x = integers(rng, shape, dtype=np.float64)
        y, _, shares = plain_pool(x, size, **keywords)
        what = (shape, size, keywords)
        assert_same(reference.avg_pool2d(x, size, **keywords), y, what)
        dy = rng.standard_normal(y.shape)
        dx = reference.avg_pool2d_backward(dy, shape, size, **keywords)
        weights = dy.reshape(*dy.shape[:2], -1)
        expected = sum(
            (share * weights[:, :, i, None, None] for i, share in enumerate(shares)),
            start=np.zeros(shape),
        )
        np.testing.assert_allclose(dx, expected, atol=1e-13, err_msg=str(what))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_averages(dtype, order, isa, rng):
    for shape, size, keywords in POOLS:
        what = f"{shape}, {size}, {keywords}, {order}"
        x = integers(rng, shape, dtype=dtype)
        y = fastconv.avg_pool2d(in_order(x, order), size, **keywords)
        assert_same(y, reference.avg_pool2d(x, size, **keywords), what)

        dy = integers(rng, y.shape, dtype=dtype)
        dx = fastconv.avg_pool2d_backward(in_order(dy, order), shape, size, **keywords)
        expected = reference.avg_pool2d_backward(dy, shape, size, **keywords)
        _, divisors, _ = plain_pool(np.zeros((1, 1, *shape[2:])), size, **keywords)
        if len(np.unique(divisors)) == 1 and math.log2(divisors[0, 0]) % 1 == 0:
            assert_same(dx, expected, what)
        else:
            assert dx.dtype == dtype
            tolerance = 40 * 32 * np.finfo(dtype).eps
            np.testing.assert_allclose(dx, expected, rtol=0, atol=tolerance, err_msg=what)


ADAPTIVE = [
    ((2, 3, 7, 9), (3, 4)),
    ((1, 17, 5, 5), 1),
    ((3, 64, 7, 7), (1, 1)),
    ((2, 5, 3, 4), (6, 9)),  # more windows than pixels
    ((1, 33, 13, 1), (5, 3)),
    ((0, 2, 4, 4), 2),
    ((2, 16, 32, 31), (7, 31)),
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape, size", ADAPTIVE)
def test_adaptive(shape, size, order, isa, rng):
    x = integers(rng, shape)
    y = fastconv.adaptive_avg_pool2d(in_order(x, order), size)
    assert_same(y, reference.adaptive_avg_pool2d(x, size), (shape, size))
    dy = rng.standard_normal(y.shape)
    dx = fastconv.adaptive_avg_pool2d_backward(in_order(dy, order), shape)
    expected = reference.adaptive_avg_pool2d_backward(dy, shape)
    np.testing.assert_allclose(dx, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 1280, 7, 7), (3, 17, 1, 1), (0, 4, 3, 3)])
def test_global(shape, dtype, order, isa, rng):
    x = integers(rng, shape, dtype=dtype)
    xo = in_order(x, order)
    assert_same(fastconv.global_avg_pool2d(xo), reference.global_avg_pool2d(x), shape)
    y, indices = fastconv.global_max_pool2d(xo, return_indices=True)
    expected, places = reference.global_max_pool2d(x, return_indices=True)
    assert_same(y, expected, shape)
    assert_same(indices, places, shape)
    assert_same(fastconv.global_max_pool2d(xo), expected, shape)
    assert_same(reference.global_avg_pool2d(x), x.mean(axis=(2, 3), dtype=float).astype(dtype), x)
    assert_same(expected, x.max(axis=(2, 3)), shape)

    last = order == "channels_last"
    dy = integers(rng, y.shape, dtype=dtype)
    for got, wanted in (
        (
            fastconv.global_avg_pool2d_backward(dy, shape, channels_last=last),
            reference.global_avg_pool2d_backward(dy, shape, channels_last=last),
        ),
        (
            fastconv.global_max_pool2d_backward(dy, indices, shape, channels_last=last),
            reference.global_max_pool2d_backward(dy, indices, shape, channels_last=last),
        ),
    ):
        assert_same(got, wanted, shape)
        if got.size and shape[2] > 1:
            assert got.strides == in_order(got, order).strides == wanted.strides
    if dy.size:
        one = fastconv.global_avg_pool2d_backward(dy[0], shape[1:], channels_last=last)
        assert_same_bits(one, fastconv.global_avg_pool2d_backward(dy, shape)[0], shape)


def calls(x, order):
    """Every result there is for one image or batch."""
    x = in_order(x, order)
    y = fastconv.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
    z = fastconv.adaptive_avg_pool2d(x, (3, 2))
    return {
        "avg": y,
        "side by side": fastconv.avg_pool2d(x, 2),
        "avg backward": fastconv.avg_pool2d_backward(
            y, x.shape, 3, stride=2, padding=1, count_include_pad=False
        ),
        "adaptive": z,
        "adaptive backward": fastconv.adaptive_avg_pool2d_backward(z, x.shape),
        "global": fastconv.global_avg_pool2d(x),
    }


@pytest.mark.parametrize("channels", [1, 3, 16, 70])
def test_the_same_bits(channels, isa, rng):
    """In both orders, for any threads, alone or in a batch, on real values."""
    x = rng.standard_normal((40, channels, 41, 38), np.float32)
    fastconv.set_num_threads(1)
    expected = calls(x, "contiguous")
    for threads in (1, 2, 3, 7):
        fastconv.set_num_threads(threads)
        for order in ORDERS:
            for name, result in calls(x, order).items():
                assert_same_bits(result, expected[name], f"{name}, {order}, {threads}")
    for order in ORDERS:
        for name, result in calls(x[7], order).items():
            assert_same_bits(result, expected[name][7], f"{name}, unbatched")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, rng):
    for channels in (1, 5):
        for extent in ((9, 7), (1, 1), (6, 1)):
            x = rng.standard_normal((2, channels, *extent)).astype(np.float32)
            expected = fastconv.avg_pool2d(x, 2, stride=1, padding=1)
            got = fastconv.avg_pool2d(LAYOUTS[layout](x), 2, stride=1, padding=1)
            assert_same_bits(got, expected, layout)
            for moved in (in_order(x, "channels_last"), np.broadcast_to(x[:1], x.shape)):
                assert_same_bits(
                    fastconv.adaptive_avg_pool2d(moved, (3, 2)),
                    fastconv.adaptive_avg_pool2d(moved.copy(), (3, 2)),
                    layout,
                )


def test_special_values():
    x = np.ones((1, 2, 4, 4), np.float32)
    x[0, 0, 0, 0], x[0, 1, 3, 3] = np.nan, np.inf
    for order in ORDERS:
        assert_same(
            fastconv.avg_pool2d(in_order(x, order), 2), reference.avg_pool2d(x, 2), "NaN stays"
        )


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x: fastconv.avg_pool2d(x[0, 0], 2), ValueError, r"x: expected shape \(N, C, H, W"),
        (lambda x: fastconv.avg_pool2d(x, 2, padding=2), ValueError, "padding: expected at most"),
        (lambda x: fastconv.avg_pool2d(x, 9), ValueError, "size: expected a window of at most"),
        (lambda x: fastconv.avg_pool2d(x, 2, ceil_mode=1), TypeError, "ceil_mode: expected a bool"),
        (
            lambda x: fastconv.avg_pool2d(x, 2, count_include_pad=None),
            TypeError,
            "count_include_pad: expected a bool",
        ),
        (lambda x: fastconv.avg_pool2d(x[..., :0], 2), ValueError, "x: expected at least one"),
        (lambda x: fastconv.avg_pool2d(x * 1j, 2), TypeError, "x: expected a float32"),
        (
            lambda x: fastconv.avg_pool2d_backward(x, (2, 3, 9, 9), 2),
            ValueError,
            "dy: expected 4 x 4 windows, got",
        ),
        (
            lambda x: fastconv.avg_pool2d_backward(x, (2, 4, 10, 12), 2),
            ValueError,
            "input_shape: expected dy's batch and channels",
        ),
        (
            lambda x: fastconv.adaptive_avg_pool2d(x, (2, 0)),
            ValueError,
            "output_size: expected an integer from 1",
        ),
        (
            lambda x: fastconv.adaptive_avg_pool2d_backward(x, (2, 3, 0, 4)),
            ValueError,
            "input_shape: expected at least one row",
        ),
        (lambda x: fastconv.global_max_pool2d(x[0, 0]), ValueError, "x: expected shape"),
        (lambda x: fastconv.global_max_pool2d(x[:, :, :0]), ValueError, "x: expected at least one"),
        (
            lambda x: fastconv.global_avg_pool2d_backward(x, x.shape),
            ValueError,
            r"dy: expected shape \(N, C\) or \(C,\), got \(2, 3, 5, 6\)",
        ),
        (
            lambda x: fastconv.global_avg_pool2d_backward(x[..., 0, 0], x.shape, channels_last=1),
            TypeError,
            "channels_last: expected a bool",
        ),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((2, 3, 5, 6), np.float32))


@pytest.mark.parametrize("order", ORDERS)
def test_torch(order, rng):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    for shape, size, keywords in POOLS[::4]:
        if not shape[0]:
            continue
        x = rng.standard_normal(shape)
        tx = torch.tensor(x, requires_grad=True)
        ty = F.avg_pool2d(tx, size, **keywords)
        y = fastconv.avg_pool2d(in_order(x, order), size, **keywords)
        np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-12, atol=1e-12)
        dy = rng.standard_normal(y.shape)
        ty.backward(torch.tensor(dy))
        dx = fastconv.avg_pool2d_backward(in_order(dy, order), shape, size, **keywords)
        np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-12, atol=1e-12)
    for shape, size in ADAPTIVE:
        if not shape[0]:
            continue
        tx = torch.tensor(rng.standard_normal(shape), requires_grad=True)
        ty = F.adaptive_avg_pool2d(tx, size)
        x = in_order(tx.detach().numpy(), order)
        y = fastconv.adaptive_avg_pool2d(x, size)
        np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-12, atol=1e-12)
        dy = rng.standard_normal(y.shape)
        ty.backward(torch.tensor(dy))
        dx = fastconv.adaptive_avg_pool2d_backward(in_order(dy, order), shape)
        np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-12, atol=1e-12)
