"""Operators of the array type: values, scalars beside arrays, in-place forms, Python numbers."""

from __future__ import annotations

import operator
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import NUMPY_DTYPES, assert_same, layouts

ARITHMETIC = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"]
BITWISE = ["and_", "or_", "xor", "lshift", "rshift"]
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]


@pytest.mark.parametrize("name", ARITHMETIC + COMPARISONS)
@pytest.mark.parametrize("dtype", ["int32", "float32", "float64"])
def test_binary(name: str, dtype: str) -> None:
    op = getattr(operator, name)
    x = np.array([5, 6, 7, -8], dtype)
    y = np.array([2, 3, 4, 3], dtype)
    want = op(x, y)
    if want.dtype == np.float64 and dtype != "float64":
        want = want.astype(np.float32)
    assert_same(op(mx.array(x, getattr(mx, dtype)), mx.array(y, getattr(mx, dtype))), want)


@pytest.mark.parametrize("name", BITWISE)
def test_bitwise(name: str) -> None:
    op = getattr(operator, name)
    x, y = np.array([5, 6, 7], np.int32), np.array([1, 2, 3], np.int32)
    assert_same(op(mx.array(x), mx.array(y)), op(x, y))
    assert_same(op(mx.array(x), 2), op(x, np.int32(2)))
    assert_same(op(2, mx.array(x)), op(np.int32(2), x))


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv"])
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "reversed", "broadcast", "offset"])
def test_layouts(name: str, layout: str) -> None:
    op = getattr(operator, name)
    a, twin = layouts(np.arange(1, 10, dtype=np.float32).reshape(3, 3))[layout]
    assert_same(op(a, a), op(twin, twin))
    assert_same(op(a, a[:1]), op(twin, twin[:1]))


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "pow", "floordiv", "mod"])
@pytest.mark.parametrize(
    "scalar",
    [3, 2.5, np.float64(2.5), np.int32(3)],
    ids=lambda v: type(v).__name__ if type(v) is object else repr(v),
)
def test_scalars_on_both_sides(name: str, scalar: Any) -> None:
    op = getattr(operator, name)
    x = np.array([1, 2, 4], np.float32)
    assert_same(op(mx.array(x), scalar), op(x, np.float32(scalar)))
    assert_same(op(scalar, mx.array(x)), op(np.float32(scalar), x))


@pytest.mark.parametrize("dtype", [n for n in NUMPY_DTYPES if n != "bool_"])
def test_python_numbers_take_the_dtype_of_the_array(dtype: str) -> None:
    a = mx.ones(2, getattr(mx, dtype))
    for result in (a + 1, 1 + a, a * True, mx.maximum(a, 1), mx.where(a > 0, a, 1)):
        assert result.dtype == a.dtype
    wanted = a.dtype if mx.issubdtype(a.dtype, mx.inexact) else mx.float32
    for result in (a + 1.5, 1.5 - a, mx.maximum(1.5, a), mx.where(a > 0, 1.5, a)):
        assert result.dtype == wanted
    assert (a + 1j).dtype == mx.complex64


def test_integers_out_of_range() -> None:
    for dtype, value in (
        (mx.uint8, 256),
        (mx.uint8, -1),
        (mx.int8, 128),
        (mx.int32, 2**31),
        (mx.int64, 2**63),
    ):
        with pytest.raises(ValueError, match=f"{value} is out of range for"):
            mx.zeros(1, dtype) + value
    assert (mx.zeros(1, mx.uint64) + 2**63).item() == 2**63
    assert (mx.array([True]) + 2**40).item() == 2**40 + 1
    assert (mx.zeros(1) + 2**70).item() == 2.0**70


@pytest.mark.parametrize(
    "other",
    [None, "x", [1, 2], (1, 2), {}, object(), b"ab"],
    ids=lambda v: type(v).__name__ if type(v) is object else repr(v),
)
def test_operands_that_do_not_combine(other: Any) -> None:
    a = mx.array([1, 2])
    with pytest.raises(TypeError):
        a + other
    with pytest.raises(TypeError):
        other - a
    with pytest.raises(TypeError):
        a < other  # noqa: B015
    with pytest.raises(TypeError):
        a += other
    assert (a == other) is False
    assert (a != other) is True
    assert a.tolist() == [1, 2]


