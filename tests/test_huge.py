"""Arrays of more than 2**31 elements are read and written where they should be.

Memory that nobody has written is there in name only, so an array of 8 GB costs nothing as long as
few of its pages are touched. Large strides, dilations and paddings see to that: a few values lie
at its beginning, at its end and around 2**31, and the windows that see them are few.
"""

import os
import resource

import numpy as np
import pytest
from arrays import assert_same

import fastconv

ROWS, COLUMNS = 2**15 + 4, 2**15 + 8  # x 2 or 3: beyond 2**31
STEP = 2**13
MOST = 1 << 30  # bytes that a test may touch


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.fixture(autouse=True)
def _few_pages_are_touched(request):
    before = peak()
    yield
    more = peak() - before
    assert more < MOST or request.node.get_closest_marker("long"), f"{more / 1e9:.1f} GB touched"


def sparse(channels: int, order: str, dtype=np.float32) -> np.ndarray:
    """(1, channels, ROWS, COLUMNS) of zeros that are not there, and some values that are."""
    if order == "contiguous":
        x = np.zeros((1, channels, ROWS, COLUMNS), dtype)
    else:
        x = np.zeros((1, ROWS, COLUMNS, channels), dtype).transpose(0, 3, 1, 2)
    assert x.size > 2**31
    # What windows at multiples of STEP see, and their neighbours.
    corners = x[:, :, ::STEP, ::STEP]
    corners[...] = np.arange(1, corners.size + 1).reshape(corners.shape)
    x[:, :, 1::STEP, 1::STEP] = 100
    x[:, :, -1, -1] = 7
    return x


ORDERS = pytest.mark.parametrize("order", ["contiguous", "channels_last"])


