"""Convolution problems: layers of known networks, hand-picked edges, and a seeded generator.

A `Problem` is everything about a convolution but the numbers in its arrays. The tests and the
benchmarks speak of problems by this one class, so that a failing test, a slow benchmark and a
line typed by hand describe the same thing: ``repr`` is a reproducer.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

# One below, at and above the extents at which register tiles, vectors and blocks end.
TILE_EDGES = (5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 27, 28, 29, 31, 32, 33, 47, 48, 49, 63, 64, 65)
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


@dataclass(frozen=True)
class Problem:
    """One convolution: the sizes of its arrays and the arguments of the call."""

    n: int
    ic: int
    ih: int
    iw: int
    oc: int
    kh: int
    kw: int
    stride: tuple[int, int] = (1, 1)
    padding: int | str | tuple = 0
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.ic, self.ih, self.iw)

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        return (self.oc, self.ic // self.groups, self.kh, self.kw)

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        (sh, sw), (dh, dw), ((top, bottom), (left, right)) = self.stride, self.dilation, self.pads
        oh = (self.ih + top + bottom - (self.kh - 1) * dh - 1) // sh + 1
        ow = (self.iw + left + right - (self.kw - 1) * dw - 1) // sw + 1
        return (self.n, self.oc, oh, ow)

    @property
    def pads(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The padding in numbers: ``((top, bottom), (left, right))``."""
        if self.padding == "valid":
            return ((0, 0), (0, 0))
        if self.padding == "same":
            axes = zip(
                (self.ih, self.iw), (self.kh, self.kw), self.stride, self.dilation, strict=True
            )
            total = [
                max((math.ceil(i / s) - 1) * s + (k - 1) * d + 1 - i, 0) for i, k, s, d in axes
            ]
            return tuple((t // 2, t - t // 2) for t in total)
        rows, columns = (self.padding,) * 2 if isinstance(self.padding, int) else self.padding
        if isinstance(rows, int):
            return ((rows, rows), (columns, columns))
        return (rows, columns)

    @property
    def keywords(self) -> dict:
        """The keyword arguments of `fastconv.conv2d` and of its two gradients."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @property
    def is_possible(self) -> bool:
        """Whether the window fits on the padded image at least once."""
        return min(self.y_shape[2:]) >= 1

    @property
    def flops(self) -> int:
        """Multiplications and additions of one pass, those with the padding counted too."""
        return 2 * math.prod(self.y_shape) * math.prod(self.kernel_shape[1:])

    @property
    def longest_sum(self) -> int:
        """The number of products in the longest sum of the three passes."""
        n, oc, oh, ow = self.y_shape
        taps = self.kh * self.kw
        return max(self.ic // self.groups * taps, oc // self.groups * taps, n * oh * ow, 1)

    def with_batch(self, n: int) -> Problem:
        return dataclasses.replace(self, n=n)


def _square(
    ic: int, size: int, oc: int, k: int, stride: int = 1, padding: int | None = None, **rest
):
    """One image on a square layer, padded by half the kernel unless told otherwise."""
    padding = k // 2 if padding is None else padding
    return Problem(1, ic, size, size, oc, k, k, (stride, stride), padding, **rest)


# One image each; benchmarks choose their batch with `with_batch`.
LAYERS: dict[str, Problem] = {
    "lenet5.conv1": _square(1, 28, 6, 5),
    "lenet5.conv2": _square(6, 14, 16, 5, padding=0),
    "mnist_cnn.conv1": _square(1, 28, 32, 3),
    "mnist_cnn.conv2": _square(32, 14, 64, 3),
    "resnet20.stem": _square(3, 32, 16, 3),
    "resnet20.stage1": _square(16, 32, 16, 3),
    "resnet20.stage2_down": _square(16, 32, 32, 3, 2),
    "resnet20.stage2": _square(32, 16, 32, 3),
    "resnet20.stage3": _square(64, 8, 64, 3),
    "vgg16.conv1_1": _square(3, 224, 64, 3),
    "vgg16.conv1_2": _square(64, 224, 64, 3),
    "vgg16.conv3_2": _square(256, 56, 256, 3),
    "vgg16.conv5_1": _square(512, 14, 512, 3),
    "resnet50.conv1": _square(3, 224, 64, 7, 2),
    "resnet50.stage2_reduce": _square(256, 56, 64, 1),
    "resnet50.stage2_3x3": _square(64, 56, 64, 3),
    "resnet50.stage2_expand": _square(64, 56, 256, 1),
    "resnet50.stage3_3x3_down": _square(128, 56, 128, 3, 2),
    "resnet50.stage3_shortcut": _square(256, 56, 512, 1, 2),
    "resnet50.stage4_3x3": _square(256, 14, 256, 3),
    "resnet50.stage5_3x3": _square(512, 7, 512, 3),
    "resnet50.stage5_expand": _square(512, 7, 2048, 1),
    "mobilenetv2.stem": _square(3, 224, 32, 3, 2),
    "mobilenetv2.depthwise56": _square(144, 56, 144, 3, groups=144),
    "mobilenetv2.depthwise56_down": _square(144, 56, 144, 3, 2, groups=144),
    "mobilenetv2.depthwise14": _square(384, 14, 384, 3, groups=384),
    "mobilenetv2.pointwise14": _square(384, 14, 64, 1),
    "resnext.grouped28": _square(128, 28, 128, 3, groups=32),
    "deeplab.dilated56": _square(64, 56, 64, 3, padding=2, dilation=(2, 2)),
    "large_kernel.11x11": _square(32, 64, 32, 11),
    "filter_bank.7x7": _square(1, 512, 8, 7),
}


def _staggered(values: tuple[int, ...], *shifts: int):
    """Each value beside two others of the list."""
    return zip(values, *(values[s:] + values[:s] for s in shifts), strict=True)


# Each line is here for one reason, and small enough to run in every combination.
EDGES: tuple[Problem, ...] = (
    # the smallest
    Problem(1, 1, 1, 1, 1, 1, 1),
    Problem(1, 1, 1, 1, 1, 3, 3, padding=1),
    Problem(1, 1, 1, 17, 1, 1, 3),
    Problem(1, 1, 17, 1, 1, 3, 1),
    Problem(5, 3, 1, 1, 7, 1, 1),
    # empty batch, alone and with everything else
    Problem(0, 3, 8, 8, 4, 3, 3),
    Problem(0, 6, 9, 7, 4, 3, 2, (2, 1), ((1, 2), (0, 1)), (1, 2), 2),
    # pixels whose lines share sets of a cache
    Problem(2, 512, 9, 11, 24, 1, 1),
    Problem(1, 1024, 5, 5, 70, 1, 1, padding=1),
    Problem(7, 1024, 17, 3, 130, 1, 1),
    # small groups, one by one or several in a vector
    Problem(2, 8, 9, 21, 48, 5, 5, (2, 2), 2, groups=4),
    Problem(2, 24, 9, 33, 24, 5, 5, padding=2, groups=12),
    Problem(3, 12, 13, 11, 18, 4, 4, (2, 2), dilation=(2, 2), groups=3),
    # few output channels
    Problem(2, 33, 9, 7, 3, 3, 3, padding=1),
    Problem(3, 64, 8, 9, 1, 5, 5, (2, 2), 2),
    Problem(2, 80, 6, 11, 10, 3, 2, (1, 2), dilation=(2, 1), groups=2),
    Problem(5, 131, 4, 4, 2, 1, 1),
    # depthwise taps that are read three or five at a time, or handed on
    Problem(2, 20, 11, 31, 20, 5, 5, (2, 2), 2, groups=20),
    Problem(2, 33, 9, 40, 33, 7, 7, padding=3, groups=33),
    # kernel as large as the image, and larger than the image with padding
    Problem(2, 3, 5, 7, 4, 5, 7),
    Problem(2, 3, 4, 3, 5, 7, 9, padding=(3, 4)),
    Problem(1, 2, 2, 2, 3, 11, 11, padding=5),
    Problem(1, 16, 3, 3, 16, 5, 5, padding="same"),
    # stride larger than the kernel: pixels no window sees
    Problem(2, 3, 11, 13, 4, 1, 1, (2, 2)),
    Problem(2, 3, 11, 13, 4, 2, 2, (3, 5)),
    Problem(1, 5, 16, 16, 6, 1, 2, (4, 3)),
    Problem(1, 4, 9, 9, 4, 3, 3, (100, 100)),
    # padding larger than the kernel: windows that see no pixel
    Problem(1, 2, 3, 4, 3, 1, 1, padding=2),
    Problem(2, 3, 5, 5, 4, 2, 3, padding=(4, 5)),
    Problem(1, 1, 1, 1, 2, 2, 2, (3, 3), 7),
    # asymmetric padding, one side at a time
    Problem(1, 3, 7, 9, 4, 3, 3, padding=((1, 0), (0, 0))),
    Problem(1, 3, 7, 9, 4, 3, 3, padding=((0, 2), (0, 0))),
    Problem(1, 3, 7, 9, 4, 3, 3, padding=((0, 0), (3, 0))),
    Problem(1, 3, 7, 9, 4, 3, 3, padding=((0, 0), (0, 4))),
    Problem(2, 3, 8, 6, 5, 3, 2, (2, 3), ((2, 1), (0, 3)), (2, 1)),
    # "same" with odd and even sizes, strides and kernels; "valid"
    Problem(1, 2, 8, 9, 3, 3, 3, (2, 2), "same"),
    Problem(1, 2, 9, 8, 3, 2, 4, (2, 3), "same"),
    Problem(1, 2, 5, 7, 3, 4, 5, (3, 4), "same", (2, 1)),
    Problem(2, 3, 10, 10, 4, 1, 1, (3, 3), "same"),
    Problem(1, 2, 8, 9, 3, 3, 4, (2, 1), "valid"),
    # groups and depthwise, with and without multiplier
    Problem(2, 4, 6, 7, 6, 3, 3, padding=1, groups=2),
    Problem(1, 15, 5, 5, 10, 2, 2, groups=5),
    Problem(2, 34, 5, 6, 66, 3, 3, padding=1, groups=2),
    Problem(1, 7, 9, 8, 7, 3, 3, padding=1, groups=7),
    Problem(1, 17, 9, 33, 17, 3, 3, (2, 2), 1, groups=17),
    Problem(2, 5, 7, 7, 15, 3, 3, padding=1, groups=5),
    Problem(1, 33, 6, 5, 66, 5, 3, padding=(2, 1), groups=33),
    Problem(1, 3, 14, 15, 3, 7, 7, (2, 2), 3, (2, 2), 3),
    # dilation, alone and with stride (common factors or none)
    Problem(1, 3, 13, 14, 4, 3, 3, padding=2, dilation=(2, 2)),
    Problem(1, 3, 19, 17, 4, 3, 2, (2, 2), (3, 4), (4, 6)),
    Problem(1, 3, 19, 17, 4, 3, 2, (3, 2), (3, 4), (2, 3)),
    Problem(1, 2, 9, 9, 2, 2, 2, dilation=(8, 8)),
    # few channels on either side
    Problem(2, 1, 12, 13, 6, 5, 5, padding=2),
    Problem(1, 3, 15, 17, 16, 7, 7, (2, 2), 3),
    Problem(1, 32, 9, 11, 1, 3, 3, padding=1),
    Problem(1, 64, 5, 5, 2, 3, 3, padding=1),
    Problem(1, 2, 30, 31, 3, 3, 3, padding=1),
    # rows long enough for several tiles and blocks, and images that are only a row or a column
    Problem(1, 3, 2, 257, 5, 1, 3, padding=(0, 1)),
    Problem(1, 3, 257, 2, 5, 3, 1, padding=(1, 0)),
    Problem(1, 1, 1, 1000, 1, 1, 31),
    Problem(1, 4, 1, 129, 33, 1, 1),
    # many channels on few pixels, many images of one pixel
    Problem(1, 300, 3, 3, 70, 3, 3, padding=1),
    Problem(1, 70, 3, 3, 300, 1, 1),
    Problem(65, 17, 1, 1, 33, 1, 1),
    Problem(33, 3, 4, 4, 5, 3, 3),
    # every tile edge as input channels, output channels and width, off the diagonal
    *(Problem(1, ic, 3, iw, oc, 3, 3, padding=1) for ic, iw, oc in _staggered(TILE_EDGES, 7, 13)),
    *(Problem(2, ic, 2, iw, oc, 1, 1) for ic, iw, oc in _staggered(TILE_EDGES, 11, 5)),
    *(Problem(1, p, p, p + 2, p, 2, 3, (2, 1), 1) for p in PRIMES[:6]),
)


def random_problems(count: int, seed: int) -> list[Problem]:
    """``count`` different problems of at most 0.5 MFLOP a pass, one in eight of at most 5.

    Every feature is drawn on its own, so that features meet in all combinations. The large ones
    have few features, but several tiles and blocks along every axis.
    """
    rng = np.random.default_rng(seed)
    problems: dict[Problem, None] = {}  # a set that remembers its order
    while len(problems) < count:
        large = len(problems) % 8 == 7
        budget = 5e6 if large else 0.5e6
        problem = _plain_problem(rng) if large or rng.random() < 0.15 else _random_problem(rng)
        # A problem over budget gives up its batch, then its rows; at last it is dropped.
        for n, ih in ((1, problem.ih), (1, int(rng.integers(4, 12))), (1, int(rng.integers(1, 4)))):
            if problem.is_possible and problem.flops > budget:
                problem = dataclasses.replace(problem, n=n, ih=ih)
        if problem.is_possible and problem.flops <= budget:
            problems[problem] = None
    return list(problems)


def _choose(rng: np.random.Generator, options, weights=None):
    weights = None if weights is None else np.array(weights) / np.sum(weights)
    return options[rng.choice(len(options), p=weights)]


def _some(rng: np.random.Generator) -> int:
    """A number of channels or pixels: small, at the edge of a tile, or prime."""
    kind = rng.integers(3)
    return int(rng.integers(1, 20)) if kind == 0 else _choose(rng, (TILE_EDGES, PRIMES)[kind - 1])


def _plain_problem(rng: np.random.Generator) -> Problem:
    """What most layers are: a common kernel, rows longer than a tile, often many channels."""
    k = _choose(rng, (1, 3, 5, 7), (25, 55, 15, 5))
    stride = _choose(rng, (1, 2), (75, 25))
    ic, oc, iw = (_choose(rng, TILE_EDGES) for _ in range(3))
    few = rng.random(2) < 0.2
    ic, oc = (int(rng.integers(1, 7)) if f else c for f, c in zip(few, (ic, oc), strict=True))
    return Problem(2, ic, int(rng.integers(1, 30)), iw, oc, k, k, (stride, stride), k // 2)


def _random_problem(rng: np.random.Generator) -> Problem:
    """Anything; it may be impossible or too large."""
    kind = _choose(rng, ("dense", "grouped", "depthwise", "multiplier"), (60, 17, 15, 8))
    if kind == "dense":
        groups, ic, oc = 1, _some(rng), _some(rng)
    elif kind == "grouped":
        groups = int(rng.integers(2, 6))
        ic, oc = groups * int(rng.integers(1, 18)), groups * int(rng.integers(1, 18))
    else:
        groups = ic = _some(rng)
        oc = ic * (1 if kind == "depthwise" else int(rng.integers(2, 5)))

    def axis() -> tuple[int, int, int]:
        """Kernel size, stride and dilation."""
        return (
            _choose(rng, (1, 2, 3, 4, 5, 7, 11), (30, 12, 34, 6, 10, 5, 3)),
            _choose(rng, (1, 2, 3, 4, 7), (55, 28, 10, 5, 2)),
            _choose(rng, (1, 2, 3, 5), (76, 14, 7, 3)),
        )

    rows = axis()
    columns = rows if rng.random() < 0.6 else axis()
    (kh, sh, dh), (kw, sw, dw) = rows, columns
    padding = _choose(
        rng,
        (
            0,
            int(rng.integers(1, 4)),
            (kh // 2, kw // 2),
            (int(rng.integers(0, 2 * kh + 1)), int(rng.integers(0, 2 * kw + 1))),
            tuple(tuple(map(int, rng.integers(0, 4, 2))) for _ in range(2)),
            "same",
            "valid",
        ),
        (12, 15, 25, 12, 16, 15, 5),
    )
    n = _choose(rng, (0, 1, 2, 3, 5), (1, 60, 20, 15, 4))
    return Problem(n, ic, _some(rng), _some(rng), oc, kh, kw, (sh, sw), padding, (dh, dw), groups)
