"""Losses and their gradients: against formulas, PyTorch and differences; what they refuse."""

import numpy as np
import pytest
from arrays import ORDERS, in_order
from shapes import TILE_EDGES

import fastconv
from fastconv import reference

TOLERANCE = {np.float32: 2e-6, np.float64: 1e-14}
SHAPES = [(1,), (7,), (5, 1), (1, 5), (4, 2, 3), (2, 3, 4, 5), *((3, n) for n in TILE_EDGES)]


def pair(name, rng, shape, dtype):
    """Outputs and targets."""
    outputs = (3 * rng.standard_normal(shape)).astype(dtype)
    if name == "binary_cross_entropy":
        return outputs, rng.random(shape).round(1).astype(dtype)
    return outputs, (3 * rng.standard_normal(shape)).astype(dtype)


def close(got, expected, dtype):
    assert isinstance(got[0], float)
    assert got[1].dtype == dtype
    assert got[0] == pytest.approx(expected[0], rel=10 * TOLERANCE[dtype])
    largest = np.abs(expected[1]).max()
    np.testing.assert_allclose(
        got[1], expected[1], rtol=4 * TOLERANCE[dtype], atol=largest * TOLERANCE[dtype]
    )


POINTWISE = [
    ("mean_squared_error", {}),
    ("huber", {}),
    ("huber", {"delta": 0.3}),
    ("binary_cross_entropy", {}),
    ("binary_cross_entropy", {"pos_weight": 2.5}),
]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name, options", POINTWISE)
def test_pointwise_losses_are_their_formulas(name, options, dtype, isa, rng):
    for shape in [*SHAPES, (9_001,), (3, 20_000)]:
        outputs, targets = pair(name, rng, shape, dtype)
        for weights in (None, rng.integers(0, 3, shape[0]) + (np.arange(shape[0]) == 0)):
            close(
                getattr(fastconv, name)(outputs, targets, sample_weights=weights, **options),
                getattr(reference, name)(outputs, targets, sample_weights=weights, **options),
                dtype,
            )


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 6, 7), (2, 3, 100, 101)])
@pytest.mark.parametrize("order", ORDERS)
def test_a_weight_for_the_positives_of_each_question(shape, order, rng):
    logits, targets = rng.standard_normal(shape), rng.integers(0, 2, shape)
    if len(shape) == 4:
        logits = in_order(logits, order)
    by = rng.random(shape[1:])
    for pos_weight in (by, by[0], by[..., :1]):
        got = fastconv.binary_cross_entropy(logits, targets, pos_weight=pos_weight)
        expected = reference.binary_cross_entropy(logits, targets, pos_weight=pos_weight)
        close(got, expected, np.float64)
        assert got[1].strides == logits.strides


@pytest.mark.parametrize("name, options", POINTWISE)
@pytest.mark.parametrize("order", ORDERS)
def test_gradients_lie_as_the_outputs(name, options, order, rng):
    outputs, targets = pair(name, rng, (3, 5, 4, 6), np.float32)
    expected = getattr(fastconv, name)(outputs, targets, **options)
    for other in ORDERS:
        loss, gradient = getattr(fastconv, name)(
            in_order(outputs, order), in_order(targets, other), **options
        )
        assert gradient.strides == in_order(outputs, order).strides
        np.testing.assert_array_equal(gradient, expected[1])
        assert loss == pytest.approx(expected[0], rel=1e-6)


def test_integers_are_exact(isa):
    outputs = np.arange(-50, 50, dtype=np.float32)
    loss, gradient = fastconv.mean_squared_error(outputs, np.zeros(100))
    assert loss == np.sum(outputs.astype(int) ** 2) / 100
    np.testing.assert_array_equal(gradient, outputs * np.float32(2 / 100))
    loss, gradient = fastconv.huber(outputs[:64], np.zeros(64), delta=10)
    inner = np.abs(outputs[:64]) <= 10
    assert loss == np.where(inner, outputs[:64] ** 2 / 2, 10 * np.abs(outputs[:64]) - 50).mean()
    np.testing.assert_array_equal(gradient, np.clip(outputs[:64], -10, 10) / 64)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_logistic_loss_of_large_scores(dtype, isa):
    """No overflow, no loss of what is small: beside the exact logarithms in double."""
    x = np.array([-1e4, -100, -30, -1, 0, 1, 30, 100, 1e4], dtype)
    for target in (0.0, 1.0, 0.5):
        for score in x:
            loss, gradient = fastconv.binary_cross_entropy([score], [target])
            z = float(score)
            exact = target * np.logaddexp(0, -z) + (1 - target) * np.logaddexp(0, z)
            slope = (1 - target) * np.exp(-np.logaddexp(0, -z)) - target * np.exp(
                -np.logaddexp(0, z)
            )
            assert loss == pytest.approx(exact, rel=10 * TOLERANCE[dtype], abs=1e-44)
            assert gradient[0] == pytest.approx(slope, rel=10 * TOLERANCE[dtype], abs=1e-44)


