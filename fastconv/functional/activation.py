"""Functions of one value, and of the scores of a sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastconv._core import elementwise as _elementwise
from fastconv.arguments import as_array

from .types import Array


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
    values = scores(x, "x")
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
    values = scores(x, "x")
    shifted = values - values.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def scores(x: ArrayLike, name: str) -> Array:
    """A float array of at least one class."""
    values = as_array(x, name)
    if values.dtype.kind in "biu" or values.dtype.newbyteorder("=") == np.float64:
        values = np.asarray(values, dtype=np.float64, order="C")
    elif values.dtype.newbyteorder("=") in (np.float16, np.float32):
        values = np.asarray(values, dtype=np.float32, order="C")
    else:
        raise TypeError(f"{name}: expected a float32 or float64 array, got dtype {values.dtype}")
    if values.ndim < 1 or values.shape[-1] < 1:
        raise ValueError(f"{name}: expected shape (..., classes), got {values.shape}")
    return values
