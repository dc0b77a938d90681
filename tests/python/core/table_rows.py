"""The rows of the op tables (cpp/src/ops/*.def) as records, and operands in five layouts to try them on."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lamina.core as mx
import ml_dtypes
import numpy as np
from core.core_cases import FLOATS, INTEGERS, NUMPY_DTYPES

TABLES = Path(__file__).parents[3] / "cpp" / "src" / "ops"

SIGNED = [n for n in INTEGERS if n.startswith("int")]
UNSIGNED = [n for n in INTEGERS if n.startswith("uint")]
DTYPES = list(NUMPY_DTYPES)
INEXACT = [*FLOATS, "complex64"]
# The sets that the tables name (include/lamina/dtype.h).
DTYPE_SETS = {
    "kBoolOnly": ["bool_"],
    "kIntegers": INTEGERS,
    "kFloating": FLOATS,
    "kInexact": INEXACT,
    "kReal": [*INTEGERS, *FLOATS],
    "kNumeric": [*INTEGERS, *INEXACT],
    "kBitwise": [*INTEGERS, "bool_"],
    "kAnyDtype": DTYPES,
}
EPS = {n: float(ml_dtypes.finfo(NUMPY_DTYPES[n]).eps) for n in FLOATS} | {"complex64": 2.0**-23}


@dataclass(frozen=True)
class Row:
    """One row of a table. Structured rows have a family only."""

    op: str
    name: str
    family: str = ""
    dtypes: frozenset[str] = frozenset()
    result: str = "kSame"
    low: float = -1e30
    high: float = 1e30
    ulp: int = 0

    def computes_in(self, dtype: str) -> str | None:
        """The dtype that operands of `dtype` are computed in; None where the op refuses them."""
        if dtype in self.dtypes:
            return dtype
        if self.name == "negative" and dtype == "bool_":
            return None
        if dtype not in INEXACT and "float32" in self.dtypes:
            return "float32"
        return "int32" if dtype == "bool_" and "int32" in self.dtypes else None

    def result_of(self, compute: str) -> str:
        """The dtype of the result where the op computes in `compute`."""
        if self.result == "kBool":
            return "bool_"
        if self.result == "kWiden":
            return widened(compute)
        return "float32" if self.result == "kRealPart" and compute == "complex64" else compute


def widened(dtype: str) -> str:
    """What sums and products of `dtype` accumulate in."""
    if dtype in ("bool_", "int8", "int16"):
        return "int32"
    return "uint32" if dtype in ("uint8", "uint16") else dtype


def cells(line: str) -> list[str]:
    """The arguments of a macro call: split at the commas outside parentheses and quotes."""
    out, depth, quoted = [""], 0, False
    for c in line:
        quoted ^= c == '"'
        depth += 0 if quoted else (c == "(") - (c == ")")
        if c == "," and depth == 0 and not quoted:
            out.append("")
        else:
            out[-1] += c
    return [cell.strip() for cell in out]


def table(file: str, macro: str) -> list[list[str]]:
    """The cells of every row of one table."""
    text = (TABLES / f"{file}.def").read_text(encoding="utf-8")
    return [cells(m[1]) for m in re.finditer(rf"^{macro}\((.*)\)$", text, re.MULTILINE)]


def dtype_set(cell: str) -> frozenset[str]:
    """The dtypes that `kReal | kBoolOnly` names."""
    return frozenset(name for part in cell.split("|") for name in DTYPE_SETS[part.strip()])


def elementwise(file: str, macro: str) -> list[Row]:
    """Rows with a range and a bound in ULP."""
    rows = []
    for op, name, dtypes, result, _, limits, ulp, _ in table(file, macro):
        found = re.fullmatch(r"range\((.+), (.+)\)", limits)
        assert found, limits
        rows.append(Row(op, name, "", dtype_set(dtypes), result, float(found[1]), float(found[2]), int(ulp)))
    return rows


UNARY = elementwise("unary", "UNARY")
BINARY = elementwise("binary", "BINARY")
TERNARY = [Row(op, name, "", dtype_set(d), r) for op, name, d, r, *_ in table("ternary", "TERNARY")]
REDUCE = [Row(op, name, "", dtype_set(d), r) for op, name, d, r, *_ in table("reduce", "REDUCE")]
STRUCTURED = [Row(op, name, family) for op, name, family, _ in table("structured", "STRUCTURED")]
# Rows whose values, gradients and errors have files of their own: test_linalg.py and test_fft.py.
LINALG = {"Fft", "Cholesky", "Solve", "SolveTriangular", "Lu", "Qr", "Svd", "Eigh", "Eig"}


def by_name(rows: list[Row]) -> dict[str, Any]:
    """Arguments of pytest.mark.parametrize for a test of every row."""
    return {"argnames": "row", "argvalues": rows, "ids": [r.name for r in rows]}


def rng_of(*parts: object) -> np.random.Generator:
    """A generator of its own for each case, the same in every process."""
    return np.random.default_rng(zlib.crc32(repr(parts).encode()))


# ---- operands

SPECIAL = [0.0, 1e-30, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.5, 7.0, 31.0, 88.5, 1e5, 1e10, 1e30]


def specials(dtype: str) -> np.ndarray:
    """The numbers of a dtype where functions have their corners."""
    t = NUMPY_DTYPES[dtype]
    if dtype == "bool_":
        return np.array([False, True])
    if dtype in INTEGERS:
        info = np.iinfo(t)
        near = [info.min, info.min + 1, info.max - 1, info.max, 0, 1, 2, 3, 5, 7, 8, 31, 32, 63, 64, 100]
        return np.array(near + [-1, -2, -7] * (dtype in SIGNED), t)
    if dtype == "complex64":
        parts = [0.0, -0.0, 1.0, -1.0, 2.5]
        return np.array([complex(re, im) for re in parts for im in (0.0, 1.0, -1.0, 0.5)], t)
    info = ml_dtypes.finfo(t)
    ends = [float(v) for v in (info.smallest_subnormal, info.smallest_normal, info.eps, info.max)]
    with np.errstate(over="ignore", under="ignore"):
        v = np.array([*SPECIAL, *ends, np.inf], np.float64).astype(t)
    return np.concatenate([v, -v, np.array([np.nan], t)])


def draws(rng: np.random.Generator, dtype: str, n: int, low: float, high: float) -> np.ndarray:
    """n numbers within a range: half of them uniform, half uniform in the logarithm of the magnitude."""
    t = NUMPY_DTYPES[dtype]
    if dtype == "bool_":
        return rng.random(n) < 0.5
    if dtype in INTEGERS:
        whole = rng.integers(np.iinfo(t).min, np.iinfo(t).max, n, t, endpoint=True)
        return np.where(rng.random(n) < 0.5, whole, rng.integers(-65, 65, n).astype(t))
    if dtype == "complex64":
        low, high = max(low, -4.0), min(high, 4.0)
        return (rng.uniform(low, high, n) + 1j * rng.uniform(low, high, n)).astype(t)
    most = float(ml_dtypes.finfo(t).max)
    low, high = max(low, -most), min(high, most)
    least = max(abs(low) if low > 0 else 0.0, float(ml_dtypes.finfo(t).smallest_normal), 1e-38)
    top = max(abs(low), abs(high))
    size = np.exp(rng.uniform(np.log(least), np.log(top), n))
    signed = np.clip(np.where(rng.random(n) < 0.5, size, -size), low, high)
    return np.where(rng.random(n) < 0.5, signed, rng.uniform(low, high, n)).astype(t)


# More than one tile of every dtype, and neither length a multiple of a vector.
SHAPE = (37, 61)


def operands(
    row: Row, dtype: str, count: int, shape: tuple[int, ...] = SHAPE, narrow: float = np.inf
) -> list[np.ndarray]:
    """Operands with every combination of special numbers, the rest drawn; one fixed shuffle."""
    rng = rng_of(row.name, dtype, count)
    n = int(np.prod(shape))
    corner = specials(dtype)
    if narrow < np.inf:
        corner = corner[np.abs(corner) <= narrow]
    grid = np.meshgrid(*[corner] * count, indexing="ij")
    low, high = max(row.low, -narrow), min(row.high, narrow)
    order = rng.permutation(n)
    out = []
    for part in grid:
        rest = draws(rng, dtype, max(0, n - part.size), low, high)
        out.append(np.concatenate([part.ravel()[:n], rest])[order].reshape(shape))
    return out


# ---- layouts

Pick = Callable[[np.ndarray], np.ndarray]
Laid = tuple[mx.array, Pick]
LAYOUTS = ["contiguous", "transposed", "stepped", "reversed", "broadcast"]


def whole(a: np.ndarray) -> np.ndarray:
    return a


def first_line(a: np.ndarray) -> np.ndarray:
    """The values of the broadcast layout: the first line along axis 0, everywhere."""
    return np.broadcast_to(a[:1], a.shape)


def of(values: np.ndarray) -> mx.array:
    """The values as an array of the same dtype; float64 too, which array() alone would narrow."""
    name = values.dtype.name
    return mx.array(values, getattr(mx, "bool_" if name == "bool" else name))


def laid_out(values: np.ndarray, layout: str) -> Laid:
    """The values as an array of that layout, and what the layout makes of the same values in NumPy."""
    if layout == "contiguous" or values.ndim == 0:
        return of(values), whole
    if layout == "transposed":
        return mx.transpose(of(np.ascontiguousarray(values.T))), whole
    if layout == "stepped":
        # The gaps hold a number that would be noticed.
        big = np.full([2 * n + 3 for n in values.shape], 77).astype(values.dtype)
        at = tuple(slice(2, 2 + 2 * n, 2) for n in values.shape)
        big[at] = values
        return of(big)[at], whole
    if layout == "reversed":
        back = (slice(None, None, -1),) * values.ndim
        return of(np.ascontiguousarray(values[back]))[back], whole
    return mx.broadcast_to(of(np.ascontiguousarray(values[:1])), values.shape), first_line


# ---- comparison


def rank(a: np.ndarray) -> np.ndarray:
    """Floats of one dtype as whole numbers in their order, neighbours one apart, both zeros at 0."""
    integer = {2: np.int16, 4: np.int32, 8: np.int64}[a.itemsize]
    bits = np.ascontiguousarray(a).view(integer)
    return np.where(bits < 0, np.iinfo(integer).min - bits, bits).astype(np.longdouble)


def steps_off(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """How many representable numbers lie between two arrays, element by element; 0 for two NaNs."""
    nans = np.isnan(got).astype(int) + np.isnan(want)
    return np.where(nans == 2, 0, np.where(nans == 1, np.inf, np.abs(rank(got) - rank(want))))


def report(label: str, bad: np.ndarray, got: np.ndarray, want: np.ndarray, xs: list[np.ndarray]) -> str:
    """One failing element in words."""
    at = tuple(int(i[0]) for i in np.nonzero(bad))
    given = ", ".join(repr(np.broadcast_to(x, bad.shape)[at]) for x in xs)
    return f"{label}: {int(bad.sum())} wrong; ({given}) gives {got[at]!r}, not {want[at]!r}"
