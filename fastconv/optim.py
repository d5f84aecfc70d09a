"""Optimizers: how parameters follow their gradients.

An optimizer sees (name, value, grad) triples, changes the values in place and remembers what it
needs under the names. It knows nothing of layers, so it serves hand-written loops and arrays of
one's own just as well.

A step is a dozen operations on every element, and what it costs is memory. The optimizers here are
compiled, a single pass over whole parameters, in which the gradient is clipped as it is read. An
optimizer of one's own is a few lines of NumPy on blocks that stay in the second cache with their
state, so that its passes too find them there.

Weight decay pulls on every parameter, as PyTorch's does. With ``decay_vectors=False`` it leaves
those of one axis alone, which are biases and the scales and shifts of normalisations: they do not
overfit, and a scale that decays only changes the learning rate of the layer before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv.arguments import boolean, real
from fastconv.training import adam_update, rmsprop_update, sgd_update, square_sum

BLOCK = 32768  # elements: five arrays of float32 take 640 KiB
Rate = float | Callable[[int], float]


class Optimizer:
    """Base class: walks the parameters and keeps their state.

    A subclass names its state arrays in `slots` and moves one block in `step`.

    Parameters
    ----------
    learning_rate : float or callable
        The rate, or a function from the number of steps taken so far to the rate
        (`fastconv.schedules` has the usual ones). May be changed between steps.
    clip_norm : float, optional
        Gradients are scaled down together where the root of the sum of all their squares is
        larger.
    clip_value : float, optional
        Each element of a gradient is cut to -clip_value and clip_value, after that.

    Attributes
    ----------
    slots : tuple of str
        What `step` needs beside the gradient: so many arrays, zero at first.
    whole : bool
        Whether `step` is given whole parameters, in their shape, instead of flat blocks of them:
        for steps that pass over memory once.
    clips : bool
        Whether `step` clips by `grad_scale` and `grad_limit` itself; else it is given gradients
        that are clipped already.
    learning_rate : float or callable
    rate, grad_scale, grad_limit : float
        Of the step being taken: its learning rate, the factor of its gradients and the size they
        are then cut to.
    steps : int
        Steps taken so far.
    """

    slots: tuple[str, ...] = ()
    whole = False
    clips = False

    def __init__(
        self,
        learning_rate: Rate,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        if not callable(learning_rate):
            _positive("learning_rate", learning_rate)
        self.learning_rate = learning_rate
        self.clip_norm = None if clip_norm is None else _positive("clip_norm", clip_norm)
        self.clip_value = None if clip_value is None else _positive("clip_value", clip_value)
        self.rate = 0.0
        self.grad_scale = 1.0
        self.grad_limit = math.inf if clip_value is None else clip_value
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
        triples: list[tuple[str, NDArray, NDArray]] = []
        for name, value, grad in parameters:
            if grad is None:
                raise ValueError(f"parameters: {name!r} has no gradient; run backward first")
            triples.append((name, value, grad))
        if self.clip_norm is not None:
            norm = math.sqrt(sum(square_sum(grad) for _, _, grad in triples))
            # A norm that is not finite says nothing of a scale: the step shows that it is not.
            self.grad_scale = self.clip_norm / norm if norm > self.clip_norm else 1.0
        rate = self.learning_rate
        self.rate = rate(self.steps) if callable(rate) else rate
        self.steps += 1
        for name, value, grad in triples:
            if name not in self._state:
                self._state[name] = [np.zeros_like(value) for _ in self.slots]
            state = self._state[name]
            fits = value.flags.c_contiguous and np.shape(grad) == value.shape
            for array in state:
                fits = fits and array.shape == value.shape
            if not fits:
                shapes = {np.shape(array) for array in (value, grad, *state)}
                raise ValueError(
                    f"parameters: {name!r}: expected a C-contiguous value with a gradient and a "
                    f"state of its shape, got shapes {sorted(shapes)} (one optimizer serves "
                    f"one model)"
                )
            if not self.clips and (self.clip_norm or self.clip_value):
                grad = np.clip(grad * self.grad_scale, -self.grad_limit, self.grad_limit)
            if self.whole:
                self.step(value, grad, *state)
            else:
                for block in _blocks(value, grad, *state):
                    self.step(*block)

    def state(self) -> dict[str, NDArray]:
        """Return copies of all that later steps depend on, by name: what `set_state` takes back.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv import SGD
        >>> optimizer = SGD(0.5, momentum=0.9)
        >>> optimizer.update([("value", np.zeros(2), np.array([1.0, 0.0]))])
        >>> optimizer.state()
        {'steps': array(1), 'value/velocity': array([1., 0.])}
        """
        return {"steps": np.array(self.steps)} | {
            f"{name}/{slot}": array.copy()
            for name, arrays in self._state.items()
            for slot, array in zip(self.slots, arrays, strict=True)
        }

    def set_state(self, state: Mapping[str, ArrayLike]) -> None:
        """Go on from a state that `state` returned, from an optimizer of the same kind.

        Parameters
        ----------
        state : mapping of str to array_like

        Raises
        ------
        ValueError
            If it is not a state of this kind of optimizer.
        """
        arrays = {name: np.array(value) for name, value in state.items()}
        steps = arrays.pop("steps", np.array(None))
        if steps.ndim or steps.dtype.kind not in "iu":
            raise ValueError(f"state: expected an integer named 'steps', got {steps}")
        names = dict.fromkeys(name.rpartition("/")[0] for name in arrays)
        expected = {f"{name}/{slot}" for name in names for slot in self.slots}
        if expected != set(arrays):
            raise ValueError(
                f"state: expected the slots {list(self.slots)} for every parameter, got names "
                f"{sorted(arrays)}"
            )
        self.steps = int(steps)
        self._state = {name: [arrays[f"{name}/{slot}"] for slot in self.slots] for name in names}

    def step(self, value: NDArray, grad: NDArray, *state: NDArray) -> None:
        """Move one block."""
        raise NotImplementedError


class Compiled(Optimizer):
    """What the optimizers below share: they pass over memory once, clip in it, and may decay."""

    whole = True
    clips = True

    def __init__(
        self,
        learning_rate: Rate,
        *,
        weight_decay: float = 0.0,
        decay_vectors: bool = True,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm=clip_norm, clip_value=clip_value)
        if not real("weight_decay", weight_decay) >= 0:
            raise ValueError(f"weight_decay: expected at least 0, got {weight_decay!r}")
        self.weight_decay = weight_decay
        self.decay_vectors = boolean("decay_vectors", decay_vectors)

    def decay_of(self, value: NDArray) -> float:
        """The weight decay of one parameter."""
        return self.weight_decay if value.ndim > 1 or self.decay_vectors else 0.0


class SGD(Compiled):
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
        Pull towards zero.
    decay_vectors : bool
        Whether parameters of one axis, biases and the scales of normalisations, decay too.
    clip_norm, clip_value : float, optional
        See `fastconv.optim.Optimizer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import SGD
    >>> value = np.array([1.0, 2.0])
    >>> SGD(0.5).update([("value", value, np.array([1.0, 0.0]))])
    >>> value
    array([0.5, 2. ])
    """

    def __init__(
        self,
        learning_rate: Rate = 0.01,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        decay_vectors: bool = True,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            decay_vectors=decay_vectors,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )
        self.momentum = _fraction("momentum", momentum)
        if boolean("nesterov", nesterov) and not momentum:
            raise ValueError("nesterov: expected a momentum above 0 with it, got 0")
        self.nesterov = nesterov
        self.slots = ("velocity",) if momentum else ()

    def step(self, value: NDArray, grad: NDArray, *state: NDArray) -> None:
        sgd_update(
            value,
            grad,
            *state,
            rate=self.rate,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.decay_of(value),
            grad_scale=self.grad_scale,
            grad_limit=self.grad_limit,
        )


