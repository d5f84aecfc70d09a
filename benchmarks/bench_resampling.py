"""Averages, borders, enlargement, transposed convolutions, and their gradients."""

import cases

CASES = [*cases.resampling(), *cases.transposed()]


def test_resampling(measure, case, contender):
    measure(case, contender)
