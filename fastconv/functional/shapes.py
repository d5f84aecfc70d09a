"""The size of what a window leaves."""

from __future__ import annotations

from fastconv._core import shapes as _shapes

from .types import Padding, Pair


def output_shape(
    input_shape: tuple[int, ...],
    kernel_shape: int | tuple[int, ...],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[int, ...]:
    """The shape of a convolution's or pooling's result, without computing it.

    ``OH = (IH + top + bottom - dilation*(KH - 1) - 1) // stride + 1``, and OW likewise.

    Parameters
    ----------
    input_shape : tuple
        ``(N, C, H, W)``, ``(C, H, W)`` or ``(H, W)``.
    kernel_shape : int, (int, int) or tuple of 4
        Height and width of the window, which leaves the channels as they are; or the shape of a
        kernel, ``(OC, IC // groups, KH, KW)``, which makes them OC.
    stride, padding, dilation
        As in `conv2d`. A pooling's stride, unless told otherwise, is its size: here it is 1.
    ceil_mode : bool
        As in `max_pool2d`.

    Returns
    -------
    tuple of as many sizes as `input_shape` has

    Examples
    --------
    >>> import fastconv
    >>> fastconv.output_shape((3, 32, 32), (8, 3, 5, 5))
    (8, 28, 28)
    >>> [fastconv.output_shape((28, 28), 3, stride=s, padding=1) for s in (1, 2, 3)]
    [(28, 28), (14, 14), (10, 10)]
    """
    return _shapes.output_shape(input_shape, kernel_shape, stride, padding, dilation, ceil_mode)
