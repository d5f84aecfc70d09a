"""Borders, enlargement and the size formula: NumPy, SciPy-like loops, PyTorch, gradients."""

import itertools

import numpy as np
import pytest
from arrays import LAYOUTS, ORDERS, assert_same, assert_same_bits, in_order, integers

import fastconv
from fastconv import reference

MODES = ("constant", "reflect", "replicate", "circular")
SHAPES = [
    *((2, 3, 7, 9), (1, 17, 5, 5), (1, 1, 4, 30), (2, 64, 33, 8), (0, 2, 6, 7), (3, 16, 1, 6)),
    *((1, 2, 5, 131), (1, 5, 4, 48)),  # rows of many vectors
]
PADDINGS = [0, 1, (2, 1), ((1, 0), (0, 3)), ((0, 4), (4, 0)), ((3, 3), (2, 5))]


def fits(shape, padding, mode):
    pads = padding if isinstance(padding, tuple) else (padding, padding)
    most = [max(p) if isinstance(p, tuple) else p for p in pads]
    room = {"reflect": -1, "circular": 0}.get(mode, 100)
    return all(p <= n + room for p, n in zip(most, shape[2:], strict=True))


PADS = [
    (shape, padding, mode)
    for shape, padding, mode in itertools.product(SHAPES, PADDINGS, MODES)
    if fits(shape, padding, mode)
]
SCALES = [
    (shape, scale, mode, corners)
    for shape, scale in itertools.product(SHAPES, (1, 2, 3, (1, 4), (5, 2)))
    for mode, corners in (("nearest", False), ("bilinear", False), ("bilinear", True))
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_borders(dtype, order, isa, rng):
    for shape, padding, mode in PADS:
        what = (shape, padding, mode)
        x = integers(rng, shape, dtype=dtype)
        y = fastconv.pad2d(in_order(x, order), padding, mode)
        assert_same(y, reference.pad2d(x, padding, mode), what)
        dy = integers(rng, y.shape, dtype=dtype)
        dx = fastconv.pad2d_backward(in_order(dy, order), padding, mode)
        assert_same(dx, reference.pad2d_backward(dy, padding, mode), what)
        assert np.vdot(dy, y) == np.vdot(dx, x), what


@pytest.mark.parametrize("value", [7, -0.5, np.nan, np.inf])
@pytest.mark.parametrize("order", ORDERS)
def test_value(value, order, rng):
    x = in_order(integers(rng, (2, 19, 5, 6)), order)
    y = fastconv.pad2d(x, ((1, 2), (3, 0)), value=value)
    assert_same(y, reference.pad2d(x, ((1, 2), (3, 0)), value=value), value)
    assert (y != 0).sum() >= 2 * 19 * (8 * 9 - 30)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_enlargement(dtype, order, isa, rng):
    for shape, scale, mode, corners in SCALES:
        what = (shape, scale, mode, corners)
        x = integers(rng, shape, dtype=dtype)
        y = fastconv.upsample2d(in_order(x, order), scale, mode, corners)
        dy = integers(rng, y.shape, dtype=dtype)
        dx = fastconv.upsample2d_backward(in_order(dy, order), scale, mode, corners)
        expected = reference.upsample2d(x, scale, mode, corners)
        gradient = reference.upsample2d_backward(dy, scale, mode, corners)
        if mode == "nearest" or (not corners and scale in (1, 2, (1, 4))):
            # Weights are multiples of 1/8.
            assert_same(y, expected, what)
            assert_same(dx, gradient, what)
        else:
            tolerance = 1000 * np.finfo(dtype).eps
            np.testing.assert_allclose(y, expected, atol=tolerance, err_msg=str(what))
            np.testing.assert_allclose(dx, gradient, atol=tolerance, err_msg=str(what))


def test_enlargement_by_hand():
    x = np.arange(6.0).reshape(1, 1, 2, 3)
    assert_same(
        fastconv.upsample2d(x, 2), x.repeat(2, axis=2).repeat(2, axis=3), "nearest repeats pixels"
    )
    row = fastconv.upsample2d(x[:, :, :1], (1, 2), "bilinear")
    assert row.tolist() == [[[[0, 0.25, 0.75, 1.25, 1.75, 2]]]]
    row = fastconv.upsample2d(x[:, :, :1, :2], (1, 3), "bilinear", True)
    np.testing.assert_allclose(row, [[[[0, 0.2, 0.4, 0.6, 0.8, 1]]]])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("channels, threads", [(1, 1), (8, 2), (32, 1), (24, 2)])
def test_results_that_outgrow_the_caches(channels, threads, order, rng):
    fastconv.set_num_threads(threads)
    x = integers(rng, (2, channels, 2**19 // channels // 448, 448))
    y = fastconv.upsample2d(in_order(x, order), 2)
    assert x.nbytes + y.nbytes > 2**24
    assert_same(y, x.repeat(2, axis=2).repeat(2, axis=3), "nearest")
    dy = y * (1 + np.arange(896, dtype=np.float32) % 2)
    dx = fastconv.upsample2d_backward(in_order(dy, order), 2)
    assert_same(dx, 6 * x, "gradient")
    wide = fastconv.pad2d(in_order(dy, order), 1, "replicate")
    assert_same(wide, np.pad(dy, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge"), "replicate")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("channels", [1, 5, 40])
def test_copies_keep_the_sign_of_zero(channels, order, isa):
    x = in_order(np.full((2, channels, 6, 37), -0.0, np.float32), order)
    copies = [fastconv.pad2d(x, 2, mode) for mode in MODES[1:]]
    for y in (*copies, fastconv.upsample2d(x, 3), fastconv.pad2d(x, 1)[..., 1:-1, 1:-1]):
        assert np.signbit(y).all()


def calls(x, order):
    x = in_order(x, order)
    found = {}
    for mode in MODES:
        y = fastconv.pad2d(x, ((2, 1), (3, 2)), mode)
        found[mode] = y
        found[f"{mode} backward"] = fastconv.pad2d_backward(y, ((2, 1), (3, 2)), mode)
    for mode, corners in (("nearest", False), ("bilinear", False), ("bilinear", True)):
        y = fastconv.upsample2d(x, (2, 3), mode, corners)
        found[f"{mode} {corners}"] = y
        found[f"{mode} {corners} backward"] = fastconv.upsample2d_backward(y, (2, 3), mode, corners)
    return found


@pytest.mark.parametrize("channels", [1, 3, 40])
def test_the_same_bits(channels, isa, rng):
    x = rng.standard_normal((20, channels, 21, 18), np.float32)
    fastconv.set_num_threads(1)
    expected = calls(x, "contiguous")
    for threads in (1, 2, 5):
        fastconv.set_num_threads(threads)
        for order in ORDERS:
            for name, result in calls(x, order).items():
                assert_same_bits(result, expected[name], f"{name}, {order}, {threads}")
                assert in_order(result, order).strides == result.strides
    for order in ORDERS:
        for name, result in calls(x[7], order).items():
            assert_same_bits(result, expected[name][7], f"{name}, unbatched")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, rng):
    for shape in ((2, 5, 6, 7), (2, 1, 6, 7), (2, 4, 3, 1), (2, 4, 1, 3)):
        x = rng.standard_normal(shape)
        for name, function in {
            "pad": lambda x: fastconv.pad2d(x, (2, 1), "replicate"),
            "pad backward": lambda x: fastconv.pad2d_backward(x, ((0, 0), (0, 0)), "circular"),
            "up": lambda x: fastconv.upsample2d(x, 2, "bilinear"),
            "up backward": lambda x: fastconv.upsample2d_backward(x, 1),
        }.items():
            assert_same_bits(function(LAYOUTS[layout](x)), function(x), f"{name}, {layout}")
            assert_same_bits(function(in_order(x, "channels_last")), function(x), name)


IMAGES = np.zeros((2, 3, 4, 6))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: fastconv.pad2d(IMAGES[0, 0], 1), ValueError, r"x: expected shape \(N, C, H, W\)"),
        (lambda: fastconv.pad2d(IMAGES, -1), ValueError, "padding: expected an integer from 0"),
        (lambda: fastconv.pad2d(IMAGES, 4, "reflect"), ValueError, "less than the height 4"),
        (lambda: fastconv.pad2d(IMAGES, 5, "circular"), ValueError, "at most the height 4"),
        (lambda: fastconv.pad2d(IMAGES, 1, "same"), ValueError, "mode: expected one of 'constant'"),
        (lambda: fastconv.pad2d(IMAGES, 1, "reflect", 2), ValueError, "value: expected 0 for mode"),
        (lambda: fastconv.pad2d(IMAGES, 1, value="0"), TypeError, "value: expected a number"),
        (lambda: fastconv.pad2d_backward(IMAGES, 2), ValueError, "dy: expected more pixels"),
        (lambda: fastconv.pad2d_backward(IMAGES, (0, 2), "reflect"), ValueError, "the width 2"),
        (lambda: fastconv.upsample2d(IMAGES, 0), ValueError, "scale: expected an integer from 1"),
        (lambda: fastconv.upsample2d(IMAGES, 2, "cubic"), ValueError, "mode: expected one of"),
        (lambda: fastconv.upsample2d(IMAGES, 2.5), TypeError, "scale: expected an integer"),
        (
            lambda: fastconv.upsample2d(IMAGES, 2, "nearest", True),
            ValueError,
            "align_corners: expected False",
        ),
        (
            lambda: fastconv.upsample2d(IMAGES, 2, "bilinear", 1),
            TypeError,
            "align_corners: expected a bool",
        ),
        (lambda: fastconv.upsample2d_backward(IMAGES, 3), ValueError, "dy: expected multiples"),
        (lambda: fastconv.output_shape((5,), 3), ValueError, "input_shape: expected"),
        (lambda: fastconv.output_shape(5, 3), TypeError, "input_shape: expected a tuple"),
        (lambda: fastconv.output_shape((0, 5), 3), ValueError, "input_shape: expected"),
        (lambda: fastconv.output_shape((5, 5), 7), ValueError, "kernel_shape: expected an extent"),
        (
            lambda: fastconv.output_shape((4, 5, 5), (2, 3, 3, 3)),
            ValueError,
            r"kernel_shape: expected \(OC, IC // groups, KH, KW\) for 4 input channels",
        ),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("order", ORDERS)
def test_torch(order, rng):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional

    def compare(call, gradient, theirs, shape, what):
        tx = torch.tensor(rng.standard_normal(shape), requires_grad=True)
        ty = theirs(tx)
        y = call(in_order(tx.detach().numpy(), order))
        np.testing.assert_allclose(y, ty.detach().numpy(), atol=1e-12, err_msg=str(what))
        dy = rng.standard_normal(y.shape)
        ty.backward(torch.tensor(dy))
        dx = gradient(in_order(dy, order))
        np.testing.assert_allclose(dx, tx.grad.numpy(), atol=1e-12, err_msg=str(what))

    for shape, padding, mode in PADS:
        if not shape[0]:
            continue
        pads = padding if isinstance(padding, tuple) else (padding, padding)
        (top, bottom), (left, right) = (p if isinstance(p, tuple) else (p, p) for p in pads)
        compare(
            lambda x, p=padding, m=mode: fastconv.pad2d(x, p, m),
            lambda dy, p=padding, m=mode: fastconv.pad2d_backward(dy, p, m),
            lambda x, p=(left, right, top, bottom), m=mode: F.pad(x, p, mode=m),
            shape,
            (shape, padding, mode),
        )
    for shape, scale, mode, corners in SCALES:
        if not shape[0]:
            continue
        arguments = (scale, mode, corners)
        compare(
            lambda x, a=arguments: fastconv.upsample2d(x, *a),
            lambda dy, a=arguments: fastconv.upsample2d_backward(dy, *a),
            lambda x, s=scale, m=mode, c=corners: F.interpolate(
                x, scale_factor=s, mode=m, align_corners=c if m == "bilinear" else None
            ),
            shape,
            (shape, arguments),
        )


def test_output_shape(rng):
    """It is what the operations give, and what the reference says."""
    for _ in range(200):
        size, stride, dilation = (tuple(map(int, rng.integers(1, 4, 2))) for _ in range(3))
        shape = (2, 4, *map(int, rng.integers(7, 15, 2)))
        padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in size)
        rest = {"stride": stride, "padding": padding, "dilation": dilation}
        kernel = np.ones((6, 2, *size))
        y = fastconv.conv2d(np.zeros(shape), kernel, groups=2, **rest).shape
        assert fastconv.output_shape(shape, kernel.shape, **rest) == y
        assert fastconv.output_shape(shape[1:], kernel.shape, **rest) == y[1:]
        assert fastconv.output_shape(shape[2:], size, **rest) == y[2:]
        assert fastconv.output_shape(shape[2:], kernel.shape, **rest) == y[2:]
        for ceil_mode in (False, True):
            try:
                pooled = fastconv.max_pool2d(np.zeros(shape), size, ceil_mode=ceil_mode, **rest)
            except ValueError:
                continue  # a dilated window may lie in the padding
            got = fastconv.output_shape(shape, size, ceil_mode=ceil_mode, **rest)
            assert got == pooled.shape
        for padding in ("same", "valid", ((1, 0), (2, 3))):
            rest["padding"] = padding
            y = fastconv.conv2d(np.zeros(shape), kernel, groups=2, **rest).shape
            got = fastconv.output_shape(shape, kernel.shape, **rest)
            assert got == y == reference.output_shape(shape, kernel.shape, **rest)
            assert reference.output_shape(shape[2:], size, **rest) == y[2:]
