"""What instructions are drawn from: a generator of numbers, and what is known of the values so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lamina.core as mx
import numpy as np

INTEGERS = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
# By profile (instructions.py). The first half is drawn more often.
DTYPES = {
    "a": ["float32", "float32", "float16", "bfloat16", "int32", "bool_", "float64", "complex64", *INTEGERS],
    "b": ["float32", "float32", "float32", "int32", "bool_", "float64", "complex64", *INTEGERS],
    "e": ["float32", "float32", "float32", "int32", "bool_", "float64", "complex64", *INTEGERS],
    "s": ["float32", "float32", "float32", "float16", "bfloat16", "float64"],
}
# More elements than this are seldom worth their time.
MOST_ELEMENTS = 4000

Shapes = tuple[tuple[int, ...], ...]


def short(dtype: mx.Dtype) -> str:
    """'float32' of lamina.core.float32; 'bool_' is spelled as the attribute is."""
    name = str(dtype).rpartition(".")[2]
    return "bool_" if name == "bool" else name


@dataclass(frozen=True)
class Known:
    """What instructions may look at: the shape at every set of lengths, and the dtype."""

    shapes: Shapes
    dtype: str

    @property
    def ndim(self) -> int:
        return len(self.shapes[0])

    @property
    def integer(self) -> bool:
        return self.dtype in INTEGERS


def known(arrays: Sequence[mx.array]) -> Known:
    """One value at every set of lengths."""
    return Known(tuple(tuple(a.shape) for a in arrays), short(arrays[0].dtype))


class Draw:
    """Draws from one generator. `values` grows with the program."""

    def __init__(self, seed: Sequence[int], profile: str = "a") -> None:
        self.rng = np.random.default_rng(seed)
        self.profile = profile
        self.values: list[Known] = []

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def of(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def number(self, low: int, high: int) -> int:
        """A whole number of [low, high]."""
        return int(self.rng.integers(low, high, endpoint=True))

    def dtype(self) -> str:
        return self.of(DTYPES[self.profile])

    def then(self, drawn: Any, use: Callable[[Any], Any]) -> Any:
        return use(drawn)

    def pick(self, wanted: Callable[[Known], Any] | None = None) -> int | None:
        """A value, rather a late one, so that programs become deep."""
        fitting = [i for i, v in enumerate(self.values) if wanted is None or wanted(v)]
        if not fitting:
            return None
        return self.of(fitting[-4:] if self.chance(0.6) else fitting)

    @staticmethod
    def joined(a: Shapes, b: Shapes) -> Shapes:
        """The shapes of a pair that broadcasts."""
        return tuple(tuple(np.broadcast_shapes(x, y)) for x, y in zip(a, b, strict=True))

    @staticmethod
    def broadcasts(a: Shapes, b: Shapes) -> bool:
        """True where the same axes are equal, or of length 1, at every set of lengths."""
        for k in range(1, min(len(a[0]), len(b[0])) + 1):
            x, y = [s[-k] for s in a], [s[-k] for s in b]
            if x != y and any(n != 1 for n in x) and any(n != 1 for n in y):
                return False
        elements = [int(np.prod(s)) for s in Draw.joined(a, b)]
        return max(elements) <= MOST_ELEMENTS
