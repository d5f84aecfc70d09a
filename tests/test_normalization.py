"""Batch, layer and group normalisation: exact cases, reference, PyTorch, gradients, bits."""

import numpy as np
import pytest
from arrays import LAYOUTS, ORDERS, assert_same_bits, in_order

import fastconv
from fastconv import reference

# Channels that fill vectors and do not; planes shorter and longer than a vector; several units.
SHAPES = [
    (2, 3, 4, 5),
    (1, 1, 1, 1),
    (3, 16, 1, 1),
    (4, 17, 9, 7),
    (2, 24, 40, 40),
    (3, 64, 20, 20),
    (2, 600, 7, 7),
    (5, 1, 30, 31),
    (1, 6, 200, 201),
    (3, 5, 6),
    (40, 12),
    (300, 130),
    (9, 2500),
]
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-14}


def channels_of(shape):
    return shape[0] if len(shape) == 3 else shape[1]


def groups_of(shape):
    """Divisors of the number of channels, some of them."""
    C = channels_of(shape)
    return sorted({1, C} | {g for g in (2, 3, 4, 8) if C % g == 0})


def ordered(array, order):
    return array if array.ndim == 2 else in_order(array, order)


def operands(rng, shape, dtype, order="contiguous", mean=1.0):
    x, dy = (rng.standard_normal(shape) for _ in range(2))
    gamma, beta = rng.standard_normal((2, channels_of(shape)))
    x, dy = ordered((2 * x + mean).astype(dtype), order), ordered(dy.astype(dtype), order)
    return x, dy, gamma.astype(dtype), beta.astype(dtype)


def assert_close(got, expected, scale, tolerance, what):
    """Within a tolerance relative to the size of what was added up."""
    assert got.shape == expected.shape and got.dtype == expected.dtype, what
    if got.size:
        error = np.abs(got.astype(float) - expected).max()
        assert error <= tolerance * max(scale, np.abs(expected).max()), f"{error}: {what}"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_batch_norm(dtype, activation, order, isa, rng):
    tolerance = TOLERANCE[dtype]
    for shape in SHAPES:
        x, dy, gamma, beta = operands(rng, shape, dtype, order)
        what, n = f"{shape} {order}", x.size / channels_of(shape)
        got = fastconv.batch_norm_train(x, gamma, beta, activation=activation)
        expected = reference.batch_norm_train(x, gamma, beta, activation=activation)
        if n > 1:
            for a, b, scale in zip(got, expected, (10, 3, 4), strict=True):
                assert_close(a, b, scale, tolerance, what)
        assert got[0].strides == x.strides or n == 1
        moments = got[1:]
        y = fastconv.batch_norm(x, gamma, beta, *moments, activation=activation)
        assert_same_bits(y, got[0], what)
        given = reference.batch_norm(x, gamma, beta, *moments, activation=activation)
        assert_close(y, given, 10, tolerance, what)
        gradients = fastconv.batch_norm_backward(
            dy, x, gamma, beta, *moments, activation=activation
        )
        wanted = reference.batch_norm_backward(dy, x, gamma, beta, *moments, activation=activation)
        if activation:
            # Where y is 0 to the last bit the masks may differ; such a pixel is hardly ever met.
            assert ((given > 0) == (y > 0)).all()
        size = 3 * np.sqrt(n)
        scales = (max(3, np.abs(wanted[0]).max()), 2 * size, size)
        for a, b, scale in zip(gradients, wanted, scales, strict=True):
            assert_close(a, b, scale, 4 * tolerance, what)
        assert gradients[0].strides == x.strides or n == 1


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_group_norm(dtype, activation, order, isa, rng):
    tolerance = TOLERANCE[dtype]
    rest = {"activation": activation}
    for shape in SHAPES:
        x, dy, gamma, beta = operands(rng, shape, dtype, order)
        for groups in groups_of(shape):
            if x.size // (1 if x.ndim == 3 else len(x)) == groups:
                continue  # groups of one value
            what = f"{shape} {groups} {order}"
            vectors = (groups, gamma, beta)
            got = fastconv.group_norm(x, *vectors, return_moments=True, **rest)
            expected = reference.group_norm(x, *vectors, return_moments=True, **rest)
            for a, b, scale in zip(got, expected, (10, 3, 4), strict=True):
                assert_close(a, b, scale, 4 * tolerance, what)
            assert got[0].strides == x.strides
            assert_same_bits(fastconv.group_norm(x, *vectors, **rest), got[0], what)
            gradients = fastconv.group_norm_backward(dy, x, *vectors, *got[1:], **rest)
            wanted = reference.group_norm_backward(dy, x, *vectors, *got[1:], **rest)
            size = 3 * np.sqrt(x.size / channels_of(shape))
            scales = (max(3, np.abs(wanted[0]).max()), 2 * size, size)
            for a, b, scale in zip(gradients, wanted, scales, strict=True):
                assert_close(a, b, scale, 8 * tolerance, what)


