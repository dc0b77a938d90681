"""mx.array from Python values, the creation functions, and the properties of arrays."""

from __future__ import annotations

from typing import Any

import lamina.array_api
import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import NUMPY_DTYPES, assert_same


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (True, mx.bool_),
        (3, mx.int32),
        (2**31 - 1, mx.int32),
        (2**31, mx.int64),
        (-(2**31) - 1, mx.int64),
        (2**63, mx.uint64),
        (1.5, mx.float32),
        (1j, mx.complex64),
        (np.float32(1), mx.float32),
        (np.float64(1), mx.float32),
        (np.int8(1), mx.int8),
        (np.bool_(True), mx.bool_),
        ([], mx.float32),
        ([1, 2], mx.int32),
        ([1, 2**40], mx.int64),
        ([True, False], mx.bool_),
        ([True, 2], mx.int32),
        ([1, 2.5, True], mx.float32),
        ([1, 2j], mx.complex64),
        ((1, 2), mx.int32),
        ([[1, 2], (3, 4.5)], mx.float32),
        ([np.float32(1), 2], mx.float32),
    ],
    ids=lambda v: type(v).__name__ if type(v) is object else repr(v),
)
def test_default_dtypes(value: Any, dtype: mx.Dtype) -> None:
    a = mx.array(value)
    assert a.dtype == dtype
    assert np.array_equal(np.asarray(a), np.asarray(value))


@pytest.mark.parametrize("name", NUMPY_DTYPES)
def test_given_dtype(name: str) -> None:
    dtype = getattr(mx, name)
    for value in (1, 1.0, True, [0, 1], [0.0, 1.0], [[True], [False]]):
        a = mx.array(value, dtype)
        assert a.dtype == dtype
        assert np.array_equal(np.asarray(a), np.asarray(value).astype(NUMPY_DTYPES[name]))
    assert mx.array([1.75, -1.75], mx.int32).tolist() == [1, -1]
    assert mx.array([300, -1], mx.uint8).tolist() == [44, 255]
    assert mx.array([2**64 - 1], mx.uint64).tolist() == [2**64 - 1]
    assert mx.array([1 + 2j], mx.float32).tolist() == [1]


@pytest.mark.parametrize(
    ("value", "shape"),
    [([[]], (1, 0)), ([[], []], (2, 0)), ([[[1]], [[2]]], (2, 1, 1)), ((), (0,)), ([[[]]], (1, 1, 0))],
    ids=lambda v: type(v).__name__ if type(v) is object else repr(v),
)
def test_shapes_of_lists(value: Any, shape: tuple[int, ...]) -> None:
    assert mx.array(value).shape == shape


def test_arrays_inside_lists() -> None:
    a = mx.array([1, 2])
    assert_same(mx.array([a, [3, 4]]), np.array([[1, 2], [3, 4]], np.int32))
    assert_same(mx.array([a, [2.5, 3]]), np.array([[1, 2], [2.5, 3]], np.float32))
    assert_same(mx.array([mx.array(1), 2]), np.array([1, 2], np.int32))
    assert_same(
        mx.array([np.ones(2, np.float32), np.zeros(2, np.float32)]), np.array([[1, 1], [0, 0]], np.float32)
    )
    assert_same(mx.array([[a], [a]]), np.array([[[1, 2]], [[1, 2]]], np.int32))
    assert mx.array([a, a], mx.float16).dtype == mx.float16


@pytest.mark.parametrize(
    "value",
    [[[1, 2], [3]], [1, [2]], [[1], 2], [[[1]], [2]], [[], [[]]], [[], 1], [1, []], [[1, 2], [mx.array(1)]]],
    ids=lambda v: type(v).__name__ if type(v) is object else repr(v),
)
def test_uneven_lists(value: Any) -> None:
    with pytest.raises(ValueError, match=r"shape|length"):
        mx.array(value)


@pytest.mark.parametrize(
    "value",
    [None, "a", [None], ["a"], {}, [[1, "x"]], object(), {1: 2}, range(3)],
    ids=lambda v: type(v).__name__ if type(v) is object else repr(v),
)
def test_values_that_are_no_numbers(value: Any) -> None:
    with pytest.raises(TypeError, match="array\\(\\)"):
        mx.array(value)


def test_integers_too_large() -> None:
    for value in (2**64, -(2**63) - 1, [2**64]):
        with pytest.raises(OverflowError, match="does not fit 64 bits"):
            mx.array(value)


def test_constructor_arguments() -> None:
    assert mx.array(val=[1], dtype=mx.int8).dtype == mx.int8
    with pytest.raises(TypeError, match="array\\(\\) misses argument 'val'"):
        mx.array()
    with pytest.raises(TypeError, match=r"argument 'dtype' wants Dtype \| None, got str"):
        mx.array([1], "float32")
    with pytest.raises(TypeError, match="no argument 'shape'"):
        mx.array([1], shape=(1,))
    with pytest.raises(TypeError, match="at most 2 positional"):
        mx.array([1], mx.int8, 3)


@pytest.mark.parametrize("name", NUMPY_DTYPES)
@pytest.mark.parametrize("shape", [(), 3, (2, 0), [2, 3], (np.int64(2), 1)], ids=str)
def test_fills(name: str, shape: Any) -> None:
    dtype = getattr(mx, name)
    like = NUMPY_DTYPES[name]
    assert_same(mx.zeros(shape, dtype), np.zeros(shape, like))
    assert_same(mx.ones(shape, dtype), np.ones(shape, like))
    assert_same(mx.full(shape, 1, dtype), np.ones(shape, like))
    a = mx.zeros(shape, dtype)
    assert_same(mx.ones_like(a), np.ones(shape, like))
    assert_same(mx.zeros_like(a), np.zeros(shape, like))
    assert_same(mx.full_like(a, True), np.ones(shape, like))
    assert mx.empty_like(a).shape == mx.empty(shape, dtype).shape == a.shape


