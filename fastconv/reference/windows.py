"""How windows lie on an image: one axis at a time, and tap by tap."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

Pair = int | tuple[int, int]

Padding = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | Literal["valid", "same"]


class Axis(NamedTuple):
    """Height or width of one problem: how windows lie on the image."""

    size: int  # pixels of the image
    taps: int  # taps of the window
    stride: int
    dilation: int
    before: int  # padding in front of the image
    out: int  # windows

    def meet(self, k: int) -> tuple[slice, slice]:
        """The outputs whose tap ``k`` is a pixel of the image, and those pixels."""
        shift = k * self.dilation - self.before  # i = o * stride + shift, and 0 <= i < size
        first = max(0, -(shift // self.stride))
        last = min(self.out, -((shift - self.size) // self.stride))
        last = max(first, last)
        start = first * self.stride + shift
        stop = start + (last - first) * self.stride
        # The stop of a slice with a step may overshoot the image; it must not be negative.
        return slice(first, last), slice(max(start, 0), max(stop, 0), self.stride)


def taps_of(rows: Axis, columns: Axis) -> Iterator[tuple[int, int, Any, Any]]:
    """Each tap ``kh, kw`` in row-major order, with the places where it is met in y and in x."""
    for kh in range(rows.taps):
        oh, ih = rows.meet(kh)
        for kw in range(columns.taps):
            ow, iw = columns.meet(kw)
            yield kh, kw, (..., oh, ow), (..., ih, iw)


def pair(value: Any) -> tuple[int, int]:
    """``3`` and ``(3, 3)`` mean the same."""
    return (int(value), int(value)) if np.ndim(value) == 0 else (int(value[0]), int(value[1]))


def axes_of(
    size: Sequence[int],
    window: Sequence[int],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    ceil_mode: bool = False,
) -> tuple[Axis, Axis]:
    """Rows and columns of a problem.

    With ``reach = (K - 1) * dilation + 1`` pixels under a window, there are

        O = (I + before + after - reach) // stride + 1

    windows along an axis. ``"same"`` asks for ``O = ceil(I / stride)`` and pads by what that
    takes, ``(O - 1) * stride + reach - I`` if positive, the odd one at the end (bottom, right).
    ``ceil_mode`` rounds the division up, so that a window may hang over the end, as long as it
    starts inside the image or the padding in front of it.
    """
    if isinstance(padding, str):
        if padding not in ("valid", "same"):
            raise ValueError(f"padding: expected 'valid', 'same' or numbers, got {padding!r}")
        pads = ((0, 0), (0, 0))
    elif np.ndim(padding) == 2:
        pads = (pair(padding[0]), pair(padding[1]))  # type: ignore[index]
    else:
        ph, pw = pair(padding)
        pads = ((ph, ph), (pw, pw))

    axes = []
    for length, taps, step, spread, (before, after) in zip(
        size, window, pair(stride), pair(dilation), pads, strict=True
    ):
        reach = (taps - 1) * spread + 1
        if padding == "same":
            out = -(-length // step)
            before = max((out - 1) * step + reach - length, 0) // 2
        else:
            room = length + before + after - reach
            if room < 0:
                raise ValueError(
                    f"window: {reach} pixels long (dilation included), larger than the padded "
                    f"image with {length + before + after}"
                )
            out = room // step + 1
            if ceil_mode and room % step and out * step < length + before:
                out += 1
        axes.append(Axis(length, taps, step, spread, before, out))
    return axes[0], axes[1]


def output_shape(
    input_shape: Sequence[int],
    kernel_shape: int | Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[int, ...]:
    """The shape of a convolution's or pooling's result; the formula is in `axes_of`.

    ``kernel_shape`` is a kernel's, or the size of a window, which keeps the channels.

    Examples
    --------
    >>> output_shape((3, 32, 32), (8, 3, 5, 5)), output_shape((28, 28), 2, stride=2)
    ((8, 28, 28), (14, 14))
    """
    *others, H, W = input_shape
    window = pair(kernel_shape)
    if np.ndim(kernel_shape) == 1 and len(kernel_shape) == 4:  # type: ignore[arg-type]
        window = pair(kernel_shape[2:])  # type: ignore[index]
        others[-1:] = kernel_shape[:1] if others else []  # type: ignore[index]
    rows, columns = axes_of((H, W), window, stride, padding, dilation, ceil_mode)
    return (*others, rows.out, columns.out)
