"""One value for each window of a plane, and the gradient."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastconv._core import average as _average
from fastconv._core import pooling as _pooling
from fastconv._core import unpooling as _unpooling

from .types import Array, Pair


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


def max_pool2d_backward(dy: ArrayLike, indices: ArrayLike, input_shape: tuple[int, ...]) -> Array:
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


def avg_pool2d(
    x: ArrayLike,
    size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Mean of each window.

    Parameters
    ----------
    x : array (N, C, H, W) or (C, H, W)
    size : int or (int, int)
        Height and width of the window.
    stride : int or (int, int), optional
        Step between windows; by default their size.
    padding : int or (int, int)
        Zeros around the image; at most half the size.
    ceil_mode : bool
        Also take windows that start inside the padded image but end outside.  What hangs over
        the padding never counts.
    count_include_pad : bool
        Whether the padding counts: the sum is divided by the pixels of the window, or by those
        of them that lie in the image.

    Returns
    -------
    array (N, C, OH, OW) or (C, OH, OW)
        In x's memory order.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.avg_pool2d(np.array([[[1., 5., 2., 3.]]]), (1, 2))
    array([[[3. , 2.5]]])
    """
    return _average.avg_pool2d(x, size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d_backward(
    dy: ArrayLike,
    input_shape: tuple[int, ...],
    size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Gradient of average pooling: each window's pixels get equal shares of its dy.

    Parameters
    ----------
    dy : array (N, C, OH, OW) or (C, OH, OW)
        Gradient with respect to the output.
    input_shape : tuple
        ``(N, C, H, W)`` or ``(C, H, W)``.
    size, stride, padding, ceil_mode, count_include_pad
        As in `avg_pool2d`.

    Returns
    -------
    array of input_shape
        In dy's memory order.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.avg_pool2d_backward(np.array([[[4., 6.]]]), (1, 1, 4), (1, 2))
    array([[[2., 2., 3., 3.]]])
    """
    return _average.avg_pool2d_backward(
        dy, input_shape, size, stride, padding, ceil_mode, count_include_pad
    )


def adaptive_avg_pool2d(x: ArrayLike, output_size: Pair) -> Array:
    """Means of so many windows that cover the image, whatever its size.

    Along an axis, window ``o`` of ``O`` holds pixels ``floor(o*I / O)`` to
    ``ceil((o + 1)*I / O) - 1``.

    Parameters
    ----------
    x : array (N, C, H, W) or (C, H, W)
    output_size : int or (int, int)
        OH and OW.

    Returns
    -------
    array (N, C, OH, OW) or (C, OH, OW)
        In x's memory order.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.adaptive_avg_pool2d(np.array([[[1., 5., 3.]]]), (1, 2))
    array([[[3., 4.]]])
    """
    return _average.adaptive_avg_pool2d(x, output_size)


def adaptive_avg_pool2d_backward(dy: ArrayLike, input_shape: tuple[int, ...]) -> Array:
    """Gradient of adaptive average pooling.

    Parameters
    ----------
    dy : array (N, C, OH, OW) or (C, OH, OW)
        Gradient with respect to the output.
    input_shape : tuple
        ``(N, C, H, W)`` or ``(C, H, W)``.

    Returns
    -------
    array of input_shape
        In dy's memory order.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.adaptive_avg_pool2d_backward(np.array([[[4., 6.]]]), (1, 1, 3))
    array([[[2., 5., 3.]]])
    """
    return _average.adaptive_avg_pool2d_backward(dy, input_shape)
