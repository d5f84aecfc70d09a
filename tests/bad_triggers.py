"""The inputs that killed other libraries, each on every operation that it could concern.

The names are those of the reports. Where the original operation has another argument order or
memory layout (TensorFlow's NHWC), the shapes are translated; what they have in common is kept: an
empty array, a size that another argument contradicts, a product that overflows, a step of zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from bad_values import Case

import fastconv
from fastconv import training


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def seen_everywhere(*shape: int) -> np.ndarray:
    """A huge array that is one element."""
    return np.broadcast_to(np.float32(0), shape)


def passes(
    x: tuple, kernel: tuple, dy: tuple | None = None, **rest
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The passes of both convolutions over arrays of these shapes, dy by chance wrong."""
    array = seen_everywhere if max((*x, *kernel, *(dy or ()))) > 2**16 else zeros
    yield "conv2d", lambda: fastconv.conv2d(array(*x), array(*kernel), **rest)
    yield "conv_transpose2d", lambda: fastconv.conv_transpose2d(array(*x), array(*kernel), **rest)
    for name in ("conv2d", "conv_transpose2d"):
        for gradients in {dy, x, (1, 1, 1, 1), (0, 0, 0, 0)} - {None}:
            for which, operands in (("input", (kernel, x)), ("kernel", (x, kernel))):

                def run(name=name, which=which, operands=operands, gradients=gradients):
                    function = getattr(fastconv, f"{name}_backward_{which}")
                    return function(array(*gradients), array(*operands[0]), operands[1], **rest)

                yield f"{name}_backward_{which}(dy={gradients})", run
    yield "dense", lambda: fastconv.dense(array(*x[:2]), array(*kernel[:2]))
    yield (
        "layer",
        lambda: layer(lambda: fastconv.Conv2D(max(kernel[0], 1), kernel[2:], **rest), array(*x)),
    )


def layer(make: Callable[[], Any], x: np.ndarray) -> Any:
    model = fastconv.Sequential([make()], input_shape=x.shape[1:], seed=0)
    model.forward(x, training=True)
    return model.backward(x)


