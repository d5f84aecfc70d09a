"""How each library averages, pads, enlarges, and convolves transposed.

As in ``operations.py``, every function returns makers by the name of the contender.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from arrays import in_order
from operations import Call, Makers, contend, operands, random
from peers import to_torch, torch
from shapes import Problem

import fastconv

aten: Any = torch and torch.ops.aten


class Resampling(NamedTuple):
    """An operation and its gradient, of both libraries; gradients get dy, x, and x's order."""

    forward: Callable[[np.ndarray], np.ndarray]
    backward: Callable[[np.ndarray, np.ndarray, str], np.ndarray]
    torch_forward: Callable[[Any], Any]
    torch_backward: Callable[[Any, Any, str], Any]


def average(size: int, stride: int, padding: int) -> Resampling:
    rest: dict[str, Any] = {"stride": stride, "padding": padding}
    window = ([size] * 2, [stride] * 2, [padding] * 2, False, True, None)
    return Resampling(
        lambda x: fastconv.avg_pool2d(x, size, **rest),
        lambda dy, x, order: fastconv.avg_pool2d_backward(dy, x.shape, size, **rest),
        lambda x: aten.avg_pool2d(x, *window),
        lambda dy, x, order: aten.avg_pool2d_backward(dy, x, *window),
    )


def global_average() -> Resampling:
    def share(dy: Any, x: Any, order: str) -> Any:
        memory = torch.channels_last if order == "channels_last" else torch.contiguous_format
        shares = (dy / (x.shape[2] * x.shape[3]))[..., None, None]
        return shares.expand(x.shape).contiguous(memory_format=memory)

    return Resampling(
        fastconv.global_avg_pool2d,
        lambda dy, x, order: fastconv.global_avg_pool2d_backward(
            dy, x.shape, channels_last=order == "channels_last"
        ),
        lambda x: torch.nn.functional.adaptive_avg_pool2d(x, 1).flatten(1),
        share,
    )


def adaptive(size: int) -> Resampling:
    return Resampling(
        lambda x: fastconv.adaptive_avg_pool2d(x, size),
        lambda dy, x, order: fastconv.adaptive_avg_pool2d_backward(dy, x.shape),
        lambda x: torch.nn.functional.adaptive_avg_pool2d(x, size),
        lambda dy, x, order: aten._adaptive_avg_pool2d_backward(dy, x),
    )


def enlargement(mode: str, corners: bool = False) -> Resampling:
    def torch_backward(dy: Any, x: Any, order: str) -> Any:
        if mode == "nearest":
            return aten.upsample_nearest2d_backward(dy, dy.shape[2:], x.shape, 2.0, 2.0)
        return aten.upsample_bilinear2d_backward(dy, dy.shape[2:], x.shape, corners, 2.0, 2.0)

    choice = {"align_corners": corners} if mode == "bilinear" else {}
    return Resampling(
        lambda x: fastconv.upsample2d(x, 2, mode, corners),
        lambda dy, x, order: fastconv.upsample2d_backward(dy, 2, mode, corners),
        lambda x: torch.nn.functional.interpolate(x, scale_factor=2, mode=mode, **choice),
        torch_backward,
    )


def border(mode: str) -> Resampling:
    """A pixel on each side."""
    around, graphs = (1, 1, 1, 1), {}

    def torch_forward(x: Any) -> Any:
        return torch.nn.functional.pad(x, around, mode=mode)

    def torch_backward(dy: Any, x: Any, order: str) -> Any:
        if mode == "constant":
            return aten.constant_pad_nd(dy, [-width for width in around])
        if mode == "reflect":
            return aten.reflection_pad2d_backward(dy, x, around)
        if mode == "replicate":
            return aten.replication_pad2d_backward(dy, x, around)
        # It has no function of its own.
        if order not in graphs:
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                graphs[order] = torch_forward(leaf), leaf
        return torch.autograd.grad(*graphs[order], dy, retain_graph=True)[0]

    return Resampling(
        lambda x: fastconv.pad2d(x, 1, mode),
        lambda dy, x, order: fastconv.pad2d_backward(dy, 1, mode),
        torch_forward,
        torch_backward,
    )


