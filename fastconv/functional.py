"""Operations on arrays, without state: convolution, pooling, dense layers, losses.

Images are logically ``(N, C, H, W)``.  What lies contiguous is the strides' business: a
C-contiguous array and a *channels-last* one (``(N, H, W, C)`` memory seen through
``transpose(0, 3, 1, 2)``) are both read where they lie, and results come in the same order.
Where a batch is taken, a single image ``(C, H, W)`` is too.

Float32 arrays (and float16) compute in float32; one float64 array makes it float64; integer and
bool arrays follow the float ones, and alone they compute in float64.

A wrong argument raises ValueError or TypeError, which names it, what was expected and what came;
a result too large to allocate raises MemoryError.

Each operation has a plain NumPy twin of the same name in `fastconv.reference`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastconv._core import conv as _conv
from fastconv._core import dense as _dense
from fastconv._core import elementwise as _elementwise
from fastconv._core import pooling as _pooling
from fastconv._core import softmax as _softmax
from fastconv._core import unpooling as _unpooling

Array = NDArray[Any]
Pair = int | tuple[int, int]
Padding = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | str

__all__ = [
    "as_channels_last",
    "as_contiguous",
    "conv2d",
    "conv2d_backward_bias",
    "conv2d_backward_input",
    "conv2d_backward_kernel",
    "dense",
    "dense_backward",
    "empty",
    "log_softmax",
    "max_pool2d",
    "max_pool2d_backward",
    "relu",
    "relu_backward",
    "softmax",
    "softmax_cross_entropy",
]


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
    return _conv.conv2d(x, kernel, bias, stride, padding, dilation, groups, activation, out)


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
        dy, kernel, input_shape, stride, padding, dilation, groups, out
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
        dy, x, kernel_shape, stride, padding, dilation, groups, out
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


def max_pool2d(
    x: ArrayLike,
    size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Array | tuple[Array, Array]:
    """Largest value of each window.  A NaN in a window is its result.

    Parameters
    ----------
    x : array (N, C, H, W) or (C, H, W)
    size : int or (int, int)
        Height and width of the window.
    stride : int or (int, int), optional
        Step between windows; by default their size.
    padding : int or (int, int)
        At most half the size.  Padding never wins.
    dilation : int or (int, int)
        Step between the taps of a window.
    ceil_mode : bool
        Also take windows that start inside the padded image but end outside.
    return_indices : bool
        Also return where the values came from.

    Returns
    -------
    y : array (N, C, OH, OW) or (C, OH, OW)
        In x's memory order.
    indices : int32 array like y, only with `return_indices`
        Flat position ``h*W + w`` of each value within its plane; the first of equal ones.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.array([[[1., 5., 2., 3.]]])
    >>> fastconv.max_pool2d(x, (1, 2), return_indices=True)
    (array([[[5., 3.]]]), array([[[1, 3]]], dtype=int32))
    """
    return _pooling.max_pool2d(x, size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d_backward(
    dy: ArrayLike, indices: ArrayLike, input_shape: tuple[int, ...]
) -> Array:
    """Gradient of max pooling: each dy goes where its window found the maximum.

    Parameters
    ----------
    dy : array (N, C, OH, OW) or (C, OH, OW)
        Gradient with respect to the output.
    indices : integer array like dy
        From ``max_pool2d(..., return_indices=True)``.
    input_shape : tuple
        ``(N, C, H, W)`` or ``(C, H, W)``.

    Returns
    -------
    array of input_shape
        In dy's memory order.

    Raises
    ------
    ValueError, TypeError
        Also when an index lies outside the plane.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.max_pool2d_backward(np.array([[[7., 8.]]]), np.array([[[1, 3]]]), (1, 1, 4))
    array([[[0., 7., 0., 8.]]])
    """
    return _unpooling.max_pool2d_backward(dy, indices, input_shape)


def dense(
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    activation: str | None = None,
    out: Array | None = None,
) -> Array:
    """Weighted sums of all features: ``y = x @ kernel.T + bias``.

    Parameters
    ----------
    x : array (N, in_features)
    kernel : array (out_features, in_features)
    bias : array (out_features,), optional
    activation : None or "relu"
        Applied as the result is stored.
    out : array (N, out_features), optional
        Where to put the result; shares no memory with the operands.

    Returns
    -------
    array (N, out_features)

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.dense(np.array([[1., 2.]]), np.array([[3., 4.], [5., 6.]]))
    array([[11., 17.]])
    """
    return _dense.dense(x, kernel, bias, activation, out)


def dense_backward(
    dy: ArrayLike, x: ArrayLike, kernel: ArrayLike, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """Gradients of `dense` with respect to its input, kernel and bias.

    Parameters
    ----------
    dy : array (N, out_features)
        Gradient with respect to the output.
    x : array (N, in_features)
    kernel : array (out_features, in_features)
    need_dx : bool
        Without it dx is None, and no time is spent on it.

    Returns
    -------
    dx : array (N, in_features)
    dkernel : array (out_features, in_features)
    dbias : array (out_features,)

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.dense_backward(np.array([[2.]]), np.array([[1., 3.]]), np.array([[4., 5.]]))
    (array([[ 8., 10.]]), array([[2., 6.]]), array([2.]))
    """
    return _dense.dense_backward(dy, x, kernel, need_dx)


def relu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """``max(x, 0)``; NaN stays NaN.

    Parameters
    ----------
    x : array, at most 4 dimensions
    out : array like x, optional
        Where to put the result; may be x itself.

    Returns
    -------
    array like x

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.relu(np.array([-1., 0., 2.]))
    array([0., 0., 2.])
    """
    return _elementwise.relu(x, out)


def relu_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """Gradient of `relu`: dy where its result `y` is positive, else 0.

    Parameters
    ----------
    dy : array, at most 4 dimensions
        Gradient with respect to the output.
    y : array like dy
        The result of `relu` (its argument serves as well).
    out : array like dy, optional
        Where to put the result; may be dy or y itself.

    Returns
    -------
    array like dy

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.relu_backward(np.array([5., 6.]), np.array([0., 2.]))
    array([0., 6.])
    """
    return _elementwise.relu_backward(dy, y, out)


def _scores(x: ArrayLike, name: str) -> Array:
    """A float array of at least one class."""
    try:
        values = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{name}: expected an array: {error}") from None
    if values.dtype.kind in "biu" or values.dtype.newbyteorder("=") == np.float64:
        values = np.asarray(values, dtype=np.float64, order="C")
    elif values.dtype.newbyteorder("=") in (np.float16, np.float32):
        values = np.asarray(values, dtype=np.float32, order="C")
    else:
        raise TypeError(f"{name}: expected a float32 or float64 array, got dtype {values.dtype}")
    if values.ndim < 1 or values.shape[-1] < 1:
        raise ValueError(f"{name}: expected shape (..., classes), got {values.shape}")
    return values


def softmax(x: ArrayLike) -> Array:
    """Probabilities from scores along the last axis: ``exp(x) / sum(exp(x))``, without overflow.

    Parameters
    ----------
    x : array (..., classes)

    Returns
    -------
    array like x

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.softmax(np.array([[1000., 1000.]]))
    array([[0.5, 0.5]])
    """
    values = _scores(x, "x")
    exponentials = np.exp(values - values.max(axis=-1, keepdims=True))
    exponentials /= exponentials.sum(axis=-1, keepdims=True)
    return exponentials


def log_softmax(x: ArrayLike) -> Array:
    """Logarithm of `softmax`, exact also where a probability is tiny.

    Parameters
    ----------
    x : array (..., classes)

    Returns
    -------
    array like x

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.log_softmax(np.array([[0., -1000.]]))
    array([[    0., -1000.]])
    """
    values = _scores(x, "x")
    shifted = values - values.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def softmax_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> tuple[float, Array]:
    """Mean of ``-log(softmax(logits))[label]`` over the batch, and its gradient.

    Parameters
    ----------
    logits : array (N, classes)
        Scores, not probabilities.
    labels : integer array (N,)
        From 0 to classes - 1.

    Returns
    -------
    loss : float
    dlogits : array (N, classes)
        ``(softmax(logits) - onehot(labels)) / N``.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> loss, dlogits = fastconv.softmax_cross_entropy(np.array([[0., 0.]]), np.array([1]))
    >>> round(loss, 4), dlogits
    (0.6931, array([[ 0.5, -0.5]]))
    """
    return _softmax.cross_entropy(_scores(logits, "logits"), labels)


def as_channels_last(x: ArrayLike) -> Array:
    """The same images with their channels innermost in memory.

    Parameters
    ----------
    x : array (N, C, H, W) or (C, H, W)

    Returns
    -------
    array like x
        `x` itself if it already is so.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.as_channels_last(np.zeros((1, 2, 4, 4))).strides
    (256, 8, 64, 16)
    """
    return _elementwise.as_channels_last(x)


def as_contiguous(x: ArrayLike) -> Array:
    """The same images in C order: rows innermost in memory.

    Parameters
    ----------
    x : array (N, C, H, W) or (C, H, W)

    Returns
    -------
    array like x
        `x` itself if it already is so.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.as_contiguous(np.zeros((1, 4, 4, 2)).transpose(0, 3, 1, 2)).strides
    (256, 128, 32, 8)
    """
    return _elementwise.as_contiguous(x)


def empty(
    shape: tuple[int, ...], dtype: DTypeLike = "float32", channels_last: bool = False
) -> Array:
    """An array with arbitrary contents, from memory that is used again.

    Parameters
    ----------
    shape : tuple of at most 4 sizes
    dtype : float32 or float64
    channels_last : bool
        Put the third axis from the end, the channels, innermost in memory.

    Returns
    -------
    array of that shape

    Raises
    ------
    ValueError, TypeError, MemoryError

    Examples
    --------
    >>> import fastconv
    >>> fastconv.empty((2, 3), "float32").shape
    (2, 3)
    """
    return _elementwise.empty(shape, dtype, channels_last)
