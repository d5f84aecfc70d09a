"""Whole training steps of small networks, and one image through them."""

import cases

CASES = cases.training((64,)) + cases.inference()


def test_training(measure, case, contender):
    measure(case, contender)