def test_full() -> None:
    assert_same(mx.full((2, 2), mx.array([1, 2])), np.array([[1, 2], [1, 2]], np.int32))
    assert mx.full(2, 1.5).dtype == mx.float32
    assert mx.full(2, 2**40, mx.int64).tolist() == [2**40] * 2
    assert mx.zeros(2, None).dtype == mx.float32
    with pytest.raises(ValueError, match="negative"):
        mx.zeros((2, -1))
    with pytest.raises(
        TypeError, match=r"zeros\(\): argument 'shape' wants int \| Sequence\[int\], got float"
    ):
        mx.zeros(2.0)
    with pytest.raises(TypeError, match="argument 'dtype' wants Dtype"):
        mx.zeros(2, "float32")
    with pytest.raises(ValueError, match="broadcast"):
        mx.full((2,), mx.zeros(3))


@pytest.mark.parametrize(
    "arguments",
    [(3,), (0,), (-2,), (1, 4), (5, 0, -2), (0, 1, 0.25), (2.5,), (1, 2.5), (2**33, 2**33 + 2), (0, 10, 3)],
    ids=str,
)
def test_arange(arguments: tuple[Any, ...]) -> None:
    want = np.arange(*arguments)
    large = want.dtype.kind == "i" and abs(max(arguments)) < 2**31
    want = want.astype(np.float32 if want.dtype.kind == "f" else np.int32 if large else np.int64)
    assert_same(mx.arange(*arguments), want)


def test_arange_arguments() -> None:
    assert mx.arange(stop=3).tolist() == [0, 1, 2]
    assert mx.arange(3, step=2).tolist() == [0, 2]
    assert mx.arange(1, None).tolist() == [0]
    assert mx.arange(0, 3, dtype=mx.float16).dtype == mx.float16
    for bad in ((0, 10, 0), (0.0, float("inf")), (0, 1, float("nan"))):
        with pytest.raises(ValueError, match="arange"):
            mx.arange(*bad)
    with pytest.raises(TypeError, match="misses argument 'stop'"):
        mx.arange()
    with pytest.raises(TypeError, match="got str"):
        mx.arange("3")


def test_linspace() -> None:
    for endpoint in (True, False):
        want = np.linspace(-1, 2, 7, endpoint=endpoint, dtype=np.float32)
        np.testing.assert_allclose(
            np.asarray(mx.linspace(-1, 2, 7, endpoint)), want, rtol=2 * np.finfo(np.float32).eps
        )
    assert mx.linspace(0, 10, 5, dtype=mx.int32).tolist() == [0, 2, 5, 7, 10]
    assert mx.linspace(0, 1).shape == (50,)
    assert mx.linspace(3, 4, 1).tolist() == [3]
    assert mx.linspace(0, 0.1, 3)[-1].item() == np.float32(0.1)


def test_matrices() -> None:
    assert_same(mx.eye(3), np.eye(3, dtype=np.float32))
    for k in (-2, -1, 0, 1, 3):
        assert_same(mx.eye(2, 3, k, mx.int32), np.eye(2, 3, k, np.int32))
        assert_same(mx.tri(2, 3, k), np.tri(2, 3, k, np.float32))
        x = np.arange(12, dtype=np.int32).reshape(3, 4)
        assert_same(mx.tril(mx.array(x), k), np.tril(x, k))
        assert_same(mx.triu(mx.array(x), k), np.triu(x, k))
    assert_same(mx.identity(2, mx.int8), np.eye(2, dtype=np.int8))


@pytest.mark.parametrize("name", ["bartlett", "blackman", "hamming", "hanning"])
@pytest.mark.parametrize("length", [-1, 0, 1, 2, 5, 64])
def test_windows(name: str, length: int) -> None:
    want = getattr(np, name)(length)
    got = np.asarray(getattr(mx, name)(length))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=2 * np.finfo(np.float32).eps)


def test_properties() -> None:
    a = mx.zeros((2, 3, 4), mx.float16)
    assert (a.shape, a.ndim, a.size, a.itemsize, a.nbytes) == ((2, 3, 4), 3, 24, 2, 48)
    assert (a.dtype, a.dtype.size) == (mx.float16, 2)
    assert (a.T.shape, a.mT.shape) == ((4, 3, 2), (2, 4, 3))
    c = mx.array([1 + 2j])
    assert (c.real.tolist(), c.imag.tolist(), c.real.dtype) == ([1], [2], mx.float32)
    assert a.__array_namespace__() is lamina.array_api
    with pytest.raises(ValueError, match="at least 2 axes"):
        _ = mx.zeros(3).mT
    with pytest.raises(AttributeError):
        a.shape = (24,)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        a.anything = 1  # type: ignore[attr-defined]


def test_bytes_and_tolist() -> None:
    assert bytes(mx.array([[1, 2], [3, 4]], mx.uint8).T) == b"\x01\x03\x02\x04"
    assert mx.zeros((2, 0)).tolist() == [[], []]
    assert mx.array(2.5).tolist() == 2.5
    assert mx.array([[1 + 1j]]).tolist() == [[1 + 1j]]
    assert type(mx.array([True]).tolist()[0]) is bool
