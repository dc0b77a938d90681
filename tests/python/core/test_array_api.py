"""The namespace of the array API standard against NumPy's, called alike; dtypes and special cases."""

from __future__ import annotations

import doctest
import inspect
import math

import lamina.core as mx
import numpy as np
import pytest
from core.table_array_api import CALLS, UNARY, UNARY_OF_POSITIVE, Call
from lamina import array_api as xp

# Names that are no functions of arrays, tested below.
OTHERS = {
    "__array_namespace_info__",
    "can_cast",
    "finfo",
    "iinfo",
    "isdtype",
    "result_type",
    "linalg",
    "fft",
    "e",
    "inf",
    "nan",
    "newaxis",
    "pi",
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
    "complex64",
}


def test_every_name_is_tested() -> None:
    parts = {f"linalg.{n}" for n in xp.linalg.__all__} | {f"fft.{n}" for n in xp.fft.__all__}
    assert set(xp.__all__) | parts == set(CALLS) | OTHERS


def tolerance(want: np.ndarray) -> float:
    """Sums and decompositions of a dozen numbers, conditioned by at most a few hundred."""
    return 0.0 if want.dtype.kind in "biu" else 2000 * float(np.finfo(want.dtype).eps)


@pytest.mark.parametrize("name", CALLS)
def test_like_numpy(name: str) -> None:
    for call, operands in CALLS[name]:
        with np.errstate(all="ignore"):
            want = np.asarray(call(np, *operands))
        got = call(xp, *(mx.asarray(a, getattr(mx, str(a.dtype).replace("bool", "bool_"))) for a in operands))
        assert isinstance(got, mx.array)
        out = np.asarray(got)
        assert out.shape == want.shape
        assert out.dtype.kind == want.dtype.kind
        if operands and want.dtype.kind in "fc":
            assert out.dtype == want.dtype
        rtol = tolerance(np.empty(0, out.dtype))
        np.testing.assert_allclose(out, want.astype(out.dtype), rtol=rtol, atol=rtol)
        if want.dtype.kind == "f":
            same = np.isnan(want) | (np.signbit(out) == np.signbit(want)) | (np.abs(want) > 0)
            assert np.all(same), "signs of zeros"


