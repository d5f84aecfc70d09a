"""Gradients against finite differences, in float64, through a weighted sum of the results.

For a scalar ``L`` and an argument ``a``, ``(L(a + h e) - L(a - h e)) / 2h`` in random directions
``e`` must be ``<dL/da, e>``. A convolution is linear, so only rounding separates the two; for the
others ``h`` is small enough that no maximum changes its winner.
"""

import numpy as np
import pytest
from arrays import ORDERS, in_order
from shapes import random_problems

import fastconv

PROBLEMS = [p for p in random_problems(120, seed=15) if p.n]


def check(loss, arrays: dict, gradients: dict, rng, h: float = 1e-6, what: object = "") -> None:
    """Each argument in three random directions."""
    for name, gradient in gradients.items():
        for _ in range(3):
            e = rng.standard_normal(arrays[name].shape)
            up, down = (loss(**{**arrays, name: arrays[name] + s * h * e}) for s in (1, -1))
            expected = np.vdot(gradient, e)
            scale = 1 + np.linalg.norm(gradient) * np.linalg.norm(e)
            assert abs((up - down) / (2 * h) - expected) <= 1e-6 * scale, f"{name}, {what}"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("activation", [None, "relu"])
def test_convolution(activation, order, rng):
    for problem in PROBLEMS:
        x = in_order(rng.standard_normal(problem.x_shape), order)
        kernel, bias = rng.standard_normal(problem.kernel_shape), rng.standard_normal(problem.oc)
        weights = in_order(rng.standard_normal(problem.y_shape), order)
        rest = problem.keywords

        def loss(x, kernel, bias, rest=rest, weights=weights):
            return np.vdot(weights, fastconv.conv2d(x, kernel, bias, activation=activation, **rest))

        y = fastconv.conv2d(x, kernel, bias, activation=activation, **rest)
        dy = fastconv.relu_backward(weights, y) if activation else weights
        gradients = {
            "x": fastconv.conv2d_backward_input(dy, kernel, x.shape, **rest),
            "kernel": fastconv.conv2d_backward_kernel(dy, x, kernel.shape, **rest),
            "bias": fastconv.conv2d_backward_bias(dy),
        }
        # A step so small that hardly any pixel crosses the kink of the ReLU, and those barely.
        check(loss, {"x": x, "kernel": kernel, "bias": bias}, gradients, rng, 1e-7, problem)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "size, rest", [(2, {}), (3, {"stride": 2, "padding": 1}), ((2, 3), {"stride": 1})]
)
def test_max_pooling(size, rest, order, rng):
    x = in_order(rng.permutation(2 * 5 * 9 * 8).reshape(2, 5, 9, 8).astype(np.float64), order)
    y, indices = fastconv.max_pool2d(x, size, return_indices=True, **rest)
    weights = rng.standard_normal(y.shape)

    def loss(x):
        return np.vdot(weights, fastconv.max_pool2d(x, size, **rest))

    dx = fastconv.max_pool2d_backward(weights, indices, x.shape)
    check(loss, {"x": x}, {"x": dx}, rng)


@pytest.mark.parametrize("activation", [None, "relu"])
def test_dense(activation, rng):
    x, kernel, bias = (rng.standard_normal(shape) for shape in ((6, 17), (9, 17), (9,)))
    weights = rng.standard_normal((6, 9))

    def loss(x, kernel, bias):
        return np.vdot(weights, fastconv.dense(x, kernel, bias, activation=activation))

    y = fastconv.dense(x, kernel, bias, activation=activation)
    dy = fastconv.relu_backward(weights, y) if activation else weights
    gradients = dict(
        zip(("x", "kernel", "bias"), fastconv.dense_backward(dy, x, kernel), strict=True)
    )
    check(loss, {"x": x, "kernel": kernel, "bias": bias}, gradients, rng)


def test_softmax_cross_entropy(rng):
    logits, labels = 3 * rng.standard_normal((8, 5)), rng.integers(0, 5, 8)

    def loss(logits):
        return fastconv.softmax_cross_entropy(logits, labels)[0]

    dlogits = fastconv.softmax_cross_entropy(logits, labels)[1]
    check(loss, {"logits": logits}, {"logits": dlogits}, rng)
