"""gather_mm and gather_qmm: the bits of plain products; only what is picked is read, and nothing copied."""

from __future__ import annotations

from collections.abc import Callable

import lamina.core as mx
import numpy as np
import pytest

EPS = float(np.finfo(np.float32).eps)

# (axes of the indices, rows of each first factor): few problems, many, one matrix with most of them.
CASES = [((), 1), ((8,), 1), ((5, 4), 1), ((70,), 3), ((300,), 1), ((2, 9), 40)]


def normal(seed: int, *shape: int) -> mx.array:
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def picks(shape: tuple[int, ...], matrices: int, skewed: bool) -> mx.array:
    rng = np.random.default_rng(len(shape) + matrices)
    chosen = rng.integers(-matrices, matrices, shape)
    return mx.array(np.where(rng.random(shape) < 0.8, 1, chosen) if skewed else chosen)


@pytest.fixture
def invariant():
    before = mx.set_batch_invariant(True)
    yield
    mx.set_batch_invariant(before)


FORMS: dict[str, Callable[[mx.array], mx.array]] = {
    "dense": lambda x: x,
    "shared": lambda x: x[:1] if x.ndim > 2 else x,
    "strided": lambda x: mx.concatenate([x, x + 1], axis=-1)[..., : x.shape[-1]],
    "columns": lambda x: mx.contiguous(x.swapaxes(-1, -2)).swapaxes(-1, -2),
    "backwards": lambda x: x[::-1],
}


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("shape", "rows"), CASES)
class TestBits:
    def test_float_products(self, shape, rows, form, skewed, invariant):
        x, w = FORMS[form](normal(1, *shape, rows, 96)), normal(2, 6, 96, 70)
        at = picks(shape, 6, skewed)
        wanted = mx.broadcast_to(x, (*shape, rows, 96)) @ w[at]
        assert mx.array_equal(mx.gather_mm(x, w, rhs_indices=at), wanted).item()
        transposed = mx.contiguous(w.swapaxes(-1, -2)).swapaxes(-1, -2)
        assert mx.array_equal(mx.gather_mm(x, transposed, rhs_indices=at), wanted).item()

    @pytest.mark.parametrize("mode", ["affine", "mxfp4", "mxfp8"])
    @pytest.mark.parametrize("activations", ["float", "int8"])
    def test_quantized_products(self, shape, rows, form, skewed, invariant, mode, activations):
        x = FORMS[form](normal(1, *shape, rows, 128))
        parts = mx.quantize(normal(2, 6, 70, 128), mode=mode)
        at = picks(shape, 6, skewed)
        own = {"mode": mode, "activations": activations}
        wanted = mx.quantized_matmul(mx.broadcast_to(x, (*shape, rows, 128)), *(p[at] for p in parts), **own)
        assert mx.array_equal(mx.gather_qmm(x, *parts, rhs_indices=at, **own), wanted).item()


def test_16_bit_rows_and_products_that_are_not_transposed():
    x, parts = normal(1, 9, 2, 70).astype(mx.bfloat16), mx.quantize(normal(2, 4, 70, 128))
    at = picks((9,), 4, False)
    got = mx.gather_qmm(x, *parts, rhs_indices=at, transpose=False)
    dense = mx.dequantize(*parts)[at]
    a, b = np.array(x.astype(mx.float32)).astype(np.float64), np.array(dense).astype(np.float64)
    assert got.dtype == mx.float32
    assert (np.abs(np.array(got) - a @ b) <= 71 * EPS * (np.abs(a) @ np.abs(b))).all()


def test_matrices_that_nobody_picks_are_not_read():
    w = normal(1, 4, 32, 8)
    w[2] = float("nan")
    at = mx.array([0, 3, 1, 0])
    assert mx.isfinite(mx.gather_mm(normal(2, 4, 1, 32), w, rhs_indices=at)).all().item()
    words, scales, biases = mx.quantize(normal(3, 4, 8, 64))
    scales[2] = float("nan")
    y = mx.gather_qmm(normal(2, 4, 1, 64), words, scales, biases, rhs_indices=at)
    assert mx.isfinite(y).all().item()


