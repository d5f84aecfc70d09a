"""Kernels that are packed once: the same results, whatever changes between two calls."""

import copy
import pickle

import numpy as np
import pytest

import fastconv
from fastconv import functional as F
from fastconv.inference import PackedKernel, conv2d_packed

SHAPES = [
    ((2, 32, 14, 14), (48, 32, 3, 3), 1),
    ((1, 16, 9, 9), (24, 16, 1, 1), 1),
    ((1, 24, 12, 12), (24, 1, 3, 3), 24),
    ((1, 32, 20, 20), (1, 32, 3, 3), 1),
]


def draw(seed, shape, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
@pytest.mark.parametrize(("x_shape", "kernel_shape", "groups"), SHAPES)
def test_same_bits_as_without(x_shape, kernel_shape, groups, algorithm, isa):
    if algorithm == "winograd" and kernel_shape[2] != 3:
        pytest.skip("not a 3x3 kernel")
    packed, kernel = PackedKernel(), draw(1, kernel_shape)
    options = {"groups": groups, "padding": 1, "algorithm": algorithm}
    for seed in range(3):
        x = draw(seed, x_shape)
        expected = F.conv2d(x, kernel, **options)
        assert (conv2d_packed(x, kernel, None, packed, **options) == expected).all()


def test_whatever_changes_is_noticed():
    """The kernel in place by one element, its type, the image's shape and order, the algorithm."""
    packed = PackedKernel()
    x, kernel = draw(0, (1, 32, 16, 16)), draw(1, (32, 32, 3, 3))

    def check(x, kernel, **options):
        expected = F.conv2d(x, kernel, padding=1, **options)
        found = conv2d_packed(x, kernel, None, packed, padding=1, **options)
        assert found.dtype == expected.dtype
        assert (found == expected).all()

    check(x, kernel)
    kernel[-1, -1, -1, -1] += 1
    check(x, kernel)
    check(x, kernel, algorithm="winograd")
    check(x, kernel)
    check(draw(2, (3, 32, 8, 8)), kernel)
    check(F.as_channels_last(x), kernel)
    check(x.astype(float), kernel)
    check(x, kernel)
    for name in fastconv.available_isas():
        with fastconv.use_isa(name):
            check(x, kernel)


def test_layers_notice_too():
    model = fastconv.Sequential([fastconv.Conv2D(16, 3, padding=1)], seed=0)
    x = draw(0, (1, 8, 12, 12))
    model.forward(x)
    kernel, bias = (model.layers[0].params[name] for name in ("kernel", "bias"))
    kernel *= 2
    with fastconv.use_algorithm("auto"):
        expected = F.conv2d(F.as_channels_last(x), kernel, bias, padding=1)
    assert (model.forward(x) == expected).all()


def test_copies_and_pickles_pack_for_themselves():
    model = fastconv.Sequential([fastconv.Conv2D(16, 3, padding=1)], seed=0)
    x = draw(0, (1, 8, 12, 12))
    expected = model.forward(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.layers[0].packed is None
        assert (other.forward(x) == expected).all()


def test_training_lets_go_of_it():
    model = fastconv.Sequential([fastconv.Conv2D(16, 3, padding=1)], seed=0)
    x = draw(0, (1, 8, 12, 12))
    model.forward(x)
    assert model.layers[0].packed is not None
    model.forward(x, training=True)
    assert model.layers[0].packed is None
