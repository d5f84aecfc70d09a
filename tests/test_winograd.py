"""Winograd's algorithm beside the direct sum: its edges, its rounding, and who chooses it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import functional as F
from fastconv import reference

PASSES = ("conv2d", "conv2d_backward_input", "conv2d_backward_kernel")

# The transforms mix the pixels of a tile. So what rounding may lose is counted in units of the last
# place of the largest sum of products' magnitudes in the plane (or in the kernel's taps).
UNITS = 16


def draw(seed, shape, channels_last=False, dtype=np.float32, scale=1.0):
    x = (np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype)
    return F.as_channels_last(x) if channels_last and len(shape) == 4 else x


def run(name, x, dy, kernel, module=F, **options):
    """One pass; `x`, `dy` and `kernel` where it reads them, their shapes where it writes them."""
    if name == "conv2d":
        return module.conv2d(x, kernel, **options)
    if name == "conv2d_backward_input":
        return module.conv2d_backward_input(dy, kernel, x.shape, **options)
    return module.conv2d_backward_kernel(dy, x, kernel.shape, **options)


def error(name, x, dy, kernel, algorithm, **options):
    """The largest error, in units of the last place of its plane's largest sum of magnitudes."""
    exact = run(name, x, dy, kernel, reference_in_float64, **options)
    room = run(name, abs(x), abs(dy), abs(kernel), reference_in_float64, **options)
    found = run(name, x, dy, kernel, algorithm=algorithm, **options)
    assert found.dtype == x.dtype
    plane = room.max(axis=(2, 3), keepdims=True)
    return float((abs(found - exact) / plane).max() / np.finfo(x.dtype).eps)


class reference_in_float64:
    """The direct sum in double precision, which other tests hold to the plain loop."""

    @staticmethod
    def conv2d(x, kernel, **options):
        return F.conv2d(x.astype(float), kernel.astype(float), algorithm="direct", **options)

    @staticmethod
    def conv2d_backward_input(dy, kernel, shape, **options):
        return F.conv2d_backward_input(
            dy.astype(float), kernel.astype(float), shape, algorithm="direct", **options
        )

    @staticmethod
    def conv2d_backward_kernel(dy, x, shape, **options):
        return F.conv2d_backward_kernel(
            dy.astype(float), x.astype(float), shape, algorithm="direct", **options
        )


def problem(N, G, IC, OC, H, W, padding, dtype=np.float32, orders=(False, False), seed=0):
    (top, bottom), (left, right) = padding
    x = draw(seed, (N, G * IC, H, W), orders[0], dtype)
    shape = (N, G * OC, H + top + bottom - 2, W + left + right - 2)
    dy = draw(seed + 1, shape, orders[1], dtype)
    return x, dy, draw(seed + 2, (G * OC, IC, 3, 3), dtype=dtype)


@pytest.mark.parametrize("name", PASSES)
@given(
    sizes=st.tuples(
        st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 40),
        st.integers(1, 23), st.integers(1, 23),
    ),
    padding=st.tuples(st.tuples(*[st.integers(0, 4)] * 2), st.tuples(*[st.integers(0, 4)] * 2)),
    dtype=st.sampled_from([np.float32, np.float64]),
    orders=st.tuples(st.booleans(), st.booleans()),
)  # fmt: skip
def test_any_shape(name, sizes, padding, dtype, orders):
    N, G, IC, OC, H, W = sizes
    if H + sum(padding[0]) < 3 or W + sum(padding[1]) < 3:
        return
    x, dy, kernel = problem(N, G, IC, OC, H, W, padding, dtype, orders)
    exact = run(name, x, dy, kernel, reference, padding=padding, groups=G)
    room = run(name, abs(x), abs(dy), abs(kernel), reference, padding=padding, groups=G)
    found = run(name, x, dy, kernel, padding=padding, groups=G, algorithm="winograd")
    assert found.dtype == dtype
    bound = UNITS * np.finfo(dtype).eps * room.max()
    assert abs(found - exact).max() <= bound


@pytest.mark.parametrize("name", PASSES)
def test_tiers_agree(name, isa):
    x, dy, kernel = problem(2, 1, 19, 21, 13, 10, ((1, 1), (1, 1)))
    assert error(name, x, dy, kernel, "winograd", padding=1) < UNITS