class AdamW(Compiled):
    """Adam with decoupled weight decay.

    A step first takes the share learning_rate · weight_decay away from the value, then moves it as
    `Adam` does: the decay is not scaled by the gradient's history.

    Parameters
    ----------
    learning_rate : float or callable
    beta1, beta2 : float
        How much of the running means of gradient and square survives a step; in [0, 1).
    epsilon : float
        Keeps the quotient finite.
    weight_decay : float
        Pull towards zero, at the pace of the learning rate.
    decay_vectors : bool
        Whether parameters of one axis, biases and the scales of normalisations, decay too.
    clip_norm, clip_value : float, optional
        See `fastconv.optim.Optimizer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import AdamW
    >>> value = np.array([1.0, 2.0])
    >>> AdamW(0.5, weight_decay=0.5).update([("value", value, np.array([1e-3, 0.0]))])
    >>> value.round(3)
    array([0.25, 1.5 ])
    """

    slots = ("mean", "square")

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        decay_vectors: bool = True,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            decay_vectors=decay_vectors,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )
        self.beta1 = _fraction("beta1", beta1)
        self.beta2 = _fraction("beta2", beta2)
        self.epsilon = _positive("epsilon", epsilon)

    def step(self, value: NDArray, grad: NDArray, *state: NDArray) -> None:
        mean, square = state
        # Both corrections are numbers; they go into the rate and epsilon.
        correction = math.sqrt(1 - self.beta2**self.steps)
        adam_update(
            value,
            grad,
            mean,
            square,
            rate=self.rate * correction / (1 - self.beta1**self.steps),
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon * correction,
            decay=self.rate * self.decay_of(value),
            grad_scale=self.grad_scale,
            grad_limit=self.grad_limit,
        )


