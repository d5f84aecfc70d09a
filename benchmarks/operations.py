"""How each library does one operation on arrays: convolution, pooling, dense layer, normalisation.

Each public function returns *makers*, by the name of the contender: ``"fastconv contiguous"``,
``"torch channels_last"``. A maker allocates the arrays and returns the call to time. All contenders
of an operation get the same values, and allocate their results the way they do for any caller.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from peers import onnx, onnx_call, scipy, to_torch, torch

import fastconv

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from arrays import ORDERS, in_order, real_operands
from shapes import Problem

PASSES = ("forward", "input gradient", "kernel gradient")

Call = Callable[[], Any]
Makers = dict[str, Callable[[], Call]]
Window = tuple[int, int, int]  # size, stride, padding


def contend(orders: Sequence[str] = ORDERS, **sides: Callable[[str], Call] | None) -> Makers:
    """One contender for each library and memory order."""
    return {
        f"{side} {order}".strip(): partial(make, order)
        for side, make in sides.items()
        if make
        for order in orders
    }


# The last problem's arrays, as its contenders are made one after the other.
operands = lru_cache(maxsize=1)(real_operands)


@lru_cache(maxsize=1)
def random(*shapes: Sequence[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


# ---- convolution -----------------------------------------------------------------------------


def convolution(problem: Problem, operation: str, dtype: str = "float32") -> Makers:
    """One of PASSES; "copy" moves as many bytes where that is all that a convolution can reach."""
    work = (problem, operation, dtype)
    ours, theirs = (partial(f, *work) for f in (our_convolution, torch_convolution))
    makers = contend(fastconv=ours, torch=theirs if torch else None)
    if onnx and operation == "forward" and dtype == "float32":
        makers["onnxruntime"] = partial(onnx_convolution, problem)
    same_size = problem.x_shape == problem.y_shape
    one_plane = same_size and problem.n == problem.ic == problem.oc == 1
    if scipy and one_plane and operation == "forward":
        for module in ("signal", "ndimage"):
            makers[f"scipy {module}"] = partial(scipy_convolution, problem, module)
    if problem.groups == problem.ic == problem.oc > 1 and dtype == "float32":
        for how in ("numpy", "relu"):
            makers[f"copy {how}"] = partial(copy, problem, how)
    return makers


def our_convolution(problem: Problem, operation: str, dtype: str, order: str) -> Call:
    x, kernel, _, dy = operands(problem, dtype)
    x, dy = in_order(x, order), in_order(dy, order)
    calls = {
        "forward": partial(fastconv.conv2d, x, kernel),
        "input gradient": partial(fastconv.conv2d_backward_input, dy, kernel, x.shape),
        "kernel gradient": partial(fastconv.conv2d_backward_kernel, dy, x, kernel.shape),
    }
    return partial(calls[operation], **problem.keywords)


def our_convolution_on(isa: str, problem: Problem, operation: str, order: str) -> Call:
    """On an instruction set, whichever is in use."""
    call = our_convolution(problem, operation, "float32", order)

    def run() -> Any:
        with fastconv.use_isa(isa):
            return call()

    return run


def torch_convolution(problem: Problem, operation: str, dtype: str, order: str) -> Call:
    x, kernel, _, dy = operands(problem, dtype)
    x, kernel, dy = (to_torch(array, order) for array in (x, kernel, dy))
    (top, bottom), (left, right) = problem.pads
    assert (top, left) == (bottom, right), "PyTorch pads both sides alike"
    window = (problem.stride, (top, left), problem.dilation)
    if operation == "forward":
        return partial(torch.nn.functional.conv2d, x, kernel, None, *window, problem.groups)
    wanted = [operation == "input gradient", operation == "kernel gradient", False]
    rest = (False, (0, 0), problem.groups, wanted)  # not transposed
    return partial(torch.ops.aten.convolution_backward, dy, x, kernel, None, *window, *rest)


def onnx_convolution(problem: Problem) -> Call:
    x, kernel, *_ = operands(problem, "float32")
    (top, bottom), (left, right) = problem.pads
    node = onnx.helper.make_node(
        "Conv",
        ["x", "kernel"],
        ["y"],
        strides=problem.stride,
        pads=(top, left, bottom, right),
        dilations=problem.dilation,
        group=problem.groups,
    )
    return onnx_call([node], x, {"kernel": kernel})


def scipy_convolution(problem: Problem, module: str) -> Call:
    x, kernel, *_ = operands(problem, "float32")
    if module == "signal":
        return lambda: scipy.signal.correlate(x[0, 0], kernel[0, 0], mode="same")[None, None]
    return lambda: scipy.ndimage.correlate(x[0, 0], kernel[0, 0], mode="constant")[None, None]


def copy(problem: Problem, how: str) -> Call:
    """Move as many bytes as the images have: NumPy's copy on one thread, or our ReLU on all."""
    size = (math.prod(problem.x_shape) + math.prod(problem.y_shape)) // 2
    x = np.ones(size, np.float32)
    return partial(np.copyto, np.empty_like(x), x) if how == "numpy" else partial(fastconv.relu, x)


