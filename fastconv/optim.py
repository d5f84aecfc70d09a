"""Optimizers: how parameters follow their gradients.

An optimizer sees (name, value, grad) triples, changes the values in place and remembers what it
needs under the names. It knows nothing of layers, so it serves hand-written loops and arrays of
one's own just as well.

A step is a dozen operations on every element, and what it costs is memory. SGD and Adam are
compiled, a single pass over whole parameters. An optimizer of one's own is a few lines of NumPy on
blocks that stay in the second cache with their state, so that its passes too find them there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from fastconv.training import adam_update, sgd_update

BLOCK = 32768  # elements: five arrays of float32 take 640 KiB
Rate = float | Callable[[int], float]


class Optimizer:
    """Base class: walks the parameters and keeps their state.

    A subclass names its state arrays in `slots` and moves one block in `step`.

    Attributes
    ----------
    slots : tuple of str
        What `step` needs beside the gradient: so many arrays, zero at first.
    whole : bool
        Whether `step` is given whole parameters, in their shape, instead of flat blocks of them:
        for steps that pass over memory once.
    learning_rate : float or callable
        The rate, or a function from the number of steps taken so far to the rate. May be changed
        between steps.
    steps : int
        Steps taken so far.
    """

    slots: tuple[str, ...] = ()
    whole = False

    def __init__(self, learning_rate: Rate) -> None:
        if not callable(learning_rate) and not learning_rate > 0:
            raise ValueError(f"learning_rate: expected a number above 0, got {learning_rate!r}")
        self.learning_rate = learning_rate
        self.rate = 0.0  # of the step being taken
        self.steps = 0
        self._state: dict[str, list[NDArray]] = {}

    def update(self, parameters: Iterable[tuple[str, NDArray, NDArray | None]]) -> None:
        """Take one step: change every value in place.

        Parameters
        ----------
        parameters : iterable of (name, value, grad)
            As `Sequential.parameters` gives them. Names tell parameters apart from step to step;
            values are C-contiguous.
        """
        rate = self.learning_rate
        self.rate = rate(self.steps) if callable(rate) else rate
        self.steps += 1
        for name, value, grad in parameters:
            if grad is None:
                raise ValueError(f"parameters: {name!r} has no gradient; run backward first")
            if name not in self._state:
                self._state[name] = [np.zeros_like(value) for _ in self.slots]
            state = self._state[name]
            shapes = {array.shape for array in (value, grad, *state)}
            if len(shapes) > 1 or not value.flags.c_contiguous:
                raise ValueError(
                    f"parameters: {name!r}: expected a C-contiguous value with a gradient and a "
                    f"state of its shape, got shapes {sorted(shapes)} (one optimizer serves "
                    f"one model)"
                )
            if self.whole:
                self.step(value, grad, *state)
            else:
                for block in _blocks(value, grad, *state):
                    self.step(*block)

    def step(self, value: NDArray, grad: NDArray, *state: NDArray) -> None:
        """Move one block."""
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent.

    With g = grad + weight_decay · value and v = momentum · v + g, a step subtracts
    learning_rate · v, or learning_rate · (g + momentum · v) with Nesterov.

    Parameters
    ----------
    learning_rate : float or callable
    momentum : float
        In [0, 1).
    nesterov : bool
        Look ahead along the momentum.
    weight_decay : float
        Pull towards zero, on every parameter, biases included.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import SGD
    >>> value = np.array([1.0, 2.0])
    >>> SGD(0.5).update([("value", value, np.array([1.0, 0.0]))])
    >>> value
    array([0.5, 2. ])
    """

    whole = True

    def __init__(
        self,
        learning_rate: Rate = 0.01,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate)
        self.momentum = _fraction("momentum", momentum)
        if nesterov and not momentum:
            raise ValueError("nesterov: expected a momentum above 0 with it, got 0")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay: expected at least 0, got {weight_decay!r}")
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.slots = ("velocity",) if momentum else ()

    def step(self, value: NDArray, grad: NDArray, *state: NDArray) -> None:
        sgd_update(
            value,
            grad,
            *state,
            rate=self.rate,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    With both means corrected for their start at zero, a step subtracts
    learning_rate · mean / (sqrt(square) + epsilon).

    Parameters
    ----------
    learning_rate : float or callable
    beta1, beta2 : float
        How much of the running means of gradient and square survives a step; in [0, 1).
    epsilon : float
        Keeps the quotient finite.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Adam
    >>> value = np.array([1.0, 2.0])
    >>> Adam(0.5).update([("value", value, np.array([1e-3, -10.0]))])
    >>> value.round(3)
    array([0.5, 2.5])
    """

    slots = ("mean", "square")
    whole = True

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(learning_rate)
        self.beta1 = _fraction("beta1", beta1)
        self.beta2 = _fraction("beta2", beta2)
        if not epsilon > 0:
            raise ValueError(f"epsilon: expected a number above 0, got {epsilon!r}")
        self.epsilon = epsilon

    def step(self, value: NDArray, grad: NDArray, *state: NDArray) -> None:
        mean, square = state
        # Both corrections are numbers; they go into the rate and epsilon.
        correction = math.sqrt(1 - self.beta2**self.steps)
        rate = self.rate * correction / (1 - self.beta1**self.steps)
        adam_update(
            value,
            grad,
            mean,
            square,
            rate=rate,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon * correction,
        )


OPTIMIZERS: dict[str, type[SGD] | type[Adam]] = {"adam": Adam, "sgd": SGD}


def get_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """Return a new optimizer with this name; an object is returned as it is."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if optimizer not in OPTIMIZERS:
        raise ValueError(
            f"optimizer: expected one of {sorted(OPTIMIZERS)} or an Optimizer, got {optimizer!r}"
        )
    return OPTIMIZERS[optimizer]()


def _blocks(*arrays: NDArray) -> Iterator[list[NDArray]]:
    """Yield flat views of the same piece of every array."""
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, BLOCK):
        yield [array[start : start + BLOCK] for array in flat]


def _fraction(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"{name}: expected a number in [0, 1), got {value!r}")
    return value
