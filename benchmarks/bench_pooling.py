"""Max pooling with indices, and its gradient."""

import cases

CASES = cases.pooling()


def test_pooling(measure, case, contender):
    measure(case, contender)
