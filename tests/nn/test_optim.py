"""Optimizers against their formulas, written out once more without blocks."""

import numpy as np
import pytest

from fastconv import SGD, Adam
from fastconv.optim import BLOCK, Optimizer, get_optimizer

SHAPES = {"a": (3,), "b": (2 * BLOCK + 5,), "c": (7, 11), "d": ()}


def reference_sgd(value, grads, rate=0.1, momentum=0.0, nesterov=False, weight_decay=0.0):
    velocity = np.zeros_like(value)
    for grad in grads:
        g = grad + weight_decay * value
        velocity = momentum * velocity + g
        value = value - rate * (g + momentum * velocity if nesterov else velocity)
    return value


def reference_adam(value, grads, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8):
    m = v = np.zeros_like(value)
    for t, grad in enumerate(grads, 1):
        m = beta1 * m + (1 - beta1) * grad
        v = beta2 * v + (1 - beta2) * grad**2
        step = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
        value = value - rate * step
    return value


CASES = [
    (SGD, reference_sgd, {}),
    (SGD, reference_sgd, {"momentum": 0.9}),
    (SGD, reference_sgd, {"momentum": 0.8, "nesterov": True}),
    (SGD, reference_sgd, {"weight_decay": 0.05}),
    (SGD, reference_sgd, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    (Adam, reference_adam, {}),
    (Adam, reference_adam, {"beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer, reference, options", CASES)
def test_steps_follow_the_formula(optimizer, reference, options, dtype):
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}
    grads = [
        {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}
        for _ in range(4)
    ]
    expected = {
        name: reference(
            value.astype("float64"), [g[name].astype("float64") for g in grads], **options
        )
        for name, value in values.items()
    }
    stepper = optimizer(0.1, **options)
    for grad in grads:
        stepper.update([(name, value, grad[name]) for name, value in values.items()])
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for name, value in values.items():
        assert value.dtype == dtype
        np.testing.assert_allclose(value, expected[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("optimizer, _, options", CASES)
def test_steps_are_those_of_pytorch(optimizer, _, options):
    torch = pytest.importorskip("torch")
    theirs = {"beta1": None, "beta2": None, "epsilon": "eps"}
    keywords = {theirs.get(k, k): v for k, v in options.items() if theirs.get(k, k)}
    if optimizer is Adam:
        keywords["betas"] = options.get("beta1", 0.9), options.get("beta2", 0.999)
    rng = np.random.default_rng(1)
    value = rng.standard_normal((5, 4))
    tensor = torch.tensor(value, requires_grad=True)
    peer = getattr(torch.optim, optimizer.__name__)([tensor], lr=0.1, **keywords)
    ours = optimizer(0.1, **options)
    for _ in range(5):
        grad = rng.standard_normal((5, 4))
        ours.update([("value", value, grad)])
        tensor.grad = torch.tensor(grad)
        peer.step()
    np.testing.assert_allclose(value, tensor.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_the_learning_rate_may_change_between_steps():
    value, grad = np.array([1.0]), np.array([1.0])
    optimizer = SGD(0.5)
    optimizer.update([("value", value, grad)])
    optimizer.learning_rate = 0.25
    optimizer.update([("value", value, grad)])
    assert value == 0.25


def test_the_learning_rate_may_be_a_function_of_the_steps_taken():
    value, grad = np.array([1.0]), np.array([1.0])
    optimizer = SGD(lambda steps: 0.5 / (1 + steps))
    for expected in (0.5, 0.25):
        optimizer.update([("value", value, grad)])
        assert value == expected


def test_gradients_in_any_memory_order():
    value, grad = np.zeros((3, 4)), np.arange(12.0).reshape(4, 3).T
    SGD(1.0).update([("value", value, grad)])
    np.testing.assert_array_equal(value, -grad)


@pytest.mark.parametrize("whole", [False, True])
def test_an_optimizer_of_ones_own(whole):
    """Blocks of flat arrays unless it asks for whole ones; its state under its names."""
    seen = []

    class Signs(Optimizer):
        slots = ("counts",)

        def step(self, value, grad, counts):
            seen.append(value.shape)
            counts += 1
            value -= self.rate * counts * np.sign(grad)

    Signs.whole = whole
    values = {name: np.ones(shape) for name, shape in SHAPES.items()}
    optimizer = Signs(0.25)
    for _ in range(2):
        optimizer.update([(name, v, np.full(v.shape, 3.0)) for name, v in values.items()])
    for value in values.values():
        np.testing.assert_array_equal(value, np.full(value.shape, 0.25))
    assert set(seen) == (set(SHAPES.values()) if whole else {(3,), (BLOCK,), (5,), (77,), (1,)})


def test_a_step_may_be_added_to():
    class Clipped(SGD):
        def step(self, value, grad, *state):
            super().step(value, np.clip(grad, -1, 1), *state)

    value = np.zeros((2, 2))
    Clipped(0.5).update([("value", value, np.array([[5.0, -5.0], [0.5, 0.0]]))])
    np.testing.assert_array_equal(value, [[-0.5, 0.5], [-0.25, 0]])


def test_names_stand_for_default_settings():
    assert isinstance(get_optimizer("adam"), Adam)
    assert isinstance(get_optimizer("sgd"), SGD)
    assert get_optimizer("sgd") is not get_optimizer("sgd")
    mine = SGD()
    assert get_optimizer(mine) is mine


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SGD(0), "learning_rate: expected a number above 0, got 0"),
        (lambda: SGD(momentum=1.0), r"momentum: expected a number in \[0, 1\), got 1.0"),
        (lambda: SGD(nesterov=True), "nesterov: expected a momentum above 0"),
        (lambda: SGD(weight_decay=-1), "weight_decay: expected at least 0, got -1"),
        (lambda: Adam(beta1=1), "beta1: expected"),
        (lambda: Adam(beta2=-0.1), "beta2: expected"),
        (lambda: Adam(epsilon=0), "epsilon: expected a number above 0, got 0"),
        (lambda: SGD().update([("k", np.ones(3), None)]), "'k' has no gradient; run backward"),
        (lambda: SGD().update([("k", np.ones(3), np.ones(4))]), "gradient and a state of its"),
        (lambda: SGD().update([("k", np.ones((2, 3)).T, np.ones((3, 2)))]), "C-contiguous"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_one_optimizer_serves_one_model():
    optimizer = Adam()
    optimizer.update([("0.kernel", np.ones(3), np.ones(3))])
    with pytest.raises(ValueError, match="one optimizer serves one model"):
        optimizer.update([("0.kernel", np.ones(4), np.ones(4))])