@ORDERS
def test_convolution(order):
    x = sparse(2, order)
    kernel = np.arange(1, 17, dtype=np.float32).reshape(2, 2, 2, 2)
    rest = {"stride": STEP, "dilation": 3}
    # The same taps of an image that holds nothing else.
    near = np.ascontiguousarray(
        np.stack([x[:, :, i : i + 1 + (ROWS - 4) // STEP * STEP : STEP, :] for i in (0, 3)], 3)
    )
    near = np.stack(
        [near[..., j : j + 1 + (COLUMNS - 8) // STEP * STEP : STEP] for j in (0, 3)], -1
    )
    expected = np.einsum("nihtwu,oitu->nohw", near.astype(np.float64), kernel)
    y = fastconv.conv2d(x, kernel, **rest)
    assert expected.any()
    assert_same(y, expected.astype(np.float32), order)
    dy = np.arange(1, y.size + 1, dtype=np.float32).reshape(y.shape)
    expected = np.einsum("nihtwu,nohw->oitu", near.astype(np.float64), dy)
    got = fastconv.conv2d_backward_kernel(dy, x, kernel.shape, **rest)
    assert_same(got, expected.astype(np.float32), order)
    # Its transposed twin is the same sum with the arrays in other places.
    got = fastconv.conv_transpose2d_backward_input(
        x[:, :, : 3 * STEP + 1, : 3 * STEP + 1], kernel[..., :1, :1], (1, 2, 4, 4), stride=STEP
    )
    expected = np.einsum("nihw,oi->nohw", x[:, :, : 3 * STEP + 1 : STEP, : 3 * STEP + 1 : STEP],
                         kernel[..., 0, 0])  # fmt: skip
    assert_same(got, expected, order)


FAR, NEAR = ((ROWS - 2, 0), (COLUMNS - 2, 0)), ((2, 0), (2, 0))


def last_pixels(dy: np.ndarray) -> np.ndarray:
    """All that an image of 3x3 pixels sees of dy, where the padding before it is FAR."""
    return np.ascontiguousarray(dy[:, :, -4:, -4:])


@ORDERS
def test_a_gradient_larger_than_the_image(order):
    """Nearly all windows see padding only."""
    dy = sparse(2, order)
    kernel = np.arange(1, 17, dtype=np.float32).reshape(2, 2, 2, 2)
    shape = (1, 2, 3, 3)
    # y[oh] = x[oh + kh - pad]: the pixels of x meet the last rows and columns of dy.
    dx = fastconv.conv2d_backward_input(dy, kernel, shape, padding=FAR)
    assert dx.any()
    expected = fastconv.conv2d_backward_input(last_pixels(dy), kernel, shape, padding=NEAR)
    assert_same(dx, expected, order)


@pytest.mark.long
@ORDERS
def test_a_gradient_of_the_kernel_mostly_from_padding(order):
    """The same dy: all of it is gone through, which takes seconds."""
    dy = sparse(2, order)
    x = np.arange(1, 19, dtype=np.float32).reshape(1, 2, 3, 3)
    last = last_pixels(dy)
    dk = fastconv.conv2d_backward_kernel(dy, x, (2, 2, 2, 2), padding=FAR)
    assert dk.any()
    assert_same(dk, fastconv.conv2d_backward_kernel(last, x, (2, 2, 2, 2), padding=NEAR), order)


@ORDERS
def test_pooling(order):
    x = sparse(3, order)
    rest = {"stride": STEP}
    seen = x[:, :, : 4 * STEP : STEP, : 4 * STEP : STEP]
    if order == "channels_last":  # a planar image is turned, rows that no window sees too
        y, places = fastconv.max_pool2d(x, 1, return_indices=True, **rest)
        assert_same(y[..., :4, :4], seen, order)
        expected = np.arange(4)[:, None] * STEP * COLUMNS + np.arange(4) * STEP
        assert_same(places[..., :4, :4], np.broadcast_to(expected, seen.shape).astype(np.int32), "")
        y = fastconv.max_pool2d(x, 2, **rest)
        assert (y[..., :4, :4] == np.maximum(seen, 100)).all()
    y = fastconv.avg_pool2d(x, 2, **rest)
    assert_same(y[..., :4, :4], (seen + 100) / 4, order)


def test_one_element_seen_everywhere():
    """2**40 pixels of which each is the same number."""
    x = np.broadcast_to(np.float32(3), (1, 1, 2**20, 2**20))
    y = fastconv.conv2d(x, np.ones((2, 1, 3, 3), np.float32), stride=2**18)
    assert_same(y, np.full((1, 2, 4, 4), 27, np.float32), "")
    got = fastconv.conv2d_backward_kernel(np.ones_like(y), x, (2, 1, 3, 3), stride=2**18)
    assert_same(got, np.full((2, 1, 3, 3), 48, np.float32), "")
    y = fastconv.avg_pool2d(x[:, :, : 2**14], 2, stride=(2**12, 2**18))
    assert_same(y, np.full((1, 1, 4, 4), 3, np.float32), "")


def test_dense():
    """All of it is read, as zeros of one page; a row begins beyond 2**31."""
    x = np.zeros((2**16 + 1, 2**15), np.float32)
    x[-1, -1] = x[2**15, 5] = 3
    kernel = np.full((1, 2**15), 2, np.float32)
    expected = np.zeros((2**16 + 1, 1), np.float32)
    expected[-1] = expected[2**15] = 6
    assert_same(fastconv.dense(x, kernel), expected, "")


def available() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.long
def test_results_of_more_than_two_to_the_31st_elements():
    """Results have to be written: this one needs ten gigabytes."""
    if available() < 12 << 30:
        pytest.skip("not enough memory")
    y = fastconv.upsample2d(np.arange(2**11 + 1, dtype=np.float32).reshape(1, -1, 1, 1), 2**10)
    assert y.size > 2**31
    assert (y[0, :, -1, -1] == np.arange(2**11 + 1)).all() and (y[0, -1] == 2**11).all()
    del y
    fastconv.release_memory()
    y = fastconv.conv2d(
        np.ones((1, 1, 1, 1), np.float32), np.ones((33, 1, 3, 3), np.float32), padding=2**12
    )
    assert y.size > 2**31
    middle = y[..., 2**12 - 2 : 2**12 + 1, 2**12 - 2 : 2**12 + 1]
    assert (middle == 1).all() and np.count_nonzero(y[0, -1]) == np.count_nonzero(y[0, 0]) == 9
    del y
    fastconv.release_memory()
