"""Smooth activations and their gradients: to a few units in the last place, at every argument."""

import math

import numpy as np
import pytest
from arrays import LAYOUTS, ORDERS, assert_same, assert_same_bits, in_order
from shapes import TILE_EDGES

import fastconv
from fastconv import reference

# The function, its gradient, and what the gradient is given besides dy.
FUNCTIONS = {
    "leaky_relu": {},
    "sigmoid": {},
    "tanh": {},
    "silu": {},
    "gelu": {},
    "gelu tanh": {"approximate": "tanh"},
}
TAKES_ARGUMENT = ("silu", "gelu", "gelu tanh")
DTYPES = [np.float32, np.float64]
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-300, -1e-300, 1e-42, -1e-42, 3e38, -3e38]


def pair(name, module=fastconv):
    """The function and its gradient, with the options of a name."""
    base, options = name.split()[0], FUNCTIONS[name]
    forward, backward = getattr(module, base), getattr(module, f"{base}_backward")
    return (
        lambda x, **rest: forward(x, **options, **rest),
        lambda dy, kept, **rest: backward(dy, kept, **options, **rest),
    )


def kept(name, x, module=fastconv):
    return x if name in TAKES_ARGUMENT else pair(name, module)[0](x)


def arguments(dtype):
    """Small and large numbers of both signs, and those around which formulas change."""
    sizes = np.concatenate([np.logspace(-44, 38, 800), np.linspace(0, 40, 4001), [88.7, 103.9]])
    if dtype == np.float64:
        sizes = np.concatenate([sizes, np.logspace(-320, 300, 800), np.linspace(600, 760, 500)])
    with np.errstate(over="ignore", under="ignore"):
        return np.concatenate([sizes, -sizes, SPECIAL]).astype(dtype)


def exact(name, x):
    """In long doubles where NumPy has the function in them, else number by number."""
    x = x.astype(np.longdouble)
    clipped = np.maximum(x, -np.longdouble(1000))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if name == "leaky_relu":
            return np.where(x < 0, x * np.longdouble(0.01), x)
        if name == "tanh":
            return np.tanh(x)
        if name == "sigmoid":
            return 1 / (1 + np.exp(-x))
        if name == "silu":
            return clipped / (1 + np.exp(-x))
        if name == "gelu tanh":
            u = 2 * np.sqrt(2 / np.longdouble(math.pi)) * (x + np.longdouble(0.044715) * x**3)
            return clipped / (1 + np.exp(-u))
        share = [math.erfc(-v / math.sqrt(2)) / 2 for v in x.astype(float)]
        return clipped * np.array(share, np.longdouble)


# Units in the last place.  The cube of gelu's tanh is an argument of exp, whose error grows with
# it; a double's erfc(-x / sqrt(2)) in `exact` is itself off by half a unit of x^2.
ULPS = {"leaky_relu": 2, "sigmoid": 4, "tanh": 4, "silu": 5, "gelu": 6, "gelu tanh": 6}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_accuracy(dtype, name, isa):
    info = np.finfo(dtype)
    x = arguments(dtype)
    got, expected = pair(name)[0](x).astype(np.longdouble), exact(name, x)
    assert got.dtype == np.longdouble
    np.testing.assert_array_equal(np.isnan(got), np.isnan(x))
    number = np.isfinite(x)
    np.testing.assert_array_equal(got[np.isinf(x)], expected[np.isinf(x)])
    ulps = np.full(x.shape, ULPS[name], np.longdouble)
    if name == "gelu tanh":
        ulps += np.abs(np.clip(x, -30, 30).astype(float)) ** 3 / 4
    if name == "gelu" and dtype == np.float64:
        ulps += np.clip(x.astype(float), -40, 40) ** 2 * 1.5
    error = np.abs(got[number] - expected[number])
    allowed = ulps[number] * info.eps * np.abs(expected[number])
    # x times a subnormal number, which is off by half of the smallest.
    allowed += float(info.smallest_subnormal) * (4 + np.minimum(np.abs(x[number]), 1000))
    worst = np.argmax(error / allowed)
    assert (error <= allowed).all(), f"{x[number][worst]}: {got[number][worst]}, off {error[worst]}"


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_accuracy_of_gradients(dtype, name, isa):
    """Where a slope passes through zero its error is that of the terms."""
    x = arguments(dtype)
    given = kept(name, x)
    got = pair(name)[1](np.full_like(x, 3), given).astype(float)
    expected = 3 * slope(name, x.astype(float), given.astype(float))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(x) & (name != "leaky_relu"))
    size = 3 if name in TAKES_ARGUMENT else np.abs(np.nan_to_num(expected))
    error = np.abs(got - expected)[~np.isnan(x)]
    eps = np.finfo(dtype).eps
    assert (error <= np.broadcast_to(10 * eps * size + 1e-44, x.shape)[~np.isnan(x)]).all()


