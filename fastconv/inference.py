"""What only inference needs: a convolution whose kernel is packed once.

A call packs its kernel, or transforms it, before it computes. For a single image of many channels
that is much of the work, and while nobody trains, the kernel is the same in every call.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from fastconv._core import conv as _conv
from fastconv._core.run import PackedKernel
from fastconv.functional.types import Array, Padding, Pair

__all__ = ["PackedKernel", "conv2d_packed"]


def conv2d_packed(
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None,
    packed: Any,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    activation: str | None = None,
    algorithm: str = "auto",
) -> Array:
    """`fastconv.conv2d`, which takes the packed kernel from an earlier call if it can.

    It can if x has the earlier shape and memory order and the kernel the earlier values; these are
    compared, so that a kernel may be changed at any time, also in place.

    Parameters
    ----------
    x, kernel, bias, stride, padding, dilation, groups, activation, algorithm
        As in `fastconv.conv2d`.
    packed : PackedKernel
        Where the packed kernel is kept, with a copy of the kernel: one for each kernel.

    Returns
    -------
    array (N, OC, OH, OW) or (OC, OH, OW)

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.inference import PackedKernel, conv2d_packed
    >>> packed = PackedKernel()
    >>> image, edge = np.array([[[0., 0., 1., 1.]]]), np.array([[[[-1., 1.]]]])
    >>> for _ in range(2):
    ...     conv2d_packed(image, edge, None, packed)
    array([[[0., 1., 0.]]])
    array([[[0., 1., 0.]]])
    """
    return _conv.conv2d(
        x, kernel, bias, stride, padding, dilation, groups, activation, None, algorithm, packed
    )