@pytest.mark.parametrize("order", ORDERS)
def test_layer_norm_is_group_norm_with_one_group(order, rng):
    x, dy, gamma, beta = operands(rng, (3, 8, 5, 6), np.float32, order)
    got = fastconv.layer_norm(x, gamma, beta, return_moments=True, activation="relu")
    wanted = fastconv.group_norm(x, 1, gamma, beta, return_moments=True, activation="relu")
    for a, b in zip(got, wanted, strict=True):
        assert_same_bits(a, b, order)
    got_dx = fastconv.layer_norm_backward(dy, x, gamma, beta, *got[1:], activation="relu")
    wanted_dx = fastconv.group_norm_backward(dy, x, 1, gamma, beta, *got[1:], activation="relu")
    for a, b in zip(got_dx, wanted_dx, strict=True):
        assert_same_bits(a, b, order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_exact_numbers(dtype, order, isa, rng):
    """Pixels lie by turns a power of two above the mean and as far below, and there are powers of
    two of them: every step is exact, and so is the result."""
    for N, C, H, W in ((4, 3, 4, 8), (2, 40, 8, 8), (2, 16, 64, 64)):
        sign = rng.choice([1, -1], (N, C, 1, 1)) * np.tile([1, -1], (N, C, H, W // 2))
        mean, deviation = rng.integers(-50, 50, C), 2 ** rng.integers(0, 4, C)
        gamma, beta = rng.integers(-8, 8, (2, C)).astype(dtype)
        x = mean[:, None, None] + deviation[:, None, None] * sign
        x = in_order(x.astype(dtype), order)
        y, found, variance = fastconv.batch_norm_train(x, gamma, beta, epsilon=0)
        np.testing.assert_array_equal(found, mean)
        np.testing.assert_array_equal(variance, deviation**2)
        np.testing.assert_array_equal(y, gamma[:, None, None] * sign + beta[:, None, None])
        # What lies along x or along 1 is taken out of the gradient.
        for dy in (sign, np.ones_like(sign)):
            dx, dgamma, dbeta = fastconv.batch_norm_backward(
                in_order(dy.astype(dtype), order), x, gamma, beta, found, variance, epsilon=0
            )
            np.testing.assert_array_equal(dx, np.zeros_like(x))
            np.testing.assert_array_equal(dgamma, (dy * sign).sum(axis=(0, 2, 3)))
            np.testing.assert_array_equal(dbeta, dy.sum(axis=(0, 2, 3)))


@pytest.mark.parametrize("order", ORDERS)
def test_far_from_zero(order, rng):
    """A mean ten thousand deviations away, and an outlier where a pass begins."""
    for shape in ((8, 24, 30, 30), (8, 2, 90, 90)):
        x = (1e4 + rng.standard_normal(shape)).astype(np.float32)
        exact = x.astype(np.float64)
        _, mean, variance = fastconv.batch_norm_train(
            in_order(x, order), *np.ones((2, shape[1]), np.float32)
        )
        np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=1e-7)
        np.testing.assert_allclose(variance, exact.var(axis=(0, 2, 3)), rtol=1e-5)
        x[0, :, 0, 0] = -1e6
        variance = fastconv.batch_norm_train(
            in_order(x, order), *np.ones((2, shape[1]), np.float32)
        )[2]
        exact = x.astype(np.float64)
        np.testing.assert_allclose(variance, exact.var(axis=(0, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_equal_values_have_no_variance(order):
    for value in (0.1, 1e10, -3e-30):
        x = in_order(np.full((3, 20, 11, 13), value, np.float32), order)
        y, _, variance = fastconv.batch_norm_train(x, np.ones(20, "f"), np.full(20, 2, "f"))
        assert (variance >= 0).all() and (variance <= 1e-12 * value**2).all()
        assert np.isfinite(y).all()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("groups", [None, 1, 4])
def test_a_fused_relu_is_the_relu(groups, order, isa, rng):
    """To the last bit, forwards and backwards."""
    for shape in ((2, 24, 40, 40), (3, 40, 7, 7), (2, 20, 5, 9)):
        x, dy, *vectors = operands(rng, shape, np.float32, order)
        if groups is None:
            forward, backward, rest = fastconv.batch_norm_train, fastconv.batch_norm_backward, {}
            moments = forward(x, *vectors)[1:]
        else:
            forward, backward, rest = (
                fastconv.group_norm, fastconv.group_norm_backward, {"return_moments": True}
            )  # fmt: skip
            vectors = [groups, *vectors]
            moments = forward(x, *vectors, **rest)[1:]
        y = forward(x, *vectors, activation="relu", **rest)[0]
        assert_same_bits(y, fastconv.relu(forward(x, *vectors, **rest)[0]), shape)
        fused = backward(dy, x, *vectors, *moments, activation="relu")
        apart = backward(fastconv.relu_backward(dy, y), x, *vectors, *moments)
        for a, b in zip(fused, apart, strict=True):
            np.testing.assert_array_equal(a, b)


# -- circumstances ---------------------------------------------------------------------------------


def everything(x, dy, gamma, beta):
    groups = next(g for g in (4, 3, 1) if channels_of(x.shape) % g == 0)
    y, *moments = fastconv.batch_norm_train(x, gamma, beta, activation="relu")
    yield from (y, *moments)
    yield from fastconv.batch_norm_backward(dy, x, gamma, beta, *moments, activation="relu")
    y, *moments = fastconv.group_norm(x, groups, gamma, beta, return_moments=True)
    yield from (y, *moments)
    yield from fastconv.group_norm_backward(dy, x, groups, gamma, beta, *moments)


@pytest.mark.parametrize("order", ORDERS)
def test_the_same_bits_for_any_number_of_threads(order, isa, rng):
    for shape in ((16, 24, 56, 56), (16, 20, 71, 60), (4, 3, 300, 301), (4000, 300)):
        arguments = operands(rng, shape, np.float32, order)
        results = []
        for threads in (1, 2, 5):
            fastconv.set_num_threads(threads)
            results.append([a.tobytes() for a in everything(*arguments)])
        assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 6, 5, 7), (6, 5, 7), (9, 6)])
def test_layouts(shape, layout, rng):
    arguments = operands(rng, shape, np.float64)
    expected = list(everything(*arguments))
    for changed in range(4):
        moved = [LAYOUTS[layout](a) if i == changed else a for i, a in enumerate(arguments)]
        for a, b in zip(everything(*moved), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_dy_in_another_order_than_x(rng):
    x, dy, gamma, beta = operands(rng, (2, 6, 5, 7), np.float32)
    for a, b in ((x, fastconv.as_channels_last(dy)), (fastconv.as_channels_last(x), dy)):
        same = ordered(dy, "contiguous" if a is x else "channels_last")
        for got, expected in zip(
            everything(a, b, gamma, beta), everything(a, same, gamma, beta), strict=True
        ):
            assert_same_bits(got, expected, "")
            assert got.strides == expected.strides


@pytest.mark.parametrize("order", ORDERS)
def test_an_image_alone_and_in_a_batch(order, rng):
    x, dy, gamma, beta = operands(rng, (5, 12, 30, 31), np.float32, order)
    mean, variance = rng.random((2, 12)).astype("f")
    inferred = fastconv.batch_norm(x, gamma, beta, mean, variance)
    for groups in (1, 3, 12):
        y, *moments = fastconv.group_norm(x, groups, gamma, beta, return_moments=True)
        dx = fastconv.group_norm_backward(dy, x, groups, gamma, beta, *moments)[0]
        for n in (0, 3):
            alone, m, v = fastconv.group_norm(x[n], groups, gamma, beta, return_moments=True)
            assert m.shape == v.shape == (groups,)
            assert_same_bits(alone, y[n], n)
            dalone = fastconv.group_norm_backward(dy[n], x[n], groups, gamma, beta, m, v)[0]
            assert_same_bits(dalone, dx[n], n)
            one = fastconv.batch_norm(x[n], gamma, beta, mean, variance)
            assert_same_bits(one, inferred[n], n)
    together = fastconv.batch_norm_train(x[:1], gamma, beta)
    for a, b in zip(fastconv.batch_norm_train(x[0], gamma, beta), together, strict=True):
        assert_same_bits(a, b.reshape(a.shape), "unbatched")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [(64, 64), (63, 61)])
def test_results_that_fit_no_cache(size, order, rng):
    """They are stored past the caches, where they are aligned; an image alone is not."""
    cache = fastconv.cache_sizes()["L3"]
    if cache > 1 << 26:
        pytest.skip("would take too much memory")
    N = cache // 2 // (24 * size[0] * size[1] * 4) + 1
    x, dy, gamma, beta = operands(rng, (N, 24, *size), np.float32, order)
    mean, variance = rng.random((2, 24)).astype("f")
    inferred = fastconv.batch_norm(x, gamma, beta, mean, variance)
    y, *moments = fastconv.group_norm(x, 4, gamma, beta, return_moments=True, activation="relu")
    dx = fastconv.group_norm_backward(dy, x, 4, gamma, beta, *moments, activation="relu")[0]
    for n in (0, N // 2, N - 1):
        one = slice(n, n + 1)
        parts = [m[one] for m in moments]
        assert_same_bits(fastconv.batch_norm(x[n], gamma, beta, mean, variance), inferred[n], n)
        alone = fastconv.group_norm(x[n], 4, gamma, beta, activation="relu")
        assert_same_bits(alone, y[n], n)
        alone = fastconv.group_norm_backward(
            dy[one], x[one], 4, gamma, beta, *parts, activation="relu"
        )
        assert_same_bits(alone[0], dx[one], n)


def test_types(rng):
    x, dy, gamma, beta = operands(rng, (2, 3, 4, 5), np.float32)
    mean, variance = np.zeros(3), np.ones(3)
    assert fastconv.batch_norm(x, gamma, beta, mean, variance).dtype == np.float64
    assert fastconv.batch_norm(x, gamma, beta, mean.astype("f"), [1, 1, 1]).dtype == np.float32
    whole = rng.integers(-9, 9, (2, 3, 4, 5))
    assert fastconv.batch_norm_train(whole, [1, 1, 1], [0, 0, 0])[0].dtype == np.float64
    dx, *_ = fastconv.batch_norm_backward(
        dy.astype(float), x, gamma, beta, mean.astype("f"), variance.astype("f")
    )
    assert dx.dtype == np.float64


def test_nan_stays_in_its_channel(rng):
    for order in ORDERS:
        x, _, gamma, beta = operands(rng, (2, 5, 6, 7), np.float32, order)
        x[1, 3, 2, 2] = np.nan
        for array in fastconv.batch_norm_train(x, gamma, beta):
            assert np.isnan(array.reshape(2, 5, -1) if array.ndim == 4 else array[None]).any(
                axis=(0, *range(2, 3 if array.ndim == 4 else 2))
            ).tolist() == [False, False, False, True, False]


def test_empty_batches(rng):
    one = np.ones(3)
    for shape in ((0, 3, 4, 5), (2, 3, 0, 5), (3, 0, 2), (0, 3)):
        x = np.zeros(shape)
        assert fastconv.batch_norm(x, one, one, one, one).shape == shape
        groups = fastconv.group_norm(x, 3, one, one, return_moments=True)
        assert groups[0].shape == shape
        dx, dgamma, dbeta = fastconv.batch_norm_backward(x, x, one, one, one, one)
        assert dx.shape == shape and not dgamma.any() and not dbeta.any()
        dx, dgamma, dbeta = fastconv.group_norm_backward(x, x, 3, one, one, *groups[1:])
        assert dx.shape == shape and not dgamma.any() and not dbeta.any()
        with pytest.raises(ValueError, match="x: expected at least one value of each channel"):
            fastconv.batch_norm_train(x, one, one)


def test_no_time_for_a_gradient_nobody_wants(rng):
    x, dy, gamma, beta = operands(rng, (2, 3, 4, 5), np.float32)
    _, *moments = fastconv.batch_norm_train(x, gamma, beta)
    dx, *rest = fastconv.batch_norm_backward(dy, x, gamma, beta, *moments, need_dx=False)
    assert dx is None
    for a, b in zip(
        rest, fastconv.batch_norm_backward(dy, x, gamma, beta, *moments)[1:], strict=True
    ):
        assert_same_bits(a, b, "")


# -- gradients and PyTorch -------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [None, 1, 2, 6])
@pytest.mark.parametrize("shape", [(3, 6, 4, 5), (6, 4, 5), (8, 12)])
def test_gradients_are_finite_differences(groups, shape, rng):
    x, weights, gamma, beta = operands(rng, shape, np.float64)

    def forward(x, gamma, beta):
        if groups is None:
            return fastconv.batch_norm_train(x, gamma, beta, epsilon=0.1)
        return fastconv.group_norm(x, groups, gamma, beta, epsilon=0.1, return_moments=True)

    moments = forward(x, gamma, beta)[1:]
    if groups is None:
        got = fastconv.batch_norm_backward(weights, x, gamma, beta, *moments, epsilon=0.1)
    else:
        got = fastconv.group_norm_backward(weights, x, groups, gamma, beta, *moments, epsilon=0.1)
    arrays = {"x": x, "gamma": gamma, "beta": beta}
    for (name, array), gradient in zip(arrays.items(), got, strict=True):
        for _ in range(3):
            e = rng.standard_normal(array.shape)
            up, down = (
                np.vdot(weights, forward(**{**arrays, name: array + h * e})[0])
                for h in (1e-6, -1e-6)
            )
            assert (up - down) / 2e-6 == pytest.approx(np.vdot(gradient, e), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_torch(dtype, order, rng):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == np.float32 else {"rtol": 1e-9}
    for shape in ((4, 12, 9, 7), (30, 12)):
        x, dy, gamma, beta = operands(rng, shape, dtype, order)
        for groups in (None, 1, 3):
            tx, tg, tb = (torch.tensor(a, requires_grad=True) for a in (x, gamma, beta))
            if groups is None:
                ty = F.batch_norm(tx, None, None, tg, tb, True)
                y, *moments = fastconv.batch_norm_train(x, gamma, beta)
                got = fastconv.batch_norm_backward(dy, x, gamma, beta, *moments)
            else:
                ty = F.group_norm(tx, groups, tg, tb)
                y, *moments = fastconv.group_norm(x, groups, gamma, beta, return_moments=True)
                got = fastconv.group_norm_backward(dy, x, groups, gamma, beta, *moments)
            ty.backward(torch.tensor(dy))
            for a, b in zip((y, *got), (ty.detach(), tx.grad, tg.grad, tb.grad), strict=True):
                np.testing.assert_allclose(a, b.numpy(), **tolerance)
    mean, variance = rng.standard_normal(12).astype(dtype), rng.random(12).astype(dtype)
    ty = F.batch_norm(tx, *map(torch.tensor, (mean, variance, gamma, beta)), False)
    y = fastconv.batch_norm(x, gamma, beta, mean, variance)
    np.testing.assert_allclose(y, ty.detach().numpy(), **tolerance)
    ty = F.layer_norm(tx, (12,), tg, tb)
    np.testing.assert_allclose(
        fastconv.layer_norm(x, gamma, beta), ty.detach().numpy(), **tolerance
    )


# -- arguments -------------------------------------------------------------------------------------

X, ONE = np.ones((2, 6, 3, 4)), np.ones(6)
CALLS = {
    "batch_norm": {"x": X, "gamma": ONE, "beta": ONE, "mean": ONE, "variance": ONE},
    "batch_norm_train": {"x": X, "gamma": ONE, "beta": ONE},
    "batch_norm_backward": {
        "dy": X, "x": X, "gamma": ONE, "beta": ONE, "mean": ONE, "variance": ONE,
    },
    "group_norm": {"x": X, "groups": 3, "gamma": ONE, "beta": ONE},
    "group_norm_backward": {
        "dy": X, "x": X, "groups": 3, "gamma": ONE, "beta": ONE,
        "mean": np.ones((2, 3)), "variance": np.ones((2, 3)),
    },
}  # fmt: skip


@pytest.mark.parametrize("operation", CALLS)
def test_mistakes_are_named(operation):
    function, arguments = getattr(fastconv, operation), CALLS[operation]
    function(**arguments)
    for name, value in arguments.items():
        if name == "groups":
            continue
        wrong = [None, "x", np.ones((2, 6, 3, 4)) * 1j, np.ones((1, 2, 3, 4, 5)), np.ones(())]
        wrong += [np.ones(7), np.ones(np.shape(value)[:-1])]
        for other in wrong:
            with pytest.raises((TypeError, ValueError), match=rf"^({name}|groups|gamma|dy)\b"):
                function(**{**arguments, name: other})
    for value in (-1e-3, np.inf, np.nan):
        with pytest.raises(ValueError, match=r"^epsilon: expected a finite number"):
            function(**arguments, epsilon=value)
    for value in ("0.1", None, True):
        with pytest.raises(TypeError, match=r"^epsilon: expected a number"):
            function(**arguments, epsilon=value)
    with pytest.raises(ValueError, match=r"^activation: expected"):
        function(**arguments, activation="tanh")
    if operation.endswith("backward"):
        with pytest.raises(TypeError, match=r"^need_dx: expected a bool"):
            function(**arguments, need_dx=1)
    if "groups" in arguments:
        for value in (0, -1, 4, 12):
            with pytest.raises(ValueError, match=r"^groups: expected"):
                function(**{**arguments, "groups": value})
        for value in (1.5, True, "2", None):
            with pytest.raises(TypeError, match=r"^groups: expected an integer"):
                function(**{**arguments, "groups": value})
