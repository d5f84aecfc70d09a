"""First values of kernels: uniform draws whose variance keeps signals at their size.

He's rule is for outputs that pass through ReLU (half of them become zero, hence twice the
variance), Glorot's for all others. Uniform rather than normal: no outliers, and cheaper to draw.
Draws are made in float64 and rounded, so that a float32 and a float64 model of one seed start
from the same numbers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def he_uniform(
    shape: tuple[int, ...], fan_in: int, rng: np.random.Generator, dtype: np.dtype
) -> NDArray:
    """Draw from U(-a, a) with a = sqrt(6 / fan_in): variance 2 / fan_in."""
    return _uniform(shape, math.sqrt(6 / fan_in), rng, dtype)


def glorot_uniform(
    shape: tuple[int, ...], fan_in: int, fan_out: int, rng: np.random.Generator, dtype: np.dtype
) -> NDArray:
    """Draw from U(-a, a) with a = sqrt(6 / (fan_in + fan_out))."""
    return _uniform(shape, math.sqrt(6 / (fan_in + fan_out)), rng, dtype)


def _uniform(
    shape: tuple[int, ...], limit: float, rng: np.random.Generator, dtype: np.dtype
) -> NDArray:
    return rng.uniform(-limit, limit, shape).astype(dtype)
