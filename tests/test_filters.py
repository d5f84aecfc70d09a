"""Kernels as they stand in textbooks, and filtered images as SciPy makes them.

Images and kernels of small integers make every sum exact, so the borders, where the mistakes are,
are compared with ==.
"""

import itertools
import math

import numpy as np
import pytest
from arrays import LAYOUTS, integers

from fastconv import filters
from fastconv.filters import filter_image

ndimage = pytest.importorskip("scipy.ndimage")

MODES = ("reflect", "constant", "nearest", "mirror", "wrap")
SIZES = ((1, 1), (2, 2), (3, 3), (4, 5), (1, 6), (7, 1), (9, 9), (13, 8), (3, 15))
IMAGES = ((1, 1), (1, 5), (6, 1), (2, 3), (5, 7), (9, 4), (20, 31))


@pytest.fixture(autouse=True, params=[True, False], ids=["strips", "whole"])
def in_strips(request, monkeypatch):
    """Small images, too, are computed inside first and then along their borders."""
    if request.param:
        monkeypatch.setattr(filters, "SMALL", 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_borders_are_those_of_scipy(mode, dtype):
    rng = np.random.default_rng(1)
    for shape, size in itertools.product(IMAGES, SIZES):
        image, kernel = integers(rng, shape, 9, dtype), integers(rng, size, 9, np.float64)
        got = filter_image(image, kernel, mode=mode, value=-3)
        expected = ndimage.correlate(image, kernel, mode=mode, cval=-3)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected, f"{shape} with {size}")


@pytest.mark.parametrize(("mode", "pad"), [
    ("reflect", {"mode": "symmetric"}),
    ("mirror", {"mode": "reflect"}),
    ("nearest", {"mode": "edge"}),
    ("wrap", {"mode": "wrap"}),
    ("constant", {"constant_values": 5}),
])  # fmt: skip
def test_kernels_many_times_as_large_as_the_image(mode, pad):
    """Where SciPy's "reflect" reads beside the image, NumPy pads as it should."""
    rng = np.random.default_rng(11)
    for shape, (KH, KW) in itertools.product(((1, 1), (2, 3), (3, 4)), ((3, 40), (31, 32))):
        image, kernel = integers(rng, shape, 9), integers(rng, (KH, KW), 9)
        around = ((KH // 2, KH - 1 - KH // 2), (KW // 2, KW - 1 - KW // 2))
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, around, **pad), (KH, KW))
        got = filter_image(image, kernel, mode=mode, value=5)
        np.testing.assert_array_equal(got, (windows * kernel).sum(axis=(2, 3)))


@pytest.mark.parametrize("mode", MODES)
def test_values_that_round(mode):
    rng = np.random.default_rng(2)
    for shape, size in (((40, 50), (5, 4)), ((6, 70), (9, 3)), ((64, 64), (1, 9))):
        image, kernel = rng.standard_normal(shape), rng.standard_normal(size)
        expected = ndimage.correlate(image, kernel, mode=mode, cval=0.5)
        got = filter_image(image, kernel, mode=mode, value=0.5)
        np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)
        got = filter_image(image.astype(np.float32), kernel, mode=mode, value=0.5)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(40, 33), (5, 40), (11, 12)])
def test_a_column_times_a_row_is_two_passes(mode, shape):
    """The sums of a separable kernel are cut in two, at the borders and beyond them as well."""
    rng = np.random.default_rng(3)
    column, row = integers(rng, (17, 1), 4, np.float64), integers(rng, (1, 14), 4, np.float64)
    column[3], row[0, 5] = 5, 5
    image = integers(rng, shape, 9, np.float64)
    kernel = column * row
    assert filters._column_and_row(kernel) is not None
    got = filter_image(image, kernel, mode=mode, value=7)
    # The row is divided by its largest value, a rounding that the sums then carry.
    expected = ndimage.correlate(image, kernel, mode=mode, cval=7)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13 * np.abs(kernel).sum() * 9)


@pytest.mark.parametrize("kernel", [
    np.outer(np.arange(1.0, 18), np.ones(17)) + 1e-12 * np.eye(17),
    np.zeros((20, 20)),
    np.full((20, 20), np.inf),
    np.eye(20),
])  # fmt: skip
def test_a_kernel_that_only_resembles_a_product_is_one_pass(kernel):
    assert filters._column_and_row(kernel) is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kernels", [(3, 3), (1, 4, 3), (5, 2, 3)])
