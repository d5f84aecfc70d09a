"""Activations, softmax and its loss, and the functions that move arrays from order to order."""

import numpy as np
import pytest
from arrays import ORDERS, assert_same, in_order
from shapes import PRIMES, TILE_EDGES

import fastconv
from fastconv import reference

SHAPES = [
    (1, 1, 1, 1),
    (0, 3, 4, 5),
    (2, 3, 0, 5),
    *((2, c, 3, w) for c, w in zip(TILE_EDGES, TILE_EDGES[5:] + TILE_EDGES[:5], strict=True)),
]
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40], np.float32)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu(dtype, order, isa, rng):
    for shape in SHAPES:
        x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        x.reshape(-1)[: SPECIAL.size] = SPECIAL[: x.size]
        x, dy = in_order(x, order), in_order(dy, order)
        y = fastconv.relu(x)
        assert_same(y, reference.relu(x), shape)
        assert_same(fastconv.relu_backward(dy, y), reference.relu_backward(dy, y), shape)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("out_order", ORDERS)
def test_relu_out(order, out_order, rng):
    x, dy = (in_order(rng.standard_normal((2, 5, 7, 9)), order) for _ in range(2))
    y, dx = reference.relu(x), reference.relu_backward(dy, x)
    out = in_order(np.zeros_like(x), out_order)
    assert fastconv.relu(x, out=out) is out
    assert_same(out, y, order)
    assert fastconv.relu_backward(dy, x, out=out) is out
    assert_same(out, dx, order)
    assert_same(fastconv.relu_backward(dy, x, out=dy), dx, "in place of dy")
    assert_same(fastconv.relu(x, out=x), y, "in place")
    memory = np.zeros((3, 5, 7, 9))
    with pytest.raises(ValueError, match="out: expected memory apart from x's"):
        fastconv.relu(memory[:2], out=memory[1:])
    with pytest.raises(ValueError, match="out: expected shape"):
        fastconv.relu(x, out=memory)
    with pytest.raises(TypeError, match="out: expected dtype float64"):
        fastconv.relu(x, out=x.astype(np.float32))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_add(activation, dtype, order, isa, rng):
    for shape in SHAPES:
        x, y = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        x.reshape(-1)[: SPECIAL.size] = SPECIAL[: x.size]
        x, ys = in_order(x, order), [in_order(y, other) for other in ORDERS]
        expected = x + y if activation is None else np.maximum(x + y, 0)
        for y in ys:
            assert_same(fastconv.add(x, y, activation=activation), expected, shape)
            assert_same(reference.add(x, y, activation=activation), expected, shape)
            for out in (np.empty_like(x), np.empty_like(ys[0]), np.empty_like(ys[1])):
                assert fastconv.add(x, y, activation=activation, out=out) is out
                assert_same(out, expected, shape)
        assert fastconv.add(x, ys[0], activation=activation, out=ys[0]) is ys[0]
        assert fastconv.add(x, ys[1], activation=activation, out=x) is x
        assert_same(ys[0], expected, "in place of y")
        assert_same(x, expected, "in place of x")


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 4), (2, 3, 4, 5)])
def test_relu_of_any_number_of_axes(shape, rng):
    x = rng.standard_normal(shape)
    assert_same(np.asarray(fastconv.relu(x)), np.asarray(reference.relu(x)), shape)
    assert_same(
        np.asarray(fastconv.relu_backward(x, x)), np.asarray(reference.relu_backward(x, x)), shape
    )


# Rounding of exp and of the sum, relative to the result.
SOFTMAX_TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


@pytest.mark.parametrize("dtype", SOFTMAX_TOLERANCE)
@pytest.mark.parametrize("scale", [0.1, 1, 30, 1000])
def test_softmax(dtype, scale, rng):
    tolerance = SOFTMAX_TOLERANCE[dtype]
    for classes in (1, *PRIMES, *TILE_EDGES, 1000):
        x = (scale * rng.standard_normal((7, classes))).astype(dtype)
        labels = rng.integers(0, classes, 7)
        got = fastconv.softmax(x)
        np.testing.assert_allclose(
            got, reference.softmax(x), rtol=(1 + scale) * tolerance, atol=1e-40
        )
        np.testing.assert_allclose(got.sum(axis=1), 1, rtol=10 * tolerance)
        np.testing.assert_allclose(
            fastconv.log_softmax(x), reference.log_softmax(x), rtol=tolerance, atol=tolerance
        )
        loss, dlogits = fastconv.softmax_cross_entropy(x, labels)
        expected, expected_dlogits = reference.softmax_cross_entropy(x, labels)
        assert loss == pytest.approx(expected, rel=tolerance, abs=tolerance)
        np.testing.assert_allclose(
            dlogits, expected_dlogits, rtol=(1 + scale) * tolerance, atol=tolerance
        )
        assert got.dtype == dlogits.dtype == dtype