# ---- pooling ---------------------------------------------------------------------------------


def pooling(shape: Sequence[int], window: Window, operation: str) -> Makers:
    """Max pooling with indices ("max pool"), or with a tap for each window, which is what our
    training keeps ("max pool taps"), and the gradients.
    """
    ours, theirs = (partial(f, shape, window, operation) for f in (our_pooling, torch_pooling))
    makers = contend(fastconv=ours, torch=theirs if torch else None)
    if onnx and operation == "max pool":
        makers["onnxruntime"] = partial(onnx_pooling, shape, window)
    return makers


def our_pooling(shape: Sequence[int], window: Window, operation: str, order: str) -> Call:
    (size, stride, padding), x = window, in_order(*random(shape), order)
    rest = {"stride": stride, "padding": padding}
    if "taps" in operation:
        forward = partial(fastconv.training.max_pool2d_taps, x, size, **rest)
        gradient = partial(fastconv.training.max_pool2d_taps_backward, size=size, **rest)
    else:
        forward = partial(fastconv.max_pool2d, x, size, return_indices=True, **rest)
        gradient = fastconv.max_pool2d_backward
    if not operation.endswith("gradient"):
        return forward
    y, winners = forward()
    return partial(gradient, y, winners, input_shape=shape)


def torch_pooling(shape: Sequence[int], window: Window, operation: str, order: str) -> Call:
    x = to_torch(random(shape)[0], order)
    forward = partial(torch.nn.functional.max_pool2d, x, *window, return_indices=True)
    if not operation.endswith("gradient"):
        return forward
    y, indices = forward()
    size, stride, padding = ((value, value) for value in window)
    gradient = torch.ops.aten.max_pool2d_with_indices_backward
    return partial(gradient, y, x, size, stride, padding, (1, 1), False, indices)


def onnx_pooling(shape: Sequence[int], window: Window) -> Call:
    size, stride, padding = window
    node = onnx.helper.make_node(
        "MaxPool",
        ["x"],
        ["y", "indices"],
        kernel_shape=(size, size),
        strides=(stride, stride),
        pads=(padding,) * 4,
    )
    return onnx_call([node], random(shape)[0], {}, outputs=("y", "indices"))


# ---- dense layers ----------------------------------------------------------------------------


def dense(batch: int, inputs: int, outputs: int, operation: str) -> Makers:
    """A batch through a dense layer ("dense"), or its three gradients."""
    shapes = ((batch, inputs), (outputs, inputs), (batch, outputs))
    ours, theirs = (partial(f, shapes, operation) for f in (our_dense, torch_dense))
    makers = contend([""], fastconv=ours, torch=theirs if torch else None)
    if onnx and operation == "dense":
        makers["onnxruntime"] = partial(onnx_dense, shapes)
    return makers


def our_dense(shapes: tuple, operation: str, order: str) -> Call:
    x, kernel, dy = random(*shapes)
    if operation == "dense":
        return partial(fastconv.dense, x, kernel)
    return partial(fastconv.dense_backward, dy, x, kernel)


def torch_dense(shapes: tuple, operation: str, order: str) -> Call:
    x, kernel, dy = map(torch.from_numpy, random(*shapes))
    if operation == "dense":
        return partial(torch.nn.functional.linear, x, kernel)
    return lambda: (dy @ kernel, dy.T @ x, dy.sum(0))


