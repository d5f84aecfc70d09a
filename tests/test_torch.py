"""The same numbers as PyTorch, on real values, where PyTorch is installed."""

import numpy as np
import pytest
from arrays import ORDERS, in_order, real_operands
from shapes import LAYERS, random_problems

import fastconv

torch = pytest.importorskip("torch")
F = torch.nn.functional

TOLERANCE = {np.float32: {"rtol": 1e-4, "atol": 1e-4}, np.float64: {"rtol": 1e-11, "atol": 1e-11}}
MEDIUM_LAYERS = [name for name, layer in LAYERS.items() if layer.flops < 1.2e9]


def check_convolution(problem, order, dtype):
    x, kernel, bias, dy = real_operands(problem, dtype)
    tx, tk, tb = (torch.tensor(a, requires_grad=True) for a in (x, kernel, bias))
    (top, bottom), (left, right) = problem.pads
    ty = F.conv2d(
        F.pad(tx, (left, right, top, bottom)),
        tk,
        tb,
        problem.stride,
        0,
        problem.dilation,
        problem.groups,
    )
    ty.backward(torch.tensor(dy))

    xo, dyo = in_order(x, order), in_order(dy, order)
    keywords = problem.keywords
    # Errors grow with the root of the number of terms; so do the values of random sums.
    results = {
        "forward": (fastconv.conv2d(xo, kernel, bias, **keywords), ty),
        "input gradient": (
            fastconv.conv2d_backward_input(dyo, kernel, x.shape, **keywords),
            tx.grad,
        ),
        "kernel gradient": (
            fastconv.conv2d_backward_kernel(dyo, xo, kernel.shape, **keywords),
            tk.grad,
        ),
        "bias gradient": (fastconv.conv2d_backward_bias(dyo), tb.grad),
    }
    for name, (got, wanted) in results.items():
        wanted = wanted.detach().numpy()
        scale = max(1.0, float(np.abs(wanted).max()) if wanted.size else 1.0)
        what = f"{name} of {problem}, {order}"
        np.testing.assert_allclose(got / scale, wanted / scale, **TOLERANCE[dtype], err_msg=what)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolution(dtype, order):
    for problem in random_problems(150, seed=16):
        if problem.n:
            check_convolution(problem, order, dtype)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", MEDIUM_LAYERS)
def test_layers_of_known_networks(name, order):
    check_convolution(LAYERS[name], order, np.float32)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "size, rest",
    [
        (2, {}),
        (3, {"stride": 2, "padding": 1}),
        ((2, 3), {"stride": (1, 2), "padding": (1, 0)}),
        (3, {"stride": 2, "ceil_mode": True}),
        (2, {"stride": 3, "ceil_mode": True}),
        (2, {"stride": 1, "dilation": (2, 3)}),
    ],
    ids=str,
)
def test_max_pooling(size, rest, order, rng):
    for shape in ((2, 3, 12, 13), (1, 33, 9, 32), (3, 1, 6, 7)):
        x = rng.standard_normal(shape, np.float32)
        x[rng.random(shape) < 0.02] = np.nan
        tx = torch.tensor(x, requires_grad=True)
        ty, tindices = F.max_pool2d(tx, size, return_indices=True, **rest)
        y, indices = fastconv.max_pool2d(in_order(x, order), size, return_indices=True, **rest)
        np.testing.assert_array_equal(y, ty.detach().numpy())
        np.testing.assert_array_equal(indices, tindices.numpy())
        dy = rng.standard_normal(y.shape, np.float32)
        ty.backward(torch.tensor(dy))
        dx = fastconv.max_pool2d_backward(in_order(dy, order), indices, shape)
        np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_dense(dtype, rng):
    x, kernel, bias = (rng.standard_normal(s).astype(dtype) for s in ((32, 200), (70, 200), (70,)))
    tx, tk, tb = (torch.tensor(a, requires_grad=True) for a in (x, kernel, bias))
    ty = torch.relu(F.linear(tx, tk, tb))
    y = fastconv.dense(x, kernel, bias, activation="relu")
    np.testing.assert_allclose(y, ty.detach().numpy(), **TOLERANCE[dtype])
    dy = rng.standard_normal(y.shape).astype(dtype)
    ty.backward(torch.tensor(dy))
    gradients = fastconv.dense_backward(fastconv.relu_backward(dy, y), x, kernel)
    for got, wanted in zip(gradients, (tx, tk, tb), strict=True):
        np.testing.assert_allclose(got, wanted.grad.numpy(), **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_losses(dtype, rng):
    logits, labels = (5 * rng.standard_normal((64, 10))).astype(dtype), rng.integers(0, 10, 64)
    tlogits = torch.tensor(logits, requires_grad=True)
    tloss = F.cross_entropy(tlogits, torch.tensor(labels))
    tloss.backward()
    loss, dlogits = fastconv.softmax_cross_entropy(logits, labels)
    assert loss == pytest.approx(tloss.item(), rel=1e-5)
    np.testing.assert_allclose(dlogits, tlogits.grad.numpy(), **TOLERANCE[dtype])
    np.testing.assert_allclose(
        fastconv.softmax(logits), F.softmax(tlogits, 1).detach().numpy(), **TOLERANCE[dtype]
    )
    np.testing.assert_allclose(
        fastconv.log_softmax(logits), F.log_softmax(tlogits, 1).detach().numpy(), **TOLERANCE[dtype]
    )