@pytest.mark.parametrize("channels", [1, 4, 16, 64, 256, 1024])
@pytest.mark.parametrize("name", PASSES)
def test_error_over_channels(name, channels):
    """The documented bound: a few units for any number of channels."""
    x, dy, kernel = problem(1, 1, channels, channels if name != "conv2d" else 8, 12, 12,
                            ((1, 1), (1, 1)))  # fmt: skip
    assert error(name, x, dy, kernel, "winograd", padding=1) < UNITS


@pytest.mark.parametrize("name", PASSES)
def test_error_of_badly_scaled_values(name):
    """ReLU's results, tiny gradients, weights of mixed magnitude: relative to their products."""
    x, dy, kernel = problem(2, 1, 48, 48, 16, 16, ((1, 1), (1, 1)))
    x, dy = np.maximum(x, 0), dy * np.float32(1e-6)
    mixed = 10.0 ** np.random.default_rng(5).integers(-3, 4, (48, 48, 1, 1))
    kernel = (kernel * mixed).astype(np.float32)
    assert error(name, x, dy, kernel, "winograd", padding=1) < UNITS


@pytest.mark.parametrize("name", PASSES)
def test_same_bits_on_any_team_and_in_any_order(name):
    x, dy, kernel = problem(3, 1, 36, 40, 21, 18, ((1, 1), (1, 1)))
    before = fastconv.get_num_threads()
    results = []
    try:
        for threads, order in itertools.product(
            (1, 2, 3, 7), (F.as_contiguous, F.as_channels_last)
        ):
            fastconv.set_num_threads(threads)
            results.append(run(name, order(x), order(dy), kernel, padding=1, algorithm="winograd"))
    finally:
        fastconv.set_num_threads(before)
    for result in results[1:]:
        assert (result == results[0]).all()


@pytest.mark.parametrize("name", ["conv2d", "conv2d_backward_input"])
def test_an_image_alone_is_as_in_its_batch(name):
    x, dy, kernel = problem(5, 1, 24, 40, 10, 11, ((1, 1), (1, 1)))
    whole = run(name, x, dy, kernel, padding=1, algorithm="winograd")
    for n in range(5):
        alone = run(name, x[n : n + 1], dy[n : n + 1], kernel, padding=1, algorithm="winograd")
        assert (alone[0] == whole[n]).all()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bias_relu_and_out(channels_last, dtype):
    x, _, kernel = problem(2, 1, 17, 21, 9, 14, ((1, 1), (1, 1)), dtype, (channels_last,) * 2)
    bias = draw(7, (21,), dtype=dtype)
    plain = F.conv2d(x, kernel, padding=1, algorithm="winograd")
    expected = np.maximum(plain + bias[:, None, None], 0)
    out = np.full((2, 21, 9, 28), np.nan, dtype)[..., ::2]
    given_back = F.conv2d(
        x, kernel, bias, padding=1, activation="relu", out=out, algorithm="winograd"
    )
    assert given_back is out
    assert (out == expected).all()


def test_not_a_number_stays_where_it_is_seen():
    """A NaN spoils the tiles that see it, and no other."""
    x, _, kernel = problem(1, 1, 8, 16, 24, 24, ((1, 1), (1, 1)))
    x[0, 3, 12, 12] = np.nan
    spoilt = np.isnan(F.conv2d(x, kernel, padding=1, algorithm="winograd")).any(axis=(0, 1))
    direct = np.isnan(F.conv2d(x, kernel, padding=1, algorithm="direct")).any(axis=(0, 1))
    assert spoilt[direct].all()
    assert not spoilt[:8].any() and not spoilt[20:].any()


@pytest.mark.parametrize(
    "options", [{"stride": 2}, {"dilation": 2}, {"size": (5, 5)}, {"size": (3, 1)}]
)
@pytest.mark.parametrize("name", PASSES)
def test_refused_where_it_does_not_apply(name, options):
    options = dict(options)
    KH, KW = options.pop("size", (3, 3))
    x, kernel = draw(0, (1, 4, 12, 12)), draw(1, (4, 4, KH, KW))
    dy = F.conv2d(x, kernel, **options)
    with pytest.raises(ValueError, match=r"algorithm: 'winograd' expects a 3x3 kernel"):
        run(name, x, dy, kernel, algorithm="winograd", **options)
    run(name, x, dy, kernel, algorithm="auto", **options)


