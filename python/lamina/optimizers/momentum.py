"""Optimizers that keep one running mean of the gradient: SGD, Lion, Muon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lamina.core as mx
from lamina.optimizers._rule import Rule, require_at_least_zero, require_betas

__all__ = ["SGD", "Lion", "Muon"]

Rate = float | Callable[[mx.array], mx.array]


class SGD(Rule):
    """Stochastic gradient descent, with momentum if wanted.

    With ``g = gradient + weight_decay * w`` and, with momentum, ``v = momentum * v + (1 - dampening) * g``,
    the step is ``w = w - learning_rate * u``, where ``u`` is ``g`` without momentum, ``v`` with it and ``g +
    momentum * v`` with Nesterov's. The state of a parameter is ``v``.

    Parameters
    ----------
    learning_rate : float or callable
        The learning rate, or a schedule.
    momentum : float
        Decay rate of ``v``.
    weight_decay : float
        How much of the parameter is added to its gradient.
    dampening : float
        How much less the new gradient counts in ``v``.
    nesterov : bool
        Whether to use Nesterov's momentum.

    Raises
    ------
    ValueError
        ``nesterov`` is set without momentum or with dampening.

    Examples
    --------
    >>> from lamina import core as mx, optimizers
    >>> optimizer = optimizers.SGD(learning_rate=0.5, momentum=0.5)
    >>> for _ in range(2):
    ...     w = optimizer.apply_gradients({"w": mx.array([1.0])}, {"w": mx.array([4.0])})["w"]
    >>> w.tolist()
    [3.25]
    """

    def __init__(
        self,
        learning_rate: Rate,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
    ):
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(
                "[SGD] Nesterov momentum requires a momentum and zero dampening, got "
                f"momentum={momentum} and dampening={dampening}"
            )
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.dampening = dampening
        self.nesterov = nesterov

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        state["v"] = mx.zeros_like(parameter)

    def next_value(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        if self.weight_decay != 0:
            gradient = gradient + self.weight_decay * parameter
        update = gradient
        if self.momentum > 0:
            fresh = (1 - self.dampening) * gradient if self.dampening > 0 else gradient
            state["v"] = self.momentum * state["v"] + fresh
            update = gradient + self.momentum * state["v"] if self.nesterov else state["v"]
        return parameter - self._rate(update.dtype) * update


class Lion(Rule):
    """Lion: steps of one size in the direction of the sign of a running mean.

    With ``c = beta1 * m + (1 - beta1) * g`` and ``m = beta2 * m + (1 - beta2) * g``, the step is
    ``w = w - learning_rate * (sign(c) + weight_decay * w)``. The state of a parameter is ``m``.

    Parameters
    ----------
    learning_rate : float or callable
        The learning rate, or a schedule; about a tenth of what Adam wants.
    betas : (float, float)
        The decay rates.
    weight_decay : float
        Decoupled weight decay.

    Raises
    ------
    ValueError
        ``betas`` are not in ``[0, 1)``.

    Examples
    --------
    >>> from lamina import core as mx, optimizers
    >>> optimizer = optimizers.Lion(learning_rate=0.5)
    >>> optimizer.apply_gradients({"w": mx.array([3.0, -0.1])}, {"w": mx.array([1.0, 1.0])})["w"].tolist()
    [0.5, 1.5]
    """

    def __init__(self, learning_rate: Rate, betas: list[float] = [0.9, 0.99], weight_decay: float = 0.0):  # noqa: B006
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self.betas = require_betas("Lion", betas)
        self.weight_decay = weight_decay

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        state["m"] = mx.zeros_like(parameter)

    def next_value(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        b1, b2 = self.betas
        direction = mx.sign(b1 * state["m"] + (1 - b1) * gradient)
        state["m"] = b2 * state["m"] + (1 - b2) * gradient
        if self.weight_decay > 0:
            parameter = self._once_a_step("kept", gradient.dtype, self._kept) * parameter
        return parameter - self._rate(gradient.dtype) * direction

    def _kept(self, dtype: mx.Dtype) -> mx.array:
        """The share of a parameter that weight decay leaves."""
        return 1 - self._rate(dtype) * self.weight_decay


class Muon(Rule):
    """Muon: momentum, then each matrix's update is moved close to the nearest orthogonal matrix.

    Parameters with more than two axes are taken as matrices with the first axis as rows; those with fewer get
    plain momentum. The state of a parameter is ``v``.

    Parameters
    ----------
    learning_rate : float or callable
        The learning rate, or a schedule; it is multiplied by ``sqrt(max(1, a / b))`` for last axes of sizes a
        and b.
    momentum : float
        Decay rate of ``v``.
    weight_decay : float
        How much of the parameter is added to its gradient.
    nesterov : bool
        Whether to use Nesterov's momentum.
    ns_steps : int
        Number of Newton-Schulz iterations.

    Raises
    ------
    ValueError
        ``ns_steps`` is negative.

    Examples
    --------
    >>> from lamina import core as mx, optimizers
    >>> optimizer = optimizers.Muon(learning_rate=0.1)
    >>> optimizer.apply_gradients({"w": mx.eye(3)}, {"w": mx.zeros((3, 3))})["w"].shape
    (3, 3)
    """

    def __init__(
        self,
        learning_rate: Rate,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        nesterov: bool = True,
        ns_steps: int = 5,
    ):
        super().__init__()
        require_at_least_zero("Muon", ns_steps=ns_steps)
        self._maybe_schedule("learning_rate", learning_rate)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.nesterov = nesterov
        self.ns_steps = ns_steps

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        state["v"] = mx.zeros_like(parameter)

    def _orthogonalized(self, x: mx.array) -> mx.array:
        """Push the singular values of a matrix towards 1 by an odd polynomial of degree 5."""
        transposed = x.shape[0] > x.shape[1]
        if transposed:
            x = x.T
        x = x / (mx.sqrt(mx.sum(mx.square(x))) + 1e-7)
        for _ in range(self.ns_steps):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * (gram @ gram)) @ x
        return x.T if transposed else x

    def next_value(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        if self.weight_decay != 0:
            gradient = gradient + self.weight_decay * parameter
        state["v"] = self.momentum * state["v"] + (1 - self.momentum) * gradient
        update = state["v"]
        if self.nesterov:
            update = (1 - self.momentum) * gradient + self.momentum * state["v"]
        rate = self._rate(gradient.dtype)
        if update.ndim >= 2 and update.size > 0:
            matrix = self._orthogonalized(update.reshape(update.shape[0], -1))
            rate = rate * max(1, update.shape[-2] / update.shape[-1]) ** 0.5
            update = matrix.reshape(update.shape)
        return parameter - rate * update
