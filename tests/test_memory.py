"""No operation reads or writes a byte outside of its arrays.

Each array lies flush against a page that the system forbids to touch, once at its end and once at
its beginning. A kernel that reaches one element too far does not give a wrong result here; it ends
the process.
"""

import ctypes
import mmap
import sys

import numpy as np
import pytest
from arrays import ORDERS, assert_same, integer_operands
from shapes import EDGES, Problem, random_problems

import fastconv
from fastconv import reference, training

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith(("linux", "darwin")), reason="needs mprotect"
)


def guarded(array: np.ndarray, order: str, side: str) -> np.ndarray:
    """A copy of the array in the given order with a forbidden page at its "begin" or "end"."""
    memory = array if order == "contiguous" else np.moveaxis(array, -3, -1)
    page = mmap.PAGESIZE
    inside = -(-max(memory.nbytes, 1) // page) * page
    buffer = mmap.mmap(-1, inside + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for guard in (start, start + page + inside):
        if libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = page if side == "begin" else page + inside - memory.nbytes
    view = np.frombuffer(buffer, memory.dtype, memory.size, offset).reshape(memory.shape)
    view[...] = memory
    return view if order == "contiguous" else np.moveaxis(view, -1, -3)


@pytest.mark.parametrize("side", ["begin", "end"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolution(dtype, order, side, isa, count):
    for problem in (*EDGES, *random_problems(count(300, 3000), seed=12)):
        x, kernel, bias, dy = integer_operands(problem, dtype)
        keywords = problem.keywords
        expected = (
            reference.conv2d(x, kernel, bias, **keywords),
            reference.conv2d_backward_input(dy, kernel, x.shape, **keywords),
            reference.conv2d_backward_kernel(dy, x, kernel.shape, **keywords),
        )
        x, dy = guarded(x, order, side), guarded(dy, order, side)
        kernel, bias = guarded(kernel, "contiguous", side), guarded(bias, "contiguous", side)
        y, dx = (guarded(np.zeros(a.shape, dtype), order, side) for a in expected[:2])
        dk = guarded(np.zeros(kernel.shape, dtype), "contiguous", side)
        fastconv.conv2d(x, kernel, bias, out=y, **keywords)
        fastconv.conv2d_backward_input(dy, kernel, x.shape, out=dx, **keywords)
        fastconv.conv2d_backward_kernel(dy, x, kernel.shape, out=dk, **keywords)
        for got, wanted in zip((y, dx, dk), expected, strict=True):
            assert_same(got, wanted, f"{problem}, {order}")
        fastconv.conv2d_backward_bias(dy)


@pytest.mark.parametrize("side", ["begin", "end"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_winograd(dtype, order, side, isa):
    """All tails of tiles, 1 to 9 pixels, and of vectors of channels."""
    for size in range(1, 10):
        problem = Problem(2, 5 + 9 * size, size, 10 - size, 4 * size + 3, 3, 3, padding=1)
        x, kernel, bias, dy = integer_operands(problem, dtype)
        rest = problem.keywords
        expected = (
            reference.conv2d(x, kernel, bias, **rest),
            reference.conv2d_backward_input(dy, kernel, x.shape, **rest),
            reference.conv2d_backward_kernel(dy, x, kernel.shape, **rest),
        )
        x, dy = guarded(x, order, side), guarded(dy, order, side)
        kernel, bias = guarded(kernel, "contiguous", side), guarded(bias, "contiguous", side)
        y, dx = (guarded(np.zeros(a.shape, dtype), order, side) for a in expected[:2])
        dk = guarded(np.zeros(kernel.shape, dtype), "contiguous", side)
        rest = {"algorithm": "winograd", **rest}
        fastconv.conv2d(x, kernel, bias, out=y, **rest)
        fastconv.conv2d_backward_input(dy, kernel, x.shape, out=dx, **rest)
        fastconv.conv2d_backward_kernel(dy, x, kernel.shape, out=dk, **rest)
        for got, wanted in zip((y, dx, dk), expected, strict=True):
            bound = 1e3 * np.finfo(dtype).eps * abs(wanted).max()
            assert abs(got - wanted).max() <= bound, f"{problem}, {order}"


@pytest.mark.parametrize("side", ["begin", "end"])
@pytest.mark.parametrize("order", ORDERS)
def test_the_other_operations(order, side, isa, rng):
    for problem in random_problems(100, seed=13):
        x = integer_operands(problem)[0]
        x = guarded(x, order, side)
        y, indices = fastconv.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)
        dy, indices = guarded(y, order, side), guarded(indices, order, side)
        fastconv.max_pool2d_backward(dy, indices, x.shape)
        for window in ((2, 2, 0), (3, 2, 1), (2, 3, 1)):
            size, stride, padding = (min(v, x.shape[2], x.shape[3]) for v in window)
            rest = {"stride": stride, "padding": min(padding, size // 2)}
            y, taps = training.max_pool2d_taps(x, size, **rest)
            dy, taps = guarded(y, order, side), guarded(taps, "channels_last", side)
            training.max_pool2d_taps_backward(dy, taps, x.shape, size, y=dy, **rest)
        value, grad, state = (guarded(x, "contiguous", side) for _ in range(3))
        training.sgd_update(value, grad, state, rate=0.1, momentum=0.9)
        fastconv.relu_backward(x, fastconv.relu(x))
        fastconv.as_channels_last(x)
        fastconv.as_contiguous(x)
        flat = guarded(rng.standard_normal((problem.oc, problem.iw)), "contiguous", side)
        kernel = guarded(rng.standard_normal((problem.ih, problem.iw)), "contiguous", side)
        fastconv.dense_backward(fastconv.dense(flat, kernel), flat, kernel)
        labels = guarded(rng.integers(0, problem.iw, problem.oc), "contiguous", side)
        fastconv.softmax_cross_entropy(flat, labels)
        fastconv.softmax(flat)
        fastconv.log_softmax(flat)
