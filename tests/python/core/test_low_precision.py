"""8-bit floats and the Hadamard transform."""

from __future__ import annotations

import itertools

import lamina.core as mx
import ml_dtypes
import numpy as np
import pytest

EPS = float(np.finfo(np.float32).eps)
FLOATS = [mx.float16, mx.bfloat16, mx.float32, mx.float64]
ORDERS = [1, 2, 4, 12, 20, 28, 24, 40, 56, 64, 96, 2048]


def test_every_byte_of_fp8():
    codes = np.arange(256, dtype=np.uint8)
    truth = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float64)
    for dtype in FLOATS:
        got = np.array(mx.from_fp8(mx.array(codes), dtype).astype(mx.float64))
        np.testing.assert_array_equal(got, truth)
        np.testing.assert_array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(truth[~np.isnan(truth)]))
    assert mx.from_fp8(mx.array(codes)).dtype == mx.bfloat16


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_fp8_rounds_to_nearest_even(dtype):
    rng = np.random.default_rng(0)
    exact = np.arange(127, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float64)
    middles = (exact[1:] + exact[:-1]) / 2
    x = np.concatenate([exact, middles, np.nextafter(middles, 0), np.nextafter(middles, 500)])
    x = np.concatenate([x, 500 * rng.random(1000), rng.normal(size=1000) * 1e-2, [1e-30, 5e-310]])
    x = mx.array(np.concatenate([x, -x]), mx.float64).astype(dtype)
    values = np.array(x.astype(mx.float64))
    # The next smaller code, or the one above it where that is nearer or as near and even.
    lower = np.clip(np.searchsorted(exact, np.abs(values), side="right") - 1, 0, 125)
    below, above = np.abs(values) - exact[lower], exact[lower + 1] - np.abs(values)
    want = lower + ((above < below) | ((above == below) & (lower % 2 == 1)))
    np.testing.assert_array_equal(np.array(mx.to_fp8(x)), want + 128 * np.signbit(values))


def test_fp8_of_special_values():
    x = mx.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e9])
    assert mx.to_fp8(x).tolist() == [0x7E, 0xFE, 0x7F, 0x00, 0x80, 0x7E]
    assert mx.to_fp8(mx.zeros((0, 3))).shape == (0, 3)
    assert mx.to_fp8(mx.array(1.0)).item() == 56


def test_fp8_errors():
    with pytest.raises(ValueError, match=r"\[to_fp8\] wants an array of real floats, got int32"):
        mx.to_fp8(mx.array([1]))
    with pytest.raises(ValueError, match=r"\[from_fp8\] wants an array of uint8, got int8"):
        mx.from_fp8(mx.array([1], mx.int8))
    with pytest.raises(ValueError, match=r"\[from_fp8\] wants a real floating dtype, got int32"):
        mx.from_fp8(mx.array([1], mx.uint8), mx.int32)


@pytest.mark.parametrize("n", ORDERS)
def test_hadamard_matrices(n):
    matrix = np.array(mx.hadamard_transform(mx.eye(n), scale=1.0)).T
    assert np.all(np.abs(matrix) == 1)
    np.testing.assert_array_equal(matrix @ matrix.T, n * np.eye(n))
    x = np.random.default_rng(n).normal(size=(2, 3, n))
    got = np.array(mx.hadamard_transform(mx.array(x, mx.float32)))
    want = x @ matrix.T / np.sqrt(n)
    np.testing.assert_allclose(got, want, atol=np.sqrt(n) * EPS * np.abs(x).max() * 4)


def test_hadamard_of_powers_of_two_is_sylvester():
    h = np.ones((1, 1))
    while len(h) < 128:
        h = np.block([[h, h], [h, -h]])
    np.testing.assert_array_equal(np.array(mx.hadamard_transform(mx.eye(128), scale=1.0)), h)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_hadamard_twice_is_the_identity(dtype):
    x = mx.random.normal((4, 64), key=mx.random.key(0)).astype(dtype)
    back = mx.hadamard_transform(mx.hadamard_transform(x))
    assert back.dtype == dtype
    error = np.abs(np.array(back.astype(mx.float64)) - np.array(x.astype(mx.float64))).max()
    assert error <= 8 * mx.finfo(dtype).eps * np.abs(np.array(x.astype(mx.float64))).max() * 2


