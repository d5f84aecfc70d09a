"""Losses, named and given."""

import numpy as np
import pytest

from fastconv import functional as F
from fastconv.losses import get_loss, mean_squared_error


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mean_squared_error(dtype):
    rng = np.random.default_rng(0)
    outputs, targets = rng.standard_normal((4, 3)).astype(dtype), rng.standard_normal((4, 3))
    loss, gradient = mean_squared_error(outputs, targets)
    assert isinstance(loss, float)
    assert gradient.dtype == dtype
    assert loss == pytest.approx(np.mean((outputs - targets) ** 2), rel=1e-6)
    np.testing.assert_allclose(gradient, 2 * (outputs - targets) / 12, rtol=1e-5, atol=1e-7)


def test_mean_squared_error_does_not_broadcast():
    with pytest.raises(ValueError, match=r"targets: expected shape \(4, 1\), got \(4,\)"):
        mean_squared_error(np.zeros((4, 1)), np.zeros(4))


def test_names():
    assert get_loss("softmax_cross_entropy") is F.softmax_cross_entropy
    assert get_loss("mse") is mean_squared_error
    assert get_loss(mean_squared_error) is mean_squared_error
    with pytest.raises(ValueError, match=r"loss: expected one of \['mse', 'softmax_cross_entropy'"):
        get_loss("hinge")