def onnx_dense(shapes: tuple) -> Call:
    x, kernel, _ = random(*shapes)
    node = onnx.helper.make_node("Gemm", ["x", "kernel"], ["y"], transB=1)
    return onnx_call([node], x, {"kernel": kernel})


# ---- normalisation and activations ------------------------------------------------------------

GROUPS = 8


def normalization(shape: Sequence[int], operation: str) -> Makers:
    """Batch norm for inference, for training with the ReLU behind it, its gradients; group norm."""
    ours, theirs = (partial(f, shape, operation) for f in (our_norm, torch_norm))
    return contend(fastconv=ours, torch=theirs if torch else None)


def norm_operands(shape: Sequence[int], order: str) -> list[np.ndarray]:
    """x, dy, gamma, beta, mean, variance."""
    x, dy, gamma, beta, mean, variance = random(shape, shape, *(shape[1:2],) * 4)
    return [in_order(x, order), in_order(dy, order), gamma, beta, mean, variance**2]


def our_norm(shape: Sequence[int], operation: str, order: str) -> Call:
    x, dy, gamma, beta, *moments = norm_operands(shape, order)
    if operation == "batch norm":
        return partial(fastconv.batch_norm, x, gamma, beta, *moments)
    if operation == "batch norm training":
        return partial(fastconv.batch_norm_train, x, gamma, beta, activation="relu")
    if operation == "group norm":
        return partial(fastconv.group_norm, x, GROUPS, gamma, beta)
    moments = fastconv.batch_norm_train(x, gamma, beta)[1:]
    return partial(fastconv.batch_norm_backward, dy, x, gamma, beta, *moments)


def torch_norm(shape: Sequence[int], operation: str, order: str) -> Call:
    F, arrays = torch.nn.functional, norm_operands(shape, order)
    x, dy = (to_torch(array, order) for array in arrays[:2])
    gamma, beta, mean, variance = map(torch.from_numpy, arrays[2:])
    if operation == "batch norm":
        return partial(F.batch_norm, x, mean, variance, gamma, beta)
    if operation == "batch norm training":
        return lambda: torch.relu_(F.batch_norm(x, None, None, gamma, beta, True))
    if operation == "group norm":
        return partial(F.group_norm, x, GROUPS, gamma, beta)
    _, mean, factor = torch.ops.aten.native_batch_norm(x, gamma, beta, None, None, True, 0, 1e-5)
    gradient, rest = torch.ops.aten.native_batch_norm_backward, (True, 1e-5, [True] * 3)
    return partial(gradient, dy, x, gamma, None, None, mean, factor, *rest)


ACTIVATIONS = ("relu", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "softmax")


def activation(shape: Sequence[int], name: str, gradient: bool) -> Makers:
    """A function of every element, or its gradient; softmax along the last axis."""
    ours, theirs = (partial(f, shape, name, gradient) for f in (our_activation, torch_activation))
    return contend([""], fastconv=ours, torch=theirs if torch else None)


def our_activation(shape: Sequence[int], name: str, gradient: bool, order: str) -> Call:
    x, dy = random(shape, shape)
    forward = partial(getattr(fastconv, name), x)
    kept = x if name in ("silu", "gelu") else forward()
    return partial(getattr(fastconv, f"{name}_backward"), dy, kept) if gradient else forward


def torch_activation(shape: Sequence[int], name: str, gradient: bool, order: str) -> Call:
    x, dy = map(torch.from_numpy, random(shape, shape))
    aten = torch.ops.aten
    rest = (-1,) if name == "softmax" else ()
    forward = partial(getattr(torch.nn.functional, name), x, *rest)
    if not gradient:
        return forward
    y = forward()
    return {
        "relu": lambda: aten.threshold_backward(dy, y, 0),
        "leaky_relu": lambda: aten.leaky_relu_backward(dy, y, 0.01, True),
        "sigmoid": lambda: aten.sigmoid_backward(dy, y),
        "tanh": lambda: aten.tanh_backward(dy, y),
        "silu": lambda: aten.silu_backward(dy, x),
        "gelu": lambda: aten.gelu_backward(dy, x),
        "softmax": lambda: aten._softmax_backward_data(dy, y, -1, torch.float32),
    }[name]
