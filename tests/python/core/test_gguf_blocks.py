"""GGUF's block formats: the reference's bits, quantized_matmul, gather_qmm, gradients, errors."""

from __future__ import annotations

from pathlib import Path

import lamina.core as mx
import numpy as np
import pytest
from core.test_gguf import AFFINE_BITS, BLOCK_BYTES, ordinary_blocks

GOLDEN = Path(__file__).parents[2] / "golden" / "io"
EPS = 2.0**-24
NAMES = sorted(BLOCK_BYTES)


def decoded(name: str, data: np.ndarray) -> np.ndarray:
    """Float32 values of blocks of shape (..., rows, bytes of a row)."""
    return np.asarray(mx.dequantize(mx.array(data), mode=name))


def assert_product(got: mx.array, x: np.ndarray, w: np.ndarray, eps: float = EPS) -> None:
    """`got` is x @ w within the rounding of float32 sums and of its own dtype."""
    want = x.astype(np.float64) @ w.astype(np.float64)
    size = np.abs(x.astype(np.float64)) @ np.abs(w.astype(np.float64))
    bound = 8 * EPS * np.sqrt(x.shape[-1] + 4) * size + 2 * eps * np.abs(want)
    values = np.asarray(got.astype(mx.float32)).astype(np.float64)
    assert values.shape == want.shape
    assert (np.abs(values - want) <= bound).all()


@pytest.mark.parametrize("name", NAMES)
def test_dequantize_gives_the_references_bits(name: str) -> None:
    blocks = mx.load(GOLDEN / "blocks.gguf", format="gguf_blocks")[name]
    want = np.load(GOLDEN / "blocks.npz")[name]
    got = mx.dequantize(blocks, mode=name)
    assert got.dtype == mx.float32
    np.testing.assert_array_equal(np.asarray(got).view(np.uint32), want.view(np.uint32))
    half = mx.dequantize(blocks, mode=name, dtype=mx.float16)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(np.asarray(half), want.astype(np.float16))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_quantized_matmul(name: str, dtype: str) -> None:
    blocks = 512 // BLOCK_BYTES[name][0]
    data = ordinary_blocks(name, 40, blocks, seed=1)
    w = decoded(name, data)
    eps = {"float32": EPS, "float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    for rows in (1, 3, 17):
        # Small enough that float16 holds the sums.
        values = np.random.default_rng(rows).standard_normal((rows, 512)) / 64
        x = mx.array(values).astype(getattr(mx, dtype))
        y = mx.quantized_matmul(x, mx.array(data), mode=name)
        assert y.dtype == x.dtype
        assert_product(y, np.asarray(x.astype(mx.float32)), w.T, eps)
        x = x[:, :40]
        y = mx.quantized_matmul(x, mx.array(data), transpose=False, mode=name)
        assert_product(y, np.asarray(x.astype(mx.float32)), w, eps)


def test_mapped_blocks_are_multiplied_as_they_are() -> None:
    arrays = mx.load(GOLDEN / "blocks.gguf", format="gguf_blocks")
    x = mx.ones((1, 256))
    for name in ("q4_k", "q8_0"):
        y = mx.quantized_matmul(x, arrays[name], mode=name)
        assert_product(y, np.ones((1, 256)), decoded(name, np.asarray(arrays[name])).T)


@pytest.mark.parametrize("name", sorted(AFFINE_BITS))
def test_affine_triples_are_the_same_matrix(name: str, tmp_path: Path) -> None:
    data = ordinary_blocks(name, 8, 4, seed=2)
    types = {"lamina.tensor_types": {"w.weight": name}}
    mx.save_gguf(tmp_path / "a.gguf", {"w.weight": mx.array(data)}, types)
    parts = mx.load(tmp_path / "a.gguf")
    x = mx.array(np.random.default_rng(3).standard_normal((5, 128)).astype(np.float32))
    args = [parts[f"w.{p}"] for p in ("weight", "scales", "biases")]
    y = mx.quantized_matmul(x, *args, group_size=32, bits=AFFINE_BITS[name])
    assert_product(y, np.asarray(x), decoded(name, data).T)


@pytest.mark.parametrize("name", ["q4_0", "q6_k"])
def test_batches_and_gather_qmm(name: str) -> None:
    blocks = 256 // BLOCK_BYTES[name][0]
    data = ordinary_blocks(name, 3 * 6, blocks, seed=4).reshape(3, 6, -1)
    w = decoded(name, data)
    assert w.shape == (3, 6, 256)
    x = np.random.default_rng(5).standard_normal((3, 2, 256)).astype(np.float32)
    assert_product(mx.quantized_matmul(mx.array(x), mx.array(data), mode=name), x, w.swapaxes(-1, -2))
    picks = np.array([2, 0, 2, 1])
    left = np.array([0, 1, 2, 0])
    y = mx.gather_qmm(
        mx.array(x), mx.array(data), lhs_indices=mx.array(left), rhs_indices=mx.array(picks), mode=name
    )
    assert_product(y, x[left], w[picks].swapaxes(-1, -2))
    mapped = mx.vmap(lambda a, b: mx.quantized_matmul(a, b, mode=name))(mx.array(x), mx.array(data))
    assert_product(mapped, x, w.swapaxes(-1, -2))


@pytest.mark.parametrize("name", ["q5_1", "q3_k"])
def test_gradient_of_the_activations(name: str) -> None:
    data = mx.array(ordinary_blocks(name, 4, 256 // BLOCK_BYTES[name][0], seed=6))
    x = mx.array(np.random.default_rng(7).standard_normal((3, 256)).astype(np.float32))
    v = mx.array(np.random.default_rng(8).standard_normal((3, 4)).astype(np.float32))
    _, (dx,) = mx.vjp(lambda a: mx.quantized_matmul(a, data, mode=name), [x], [v])
    assert_product(dx, np.asarray(v), decoded(name, np.asarray(data)))


def test_errors() -> None:
    w = mx.array(ordinary_blocks("q4_k", 3, 1, seed=9))
    with pytest.raises(ValueError, match="wants w of uint8, got uint32"):
        mx.dequantize(w.view(mx.uint32), mode="q4_k")
    with pytest.raises(ValueError, match="rows of whole blocks of 144 bytes"):
        mx.dequantize(w[:, :-1], mode="q4_k")
    with pytest.raises(ValueError, match="mode 'q4_k' has no scales"):
        mx.dequantize(w, w, mode="q4_k")
    with pytest.raises(ValueError, match="has no biases"):
        mx.dequantize(w, None, w, mode="q4_k")
    with pytest.raises(ValueError, match="group_size of 256 and 4 bits, got 64 and 4"):
        mx.dequantize(w, group_size=64, mode="q4_k")
    with pytest.raises(ValueError, match=r"mode must be one of affine, .*q4_k"):
        mx.dequantize(w, mode="q4k")
    with pytest.raises(ValueError, match="wants scales and biases"):
        mx.dequantize(w)
    with pytest.raises(ValueError, match="inner dimensions differ"):
        mx.quantized_matmul(mx.ones((2, 255)), w, mode="q4_k")
    with pytest.raises(ValueError, match="read from GGUF files and cannot be made here"):
        mx.quantize(mx.ones((2, 256)), mode="q4_k")
