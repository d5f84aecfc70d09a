"""Transposed convolution, and its gradients with respect to input and kernel."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastconv._core import transposed as _transposed

from .types import Array, Padding, Pair


def conv_transpose2d(
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    activation: str | None = None,
    out: Array | None = None,
) -> Array:
    """Let each pixel spread a kernel over the result: a convolution's shapes in reverse.

    Pixel ``(ih, iw)`` adds ``kernel[ic, oc, kh, kw] * x[n, ic, ih, iw]`` to
    ``y[n, oc, ih*stride - top + kh*dilation, iw*stride - left + kw*dilation]``, and
    ``OH = (IH - 1)*stride - top - bottom + dilation*(KH - 1) + output_padding + 1``.
    It is the gradient with respect to its input of the convolution with the same kernel, stride,
    padding, dilation and groups.

    Parameters
    ----------
    x : array (N, IC, IH, IW) or (IC, IH, IW)
        Images.
    kernel : array (IC, OC // groups, KH, KW)
        What each input channel spreads, as in PyTorch.
    bias : array (OC,), optional
        Added to each output channel.
    stride, dilation : int or (int, int)
        Step between the spread kernels, and between the taps of one; (height, width).
    padding : int, (int, int), ((top, bottom), (left, right)), "valid" or "same"
        Rows and columns that the result lacks at its border; "same" gives ``OH = IH * stride``.
    output_padding : int or (int, int)
        Rows and columns more at the bottom and right, fewer than the stride (or dilation): of
        several sizes that the convolution maps to one, which it is.
    groups : int
        Input and output channels fall into so many groups that do not see each other.
    activation : None or "relu"
        Applied as the result is stored.
    out : array (N, OC, OH, OW), optional
        Where to write the result; must not overlap the inputs.

    Returns
    -------
    array (N, OC, OH, OW) or (OC, OH, OW)
        In x's memory order; `out` if given.

    Notes
    -----
    The gradient with respect to the bias is `conv2d_backward_bias`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x, kernel = np.array([[[1., 10.]]]), np.array([[[[1., 2., 3.]]]])
    >>> fastconv.conv_transpose2d(x, kernel, stride=(1, 2))
    array([[[ 1.,  2., 13., 20., 30.]]])
    """
    return _transposed.conv_transpose2d(
        x, kernel, bias, stride, padding, output_padding, dilation, groups, activation, out
    )


def conv_transpose2d_backward_input(
    dy: ArrayLike,
    kernel: ArrayLike,
    input_shape: tuple[int, ...],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    out: Array | None = None,
) -> Array:
    """Gradient of a transposed convolution with respect to its input: the convolution of dy.

    Parameters
    ----------
    dy : array (N, OC, OH, OW) or (OC, OH, OW)
        Gradient with respect to the output.
    kernel : array (IC, OC // groups, KH, KW)
    input_shape : tuple
        ``(N, IC, IH, IW)`` or ``(IC, IH, IW)``, as `dy`.
    stride, padding, output_padding, dilation, groups
        As in `conv_transpose2d`.
    out : array of input_shape, optional
        Where to write the result.

    Returns
    -------
    array of input_shape
        In dy's memory order; `out` if given.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> kernel = np.array([[[[1., 2., 3.]]]])
    >>> fastconv.conv_transpose2d_backward_input(
    ...     np.ones((1, 1, 5)), kernel, (1, 1, 2), stride=(1, 2))
    array([[[6., 6.]]])
    """
    return _transposed.conv_transpose2d_backward_input(
        dy, kernel, input_shape, stride, padding, output_padding, dilation, groups, out
    )


def conv_transpose2d_backward_kernel(
    dy: ArrayLike,
    x: ArrayLike,
    kernel_shape: tuple[int, int, int, int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    out: Array | None = None,
) -> Array:
    """Gradient of a transposed convolution with respect to its kernel.

    Parameters
    ----------
    dy : array (N, OC, OH, OW) or (OC, OH, OW)
        Gradient with respect to the output.
    x : array (N, IC, IH, IW) or (IC, IH, IW)
        The input of the forward pass.
    kernel_shape : tuple (IC, OC // groups, KH, KW)
    stride, padding, output_padding, dilation, groups
        As in `conv_transpose2d`.
    out : array of kernel_shape, optional
        Where to write the result.

    Returns
    -------
    array of kernel_shape

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.array([[[1., 10.]]])
    >>> fastconv.conv_transpose2d_backward_kernel(
    ...     np.ones((1, 1, 5)), x, (1, 1, 1, 3), stride=(1, 2))
    array([[[[11., 11., 11.]]]])
    """
    return _transposed.conv_transpose2d_backward_kernel(
        dy, x, kernel_shape, stride, padding, output_padding, dilation, groups, out
    )
