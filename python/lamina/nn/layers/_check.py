"""Argument checks shared by the layers."""

from __future__ import annotations

import operator
from typing import Any

import lamina.core as mx


def positive_int(layer: str, name: str, value: Any) -> int:
    """Return ``value`` as an int of at least 1, or raise an error that names layer and argument."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"[{layer}] {name} must be an integer, got {type(value).__name__}") from None
    if number < 1:
        raise ValueError(f"[{layer}] {name} must be at least 1, got {number}")
    return number


def last_axis(layer: str, x: mx.array, dims: int, name: str = "input") -> None:
    """Raise unless the last axis of ``x`` has ``dims`` entries."""
    if x.ndim == 0 or x.shape[-1] != dims:
        raise ValueError(
            f"[{layer}] the last axis of the {name} must have {dims} entries, got shape {x.shape}"
        )


def ints_per_axis(layer: str, name: str, value: Any, axes: int, least: int) -> tuple[int, ...]:
    """Return ``value``, an int or a sequence of one per axis, as a tuple of ints of at least ``least``."""
    given = value if isinstance(value, (tuple, list)) else [value] * axes
    try:
        numbers = tuple(operator.index(v) for v in given)
    except TypeError:
        numbers = ()
    if len(numbers) != axes:
        raise ValueError(f"[{layer}] {name} must be an integer or a tuple of {axes}, got {value!r}")
    if min(numbers) < least:
        raise ValueError(f"[{layer}] {name} must be at least {least}, got {numbers}")
    return numbers


def group_of_one(where: str, group: mx.distributed.Group | None) -> mx.distributed.Group:
    """The group, or the global one; it must have one process."""
    group = mx.distributed.init() if group is None else group
    size = getattr(group, "size", None)
    if not callable(size):
        raise TypeError(f"{where}: group must be a mx.distributed.Group or None, got {type(group).__name__}")
    if size() != 1:
        raise NotImplementedError(f"{where}: this build has groups of one process, got a group of {size()}")
    return group
