"""Adafactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lamina.core as mx
from lamina.optimizers._rule import Rule

__all__ = ["Adafactor"]


def _root_mean_square(x: mx.array) -> mx.array:
    return mx.sqrt(mx.mean(mx.square(x)))


class Adafactor(Rule):
    """Adafactor: Adam with the second moments of a matrix kept as row and column means, to save memory.

    The state of a parameter is ``exp_avg_sq_row`` and ``exp_avg_sq_col`` if it has at least two axes, else
    ``exp_avg_sq``, and ``exp_avg`` if ``beta_1`` is given.

    Parameters
    ----------
    learning_rate : float or callable, optional
        The learning rate, or a schedule; used if not ``relative_step``.
    eps : (float, float)
        Added to squared gradients, and the least scale of a parameter.
    clip_threshold : float
        The largest root mean square of an update, before the learning rate.
    decay_rate : float
        The decay rate of the second moments is ``1 - step**decay_rate``.
    beta_1 : float, optional
        Decay rate of the first moment; none is kept if not given.
    weight_decay : float
        Decoupled weight decay.
    scale_parameter : bool
        Whether the learning rate is multiplied by the root mean square of the parameter.
    relative_step : bool
        Whether the learning rate is ``min(0.01, 1 / sqrt(step))``.
    warmup_init : bool
        Whether ``1e-6 * step`` stands for the 0.01 there.

    Raises
    ------
    ValueError
        Neither ``learning_rate`` nor ``relative_step`` is given.

    Examples
    --------
    >>> from lamina import core as mx, optimizers
    >>> optimizer = optimizers.Adafactor()
    >>> w = optimizer.apply_gradients({"w": mx.ones((4, 3))}, {"w": mx.ones((4, 3))})["w"]
    >>> round(w[0, 0].item(), 4), optimizer.state["w"]["exp_avg_sq_row"].shape
    (0.99, (4,))
    """

    def __init__(
        self,
        learning_rate: float | Callable[[mx.array], mx.array] | None = None,
        eps: tuple[float, float] = (1e-30, 1e-3),
        clip_threshold: float = 1.0,
        decay_rate: float = -0.8,
        beta_1: float | None = None,
        weight_decay: float = 0.0,
        scale_parameter: bool = True,
        relative_step: bool = True,
        warmup_init: bool = False,
    ):
        super().__init__()
        if learning_rate is None and not relative_step:
            raise ValueError("[Adafactor] without relative_step a learning_rate is needed, got None")
        if learning_rate is not None:
            self._maybe_schedule("learning_rate", learning_rate)
        self.eps = eps
        self.clip_threshold = clip_threshold
        self.decay_rate = decay_rate
        self.beta_1 = beta_1
        self.weight_decay = weight_decay
        self.scale_parameter = scale_parameter
        self.relative_step = relative_step
        self.warmup_init = warmup_init

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        shape = tuple(parameter.shape)
        if parameter.ndim >= 2:
            state["exp_avg_sq_row"] = mx.zeros(shape[:-1], dtype=parameter.dtype)
            state["exp_avg_sq_col"] = mx.zeros((*shape[:-2], shape[-1]), dtype=parameter.dtype)
        else:
            state["exp_avg_sq"] = mx.zeros_like(parameter)
        if self.beta_1 is not None:
            state["exp_avg"] = mx.zeros_like(parameter)

    def _step_size(self, parameter: mx.array) -> mx.array:
        step = self.step.astype(parameter.dtype)
        if self.relative_step:
            rate = mx.minimum(1e-6 * step if self.warmup_init else 1e-2, mx.rsqrt(step))
        else:
            rate = self._rate(parameter.dtype)
        if self.scale_parameter:
            rate = rate * mx.maximum(self.eps[1], _root_mean_square(parameter))
        return rate

    def _scaled(self, gradient: mx.array, state: dict[str, mx.array]) -> mx.array:
        """The gradient divided by the root of its second moments."""
        keep = 1 - mx.power(self.step.astype(gradient.dtype), self.decay_rate)
        square = mx.square(gradient) + self.eps[0]
        if gradient.ndim < 2:
            state["exp_avg_sq"] = keep * state["exp_avg_sq"] + (1 - keep) * square
            return mx.rsqrt(state["exp_avg_sq"]) * gradient
        rows = keep * state["exp_avg_sq_row"] + (1 - keep) * mx.mean(square, axis=-1)
        columns = keep * state["exp_avg_sq_col"] + (1 - keep) * mx.mean(square, axis=-2)
        state["exp_avg_sq_row"], state["exp_avg_sq_col"] = rows, columns
        relative = rows / mx.mean(rows, axis=-1, keepdims=True)
        return mx.rsqrt(relative)[..., None] * mx.rsqrt(columns)[..., None, :] * gradient

    def next_value(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        rate = self._step_size(parameter)
        update = self._scaled(gradient, state)
        update = rate * update / mx.maximum(1.0, _root_mean_square(update) / self.clip_threshold)
        if self.beta_1 is not None:
            state["exp_avg"] = self.beta_1 * state["exp_avg"] + (1 - self.beta_1) * update
            update = state["exp_avg"]
        if self.weight_decay != 0:
            parameter = parameter * (1 - self.weight_decay * rate)
        return parameter - update
