"""Mode 'fp8': E4M3 floats with a float32 scale for each 128, as checkpoints with block scales hold them."""

from __future__ import annotations

import lamina.core as mx
import numpy as np
import pytest

EPS = 2.0**-24


def parts(rows: int, columns: int, seed: int) -> tuple[mx.array, mx.array, np.ndarray]:
    """Words and scales of a random matrix, and the matrix."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (rows, columns), dtype=np.uint8)
    codes[(codes & 0x7F) == 0x7F] ^= 1  # NaN
    scales = rng.uniform(1e-3, 2, (rows, columns // 128)).astype(np.float32)
    values = np.asarray(mx.from_fp8(mx.array(codes), mx.float32)) * scales.repeat(128, 1)
    return mx.array(codes).view(mx.uint32), mx.array(scales).view(mx.uint8), values


def test_dequantize() -> None:
    w, scales, values = parts(5, 384, 1)
    got = mx.dequantize(w, scales, mode="fp8", dtype=mx.float32)
    np.testing.assert_array_equal(np.asarray(got), values)
    half = mx.dequantize(w, scales, mode="fp8", dtype=mx.float16)
    np.testing.assert_array_equal(np.asarray(half), values.astype(np.float16))
    assert mx.dequantize(w, scales, mode="fp8").dtype == mx.bfloat16


def assert_product(got: mx.array, x: np.ndarray, w: np.ndarray, eps: float) -> None:
    want = x.astype(np.float64) @ w.astype(np.float64)
    size = np.abs(x.astype(np.float64)) @ np.abs(w.astype(np.float64))
    bound = 8 * EPS * np.sqrt(x.shape[-1]) * size + 2 * eps * np.abs(want)
    assert (np.abs(np.asarray(got.astype(mx.float32)) - want) <= bound).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("activations", ["float", "int8"])
def test_products(dtype: str, activations: str) -> None:
    w, scales, values = parts(40, 512, 2)
    eps = {"float32": EPS, "bfloat16": 2.0**-8}[dtype]
    for rows in (1, 3, 17):
        x = mx.array(np.random.default_rng(rows).standard_normal((rows, 512)) / 64).astype(getattr(mx, dtype))
        y = mx.quantized_matmul(x, w, scales, mode="fp8", activations=activations)
        assert y.dtype == x.dtype
        assert_product(y, np.asarray(x.astype(mx.float32)), values.T, eps)
        y = mx.quantized_matmul(x[:, :40], w, scales, transpose=False, mode="fp8")
        assert_product(y, np.asarray(x[:, :40].astype(mx.float32)), values, eps)


def test_gather_and_gradient() -> None:
    w, scales, values = parts(3 * 6, 128, 3)
    w, scales, values = w.reshape(3, 6, -1), scales.reshape(3, 6, -1), values.reshape(3, 6, 128)
    x = np.random.default_rng(4).standard_normal((3, 2, 128)).astype(np.float32)
    picks = np.array([2, 0, 2])
    y = mx.gather_qmm(mx.array(x), w, scales, rhs_indices=mx.array(picks), mode="fp8")
    assert_product(y, x, values[picks].swapaxes(-1, -2), EPS)
    v = np.random.default_rng(5).standard_normal((2, 6)).astype(np.float32)
    product = lambda a: mx.quantized_matmul(a, w[0], scales[0], mode="fp8")  # noqa: E731
    _, (dx,) = mx.vjp(product, [mx.array(x[0])], [mx.array(v)])
    assert_product(dx, v, values[0], EPS)


def test_what_it_is_not() -> None:
    w, scales, _ = parts(4, 256, 6)
    x = mx.ones((1, 256))
    for call, message in [
        (
            lambda: mx.quantize(mx.ones((4, 256)), mode="fp8"),
            "'fp8' is read from checkpoints and cannot be",
        ),
        (lambda: mx.qqmm(x, mx.ones((4, 256)), mode="fp8"), "mode must be nvfp4, mxfp8 or mxfp4, got 'fp8'"),
        (lambda: mx.quantized_matmul(x, w, mode="fp8"), "mode 'fp8' wants scales"),
        (lambda: mx.quantized_matmul(x, w, scales[:, :4], mode="fp8"), "scales"),
        (
            lambda: mx.quantized_matmul(x, w, scales, group_size=64, mode="fp8"),
            "group_size of 128 and 8",
        ),
        (lambda: mx.dequantize(w[:, :-1], scales, mode="fp8"), "whole"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
