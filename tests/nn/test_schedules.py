"""Schedules: against PyTorch's, step by step."""

import numpy as np
import pytest

from fastconv import SGD, Dense, Sequential
from fastconv.callbacks import Run
from fastconv.schedules import Cosine, OneCycle, ReduceOnPlateau, Step, Warmup


def rates_of_pytorch(make, steps):
    """The rates that a scheduler of PyTorch's gives an optimizer of rate 0.5."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


CASES = {
    "step": (Step(0.5, 7, 0.3), lambda lr, o: lr.StepLR(o, 7, 0.3), 30),
    "milestones": (
        Step(0.5, (4, 9, 20)),
        lambda lr, o: lr.MultiStepLR(o, [4, 9, 20]),
        30,
    ),
    "cosine": (Cosine(0.5, 20, 0.01), lambda lr, o: lr.CosineAnnealingLR(o, 20, 0.01), 21),
    "warm-up": (Warmup(9, 0.5), lambda lr, o: lr.LinearLR(o, 0.1, total_iters=9), 20),
    "warm-up, then cosine": (
        Warmup(9, Cosine(0.5, 11)),
        lambda lr, o: lr.SequentialLR(
            o, [lr.LinearLR(o, 0.1, total_iters=9), lr.CosineAnnealingLR(o, 11)], [9]
        ),
        20,
    ),
    "one cycle": (OneCycle(0.8, 40), lambda lr, o: lr.OneCycleLR(o, 0.8, 40), 40),
    "one cycle, longer": (
        OneCycle(0.8, 33, warmup=0.5),
        lambda lr, o: lr.OneCycleLR(o, 0.8, 33, pct_start=0.5),
        33,
    ),
}


@pytest.mark.parametrize("schedule, make, steps", CASES.values(), ids=CASES)
@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_rates_are_those_of_pytorch(schedule, make, steps):
    got = [schedule(step) for step in range(steps)]
    np.testing.assert_allclose(got, rates_of_pytorch(make, steps), rtol=1e-6, atol=1e-12)


def test_rates_stay_where_they_end():
    assert Cosine(0.5, 10, 0.1)(1000) == pytest.approx(0.1)
    assert OneCycle(1.0, 10)(1000) == pytest.approx(OneCycle(1.0, 10)(9))
    assert OneCycle(1.0, 1)(0) == OneCycle(1.0, 1)(1)
    assert [OneCycle(1.0, 2)(step) > 0 for step in range(3)] == [True] * 3


def test_an_optimizer_follows():
    value, optimizer = np.zeros(1), SGD(Step(1.0, 2, 0.5))
    moved = []
    for _ in range(5):
        before = value.copy()
        optimizer.update([("value", value, np.ones(1))])
        moved.append(float((before - value)[0]))
    assert moved == [1, 1, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("patience", [1, 3])
def test_plateau_is_that_of_pytorch(patience):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    losses = np.minimum.accumulate(rng.random(60)) + 0.02 * rng.random(60)
    peer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    # PyTorch waits for one epoch more than its patience.
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        peer, factor=0.3, patience=patience - 1, threshold=0.01, threshold_mode="abs", min_lr=1e-3,
        eps=0.0,
    )  # fmt: skip
    plateau = ReduceOnPlateau(
        "loss", factor=0.3, patience=patience, min_delta=0.01, min_rate=1e-3
    )
    run = Run(None, SGD(0.5), 60, print)
    plateau.on_train_begin(run)
    for loss in losses:
        run.numbers = {"loss": float(loss)}
        plateau.on_epoch_end(run)
        scheduler.step(loss)
        assert run.optimizer.learning_rate == pytest.approx(peer.param_groups[0]["lr"])
    assert run.optimizer.learning_rate == 1e-3


def test_a_plateau_changes_numbers_only():
    model = Sequential([Dense(2)], seed=0)
    with pytest.raises(ValueError, match="learning_rate: expected a number for ReduceOnPlateau"):
        model.fit(
            [[0.0]], [0], optimizer=SGD(Cosine(1.0, 5)), callbacks=[ReduceOnPlateau("loss")],
            progress=False,
        )  # fmt: skip


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Step(0, 3), "rate: expected a number above 0"),
        (lambda: Step(1, 0), "every: expected a positive integer"),
        (lambda: Step(1, (3, -1)), "every: expected a positive integer"),
        (lambda: Cosine(1, 2.5), "steps: expected a positive integer"),
        (lambda: Warmup(0, 1.0), "steps: expected a positive integer"),
        (lambda: Warmup(1, -1.0), "then: expected a number above 0"),
        (lambda: OneCycle(1, 9, warmup=1), "warmup: expected a number between 0 and 1"),
        (lambda: ReduceOnPlateau(factor=1), "factor: expected a number between 0 and 1"),
        (lambda: ReduceOnPlateau(patience=0), "patience: expected a positive integer"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
