"""The updates of optimizers, in place: against their formulas, and what they refuse."""

import numpy as np
import pytest
from arrays import _unaligned
from shapes import TILE_EDGES

import fastconv
from fastconv.training import adam_update, rmsprop_update, sgd_update, square_sum

SIZES = [(0,), (), (3, 1, 2), *((n,) for n in TILE_EDGES), (40_001,)]
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-15}


def arrays(rng, shape, dtype, count):
    return [np.asarray(rng.standard_normal(shape)).astype(dtype) for _ in range(count)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("decay", [0, 0.1])
@pytest.mark.parametrize("momentum, nesterov", [(None, False), (0.0, False), (0.9, True)])
def test_sgd(dtype, decay, momentum, nesterov, isa, rng):
    for shape in SIZES:
        value, grad, velocity = arrays(rng, shape, dtype, 3)
        w, g, v = (a.astype(np.float64) for a in (value, grad, velocity))
        g = g + decay * w
        v = (momentum or 0) * v + g
        w = w - 0.25 * (g + momentum * v if nesterov else v if momentum is not None else g)
        state = () if momentum is None else (velocity,)
        sgd_update(
            value, grad, *state,
            rate=0.25, momentum=momentum or 0.0, nesterov=nesterov, weight_decay=decay,
        )  # fmt: skip
        np.testing.assert_allclose(value, w, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        if momentum is not None:
            np.testing.assert_allclose(velocity, v, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_adam(dtype, isa, rng):
    for shape in SIZES:
        value, grad, mean, square = arrays(rng, shape, dtype, 4)
        square = np.asarray(np.abs(square))
        w, g, m, s = (a.astype(np.float64) for a in (value, grad, mean, square))
        m, s = m + 0.25 * (g - m), s + 0.125 * (g * g - s)
        w = w - 0.5 * m / (np.sqrt(s) + 0.01)
        adam_update(value, grad, mean, square, rate=0.5, beta1=0.75, beta2=0.875, epsilon=0.01)
        tolerance = 50 * TOLERANCE[dtype]  # the root of a small square
        for got, expected in ((mean, m), (square, s), (value, w)):
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("momentum", [None, 0.9])
def test_rmsprop(dtype, momentum, isa, rng):
    for shape in SIZES:
        value, grad, square, velocity = arrays(rng, shape, dtype, 4)
        square = np.asarray(np.abs(square))
        w, g, s, v = (a.astype(np.float64) for a in (value, grad, square, velocity))
        g = g + 0.1 * w
        s = s + 0.25 * (g * g - s)
        v = (momentum or 0) * v + g / (np.sqrt(s) + 0.01)
        w = w - 0.5 * v
        state = () if momentum is None else (velocity,)
        rmsprop_update(
            value, grad, square, *state,
            rate=0.5, beta=0.75, epsilon=0.01, momentum=momentum or 0.0, weight_decay=0.1,
        )  # fmt: skip
        tolerance = 50 * TOLERANCE[dtype]
        for got, expected in ((square, s), (value, w), *([(velocity, v)] if state else [])):
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


STEPS = [
    (sgd_update, 0, {"rate": 0.5, "weight_decay": 0.5}),
    (sgd_update, 1, {"rate": 0.5, "momentum": 0.5}),
    (adam_update, 2, {"rate": 0.5, "beta1": 0.5, "beta2": 0.5, "epsilon": 1, "decay": 0.25}),
    (rmsprop_update, 1, {"rate": 0.5, "beta": 0.5, "epsilon": 1}),
    (rmsprop_update, 2, {"rate": 0.5, "beta": 0.5, "epsilon": 1, "momentum": 0.5}),
]


@pytest.mark.parametrize("update, slots, numbers", STEPS)
def test_clipping_is_a_clipped_gradient(update, slots, numbers, isa, rng):
    for shape in SIZES:
        start = arrays(rng, shape, np.float32, 2 + slots)
        start[2:] = [np.abs(array) for array in start[2:]]
        got, expected = ([np.asarray(a).copy() for a in start] for _ in "12")
        update(*got, **numbers, grad_scale=0.5, grad_limit=0.25)
        expected[1] = np.asarray(np.clip(expected[1] * np.float32(0.5), -0.25, 0.25))
        update(*expected, **numbers)
        for slot in (0, *range(2, 2 + slots)):
            np.testing.assert_array_equal(got[slot], expected[slot])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_square_sum(dtype, isa, rng):
    for shape in SIZES:
        x = rng.integers(-9, 9, shape).astype(dtype)
        assert square_sum(x) == np.sum(x.astype(int) ** 2)
    assert square_sum(np.full((3, 4), 1e30, np.float32).T) == pytest.approx(1.2e61)
    assert square_sum([[1, 2], [3, 4]]) == 30


def test_the_same_bits_for_any_number_of_threads(rng):
    start = arrays(rng, (700_001,), np.float32, 4)
    start[3] = np.abs(start[3])
    results = []
    for threads in (1, 2, 3):
        fastconv.set_num_threads(threads)
        value, grad, mean, square = (a.copy() for a in start)
        adam_update(value, grad, mean, square, rate=0.5, beta1=0.9, beta2=0.99, epsilon=1e-8)
        sgd_update(value, grad, mean, rate=0.1, momentum=0.9)
        rmsprop_update(value, grad, square, mean, rate=0.1, beta=0.9, epsilon=0.1, momentum=0.5)
        results.append((value, mean, square, np.array(square_sum(value))))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a.tobytes() == b.tobytes()


def test_nan_stays_where_it_is(isa):
    value, grad, velocity = np.ones(40, np.float32), np.zeros(40, np.float32), np.zeros(40, "f")
    grad[7] = np.nan
    sgd_update(value, grad, velocity, rate=0.1, momentum=0.9)
    assert np.flatnonzero(np.isnan(value)).tolist() == [7]
    adam_update(value, value, velocity, np.ones(40, "f"), rate=1, beta1=0, beta2=0, epsilon=1)
    assert np.flatnonzero(np.isnan(value)).tolist() == [7]


def test_gradients_of_any_type_and_memory(rng):
    value = np.zeros((3, 4), np.float32)
    grad = rng.integers(-9, 9, (4, 3)).T
    for kind in (np.int64, np.float16, np.float64, ">f4"):
        sgd_update(value, grad.astype(kind), rate=1)
    sgd_update(value, _unaligned(grad.astype(np.float32)), rate=1)
    np.testing.assert_array_equal(value, -5 * grad)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"value": [1.0, 2.0]}, TypeError, "value: expected an array, got list"),
        ({"value": np.ones(2, int)}, TypeError, "value: expected a float32 or float64 array"),
        ({"value": np.ones((2, 2)).T[:1]}, ValueError, "value: expected a C-contiguous"),
        ({"value": np.broadcast_to(1.0, (2,))}, ValueError, "value: expected a C-contiguous"),
        ({"velocity": np.ones(2, "f")}, TypeError, "velocity: expected .* like value's"),
        ({"velocity": np.ones(3)}, ValueError, r"velocity: expected shape \(2,\), got \(3,\)"),
        ({"grad": np.ones(3)}, ValueError, r"grad: expected shape \(2,\), got \(3,\)"),
        ({"grad": None}, TypeError, "grad: expected an array, got None"),
        ({"grad": np.array(["a", "b"])}, TypeError, "grad: expected a float32 or float64 array"),
    ],
)
def test_arguments(change, error, message):
    arguments = {"value": np.ones(2), "grad": np.ones(2), "velocity": np.ones(2)}
    with pytest.raises(error, match="^" + message):
        sgd_update(**{**arguments, **change}, rate=0.1)
