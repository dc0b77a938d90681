"""Products of parts: masked blocks, matrices picked from batches, segments in views of all kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.table_cases import accumulator_eps, rounding, wide
from core.table_rows import EPS, LAYOUTS, laid_out, of, rng_of

FLOATING = list(EPS)


def draw(dtype: str, *shape: int, seed: object = 0) -> np.ndarray:
    rng = rng_of(dtype, shape, seed)
    x = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if dtype == "complex64" else 0)
    return x.astype(of_name(dtype))


def of_name(dtype: str) -> Any:
    from core.core_cases import NUMPY_DTYPES

    return NUMPY_DTYPES[dtype]


def blown_up(mask: np.ndarray, block: int, rows: int, columns: int) -> np.ndarray:
    return mask.repeat(block, -2).repeat(block, -1)[..., :rows, :columns]


def masked_product(a: np.ndarray, b: np.ndarray, block: int, masks: Any) -> tuple[np.ndarray, np.ndarray]:
    """The product and the product of magnitudes."""
    out, left, right = masks
    x, y = wide(a), wide(b)
    x = x if left is None else x * blown_up(wide(left), block, *x.shape[-2:])
    y = y if right is None else y * blown_up(wide(right), block, *y.shape[-2:])
    want, size = x @ y, np.abs(x) @ np.abs(y)
    if out is not None:
        o = blown_up(wide(out), block, *want.shape[-2:])
        want, size = want * o, size * np.abs(o)
    return want, size


def assert_close(got: mx.array, want: np.ndarray, size: np.ndarray, dtype: str, roundings: int) -> None:
    """Within so many roundings of the accumulator and a few of the dtype of what was added up."""
    x = np.asarray(got)
    assert x.shape == want.shape
    bound = roundings * accumulator_eps(dtype) * size + 4 * max(rounding(dtype), EPS[dtype]) * size
    assert np.all(np.abs(wide(x) - want) <= bound + np.finfo(np.float32).tiny)


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("kind", ["bool", "scale"])
@pytest.mark.parametrize("block", [1, 7, 32, 64])
def test_block_masks(dtype: str, kind: str, block: int) -> None:
    a, b = draw(dtype, 2, 1, 9, 65), draw(dtype, 3, 65, 33)
    across = [-(-n // block) for n in (9, 65, 33)]
    shapes = [(3, across[0], across[2]), (2, 1, across[0], across[1]), (across[1], across[2])]
    for present in range(8):
        rng = rng_of(dtype, kind, block, present)
        masks = [
            rng.standard_normal(s).astype(a.dtype) if present >> i & 1 else None for i, s in enumerate(shapes)
        ]
        if kind == "bool":
            masks = [None if m is None else m.real > 0 for m in masks]
        for i, layout in enumerate(LAYOUTS):
            (x, pick), (y, pick_b) = laid_out(a, layout), laid_out(b, LAYOUTS[i - 1])
            ours = [None if m is None else of(m) for m in masks]
            got = mx.block_masked_mm(x, y, block, *ours)
            want, size = masked_product(pick(a), pick_b(b), block, masks)
            assert_close(got, want, size, dtype, 8 * 65)


def test_block_masks_of_vectors_and_empty_factors() -> None:
    a, b = draw("float32", 65), draw("float32", 65, 4)
    mask = np.array([[True, False, True]])
    want, size = masked_product(a[None], b, 32, (None, mask, None))
    assert_close(mx.block_masked_mm(of(a), of(b), 32, mask_lhs=of(mask)), want[0], size[0], "float32", 130)
    got = mx.block_masked_mm(of(b.T), of(a), 32, mask_rhs=of(mask.T))
    assert got.shape == (4,)
    assert mx.block_masked_mm(mx.zeros((0, 5)), mx.zeros((5, 3))).shape == (0, 3)
    assert mx.block_masked_mm(mx.zeros((2, 0)), mx.zeros((0, 3)), 32).tolist() == [[0.0] * 3] * 2


def test_dropped_blocks_hide_what_they_held() -> None:
    """A bool mask replaces, a numeric mask multiplies: NaN times 0 is NaN."""
    a = mx.full((2, 2), float("nan"))
    drop = mx.zeros((1, 1), mx.bool_)
    for name in ("mask_out", "mask_lhs"):
        masks: dict[str, Any] = {name: drop}
        assert mx.block_masked_mm(a, mx.ones((2, 2)), 32, **masks).tolist() == [[0, 0], [0, 0]]
        masks = {name: mx.zeros((1, 1))}
        assert mx.all(mx.isnan(mx.block_masked_mm(a, mx.ones((2, 2)), 32, **masks))).item()


def test_gradients_of_block_masks() -> None:
    """Of factors and numeric masks, against the same product from repeated masks."""
    dtype = mx.float64
    shapes = {"a": (5, 7), "b": (7, 6), "out": (2, 2), "left": (2, 3), "right": (3, 2)}
    xs = [mx.array(draw("float64", *s, seed=n), dtype) for n, s in shapes.items()]
    weight = mx.array(draw("float64", 5, 6, seed="weight"), dtype)

    def grown(m: mx.array, rows: int, columns: int) -> mx.array:
        return mx.repeat(mx.repeat(m, 3, 0), 3, 1)[:rows, :columns]

    def plain(a: mx.array, b: mx.array, o: mx.array, m: mx.array, r: mx.array) -> mx.array:
        return (weight * grown(o, 5, 6) * ((a * grown(m, 5, 7)) @ (b * grown(r, 7, 6)))).sum()

    def masked(a: mx.array, b: mx.array, o: mx.array, m: mx.array, r: mx.array) -> mx.array:
        return (weight * mx.block_masked_mm(a, b, 3, o, m, r)).sum()

    which = (0, 1, 2, 3, 4)
    for got, want in zip(mx.grad(masked, which)(*xs), mx.grad(plain, which)(*xs), strict=True):
        scale = 7 * 9 * float(mx.abs(want).max().item()) + 1
        assert float(mx.abs(got - want).max().item()) <= 50 * EPS["float64"] * scale


def test_block_masks_under_vmap() -> None:
    a, b = of(draw("float32", 4, 5, 40)), of(draw("float32", 40, 6))
    masks = mx.array(rng_of("masks").random((4, 1, 2)) > 0.5)
    got = mx.vmap(lambda x, m: mx.block_masked_mm(x, b, 32, mask_lhs=m))(a, masks)
    for i in range(4):
        want, size = masked_product(np.asarray(a[i]), np.asarray(b), 32, (None, np.asarray(masks[i]), None))
        assert_close(got[i], want, size, "float32", 80)


ONE = mx.ones((1, 1))
BLOCK_ERRORS: dict[str, tuple[Any, type[Exception], str]] = {
    "mask": (
        lambda: mx.block_masked_mm(mx.ones((70, 50)), mx.ones((50, 9)), 32, mask_lhs=mx.ones((2, 2))),
        ValueError,
        r"mask_lhs must broadcast to \(3, 2\), one element for each block of 32, .* \(2, 2\)",
    ),
    "batch": (
        lambda: mx.block_masked_mm(mx.ones((2, 2)), mx.ones((2, 2)), 32, ONE[None]),
        ValueError,
        r"mask_out must broadcast to \(1, 1\), .*, got shape \(1, 1, 1\)",
    ),
    "axes": (
        lambda: mx.block_masked_mm(mx.ones((2, 2)), mx.ones((2, 2)), 32, ONE[0]),
        ValueError,
        r"got shape \(1,\)",
    ),
    "block": (lambda: mx.block_masked_mm(ONE, ONE, 0), ValueError, "block_size must be positive, got 0"),
    "dtype": (
        lambda: mx.block_masked_mm(ONE.astype(mx.int32), ONE.astype(mx.int32)),
        ValueError,
        "inexact dtypes, got int32 and int32",
    ),
    "inner": (lambda: mx.block_masked_mm(ONE, mx.ones((2, 1))), ValueError, "inner dimensions differ"),
    "scalar": (lambda: mx.block_masked_mm(ONE, mx.array(1.0)), ValueError, "at least 1 axis on both sides"),
    "picked dtype": (
        lambda: mx.gather_mm(ONE, ONE, mx.array([0.0])),
        ValueError,
        r"\[gather_mm\] lhs_indices must be integers, got float32",
    ),
    "picked scalar": (
        lambda: mx.gather_mm(ONE, mx.array(1.0)),
        ValueError,
        r"\[gather_mm\] wants at least 1 axis",
    ),
    "picked inner": (lambda: mx.gather_mm(ONE, mx.ones((3, 2, 1))), ValueError, "inner dimensions differ"),
    "picked place": (
        lambda: mx.eval(mx.gather_mm(ONE, ONE, mx.array([1]))),
        IndexError,
        "index 1 is out of bounds",
    ),
}


@pytest.mark.parametrize("name", BLOCK_ERRORS)
def test_errors(name: str) -> None:
    call, kind, text = BLOCK_ERRORS[name]
    with pytest.raises(kind, match=text):
        call()


# Shapes of the factors, and indices of the first and the second factor's matrices.
PICKED: dict[str, tuple[tuple[int, ...], tuple[int, ...], Any, Any]] = {
    "no indices": ((3, 4, 5), (3, 5, 7), None, None),
    "left": ((3, 4, 5), (6, 5, 7), [0, 1, 2, 0, 1, 2], None),
    "right": ((3, 4, 5), (6, 5, 7), None, [5, 0, 3]),
    "right, two axes": ((3, 4, 5), (6, 5, 7), None, [[0, 1, 2], [1, 2, 3]]),
    "both broadcast": ((3, 4, 5), (6, 5, 7), [0, 1], [[5], [4]]),
    "batch of two axes": ((2, 3, 4, 5), (6, 5, 7), [5, 0], [1, 1]),
    "one matrix": ((4, 5), (6, 5, 7), None, [1, 2]),
    "0-d": ((3, 4, 5), (6, 5, 7), 1, 0),
    "vector on the left": ((5,), (6, 5, 7), None, [1, 3]),
    "vector on the right": ((3, 4, 5), (5,), [2], None),
    "from the end": ((3, 4, 5), (6, 5, 7), [-1], [-2]),
    "none": ((3, 4, 5), (6, 5, 7), np.zeros(0, np.int32), np.zeros(0, np.int32)),
}


@pytest.mark.parametrize("name", PICKED)
@pytest.mark.parametrize("dtype", FLOATING)
def test_gather_mm(name: str, dtype: str) -> None:
    left, right, i, j = PICKED[name]
    a, b = draw(dtype, *left), draw(dtype, *right)
    for index_dtype in (mx.int32, mx.int64, mx.uint32) if "end" not in name else (mx.int32,):
        at = [None if k is None else mx.array(np.asarray(k), index_dtype) for k in (i, j)]
        for k, layout in enumerate(LAYOUTS):
            (x, pick), (y, pick_b) = laid_out(a, layout), laid_out(b, LAYOUTS[k - 1])
            xs, ys = wide(pick(a)), wide(pick_b(b))
            xs = xs[None] if xs.ndim == 1 else xs
            ys = ys[:, None] if ys.ndim == 1 else ys
            xs = xs if i is None else xs.reshape(-1, *xs.shape[-2:])[np.asarray(i)]
            ys = ys if j is None else ys.reshape(-1, *ys.shape[-2:])[np.asarray(j)]
            want, size = xs @ ys, np.abs(xs) @ np.abs(ys)
            if len(left) == 1:
                want, size = want[..., 0, :], size[..., 0, :]
            if len(right) == 1:
                want, size = want[..., 0], size[..., 0]
            got = mx.gather_mm(x, y, *at, sorted_indices=k % 2 == 0)
            assert_close(got, want, size, dtype, 4 * 5)


def test_gradients_of_gather_mm() -> None:
    a, b = (mx.array(draw("float64", *s), mx.float64) for s in ((3, 2, 4), (5, 4, 3)))
    i, j = mx.array([0, 2, 2, 1]), mx.array([4, 4, 0, 1])
    got = mx.grad(lambda x, y: (mx.gather_mm(x, y, i, j) ** 2).sum(), (0, 1))(a, b)
    x, y = np.asarray(a), np.asarray(b)
    slope = 2 * (x[np.asarray(i)] @ y[np.asarray(j)])
    wanted = np.zeros_like(x), np.zeros_like(y)
    np.add.at(wanted[0], np.asarray(i), slope @ y[np.asarray(j)].swapaxes(1, 2))
    np.add.at(wanted[1], np.asarray(j), x[np.asarray(i)].swapaxes(1, 2) @ slope)
    for g, w in zip(got, wanted, strict=True):
        assert np.abs(np.asarray(g) - w).max() <= 100 * EPS["float64"] * np.abs(w).max()


def test_many_segments() -> None:
    """More segments than threads take another way than few."""
    rng = rng_of("many")
    a, b = draw("float32", 6, 300), draw("float32", 300, 5)
    pairs = np.sort(rng.integers(0, 301, (40, 2)))
    got = mx.segmented_mm(of(a), of(b), mx.array(pairs.astype(np.uint32)))
    few = mx.concatenate([mx.segmented_mm(of(a), of(b), mx.array(p)) for p in np.split(pairs, 20)])
    assert mx.array_equal(got, few).item()
    want = np.stack([wide(a)[:, i:j] @ wide(b)[i:j] for i, j in pairs])
    size = np.stack([np.abs(wide(a))[:, i:j] @ np.abs(wide(b))[i:j] for i, j in pairs])
    assert_close(got, want, size, "float32", 600)


def test_exported(tmp_path: Path) -> None:
    a, b = of(draw("float32", 4, 9)), of(draw("float32", 9, 5))
    pairs = mx.array([[0, 4], [4, 9]])
    path = str(tmp_path / "f.lamina")
    mx.export_function(path, mx.segmented_mm, a, b, pairs)
    (got,) = mx.import_function(path)(a, b, pairs)
    assert mx.array_equal(got, mx.segmented_mm(a, b, pairs)).item()


@pytest.mark.parametrize("mapped", range(1, 8))
def test_segments_under_vmap(mapped: int) -> None:
    a, b = draw("float32", 3, 4, 9), draw("float32", 3, 9, 5)
    pairs = np.array([[[0, 4], [4, 9]], [[2, 2], [0, 9]], [[1, 3], [8, 9]]])
    axes = [0 if mapped >> k & 1 else None for k in range(3)]
    operands = [v if axis == 0 else v[1] for v, axis in zip((a, b, pairs), axes, strict=True)]
    got = mx.vmap(mx.segmented_mm, in_axes=axes)(*map(mx.array, operands))
    for n in range(3):
        x, y, s = (v[n] if axis == 0 else v for v, axis in zip(operands, axes, strict=True))
        want = np.stack([wide(x)[:, i:j] @ wide(y)[i:j] for i, j in s])
        size = np.stack([np.abs(wide(x))[:, i:j] @ np.abs(wide(y))[i:j] for i, j in s])
        assert_close(got[n], want, size, "float32", 20)