RESAMPLINGS: dict[str, tuple[Resampling, tuple[int, ...]]] = {
    "average 3x3/2": (average(3, 2, 1), (4, 64, 112, 112)),
    "average 3x3": (average(3, 1, 1), (16, 192, 28, 28)),
    "average 2x2/2": (average(2, 2, 0), (8, 128, 56, 56)),
    "global average": (global_average(), (16, 1280, 7, 7)),
    "adaptive 7x7": (adaptive(7), (16, 256, 14, 14)),
    "nearest x2": (enlargement("nearest"), (8, 64, 28, 28)),
    "nearest x2, large": (enlargement("nearest"), (4, 64, 112, 112)),
    "bilinear x2": (enlargement("bilinear"), (8, 64, 28, 28)),
    "bilinear x2, large": (enlargement("bilinear"), (4, 64, 112, 112)),
    "bilinear x2, corners": (enlargement("bilinear", True), (8, 64, 28, 28)),
    "constant 1": (border("constant"), (8, 64, 56, 56)),
    "reflect 1": (border("reflect"), (8, 64, 56, 56)),
    "replicate 1": (border("replicate"), (8, 64, 56, 56)),
    "circular 1": (border("circular"), (8, 64, 56, 56)),
    "reflect 1, RGB": (border("reflect"), (16, 3, 224, 224)),
}


def resampling(name: str, gradient: bool) -> Makers:
    """One of RESAMPLINGS, or its gradient."""
    what, shape = RESAMPLINGS[name]
    return contend(
        fastconv=partial(our_resampling, what, shape, gradient),
        torch=partial(torch_resampling, what, shape, gradient) if torch else None,
    )


def our_resampling(
    what: Resampling, shape: Sequence[int], gradient: bool, order: str
) -> Call:
    x = in_order(*random(shape), order)
    if not gradient:
        return partial(what.forward, x)
    return partial(what.backward, what.forward(x), x, order)


def torch_resampling(
    what: Resampling, shape: Sequence[int], gradient: bool, order: str
) -> Call:
    x = to_torch(random(shape)[0], order)
    if not gradient:
        return partial(what.torch_forward, x)
    return partial(what.torch_backward, what.torch_forward(x), x, order)


# The convolutions whose input gradients they are: the images of these are the results.
TRANSPOSED = {
    "dcgan.up8": Problem(32, 128, 16, 16, 256, 4, 4, (2, 2), 1),
    "dcgan.up32": Problem(8, 3, 64, 64, 64, 4, 4, (2, 2), 1),
    "unet.up28": Problem(4, 64, 56, 56, 128, 2, 2, (2, 2)),
}


def transposed(name: str, operation: str) -> Makers:
    """A pass of a transposed convolution of TRANSPOSED."""
    return contend(
        fastconv=partial(our_transposed, TRANSPOSED[name], operation),
        torch=partial(torch_transposed, TRANSPOSED[name], operation) if torch else None,
    )


def our_transposed(problem: Problem, operation: str, order: str) -> Call:
    dy, kernel, _, x = operands(problem, "float32")
    x, dy = in_order(x, order), in_order(dy, order)
    calls = {
        "forward": partial(fastconv.conv_transpose2d, x, kernel),
        "input gradient": partial(fastconv.conv_transpose2d_backward_input, dy, kernel, x.shape),
        "kernel gradient": partial(fastconv.conv_transpose2d_backward_kernel, dy, x, kernel.shape),
    }
    return partial(calls[operation], stride=problem.stride, padding=problem.padding)


def torch_transposed(problem: Problem, operation: str, order: str) -> Call:
    dy, kernel, _, x = operands(problem, "float32")
    x, kernel, dy = (to_torch(array, order) for array in (x, kernel, dy))
    stride, padding = problem.stride, problem.padding
    if operation == "forward":
        call = torch.nn.functional.conv_transpose2d
        return partial(call, x, kernel, stride=stride, padding=padding)
    wanted = [operation == "input gradient", operation == "kernel gradient", False]
    window = (stride, [padding] * 2, [1, 1], True, [0, 0], 1)
    return partial(aten.convolution_backward, dy, x, kernel, None, *window, wanted)
