"""Calls as plain data, which two interpreters with different packages can both make.

Nothing here imports an array library beside NumPy: the process of the peer loads this file too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from . import composed

VIEWS = ("plain", "transposed", "stepped", "reversed", "broadcast")


@dataclass(frozen=True)
class Operand:
    """An array argument: its values (bfloat16 as float32 numbers that it holds), dtype, and layout."""

    values: np.ndarray
    dtype: str
    view: str = "plain"

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.values.shape)}" + ("" if self.view == "plain" else f".{self.view}")


@dataclass(frozen=True)
class Name:
    """An attribute of the array module, such as a dtype."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Call:
    """One call: the dotted name below the array module; `array.` names are methods of the first argument."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [spelled(a) for a in self.args] + [f"{k}={spelled(v)}" for k, v in self.kwargs.items()]
        return f"{self.name}({', '.join(parts)})"


@dataclass(frozen=True)
class Value:
    """One array of a result; bfloat16 numbers are kept as float32."""

    dtype: str
    values: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What a call gave: results (arrays, and plain values), or the names of the error's classes."""

    results: tuple[Any, ...] = ()
    error: tuple[str, ...] = ()
    message: str = ""


def spelled(value: Any) -> str:
    """An argument in a line of a report."""
    if isinstance(value, list):
        return "[" + ", ".join(map(spelled, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(spelled, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return str(value) if isinstance(value, (Operand, Name)) else repr(value)


def operands(value: Any) -> list[Operand]:
    """All array arguments below a value."""
    if isinstance(value, Operand):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [x for v in value for x in operands(v)] if isinstance(value, (list, tuple)) else []


def built(mx: Any, operand: Operand) -> Any:
    """The operand as an array of the module, in its layout."""
    values, dtype = operand.values, getattr(mx, operand.dtype)

    def array(v: np.ndarray) -> Any:
        # A copy in C order: one element alone counts as contiguous whatever its strides.
        v = np.array(v, order="C").copy()
        if v.dtype == np.float64:
            # array() alone would narrow to float32; two halves carry all 53 bits in both libraries.
            return mx.view(mx.array(v.reshape(-1).view(np.int64)), dtype).reshape(v.shape)
        return mx.array(v).astype(dtype)

    if operand.view == "transposed":
        return mx.transpose(array(values.T))
    if operand.view == "stepped":
        big = np.full([2 * n + 1 for n in values.shape], 7).astype(values.dtype)
        at = tuple(slice(1, 1 + 2 * n, 2) for n in values.shape)
        big[at] = values
        return array(big)[at]
    if operand.view == "reversed":
        back = (slice(None, None, -1),) * values.ndim
        return array(values[back])[back]
    if operand.view == "broadcast":
        return mx.broadcast_to(array(values[:1]), values.shape)
    return array(values)


def given(mx: Any, value: Any) -> Any:
    """An argument of a call as the module takes it."""
    if isinstance(value, Operand):
        return built(mx, value)
    if isinstance(value, Name):
        return getattr(mx, value.name)
    if isinstance(value, (list, tuple)):
        return type(value)(given(mx, v) for v in value)
    return value


def taken(mx: Any, value: Any) -> list[Any]:
    """A result as plain data: arrays as `Value`, containers flattened."""
    if isinstance(value, mx.array):
        dtype = str(value.dtype).rpartition(".")[2]
        # Evaluated first: fused with the conversion, 16-bit numbers might not be rounded.
        mx.eval(value)
        plain = value.astype(mx.float32) if dtype == "bfloat16" else value
        return [Value(dtype, np.array(plain))]
    if isinstance(value, mx.Dtype):
        return [str(value).rpartition(".")[2]]
    if isinstance(value, (list, tuple)):
        return [f"{len(value)} parts", *(x for v in value for x in taken(mx, v))]
    return [value]


def outcome(mx: Any, call: Call) -> Outcome:
    """Makes a call, and evaluates what it gives."""
    args = [given(mx, a) for a in call.args]
    kwargs = {k: given(mx, v) for k, v in call.kwargs.items()}
    try:
        with np.errstate(all="ignore"):
            return Outcome(tuple(taken(mx, invoked(mx, call.name, args, kwargs))))
    except Exception as error:
        classes = tuple(c.__name__ for c in type(error).__mro__)
        return Outcome(error=classes, message=str(error))


def invoked(mx: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The call itself: a function, a method, or a part of the index protocol."""
    if ":" in name:
        return composed.invoked(mx, name, args, kwargs, lambda rest: partial(invoked_plainly, mx, rest))
    return invoked_plainly(mx, name, *args, **kwargs)


def invoked_plainly(mx: Any, called: str, *args: Any, **kwargs: Any) -> Any:
    """A call of one step."""
    parts = called.split(".")
    if parts[0] == "array" and len(parts) == 2:
        return getattr(args[0], parts[1])(*args[1:], **kwargs)
    if parts[0] == "at":
        return getattr(args[0].at[args[1]], parts[1])(*args[2:], **kwargs)
    if called == "setitem":
        a = mx.array(args[0])
        a[args[1]] = args[2]
        return a
    target = mx
    for part in parts:
        target = getattr(target, part)
    result = target(*args, **kwargs)
    # Its other part is a text for people.
    return result[0] if called == "einsum_path" else result