def test_shapes_that_do_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        mx.ones(2) + mx.ones(3)
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        mx.ones(2) == mx.ones(3)  # noqa: B015
    with pytest.raises(ValueError, match="inner dimensions differ"):
        mx.ones((2, 3)) @ mx.ones((2, 3))


@pytest.mark.parametrize("name", ["iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"])
def test_in_place_arithmetic_rebinds_the_object(name: str) -> None:
    op = getattr(operator, name)
    x = np.array([5.0, 6.0, 7.0], np.float32)
    a = mx.array(x)
    other_name = a
    lazily = a * 2
    out = op(a, 2)
    assert out is other_name
    assert_same(a, getattr(operator, name[1:])(x, np.float32(2)))
    assert_same(lazily, x * 2)


@pytest.mark.parametrize("name", ["iand", "ior", "ixor", "ilshift", "irshift"])
def test_in_place_bitwise(name: str) -> None:
    x = np.array([5, 6, 7], np.int32)
    a = mx.array(x)
    assert getattr(operator, name)(a, 1) is a
    assert_same(a, getattr(operator, name)(x, np.int32(1)))


def test_in_place_matmul() -> None:
    x = np.array([[1, 2], [3, 4]], np.float32)
    a = mx.array(x)
    a @= mx.array(x)
    assert_same(a, x @ x)


def test_unary() -> None:
    x = np.array([1.5, -2.0], np.float32)
    assert_same(-mx.array(x), -x)
    assert_same(+mx.array(x), x)
    assert_same(abs(mx.array(x)), abs(x))
    assert_same(~mx.array([1, -2]), ~np.array([1, -2], np.int32))
    assert_same(~mx.array([True, False]), np.array([False, True]))
    with pytest.raises(ValueError, match="logical_not"):
        -mx.array([True])
    with pytest.raises(ValueError, match="not defined for dtype float32"):
        ~mx.array([1.0])


def test_divmod_and_pow() -> None:
    q, r = divmod(mx.array([7, -7]), 3)
    assert (q.tolist(), r.tolist()) == ([2, -3], [1, 2])
    q, r = divmod(7, mx.array([2]))
    assert (q.tolist(), r.tolist()) == ([3], [1])
    assert (2 ** mx.array([3])).tolist() == [8]
    with pytest.raises(TypeError, match="third argument"):
        pow(mx.array([2]), 3, 5)


def test_comparisons_chain_to_bool_arrays() -> None:
    a = mx.array([1, 2, 3])
    assert ((a > 1) & (a < 3)).tolist() == [False, True, False]
    assert (a > 1).tolist() == [False, True, True]
    assert (np.int32(2) == a).tolist() == [False, True, False]


def test_python_numbers() -> None:
    assert int(mx.array(2.7)) == 2
    assert float(mx.array([2])) == 2.0
    assert complex(mx.array(1 + 2j)) == 1 + 2j
    assert bool(mx.array([[0.5]])) is True
    assert bool(mx.array(1j)) is True
    assert [10, 11, 12][mx.array(2)] == 12
    assert list(range(mx.array(3, mx.uint8))) == [0, 1, 2]
    assert mx.array(2**64 - 1, mx.uint64).item() == 2**64 - 1
    assert mx.array(-(2**63)).item() == -(2**63)
    assert mx.array([1.5], mx.bfloat16).item() == 1.5
    for convert in (int, float, bool, complex, lambda a: a.item()):
        with pytest.raises(ValueError, match=r"one element.*\(2,\)"):
            convert(mx.array([1, 2]))
    with pytest.raises(TypeError, match="complex64"):
        float(mx.array(1j))
    with pytest.raises(TypeError, match="0-d integer array"):
        [1, 2][mx.array([1])]
    with pytest.raises(TypeError, match="0-d integer array"):
        [1, 2][mx.array(1.0)]
    with pytest.raises(ValueError, match="NaN"):
        int(mx.array(float("nan")))


def test_hash_is_identity() -> None:
    a, b = mx.array([1]), mx.array([1])
    assert hash(a) == hash(a)
    assert len({a, b, a}) == 2


def test_reflected_operators_of_other_types_are_tried() -> None:
    class Other:
        def __radd__(self, other: object) -> str:
            return "radd"

        def __eq__(self, other: object) -> Any:
            return "eq"

        __hash__ = None  # type: ignore[assignment]

    assert mx.array(1) + Other() == "radd"
    assert (mx.array(1) == Other()) == "eq"