SPECIAL = np.array([0.0, -0.0, 1, -1, 1.5, -1.5, np.inf, -np.inf, np.nan, 2, -2, 3, 0.5, -0.5, 2.5])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "name", [*UNARY, *UNARY_OF_POSITIVE, "acos", "asin", "acosh", "atanh", "signbit"], ids=str
)
def test_special_cases_of_one_operand(name: str, dtype: str) -> None:
    """NumPy follows the standard's list for these; poles and undefined values included."""
    x = SPECIAL.astype(dtype)
    with np.errstate(all="ignore"):
        want = getattr(np, name)(x)
    out = np.asarray(getattr(xp, name)(mx.array(x, getattr(mx, dtype))))
    rtol = 16 * np.finfo(dtype).eps
    np.testing.assert_allclose(out, want, rtol=rtol)
    if want.dtype.kind == "f":
        zeros = want == 0
        assert np.array_equal(np.signbit(out[zeros]), np.signbit(want[zeros]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "name",
    [
        "add",
        "multiply",
        "divide",
        "pow",
        "atan2",
        "maximum",
        "minimum",
        "hypot",
        "copysign",
        "nextafter",
        "logaddexp",
    ],
)
def test_special_cases_of_two_operands(name: str, dtype: str) -> None:
    x = np.repeat(SPECIAL, len(SPECIAL)).astype(dtype)
    y = np.tile(SPECIAL, len(SPECIAL)).astype(dtype)
    with np.errstate(all="ignore"):
        want = getattr(np, name)(x, y)
    out = np.asarray(getattr(xp, name)(mx.array(x, getattr(mx, dtype)), mx.array(y, getattr(mx, dtype))))
    np.testing.assert_allclose(out, want, rtol=16 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)


def test_integer_sums_are_at_least_as_wide_as_the_default() -> None:
    for name, wider in (
        ("int8", "int32"),
        ("int16", "int32"),
        ("int32", "int32"),
        ("int64", "int64"),
        ("uint8", "uint32"),
        ("uint16", "uint32"),
        ("uint32", "uint32"),
        ("uint64", "uint64"),
    ):
        x = xp.ones(3, dtype=getattr(xp, name))
        for f in (xp.sum, xp.prod, xp.cumulative_sum, xp.cumulative_prod):
            assert f(x).dtype == getattr(xp, wider), (f, name)
            assert f(x, dtype=xp.int16).dtype == xp.int16
        assert xp.linalg.trace(xp.ones((2, 2), dtype=getattr(xp, name))).dtype == getattr(xp, wider)


def test_positions_and_counts_are_int64() -> None:
    x = xp.asarray([3, 1, 1])
    every = [xp.argmax(x), xp.argmin(x), xp.argsort(x), xp.argsort(x, descending=True), xp.count_nonzero(x)]
    every += [xp.nonzero(x)[0], xp.searchsorted(x, x), *xp.unique_all(x)[1:]]
    every += [*xp.unique_all(xp.asarray([], dtype=xp.int32))[1:]]
    assert {a.dtype for a in every} == {xp.int64}
    assert xp.__array_namespace_info__().default_dtypes()["indexing"] == xp.int64


def test_type_promotion() -> None:
    table = {
        ("int8", "int16"): "int16",
        ("int8", "uint8"): "int16",
        ("uint8", "int32"): "int32",
        ("uint32", "int32"): "int64",
        ("float32", "float64"): "float64",
        ("float32", "complex64"): "complex64",
        ("bool", "bool"): "bool",
        ("uint16", "uint64"): "uint64",
        ("int16", "uint16"): "int32",
    }
    for pair, want in table.items():
        first, second = (getattr(xp, n) for n in pair)
        assert xp.result_type(first, second) == xp.result_type(second, first) == getattr(xp, want)
        assert xp.add(xp.ones(1, dtype=first), xp.ones(1, dtype=second)).dtype == (
            xp.bool if want == "bool" else getattr(xp, want)
        )
        assert xp.can_cast(first, getattr(xp, want))
    assert xp.result_type(xp.int8, 1) == xp.int8
    assert xp.result_type(xp.float32, 1, 2.0) == xp.float32
    assert xp.result_type(xp.ones(1), 1j) == xp.complex64
    assert not xp.can_cast(xp.float64, xp.float32)
    with pytest.raises(ValueError, match="at least one array or dtype"):
        xp.result_type(1, 2.0)
    with pytest.raises(TypeError, match="complex numbers have no"):
        xp.astype(xp.asarray([1j]), xp.float32)


def test_kinds_and_limits() -> None:
    kinds = {
        "bool": ["bool"],
        "signed integer": ["int8", "int64"],
        "unsigned integer": ["uint8"],
        "real floating": ["float32", "float64"],
        "complex floating": ["complex64"],
    }
    for kind, names in kinds.items():
        for name in names:
            for other in kinds:
                assert xp.isdtype(getattr(xp, name), other) == (other == kind)
    assert xp.isdtype(xp.int8, "integral")
    assert xp.isdtype(xp.uint8, ("bool", "numeric"))
    assert not xp.isdtype(xp.bool, "numeric")
    for name in ("float32", "float64"):
        ours, theirs = xp.finfo(xp.ones(1, dtype=getattr(xp, name))), np.finfo(name)
        for field in ("bits", "eps", "max", "min", "smallest_normal"):
            assert getattr(ours, field) == float(getattr(theirs, field))
        assert ours.dtype == getattr(xp, name)
    assert xp.finfo(xp.complex64).dtype == xp.float32
    assert (xp.iinfo(xp.uint64).max, xp.iinfo(xp.asarray([1], dtype=xp.int8)).min) == (2**64 - 1, -128)


def test_constants() -> None:
    assert (xp.e, xp.pi, xp.inf, xp.newaxis) == (math.e, math.pi, math.inf, None)
    assert math.isnan(xp.nan)


def test_namespace_of_an_array() -> None:
    a = mx.ones(2)
    assert a.__array_namespace__() is xp
    for version in (None, "2022.12", "2023.12", "2024.12"):
        assert a.__array_namespace__(api_version=version) is xp
    with pytest.raises(ValueError, match=r"wanted one of the API versions .*, got '2019.01'"):
        a.__array_namespace__(api_version="2019.01")
    info = xp.__array_namespace_info__()
    assert info.capabilities() == {
        "boolean indexing": True,
        "data-dependent shapes": True,
        "max dimensions": None,
    }
    assert info.default_device() in info.devices()
    assert a.device == info.default_device()
    assert set(info.dtypes(kind="integral")) == {f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64)}
    assert set(info.dtypes(device=mx.cpu, kind=("bool", "real floating"))) == {"bool", "float32", "float64"}
    assert len(info.dtypes()) == 12
    assert a.to_device(mx.cpu).tolist() == [1, 1]
    with pytest.raises(ValueError, match="not available"):
        a.to_device(mx.gpu)
    with pytest.raises(TypeError, match="device must be a lamina Device or None, got str"):
        xp.zeros(2, device="cpu")  # type: ignore[arg-type]
    assert xp.zeros(2, device=mx.cpu).device == mx.cpu


