"""Every operation of `fastconv.functional` in plain NumPy: the oracle and the documentation.

The functions here have the names and the signatures of their fast twins and are written to be
read: a formula in the docstring, then the same formula as code. They take every argument the fast
ones take, compute in float64 whatever they are given, and round once, at the end, to the result's
dtype. That makes them the yardstick of the tests, and the place to look when a convention is in
doubt. They are slow, and they check only what would otherwise give a silently wrong answer.

One picture serves the convolution, its two gradients and pooling. Along one axis, tap ``k`` of
the window that makes output ``o`` lies on input

    i = o * stride + k * dilation - before

where ``before`` is the padding in front of the axis. For one tap, the outputs whose ``i`` falls
inside the image are a plain range, and so are the inputs they meet: two slices. All four
operations walk over the taps and do their arithmetic on such a pair of slices,

    y[oh, ow]   += kernel[kh, kw] * x[ih, iw]          convolution
    dx[ih, iw]  += kernel[kh, kw] * dy[oh, ow]         gradient with respect to the input
    dk[kh, kw]   = sum of dy[oh, ow] * x[ih, iw]       gradient with respect to the kernel
    y[oh, ow]    = max(y[oh, ow], x[ih, iw])           max pooling

A tap that lies in the padding is skipped here. The fast twins may multiply it by zero instead,
which differs only where the other factor is infinite or NaN.

The dtype rule: the result is float64 if any floating-point array given is float64, or if none is
floating-point; otherwise it is float32 (float16 counts as float32). Complex, object, string and
long double arrays are refused.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

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

Array = NDArray[Any]
Pair = int | tuple[int, int]
Padding = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | Literal["valid", "same"]
Activation = Literal["relu"] | None


# -- geometry --------------------------------------------------------------------------------------


class _Axis(NamedTuple):
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


def _taps(rows: _Axis, columns: _Axis) -> Iterator[tuple[int, int, Any, Any]]:
    """Each tap ``kh, kw`` in row-major order, with the places where it is met in y and in x."""
    for kh in range(rows.taps):
        oh, ih = rows.meet(kh)
        for kw in range(columns.taps):
            ow, iw = columns.meet(kw)
            yield kh, kw, (..., oh, ow), (..., ih, iw)


def _pair(value: Any) -> tuple[int, int]:
    """``3`` and ``(3, 3)`` mean the same."""
    return (int(value), int(value)) if np.ndim(value) == 0 else (int(value[0]), int(value[1]))


def _axes(
    size: Sequence[int],
    window: Sequence[int],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    ceil_mode: bool = False,
) -> tuple[_Axis, _Axis]:
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
        pads = (_pair(padding[0]), _pair(padding[1]))  # type: ignore[index]
    else:
        ph, pw = _pair(padding)
        pads = ((ph, ph), (pw, pw))

    axes = []
    for length, taps, step, spread, (before, after) in zip(
        size, window, _pair(stride), _pair(dilation), pads, strict=True
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
        axes.append(_Axis(length, taps, step, spread, before, out))
    return axes[0], axes[1]


# -- dtype and memory order ------------------------------------------------------------------------


def _float64(**arrays: Array | None) -> tuple[np.dtype[Any], list[Any]]:
    """The result's dtype, and every array (or None) in native float64."""
    dtypes = []
    for name, array in arrays.items():
        dtype = np.asarray(array).dtype if array is not None else np.dtype(bool)
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise TypeError(f"{name}: expected real numbers of at most 64 bits, got {dtype}")
        dtypes.append(dtype)
    floats = [dtype for dtype in dtypes if dtype.kind == "f"]
    single = floats and all(dtype.itemsize < 8 for dtype in floats)
    converted = [a if a is None else np.asarray(a).astype(np.float64) for a in arrays.values()]
    return np.dtype(np.float32 if single else np.float64), converted


def _is_channels_last(x: Array) -> bool:
    return bool(np.moveaxis(x, -3, -1).flags.c_contiguous and not x.flags.c_contiguous)


def _finish(y: Array, dtype: np.dtype[Any], like: Array | None, out: Array | None) -> Array:
    """``y`` in the result's dtype: written to ``out``, or new, in the memory order of ``like``."""
    if like is not None and np.ndim(like) == 3:
        y = y[0]
    if out is None:
        channels_last = like is not None and _is_channels_last(np.asarray(like))
        out = empty(y.shape, dtype, channels_last)
    elif out.shape != y.shape or out.dtype != dtype:
        raise ValueError(f"out: expected {y.shape} of {dtype}, got {out.shape} of {out.dtype}")
    out[...] = y
    return out


