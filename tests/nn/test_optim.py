"""Optimizers against their formulas, written out once more without blocks."""

import numpy as np
import pytest

from fastconv import SGD, Adam, AdamW, RMSprop
from fastconv.optim import BLOCK, Optimizer, get_optimizer

SHAPES = {"a": (3,), "b": (2 * BLOCK + 5,), "c": (7, 11), "d": ()}


def reference_sgd(value, grads, rate=0.1, momentum=0.0, nesterov=False, weight_decay=0.0):
    velocity = np.zeros_like(value)
    for grad in grads:
        g = grad + weight_decay * value
        velocity = momentum * velocity + g
        value = value - rate * (g + momentum * velocity if nesterov else velocity)
    return value


def reference_adam(
    value, grads, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0
):
    m = v = np.zeros_like(value)
    for t, grad in enumerate(grads, 1):
        m = beta1 * m + (1 - beta1) * grad
        v = beta2 * v + (1 - beta2) * grad**2
        step = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
        value = value - rate * weight_decay * value - rate * step
    return value


def reference_rmsprop(
    value, grads, rate=0.1, beta=0.99, epsilon=1e-8, momentum=0.0, weight_decay=0.0
):
    square = velocity = np.zeros_like(value)
    for grad in grads:
        g = grad + weight_decay * value
        square = beta * square + (1 - beta) * g**2
        velocity = momentum * velocity + g / (np.sqrt(square) + epsilon)
        value = value - rate * velocity
    return value


