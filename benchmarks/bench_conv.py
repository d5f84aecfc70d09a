"""The three passes of the convolution over layers of known networks."""

import cases

CASES = cases.convolution()


def test_convolution(measure, case, contender):
    measure(case, contender)