@pytest.mark.parametrize("name, options", POINTWISE)
def test_nan_stays_where_it_is(name, options, isa, rng):
    outputs, targets = pair(name, rng, (40,), np.float32)
    outputs[7] = np.nan
    loss, gradient = getattr(fastconv, name)(outputs, targets, **options)
    assert np.isnan(loss)
    assert np.flatnonzero(np.isnan(gradient)).tolist() == [7]
    loss, gradient = getattr(fastconv, name)(
        outputs, targets, sample_weights=np.arange(40) != 7, **options
    )
    assert np.isfinite(loss) and np.isfinite(gradient).all() and gradient[7] == 0


CROSS_ENTROPIES = [
    {"label_smoothing": 0.1},
    {"class_weights": True},
    {"ignore_label": 2},
    {"ignore_label": -100},
    {"sample_weights": True},
    {"label_smoothing": 0.3, "class_weights": True},
    {"label_smoothing": 0.3, "class_weights": True, "ignore_label": 1, "sample_weights": True},
]


def cross_entropy_case(options, rng, N, classes, dtype):
    logits = (3 * rng.standard_normal((N, classes))).astype(dtype)
    labels = rng.integers(0, classes, N)
    if options.get("ignore_label") == -100:
        labels[::3] = -100
    options = dict(options)
    if "class_weights" in options:
        options["class_weights"] = rng.integers(0, 4, classes) / 2 + (np.arange(classes) == 0)
    if "sample_weights" in options:
        options["sample_weights"] = rng.integers(0, 4, N)
    return logits, labels, options


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("options", CROSS_ENTROPIES, ids=str)
def test_softmax_cross_entropy_is_its_formula(options, dtype, isa, rng):
    for classes in (3, *TILE_EDGES, 1000):
        classes = max(classes, 3)
        logits, labels, chosen = cross_entropy_case(options, rng, 30, classes, dtype)
        got = fastconv.softmax_cross_entropy(logits, labels, **chosen)
        close(got, reference.softmax_cross_entropy(logits, labels, **chosen), dtype)


@pytest.mark.parametrize("options", CROSS_ENTROPIES, ids=str)
def test_softmax_cross_entropy_is_that_of_pytorch(options, rng):
    torch = pytest.importorskip("torch")
    logits, labels, chosen = cross_entropy_case(options, rng, 40, 6, np.float64)
    samples = chosen.pop("sample_weights", None)
    got = fastconv.softmax_cross_entropy(logits, labels, sample_weights=samples, **chosen)
    tensor = torch.tensor(logits, requires_grad=True)
    weights = chosen.get("class_weights", np.ones(6))
    losses = torch.nn.functional.cross_entropy(
        tensor,
        torch.tensor(labels),
        weight=torch.tensor(weights),
        ignore_index=chosen.get("ignore_label", -100),
        label_smoothing=chosen.get("label_smoothing", 0.0),
        reduction="none",
    )
    samples = np.ones(40) if samples is None else samples
    kept = labels != chosen.get("ignore_label", -100)
    counted = samples * np.where(kept, weights[labels * kept], 0)
    loss = (losses * torch.tensor(samples)).sum() / counted.sum()
    if "sample_weights" not in options:
        assert loss.item() == pytest.approx(
            torch.nn.functional.cross_entropy(
                tensor, torch.tensor(labels), weight=torch.tensor(weights),
                ignore_index=chosen.get("ignore_label", -100),
                label_smoothing=chosen.get("label_smoothing", 0.0),
            ).item()
        )  # fmt: skip
    loss.backward()
    close(got, (loss.item(), tensor.grad.numpy()), np.float64)


@pytest.mark.parametrize("name, options", POINTWISE)
def test_pointwise_losses_are_those_of_pytorch(name, options, rng):
    torch = pytest.importorskip("torch")
    outputs, targets = pair(name, rng, (6, 5), np.float64)
    tensor = torch.tensor(outputs, requires_grad=True)
    if "pos_weight" in options:
        options = {"pos_weight": torch.tensor(options["pos_weight"])}
    theirs = {
        "mean_squared_error": torch.nn.functional.mse_loss,
        "huber": torch.nn.functional.huber_loss,
        "binary_cross_entropy": torch.nn.functional.binary_cross_entropy_with_logits,
    }
    loss = theirs[name](tensor, torch.tensor(targets), **options)
    loss.backward()
    ours = {key: float(value) for key, value in options.items()}
    got = getattr(fastconv, name)(outputs, targets, **ours)
    close(got, (loss.item(), tensor.grad.numpy()), np.float64)


