"""Whole training steps of two small networks."""

import cases

CASES = cases.training()


def test_training(measure, case, contender):
    measure(case, contender)