@pytest.mark.parametrize("shape", [(7, 9), (3, 7, 9), (2, 3, 7, 9), (4, 1, 1, 3), (3, 2, 2)])
def test_channels_batches_and_several_kernels(shape, kernels, mode):
    rng = np.random.default_rng(4)
    image, kernel = integers(rng, shape, 9), integers(rng, kernels, 9)
    got = filter_image(image, kernel, mode=mode, value=2)
    assert got.shape == kernels[:-2] + shape
    planes = [
        ndimage.correlate(plane, k, mode=mode, cval=2)
        for k in kernel.reshape(-1, *kernels[-2:])
        for plane in image.reshape(-1, *shape[-2:])
    ]
    np.testing.assert_array_equal(got, np.reshape(planes, got.shape))


@pytest.mark.parametrize("kernels", [(3, 3), (2, 4, 3)])
@pytest.mark.parametrize("mode", MODES)
def test_a_photograph_is_filtered_where_it_lies(mode, kernels):
    rng = np.random.default_rng(5)
    for channels in (1, 2, 3, 4):
        photo = rng.integers(0, 256, (8, 9, channels)).astype(np.uint8)
        image, kernel = np.moveaxis(photo, -1, 0), integers(rng, kernels, 9)
        got = filter_image(image, kernel, mode=mode)
        assert got.dtype == np.float64  # bytes are whole numbers, which compute in float64
        expected = filter_image(np.ascontiguousarray(image), kernel, mode=mode)
        np.testing.assert_array_equal(got, expected)
        assert kernel.ndim == 3 or np.moveaxis(got, 0, -1).flags.c_contiguous  # as it came


@pytest.mark.parametrize("name", LAYOUTS)
def test_any_memory(name):
    rng = np.random.default_rng(6)
    image, kernel = integers(rng, (3, 9, 8)), integers(rng, (2, 3, 2))
    expected = filter_image(image, kernel)
    np.testing.assert_array_equal(filter_image(LAYOUTS[name](image), kernel), expected)
    np.testing.assert_array_equal(filter_image(image, LAYOUTS[name](kernel)), expected)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint64, np.float16, ">f4", ">f8"])
def test_types(dtype):
    image = np.arange(30).reshape(5, 6) % 7
    expected = ndimage.correlate(image.astype(dtype).astype(float), filters.sharpen())
    got = filter_image(image.astype(dtype), filters.sharpen())
    assert got.dtype == (np.float32 if dtype in (np.float16, ">f4") else np.float64)
    np.testing.assert_array_equal(got, expected)


def test_arguments_stay_and_the_result_is_new():
    image, kernel = np.ones((4, 5)), np.ones((1, 1))
    result = filter_image(image, kernel)
    result += 1
    assert (image == 1).all() and (kernel == 1).all()


def test_an_image_of_nothing():
    assert filter_image(np.zeros((3, 0, 5)), np.ones((2, 3, 3))).shape == (2, 3, 0, 5)


@pytest.mark.parametrize(("arguments", "message"), [
    ((np.ones(5), np.ones((3, 3))), r"image: expected shape \(\.\.\., H, W\), got \(5,\)"),
    ((np.ones((5, 5)), np.ones(3)), r"kernel: expected shape .* got \(3,\)"),
    ((np.ones((5, 5)), np.ones((0, 3))), r"kernel: expected shape .* got \(0, 3\)"),
    ((np.ones((5, 5)), np.ones((1, 1, 3, 3))), r"kernel: expected shape"),
    ((np.ones((5, 5), complex), np.ones((3, 3))), r"image: expected real numbers"),
    ((np.ones((5, 5)), [["a"]]), r"kernel: expected real numbers"),
    ((None, np.ones((3, 3))), r"image: expected an array, got None"),
])  # fmt: skip
def test_what_is_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        filter_image(*arguments)


def test_an_unknown_mode():
    with pytest.raises(ValueError, match=r"^mode: expected one of 'reflect', .*, got 'symmetric'"):
        filter_image(np.ones((3, 3)), np.ones((3, 3)), mode="symmetric")


# -- kernels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sobel", "prewitt"])
def test_edges_are_those_of_scipy(name):
    image = integers(np.random.default_rng(7), (9, 11), 9, np.float64)
    across, down = filter_image(image, getattr(filters, name)())
    np.testing.assert_array_equal(across, getattr(ndimage, name)(image, axis=1))
    np.testing.assert_array_equal(down, getattr(ndimage, name)(image, axis=0))