@pytest.mark.parametrize("kind", ["float", "packed"])
def test_picked_matrices_are_not_copied(kind):
    w = normal(1, 2, 512, 512)
    at = mx.array(np.arange(64) % 2)
    x = normal(2, 64, 1, 512)
    parts = mx.quantize(w) if kind == "packed" else [w]
    mx.eval(x, at, *parts)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    y = (
        mx.gather_qmm(x, *parts, rhs_indices=at)
        if kind == "packed"
        else mx.gather_mm(x, w.swapaxes(-1, -2), rhs_indices=at)
    )
    mx.eval(y)
    assert mx.get_peak_memory() - before <= 2 * y.nbytes


def test_gradients_of_experts_without_rows_are_zero():
    w = normal(1, 5, 8, 3)
    at = mx.array([1, 4, 1])
    g = mx.grad(lambda w: mx.gather_mm(normal(2, 3, 2, 8), w, rhs_indices=at).sum())(w)
    assert [mx.any(g[i] != 0).item() for i in range(5)] == [False, True, False, False, True]


@pytest.mark.parametrize("axes", [(0, None, None), (None, 0, None), (None, None, 0), (0, 0, 0), (1, 2, 1)])
def test_vmap(axes):
    parts = mx.quantize(normal(2, 3, 5, 4, 64), group_size=32)
    x, at = normal(1, 3, 3, 1, 64), mx.array(np.random.default_rng(0).integers(-5, 5, (3, 3)))

    def product(x, words, scales, biases, at):
        return mx.gather_qmm(x, words, scales, biases, rhs_indices=at, group_size=32)

    def moved(a, axis):
        return a[0] if axis is None else mx.moveaxis(a, 0, axis)

    operands = [moved(a, axes[min(i, 1) if i < 4 else 2]) for i, a in enumerate((x, *parts, at))]
    in_axes = (axes[0], *3 * [axes[1]], axes[2])
    got = mx.vmap(product, in_axes=in_axes)(*operands)
    for i in range(3):
        one = [a if axis is None else mx.take(a, i, axis) for a, axis in zip(operands, in_axes, strict=True)]
        wanted = product(*one)
        weights = mx.abs(mx.dequantize(*one[1:4], group_size=32))[one[4]]
        bound = 64 * EPS * (mx.abs(one[0]) @ weights.swapaxes(-1, -2))
        assert (mx.abs(got[i] - wanted) <= bound).all().item()


def test_bad_indices_are_found_by_gradients_and_batches_too():
    x, w, at = normal(1, 2, 1, 8), normal(2, 3, 8, 4), mx.array([0, 3])
    with pytest.raises(IndexError, match="index 3 is out of bounds for axis 0 of length 3"):
        mx.eval(mx.grad(lambda w: mx.gather_mm(x, w, rhs_indices=at).sum())(w))
    both = mx.stack([w, w])
    for bad in (at, at - 4):
        with pytest.raises(IndexError, match="out of bounds for axis 0 of length 3"):
            mx.eval(mx.vmap(lambda w, bad=bad: mx.gather_mm(x, w, rhs_indices=bad))(both))


def test_empty_sums():
    x, w = mx.zeros((2, 3, 0)), mx.zeros((2, 4, 0), mx.uint32)
    scales = mx.zeros((2, 4, 0))
    for y in (
        mx.quantized_matmul(x[0], w[0], scales[0], scales[0]),
        mx.quantized_matmul(x, w, scales, scales),
        mx.gather_qmm(x, w, scales, scales, rhs_indices=mx.array([1, 1])),
    ):
        assert y.shape[-2:] == (3, 4)
        assert not mx.any(y).item()