def slope(name, x, given):
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if name == "leaky_relu":
            return np.where(given > 0, 1, 0.01)
        if name == "sigmoid":
            return given * (1 - given)
        if name == "tanh":
            return (1 - given) * (1 + given)
        return reference_slope(name, x)


def reference_slope(name, x):
    return pair(name, reference)[1](np.ones_like(x), x)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_reference(dtype, name, isa, rng):
    tolerance = 20 * np.finfo(dtype).eps
    for n in (0, 1, *TILE_EDGES):
        x, dy = (2 * rng.standard_normal((2, 3, n))).astype(dtype)
        for function, twin, operands in (
            (*(pair(name, m)[0] for m in (fastconv, reference)), (x,)),
            (*(pair(name, m)[1] for m in (fastconv, reference)), (dy, kept(name, x))),
        ):
            got, expected = function(*operands), twin(*operands)
            assert got.dtype == dtype and got.shape == x.shape
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_torch(name, rng):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    theirs = {
        "leaky_relu": F.leaky_relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "silu": F.silu,
        "gelu": F.gelu, "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    }[name]  # fmt: skip
    x, dy = 3 * rng.standard_normal((2, 4, 5, 6, 7))
    tx = torch.tensor(x, requires_grad=True)
    ty = theirs(tx)
    ty.backward(torch.tensor(dy))
    forward, backward = pair(name)
    np.testing.assert_allclose(forward(x), ty.detach().numpy(), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(backward(dy, kept(name, x)), tx.grad.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_finite_differences(name, rng):
    x, dy = rng.standard_normal((2, 500))
    x = x[np.abs(x) > 1e-5]
    dy = dy[: x.size]
    forward, backward = pair(name)
    expected = dy * (forward(x + 1e-6) - forward(x - 1e-6)) / 2e-6
    np.testing.assert_allclose(backward(dy, kept(name, x)), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("order", ORDERS)
def test_orders_layouts_and_out(order, name, rng):
    forward, backward = pair(name)
    x, dy = (in_order(rng.standard_normal((2, 5, 7, 9)), order) for _ in range(2))
    y, dx = forward(x), backward(dy, x)
    assert y.strides == dx.strides == x.strides
    for layout in LAYOUTS.values():
        assert_same_bits(forward(layout(x)), y, layout)
        assert_same_bits(backward(layout(dy), x), dx, layout)
        assert_same_bits(backward(dy, layout(x)), dx, layout)
    out = np.zeros((2, 5, 7, 9))
    assert forward(x, out=out) is out
    assert_same(out, y, "out")
    assert backward(dy, x, out=out) is out
    assert_same(out, dx, "out")
    assert_same(backward(dy, x.copy("K"), out=dy), dx, "in place")
    assert_same(forward(x, out=x), y, "in place")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_bits_for_any_number_of_threads_and_place(name, rng):
    """An element gives the same bits in a vector and in the rest."""
    forward, backward = pair(name)
    x, dy = rng.standard_normal((2, 300_007), np.float32)
    results = []
    for threads in (1, 2, 3):
        fastconv.set_num_threads(threads)
        results.append((forward(x).tobytes(), backward(dy, x).tobytes()))
    assert len(set(results)) == 1
    assert_same_bits(forward(x[3:50]), forward(x)[3:50], name)
    assert_same_bits(backward(dy[3:50], x[3:50]), backward(dy, x)[3:50], name)


def test_slopes_of_leaky_relu():
    x = np.array([-4.0, 0.0, 2.0])
    for slope in (0, 0.25, 1, np.float32(0.5)):
        np.testing.assert_array_equal(fastconv.leaky_relu(x, slope), [-4 * slope, 0, 2])
        dx = fastconv.leaky_relu_backward(np.ones(3), fastconv.leaky_relu(x, slope), slope)
        np.testing.assert_array_equal(dx, [slope, slope, 1])


def test_mistakes_are_named():
    x = np.ones((2, 3))
    for name in FUNCTIONS:
        forward, backward = pair(name)
        given = "x" if name in TAKES_ARGUMENT else "y"
        for wrong in (None, "1", x * 1j, np.ones((1,) * 5)):
            with pytest.raises((TypeError, ValueError), match=r"^x\b"):
                forward(wrong)
            with pytest.raises((TypeError, ValueError), match=rf"^(dy|{given})\b"):
                backward(wrong, wrong)
        with pytest.raises(ValueError, match=rf"^{given}: expected dy's shape \(2, 3\)"):
            backward(x, x[0])
        with pytest.raises(ValueError, match="out: expected shape"):
            forward(x, out=x[0])
    for slope in (-0.1, np.nan):
        with pytest.raises(ValueError, match="slope: expected a number of at least 0"):
            fastconv.leaky_relu(x, slope)
    with pytest.raises(ValueError, match="approximate: expected one of 'none', 'tanh'"):
        fastconv.gelu(x, approximate="erf")


# -- softmax ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("logarithm", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_and_its_gradient(dtype, logarithm, isa, rng):
    name = "log_softmax" if logarithm else "softmax"
    tolerance = 20 * np.finfo(dtype).eps
    for n in (1, *TILE_EDGES, 1000):
        x, dy = (3 * rng.standard_normal((2, 4, 3, n))).astype(dtype)
        y = getattr(fastconv, name)(x)
        assert y.dtype == dtype and y.shape == x.shape
        np.testing.assert_allclose(
            y, getattr(reference, name)(x), rtol=tolerance, atol=tolerance
        )
        dx = getattr(fastconv, f"{name}_backward")(dy, y)
        np.testing.assert_allclose(
            dx, getattr(reference, f"{name}_backward")(dy, y), rtol=tolerance, atol=10 * tolerance
        )


@pytest.mark.parametrize("logarithm", [False, True])
def test_softmax_gradients_are_finite_differences(logarithm, rng):
    name = "log_softmax" if logarithm else "softmax"
    forward, backward = getattr(fastconv, name), getattr(fastconv, f"{name}_backward")
    x, weights, e = rng.standard_normal((3, 5, 7))
    up, down = (np.vdot(weights, forward(x + h * e)) for h in (1e-6, -1e-6))
    gradient = backward(weights, forward(x))
    assert (up - down) / 2e-6 == pytest.approx(np.vdot(gradient, e), rel=1e-7)


def test_softmax_of_any_axes_and_memory(rng):
    for shape in ((5,), (0, 4), (2, 3, 4, 5, 6)):
        x = rng.standard_normal(shape)
        for name in ("softmax", "log_softmax"):
            y = getattr(fastconv, name)(x)
            np.testing.assert_allclose(y, getattr(reference, name)(x), rtol=1e-13)
            assert getattr(fastconv, f"{name}_backward")(x, y).shape == shape
            if x.size:
                for layout in LAYOUTS.values():
                    assert_same_bits(getattr(fastconv, name)(layout(x)), y, name)
    with pytest.raises(ValueError, match=r"y: expected dy's shape \(3,\), got \(4,\)"):
        fastconv.softmax_backward(np.ones(3), np.ones(4))
    for wrong in (np.ones(()), np.ones((3, 0))):
        with pytest.raises(ValueError, match=r"dy: expected shape \(..., classes\)"):
            fastconv.log_softmax_backward(wrong, wrong)


def test_softmax_for_any_number_of_threads(rng):
    x, dy = rng.standard_normal((2, 900, 501), np.float32)
    results = set()
    for threads in (1, 2, 3):
        fastconv.set_num_threads(threads)
        y, z = fastconv.softmax(x), fastconv.log_softmax(x)
        dx, dz = fastconv.softmax_backward(dy, y), fastconv.log_softmax_backward(dy, z)
        results.add(tuple(a.tobytes() for a in (y, z, dx, dz)))
    assert len(results) == 1
