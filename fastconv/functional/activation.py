"""Functions of one value, and of the scores of a sample.

A gradient takes, beside dy, what is cheapest to keep: the result y where that tells the slope, the
argument x where it does not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastconv._core import elementwise as _elementwise
from fastconv._core import rows as _rows
from fastconv.arguments import as_array, one_of, real

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
    return _elementwise.mapped("relu", x, out)


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
    return _elementwise.mapped_backward("relu_backward", dy, y, "y", out)


def leaky_relu(x: ArrayLike, slope: float = 0.01, *, out: Array | None = None) -> Array:
    """``x`` where it is positive, ``slope * x`` elsewhere.

    Parameters
    ----------
    x : array, at most 4 dimensions
    slope : float
        At least 0.
    out : array like x, optional
        Where to put the result; may be x itself.

    Returns
    -------
    array like x

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.leaky_relu(np.array([-100., 2.]))
    array([-1.,  2.])
    """
    return _elementwise.mapped("leaky_relu", x, out, nonnegative(slope))


def leaky_relu_backward(
    dy: ArrayLike, y: ArrayLike, slope: float = 0.01, *, out: Array | None = None
) -> Array:
    """Gradient of `leaky_relu`: dy where y is positive, ``slope * dy`` elsewhere.

    Parameters
    ----------
    dy : array, at most 4 dimensions
        Gradient with respect to the output.
    y : array like dy
        The result of `leaky_relu` (its argument serves as well).
    slope : float
        As it was given to `leaky_relu`.
    out : array like dy, optional
        Where to put the result; may be dy or y itself.

    Returns
    -------
    array like dy

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.leaky_relu_backward(np.array([100., 2.]), np.array([-1., 2.]))
    array([1., 2.])
    """
    return _elementwise.mapped_backward("leaky_relu_backward", dy, y, "y", out, nonnegative(slope))


def sigmoid(x: ArrayLike, *, out: Array | None = None) -> Array:
    """The logistic function ``1 / (1 + exp(-x))``, without overflow.

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
    >>> fastconv.sigmoid(np.array([0., -np.inf]))
    array([0.5, 0. ])
    """
    return _elementwise.mapped("sigmoid", x, out)


def sigmoid_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """Gradient of `sigmoid`: ``dy * y * (1 - y)``.

    Parameters
    ----------
    dy : array, at most 4 dimensions
        Gradient with respect to the output.
    y : array like dy
        The result of `sigmoid`.
    out : array like dy, optional
        Where to put the result; may be dy or y itself.

    Returns
    -------
    array like dy

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.sigmoid_backward(np.array([4.]), np.array([0.5]))
    array([1.])
    """
    return _elementwise.mapped_backward("sigmoid_backward", dy, y, "y", out)


def tanh(x: ArrayLike, *, out: Array | None = None) -> Array:
    """The hyperbolic tangent.

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
    >>> fastconv.tanh(np.array([0., np.inf]))
    array([0., 1.])
    """
    return _elementwise.mapped("tanh", x, out)


def tanh_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """Gradient of `tanh`: ``dy * (1 - y**2)``.

    Parameters
    ----------
    dy : array, at most 4 dimensions
        Gradient with respect to the output.
    y : array like dy
        The result of `tanh`.
    out : array like dy, optional
        Where to put the result; may be dy or y itself.

    Returns
    -------
    array like dy

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.tanh_backward(np.array([4.]), np.array([0.5]))
    array([3.])
    """
    return _elementwise.mapped_backward("tanh_backward", dy, y, "y", out)


def silu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """``x * sigmoid(x)``, also called swish; its limit 0 at minus infinity.

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
    >>> fastconv.silu(np.array([0., 100.]))
    array([  0., 100.])
    """
    return _elementwise.mapped("silu", x, out)


def silu_backward(dy: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Array:
    """Gradient of `silu`.

    Parameters
    ----------
    dy : array, at most 4 dimensions
        Gradient with respect to the output.
    x : array like dy
        The argument of `silu`.
    out : array like dy, optional
        Where to put the result; may be dy or x itself.

    Returns
    -------
    array like dy

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.silu_backward(np.array([4.]), np.array([0.]))
    array([2.])
    """
    return _elementwise.mapped_backward("silu_backward", dy, x, "x", out)


def gelu(x: ArrayLike, *, approximate: str = "none", out: Array | None = None) -> Array:
    """``x`` times the share of a normal distribution below x; its limit 0 at minus infinity.

    Parameters
    ----------
    x : array, at most 4 dimensions
    approximate : "none" or "tanh"
        The exact function, or ``x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2``.
    out : array like x, optional
        Where to put the result; may be x itself.

    Returns
    -------
    array like x

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.gelu(np.array([0., 100.]))
    array([  0., 100.])
    """
    return _elementwise.mapped(gelu_kind(approximate), x, out)


def gelu_backward(
    dy: ArrayLike, x: ArrayLike, *, approximate: str = "none", out: Array | None = None
) -> Array:
    """Gradient of `gelu`.

    Parameters
    ----------
    dy : array, at most 4 dimensions
        Gradient with respect to the output.
    x : array like dy
        The argument of `gelu`.
    approximate : "none" or "tanh"
        As it was given to `gelu`.
    out : array like dy, optional
        Where to put the result; may be dy or x itself.

    Returns
    -------
    array like dy

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.gelu_backward(np.array([4.]), np.array([0.]))
    array([2.])
    """
    return _elementwise.mapped_backward(f"{gelu_kind(approximate)}_backward", dy, x, "x", out)


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
    return _rows.softmax(x, False)


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
    return _rows.softmax(x, True)


def softmax_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Gradient of `softmax`: ``y * (dy - sum(y * dy))``, along the last axis.

    Parameters
    ----------
    dy : array (..., classes)
        Gradient with respect to the output.
    y : array like dy
        The result of `softmax`.

    Returns
    -------
    array like dy

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.softmax_backward(np.array([[4., 0.]]), np.array([[0.5, 0.5]]))
    array([[ 1., -1.]])
    """
    return _rows.softmax_backward(dy, y, False)


def log_softmax_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Gradient of `log_softmax`: ``dy - exp(y) * sum(dy)``, along the last axis.

    Parameters
    ----------
    dy : array (..., classes)
        Gradient with respect to the output.
    y : array like dy
        The result of `log_softmax`.

    Returns
    -------
    array like dy

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.log_softmax_backward(np.array([[4., 0.]]), np.log([[0.5, 0.5]]))
    array([[ 2., -2.]])
    """
    return _rows.softmax_backward(dy, y, True)


def nonnegative(slope: float) -> float:
    """The slope, where the sign of a result tells that of its argument."""
    value = real("slope", slope)
    if not value >= 0:
        raise ValueError(f"slope: expected a number of at least 0, got {slope!r}")
    return value


def gelu_kind(approximate: str) -> str:
    """The name of the compiled function."""
    return {"none": "gelu", "tanh": "gelu_tanh"}[
        one_of("approximate", approximate, ("none", "tanh"))
    ]


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