CASES = [
    (SGD, reference_sgd, {}),
    (SGD, reference_sgd, {"momentum": 0.9}),
    (SGD, reference_sgd, {"momentum": 0.8, "nesterov": True}),
    (SGD, reference_sgd, {"weight_decay": 0.05}),
    (SGD, reference_sgd, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    (Adam, reference_adam, {}),
    (Adam, reference_adam, {"beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3}),
    (AdamW, reference_adam, {"weight_decay": 0.1}),
    (AdamW, reference_adam, {"beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3, "weight_decay": 1.0}),
    (RMSprop, reference_rmsprop, {}),
    (RMSprop, reference_rmsprop, {"beta": 0.5, "epsilon": 1e-3, "weight_decay": 0.1}),
    (RMSprop, reference_rmsprop, {"momentum": 0.9, "weight_decay": 0.05}),
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
    theirs = {"beta1": None, "beta2": None, "epsilon": "eps", "beta": "alpha"}
    keywords = {theirs.get(k, k): v for k, v in options.items() if theirs.get(k, k)}
    if optimizer in (Adam, AdamW):
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


KINDS = [SGD, lambda rate, **o: SGD(rate, momentum=0.9, **o), Adam, AdamW, RMSprop]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("clip", [{"clip_norm": 1.5}, {"clip_value": 0.25},
                                  {"clip_norm": 3.0, "clip_value": 0.5}])  # fmt: skip
def test_clipping_is_that_of_pytorch_before_the_step(make, clip):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    values = {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
    plain = {name: value.copy() for name, value in values.items()}
    clipped, other = make(0.1, **clip), make(0.1)
    for size in (1, 1e-4, 10):
        grads = {name: size * rng.standard_normal(v.shape) for name, v in values.items()}
        clipped.update([(name, value, grads[name]) for name, value in values.items()])
        tensors = [torch.zeros(v.shape, dtype=torch.float64) for v in values.values()]
        for tensor, grad in zip(tensors, grads.values(), strict=True):
            tensor.grad = torch.tensor(grad)
        if "clip_norm" in clip:
            torch.nn.utils.clip_grad_norm_(tensors, clip["clip_norm"])
        if "clip_value" in clip:
            torch.nn.utils.clip_grad_value_(tensors, clip["clip_value"])
        theirs = dict(zip(grads, (tensor.grad.numpy() for tensor in tensors), strict=True))
        other.update([(name, value, theirs[name]) for name, value in plain.items()])
    for name, value in values.items():
        # PyTorch adds 1e-6 to the norm.
        np.testing.assert_allclose(value, plain[name], rtol=1e-5, atol=1e-5)


def test_a_step_of_ones_own_is_given_clipped_gradients():
    class Plain(Optimizer):
        def step(self, value, grad):
            value -= self.rate * grad

    value, grad = np.zeros((2, 2)), np.array([[3.0, -4.0], [0.0, 12.0]])
    Plain(1.0, clip_norm=6.5, clip_value=3.0).update([("value", value, grad)])
    np.testing.assert_array_equal(value, [[-1.5, 2.0], [0, -3.0]])
    np.testing.assert_array_equal(grad, [[3.0, -4.0], [0, 12.0]])


def test_a_norm_that_is_not_finite_hides_nothing():
    value = np.zeros(3)
    SGD(1.0, clip_norm=1.0).update([("value", value, np.array([1.0, np.nan, 2.0]))])
    np.testing.assert_array_equal(value, [-1, np.nan, -2])


@pytest.mark.parametrize("make", [SGD, AdamW, RMSprop])
def test_vectors_need_not_decay(make):
    for decay_vectors in (True, False):
        values = {"kernel": np.ones((2, 2)), "bias": np.ones(2)}
        optimizer = make(0.5, weight_decay=0.25, decay_vectors=decay_vectors)
        optimizer.update([(name, value, np.zeros_like(value)) for name, value in values.items()])
        assert (values["kernel"] < 1).all()
        assert (values["bias"] < 1).all() == decay_vectors


@pytest.mark.parametrize("make", KINDS)
def test_a_state_goes_on_to_the_same_bits(make):
    rng = np.random.default_rng(3)
    grads = [{name: rng.standard_normal(shape) for name, shape in SHAPES.items()} for _ in "1234"]
    whole, parts = ({name: np.ones(shape) for name, shape in SHAPES.items()} for _ in "12")
    one, first, second = make(0.1), make(0.1), make(0.1)
    for step, grad in enumerate(grads):
        one.update([(name, value, grad[name]) for name, value in whole.items()])
        if step == 2:
            second.set_state(first.state())
        part = first if step < 2 else second
        part.update([(name, value, grad[name]) for name, value in parts.items()])
    assert second.steps == one.steps == 4
    for name, value in whole.items():
        assert value.tobytes() == parts[name].tobytes()


def test_a_state_is_a_copy_both_ways():
    value, grad = np.zeros(2), np.ones(2)
    optimizer = SGD(1.0, momentum=0.5)
    optimizer.update([("value", value, grad)])
    state = optimizer.state()
    optimizer.update([("value", value, grad)])
    np.testing.assert_array_equal(state["value/velocity"], 1)
    other = SGD(1.0, momentum=0.5)
    other.set_state(state)
    other.update([("value", value, grad)])
    np.testing.assert_array_equal(state["value/velocity"], 1)


@pytest.mark.parametrize(
    "state, message",
    [
        ({}, "state: expected an integer named 'steps'"),
        ({"steps": 1.5}, "state: expected an integer named 'steps', got 1.5"),
        ({"steps": 1, "value/velocity": [1.0]}, r"state: expected the slots \['mean', 'square'\]"),
        ({"steps": 1, "value/mean": [1.0]}, "state: expected the slots"),
    ],
)
def test_states_of_others_are_refused(state, message):
    with pytest.raises(ValueError, match=message):
        Adam().set_state(state)


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
    assert type(get_optimizer("adamw")) is AdamW
    assert isinstance(get_optimizer("rmsprop"), RMSprop)
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
        (lambda: AdamW(weight_decay=-1), "weight_decay: expected at least 0, got -1"),
        (lambda: SGD(clip_norm=0), "clip_norm: expected a number above 0, got 0"),
        (lambda: Adam(clip_value=-1), "clip_value: expected a number above 0, got -1"),
        (lambda: RMSprop(beta=1), "beta: expected"),
        (lambda: RMSprop(momentum=1), "momentum: expected"),
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
