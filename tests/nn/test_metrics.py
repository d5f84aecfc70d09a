"""Metrics: against counting by hand and scikit-learn."""

import numpy as np
import pytest

from fastconv.metrics import (
    accuracy,
    confusion_matrix,
    get_metric,
    macro_f1,
    precision_recall_f1,
    top_k_accuracy,
)


@pytest.fixture
def case(rng):
    targets = rng.integers(0, 5, 200)
    scores = rng.standard_normal((200, 7)) + 2 * np.eye(7)[targets]
    return scores, targets  # classes 5 and 6 are predicted now and then, and never true


def test_counts_by_hand(case):
    scores, targets = case
    predicted = [max(range(7), key=list(row).__getitem__) for row in scores]
    table = [[0] * 7 for _ in range(7)]
    for true, guess in zip(targets, predicted, strict=True):
        table[true][guess] += 1
    np.testing.assert_array_equal(confusion_matrix(scores, targets), table)
    np.testing.assert_array_equal(confusion_matrix(predicted, targets, classes=7), table)
    assert accuracy(scores, targets) == sum(table[c][c] for c in range(7)) / 200
    assert accuracy(np.array(predicted), targets) == accuracy(scores, targets)


def test_those_of_scikit_learn(case):
    sklearn = pytest.importorskip("sklearn.metrics")
    scores, targets = case
    predicted = scores.argmax(axis=1)
    ours = precision_recall_f1(scores, targets)
    theirs = sklearn.precision_recall_fscore_support(
        targets, predicted, labels=range(7), zero_division=0
    )
    for got, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-15)
    assert macro_f1(scores, targets) == pytest.approx(
        sklearn.f1_score(targets, predicted, average="macro")
    )
    for k in (1, 2, 5):
        assert top_k_accuracy(scores, targets, k) == pytest.approx(
            sklearn.top_k_accuracy_score(targets, scores, k=k, labels=range(7))
        )


def test_equal_scores_count_in_order():
    scores, targets = np.zeros((4, 4)), np.arange(4)
    for k in range(1, 5):
        assert top_k_accuracy(scores, targets, k) == k / 4
    assert top_k_accuracy([[np.nan, 1.0]], [0], k=2) == 0


def test_names():
    assert get_metric("accuracy") == ("accuracy", accuracy)
    assert get_metric(macro_f1) == ("macro_f1", macro_f1)
    for metric in ("hinge", lambda outputs, targets: 0.0):
        with pytest.raises(ValueError, match="metrics: expected"):
            get_metric(metric)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: accuracy([0.5, 0.5], [0, 1]), r"outputs: expected integer labels \(N,\) or sc"),
        (lambda: accuracy([0, 1], [0.0, 1.0]), r"targets: expected integer labels \(N,\), got"),
        (lambda: accuracy([0, 1], [0]), "targets: expected one label for each .* got 1 for 2"),
        (lambda: accuracy(np.zeros((0, 3)), np.zeros(0, int)), "got 0 for 0"),
        (lambda: accuracy([0, 1], [0, -1]), "targets: expected labels from 0, got -1 to 0"),
        (lambda: confusion_matrix([0, 3], [0, 1], classes=3), "outputs: expected labels from 0 to"),
        (lambda: top_k_accuracy([0, 1], [0, 1]), "outputs: expected scores"),
        (lambda: top_k_accuracy(np.zeros((2, 3)), [0, 3]), "targets: expected labels from 0 to 2"),
        (lambda: top_k_accuracy(np.zeros((2, 3)), [0, 1], 0), "k: expected a positive integer"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