ERRORS: dict[str, tuple[Call, type[Exception], str]] = {
    "nonzero": (lambda: xp.nonzero(xp.asarray(1)), ValueError, "at least 1 axis"),
    "take": (
        lambda: xp.take(xp.ones((2, 2)), xp.asarray([0])),
        ValueError,
        "wants an axis for an array with 2 axes",
    ),
    "cumulative": (
        lambda: xp.cumulative_sum(xp.ones((2, 2))),
        ValueError,
        "wants an axis for an array with 2 axes",
    ),
    "cumulative 0-d": (lambda: xp.cumulative_prod(xp.asarray(1)), ValueError, "at least 1 axis"),
    "squeeze": (lambda: xp.squeeze(xp.ones((2, 1)), 0), ValueError, "has not length 1"),
    "cross": (lambda: xp.linalg.cross(xp.ones(2), xp.ones(2)), ValueError, "axes of length 3"),
    "outer": (lambda: xp.linalg.outer(xp.ones((2, 2)), xp.ones(2)), ValueError, "two vectors"),
    "power": (lambda: xp.linalg.matrix_power(xp.ones((2, 3)), 2), ValueError, "square matrices"),
    "qr": (lambda: xp.linalg.qr(xp.ones((2, 3)), mode="r"), ValueError, "'reduced' or 'complete', got 'r'"),
    "norm": (lambda: xp.linalg.matrix_norm(xp.ones((2, 3)), ord=3), ValueError, "ord must be .*, got 3"),
    "norm axes": (
        lambda: xp.linalg.vector_norm(xp.ones((2, 3)), axis=(0, -2)),
        ValueError,
        "names an axis twice",
    ),
    "vecdot": (lambda: xp.vecdot(xp.ones((3, 1)), xp.ones((3, 4))), ValueError, "differs in length"),
    "signbit": (lambda: xp.signbit(xp.asarray([1])), TypeError, "real floating array, got .*int32"),
    "hypot": (lambda: xp.hypot(xp.asarray([1]), 2), TypeError, "real floating arrays"),
    "copysign": (lambda: xp.copysign(1.0, 2.0), TypeError, "at least one array, got float and float"),
    "repeat": (lambda: xp.repeat(xp.ones(3), xp.asarray([1, -1, 0])), ValueError, "must not be negative"),
    "repeat length": (
        lambda: xp.repeat(xp.ones(3), xp.asarray([1, 1])),
        ValueError,
        r"3 of them, got shape \(2,\)",
    ),
    "roll": (lambda: xp.roll(xp.ones(3), (1, 2), axis=0), ValueError, "as many shifts as axes"),
    "moveaxis": (lambda: xp.moveaxis(xp.ones((2, 3)), (0, 0), (0, 1)), ValueError, "names an axis twice"),
    "moveaxis count": (lambda: xp.moveaxis(xp.ones((2, 3)), (0, 1), 0), ValueError, "as many destinations"),
    "compiled": (lambda: mx.compile(xp.unique_values)(xp.ones(3)), ValueError, "being traced by compile"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        call()


def test_functions_of_the_namespace_have_the_standards_signatures() -> None:
    """Arrays by position only; options by keyword only."""
    for module in (xp, xp.linalg, xp.fft):
        for name in module.__all__:
            f = getattr(module, name)
            if not inspect.isfunction(f) or name in ("meshgrid", "broadcast_arrays", "result_type"):
                continue
            kinds = [p.kind for p in inspect.signature(f).parameters.values()]
            if name in (
                "empty",
                "full",
                "ones",
                "zeros",
                "isdtype",
                "squeeze",
                "broadcast_to",
                "__array_namespace_info__",
            ):
                continue
            assert kinds[0] == inspect.Parameter.POSITIONAL_ONLY, name
            assert f.__doc__, name


def test_gradients_pass_through() -> None:
    x = xp.asarray([3.0, -4.0])
    assert np.allclose(np.asarray(mx.grad(lambda v: xp.linalg.vector_norm(v))(x)), [0.6, -0.8])
    assert np.allclose(np.asarray(mx.grad(lambda v: xp.hypot(v[0], v[1]))(x)), [0.6, -0.8])
    assert np.allclose(np.asarray(mx.grad(lambda v: xp.sum(xp.copysign(v, -1.0)))(x)), [-1, 1])


def test_examples() -> None:
    """Every function has one, and it gives what it says."""
    failures: list[str] = []
    for module in (xp, xp.linalg, xp.fft):
        for name in module.__all__:
            f = getattr(module, name)
            if not inspect.isfunction(f):
                continue
            tests = [t for t in doctest.DocTestFinder().find(f, name, globs={}) if t.examples]
            assert tests, name
            for test in tests:
                doctest.DocTestRunner(verbose=False).run(test, out=failures.append)
    assert not failures, "".join(failures)