def empty(shape: Sequence[int], dtype: DTypeLike = "float32", channels_last: bool = False) -> Array:
    """A new array whose values are not set.

    ``channels_last`` lays out a logical ``(N, C, H, W)`` or ``(C, H, W)`` array as ``(N, H, W, C)``
    or ``(H, W, C)`` in memory: the channels of one pixel lie side by side.

    Examples
    --------
    >>> empty((2, 3, 4, 5), np.float32, channels_last=True).strides
    (240, 4, 60, 12)
    """
    if not channels_last:
        return np.empty(shape, dtype)
    *batch, c, h, w = shape
    return np.moveaxis(np.empty((*batch, h, w, c), dtype), -1, -3)


def as_channels_last(x: Array) -> Array:
    """The same values with the channels of a pixel side by side; ``x`` itself if they are already.

    Examples
    --------
    >>> as_channels_last(np.zeros((2, 3, 4, 5), np.float32)).strides
    (240, 4, 60, 12)
    """
    if np.moveaxis(x, -3, -1).flags.c_contiguous:
        return x
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -3, -1)), -1, -3)


def as_contiguous(x: Array) -> Array:
    """The same values in C order; ``x`` itself if it already is.

    Examples
    --------
    >>> as_contiguous(empty((2, 3, 4, 5), np.float32, channels_last=True)).strides
    (240, 80, 20, 4)
    """
    return np.ascontiguousarray(x)


