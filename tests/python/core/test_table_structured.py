"""Every structured row of the op tables that moves, places or converts elements against NumPy, bit by bit.

The rows that compute are in test_table_kernels.py.
"""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import ml_dtypes
import numpy as np
import pytest
from core.core_cases import FLOATS, INTEGERS, NUMPY_DTYPES
from core.table_kernels import KERNELS
from core.table_moves import COMBINATIONS, COMBINED_AT, MOVES, Move, index_of, placed, put_along
from core.table_rows import (
    DTYPES,
    LAYOUTS,
    LINALG,
    SIGNED,
    STRUCTURED,
    UNSIGNED,
    draws,
    laid_out,
    of,
    report,
    rng_of,
    specials,
)

# Rows with tests of their own below.
HERE = {"Scalar", "Arange", "Cast"}


def test_every_row_has_a_case() -> None:
    tested = [*MOVES, *KERNELS, *HERE, *LINALG]
    assert sorted(r.op for r in STRUCTURED) == sorted(tested)


def values(dtype: str, shape: tuple[int, ...], seed: object) -> np.ndarray:
    """Numbers of the whole range and special ones, in any order."""
    rng = rng_of(dtype, shape, seed)
    n = int(np.prod(shape))
    both = np.concatenate([specials(dtype), draws(rng, dtype, n, -1e30, 1e30)])
    return rng.permutation(both)[:n].reshape(shape)


def assert_same_bits(label: str, got: mx.array, want: np.ndarray) -> None:
    out = np.asarray(got)
    assert out.dtype == want.dtype, label
    assert got.shape == want.shape, label
    assert out.tobytes() == np.ascontiguousarray(want).tobytes(), label


CASES = [(op, move) for op, moves in MOVES.items() for move in moves]


@pytest.mark.parametrize(("op", "move"), CASES, ids=[f"{op}-{move.label}" for op, move in CASES])
def test_moves(op: str, move: Move) -> None:
    for dtype in DTYPES:
        if not takes(op, move, dtype):
            continue
        for shapes in move.trials:
            xs = [values(dtype, shape, i) for i, shape in enumerate(shapes)]
            for i, layout in enumerate(LAYOUTS):
                # The operands in one layout, and in neighbouring ones.
                for step in (0, 1) if len(xs) > 1 else (0,):
                    laid = [laid_out(x, LAYOUTS[(i + step * k) % 5]) for k, x in enumerate(xs)]
                    twins = [pick(x) for (_, pick), x in zip(laid, xs, strict=True)]
                    got = move.ours(*[a for a, _ in laid])
                    assert_same_bits(f"{dtype}, {layout}, {shapes}", got, move.theirs(*twins))


def takes(op: str, move: Move, dtype: str) -> bool:
    """Whether the case has a meaning for the dtype: gradients are of floats, masks compare without NaN."""
    if op == "Identity":
        return dtype in FLOATS
    return not (op == "ViewAs" and "bytes of a part" in move.label and dtype == "bool_")


@pytest.mark.parametrize("at", COMBINED_AT)
@pytest.mark.parametrize("how", COMBINATIONS)
def test_combining_writes(how: str, at: str) -> None:
    """Whole numbers so small that every float dtype is exact; integers of the whole range wrap around."""
    key, shape = COMBINED_AT[at]
    for dtype in DTYPES[1:]:
        x, y = values(dtype, (3, 4, 5), how), values(dtype, shape, at)
        if dtype not in INTEGERS:
            rng = rng_of(how, at, dtype)
            x, y = (rng.integers(-3, 4, v.shape).astype(v.dtype) for v in (x, y))
        for i, layout in enumerate(LAYOUTS):
            (a, pick), (b, pick_b) = laid_out(x, layout), laid_out(y, LAYOUTS[i - 1])
            want = np.array(pick(x))
            with np.errstate(all="ignore"):
                COMBINATIONS[how].at(want, key, pick_b(y))
            got = getattr(a.at[index_of(mx, key)], how)(b)
            assert_same_bits(f"{dtype}, {layout}", got, want)


