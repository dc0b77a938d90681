"""Every reduction of the op tables against NumPy: dtypes, layouts, axes, corners, empty and 0-d arrays.

Integers, extrema and truth values are exact. Sums and products of n floats may be off by n roundings, of the
sum of magnitudes or of the product; 16-bit floats are accumulated in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import NUMPY_DTYPES
from core.table_rows import (
    DTYPES,
    EPS,
    FLOATS,
    LAYOUTS,
    REDUCE,
    SIGNED,
    Row,
    by_name,
    draws,
    laid_out,
    of,
    rng_of,
    widened,
)

SHAPE = (5, 7, 61)
AXES: list[Any] = [None, 0, 1, 2, -1, (0, 1), (0, 2), (-2, -1), (2, 0, 1), ()]
# Operands whose products neither vanish nor overflow in any float dtype.
RANGES = {"prod": (0.9, 1.1)}

NumPy = Callable[..., np.ndarray]
ORACLES: dict[str, NumPy] = {
    "sum": np.sum,
    "prod": np.prod,
    "max": np.max,
    "min": np.min,
    "all": np.all,
    "any": np.any,
}


def test_every_row_has_an_oracle() -> None:
    assert {r.name for r in REDUCE} == set(ORACLES)


def result_dtype(row: Row, dtype: str) -> str:
    if row.result == "kBool":
        return "bool_"
    return widened(dtype) if row.result == "kWiden" else dtype


def truth(row: Row, x: np.ndarray, result: str, **options: Any) -> np.ndarray:
    """The oracle in a dtype wide enough; integers wrap around as they do in the result's dtype."""
    accumulate = NUMPY_DTYPES[result]
    if result in FLOATS:
        accumulate = np.longdouble if result == "float64" else np.float64
    elif result == "complex64":
        accumulate = np.complex128
    if row.name in ("sum", "prod"):
        options["dtype"] = accumulate
    with np.errstate(all="ignore"):
        return ORACLES[row.name](x if result == "bool_" else x.astype(accumulate), **options)


def allowed(row: Row, x: np.ndarray, result: str, **options: Any) -> Any:
    """How far the result may be from the truth: n roundings, and one of the result where that is narrower."""
    if row.name not in ("sum", "prod") or result not in EPS:
        return 0.0
    n = np.sum(np.ones(x.shape), **options)
    wide = np.abs(x.astype(np.complex128 if result == "complex64" else np.float64))
    with np.errstate(all="ignore"):
        size = (np.sum if row.name == "sum" else np.prod)(wide, **options)
    # A complex product takes four multiplications and two additions.
    steps = n * (4 if result == "complex64" else 1) * EPS["float64" if result == "float64" else "float32"]
    return (steps + (EPS[result] if result in ("float16", "bfloat16") else 0.0)) * size


def check(row: Row, label: str, got: mx.array, x: np.ndarray, dtype: str, **options: Any) -> None:
    result = result_dtype(row, dtype)
    want = np.asarray(truth(row, x, result, **options))
    out = np.asarray(got)
    assert out.dtype == NUMPY_DTYPES[result], label
    assert out.shape == want.shape, label
    with np.errstate(all="ignore"):
        rounded = want.astype(out.dtype)
        bad = (out != rounded) & ~(np.isnan(out) & np.isnan(rounded))
        if result in EPS:
            near = np.abs(out.astype(want.dtype) - want) <= allowed(row, x, result, **options)
            bad &= ~(near & np.isfinite(rounded))
    assert not bad.any(), f"{row.name} of {label}: {out[bad][:3]}, not {want[bad][:3]}"


