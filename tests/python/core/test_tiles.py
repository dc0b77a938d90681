"""Elementwise tapes run by small tiles, in every layout; sums over leading axes of narrow rows."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import numpy as np
import pytest

DTYPES = {name: getattr(mx, name) for name in ("float32", "float64", "int32")}


def mixed(xp: Any, x: Any, y: Any, two: Any) -> tuple[Any, Any]:
    """Operations with one right answer; the first result is needed for the second and later again."""
    first = xp.where(x > y, x * two + y, y - x * x)
    return first, xp.abs(first) * two - y


def roots(xp: Any, x: Any, y: Any) -> Any:
    return xp.sqrt(xp.abs(x)) / (y * y + 1) - x * y / (xp.sqrt(y * y) + 1)


def drawn(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).integers(-1000, 1000, shape)
    return values.astype(dtype) if dtype == "int32" else (values / 64).astype(dtype)


def layouts(shape: tuple[int, int], dtype: str) -> list[tuple[np.ndarray, mx.array]]:
    """The same numbers in rows that follow each other, in parts of longer rows, and with gaps."""
    rows, columns = shape
    wide = drawn((rows, columns + 5), dtype, 1)
    gaps = drawn((rows, 2 * columns), dtype, 2)
    return [
        (wide[:, :columns].copy(), mx.array(wide[:, :columns].copy(), DTYPES[dtype])),
        (wide[:, 3 : columns + 3], mx.array(wide, DTYPES[dtype])[:, 3 : columns + 3]),
        (gaps[:, ::2], mx.array(gaps, DTYPES[dtype])[:, ::2]),
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1025), (3, 1151), (2, 1152), (5, 1153), (2, 300_001)], ids=str)
def test_elementwise_tapes_give_the_bits_of_numpy(shape: tuple[int, int], dtype: str) -> None:
    y = drawn(shape, dtype, 3)
    for x, x_mx in layouts(shape, dtype):
        y_mx, two = mx.array(y, DTYPES[dtype]), np.array(2, dtype)
        wanted = mixed(np, x, y, two)
        for got, right in zip(mixed(mx, x_mx, y_mx, mx.array(two, DTYPES[dtype])), wanted, strict=True):
            np.testing.assert_array_equal(np.array(got), right)
        if dtype != "int32":
            one = np.array(1, dtype)
            right = np.sqrt(np.abs(x)) / (y * y + one) - x * y / (np.sqrt(y * y) + one)
            np.testing.assert_array_equal(np.array(roots(mx, x_mx, y_mx)), right)


def test_outputs_in_the_memory_of_operands() -> None:
    x, y = drawn((1, 300_001), "float32", 4), drawn((1, 300_001), "float32", 5)
    a, b = mx.array(x), mx.array(y)
    mx.eval(a, b)
    total, product = a + b, b * mx.sin(a)
    del a, b
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(total, product)
    assert mx.get_peak_memory() - before < x.nbytes
    np.testing.assert_array_equal(np.array(total), x + y)
    again = mx.array(y) * mx.sin(mx.array(x))
    np.testing.assert_array_equal(np.array(product), np.array(again))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_of_narrow_rows(dtype: str) -> None:
    rows = 300
    for columns in [*range(1, 131), 255, 256, 257]:
        x = drawn((rows, columns), dtype, columns) + np.array(0.1, dtype)
        got = np.array(mx.sum(mx.array(x, DTYPES[dtype]), axis=0))
        bound = rows * np.finfo(dtype).eps * np.abs(x).sum(0, dtype=np.float64)
        assert (np.abs(got - x.sum(0, dtype=np.float64)) <= bound).all(), columns


@pytest.mark.parametrize("axes", [(1,), (1, 3), (0, 2)], ids=str)
def test_reductions_of_few_elements(axes: tuple[int, ...]) -> None:
    x = drawn((3, 2, 5, 3, 70), "float32", 6)
    x[1, 1, 2, 1, 3], x[0, 0, 0, 0, 0] = np.nan, -0.0
    a = mx.array(x)
    np.testing.assert_array_equal(np.array(mx.max(a, axis=axes)), x.max(axes))
    np.testing.assert_array_equal(np.array(mx.min(a, axis=axes)), x.min(axes))
    # Sixty-fourths of whole numbers: sums are exact.
    np.testing.assert_array_equal(np.array(mx.sum(a, axis=axes)), x.sum(axes))
