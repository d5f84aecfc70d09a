"""Dense layers, forward and all three gradients."""

import cases

CASES = cases.dense()


def test_dense(measure, case, contender):
    measure(case, contender)
