"""Max pooling by taps: the same maxima, the tap that each came from, and the same gradient."""

import numpy as np
import pytest
from arrays import LAYOUTS, ORDERS, assert_same, assert_same_bits, in_order, integers
from test_pooling import POOLS

import fastconv
from fastconv import reference
from fastconv.training import max_pool2d_taps, max_pool2d_taps_backward

# Windows of more taps than a byte can number, whole and cut.
LARGE = [
    ((2, 5, 17, 40), (16, 17), {"stride": (3, 5)}),
    ((1, 3, 20, 20), 17, {"padding": 8, "stride": 2}),
    ((1, 2, 60, 9), (33, 9), {"dilation": (1, 1), "ceil_mode": True, "stride": (26, 9)}),
]


def places_of(taps, shape, size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """Where in its plane each tap lies, window by window."""
    pairs = [v if isinstance(v, tuple) else (v, v) for v in (size, stride or size)]
    (_, KW), (sh, sw) = pairs
    ph, pw = padding if isinstance(padding, tuple) else (padding, padding)
    dh, dw = dilation if isinstance(dilation, tuple) else (dilation, dilation)
    places = np.empty(taps.shape, np.int32)
    for *plane, oh, ow in np.ndindex(*taps.shape):
        tap = int(taps[(*plane, oh, ow)])
        row, column = oh * sh - ph + tap // KW * dh, ow * sw - pw + tap % KW * dw
        assert 0 <= row < shape[-2] and 0 <= column < shape[-1]
        places[(*plane, oh, ow)] = row * shape[-1] + column
    return places


def geometry(keywords):
    return {name: value for name, value in keywords.items() if name != "ceil_mode"}


def check(x, size, keywords, order, rng, places=True):
    what = f"x {x.shape}, size {size}, {keywords}, {order}"
    expected, indices = reference.max_pool2d(x, size, return_indices=True, **keywords)
    xo = in_order(x, order)
    y, taps = max_pool2d_taps(xo, size, **keywords)
    assert_same(y, expected, what)
    assert y.strides == fastconv.max_pool2d(xo, size, **keywords).strides
    KH, KW = size if isinstance(size, tuple) else (size, size)
    assert taps.dtype == (np.uint8 if KH * KW <= 256 else np.int32)
    assert np.moveaxis(taps, -3, -1).flags.c_contiguous
    if places:
        assert_same(places_of(taps, x.shape, size, **keywords), indices, what)

    dy = integers(rng, y.shape, dtype=x.dtype)
    dx = reference.max_pool2d_backward(dy, indices, x.shape)
    got = max_pool2d_taps_backward(in_order(dy, order), taps, x.shape, size, **geometry(keywords))
    assert_same(got, dx, f"gradient, {what}")
    if min(dy.shape) > 1:  # otherwise dy may be in both orders
        assert got.strides == in_order(dx, order).strides
    relu = reference.relu_backward(dx, x)
    got = max_pool2d_taps_backward(
        in_order(dy, order), taps, x.shape, size, y=in_order(y, order), **geometry(keywords)
    )
    assert_same(got, relu, f"gradient of ReLU, {what}")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunk", range(4))
def test_taps(chunk, dtype, order, isa, rng):
    for n, (shape, size, keywords) in enumerate(POOLS[chunk::4]):
        x = rng.standard_normal(shape).astype(dtype)
        check(x, size, keywords, order, rng, places=n % 10 == 0)


@pytest.mark.parametrize("order", ORDERS)
def test_ties_and_special_values(order, isa, rng):
    for n, (shape, size, keywords) in enumerate(POOLS[::3]):
        check(integers(rng, shape, 1), size, keywords, order, rng, places=n % 20 == 0)
        x = rng.standard_normal(shape).astype(np.float32)
        for special in (np.nan, -np.inf, np.inf):
            x[rng.random(shape) < 0.2] = special
        check(x, size, keywords, order, rng, places=n % 20 == 0)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape, size, keywords", LARGE)
def test_large_windows(shape, size, keywords, order, rng):
    check(integers(rng, shape, 3), size, keywords, order, rng)


@pytest.mark.parametrize("order", ORDERS)
def test_a_window_of_256_taps_fits_a_byte(order, isa, rng):
    check(integers(rng, (2, 19, 37, 33)), 16, {"stride": (7, 5)}, order, rng)


@pytest.mark.parametrize("order", ORDERS)
def test_unbatched(order, rng):
    check(rng.standard_normal((3, 9, 11), np.float32), 2, {}, order, rng)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory(layout, rng):
    x, change = integers(rng, (2, 5, 9, 8)), LAYOUTS[layout]
    y, taps = max_pool2d_taps(x, 3, stride=2, padding=1)
    got, got_taps = max_pool2d_taps(change(x), 3, stride=2, padding=1)
    assert_same(got, y, layout)
    assert_same(got_taps, taps, layout)
    dy, rest = integers(rng, y.shape), {"stride": 2, "padding": 1}
    dx = max_pool2d_taps_backward(dy, taps, x.shape, 3, y=y, **rest)
    got = max_pool2d_taps_backward(change(dy), taps.copy("F"), x.shape, 3, y=change(y), **rest)
    assert_same(got, dx, layout)


@pytest.mark.parametrize("channels", [3, 33])
@pytest.mark.parametrize("size, stride", [(2, 2), (2, 3), (3, 2), (3, 1), (4, 1)])
def test_the_same_bits_for_both_orders_and_any_threads(size, stride, channels, rng):
    x = rng.standard_normal((3, channels, 30, 31), np.float32)
    results = []
    for threads in (1, 2, 5):
        fastconv.set_num_threads(threads)
        for order in ORDERS:
            y, taps = max_pool2d_taps(in_order(x, order), size, stride=stride)
            dy = in_order(np.cos(100 * np.asarray(y)), order)
            dx = max_pool2d_taps_backward(dy, taps, x.shape, size, stride=stride, y=y)
            results.append(np.ascontiguousarray(dx))
    for dx in results[1:]:
        assert_same_bits(dx, results[0], (size, stride))


@pytest.mark.parametrize("order", ORDERS)
def test_the_same_bits_with_many_channels_and_with_few(order, isa, rng):
    """Few channels follow taps, many are asked whether they won: the sums are the same."""
    x = in_order(rng.standard_normal((2, 40, 23, 26), np.float32), order)
    rest = {"stride": (1, 2), "padding": (1, 2)}
    y, taps = max_pool2d_taps(x, (3, 5), **rest)
    dy = in_order(np.cos(100 * np.asarray(y)), order)
    dx = max_pool2d_taps_backward(dy, taps, x.shape, (3, 5), y=y, **rest)
    for first, last in ((0, 1), (7, 10)):
        part = slice(first, last)
        pieces = [array[:, part] for array in (dy, taps, y)]
        got = max_pool2d_taps_backward(
            pieces[0], pieces[1], dx[:, part].shape, (3, 5), y=pieces[2], **rest
        )
        assert_same_bits(got, dx[:, part], f"channels {first} to {last}")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize("size, bad", [(2, 4), (2, 255), (17, 289), (17, -1)])
def test_taps_out_of_range(size, bad, channels, order):
    x = in_order(np.ones((2, channels, 34, 34), np.float32), order)
    y, taps = max_pool2d_taps(x, size)
    for at in ((0, 0, 0, 0), (1, 2, y.shape[2] - 1, y.shape[3] - 1)):
        wrong = taps.copy()
        wrong[at] = bad
        with pytest.raises(ValueError, match=rf"^taps: expected .*, got {bad}"):
            max_pool2d_taps_backward(y, wrong, x.shape, size)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize("at, bad", [((0, 1, 0, 3), 1), ((0, 1, 3, 0), 3), ((0, 1, 4, 2), 7)])
def test_taps_in_the_padding(at, bad, channels, order):
    x = in_order(np.ones((1, channels, 9, 9), np.float32), order)
    y, taps = max_pool2d_taps(x, 3, stride=2, padding=1)
    taps[at] = bad
    with pytest.raises(ValueError, match=rf"^taps: expected .*, got {bad}"):
        max_pool2d_taps_backward(y, taps, x.shape, 3, stride=2, padding=1)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"taps": np.zeros((1, 2, 3, 3), np.uint8)}, ValueError, "taps: expected dy's shape"),
        ({"taps": np.zeros((1, 2, 4, 4), np.int32)}, TypeError, "taps: expected a uint8 array"),
        ({"y": np.zeros((1, 2, 3, 3))}, ValueError, "y: expected dy's shape"),
        ({"input_shape": (1, 2, 10, 8)}, ValueError, "dy: expected 5 windows along axis 2"),
        ({"input_shape": (1, 2, 9, 11)}, ValueError, "dy: expected 5 or 6 windows along axis 3"),
        ({"input_shape": (1, 3, 8, 8)}, ValueError, "input_shape: expected dy's batch"),
        ({"input_shape": 8}, TypeError, "input_shape: expected a tuple"),
        ({"size": 0}, ValueError, "size: expected an integer from 1"),
        ({"padding": 2}, ValueError, "padding: expected at most half"),
    ],
)
def test_arguments(change, error, message):
    arguments = {
        "dy": np.zeros((1, 2, 4, 4), np.float32),
        "taps": np.zeros((1, 2, 4, 4), np.uint8),
        "input_shape": (1, 2, 8, 8),
        "size": 2,
    }
    with pytest.raises(error, match="^" + message):
        max_pool2d_taps_backward(**{**arguments, **change})


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("channels", [3, 40])
def test_strides_larger_than_the_image(channels, order):
    x = in_order(np.ones((2, channels, 9, 9), np.float32), order)
    for stride in (9, 100, 2**31, 2**40):
        y, taps = max_pool2d_taps(x, 2, stride=stride)
        dx = max_pool2d_taps_backward(y, taps, x.shape, 2, stride=stride)
        assert dx[:, :, 0, 0].all() and dx.sum() == 2 * channels


def test_gradients_are_those_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    for size, stride, padding in ((2, 2, 0), (3, 2, 1), (2, 3, 1), (5, 1, 2)):
        x = rng.standard_normal((2, 7, 13, 12), np.float32)
        tensor = torch.tensor(x, requires_grad=True)
        pooled = torch.nn.functional.max_pool2d(tensor.relu(), size, stride, padding)
        dy = rng.standard_normal(tuple(pooled.shape), np.float32)
        pooled.backward(torch.tensor(dy))
        y, taps = max_pool2d_taps(fastconv.relu(x), size, stride=stride, padding=padding)
        dx = max_pool2d_taps_backward(dy, taps, x.shape, size, stride=stride, padding=padding, y=y)
        np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-6, atol=1e-6)