@pytest.mark.parametrize(("word", "kind"), [("fft", ValueError), (3, TypeError), (None, TypeError)])
def test_wrong_words(word, kind):
    x, dy, kernel = problem(1, 1, 4, 4, 6, 6, ((1, 1), (1, 1)))
    for name in PASSES:
        with pytest.raises(kind, match="algorithm"):
            run(name, x, dy, kernel, padding=1, algorithm=word)
    with pytest.raises(kind, match="name"), fastconv.use_algorithm(word):
        pass
    if word is not None:
        with pytest.raises(kind, match="name"):
            fastconv.set_algorithm(word)


# ---- who chooses ---------------------------------------------------------------------------------


def integers(N=1, C=32, size=28):
    """A problem that the direct sum computes exactly, and Winograd's does not."""
    rng = np.random.default_rng(3)
    x = rng.integers(-9, 10, (N, C, size, size)).astype(np.float32)
    kernel = rng.integers(-9, 10, (C, C, 3, 3)).astype(np.float32)
    return x, kernel


def is_direct(y, x, kernel):
    return bool((y == reference.conv2d(x, kernel, padding=1)).all())


def test_nobody_chose():
    x, kernel = integers()
    assert fastconv.get_algorithm() == "direct"
    for word in ("auto", "direct"):
        assert is_direct(F.conv2d(x, kernel, padding=1, algorithm=word), x, kernel)
    assert not is_direct(F.conv2d(x, kernel, padding=1, algorithm="winograd"), x, kernel)


@pytest.mark.parametrize("chosen", ["auto", "winograd"])
def test_the_block_chooses(chosen):
    x, kernel = integers()
    with fastconv.use_algorithm(chosen):
        assert fastconv.get_algorithm() == chosen
        assert not is_direct(F.conv2d(x, kernel, padding=1), x, kernel)
        assert is_direct(F.conv2d(x, kernel, padding=1, algorithm="direct"), x, kernel)
        with fastconv.use_algorithm("direct"):
            assert is_direct(F.conv2d(x, kernel, padding=1), x, kernel)
    assert fastconv.get_algorithm() == "direct"


def test_the_process_chooses_and_takes_it_back():
    x, kernel = integers()
    try:
        fastconv.set_algorithm("winograd")
        assert not is_direct(F.conv2d(x, kernel, padding=1), x, kernel)
        with fastconv.use_algorithm("direct"):
            assert is_direct(F.conv2d(x, kernel, padding=1), x, kernel)
    finally:
        fastconv.set_algorithm(None)
    assert is_direct(F.conv2d(x, kernel, padding=1), x, kernel)


def test_models_take_the_cheaper_one_unless_the_user_chose():
    x, kernel = integers()
    model = fastconv.Sequential([fastconv.Conv2D(32, 3, padding=1, bias=False)])
    model.build((32, 28, 28))
    model.layers[0].params["kernel"][...] = kernel
    assert not is_direct(model.forward(x), x, kernel)
    with fastconv.use_algorithm("direct"):
        assert is_direct(model.forward(x), x, kernel)
    model.layers[0].algorithm = "direct"
    assert is_direct(model.forward(x), x, kernel)


def test_auto_keeps_to_direct_where_that_is_cheaper():
    """A deep layer on a single pixel: transforming its kernel would be most of the work."""
    shapes = (1, 256, 1, 1), (256, 256, 3, 3)
    for name in PASSES:
        plan = fastconv.explain(name, *shapes, padding=1, algorithm="winograd")
        assert plan.path.startswith("Winograd")
        with fastconv.use_algorithm("auto"):
            assert not fastconv.explain(name, *shapes, padding=1).path.startswith("Winograd")


def test_small_images_take_small_tiles():
    paths = [
        fastconv.explain("conv2d", (4, 32, size, size), (32, 32, 3, 3), padding=1,
                         algorithm="winograd").path
        for size in (2, 28)
    ]  # fmt: skip
    assert paths == [
        "Winograd, 2x2 outputs from 4x4 values", "Winograd, 4x4 outputs from 6x6 values"
    ]  # fmt: skip
