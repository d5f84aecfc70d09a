"""Transposed convolution and its gradients, tap by tap.

One tap of the kernel takes pixel ``i`` of an axis to ``o = i * stride + k * dilation - before`` of
the result. That is the picture of the convolution with input and result exchanged: here an `Axis`
has the result as its image, and one window for each pixel of x.
"""

from collections.abc import Sequence

import numpy as np

from .arrays import Array, finish, float64
from .convolution import Activation
from .windows import Axis, Padding, Pair, pair, taps_of


def _axes(
    image: Sequence[int],
    kernel: Sequence[int],
    stride: Pair,
    padding: Padding,
    output_padding: Pair,
    dilation: Pair,
) -> tuple[Axis, Axis]:
    """Rows and columns of the result.

        O = (I - 1) * stride + reach - before - after + output_padding

    where a spread kernel is ``reach = (K - 1) * dilation + 1`` pixels long. "same" asks for
    ``O = I * stride``; the odd one that is cut off is at the end.
    """
    axes = []
    for axis in range(2):
        step, spread, more = (pair(value)[axis] for value in (stride, dilation, output_padding))
        full = (image[axis] - 1) * step + (kernel[axis] - 1) * spread + 1
        if padding == "same":
            before = max(full - image[axis] * step, 0) // 2
            length = image[axis] * step
        elif padding == "valid":
            before, length = 0, full + more
        elif np.ndim(padding) == 2:
            before, after = padding[axis]  # type: ignore[index, misc]
            length = full - before - after + more
        else:
            before = pair(padding)[axis]
            length = full - 2 * before + more
        if length < 1 and padding != "same":
            raise ValueError(f"padding: expected to leave a row and a column, got {padding!r}")
        axes.append(Axis(length, kernel[axis], step, spread, before, image[axis]))
    return axes[0], axes[1]


def conv_transpose2d(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    activation: Activation = None,
    out: Array | None = None,
) -> Array:
    """Add to the result, for each pixel of x, the kernel times that pixel.

        y[n, oc, oh, ow] = bias[oc] + sum over ic, kh, kw, ih, iw with
            oh = ih * stride + kh * dilation - top
            ow = iw * stride + kw * dilation - left     of
            kernel[ic, oc, kh, kw] * x[n, ic, ih, iw]

    where ``ic`` runs over the input channels of oc's group.

    Examples
    --------
    >>> conv_transpose2d(np.array([[[1.0, 10.0]]]), np.array([[[[1.0, 2.0, 3.0]]]]), stride=(1, 2))
    array([[[ 1.,  2., 13., 20., 30.]]])
    """
    dtype, (images, kernel, bias) = float64(x=x, kernel=kernel, bias=bias)
    images = images if images.ndim == 4 else images[None]
    N, IC, IH, IW = images.shape
    _, OC_G, KH, KW = kernel.shape
    rows, columns = _axes((IH, IW), (KH, KW), stride, padding, output_padding, dilation)
    by_group = images.reshape(N, groups, IC // groups, IH, IW)
    kernel = kernel.reshape(groups, IC // groups, OC_G, KH, KW)
    y = np.zeros((N, groups, OC_G, rows.size, columns.size))
    for kh, kw, at_x, at_y in taps_of(rows, columns):
        y[at_y] += np.einsum("gio,ngihw->ngohw", kernel[..., kh, kw], by_group[at_x])
    y = y.reshape(N, groups * OC_G, rows.size, columns.size)
    if bias is not None:
        y += bias[:, None, None]
    if activation == "relu":
        y = np.maximum(y, 0)
    return finish(y, dtype, x, out)


def conv_transpose2d_backward_input(
    dy: Array,
    kernel: Array,
    input_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    out: Array | None = None,
) -> Array:
    """Gradient with respect to the input of `conv_transpose2d`: back along the same pairs.

        dx[n, ic, ih, iw] = sum over oc, kh, kw of kernel[ic, oc, kh, kw] * dy[n, oc, oh, ow]

    Examples
    --------
    >>> kernel = np.array([[[[1.0, 2.0, 3.0]]]])
    >>> conv_transpose2d_backward_input(np.ones((1, 1, 5)), kernel, (1, 1, 2), stride=(1, 2))
    array([[[6., 6.]]])
    """
    dtype, (gradients, kernel) = float64(dy=dy, kernel=kernel)
    gradients = gradients if gradients.ndim == 4 else gradients[None]
    N, OC, OH, OW = gradients.shape
    IC, IH, IW = input_shape[-3:]
    rows, columns = _axes(
        (IH, IW), kernel.shape[2:], stride, padding, output_padding, dilation
    )
    by_group = gradients.reshape(N, groups, OC // groups, OH, OW)
    kernel = kernel.reshape(groups, IC // groups, *kernel.shape[1:])
    dx = np.zeros((N, groups, IC // groups, IH, IW))
    for kh, kw, at_x, at_y in taps_of(rows, columns):
        dx[at_x] += np.einsum("gio,ngohw->ngihw", kernel[..., kh, kw], by_group[at_y])
    return finish(dx.reshape(N, IC, IH, IW), dtype, dy, out)


def conv_transpose2d_backward_kernel(
    dy: Array,
    x: Array,
    kernel_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    out: Array | None = None,
) -> Array:
    """Gradient with respect to the kernel of `conv_transpose2d`, summed over the batch.

        dk[ic, oc, kh, kw] = sum over n, ih, iw of x[n, ic, ih, iw] * dy[n, oc, oh, ow]

    Examples
    --------
    >>> x = np.array([[[1.0, 10.0]]])
    >>> conv_transpose2d_backward_kernel(np.ones((1, 1, 5)), x, (1, 1, 1, 3), stride=(1, 2))
    array([[[[11., 11., 11.]]]])
    """
    dtype, (gradients, images) = float64(dy=dy, x=x)
    gradients = gradients if gradients.ndim == 4 else gradients[None]
    images = images if images.ndim == 4 else images[None]
    N, IC, IH, IW = images.shape
    _, OC_G, KH, KW = kernel_shape
    rows, columns = _axes((IH, IW), (KH, KW), stride, padding, output_padding, dilation)
    gradients = gradients.reshape(N, groups, OC_G, *gradients.shape[2:])
    images = images.reshape(N, groups, IC // groups, IH, IW)
    dk = np.zeros((groups, IC // groups, OC_G, KH, KW))
    for kh, kw, at_x, at_y in taps_of(rows, columns):
        dk[..., kh, kw] = np.einsum("ngihw,ngohw->gio", images[at_x], gradients[at_y])
    return finish(dk.reshape(tuple(kernel_shape)), dtype, None, out)