def poolings(x: np.ndarray, size: Any, **rest) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Everything that slides a window, and its gradient with dy like x."""
    no_dilation = {k: v for k, v in rest.items() if k != "dilation"}
    no_ceil = {k: v for k, v in rest.items() if k != "ceil_mode"}
    tapped = {"stride": None, "padding": 0, "dilation": 1, **no_ceil}
    yield "max_pool2d", lambda: fastconv.max_pool2d(x, size, **rest)
    yield "max_pool2d+indices", lambda: fastconv.max_pool2d(x, size, return_indices=True, **rest)
    yield "max_pool2d_taps", lambda: training.max_pool2d_taps(x, size, **rest)
    yield (
        "max_pool2d_taps_backward",
        lambda: training.max_pool2d_taps_backward(
            x, np.zeros(x.shape, np.uint8), x.shape, size, **tapped
        ),
    )
    yield (
        "max_pool2d_taps_backward int32",
        lambda: training.max_pool2d_taps_backward(
            x, np.zeros(x.shape, np.int32), x.shape, size, **tapped
        ),
    )
    yield "avg_pool2d", lambda: fastconv.avg_pool2d(x, size, **no_dilation)
    yield (
        "avg_pool2d_backward",
        lambda: fastconv.avg_pool2d_backward(x, x.shape, size, **no_dilation),
    )
    yield "output_shape", lambda: fastconv.output_shape(x.shape, size, **rest)
    yield "upsample2d", lambda: fastconv.upsample2d(x, size)
    yield "upsample2d_backward", lambda: fastconv.upsample2d_backward(x, size)
    yield "adaptive_avg_pool2d", lambda: fastconv.adaptive_avg_pool2d(x, size)
    yield "MaxPool", lambda: layer(lambda: fastconv.MaxPool(size, **rest), x)
    yield "AvgPool", lambda: layer(lambda: fastconv.AvgPool(size, **no_dilation), x)


def unpoolings(dy: np.ndarray, indices: Any, shape: tuple) -> Iterator[tuple[str, Callable]]:
    """Gradients of poolings for an image of that shape."""
    yield "max_pool2d_backward", lambda: fastconv.max_pool2d_backward(dy, indices, shape)
    yield "avg_pool2d_backward", lambda: fastconv.avg_pool2d_backward(dy, shape, 2)
    yield (
        "avg_pool2d_backward padded",
        lambda: fastconv.avg_pool2d_backward(
            dy, shape, (40, 128), stride=128, padding=(20, 64), ceil_mode=True
        ),
    )
    yield "adaptive_avg_pool2d_backward", lambda: fastconv.adaptive_avg_pool2d_backward(dy, shape)
    flat = dy[..., 0, 0] if dy.size else dy.reshape(dy.shape[:2])
    for last in (False, True):
        yield (
            f"global_avg_pool2d_backward {last}",
            lambda last=last: fastconv.global_avg_pool2d_backward(flat, shape, channels_last=last),
        )
        yield (
            f"global_max_pool2d_backward {last}",
            lambda last=last: fastconv.global_max_pool2d_backward(
                flat,
                np.asarray(indices)[..., :1, :1].reshape(-1)[: flat.size],
                shape,
                channels_last=last,
            ),
        )
    for size in (1, 2, (40, 128), 300):
        yield (
            f"max_pool2d_taps_backward {size}",
            lambda size=size: training.max_pool2d_taps_backward(
                dy, np.asarray(indices, np.uint8), shape, size, y=dy
            ),
        )


NAMES = [
    "x",
    "y",
    "dy",
    "kernel",
    "bias",
    "size",
    "stride",
    "padding",
    "output_padding",
    "dilation",
    "groups",
    "input_shape",
    "kernel_shape",
    "indices",
    "taps",
    "scale",
    "output_size",
    "shape",
    "filters",
    "kernel_size",
    "gamma",
    "beta",
    "mean",
    "variance",
    "out",
]


def case(report: str, name: str, run: Callable[[], Any], wrong: bool = False) -> Case:
    return Case(f"{report}: {name}", run, tuple(NAMES), wrong)


def every(
    report: str, found: Iterator[tuple[str, Callable]], wrong: bool = False
) -> Iterator[Case]:
    for name, run in found:
        yield case(report, name, run, wrong)


STEPS = (0, -1, (0, 1), (1, 0), (-1, 1), -(2**63), 2**63, 1.5, True)


def triggers() -> Iterator[Case]:
    """Reports of crashes in convolution and pooling kernels."""
    ones = np.ones((1, 1, 4, 4), np.float32)
    # Kernel gradients whose shapes contradict each other.
    for stride in (1, (66, 49)):
        yield from every(
            "CVE-2021-29540", passes((1, 2, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1), stride=stride)
        )
        yield from every(
            "CVE-2021-29540 batch", passes((0, 2, 3, 8), (1, 2, 3, 8), (1, 1, 1, 1), stride=stride)
        )
    yield from every("CVE-2021-29538", passes((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)))
    yield from every("CVE-2021-29525", passes((52, 5, 0, 1), (0, 5, 0, 1), (52, 0, 1, 1)))
    for kernel in ((0, 0, 0, 0), (1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0), (0, 1, 1, 1)):
        for x in ((0, 0, 0, 0), (1, 1, 4, 4), (1, 0, 2, 2), (1, 1, 0, 2)):
            for padding in (0, 1):
                report = f"CVE-2021-29526, -29527, -41209, 2022-35996 {x} {kernel} {padding}"
                yield from every(report, passes(x, kernel, padding=padding))
    yield from every("CVE-2022-35999", passes((3, 2, 1, 1), (3, 2, 1, 3), (3, 3, 1, 0), stride=2))
    yield from every("CVE-2021-29520", passes((1, 1, 1, 2), (4, 1, 6, 1), (1, 1, 1, 1)))
    yield from every(
        "CVE-2021-29520 b", passes((1, 2, 1, 1), (1, 1, 4, 6), (1, 1, 1, 1), padding=3)
    )
    # Gradients of poolings.
    empty = zeros(0, 0, 0, 0)
    far = np.full((1, 1, 1, 1), 1000, np.int64)
    for shape in (
        (1, 1, 1, 1),
        (0, 0, 0, 0),
        (10, 3, 6, 7),
        (-536870912,) * 4,
        (2**31,) * 4,
        (2**40, 2**40, 1, 1),
        (1, 1, 2**40, 2**40),
        (0, 1, 2**40, 2**40),
        (1, 2**40, 2**40, 1),
        (0, 2**40, 2**40, 2**40),
    ):
        report = f"CVE-2021-29579, -29570, -29573, -29577, 2022-35968, 2021-41197 shape={shape}"
        yield from every(report, unpoolings(empty, np.zeros((0,) * 4, np.int64), shape))
        yield from every(report + " b", unpoolings(zeros(1, 1, 1, 1), far, shape))
        yield from every(
            report + " c", unpoolings(zeros(3, 1, 1, 1), np.zeros((3, 1, 1, 1), int), shape)
        )
    for value in (-1, 16, 2**31, 2**32, -(2**31), -(2**63), 2**63 - 1):
        indices = np.full((1, 1, 2, 2), value, np.int64)
        yield case(
            "CVE-2021-29570",
            f"max_pool2d_backward({value})",
            lambda i=indices: fastconv.max_pool2d_backward(zeros(1, 1, 2, 2), i, (1, 1, 4, 4)),
            wrong=True,
        )
    for shape in ((1, 4, 3, 1), (1, 4, 4), (4, 4), (1,), ()):
        yield case(
            "pytorch #141099",
            f"indices={shape}",
            lambda s=shape: fastconv.max_pool2d_backward(
                zeros(1, 4, 4, 4), np.zeros(s, int), (1, 4, 8, 8)
            ),
            wrong=True,
        )
    # Windows.
    for size in STEPS:
        yield from every(f"CVE-2021-41196, 2022-35941 size={size}", poolings(ones, size), True)
    for stride in STEPS:
        found = (pair for pair in poolings(ones, 2, stride=stride) if reads_stride(pair[0]))
        yield from every(f"CVE-2021-29586, 2025-2953 stride={stride}", found, True)
    for dilation in STEPS:
        found = (
            p for p in poolings(ones, 2, dilation=dilation) if p[0][:3] in ("max", "Max", "out")
        )
        yield from every(f"dilation={dilation}", found, True)
    for x in (ones[..., :1, :1], ones[..., :1], ones):
        for size, padding in (
            (2, 0),
            (2, 1),
            (2**32, 2**31),
            (2**40, 2**39),
            ((2**33, 2), (2**32, 1)),
            ((40, 128), (20, 64)),
            (2**31 - 1, 2**30 - 1),
            (300, 150),
        ):
            for stride in (None, 1, 128, 2**40):
                for ceil in (False, True):
                    report = (
                        f"CVE-2022-35989, 2023-25664 x={x.shape} {size} {padding} {stride} {ceil}"
                    )
                    rest = {"stride": stride, "padding": padding, "ceil_mode": ceil}
                    yield from every(report, poolings(x, size, **rest))
    for dilation in (2**31 - 1, 2**31, 2**40, (2**40, 1)):
        for size in (1, 2, (1, 2)):
            for padding in (0, 1 if size != 1 else 0):
                report = f"pytorch #189664 dilation={dilation} size={size} padding={padding}"
                yield from every(report, poolings(ones, size, dilation=dilation, padding=padding))
    for value in (np.nan, -np.inf):
        full = np.full((1, 2, 5, 5), value, np.float32)

        def unpooled(full=full):
            y, indices = fastconv.max_pool2d(full, 2, stride=1, return_indices=True)
            assert indices.min() >= 0, "a window without a winner"
            return fastconv.max_pool2d_backward(y, indices, full.shape)

        yield case("pytorch #1465, #40131", f"all {value}", unpooled)
        yield from every(f"all {value}", poolings(full, 2, stride=1))
    # Steps and groups of convolutions.
    for name, value in itertools.product(("stride", "dilation", "groups"), STEPS):
        if (name != "groups" and isinstance(value, tuple)) or not isinstance(value, tuple):
            report = f"CVE-2022-21741, pytorch #73193, #49523, ncnn #6970 {name}={value}"
            found = passes((1, 4, 5, 5), (4, 4, 3, 3), (1, 4, 3, 3), **{name: value})
            yield from every(report, (pair for pair in found if pair[0] != "dense"), True)
    for groups in (3, 4, 2**31, 2**32, 2**40):
        report = f"groups={groups}"
        yield from every(report, passes((1, 4, 5, 5), (4, 4, 3, 3), (1, 4, 3, 3), groups=groups))
        yield from every(
            report + " b", passes((1, 4, 5, 5), (4, 1, 3, 3), (1, 4, 3, 3), groups=groups)
        )
    for padding in (
        [],
        (),
        (1,),
        ((),),
        ((1,), (1,)),
        2**31,
        2**32,
        2**55,
        2**40,
        -1,
        -(2**63),
        ((2**40, 0), (0, 0)),
        (2**40, 2**40),
        ((0, 2**39), (2**39, 0)),
    ):
        for x in ((1, 1, 4, 4), (0, 1, 4, 4)):
            report = f"pytorch #121188, PR #174653 x={x} padding={padding}"
            yield from every(report, passes(x, (1, 1, 3, 3), (1, 1, 2, 2), padding=padding))
            yield case(report, "pad2d", lambda x=x, p=padding: fastconv.pad2d(zeros(*x), p))
            yield case(
                report,
                "pad2d_backward",
                lambda x=x, p=padding: fastconv.pad2d_backward(zeros(*x), p),
            )
    # Products of sizes, and of sizes and steps.
    for stride in (2**40, (2**40, 1), (1, 2**33), 2**32, 2**20):
        for rows in (2**23 + 1, 2**24 + 1, 2**44):
            x = (1, 1, rows, 1)
            report = f"CVE-2021-41197 rows={rows} stride={stride}"
            for more in ({}, {"padding": (2**39, 0)}, {"dilation": 2**40}):
                # So many rows are much work for a convolution, but not too many.
                yield from every(
                    f"{report} {more}",
                    (
                        pair
                        for pair in passes(x, (1, 1, 1, 1), (1, 1, 1, 1), stride=stride, **more)
                        if f"dy={x}" not in pair[0]
                        and (
                            pair[0].startswith("conv_transpose2d")
                            or (rows == 2**44 and "dense" != pair[0] != "layer")
                        )
                    ),
                )
    for scale in (2**40, (2**40, 2**40), 2**33, 2**20, (2**26, 2**26)):
        for x in (zeros(1, 1, 1, 1), zeros(0, 1, 4, 4), seen_everywhere(1, 1, 2**30, 2**20)):
            for mode in ("nearest", "bilinear"):
                yield case(
                    f"scale={scale}",
                    f"upsample2d {mode} {x.shape}",
                    lambda x=x, s=scale, m=mode: fastconv.upsample2d(x, s, m),
                )
                yield case(
                    f"scale={scale}",
                    f"upsample2d_backward {mode} {x.shape}",
                    lambda x=x, s=scale, m=mode: fastconv.upsample2d_backward(x, s, m),
                )
            yield case(
                f"scale={scale}",
                f"adaptive {x.shape}",
                lambda x=x, s=scale: fastconv.adaptive_avg_pool2d(x, s),
            )
    # The C rounding of a negative quotient.
    for stride, kernel in itertools.product((2, 3, 7), (3, 4, 5)):
        yield from every(
            f"C rounding {stride} {kernel}",
            passes((1, 1, 2, 2), (1, 1, kernel, kernel), (1, 1, 1, 1), stride=stride),
        )
        found = (
            p for p in poolings(ones[..., :2, :2], kernel, stride=stride) if reads_stride(p[0])
        )
        yield from every(f"C rounding {stride} {kernel}", found)
    # Broadcast kernels (pytorch #16557).
    x = np.arange(1 * 4 * 6 * 6, dtype=np.float32).reshape(1, 4, 6, 6)
    kernel = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None, None, None], (4, 4, 3, 3))
    yield Case(
        "pytorch #16557",
        lambda: fastconv.conv2d(x, kernel),
        tuple(NAMES),
        False,
        lambda: fastconv.conv2d(x, kernel.copy()),
    )


def reads_stride(name: str) -> bool:
    return not name.startswith(("upsample", "adaptive"))
