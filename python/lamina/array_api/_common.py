"""What the parts of the namespace share: devices, axes, and dtypes of results."""

from __future__ import annotations

from typing import Any

import lamina.core as mx

Array = mx.array
Device = mx.Device | mx.DeviceType
# The dtype of positions and counts.
INDEX = mx.int64


def check_device(where: str, device: Any) -> None:
    """There is one memory: any device that can be used holds the result."""
    if device is None:
        return
    if not isinstance(device, mx.Device | mx.DeviceType):
        raise TypeError(f"{where}: device must be a lamina Device or None, got {type(device).__name__}")
    if not mx.is_available(device):
        raise ValueError(f"{where}: {device} is not available")


def positive_axis(where: str, axis: int, ndim: int) -> int:
    """The axis counted from the front."""
    if not -ndim <= axis < ndim:
        raise ValueError(f"{where}: axis {axis} is out of bounds for an array with {ndim} axes")
    return axis % ndim


def as_array(x: Any, like: mx.array) -> mx.array:
    """A Python number in the dtype that it takes beside `like`; arrays as they are."""
    return x if isinstance(x, mx.array) else (mx.zeros((), like.dtype) + x)