def numbers(row: Row, dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    low, high = RANGES.get(row.name, (-8.0, 8.0))
    rng = rng_of(row.name, dtype, shape)
    n = int(np.prod(shape))
    if dtype not in EPS:
        x = draws(rng, dtype, n, 0, 0)
    else:
        x = rng.uniform(low, high, n)
        x = (x + 1j * rng.uniform(-0.3, 0.3, n) if dtype == "complex64" else x).astype(NUMPY_DTYPES[dtype])
    return x.reshape(shape)


@pytest.mark.parametrize(**by_name(REDUCE))
def test_layouts_axes_and_dtypes(row: Row) -> None:
    f = getattr(mx, row.name)
    for dtype in DTYPES:
        x = numbers(row, dtype)
        if dtype not in row.dtypes and result_dtype(row, dtype) not in row.dtypes:
            with pytest.raises(ValueError, match=rf"\[{row.name}\] not defined for dtype"):
                f(of(x))
            continue
        # All and any of lines that hold no zero, one zero, and nothing else.
        x[:2] = x[:2] != 0 if row.result == "kBool" else x[:2]
        x[2] = 0 if row.result == "kBool" else x[2]
        for i, layout in enumerate(LAYOUTS):
            a, pick = laid_out(x, layout)
            for k, axis in enumerate(AXES):
                keep = (i + k) % 2 == 0
                label = f"{dtype}, {layout}, axis {axis}"
                check(row, label, f(a, axis, keep), pick(x), dtype, axis=axis, keepdims=keep)
        line = x[4, 6]
        check(row, f"0-d {dtype}", f(of(line[60])), line[60], dtype, axis=None)
        check(row, f"1-d {dtype}", f(of(line), axis=0), line, dtype, axis=0)


@pytest.mark.parametrize("n", [1, 63, 2049, 200_003])
@pytest.mark.parametrize(**by_name(REDUCE))
def test_long_lines(row: Row, n: int) -> None:
    for dtype in ("bool_", "int8", "int32", "float16", "float32", "float64", "complex64"):
        x = numbers(row, dtype, (n,))
        if dtype in EPS and row.name == "prod":
            x = (x / np.exp(np.log(np.abs(x.astype(np.complex128))).mean())).astype(x.dtype)
        for a, twin in ((of(x), x), (of(x)[::-1], x[::-1]), (of(x)[1::3], x[1::3])):
            if twin.size:
                check(row, f"{dtype}, {n}", getattr(mx, row.name)(a), twin, dtype, axis=None)


@pytest.mark.parametrize(**by_name(REDUCE))
def test_special_numbers(row: Row) -> None:
    lines = [
        [np.nan, 1, 2, 3],
        [1, np.inf, 2, 3],
        [1, -np.inf, np.inf, 3],
        [np.inf, np.nan, 0, -np.inf],
        [0.0, 0.0, 0.0, -0.0],
        [1, 2, 3, np.nan],
    ]
    for dtype in [*FLOATS, "complex64"]:
        # As lines of one vector and as longer ones, special numbers at the front and at the end.
        for width in (4, 37):
            x = np.ones((len(lines), width), NUMPY_DTYPES[dtype])
            x[:, :2] = np.array(lines)[:, :2]
            x[:, -2:] = np.array(lines)[:, 2:]
            if dtype == "complex64" and row.name == "prod":
                x = x[[4]]  # infinities times complex numbers are not defined by IEEE
            for axis in (0, 1, None):
                check(row, f"{dtype}, {axis}", getattr(mx, row.name)(of(x), axis), x, dtype, axis=axis)


@pytest.mark.parametrize(**by_name(REDUCE))
def test_extremes_of_integers_wrap_around(row: Row) -> None:
    for dtype in [*SIGNED, "uint8", "uint16", "uint32", "uint64"]:
        t = NUMPY_DTYPES[dtype]
        x = np.array([[np.iinfo(t).max] * 5, [np.iinfo(t).min] * 5, [3] * 5], t)
        for axis in (0, 1, None):
            check(row, f"{dtype}, {axis}", getattr(mx, row.name)(of(x), axis), x, dtype, axis=axis)


@pytest.mark.parametrize(**by_name(REDUCE))
def test_empty(row: Row) -> None:
    f = getattr(mx, row.name)
    for dtype in ("bool_", "int32", "float16", "float32", "complex64"):
        x = np.zeros((3, 0, 2), NUMPY_DTYPES[dtype])
        if row.result != "kSame":
            for axis in (0, 1, 2, (0, 2), (0, 1), None):
                check(row, dtype, f(of(x), axis), x, dtype, axis=axis)
            continue
        for axis in (0, 2, (0, 2)):
            check(row, dtype, f(of(x), axis), x, dtype, axis=axis)
        with pytest.raises(
            ValueError, match=rf"\[{row.name}\] no extremum along axis 1 of shape \(3, 0, 2\)"
        ):
            f(of(x), axis=1)
        with pytest.raises(
            ValueError, match=rf"\[{row.name}\] no extremum along axis 1 of shape \(3, 0, 2\)"
        ):
            f(of(x))


@pytest.mark.parametrize(**by_name(REDUCE))
def test_wrong_axes(row: Row) -> None:
    f = getattr(mx, row.name)
    with pytest.raises(ValueError, match=rf"\[{row.name}\] axis 2 is out of bounds for an array with 2 axes"):
        f(mx.zeros((2, 3)), axis=2)
    with pytest.raises(ValueError, match=rf"\[{row.name}\] axes \(0, -2\) name an axis twice"):
        f(mx.zeros((2, 3)), axis=(0, -2))
    with pytest.raises(TypeError, match=rf"{row.name}\(\): argument 'axis' wants"):
        f(mx.zeros((2, 3)), axis=1.5)
