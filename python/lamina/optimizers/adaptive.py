"""Optimizers that scale each entry's step by the sizes of its past gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lamina.core as mx
from lamina.optimizers._rule import Rule, require_at_least_zero, require_betas

__all__ = ["AdaDelta", "Adagrad", "Adam", "AdamW", "Adamax", "RMSprop"]

Rate = float | Callable[[mx.array], mx.array]


class RMSprop(Rule):
    """RMSprop: ``v = alpha * v + (1 - alpha) * g**2``, then ``w = w - learning_rate * g / (sqrt(v) + eps)``.

    The state of a parameter is ``v``.

    Parameters
    ----------
    learning_rate : float or callable
        The learning rate, or a schedule.
    alpha : float
        Decay rate of ``v``.
    eps : float
        Added to the denominator.

    Raises
    ------
    ValueError
        ``alpha`` or ``eps`` is negative.

    Examples
    --------
    >>> from lamina import core as mx, optimizers
    >>> optimizer = optimizers.RMSprop(learning_rate=0.5, alpha=0.75, eps=0.0)
    >>> optimizer.apply_gradients({"w": mx.array([3.0])}, {"w": mx.array([2.0])})["w"].tolist()
    [1.0]
    """

    def __init__(self, learning_rate: Rate, alpha: float = 0.99, eps: float = 1e-8):
        super().__init__()
        require_at_least_zero("RMSprop", alpha=alpha, eps=eps)
        self._maybe_schedule("learning_rate", learning_rate)
        self.alpha = alpha
        self.eps = eps

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        state["v"] = mx.zeros_like(parameter)

    def next_value(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        state["v"] = self.alpha * state["v"] + (1 - self.alpha) * mx.square(gradient)
        return parameter - self._rate(gradient.dtype) * gradient / (mx.sqrt(state["v"]) + self.eps)


class Adagrad(Rule):
    """Adagrad: ``v = v + g**2``, then ``w = w - learning_rate * g / (sqrt(v) + eps)``.

    The state of a parameter is ``v``.

    Parameters
    ----------
    learning_rate : float or callable
        The learning rate, or a schedule.
    eps : float
        Added to the denominator.

    Raises
    ------
    ValueError
        ``eps`` is negative.

    Examples
    --------
    >>> from lamina import core as mx, optimizers
    >>> optimizer = optimizers.Adagrad(learning_rate=0.5, eps=0.0)
    >>> optimizer.apply_gradients({"w": mx.array([3.0])}, {"w": mx.array([2.0])})["w"].tolist()
    [1.5]
    """

    def __init__(self, learning_rate: Rate, eps: float = 1e-8):
        super().__init__()
        require_at_least_zero("Adagrad", eps=eps)
        self._maybe_schedule("learning_rate", learning_rate)
        self.eps = eps

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        state["v"] = mx.zeros_like(parameter)

    def next_value(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        state["v"] = state["v"] + mx.square(gradient)
        return parameter - self._rate(gradient.dtype) * gradient / (mx.sqrt(state["v"]) + self.eps)


class AdaDelta(Rule):
    """AdaDelta: steps scaled by the ratio of running sizes of past steps and past gradients.

    With ``v = rho * v + (1 - rho) * g**2``, ``d = sqrt(u + eps) / sqrt(v + eps) * g`` and ``u = rho * u + (1
    - rho) * d**2``, the step is ``w = w - learning_rate * d``. The state of a parameter is ``v`` and ``u``.

    Parameters
    ----------
    learning_rate : float or callable
        The learning rate, or a schedule.
    rho : float
        Decay rate of ``u`` and ``v``.
    eps : float
        Added under the roots.

    Raises
    ------
    ValueError
        ``rho`` or ``eps`` is negative.

    Examples
    --------
    >>> from lamina import core as mx, optimizers
    >>> optimizer = optimizers.AdaDelta(learning_rate=1.0, rho=0.0, eps=1.0)
    >>> optimizer.apply_gradients({"w": mx.array([0.75])}, {"w": mx.array([2.0])})["w"].tolist()
    [1.399999976158142]
    """

    def __init__(self, learning_rate: Rate, rho: float = 0.9, eps: float = 1e-6):
        super().__init__()
        require_at_least_zero("AdaDelta", rho=rho, eps=eps)
        self._maybe_schedule("learning_rate", learning_rate)
        self.rho = rho
        self.eps = eps

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        state["v"] = mx.zeros_like(parameter)
        state["u"] = mx.zeros_like(parameter)

    def next_value(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        state["v"] = self.rho * state["v"] + (1 - self.rho) * mx.square(gradient)
        change = mx.sqrt(state["u"] + self.eps) / mx.sqrt(state["v"] + self.eps) * gradient
        state["u"] = self.rho * state["u"] + (1 - self.rho) * mx.square(change)
        return parameter - self._rate(gradient.dtype) * change


class Adam(Rule):
    """Adam: steps along a running mean of the gradient, divided by the root of that of its square.

    With ``m = beta1 * m + (1 - beta1) * g`` and ``v = beta2 * v + (1 - beta2) * g**2``, the step is ``w = w -
    learning_rate * m / (sqrt(v) + eps)``; bias correction divides ``m`` by ``1 - beta1**step`` and ``v`` by
    ``1 - beta2**step`` before. The state of a parameter is ``m`` and ``v``.

    Parameters
    ----------
    learning_rate : float or callable
        The learning rate, or a schedule.
    betas : (float, float)
        The decay rates.
    eps : float
        Added to the denominator.
    bias_correction : bool
        Whether to correct the means for their start at 0; PyTorch does so.

    Raises
    ------
    ValueError
        ``betas`` are not in ``[0, 1)``, or ``eps`` is negative.

    Examples
    --------
    >>> from lamina import core as mx, optimizers
    >>> optimizer = optimizers.Adam(learning_rate=0.5, eps=0.0, bias_correction=True)
    >>> w = optimizer.apply_gradients({"w": mx.array([3.0])}, {"w": mx.array([2.0])})["w"]
    >>> round(w.item(), 4)
    1.5
    """

    def __init__(
        self,
        learning_rate: Rate,
        betas: list[float] = [0.9, 0.999],  # noqa: B006 - the default is only read
        eps: float = 1e-8,
        bias_correction: bool = False,
    ):
        super().__init__()
        require_at_least_zero(type(self).__name__, eps=eps)
        self._maybe_schedule("learning_rate", learning_rate)
        self.betas = require_betas(type(self).__name__, betas)
        self.eps = eps
        self.bias_correction = bias_correction

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        state["m"] = mx.zeros_like(parameter)
        state["v"] = mx.zeros_like(parameter)

    def next_value(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        dtype = gradient.dtype
        b1, rest1, b2, rest2, eps = self._once_a_step("constants", dtype, self._constants)
        state["m"] = b1 * state["m"] + rest1 * gradient
        state["v"] = b2 * state["v"] + rest2 * mx.square(gradient)
        rate = self._rate(dtype)
        if self.bias_correction:
            rate, eps = self._once_a_step("corrected", dtype, self._corrected)
        return parameter - rate * state["m"] / (mx.sqrt(state["v"]) + eps)

    def _constants(self, dtype: mx.Dtype) -> list[mx.array]:
        b1, b2 = self.betas
        return [mx.array(x, dtype) for x in (b1, 1 - b1, b2, 1 - b2, self.eps)]

    def _corrected(self, dtype: mx.Dtype) -> tuple[mx.array, mx.array]:
        """The rate and eps that correct for the start of the means at 0.

        With ``f = sqrt(1 - b2**step)``, ``m / (1 - b1**step) / (root / f + eps)`` is the same as
        ``m * f / (1 - b1**step) / (root + f * eps)``, which takes one pass less over the numbers.
        """
        b1, b2 = self.betas
        step = self.step.astype(dtype)
        factor = mx.sqrt(1 - b2**step)
        return self._rate(dtype) * factor / (1 - b1**step), factor * self.eps


class AdamW(Adam):
    """Adam with decoupled weight decay: :class:`Adam`'s step from ``w * (1 - learning_rate * weight_decay)``.

    Parameters
    ----------
    learning_rate, betas, eps, bias_correction
        As for :class:`Adam`.
    weight_decay : float
        The weight decay.

    Raises
    ------
    ValueError
        As for :class:`Adam`.

    Examples
    --------
    >>> from lamina import core as mx, optimizers
    >>> optimizer = optimizers.AdamW(learning_rate=0.5, weight_decay=0.5)
    >>> optimizer.apply_gradients({"w": mx.array([0.0])}, {"w": mx.array([2.0])})["w"].tolist()
    [1.5]
    """

    def __init__(
        self,
        learning_rate: Rate,
        betas: list[float] = [0.9, 0.999],  # noqa: B006 - the default is only read
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        bias_correction: bool = False,
    ):
        super().__init__(learning_rate, betas, eps, bias_correction)
        self.weight_decay = weight_decay

    def next_value(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        return super().next_value(
            gradient, parameter * self._once_a_step("kept", gradient.dtype, self._kept), state
        )

    def _kept(self, dtype: mx.Dtype) -> mx.array:
        """The share of a parameter that weight decay leaves."""
        return 1 - self._rate(dtype) * self.weight_decay


class Adamax(Adam):
    """Adam with the largest past gradient for the root: ``v = max(beta2 * v, abs(g))``.

    The step is ``w = w - learning_rate * m / (v + eps)``, without bias correction.

    Parameters
    ----------
    learning_rate, betas, eps
        As for :class:`Adam`.

    Raises
    ------
    ValueError
        As for :class:`Adam`.

    Examples
    --------
    >>> from lamina import core as mx, optimizers
    >>> optimizer = optimizers.Adamax(learning_rate=0.5, betas=[0.5, 0.5], eps=0.0)
    >>> optimizer.apply_gradients({"w": mx.array([3.0])}, {"w": mx.array([2.0])})["w"].tolist()
    [1.75]
    """

    def __init__(
        self,
        learning_rate: Rate,
        betas: list[float] = [0.9, 0.999],  # noqa: B006 - the default is only read
        eps: float = 1e-8,
    ):
        super().__init__(learning_rate, betas, eps)

    def next_value(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        b1, b2 = self.betas
        state["m"] = b1 * state["m"] + (1 - b1) * gradient
        state["v"] = mx.maximum(b2 * state["v"], mx.abs(gradient))
        return parameter - self._rate(gradient.dtype) * state["m"] / (state["v"] + self.eps)
