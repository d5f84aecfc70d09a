"""Convolution, and its gradients with respect to input, kernel and bias."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastconv._core import conv as _conv

from .types import Array, Padding, Pair


def conv2d(
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    activation: str | None = None,
    out: Array | None = None,
    algorithm: str = "auto",
) -> Array:
    """Slide kernels over images: the 2-D convolution of neural networks (no flip).

    ``y[n, oc, oh, ow] = bias[oc] + sum over ic, kh, kw of kernel[oc, ic, kh, kw] *
    x[n, ic, oh*stride - top + kh*dilation, ow*stride - left + kw*dilation]``,
    with zeros outside the image, and
    ``OH = (IH + top + bottom - dilation*(KH - 1) - 1) // stride + 1``.

    Parameters
    ----------
    x : array (N, IC, IH, IW) or (IC, IH, IW)
        Images.
    kernel : array (OC, IC // groups, KH, KW)
        One kernel per output channel.
    bias : array (OC,), optional
        Added to each output channel.
    stride, dilation : int or (int, int)
        Step between outputs, and between the taps of a kernel; (height, width).
    padding : int, (int, int), ((top, bottom), (left, right)), "valid" or "same"
        Zeros around the image.  "same" gives ``OH = ceil(IH / stride)``, the odd row or column
        of padding at the bottom or right (Keras' "same", ONNX' SAME_UPPER).
    groups : int
        Input and output channels fall into so many groups that do not see each other;
        ``groups=IC`` is a depthwise convolution.
    activation : None or "relu"
        Applied as the result is stored.
    out : array (N, OC, OH, OW), optional
        Where to write the result; must not overlap the inputs.
    algorithm : "auto", "direct" or "winograd"
        "direct" sums as written here, and is exact on integers. "winograd" takes a quarter of the
        multiplications of a 3x3 kernel with stride 1 and dilation 1, and rounds two to three times
        as much; elsewhere it is an error. "auto" is what `use_algorithm` or `set_algorithm` chose:
        direct if nobody did.

    Returns
    -------
    array (N, OC, OH, OW) or (OC, OH, OW)
        In x's memory order; `out` if given.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> image = np.array([[[0., 0., 1., 1.]]])
    >>> edge = np.array([[[[-1., 1.]]]])
    >>> fastconv.conv2d(image, edge)
    array([[[0., 1., 0.]]])
    """
    return _conv.conv2d(
        x, kernel, bias, stride, padding, dilation, groups, activation, out, algorithm
    )


def conv2d_backward_input(
    dy: ArrayLike,
    kernel: ArrayLike,
    input_shape: tuple[int, ...],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    out: Array | None = None,
    algorithm: str = "auto",
) -> Array:
    """Gradient of a convolution with respect to its input.

    ``dx[n, ic, ih, iw] = sum of dy[n, oc, oh, ow] * kernel[oc, ic, kh, kw]`` over all outputs and
    taps with ``oh*stride - top + kh*dilation == ih`` (and likewise for the columns).

    Parameters
    ----------
    dy : array (N, OC, OH, OW) or (OC, OH, OW)
        Gradient with respect to the output.
    kernel : array (OC, IC // groups, KH, KW)
    input_shape : tuple
        ``(N, IC, IH, IW)`` or ``(IC, IH, IW)``, as `dy`.
    stride, padding, dilation, groups
        As in `conv2d`.
    out : array of input_shape, optional
        Where to write the result.
    algorithm : "auto", "direct" or "winograd"
        As in `conv2d`.

    Returns
    -------
    array of input_shape
        In dy's memory order; `out` if given.

    Raises
    ------
    ValueError, TypeError
        Also when dy's shape is not the one that `conv2d` gives.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> kernel = np.array([[[[1., 2.]]]])
    >>> fastconv.conv2d_backward_input(np.ones((1, 1, 3)), kernel, (1, 1, 4))
    array([[[1., 3., 3., 2.]]])
    """
    return _conv.conv2d_backward_input(
        dy, kernel, input_shape, stride, padding, dilation, groups, out, algorithm
    )


def conv2d_backward_kernel(
    dy: ArrayLike,
    x: ArrayLike,
    kernel_shape: tuple[int, int, int, int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    out: Array | None = None,
    algorithm: str = "auto",
) -> Array:
    """Gradient of a convolution with respect to its kernel.

    ``dkernel[oc, ic, kh, kw] = sum over n, oh, ow of
    dy[n, oc, oh, ow] * x[n, ic, oh*stride - top + kh*dilation, ow*stride - left + kw*dilation]``.

    Parameters
    ----------
    dy : array (N, OC, OH, OW) or (OC, OH, OW)
        Gradient with respect to the output.
    x : array (N, IC, IH, IW) or (IC, IH, IW)
        The input of the forward pass.
    kernel_shape : tuple (OC, IC // groups, KH, KW)
    stride, padding, dilation, groups
        As in `conv2d`.
    out : array of kernel_shape, optional
        Where to write the result.
    algorithm : "auto", "direct" or "winograd"
        As in `conv2d`.

    Returns
    -------
    array of kernel_shape

    Raises
    ------
    ValueError, TypeError
        Also when dy's shape is not the one that `conv2d` gives.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.array([[[1., 2., 3., 4.]]])
    >>> fastconv.conv2d_backward_kernel(np.ones((1, 1, 3)), x, (1, 1, 1, 2))
    array([[[[6., 9.]]]])
    """
    return _conv.conv2d_backward_kernel(
        dy, x, kernel_shape, stride, padding, dilation, groups, out, algorithm
    )


def conv2d_backward_bias(dy: ArrayLike) -> Array:
    """Gradient of a convolution with respect to its bias: the sum over images and pixels.

    Parameters
    ----------
    dy : array (N, OC, OH, OW) or (OC, OH, OW)

    Returns
    -------
    array (OC,)

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.conv2d_backward_bias(np.ones((2, 3, 4, 4)))
    array([32., 32., 32.])
    """
    return _conv.conv2d_backward_bias(dy)
