"""Random arguments: shapes with 0-d, empty and broadcast ones, all dtypes, five layouts, and wrong values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .calls import VIEWS, Name, Operand

INTEGERS = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
FLOATS = ["float16", "bfloat16", "float32", "float64"]
DTYPES = ["bool_", *INTEGERS, *FLOATS, "complex64"]
# Drawn more often: what most calls of users have.
USUAL = ["float32", "int32", "float16", "bfloat16", "bool_"]
WRONG: list[Any] = [None, "x", 1.5, (), object, -1, 99, {}]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, np.inf, -np.inf, np.nan, 1e-3, 100.0]


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers of a dtype in a dtype of NumPy; bfloat16 as float32 with 16 bits cleared."""
    if dtype == "bfloat16":
        with np.errstate(over="ignore"):
            bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        return (bits & np.uint32(0xFFFF0000)).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values).astype(np.bool_ if dtype == "bool_" else getattr(np, dtype))


class Draw:
    """Draws arguments from one generator. `faults` is the probability of each wrong value."""

    def __init__(self, seed: Sequence[int], faults: float = 0.03) -> None:
        self.rng = np.random.default_rng(seed)
        self.faults = faults

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def fault(self) -> bool:
        return self.chance(self.faults)

    def of(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def number(self, low: int, high: int) -> int:
        """A whole number of [low, high]."""
        return int(self.rng.integers(low, high, endpoint=True))

    def dtype(self, options: Sequence[str] = DTYPES) -> str:
        usual = [d for d in USUAL if d in options]
        return self.of(usual) if usual and self.chance(0.4) else self.of(options)

    def dtype_name(self, options: Sequence[str] = DTYPES) -> Name:
        return Name(self.dtype(options))

    def shape(self, low: int = 0, high: int = 4) -> tuple[int, ...]:
        """Mostly short axes; some of length 1, 0 or more than a vector."""
        lengths = [1, 2, 3, 4, 5, 7, 1, 2, 3, 17, 0] if self.chance(0.3) else [1, 2, 3, 4, 5]
        return tuple(self.of(lengths) for _ in range(self.number(low, high)))

    def partner(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that broadcasts with the given one, or by mistake does not."""
        out = [1 if self.chance(0.25) else n for n in shape]
        if self.fault() and out:
            out[-1] += 2
        return tuple(out[self.number(0, len(out)) :] if self.chance(0.3) else out)

    def values(self, shape: tuple[int, ...], dtype: str, special: bool = True) -> np.ndarray:
        n = int(np.prod(shape))
        if dtype == "bool_":
            out = self.rng.random(n) < 0.5
        elif dtype in INTEGERS:
            info = np.iinfo(dtype)
            out = self.rng.integers(0 if dtype[0] == "u" else -6, 10, n)
            if special and self.chance(0.2):
                out = np.where(self.rng.random(n) < 0.3, info.max, out.astype(dtype))
        else:
            out = self.rng.standard_normal(n) * self.of([1, 1, 3])
            if special and self.chance(0.25):
                out = np.where(self.rng.random(n) < 0.3, self.rng.choice(SPECIAL, n), out)
            if dtype == "complex64":
                out = out + 1j * self.rng.standard_normal(n)
        return rounded(out.reshape(shape), dtype)

    def view(self, shape: tuple[int, ...]) -> str:
        return self.of(VIEWS) if shape and self.chance(0.4) else "plain"

    def array(
        self,
        shape: tuple[int, ...] | None = None,
        dtypes: Sequence[str] = DTYPES,
        low: int = 0,
        special: bool = True,
    ) -> Operand:
        shape = self.shape(low) if shape is None else shape
        dtype = self.dtype(dtypes)
        view = self.view(shape)
        values = self.values(shape, dtype, special)
        if view == "broadcast":
            values = np.broadcast_to(values[:1], shape).copy() if shape[0] else values
            view = view if shape[0] else "plain"
        return Operand(values, dtype, view)

    def scalar(self) -> Any:
        return self.of([True, 0, 1, 2, 3, -1, 0.5, -2.5, 1e3])

    def axis(self, ndim: int) -> int:
        """An axis, from either end; by mistake one that is not there."""
        if self.fault() or not ndim:
            return self.of([ndim, -ndim - 1, 7])
        return self.number(-ndim, ndim - 1)

    def axes(self, ndim: int) -> Any:
        """None, one axis, or several; by mistake a repeated one."""
        kind = self.number(0, 3)
        if kind == 0 or not ndim:
            return None
        if kind == 1:
            return self.axis(ndim)
        some = [int(i) for i in self.rng.permutation(ndim)[: self.number(0, ndim)]]
        if some and self.fault():
            some.append(some[0])
        return self.of([list, tuple])(i - ndim if self.chance(0.3) else i for i in some)

    def spoilt(
        self, args: list[Any], kwargs: dict[str, Any], kept: int = 0
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments, or by mistake one too few, too many, or of a wrong type; the first `kept` stay."""
        if not self.fault():
            return args, kwargs
        kind = self.number(0, 3)
        if kind == 0 and len(args) > kept:
            return args[:-1], kwargs
        if kind == 1:
            return args, {**kwargs, "no_such_argument": 1}
        if kind == 2 and len(args) > kept:
            at = self.number(kept, len(args) - 1)
            return [*args[:at], self.of(["x", object]), *args[at + 1 :]], kwargs
        return [*args, *[self.of(["x", object])] * 9], kwargs
