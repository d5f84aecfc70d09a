"""What a convolution would do: the plan it gets, in words and numbers.

``explain`` asks the door that the passes go through for the plan that they would find there, so
what it says is what runs.  Nothing is computed, and no array of the shapes asked for is made.

How long the plan should take follows from a few of its numbers; ``Explanation.seconds`` adds them
up, and ``docs/cost-model.md`` says why so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import DTypeLike

from fastconv._core import conv as _conv
from fastconv._core import isa as _isa
from fastconv.arguments import boolean, float_dtype

Pair = int | tuple[int, int]
Padding = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | str

# The images that each operation reads and writes, in the order in which its plan speaks of them.
IMAGES = {
    "conv2d": ("x", "y"),
    "conv2d_backward_input": ("dy", "dx"),
    "conv2d_backward_kernel": ("x", "dy"),
}

# What packing takes to move one value.
CYCLES_PER_PACKED_VALUE = 0.5


@dataclass(frozen=True)
class Explanation:
    """How a convolution would be computed; from `explain`.

    Attributes
    ----------
    operation, dtype, channels_last
        As asked for.
    input_shape, kernel_shape, output_shape : tuple
        (N, IC, IH, IW), (OC, IC // groups, KH, KW), (N, OC, OH, OW); a single image is a batch of
        one.
    multiply_adds, useful_multiply_adds : int
        As the shapes say, and without those that meet the padding.
    array_bytes : int
        Of the two images and the kernel: two are read, one is written.
    isa : str
        The instruction set.
    path : str
        Which loop nest runs: "channels in the lanes", "lanes meet lanes" (depthwise and small
        groups), "pixels in the lanes", or "kernel gradient, " and what its rows are; "nothing to
        compute" for an empty batch, whose plan is all zeros.
    tile : (int, int, int)
        Rows of the largest register tile in use, its vectors, and the lanes of a vector.
    lane_blocks : int
        Blocks that the lanes are cut into, each one tile wide.
    sum_blocks : int
        Blocks that the sum is cut into: of channels, or of pixels for the gradient of the kernel.
    packed : tuple of str
        Images that do not go straight from or to their memory: they are packed first, or turned
        last.
    padded, spread : bool
        Whether packing puts zeros around the image, and small groups' channels into all lanes.
    streams : bool
        Whether results go past the caches.
    task : dict
        Extent of a task: images, rows, columns (of one phase, where stride makes phases) and blocks
        of lanes.  In the gradient of the kernel images, rows and columns are those of a block of
        pixels, and a task takes so many blocks, and units: tiles of one tap's channels.
    tasks, threads : int
    scratch_bytes : int
        Of each thread.
    kernel_bytes : int
        Of the packed kernel, or of the partial kernels that the gradient of the kernel adds up.
    packed_values : int
        Values that all packing moves.
    tile_calls, vector_fmas : int
        Calls of the tile, and the multiply-adds of vectors in them.
    step_cycles, call_cycles : float
        What the sums in these calls take, and beginning and ending the calls.
    lanes_per_cycle : float
        Multiply-adds of a core at its roof in one such cycle.
    """

    operation: str
    dtype: str
    channels_last: bool
    input_shape: tuple[int, int, int, int]
    kernel_shape: tuple[int, int, int, int]
    output_shape: tuple[int, int, int, int]
    multiply_adds: int
    useful_multiply_adds: int
    array_bytes: int
    isa: str
    path: str
    tile: tuple[int, int, int]
    lane_blocks: int
    sum_blocks: int
    packed: tuple[str, ...]
    padded: bool
    spread: bool
    streams: bool
    task: dict[str, int]
    tasks: int
    threads: int
    scratch_bytes: int
    kernel_bytes: int
    packed_values: int
    tile_calls: int
    vector_fmas: int
    step_cycles: float
    call_cycles: float
    lanes_per_cycle: float

    @property
    def intensity(self) -> float:
        """Useful floating-point operations for each byte of the arrays."""
        return 2 * self.useful_multiply_adds / self.array_bytes

    @property
    def lanes_in_use(self) -> float:
        """Useful multiply-adds by all that the vectors compute."""
        return self.useful_multiply_adds / max(self.vector_fmas * self.tile[2], 1)

    @property
    def packing_cycles(self) -> float:
        """What packing takes."""
        return CYCLES_PER_PACKED_VALUE * self.packed_values

    @property
    def cycles(self) -> float:
        """What all but waiting for memory takes."""
        return self.step_cycles + self.call_cycles + self.packing_cycles

    def seconds(self, roof: float, bandwidth: float) -> float:
        """How long the call should take: its arithmetic, and reading and writing its arrays.

        Parameters
        ----------
        roof : float
            Floating-point operations per second of one core's multiply-adds, in `dtype`.
        bandwidth : float
            Bytes per second that all threads together read and write.

        Returns
        -------
        float
        """
        if not self.tasks:
            return self.array_bytes / bandwidth
        # The last round of tasks may leave threads idle.
        share = math.ceil(self.tasks / self.threads) / self.tasks
        return self.cycles * 2 * self.lanes_per_cycle / roof * share + self.array_bytes / bandwidth

    def __str__(self) -> str:
        OC, _, KH, KW = self.kernel_shape
        N, IC, IH, IW = self.input_shape
        order = "channels-last" if self.channels_last else "C order"
        lines = [
            f"{self.operation}: {KH}x{KW}, {IC} -> {OC} channels, {N} x {IH}x{IW} -> "
            f"{self.output_shape[2]}x{self.output_shape[3]}, {self.dtype}, {order}"
        ]
        rows, vectors, lanes = self.tile
        packing = ", ".join(self.packed) or "nothing"
        extras = ("padded", self.padded), ("spread over lanes", self.spread)
        packing += "".join(f", {word}" for word, holds in extras if holds)
        extent = ", ".join(f"{what} {count}" for what, count in self.task.items())
        fields = {
            "path": self.path,
            "tile": f"{rows} rows x {vectors} vectors x {lanes} lanes ({self.isa})",
            "blocks": f"{self.lane_blocks} of lanes, {self.sum_blocks} of the sum",
            "packs": packing + (", results past the caches" if self.streams else ""),
            "tasks": f"{self.tasks} on {self.threads} threads; each: {extent or 'nothing'}",
            "memory": f"arrays {_bytes(self.array_bytes)}, kernel {_bytes(self.kernel_bytes)}, "
            f"scratch {_bytes(self.scratch_bytes)} per thread",
            "work": f"{self.multiply_adds / 1e6:.4g} M multiply-adds, "
            f"{self.useful_multiply_adds / 1e6:.4g} M inside the image; "
            f"{self.lanes_in_use:.0%} of the lanes in use",
            "moves": f"{self.intensity:.3g} flop for each byte of the arrays",
        }
        return "\n".join([*lines, *(f"  {name:7} {text}" for name, text in fields.items())])


def _bytes(count: int) -> str:
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"


def explain(
    operation: str | Callable[..., Any],
    input_shape: tuple[int, ...],
    kernel_shape: tuple[int, int, int, int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    dtype: DTypeLike = "float32",
    channels_last: bool = True,
    algorithm: str = "auto",
) -> Explanation:
    """Say how a convolution, or one of its gradients, would be computed now.

    It depends on the shapes, the instruction set in use, the number of threads, and the sizes of
    this machine's caches.

    Parameters
    ----------
    operation : str or function
        `conv2d`, `conv2d_backward_input`, `conv2d_backward_kernel`, or the name of one.
    input_shape : tuple
        (N, IC, IH, IW) or (IC, IH, IW), the shape of x or dx.
    kernel_shape : tuple
        (OC, IC // groups, KH, KW)
    stride, padding, dilation, groups
        As in `conv2d`.
    dtype : "float32" or "float64"
        Of all arrays.
    channels_last : bool
        Whether the images that the operation reads have their channels innermost in memory, as
        from `as_channels_last`, or lie in C order.
    algorithm : "auto", "direct" or "winograd"
        As in `conv2d`.

    Returns
    -------
    Explanation

    Raises
    ------
    ValueError, TypeError

    Examples
    --------
    >>> import fastconv
    >>> plan = fastconv.explain(fastconv.conv2d, (8, 64, 56, 56), (64, 64, 3, 3), padding=1)
    >>> plan.path
    'channels in the lanes'
    >>> plan.multiply_adds == 8 * 56 * 56 * 64 * 64 * 3 * 3
    True
    >>> str(plan).splitlines()[0]
    'conv2d: 3x3, 64 -> 64 channels, 8 x 56x56 -> 56x56, float32, channels-last'
    """
    name = getattr(operation, "__name__", operation)
    if not isinstance(name, str):
        raise TypeError(f"operation: expected a function or its name, got {operation!r}")
    if name not in IMAGES:
        raise ValueError(f"operation: expected one of {', '.join(IMAGES)}, got {name!r}")
    kind = float_dtype("dtype", dtype)
    boolean("channels_last", channels_last)
    said = _conv.explain(
        name,
        input_shape,
        kernel_shape,
        stride,
        padding,
        dilation,
        groups,
        kind,
        channels_last,
        algorithm,
    )
    shapes = said["input_shape"], said["kernel_shape"], said["output_shape"]
    (OC, channels, KH, KW), (N, _, OH, OW) = shapes[1:]
    packs = said.pop("packs", (False, False))
    nothing = {
        "path": "nothing to compute",
        "tile": (0, 0, 0),
        **dict.fromkeys(("lane_blocks", "sum_blocks", "tasks", "threads", "scratch_bytes"), 0),
        **dict.fromkeys(("kernel_bytes", "packed_values", "tile_calls", "vector_fmas"), 0),
        **dict.fromkeys(("padded", "spread", "streams"), False),
        "task": {},
        "step_cycles": 0.0,
        "call_cycles": 0.0,
        "lanes_per_cycle": 0.0,
    }
    return Explanation(
        operation=name,
        dtype=kind.name,
        channels_last=bool(channels_last),
        multiply_adds=N * OC * channels * OH * OW * KH * KW,
        useful_multiply_adds=N * OC * channels * said.pop("inside"),
        array_bytes=kind.itemsize * sum(map(math.prod, shapes)),
        isa=_isa.name(),
        packed=tuple(image for image, holds in zip(IMAGES[name], packs, strict=True) if holds),
        **{**nothing, **said},
    )