def test_combining_writes_of_booleans() -> None:
    x = np.array([True, False, True, False])
    for how, want in (("add", [1, 1, 1, 0]), ("multiply", [1, 0, 0, 0]), ("maximum", [1, 1, 1, 0])):
        got = getattr(of(x).at[mx.array([1, 2])], how)(of(np.array([True, False])))
        assert_same_bits(how, got, np.array(want, bool))


def added(a: np.ndarray, key: Any, value: float) -> np.ndarray:
    out = a.copy()
    np.add.at(out, key, a.dtype.type(value))
    return out


# By an array i of integers, in both libraries.
INDEXING: dict[str, tuple[Any, Any]] = {
    "take": (lambda a, i: mx.take(a, i, axis=1), lambda a, i: a.take(i, 1)),
    "read": (lambda a, i: a[i, 1:], lambda a, i: a[i, 1:]),
    "pairs": (lambda a, i: a[i, i], lambda a, i: a[i, i]),
    "write": (lambda a, i: placed(mx, a, (i,), 7.0), lambda a, i: placed(np, a, (i,), 7.0)),
    "add": (lambda a, i: a.at[:, i].add(2.0), lambda a, i: added(a, (slice(None), i), 2.0)),
    "take_along_axis": (
        lambda a, i: mx.take_along_axis(a, i, axis=0),
        lambda a, i: np.take_along_axis(a, i, axis=0),
    ),
    "put_along_axis": (
        lambda a, i: mx.put_along_axis(a, i, mx.array(7.0), axis=0),
        lambda a, i: put_along(a, i, np.float32(7.0), 0),
    ),
}


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("how", INDEXING)
def test_index_arrays(how: str, dtype: str) -> None:
    """Indices of every integer dtype, in five layouts; those out of bounds are named, however large."""
    ours, theirs = INDEXING[how]
    x = np.arange(20, dtype=np.float32).reshape(4, 5)
    low = -4 if dtype in SIGNED else 0
    i = rng_of(how, dtype).integers(low, 4, (3, 5)).astype(NUMPY_DTYPES[dtype])
    for layout in LAYOUTS:
        index, pick = laid_out(i, layout)
        got = ours(of(x), index)
        assert_same_bits(f"{how}, {layout}", got, theirs(x, pick(i).astype(np.int64)))
    limits = np.iinfo(NUMPY_DTYPES[dtype])
    for value in (limits.max, limits.min) if dtype in SIGNED else (limits.max,):
        i[1, 2] = value
        bad = ours(of(x), of(i))
        with pytest.raises(IndexError, match=f"index {value} is out of bounds for axis . of length"):
            mx.eval(bad)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scalars(dtype: str) -> None:
    t, twin = getattr(mx, dtype), NUMPY_DTYPES[dtype]
    for value in (True, 0, 3, 2.5, float("nan"), -1):
        if not isinstance(value, float) and (value >= 0 or dtype not in ["bool_", *UNSIGNED]):
            for shape in ((), (2, 0), (2, 3)):
                assert_same_bits(f"{value}", mx.full(shape, value, t), np.full(shape, value, twin))
            zeros = mx.zeros((2, 3), t) if dtype != "bool_" else mx.zeros((2, 3), mx.int32)
            assert_same_bits(
                "sum", zeros + value, np.asarray(zeros) + np.asarray(value, np.asarray(zeros).dtype)
            )
        elif dtype not in ["bool_", *INTEGERS]:
            assert_same_bits(f"{value}", mx.array(value, t), np.asarray(value, twin))


