"""Losses by name and by setting."""

import numpy as np
import pytest

from fastconv import functional as F
from fastconv.losses import BinaryCrossEntropy, Huber, SoftmaxCrossEntropy, get_loss


def test_names():
    assert get_loss("softmax_cross_entropy") is F.softmax_cross_entropy
    assert get_loss("mse") is F.mean_squared_error
    assert get_loss(F.huber) is F.huber
    with pytest.raises(ValueError, match=r"loss: expected one of \['binary_cross_entropy', 'huber"):
        get_loss("hinge")


@pytest.mark.parametrize(
    "loss, function, settings, targets",
    [
        (SoftmaxCrossEntropy, F.softmax_cross_entropy,
         {"label_smoothing": 0.2, "class_weights": [1, 2, 3], "ignore_label": 1}, [0, 1, 2, 2]),
        (BinaryCrossEntropy, F.binary_cross_entropy, {"pos_weight": [1, 2, 3]},
         np.eye(4, 3)),
        (Huber, F.huber, {"delta": 0.2}, np.eye(4, 3)),
    ],
)  # fmt: skip
def test_settings_reach_the_function(loss, function, settings, targets):
    outputs = np.random.default_rng(0).standard_normal((4, 3))
    got = loss(**settings)(outputs, targets, sample_weights=[1, 2, 1, 3])
    expected = function(outputs, targets, sample_weights=[1, 2, 1, 3], **settings)
    assert got[0] == expected[0] != function(outputs, targets)[0]
    np.testing.assert_array_equal(got[1], expected[1])