def test_hadamard_transforms():
    x = mx.random.normal((3, 24), key=mx.random.key(1))
    w = mx.random.normal((3, 24), key=mx.random.key(2))
    (gradient,) = mx.vjp(mx.hadamard_transform, [x], [w])[1]
    matrix = np.array(mx.hadamard_transform(mx.eye(24)))  # rows are images, so this is the transpose
    np.testing.assert_allclose(np.array(gradient), np.array(w) @ matrix.T, atol=24 * EPS * 4)
    looped = mx.stack([mx.hadamard_transform(row) for row in x])
    mapped = mx.vmap(mx.hadamard_transform)(x)
    np.testing.assert_allclose(np.array(mapped), np.array(looped), atol=24 * EPS * 4)


def test_hadamard_integers_and_errors():
    assert mx.hadamard_transform(mx.array([1, 2]), scale=1.0).tolist() == [3, -1]
    assert mx.hadamard_transform(mx.array(2.0)).item() == 2
    for n in (3, 9, 36, 10):
        with pytest.raises(ValueError, match=rf"m \* 2\^k elements with m in \(1, 12, 20, 28\), got {n}"):
            mx.hadamard_transform(mx.ones(n))
    with pytest.raises(ValueError, match="wants elements, got an array of shape"):
        mx.hadamard_transform(mx.ones((3, 0)))
    with pytest.raises(ValueError, match="wants real numbers, got complex64"):
        mx.hadamard_transform(mx.array([1j, 2]))


UNIQUE_INPUTS = {
    "few": np.array([3, 1, 2, 3, 1, 9]),
    "square": np.random.default_rng(3).integers(-5, 5, size=(6, 7)),
    "one": np.array(5),
    "floats": np.array([0.5, -1.0, 0.5, np.inf, -np.inf, -1.0], dtype=np.float32),
    "booleans": np.array([True, False, True]),
    "same": np.zeros(5, dtype=np.uint8),
}


@pytest.mark.parametrize("name", list(UNIQUE_INPUTS))
def test_unique_against_numpy(name):
    a = UNIQUE_INPUTS[name]
    values, first, inverse, counts = np.unique(a, return_index=True, return_inverse=True, return_counts=True)
    for size in (0, 1, len(values), len(values) + 3):
        got = mx.unique(mx.array(a), size, True, True, True)
        kept, missing = min(size, len(values)), max(size - len(values), 0)
        want = [
            np.concatenate([values[:kept], np.repeat(values[:1], missing)]),
            np.concatenate([first[:kept], np.repeat(first[:1], missing)]),
            np.minimum(inverse.reshape(a.shape), max(size - 1, 0)),
            np.concatenate([counts[:kept], np.zeros(missing, int)]),
        ]
        for g, w in zip(got, want, strict=True):
            np.testing.assert_array_equal(np.array(g), w)
        assert [g.dtype for g in got[1:]] == [mx.uint32, mx.uint32, mx.int32]
        assert got[0].dtype == mx.array(a).dtype


def test_unique_results_follow_the_flags():
    a = mx.array([2, 1, 2])
    parts = {"return_index": [1, 0], "return_inverse": [1, 0, 1], "return_counts": [1, 2]}
    for count in range(4):
        for flags in itertools.combinations(parts, count):
            got = mx.unique(a, 2, **dict.fromkeys(flags, True))
            if not flags:
                assert isinstance(got, mx.array)
                assert got.tolist() == [1, 2]
            else:
                assert isinstance(got, tuple)
                assert [g.tolist() for g in got] == [[1, 2], *(parts[flag] for flag in flags)]


def test_unique_fills_and_refuses():
    assert mx.unique(mx.array([1, 2]), 4, fill_value=7).tolist() == [1, 2, 7, 7]
    values, counts = mx.unique(mx.zeros((0,), mx.int32), 2, fill_value=7, return_counts=True)
    assert values.tolist() == [7, 7]
    assert counts.tolist() == [0, 0]
    assert mx.unique(mx.array([np.nan, 1.0, np.nan]), 3, return_counts=True)[1].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="wants a fill value for 2 results of an empty array"):
        mx.unique(mx.zeros((0,)), 2)
    with pytest.raises(ValueError, match="wants a size that is not negative, got -1"):
        mx.unique(mx.array([1]), -1)
    with pytest.raises(ValueError, match=r"wants one fill value, got shape \(2\)|wants one fill value"):
        mx.unique(mx.array([1]), 2, fill_value=mx.array([1, 2]))
