"""Result dtypes and printed text, against golden files made by running MLX (tests/golden/make_core.py)."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import pytest
from core.core_cases import golden, short

PROMOTION = golden("promotion")
PRINTING = golden("printing")
DTYPES: list[str] = PROMOTION["dtypes"]
SCALARS: dict[str, Any] = {"bool": True, "int": 2, "float": 1.5, "complex": 1j}

# Where lamina differs on purpose, and why: a reduction as a whole, or a function beside a dtype.
DIFFERENT = {
    "cumsum": "small integers are widened, as sum does and as NumPy does",
    "cumprod": "small integers are widened, as prod does and as NumPy does",
    "floor_divide complex64": "complex numbers have no order, so no floor",
    "floor_divide complex": "complex numbers have no order, so no floor",
    "softmax complex64": "complex numbers have no maximum to subtract",
    "left_shift bool_": "two booleans count as int32, as in sums",
}


def ones() -> list[mx.array]:
    return [mx.ones((2,)).astype(getattr(mx, t)) for t in DTYPES]


def compare(label: str, names: list[str], function: Any, operands: list[Any], want: str) -> list[str]:
    """The operands for which the dtype is not the wanted one; what MLX refuses may work here."""
    wrong = []
    for name, operand, expected in zip(names, operands, want.split(), strict=True):
        if expected == "error" or f"{label} {name}" in DIFFERENT:
            continue
        got = short(function(operand).dtype)
        if got != expected:
            wrong.append(f"{name}: wanted {expected}, got {got}")
    return wrong


@pytest.mark.parametrize("name", PROMOTION["binary"])
def test_binary_promotion(name: str) -> None:
    f = getattr(mx, name)
    for left, dtype, want in zip(ones(), DTYPES, PROMOTION["binary"][name], strict=True):
        if f"{name} {dtype}" not in DIFFERENT:
            assert compare(name, DTYPES, lambda right, left=left: f(left, right), ones(), want) == [], dtype


@pytest.mark.parametrize("name", PROMOTION["scalar"])
def test_scalar_promotion(name: str) -> None:
    f = getattr(mx, name)
    assert PROMOTION["scalars"] == list(SCALARS)
    for left, dtype, want in zip(ones(), DTYPES, PROMOTION["scalar"][name], strict=True):
        if f"{name} {dtype}" not in DIFFERENT:
            values = list(SCALARS.values())
            assert (
                compare(name, list(SCALARS), lambda right, left=left: f(left, right), values, want) == []
            ), dtype


@pytest.mark.parametrize("name", PROMOTION["unary"])
def test_unary_dtypes(name: str) -> None:
    assert compare(name, DTYPES, getattr(mx, name), ones(), PROMOTION["unary"][name]) == []


@pytest.mark.parametrize("name", [n for n in PROMOTION["reduction"] if n not in DIFFERENT])
def test_reduction_dtypes(name: str) -> None:
    f = getattr(mx, name)
    assert compare(name, DTYPES, lambda a: f(a, axis=0), ones(), PROMOTION["reduction"][name]) == []


@pytest.mark.parametrize(("source", "want"), PRINTING["plain"], ids=[p[0] for p in PRINTING["plain"]])
def test_printing(source: str, want: str) -> None:
    value = eval(source, {"mx": mx})
    assert repr(value) == want
    assert str(value) == want


@pytest.mark.parametrize(("precision", "source", "want"), PRINTING["precise"])
def test_printing_with_precision(precision: int, source: str, want: str) -> None:
    with mx.printoptions(precision=precision) as options:
        assert options.precision == precision
        assert repr(eval(source, {"mx": mx})) == want
    assert mx.get_printoptions().precision == -1


def test_set_printoptions() -> None:
    mx.set_printoptions(precision=2)
    try:
        assert repr(mx.array(1 / 3)) == "array(0.33, dtype=float32)"
    finally:
        mx.set_printoptions()
    assert repr(mx.array(1 / 3)) == "array(0.333333, dtype=float32)"


def test_printing_a_huge_array_looks_at_few_elements() -> None:
    huge = mx.broadcast_to(mx.array([1.0, 2.0]), (2**40, 2))
    text = repr(huge)
    assert text.count("[1, 2]") == 6
    assert len(text) < 200


def test_format() -> None:
    assert f"{mx.array(1.5):.3f}" == "1.500"
    assert f"{mx.array(7):4d}" == "   7"
    assert f"{mx.array([1])}" == "array([1], dtype=int32)"
    with pytest.raises(TypeError, match=r"shape \(1,\) takes no format"):
        format(mx.array([1]), ".3f")