@pytest.mark.parametrize("name, options", [*POINTWISE, ("softmax_cross_entropy", {})])
def test_weights_count_samples(name, options, rng):
    """A weight of 3 is the sample three times; 0 is the sample left out."""
    outputs, targets = pair(name, rng, (5, 4), np.float64)
    if name == "softmax_cross_entropy":
        targets = rng.integers(0, 4, 5)
    weights = np.array([3, 0, 1, 2, 0])
    loss, gradient = getattr(fastconv, name)(outputs, targets, sample_weights=weights, **options)
    repeated, _ = getattr(fastconv, name)(
        outputs.repeat(weights, axis=0), targets.repeat(weights, axis=0), **options
    )
    assert loss == pytest.approx(repeated, rel=1e-14)
    assert not gradient[weights == 0].any()


@pytest.mark.parametrize("name", ["softmax_cross_entropy", *{name for name, _ in POINTWISE}])
def test_nothing_counts(name):
    outputs = np.full((3, 2), np.nan, np.float32)
    targets = np.zeros(3, int) if name == "softmax_cross_entropy" else np.zeros((3, 2))
    loss, gradient = getattr(fastconv, name)(outputs, targets, sample_weights=np.zeros(3))
    assert loss == 0
    np.testing.assert_array_equal(gradient, np.zeros((3, 2), np.float32))


def test_an_unwanted_class_may_be_impossible():
    logits = np.array([[0.0, 0.0, -np.inf]])
    loss, gradient = fastconv.softmax_cross_entropy(
        logits, [0], label_smoothing=0.5, class_weights=[1, 1, 0]
    )
    assert loss == pytest.approx(np.log(2) * 5 / 6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("options", [o for o in CROSS_ENTROPIES if "sample_weights" not in o])
def test_gradients_of_cross_entropy(options, rng):
    logits, labels, chosen = cross_entropy_case(options, rng, 8, 5, np.float64)
    _, gradient = fastconv.softmax_cross_entropy(logits, labels, **chosen)
    direction = rng.standard_normal(logits.shape)
    up, down = (
        fastconv.softmax_cross_entropy(logits + step * direction, labels, **chosen)[0]
        for step in (1e-5, -1e-5)
    )
    assert (up - down) / 2e-5 == pytest.approx(np.sum(gradient * direction), rel=1e-7)


REFUSED = [
    ("huber", {"delta": 0}, ValueError, "delta: expected a finite number above 0, got 0"),
    ("huber", {"targets": np.zeros(3)}, ValueError, r"targets: expected outputs' shape \(3, 2\)"),
    ("mean_squared_error", {"targets": np.zeros((3, 1))}, ValueError, "targets: expected outputs'"),
    ("mean_squared_error", {"outputs": np.zeros((0, 2)), "targets": np.zeros((0, 2))}, ValueError,
     r"outputs: expected shape \(N, ...\) with at least one element, got \(0, 2\)"),
    ("mean_squared_error", {"outputs": np.float32(1), "targets": 1.0}, ValueError, "outputs: exp"),
    ("mean_squared_error", {"sample_weights": [1, 2]}, ValueError,
     r"sample_weights: expected shape \(3,\), got \(2,\)"),
    ("mean_squared_error", {"sample_weights": [1, -1, 1]}, ValueError,
     "sample_weights: expected finite numbers of at least 0, got -1.0 to 1.0"),
    ("mean_squared_error", {"sample_weights": [1, np.nan, 1]}, ValueError, "sample_weights: exp"),
    ("binary_cross_entropy", {"targets": np.full((3, 2), -1)}, ValueError,
     "targets: expected numbers from 0 to 1, got -1 to -1"),
    ("binary_cross_entropy", {"targets": np.full((3, 2), 1.5)}, ValueError, "targets: expected n"),
    ("binary_cross_entropy", {"pos_weight": np.ones(3)}, ValueError, "pos_weight: expected a num"),
    ("binary_cross_entropy", {"pos_weight": -1.0}, ValueError, "pos_weight: expected finite numb"),
    ("softmax_cross_entropy", {"label_smoothing": 1}, ValueError, r"label_smoothing: .* \[0, 1\)"),
    ("softmax_cross_entropy", {"class_weights": [1]}, ValueError, r"class_weights: .*\(2,\), got"),
    ("softmax_cross_entropy", {"ignore_label": 0.5}, TypeError, "ignore_label: expected an int"),
    ("softmax_cross_entropy", {"labels": [0, 5, 1], "ignore_label": 1}, ValueError,
     "labels: expected from 0 to 1, got 0 to 5"),
]  # fmt: skip


@pytest.mark.parametrize("name, change, error, message", REFUSED)
def test_mistakes_are_named(name, change, error, message):
    arguments = (
        {"logits": np.zeros((3, 2)), "labels": np.zeros(3, int)}
        if name == "softmax_cross_entropy"
        else {
            "logits" if name == "binary_cross_entropy" else "outputs": np.zeros((3, 2)),
            "targets": np.zeros((3, 2)),
        }
    )
    with pytest.raises(error, match="^" + message):
        getattr(fastconv, name)(**{**arguments, **change})