class Adam(AdamW):
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
    clip_norm, clip_value : float, optional
        See `fastconv.optim.Optimizer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Adam
    >>> value = np.array([1.0, 2.0])
    >>> Adam(0.5).update([("value", value, np.array([1e-3, -10.0]))])
    >>> value.round(3)
    array([0.5, 2.5])
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            weight_decay=0.0,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )


class RMSprop(Compiled):
    """RMSprop: steps scaled by a running mean of the gradient's square.

    With g = grad + weight_decay · value and v = momentum · v + g / (sqrt(square) + epsilon), a step
    subtracts learning_rate · v.

    Parameters
    ----------
    learning_rate : float or callable
    beta : float
        How much of the running mean of the square survives a step; in [0, 1).
    epsilon : float
        Keeps the quotient finite.
    momentum : float
        In [0, 1).
    weight_decay : float
        Pull towards zero.
    decay_vectors : bool
        Whether parameters of one axis, biases and the scales of normalisations, decay too.
    clip_norm, clip_value : float, optional
        See `fastconv.optim.Optimizer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import RMSprop
    >>> value = np.array([1.0, 2.0])
    >>> RMSprop(0.5, beta=0.75).update([("value", value, np.array([1e-3, -10.0]))])
    >>> value.round(3)
    array([0., 3.])
    """

    def __init__(
        self,
        learning_rate: Rate = 0.01,
        *,
        beta: float = 0.99,
        epsilon: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        decay_vectors: bool = True,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            decay_vectors=decay_vectors,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )
        self.beta = _fraction("beta", beta)
        self.epsilon = _positive("epsilon", epsilon)
        self.momentum = _fraction("momentum", momentum)
        self.slots = ("square", "velocity") if momentum else ("square",)

    def step(self, value: NDArray, grad: NDArray, *state: NDArray) -> None:
        rmsprop_update(
            value,
            grad,
            *state,
            rate=self.rate,
            beta=self.beta,
            epsilon=self.epsilon,
            momentum=self.momentum,
            weight_decay=self.decay_of(value),
            grad_scale=self.grad_scale,
            grad_limit=self.grad_limit,
        )


OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "sgd": SGD,
}


def get_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """Return a new optimizer with this name; an object is returned as it is."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str) or optimizer not in OPTIMIZERS:
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
    if not 0 <= real(name, value) < 1:
        raise ValueError(f"{name}: expected a number in [0, 1), got {value!r}")
    return value


def _positive(name: str, value: float) -> float:
    if not real(name, value) > 0:
        raise ValueError(f"{name}: expected a number above 0, got {value!r}")
    return value
