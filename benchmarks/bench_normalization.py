"""Normalisation and activations, forward and their gradients."""

import cases

CASES = [*cases.normalization(), *cases.activations()]


def test_normalization(measure, case, contender):
    measure(case, contender)
