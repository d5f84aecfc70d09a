"""Normalisation and activations, forward and their gradients; losses, optimizers, dropout."""

import cases

CASES = [*cases.normalization(), *cases.activations(), *cases.step_parts()]


def test_normalization(measure, case, contender):
    measure(case, contender)