@pytest.mark.parametrize("dtype", DTYPES)
def test_arange(dtype: str) -> None:
    t = getattr(mx, dtype)
    if dtype == "bool_":
        with pytest.raises(ValueError, match=r"\[arange\] not defined for dtype bool"):
            mx.arange(3, dtype=t)
        return
    steps = [(0, 200, 1), (5, 100, 3), (3, 3, 1), (7, 2, 1), (100, 1, -7)]
    for start, stop, step in steps:
        got = mx.arange(start, stop, step, dtype=t)
        want = np.arange(start, stop, step).astype(NUMPY_DTYPES[dtype])
        assert_same_bits(f"{start}:{stop}:{step}", got, want)
        assert_same_bits("turned", got[::-1] if got.size else got, want[::-1])


# ---- conversions


def converted(x: np.ndarray, to: str) -> np.ndarray:
    """NumPy's conversion; of floats to integers and to 16 bits the rules that lamina documents."""
    t = NUMPY_DTYPES[to]
    if x.dtype == np.complex64 and to not in ("complex64", "bool_"):
        x = x.real
    if x.dtype == ml_dtypes.bfloat16:
        x = x.astype(np.float32)
    if x.dtype.kind == "f" and to in INTEGERS:
        return as_integer(x, to)
    with np.errstate(all="ignore"):
        if to in ("float16", "bfloat16") and x.dtype.kind in "iuf" and x.dtype.itemsize >= 4:
            return rounded_once(x, t)
        return x.astype(t)


def rounded_once(x: np.ndarray, t: Any) -> np.ndarray:
    """To 16 bits with one rounding: of the neighbours of a first guess the nearest, of two the even one."""
    wide = x.astype(np.longdouble)
    guess = x.astype(np.float32).astype(t)
    best, off = guess, np.abs(guess.astype(np.longdouble) - wide)
    bits = guess.view(np.uint16)
    for step in (1, -1):
        near = np.where(np.isfinite(guess), bits + np.uint16(step % 2**16), bits).astype(np.uint16).view(t)
        gap = np.abs(near.astype(np.longdouble) - wide)
        even = near.view(np.uint16) % 2 == 0
        better = np.isfinite(near) & ((gap < off) | ((gap == off) & even & (best != near)))
        best, off = np.where(better, near, best), np.where(better, gap, off)
    return np.where(np.isfinite(guess), best, guess)


def as_integer(x: np.ndarray, to: str) -> np.ndarray:
    """Truncated by way of int32, or of int64 for wider targets; what does not fit there is its smallest."""
    wide = x.astype(np.longdouble)
    via = np.int64 if to in ("int64", "uint64", "uint32") else np.int32
    fits = (np.trunc(wide) >= np.iinfo(via).min) & (np.trunc(wide) <= np.iinfo(via).max)
    out = np.where(fits, wide, np.iinfo(via).min).astype(via).astype(NUMPY_DTYPES[to])
    upper = (wide >= 2.0**63) & (wide < 2.0**64)
    return np.where(upper, np.where(upper, wide, 0).astype(np.uint64), out) if to == "uint64" else out


@pytest.mark.parametrize("source", DTYPES)
def test_conversions(source: str) -> None:
    for to in DTYPES:
        x = values(source, (9, 61), to)
        if source not in ("bool_", *INTEGERS):
            x[5:] = rng_of(source, to).uniform(-300, 300, (4, 61)).astype(x.dtype)
        want = converted(x, to)
        for layout in LAYOUTS:
            a, pick = laid_out(x, layout)
            out = np.asarray(a.astype(getattr(mx, to)))
            assert out.dtype == want.dtype
            bad = (out != pick(want)) & ~(np.isnan(out) & np.isnan(pick(want)))
            assert not bad.any(), report(f"{source} to {to}, {layout}", bad, out, pick(want), [pick(x)])
        assert of(x[:0]).astype(getattr(mx, to)).shape == (0, 61)
        assert np.asarray(of(x[2, 2]).astype(getattr(mx, to))).tobytes() == want[2, 2].tobytes()
