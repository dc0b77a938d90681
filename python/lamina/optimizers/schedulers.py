"""Schedules: functions from the number of the step, from 0, to a value such as the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lamina.core as mx

__all__ = ["cosine_decay", "exponential_decay", "join_schedules", "linear_schedule", "step_decay"]


def _require_positive(schedule: str, name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"[{schedule}] {name} must be greater than 0, got {value}")


def exponential_decay(init: float, decay_rate: float) -> Callable[..., Any]:
    """Make the schedule ``init * decay_rate**step``.

    Parameters
    ----------
    init : float
        Value at step 0.
    decay_rate : float
        Factor from step to step.

    Returns
    -------
    callable
        The schedule.

    Examples
    --------
    >>> from lamina import optimizers
    >>> optimizers.exponential_decay(1.0, 0.5)(3)
    0.125
    """

    def schedule(step: Any) -> Any:
        return init * decay_rate**step

    return schedule


def step_decay(init: float, decay_rate: float, step_size: int) -> Callable[..., Any]:
    """Make the schedule ``init * decay_rate**(step // step_size)``.

    Parameters
    ----------
    init : float
        Value at step 0.
    decay_rate : float
        Factor from one run of ``step_size`` steps to the next.
    step_size : int
        Number of steps with one value.

    Returns
    -------
    callable
        The schedule.

    Raises
    ------
    ValueError
        ``step_size`` is not positive.

    Examples
    --------
    >>> from lamina import optimizers
    >>> [optimizers.step_decay(1.0, 0.5, 2)(step) for step in range(4)]
    [1.0, 1.0, 0.5, 0.5]
    """
    _require_positive("step_decay", "step_size", step_size)

    def schedule(step: Any) -> Any:
        return init * decay_rate ** (step // step_size)

    return schedule


def cosine_decay(init: float, decay_steps: int, end: float = 0.0) -> Callable[..., Any]:
    """Make a schedule that falls along half a cosine wave.

    Parameters
    ----------
    init : float
        Value at step 0.
    decay_steps : int
        Number of steps until ``end``; the value stays there.
    end : float
        The final value.

    Returns
    -------
    callable
        The schedule; it returns float32 scalars.

    Raises
    ------
    ValueError
        ``decay_steps`` is not positive.

    Examples
    --------
    >>> from lamina import optimizers
    >>> [round(optimizers.cosine_decay(1.0, 4)(step).item(), 3) for step in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """
    _require_positive("cosine_decay", "decay_steps", decay_steps)

    def schedule(step: Any) -> mx.array:
        done = mx.minimum(mx.array(step), decay_steps).astype(mx.float32)
        return end + (init - end) * 0.5 * (1 + mx.cos(done * (math.pi / decay_steps)))

    return schedule


def linear_schedule(init: float, end: float, steps: int) -> Callable[..., Any]:
    """Make a schedule that goes in equal steps, as for a warm-up.

    Parameters
    ----------
    init : float
        Value at step 0.
    end : float
        The final value.
    steps : int
        Number of steps until ``end``; the value stays there.

    Returns
    -------
    callable
        The schedule; it returns float32 scalars.

    Raises
    ------
    ValueError
        ``steps`` is not positive.

    Examples
    --------
    >>> from lamina import optimizers
    >>> [optimizers.linear_schedule(0.0, 1.0, 4)(step).item() for step in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    _require_positive("linear_schedule", "steps", steps)

    def schedule(step: Any) -> mx.array:
        done = mx.minimum(mx.array(step), steps).astype(mx.float32)
        return done * ((end - init) / steps) + init

    return schedule


def join_schedules(schedules: list[Callable[..., Any]], boundaries: list[int]) -> Callable[..., Any]:
    """Make a schedule of several, one after the other.

    Parameters
    ----------
    schedules : list of callable
        The schedules; each starts at its own step 0.
    boundaries : list of int
        Where the second and the further ones start.

    Returns
    -------
    callable
        The schedule; it returns scalar arrays.

    Raises
    ------
    ValueError
        There is no schedule, or there are not one fewer boundaries than schedules.

    Examples
    --------
    >>> from lamina import optimizers
    >>> warmup = optimizers.linear_schedule(0.0, 1.0, 2)
    >>> both = optimizers.join_schedules([warmup, optimizers.exponential_decay(1.0, 0.5)], [2])
    >>> [both(step).item() for step in range(5)]
    [0.0, 0.5, 1.0, 0.5, 0.25]
    """
    if not schedules:
        raise ValueError("[join_schedules] at least one schedule is needed, got none")
    if len(boundaries) != len(schedules) - 1:
        raise ValueError(
            f"[join_schedules] {len(schedules)} schedules need {len(schedules) - 1} boundaries, got "
            f"{len(boundaries)}"
        )

    def schedule(step: Any) -> Any:
        step = mx.array(step)
        value = schedules[0](step)
        for boundary, following in zip(boundaries, schedules[1:], strict=True):
            # Before its start, the step stays at 0: steps are unsigned.
            since = mx.maximum(step, boundary) - boundary
            value = mx.where(step < boundary, value, following(since))
        return value

    return schedule
