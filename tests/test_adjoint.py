"""Each gradient is the transposed map of the convolution, exactly.

A convolution is linear in ``x`` and linear in ``kernel``; its gradients are the transposes of those
two maps, so for any operands at all

    <dy, conv2d(x, kernel)> = <dx, x> = <dkernel, kernel>

where ``<a, b>`` sums the products of all elements. On integers the three numbers are equal, not
close. The identity needs no reference, so it also holds the layers that are too large for one.
"""

import numpy as np
import pytest
from arrays import ORDERS, in_order, integer_operands
from shapes import EDGES, LAYERS, Problem, random_problems

import fastconv

PROBLEMS = (*EDGES, *random_problems(500, seed=2))


def inner(a: np.ndarray, b: np.ndarray) -> int:
    """The exact sum of products: the values are integers, and below 2**63 in sum."""
    return int(np.vdot(a.astype(np.int64), b.astype(np.int64)))


def check(problem: Problem, order: str, dtype=np.float32) -> None:
    x, kernel, _, dy = integer_operands(problem, dtype)
    x, dy = in_order(x, order), in_order(dy, order)
    y = fastconv.conv2d(x, kernel, **problem.keywords)
    dx = fastconv.conv2d_backward_input(dy, kernel, x.shape, **problem.keywords)
    dkernel = fastconv.conv2d_backward_kernel(dy, x, kernel.shape, **problem.keywords)
    forward = inner(dy, y)
    assert inner(dx, x) == forward, f"input gradient of {problem}, {order}"
    assert inner(dkernel, kernel) == forward, f"kernel gradient of {problem}, {order}"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunk", range(5))
def test_small_problems(chunk, dtype, order, isa):
    for problem in PROBLEMS[chunk::5]:
        check(problem, order, dtype)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_known_networks(name, order):
    check(LAYERS[name], order)
