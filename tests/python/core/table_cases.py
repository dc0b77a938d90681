"""Cases of ops that compute: operands, the call, and a NumPy oracle with the error that it allows.

Bounds: a sum of n products may be off by n roundings of the accumulator (float32, or float64 for float64) of
the sum of magnitudes, and by one rounding of the result where that is narrower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from core.core_cases import NUMPY_DTYPES
from core.table_rows import DTYPES, EPS, draws, specials

HALVES = ["float32", "float16", "bfloat16"]
# What an oracle gives for each output: the value in its dtype or a wider one, and how far off it may be.
Wanted = list[tuple[np.ndarray, Any]]


@dataclass(frozen=True)
class Kernel:
    """One call: `make(rng, dtype)` gives NumPy operands, `theirs(dtype, *operands)` what is wanted of it."""

    label: str
    make: Callable[[np.random.Generator, str], list[np.ndarray]]
    ours: Callable[..., Any]
    theirs: Callable[..., Wanted]
    dtypes: Sequence[str] = tuple(DTYPES)
    results: Callable[[str], list[str]] = lambda dtype: [dtype]


def accumulator_eps(dtype: str) -> float:
    """One rounding of what sums of that dtype are kept in."""
    return EPS["float64" if dtype == "float64" else "float32"]


def rounding(dtype: str) -> float:
    """One rounding of a result of that dtype, where sums are kept in a wider one."""
    return EPS[dtype] if dtype in ("float16", "bfloat16") else 0.0


def wide(x: np.ndarray) -> np.ndarray:
    """Numbers in a dtype that holds their products without much rounding."""
    if x.dtype == np.complex64:
        return x.astype(np.complex128)
    return x.astype(np.longdouble if x.dtype == np.float64 else np.float64)


def normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator, str], list[np.ndarray]]:
    """Operands of these shapes: standard normal numbers, or any integers."""

    def make(rng: np.random.Generator, dtype: str) -> list[np.ndarray]:
        out = []
        for shape in shapes:
            n = int(np.prod(shape))
            if dtype in EPS:
                x = rng.standard_normal(n) + (1j * rng.standard_normal(n) if dtype == "complex64" else 0)
            else:
                x = draws(rng, dtype, n, 0, 0)
            out.append(x.astype(NUMPY_DTYPES[dtype]).reshape(shape))
        return out

    return make


def mild(shape: tuple[int, ...]) -> Callable[[np.random.Generator, str], list[np.ndarray]]:
    """One operand whose long products neither vanish nor overflow; any integers."""

    def make(rng: np.random.Generator, dtype: str) -> list[np.ndarray]:
        (x,) = normal(shape)(rng, dtype)
        if dtype in EPS:
            x = (np.exp(rng.uniform(-0.2, 0.2, shape)) * np.sign(wide(x))).astype(x.dtype)
        return [x]

    return make


def special(shape: tuple[int, ...]) -> Callable[[np.random.Generator, str], list[np.ndarray]]:
    """One operand with many equal and special numbers."""

    def make(rng: np.random.Generator, dtype: str) -> list[np.ndarray]:
        few = specials(dtype)
        if dtype == "complex64":
            few = few[::3]
        n = int(np.prod(shape))
        return [rng.permutation(np.concatenate([few, rng.choice(few, n)])[:n]).reshape(shape)]

    return make