def test_softmax_does_not_overflow():
    x = np.array([[3e38, 3e38, -3e38], [-3e38, -3e38, -3e38]], np.float32)
    expected = [[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]]
    with np.errstate(over="ignore"):  # the difference of the extremes is infinite, and right
        np.testing.assert_allclose(fastconv.softmax(x), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", SOFTMAX_TOLERANCE)
def test_cross_entropy_of_special_values(dtype, isa, rng):
    """NaN, and scores that leave no probability, stay in their row; -inf is a probability of 0."""
    for classes in (2, 3, *TILE_EDGES):
        rows = rng.standard_normal((6, max(classes, 2))).astype(dtype)
        labels = np.zeros(6, int)
        rows[1, -1] = -np.inf
        rows[2, 1], rows[3, 1], rows[4] = np.nan, np.inf, -np.inf
        _, dlogits = fastconv.softmax_cross_entropy(rows, labels)
        with np.errstate(invalid="ignore"):
            _, expected = reference.softmax_cross_entropy(rows, labels)
        np.testing.assert_array_equal(np.isnan(dlogits), np.isnan(expected))
        np.testing.assert_allclose(dlogits, expected, rtol=1e-5, atol=1e-7)
        for row, loss in ((0, np.isfinite), (1, np.isfinite), (2, np.isnan), (4, np.isnan)):
            assert loss(fastconv.softmax_cross_entropy(rows[[row]], labels[:1])[0])
        assert fastconv.softmax_cross_entropy(rows[[1]], [rows.shape[1] - 1])[0] == np.inf


@pytest.mark.parametrize("dtype", SOFTMAX_TOLERANCE)
def test_exponentials_fade_out_to_the_last_bit(dtype, isa):
    """Gradients of one row against NumPy's exp, down to where they vanish."""
    info = np.finfo(dtype)
    x = np.linspace(np.log(float(info.smallest_subnormal)) - 5, 0, 5001).astype(dtype)
    _, dlogits = fastconv.softmax_cross_entropy(x[None], [x.size - 1])
    exact = np.exp(x.astype(np.longdouble))
    exact = (exact / exact.sum())[:-1]
    error = np.abs(dlogits[0, :-1] - exact)
    assert (error <= 4 * info.eps * exact + 2 * float(info.smallest_subnormal)).all()


def test_many_classes_and_rows(rng):
    """More than one task, and the same bits for any number of threads."""
    logits = rng.standard_normal((700, 1003), np.float32)
    labels = rng.integers(0, 1003, 700)
    expected, expected_dlogits = reference.softmax_cross_entropy(logits, labels)
    bits = set()
    for threads in (1, 2, 3):
        fastconv.set_num_threads(threads)
        loss, dlogits = fastconv.softmax_cross_entropy(logits, labels)
        assert loss == pytest.approx(expected, rel=1e-6)
        np.testing.assert_allclose(dlogits, expected_dlogits, rtol=1e-4, atol=1e-8)
        bits.add((loss, dlogits.tobytes()))
    assert len(bits) == 1


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.int64, np.uint64, "list"])
def test_kinds_of_labels(kind, rng):
    logits, labels = rng.standard_normal((6, 4)), np.array([0, 1, 2, 3, 1, 0])
    given = labels.tolist() if kind == "list" else labels.astype(kind)
    loss, dlogits = fastconv.softmax_cross_entropy(logits, given)
    expected, expected_dlogits = reference.softmax_cross_entropy(logits, labels)
    assert loss == pytest.approx(expected)
    np.testing.assert_allclose(dlogits, expected_dlogits, atol=1e-15)


# -- memory order ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_orders(dtype, isa, rng):
    for shape in (*SHAPES, (3, 4, 5), (1, 1, 1)):
        x = rng.standard_normal(shape).astype(dtype)
        last = fastconv.as_channels_last(x)
        assert np.moveaxis(last, -3, -1).flags.c_contiguous
        assert_same(last, x, shape)
        assert fastconv.as_channels_last(last) is last
        first = fastconv.as_contiguous(last)
        assert first.flags.c_contiguous
        assert_same(first, x, shape)
        assert fastconv.as_contiguous(first) is first
        assert_same(fastconv.as_channels_last(x[..., ::2, ::-1]), x[..., ::2, ::-1], shape)
        assert_same(fastconv.as_contiguous(x[..., ::2, ::-1]), x[..., ::2, ::-1], shape)


@pytest.mark.parametrize("channels_last", [False, True])
def test_empty(channels_last):
    for shape in ((2, 3, 4, 5), (3, 4, 5), (0, 3, 4, 5), (1, 1, 1, 1)):
        for dtype in (np.float32, np.float64):
            got = fastconv.empty(shape, dtype, channels_last)
            wanted = reference.empty(shape, dtype, channels_last)
            assert got.shape == shape and got.dtype == dtype
            assert got.strides == wanted.strides or not got.size
            assert got.flags.writeable
            assert not got.size or got.ctypes.data % 16 == 0


def test_empty_arrays_are_different_arrays():
    """The pool never hands out memory that an array still uses."""
    arrays = [fastconv.empty((1, 16, 64, 64), np.float32) for _ in range(8)]
    for i, array in enumerate(arrays):
        array[...] = i
    fastconv.release_memory()
    del array
    assert [int(a.min()) for a in arrays] == [int(a.max()) for a in arrays] == list(range(8))


def test_too_many_dimensions_name_the_argument_that_has_them():
    five = np.ones((1, 1, 1, 1, 1), np.float32)
    with pytest.raises(ValueError, match=r"^x\b.*4 dimensions"):
        fastconv.relu(five)
    with pytest.raises(ValueError, match=r"^dy\b.*4 dimensions"):
        fastconv.relu_backward(five, five)
