"""Convolution and its gradients, tap by tap."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from .arrays import Array, finish, float64
from .windows import Padding, Pair, axes_of, taps_of

Activation = Literal["relu"] | None


def conv2d(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    activation: Activation = None,
    out: Array | None = None,
    algorithm: str = "auto",
) -> Array:
    """Convolve images with a kernel (no flip: what mathematics calls cross-correlation).

    With ``g = oc // (OC // groups)`` the group of output channel ``oc``, and ``ic`` running over
    the ``IC // groups`` input channels of that group,

        y[n, oc, oh, ow] = bias[oc] + sum over ic, kh, kw of
            kernel[oc, ic, kh, kw] * x[n, g * (IC // groups) + ic, ih, iw]
        ih = oh * stride + kh * dilation - top
        iw = ow * stride + kw * dilation - left

    Pixels outside the image do not take part. ``activation="relu"`` replaces negative results by 0.

    Examples
    --------
    >>> conv2d(np.arange(9.0).reshape(1, 3, 3), np.ones((1, 1, 2, 2)))
    array([[[ 8., 12.],
            [20., 24.]]])
    """
    dtype, (images, kernel, bias) = float64(x=x, kernel=kernel, bias=bias)
    images = images if images.ndim == 4 else images[None]
    N, IC, IH, IW = images.shape
    OC, IC_G, KH, KW = kernel.shape
    if IC_G * groups != IC or OC % groups:
        raise ValueError(f"kernel: {kernel.shape} does not fit {IC} channels in {groups} groups")
    if activation not in (None, "relu"):
        raise ValueError(f"activation: expected None or 'relu', got {activation!r}")

    rows, columns = axes_of((IH, IW), (KH, KW), stride, padding, dilation)
    by_group = images.reshape(N, groups, IC_G, IH, IW)
    kernel = kernel.reshape(groups, OC // groups, IC_G, KH, KW)
    y = np.zeros((N, groups, OC // groups, rows.out, columns.out))
    for kh, kw, at_y, at_x in taps_of(rows, columns):
        y[at_y] += np.einsum("goi,ngihw->ngohw", kernel[..., kh, kw], by_group[at_x])

    y = y.reshape(N, OC, rows.out, columns.out)
    if bias is not None:
        y += bias[:, None, None]
    if activation == "relu":
        y = np.maximum(y, 0)
    return finish(y, dtype, x, out)


def conv2d_backward_input(
    dy: Array,
    kernel: Array,
    input_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    out: Array | None = None,
    algorithm: str = "auto",
) -> Array:
    """Gradient with respect to the input of `conv2d`.

    Output pixel ``(oh, ow)`` took ``kernel[kh, kw]`` times input pixel ``(ih, iw)``; so the
    gradient flows back along the same pairs, with the roles of the pixels exchanged:

        dx[n, ic, ih, iw] = sum over oc, kh, kw, with (oh, ow) such that the tap meets (ih, iw), of
            kernel[oc, ic, kh, kw] * dy[n, oc, oh, ow]

    Pixels that no window looks at get 0. In other words ``dx`` is the transposed linear map: for
    any ``x``, ``sum(dy * conv2d(x, kernel)) == sum(dx * x)``.

    Examples
    --------
    >>> conv2d_backward_input(np.ones((1, 2, 2)), np.ones((1, 1, 2, 2)), (1, 3, 3))
    array([[[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]]])
    """
    dtype, (gradients, kernel) = float64(dy=dy, kernel=kernel)
    gradients = gradients if gradients.ndim == 4 else gradients[None]
    N, OC, OH, OW = gradients.shape
    IC, IH, IW = input_shape[-3:]
    KH, KW = kernel.shape[2:]
    rows, columns = axes_of((IH, IW), (KH, KW), stride, padding, dilation)
    if gradients.shape[2:] != (rows.out, columns.out):
        raise ValueError(f"dy: expected {rows.out}x{columns.out} pixels, got {OH}x{OW}")

    by_group = gradients.reshape(N, groups, OC // groups, OH, OW)
    kernel = kernel.reshape(groups, OC // groups, IC // groups, KH, KW)
    dx = np.zeros((N, groups, IC // groups, IH, IW))
    for kh, kw, at_y, at_x in taps_of(rows, columns):
        dx[at_x] += np.einsum("goi,ngohw->ngihw", kernel[..., kh, kw], by_group[at_y])
    return finish(dx.reshape(N, IC, IH, IW), dtype, dy, out)


def conv2d_backward_kernel(
    dy: Array,
    x: Array,
    kernel_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    out: Array | None = None,
    algorithm: str = "auto",
) -> Array:
    """Gradient with respect to the kernel of `conv2d`, summed over the batch.

    A weight has multiplied every input pixel its tap met, and each product went to one output:

        dk[oc, ic, kh, kw] = sum over n, oh, ow of
            dy[n, oc, oh, ow] * x[n, ic, oh * stride + kh * dilation - top, ...]

    Like the gradient with respect to the input it is a transposed linear map:
    ``sum(dy * conv2d(x, kernel)) == sum(dk * kernel)`` for any kernel.

    Examples
    --------
    >>> conv2d_backward_kernel(np.ones((1, 2, 2)), np.arange(9.0).reshape(1, 3, 3), (1, 1, 2, 2))
    array([[[[ 8., 12.],
             [20., 24.]]]])
    """
    dtype, (gradients, images) = float64(dy=dy, x=x)
    gradients = gradients if gradients.ndim == 4 else gradients[None]
    images = images if images.ndim == 4 else images[None]
    N, IC, IH, IW = images.shape
    OC, IC_G, KH, KW = kernel_shape
    rows, columns = axes_of((IH, IW), (KH, KW), stride, padding, dilation)
    if gradients.shape != (N, OC, rows.out, columns.out):
        raise ValueError(f"dy: expected {(N, OC, rows.out, columns.out)}, got {gradients.shape}")

    gradients = gradients.reshape(N, groups, OC // groups, rows.out, columns.out)
    images = images.reshape(N, groups, IC // groups, IH, IW)
    dk = np.zeros((groups, OC // groups, IC_G, KH, KW))
    for kh, kw, at_y, at_x in taps_of(rows, columns):
        dk[..., kh, kw] = np.einsum("ngohw,ngihw->goi", gradients[at_y], images[at_x])
    return finish(dk.reshape(OC, IC_G, KH, KW), dtype, None, out)


def conv2d_backward_bias(dy: Array) -> Array:
    """Gradient with respect to the bias of `conv2d`: the bias reached every pixel of its channel.

        dbias[oc] = sum over n, oh, ow of dy[n, oc, oh, ow]

    Examples
    --------
    >>> conv2d_backward_bias(np.ones((8, 2, 3, 3)))
    array([72., 72.])
    """
    dtype, (dy,) = float64(dy=dy)
    every_axis_but_channels = (0, 2, 3) if dy.ndim == 4 else (1, 2)
    return dy.sum(axis=every_axis_but_channels).astype(dtype)