def test_scharr():
    across, down = filters.scharr()
    np.testing.assert_array_equal(across, [[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]])
    np.testing.assert_array_equal(down, across.T)


def test_laplacian_and_sharpen():
    image = integers(np.random.default_rng(8), (9, 11), 9, np.float64)
    np.testing.assert_array_equal(
        filter_image(image, filters.laplacian()), ndimage.laplace(image)
    )
    np.testing.assert_array_equal(filters.laplacian(diagonals=True), 1 - 9 * (np.indices((3, 3))
                                                                               == 1).all(axis=0))
    sharper = filter_image(image, filters.sharpen(2))
    np.testing.assert_array_equal(sharper, image - 2 * ndimage.laplace(image))


def test_box():
    image = np.random.default_rng(9).standard_normal((30, 40))
    for size in (3, 4, (2, 9), 12):
        expected = ndimage.uniform_filter(image, size)
        np.testing.assert_allclose(filter_image(image, filters.box(size)), expected, atol=1e-13)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1, 1.7, 4])
def test_gaussian(sigma):
    image = np.random.default_rng(10).standard_normal((30, 40))
    kernel = filters.gaussian(sigma)
    expected = ndimage.gaussian_filter(image, sigma)
    np.testing.assert_allclose(filter_image(image, kernel), expected, atol=1e-13)
    assert kernel.sum() == pytest.approx(1, abs=1e-14)


def test_gaussian_of_a_given_size_is_symmetric():
    for size in (1, 4, 5):
        kernel = filters.gaussian(1.5, size)
        assert kernel.shape == (size, size)
        np.testing.assert_array_equal(kernel, kernel[::-1, ::-1])
        np.testing.assert_array_equal(kernel, kernel.T)


def stripes(wavelength: float, angle: float) -> np.ndarray:
    h, w = np.indices((81, 81)) - 40
    return np.cos(2 * math.pi * (w * math.cos(angle) + h * math.sin(angle)) / wavelength)


def test_a_gabor_kernel_answers_most_to_its_own_stripes():
    bank = filters.gabor_bank((5.0, 10.0), orientations=4, size=41)
    assert bank.shape == (8, 41, 41)
    np.testing.assert_allclose(bank.sum(axis=(1, 2)), 0, atol=1e-15)
    np.testing.assert_allclose(np.abs(bank).sum(axis=(1, 2)), 1)
    pairs = [(wavelength, k * math.pi / 4) for wavelength in (5, 10) for k in range(4)]
    for own, (wavelength, angle) in enumerate(pairs):
        answers = filter_image(stripes(wavelength, angle), bank)[:, 40, 40]
        assert answers.argmax() == own
        assert answers[own] > 3 * np.delete(answers, own).max()


def test_phase_of_a_gabor_kernel():
    step = np.where(np.arange(41) < 20, 0.0, 1.0) * np.ones((41, 1))
    edge = filter_image(step, filters.gabor(10, phase=-math.pi / 2))
    assert abs(int(edge[20].argmax()) - 20) <= 1  # it answers where brightness rises
    rotated = filters.gabor(10, math.pi / 2, phase=-math.pi / 2)
    np.testing.assert_allclose(rotated, filters.gabor(10, phase=-math.pi / 2).T, atol=1e-15)


def test_kernels_are_new_each_time():
    for make in (filters.sobel, filters.scharr, filters.prewitt, filters.laplacian):
        assert make().dtype == np.float64
        make()[...] = 0
        assert make().any()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: filters.box(0), "size: expected a positive integer, got 0"),
    (lambda: filters.gaussian(0), "sigma: expected a positive number, got 0"),
    (lambda: filters.gaussian(math.nan), "sigma: expected a positive number, got nan"),
    (lambda: filters.gaussian(1, 2.5), "size: expected a positive integer, got 2.5"),
    (lambda: filters.gabor(-1), "wavelength: expected a positive number, got -1"),
    (lambda: filters.gabor(4, aspect=0), "aspect: expected a positive number"),
    (lambda: filters.gabor_bank(()), "wavelengths: expected at least one, got none"),
    (lambda: filters.gabor_bank(orientations=0), "orientations: expected a positive integer"),
])  # fmt: skip
def test_kernels_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