# -- convolution -----------------------------------------------------------------------------------


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
    dtype, (images, kernel, bias) = _float64(x=x, kernel=kernel, bias=bias)
    images = images if images.ndim == 4 else images[None]
    N, IC, IH, IW = images.shape
    OC, IC_G, KH, KW = kernel.shape
    if IC_G * groups != IC or OC % groups:
        raise ValueError(f"kernel: {kernel.shape} does not fit {IC} channels in {groups} groups")
    if activation not in (None, "relu"):
        raise ValueError(f"activation: expected None or 'relu', got {activation!r}")

    rows, columns = _axes((IH, IW), (KH, KW), stride, padding, dilation)
    by_group = images.reshape(N, groups, IC_G, IH, IW)
    kernel = kernel.reshape(groups, OC // groups, IC_G, KH, KW)
    y = np.zeros((N, groups, OC // groups, rows.out, columns.out))
    for kh, kw, at_y, at_x in _taps(rows, columns):
        y[at_y] += np.einsum("goi,ngihw->ngohw", kernel[..., kh, kw], by_group[at_x])

    y = y.reshape(N, OC, rows.out, columns.out)
    if bias is not None:
        y += bias[:, None, None]
    if activation == "relu":
        y = np.maximum(y, 0)
    return _finish(y, dtype, x, out)


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
    dtype, (gradients, kernel) = _float64(dy=dy, kernel=kernel)
    gradients = gradients if gradients.ndim == 4 else gradients[None]
    N, OC, OH, OW = gradients.shape
    IC, IH, IW = input_shape[-3:]
    KH, KW = kernel.shape[2:]
    rows, columns = _axes((IH, IW), (KH, KW), stride, padding, dilation)
    if gradients.shape[2:] != (rows.out, columns.out):
        raise ValueError(f"dy: expected {rows.out}x{columns.out} pixels, got {OH}x{OW}")

    by_group = gradients.reshape(N, groups, OC // groups, OH, OW)
    kernel = kernel.reshape(groups, OC // groups, IC // groups, KH, KW)
    dx = np.zeros((N, groups, IC // groups, IH, IW))
    for kh, kw, at_y, at_x in _taps(rows, columns):
        dx[at_x] += np.einsum("goi,ngohw->ngihw", kernel[..., kh, kw], by_group[at_y])
    return _finish(dx.reshape(N, IC, IH, IW), dtype, dy, out)


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
    dtype, (gradients, images) = _float64(dy=dy, x=x)
    gradients = gradients if gradients.ndim == 4 else gradients[None]
    images = images if images.ndim == 4 else images[None]
    N, IC, IH, IW = images.shape
    OC, IC_G, KH, KW = kernel_shape
    rows, columns = _axes((IH, IW), (KH, KW), stride, padding, dilation)
    if gradients.shape != (N, OC, rows.out, columns.out):
        raise ValueError(f"dy: expected {(N, OC, rows.out, columns.out)}, got {gradients.shape}")

    gradients = gradients.reshape(N, groups, OC // groups, rows.out, columns.out)
    images = images.reshape(N, groups, IC // groups, IH, IW)
    dk = np.zeros((groups, OC // groups, IC_G, KH, KW))
    for kh, kw, at_y, at_x in _taps(rows, columns):
        dk[..., kh, kw] = np.einsum("ngohw,ngihw->goi", gradients[at_y], images[at_x])
    return _finish(dk.reshape(OC, IC_G, KH, KW), dtype, None, out)


def conv2d_backward_bias(dy: Array) -> Array:
    """Gradient with respect to the bias of `conv2d`: the bias reached every pixel of its channel.

        dbias[oc] = sum over n, oh, ow of dy[n, oc, oh, ow]

    Examples
    --------
    >>> conv2d_backward_bias(np.ones((8, 2, 3, 3)))
    array([72., 72.])
    """
    dtype, (dy,) = _float64(dy=dy)
    every_axis_but_channels = (0, 2, 3) if dy.ndim == 4 else (1, 2)
    return dy.sum(axis=every_axis_but_channels).astype(dtype)


# -- pooling ---------------------------------------------------------------------------------------


def max_pool2d(
    x: Array,
    size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value under each window, plane by plane.

        y[n, c, oh, ow] = max over kh, kw of x[n, c, ih, iw]        (ih, iw as in `conv2d`)

    ``stride=None`` means windows side by side (the stride is the size). The padding never wins.
    A NaN wins over everything, so a window with a NaN gives NaN. Among equals the first in
    row-major order wins, among several NaN the last. With ``return_indices`` the winner's place
    ``ih * IW + iw`` in its plane comes along, as int32.

    Examples
    --------
    >>> max_pool2d(np.arange(16.0).reshape(1, 4, 4), 2, return_indices=True)
    (array([[[ 5.,  7.],
            [13., 15.]]]), array([[[ 5,  7],
            [13, 15]]], dtype=int32))
    """
    dtype, (images,) = _float64(x=x)
    images = images if images.ndim == 4 else images[None]
    N, C, IH, IW = images.shape
    stride = size if stride is None else stride
    rows, columns = _axes((IH, IW), _pair(size), stride, padding, dilation, ceil_mode)

    place = np.arange(IH * IW, dtype=np.int32).reshape(IH, IW)
    y = np.full((N, C, rows.out, columns.out), -np.inf)
    indices = np.full(y.shape, -1, np.int32)
    for _, _, at_y, at_x in _taps(rows, columns):
        value, best = images[at_x], y[at_y]
        wins = (value > best) | np.isnan(value) | (indices[at_y] < 0)
        y[at_y] = np.where(wins, value, best)
        indices[at_y] = np.where(wins, place[at_x], indices[at_y])
    if (indices < 0).any():
        raise ValueError("padding: a window lies wholly outside the image")

    y = _finish(y, dtype, x, None)
    return (y, _finish(indices, indices.dtype, x, None)) if return_indices else y


def max_pool2d_backward(dy: Array, indices: Array, input_shape: Sequence[int]) -> Array:
    """Gradient with respect to the input of `max_pool2d`: each window's goes to its winner.

        dx[n, c, i] = sum of dy[n, c, oh, ow] over the windows with indices[n, c, oh, ow] == i

    where ``i`` is the place ``ih * IW + iw`` in the plane. Windows that overlap add up.

    Examples
    --------
    >>> y, indices = max_pool2d(np.arange(9.0).reshape(1, 3, 3), 2, stride=1, return_indices=True)
    >>> max_pool2d_backward(np.ones_like(y), indices, (1, 3, 3))
    array([[[0., 0., 0.],
            [0., 1., 1.],
            [0., 1., 1.]]])
    """
    dtype, (gradients,) = _float64(dy=dy)
    indices = np.asarray(indices)
    *planes, IH, IW = input_shape
    if indices.size and not (indices.min() >= 0 and indices.max() < IH * IW):
        raise ValueError(f"indices: expected places in a plane of {IH}x{IW} pixels")
    dx = np.zeros((*planes, IH * IW))
    for plane in np.ndindex(*planes):
        np.add.at(dx[plane], indices[plane], gradients[plane])
    return _finish(dx.reshape((1, *input_shape)[-4:]), dtype, dy, None)


# -- dense layers, activations, loss ---------------------------------------------------------------


def dense(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    activation: Activation = None,
    out: Array | None = None,
) -> Array:
    """A fully connected layer.

        y[n, o] = bias[o] + sum over i of kernel[o, i] * x[n, i]

    Examples
    --------
    >>> dense(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0], [-7.0, 0.0]]))
    array([[11., 17., -7.]])
    """
    dtype, (x, kernel, bias) = _float64(x=x, kernel=kernel, bias=bias)
    if activation not in (None, "relu"):
        raise ValueError(f"activation: expected None or 'relu', got {activation!r}")
    y = x @ kernel.T
    if bias is not None:
        y = y + bias
    if activation == "relu":
        y = np.maximum(y, 0)
    return _finish(y, dtype, None, out)


def dense_backward(
    dy: Array, x: Array, kernel: Array, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """Gradients of `dense` with respect to its input, kernel and bias.

        dx[n, i]      = sum over o of dy[n, o] * kernel[o, i]
        dkernel[o, i] = sum over n of dy[n, o] * x[n, i]
        dbias[o]      = sum over n of dy[n, o]

    Examples
    --------
    >>> dx, dkernel, dbias = dense_backward(np.ones((1, 2)), np.array([[3.0]]), np.ones((2, 1)))
    >>> dx, dkernel.T, dbias
    (array([[2.]]), array([[3., 3.]]), array([1., 1.]))
    """
    dtype, (dy, x, kernel) = _float64(dy=dy, x=x, kernel=kernel)
    dx = (dy @ kernel).astype(dtype) if need_dx else None
    return dx, (dy.T @ x).astype(dtype), dy.sum(axis=0).astype(dtype)


def relu(x: Array, *, out: Array | None = None) -> Array:
    """``max(x, 0)`` of every element; NaN stays NaN.

    Examples
    --------
    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    dtype, (x,) = _float64(x=x)
    return _finish(np.maximum(x, 0), dtype, None, out)


def relu_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    """Gradient of `relu`, from its result ``y``: ``dy`` where ``y > 0``, else 0.

    Examples
    --------
    >>> relu_backward(np.array([5.0, 6.0]), np.array([0.0, 2.0]))
    array([0., 6.])
    """
    dtype, (dy, y) = _float64(dy=dy, y=y)
    return _finish(np.where(y > 0, dy, 0), dtype, None, out)


def softmax(x: Array) -> Array:
    """``exp(x) / sum(exp(x))`` along the last axis of ``(..., classes)`` scores.

    Adding a number to a whole row changes nothing; subtracting its maximum keeps exp from
    overflowing.

    Examples
    --------
    >>> softmax(np.array([[1000.0, 1000.0]]))
    array([[0.5, 0.5]])
    """
    dtype, (x,) = _float64(x=x)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True)).astype(dtype)


def log_softmax(x: Array) -> Array:
    """``log(softmax(x))`` as ``x - log(sum(exp(x)))``, exact also where `softmax` rounds to 0.

    Examples
    --------
    >>> log_softmax(np.array([[0.0, 1000.0]]))
    array([[-1000.,     0.]])
    """
    dtype, (x,) = _float64(x=x)
    x = x - x.max(axis=-1, keepdims=True)
    return (x - np.log(np.exp(x).sum(axis=-1, keepdims=True))).astype(dtype)


def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """Mean negative log-likelihood of the labels, and its gradient with respect to the logits.

        loss           = -mean over n of log_softmax(logits)[n, labels[n]]
        dlogits[n, c]  = (softmax(logits)[n, c] - (1 if c == labels[n] else 0)) / N

    Examples
    --------
    >>> loss, dlogits = softmax_cross_entropy(np.array([[0.0, 0.0]]), np.array([1]))
    >>> round(loss, 4), dlogits
    (0.6931, array([[ 0.5, -0.5]]))
    """
    dtype, (logits,) = _float64(logits=logits)
    labels = np.asarray(labels)
    N, classes = logits.shape
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"labels: expected classes 0 to {classes - 1}")
    likelihood = log_softmax(logits)[np.arange(N), labels]
    target = np.eye(classes)[labels]
    return float(-likelihood.mean()), ((softmax(logits) - target) / N).astype(dtype)
