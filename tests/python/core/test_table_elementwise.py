"""Every unary, binary and ternary row of the op tables against NumPy: dtypes, layouts, corners, shapes.

Rows with a bound of 0 ULP are exact. Others are held to the table's bound in float32 and float64; 16-bit
floats, which are computed in float32 and rounded once, may land on the neighbour.
"""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core import table_oracles
from core.core_cases import NUMPY_DTYPES, short
from core.table_rows import (
    BINARY,
    DTYPES,
    FLOATS,
    LAYOUTS,
    TERNARY,
    UNARY,
    Row,
    by_name,
    laid_out,
    of,
    operands,
    report,
    rng_of,
    steps_off,
)

# Rows that are tried on operands of two dtypes.
MIXED = ["add", "multiply", "divide", "maximum", "less", "equal", "logical_and", "power"]
# Rows whose complex results cancel or blow up away from small numbers: operands no larger than this.
NARROW = {"power": 3.0, "tan": 3.0, "logaddexp": 4.0}


def test_every_row_has_an_oracle() -> None:
    for rows, oracles in (
        (UNARY, table_oracles.UNARY),
        (BINARY, table_oracles.BINARY),
        (TERNARY, table_oracles.TERNARY),
    ):
        assert {r.name for r in rows} == set(oracles)


def as_computed(x: np.ndarray, compute: str) -> np.ndarray:
    """Operands as the op sees them: 16-bit floats are widened to float32."""
    compute = "float32" if compute in ("float16", "bfloat16") else compute
    with np.errstate(all="ignore"):
        return x.astype(NUMPY_DTYPES[compute])


def wanted(row: Row, want: Any, compute: str) -> np.ndarray:
    """The truth in the row's result dtype, rounded through float32 where 16-bit floats are."""
    with np.errstate(all="ignore"):
        if compute in ("float16", "bfloat16"):
            want = want.astype(np.float32) if want.dtype != np.bool_ else want
        return want.astype(NUMPY_DTYPES[row.result_of(compute)])


def wrong_floats(row: Row, got: np.ndarray, want: np.ndarray, compute: str) -> np.ndarray:
    """Which results are further from the rounded truth than the row allows, or have the wrong zero."""
    half = compute in ("float16", "bfloat16")
    bad = steps_off(got, want) > (min(row.ulp, 1) if half else row.ulp)
    zero = (want == 0) & (np.signbit(got) != np.signbit(want))
    # Which of two zeros is the larger is left open.
    bad |= zero if row.name not in ("maximum", "minimum") else False
    if row.name == "logaddexp":
        # The sum cancels where the operands are negative: there the error is measured against 1.
        eps = float(np.finfo(np.float32 if half else got.dtype).eps)
        with np.errstate(all="ignore"):
            bad &= ~(np.abs(got.astype(np.float64) - want.astype(np.float64)) <= (row.ulp + 1) * eps)
    return bad


def wrong_complex(row: Row, got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Rounding is small against the whole number; its parts may be off by a few more."""
    bound = (row.ulp + 8) * (2.0**-23 * np.abs(want) + 2.0**-149)
    with np.errstate(all="ignore"):
        near = np.abs(got.astype(np.complex128) - want) <= bound
        fits = np.isfinite(want.astype(np.complex64))
    return np.where(fits, ~near, np.isfinite(got))


def check(row: Row, label: str, got: mx.array, want: Any, compute: str, xs: list[np.ndarray]) -> None:
    out = np.asarray(got)
    result = row.result_of(compute)
    assert out.dtype == NUMPY_DTYPES[result], label
    assert out.shape == want.shape, label
    if result == "complex64":
        bad = wrong_complex(row, out, want)
    elif result in FLOATS:
        want = wanted(row, want, compute)
        bad = wrong_floats(row, out, want, compute)
    else:
        bad = out != want
    assert not bad.any(), report(f"{row.name} of {label}", bad, out, want, xs)


def refuse(row: Row, dtype: str, *xs: np.ndarray) -> None:
    """A dtype outside the row's is refused by an error that names the op and the dtype."""
    name = "bool" if dtype == "bool_" else dtype
    with pytest.raises(ValueError, match=rf"\[{row.name}\] not defined for dtype {name}\b"):
        function(row)(*[of(x) for x in xs])


def function(row: Row) -> Any:
    return getattr(mx, row.name)


@pytest.mark.parametrize(**by_name(UNARY))
def test_unary(row: Row) -> None:
    oracle = table_oracles.UNARY[row.name]
    for dtype in DTYPES:
        narrow = NARROW.get(row.name, np.inf) if dtype == "complex64" else np.inf
        (x,) = operands(row, dtype, 1, narrow=narrow)
        compute = row.computes_in(dtype)
        if compute is None:
            refuse(row, dtype, x)
            continue
        want = table_oracles.truth(oracle, [as_computed(x, compute)], row.ulp == 0)
        for layout in LAYOUTS:
            a, pick = laid_out(x, layout)
            check(row, f"{dtype}, {layout}", function(row)(a), pick(want), compute, [pick(x)])
        for shape in ((0,), (3, 0)):
            empty = np.zeros(shape, x.dtype)
            check(row, dtype, function(row)(of(empty)), empty != 0, compute, [empty])
        for i in range(3):
            check(row, f"0-d {dtype}", function(row)(of(x[i, i])), want[i, i], compute, [x[i, i]])


# Layouts of the two operands: alike, and each beside the next one.
PAIRS = [*zip(LAYOUTS, LAYOUTS, strict=True), *zip(LAYOUTS, LAYOUTS[1:] + LAYOUTS[:1], strict=True)]


@pytest.mark.parametrize(**by_name(BINARY))
def test_binary(row: Row) -> None:
    oracle = table_oracles.BINARY[row.name]
    for dtype in DTYPES:
        narrow = NARROW.get(row.name, np.inf) if dtype == "complex64" else np.inf
        x, y = operands(row, dtype, 2, narrow=narrow)
        compute = row.computes_in(dtype)
        if compute is None:
            refuse(row, dtype, x, y)
            continue

        def expect(*xs: np.ndarray, compute: str = compute) -> Any:
            return table_oracles.truth(oracle, [as_computed(v, compute) for v in xs], row.ulp == 0)

        whole = expect(x, y)
        for left, right in PAIRS:
            (a, pick_a), (b, pick_b) = laid_out(x, left), laid_out(y, right)
            xs = [pick_a(x), pick_b(y)]
            want = whole if "broadcast" not in (left, right) else expect(*xs)
            check(row, f"{dtype}, {left} and {right}", function(row)(a, b), want, compute, xs)
        # A line, a column and a number beside a matrix, on either side.
        for other in (y[0], y[:, :1], y[3, 3]):
            for xs in ((x, other), (other, x)):
                got = function(row)(*[of(v) for v in xs])
                check(row, f"{dtype} {other.shape}", got, expect(*xs), compute, list(xs))
        for shape in ((0,), (3, 0)):
            empty = np.zeros(shape, x.dtype)
            check(row, dtype, function(row)(of(empty), of(y[3, 3])), empty != 0, compute, [empty, y[3, 3]])
        check(row, f"0-d {dtype}", function(row)(of(x[1, 1]), of(y[1, 1])), whole[1, 1], compute, [x, y])


@pytest.mark.parametrize("row", [r for r in BINARY if r.name in MIXED], ids=lambda r: r.name)
def test_mixed_dtypes(row: Row) -> None:
    """Operands of two dtypes are converted to the one that test_golden.py holds them to, then computed."""
    numbers = np.array([[0, 1, 2, 3], [3, 1, 0, 2]])
    for left in DTYPES:
        for right in DTYPES:
            common = short((mx.zeros(0, getattr(mx, left)) + mx.zeros(0, getattr(mx, right))).dtype)
            compute = row.computes_in("bool_" if common == "bool" else common)
            assert compute
            x, y = numbers.astype(NUMPY_DTYPES[left]), numbers.T.astype(NUMPY_DTYPES[right])[:2, :1]
            want = table_oracles.truth(
                table_oracles.BINARY[row.name], [as_computed(v, compute) for v in (x, y)], row.ulp == 0
            )
            check(
                row, f"{left} and {right}", function(row)(of(x).T[::-1].T, of(y)), want[:, ::-1], compute, [x]
            )


@pytest.mark.parametrize(**by_name(TERNARY))
def test_ternary(row: Row) -> None:
    assert row.name == "select"
    for dtype in DTYPES:
        x, y = operands(row, dtype, 2)
        c = rng_of("select", dtype).random(x.shape) < 0.5
        for i, layout in enumerate(LAYOUTS):
            (a, pick_a), (b, pick_b) = laid_out(x, layout), laid_out(y, LAYOUTS[i - 1])
            flag, pick_c = laid_out(c, LAYOUTS[i - 2])
            got = np.asarray(mx.where(flag, a, b))
            want = np.where(pick_c(c), pick_a(x), pick_b(y))
            assert got.dtype == want.dtype
            # Bits move as they are, those of NaNs and zeros too.
            assert got.tobytes() == want.tobytes(), f"{dtype}, {layout}"
        for xs in ((c, x[0], y[:, :1]), (c[0], x, y[3, 3]), (c[3, 3], x[0], y), (c, x[:0], y[:0])):
            xs = xs if xs[1].size else (c[:0], *xs[1:])
            got = np.asarray(mx.where(*[of(v) for v in xs]))
            assert got.tobytes() == np.where(*xs).tobytes()
            assert got.shape == np.where(*xs).shape
        # Any dtype is a condition: true where it is not zero.
        got = mx.where(of(x), of(x), of(y))
        assert np.asarray(got).tobytes() == np.where(x != 0, x, y).tobytes()
        assert mx.where(of(c[0, 0]), of(x[1, 1]), of(y[1, 1])).shape == ()
