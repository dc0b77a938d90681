"""Quantized matrices in every mode: against MLX's own numbers, and products against float64."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import NUMPY_DTYPES, golden
from core.table_quant import E2M1, E4M3, E8M0, MODES, codes_of, decoded, encoded
from core.table_rows import EPS

GOLDEN = golden("quant")
F32 = EPS["float32"]
AFFINE = [(bits, group) for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128)]
# Every format as the keyword arguments of the functions.
FORMATS: dict[str, dict[str, Any]] = {
    **{f"affine-{b}-{g}": {"bits": b, "group_size": g, "mode": "affine"} for b, g in AFFINE},
    **{mode: {"mode": mode} for mode in MODES},
}
SMALL = {name: FORMATS[name] for name in ("affine-3-32", "affine-4-64", *MODES)}


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def packed(w: np.ndarray, fmt: dict[str, Any]) -> tuple[mx.array, dict[str, mx.array], np.ndarray]:
    """Codes, the other parts by name, and the float64 values."""
    codes, *rest = mx.quantize(mx.array(w), **fmt)
    names = dict(zip(("scales", "biases"), rest, strict=False))
    dense = mx.dequantize(codes, **names, **fmt, dtype=mx.float32)
    return codes, names, np.asarray(dense, np.float64)


def assert_product(got: mx.array, x: np.ndarray, w: np.ndarray, extra: float = 0) -> None:
    """got is x @ w summed in float32; weights may carry a rounding of their own."""
    x = x.astype(np.float64)
    want, size = x @ w, np.abs(x) @ np.abs(w)
    # Affine sums take codes and biases apart, whose sizes add up to a few times the weights'.
    bound = (4 * x.shape[-1] ** 0.5 + 8) * F32 * (size + np.abs(x).sum(-1, keepdims=True) * np.abs(w).max())
    assert got.shape == want.shape
    assert (np.abs(np.asarray(got, np.float64) - want) <= bound + extra * np.abs(want)).all()


# ---- MLX's own numbers


def from_hex(text: str, dtype: Any, *shape: int) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(text), dtype).reshape(shape)


def golden_case(case: dict[str, Any]) -> tuple[mx.array, dict[str, Any]]:
    w = from_hex(case["w"], NUMPY_DTYPES[case["dtype"]], GOLDEN["rows"], GOLDEN["cols"])
    scale = case["global_scale"]
    return mx.array(w), {"mode": case["mode"]} | ({} if scale is None else {"global_scale": mx.array(scale)})


@pytest.mark.parametrize(
    "case", GOLDEN["cases"], ids=[f"{c['mode']}-{c['dtype']}-{c['global_scale']}" for c in GOLDEN["cases"]]
)
def test_codes_scales_and_values_are_those_of_mlx(case: dict[str, Any]) -> None:
    w, options = golden_case(case)
    codes, scales = mx.quantize(w, **options)
    assert np.asarray(scales).tobytes().hex() == case["scales"]
    assert np.asarray(codes).tobytes().hex() == case["codes"]
    back = np.asarray(mx.dequantize(codes, scales, **options, dtype=mx.float32))
    assert hashlib.sha256(back.tobytes()).hexdigest() == case["values"]
    # The NumPy oracle of the other tests agrees with MLX too.
    twin = encoded(np.asarray(w), case["mode"], case["global_scale"])
    assert (twin[0] == np.asarray(codes)).all()
    assert (twin[1] == np.asarray(scales)).all()
    assert (decoded(*twin, case["mode"], case["global_scale"]) == back).all()


def test_tables_of_codes_are_those_of_mlx() -> None:
    def table(name: str) -> np.ndarray:
        return from_hex(GOLDEN["tables"][name], np.float32, -1)

    assert np.array_equal(E2M1, table("e2m1")[:16])
    assert np.array_equal(E4M3, table("e4m3"), equal_nan=True)
    for mode, (group, bits, _) in MODES.items():
        # Codes of 1 everywhere, one row for each scale.
        word = 0x38383838 if bits == 8 else 0x22222222
        ones = mx.full((256, group * bits // 32), word, dtype=mx.uint32)
        every = mx.arange(256).astype(mx.uint8)[:, None]
        got = np.asarray(mx.dequantize(ones, every, mode=mode, dtype=mx.float32))[:, 0]
        assert np.array_equal(got, table(f"{mode} scales"), equal_nan=True)
        assert np.array_equal(got, E4M3 if mode == "nvfp4" else E8M0, equal_nan=True)


# ---- modes and their parameters


@pytest.mark.parametrize("mode", MODES)
def test_defaults_of_a_mode(mode: str) -> None:
    group, bits, _ = MODES[mode]
    w = mx.array(values(3, 2, 64))
    parts = mx.quantize(w, mode=mode)
    assert [p.shape for p in parts] == [(3, 2, 64 * bits // 32), (3, 2, 64 // group)]
    assert [p.dtype for p in parts] == [mx.uint32, mx.uint8]
    given = mx.quantize(w, group, bits, mode)
    assert all(mx.array_equal(a, b).item() for a, b in zip(parts, given, strict=True))
    assert mx.dequantize(*parts, mode=mode).dtype == mx.bfloat16
    for dtype in (mx.float16, mx.bfloat16, mx.float32, mx.float64):
        assert mx.dequantize(*parts, mode=mode, dtype=dtype).dtype == dtype


def test_dtype_of_dequantized_affine_values() -> None:
    parts = mx.quantize(mx.array(values(2, 64)).astype(mx.bfloat16))
    stored = mx.dequantize(*parts)
    assert stored.dtype == mx.bfloat16
    wide = mx.dequantize(*parts, dtype=mx.float32)
    assert wide.dtype == mx.float32
    assert mx.array_equal(wide, stored.astype(mx.float32)).item()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(0, 64), (4, 0), (2, 0, 64)])
def test_empty_matrices(mode: str, shape: tuple[int, ...]) -> None:
    parts = mx.quantize(mx.zeros(shape), mode=mode)
    assert mx.dequantize(*parts, mode=mode).shape == shape


@pytest.mark.parametrize("mode", MODES)
def test_what_is_not_finite(mode: str) -> None:
    w = values(1, 64)
    plain = np.asarray(mx.quantize(mx.array(w), mode=mode)[1])
    w[0, 3], w[0, 20], w[0, 40] = np.inf, -np.inf, np.nan
    codes, scales = mx.quantize(mx.array(w), mode=mode)
    assert (np.asarray(scales) <= plain).all()
    back = np.asarray(mx.dequantize(codes, scales, mode=mode, dtype=mx.float32))[0]
    assert back[3] == np.nanmax(back[:16]) > 0 > back[20] == np.nanmin(back[16:32])
    assert np.isnan(back[40]) if mode == "mxfp8" else back[40] == 0


def test_a_global_scale_for_each_matrix() -> None:
    w = values(3, 4, 32) * np.float32([1, 30, 1000])[:, None, None]
    scales = mx.array(np.abs(w).max((1, 2)))
    together = mx.quantize(mx.array(w), mode="nvfp4", global_scale=scales)
    back = mx.dequantize(*together, mode="nvfp4", global_scale=scales)
    assert back.dtype == mx.float32
    for i in range(3):
        alone = mx.quantize(mx.array(w[i]), mode="nvfp4", global_scale=scales[i])
        assert all(mx.array_equal(a[i], b).item() for a, b in zip(together, alone, strict=True))
        one = mx.dequantize(*alone, mode="nvfp4", global_scale=scales[i])
        assert mx.array_equal(back[i], one).item()
    # Half of the widest step, a third of the largest size of a group, and a sixteenth in its scale.
    most = np.abs(w).reshape(3, 4, 2, 16).max(-1).repeat(16, -1)
    assert (np.abs(np.asarray(back) - w) <= most * (1 / 6 + 1 / 15)).all()


# ---- products


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_products_in_every_format(fmt: dict[str, Any]) -> None:
    for rows, cols in ((1, 128), (33, 256), (70, 384)):
        codes, parts, w = packed(values(rows, cols), fmt)
        for m in (1, 4, 9, 20):
            x = values(m, cols, seed=1)
            assert_product(mx.quantized_matmul(mx.array(x), codes, **parts, **fmt), x, w.T)
            y = values(m, rows, seed=2)
            got = mx.quantized_matmul(mx.array(y), codes, **parts, **fmt, transpose=False)
            assert_product(got, y, w)


LAYOUTS: dict[str, Callable[[mx.array], mx.array]] = {
    "transposed": lambda a: mx.contiguous(a.swapaxes(-1, -2)).swapaxes(-1, -2),
    "negative step": lambda a: mx.contiguous(a[..., ::-1])[..., ::-1],
    "offset slice": lambda a: mx.concatenate([a[..., :1, :], a], axis=-2)[..., 1:, :],
    "wide rows": lambda a: mx.concatenate([a, a], axis=-1)[..., : a.shape[-1]],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_any_layout(fmt: dict[str, Any], layout: str) -> None:
    lay = LAYOUTS[layout]
    codes, parts, w = packed(values(3, 9, 128), fmt)
    laid = {name: lay(a) for name, a in parts.items()}
    assert np.array_equal(np.asarray(mx.dequantize(lay(codes), **laid, **fmt, dtype=mx.float32)), w)
    again = mx.quantize(lay(mx.array(values(3, 9, 128))), **fmt)
    assert all(mx.array_equal(a, b).item() for a, b in zip(again, [codes, *parts.values()], strict=True))
    for m in (2, 12):
        x = values(3, m, 128, seed=1)
        got = mx.quantized_matmul(lay(mx.array(x)), lay(codes), **laid, **fmt)
        assert_product(got, x, w.swapaxes(-1, -2))


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_repeated_and_batched_operands(fmt: dict[str, Any]) -> None:
    codes, parts, w = packed(values(2, 1, 9, 128), fmt)
    x = values(3, 4, 128, seed=1)
    # Both batches broadcast: (2, 1) and (3,).
    assert_product(mx.quantized_matmul(mx.array(x), codes, **parts, **fmt), x, w.swapaxes(-1, -2))
    # Stride 0 in x's rows, in its batch and in the matrices.
    row = mx.broadcast_to(mx.array(x[:1, :1]), (5, 4, 128))
    wide = {name: mx.broadcast_to(a[0], (5, *a.shape[2:])) for name, a in parts.items()}
    got = mx.quantized_matmul(row, mx.broadcast_to(codes[0], (5, *codes.shape[2:])), **wide, **fmt)
    assert_product(got, np.broadcast_to(x[:1, :1], (5, 4, 128)), w[0].swapaxes(-1, -2))
    same = mx.dequantize(mx.broadcast_to(codes[0], (5, *codes.shape[2:])), **wide, **fmt, dtype=mx.float32)
    assert np.array_equal(np.asarray(same), np.broadcast_to(w[0], (5, 9, 128)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("fmt", SMALL.values(), ids=SMALL)
def test_products_of_short_floats(fmt: dict[str, Any], dtype: str) -> None:
    codes, parts, w = packed(values(9, 128), fmt)
    x = mx.array(values(5, 128, seed=1)).astype(getattr(mx, dtype))
    got = mx.quantized_matmul(x, codes, **parts, **fmt)
    if fmt["mode"] != "affine":  # scales of affine weights are float32 here, and so is their product
        assert got.dtype == x.dtype
    assert_product(got, np.asarray(x.astype(mx.float32)), w.T, EPS[dtype])


def test_rows_that_end_within_a_vector() -> None:
    for cols in (16, 48, 80, 112, 144, 272, 1040):
        codes, parts, w = packed(values(21, cols), {"mode": "nvfp4"})
        for m in (1, 5, 17):
            x = values(m, cols, seed=1)
            assert_product(mx.quantized_matmul(mx.array(x), codes, **parts, mode="nvfp4"), x, w.T)
            y = values(m, 21, seed=1)
            got = mx.quantized_matmul(mx.array(y), codes, **parts, mode="nvfp4", transpose=False)
            assert_product(got, y, w)


# ---- matrices picked from batches


@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.parametrize("fmt", SMALL.values(), ids=SMALL)
def test_gathered_products(fmt: dict[str, Any], transpose: bool) -> None:
    codes, parts, w = packed(values(2, 3, 32, 64), fmt)
    w = w.reshape(6, 32, 64)
    w = w.swapaxes(1, 2) if transpose else w
    x = values(4, 5, w.shape[1], seed=1)
    left, right = np.array([[3], [0], [1]]), np.array([5, 2])
    options = {**parts, **fmt, "transpose": transpose}
    both = mx.gather_qmm(
        mx.array(x), codes, **options, lhs_indices=mx.array(left), rhs_indices=mx.array(right)
    )
    assert_product(both, x[left], w[right])
    only_right = mx.gather_qmm(mx.array(x[:1]), codes, **options, rhs_indices=mx.array([0, 5, 5]))
    assert_product(only_right, x[:1], w[[0, 5, 5]])
    ordered = mx.gather_qmm(
        mx.array(x[:1]), codes, **options, rhs_indices=mx.array([0, 5, 5]), sorted_indices=True
    )
    assert mx.array_equal(only_right, ordered).item()
    flat = {k: v.reshape(6, *v.shape[2:]) for k, v in parts.items()} | fmt | {"transpose": transpose}
    only_left = mx.gather_qmm(
        mx.array(x),
        codes.reshape(6, *codes.shape[2:])[:2],
        **{k: v[:2] if k in parts else v for k, v in flat.items()},
        lhs_indices=mx.array([1, 1]),
    )
    assert_product(only_left, x[[1, 1]], w[:2])


def test_gathered_products_with_global_scales() -> None:
    w = values(3, 8, 32) * np.float32([0.1, 1, 50])[:, None, None]
    scales = mx.array(np.abs(w).max((1, 2)))
    parts = mx.quantize(mx.array(w), mode="nvfp4", global_scale=scales)
    dense = np.asarray(mx.dequantize(*parts, mode="nvfp4", global_scale=scales), np.float64)
    x = values(1, 4, 32, seed=1)
    got = mx.gather_qmm(
        mx.array(x), *parts, rhs_indices=mx.array([2, 0, 2]), mode="nvfp4", global_scale=scales
    )
    assert_product(got, x, dense[[2, 0, 2]].swapaxes(1, 2))


# ---- both operands quantized


def rounded(a: np.ndarray, mode: str, global_scale: float | None = None) -> np.ndarray:
    return decoded(*encoded(a, mode, global_scale), mode, global_scale).astype(np.float64)


@pytest.mark.parametrize("mode", MODES)
def test_qqmm(mode: str) -> None:
    x, w = values(2, 5, 64), values(9, 64, seed=1)
    want = rounded(w, mode).T
    assert_product(mx.qqmm(mx.array(x), mx.array(w), mode=mode), rounded(x, mode), want)
    assert_product(mx.qqmm(mx.array(x[0, 0]), mx.array(w), mode=mode), rounded(x, mode)[0, 0], want)
    codes, scales = mx.quantize(mx.array(w), mode=mode)
    assert_product(mx.qqmm(mx.array(x), codes, scales, mode=mode), rounded(x, mode), want)
    for dtype in (mx.float16, mx.bfloat16):
        short = mx.array(x).astype(dtype)
        got = mx.qqmm(short, mx.array(w), mode=mode)
        assert got.dtype == dtype
        twin = rounded(np.asarray(short), mode)
        assert_product(got, twin, want, EPS[str(dtype).rpartition(".")[2]])


def test_qqmm_is_nvfp4_by_default() -> None:
    x, w = mx.array(values(2, 64)), mx.array(values(3, 64, seed=1))
    assert mx.array_equal(mx.qqmm(x, w), mx.qqmm(x, w, mode="nvfp4")).item()


def test_qqmm_with_global_scales() -> None:
    x, w = values(5, 64) * 100, values(9, 64, seed=1) / 100
    gx, gw = float(np.abs(x).max()), float(np.abs(w).max())
    options = {"global_scale_x": mx.array(gx), "global_scale_w": mx.array(gw)}
    want_x, want_w = rounded(x, "nvfp4", gx), rounded(w, "nvfp4", gw)
    assert_product(mx.qqmm(mx.array(x), mx.array(w), **options), want_x, want_w.T)
    parts = mx.quantize(mx.array(w), mode="nvfp4", global_scale=mx.array(gw))
    assert_product(mx.qqmm(mx.array(x), *parts, **options), want_x, want_w.T)


@pytest.mark.parametrize("mode", MODES)
def test_gather_qqmm(mode: str) -> None:
    x, w = values(4, 5, 64), values(3, 9, 64, seed=1)
    left, right = mx.array([0, 3]), mx.array([[2], [1]])
    want_x, want_w = rounded(x, mode)[[0, 3]], rounded(w, mode)[[[2], [1]]].swapaxes(-1, -2)
    got = mx.gather_qqmm(mx.array(x), mx.array(w), lhs_indices=left, rhs_indices=right, mode=mode)
    assert_product(got, want_x, want_w)
    parts = mx.quantize(mx.array(w), mode=mode)
    got = mx.gather_qqmm(mx.array(x), *parts, lhs_indices=left, rhs_indices=right, mode=mode)
    assert_product(got, want_x, want_w)
    assert_product(
        mx.gather_qqmm(mx.array(x[:3]), *parts, mode=mode),
        rounded(x, mode)[:3],
        rounded(w, mode).swapaxes(1, 2),
    )


def test_gather_qqmm_with_global_scales() -> None:
    x, w = values(4, 5, 64), values(3, 9, 64, seed=1) * np.float32([0.1, 1, 50])[:, None, None]
    gx, gw = float(np.abs(x).max()), mx.array(np.abs(w).max((1, 2)))
    one = mx.array(float(np.abs(w).max()))
    for scale in (gw, one):
        parts = mx.quantize(mx.array(w), mode="nvfp4", global_scale=scale)
        dense = np.asarray(mx.dequantize(*parts, mode="nvfp4", global_scale=scale), np.float64)
        options = {
            "rhs_indices": mx.array([2, 0, 0, 1]),
            "global_scale_x": mx.array(gx),
            "global_scale_w": scale,
        }
        want = rounded(x, "nvfp4", gx), dense[[2, 0, 0, 1]].swapaxes(1, 2)
        assert_product(mx.gather_qqmm(mx.array(x), *parts, **options), *want)
        assert_product(mx.gather_qqmm(mx.array(x), mx.array(w), **options), *want)


# ---- gradients and batching


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("transpose", [True, False])
def test_gradients_reach_x(mode: str, transpose: bool) -> None:
    codes, parts, w = packed(values(32, 64), {"mode": mode})
    w = w.T if transpose else w
    x, g = values(5, w.shape[0], seed=1), values(5, w.shape[1], seed=2)

    def total(x: mx.array) -> mx.array:
        y = mx.quantized_matmul(x, codes, **parts, mode=mode, transpose=transpose)
        return (y * mx.array(g)).sum()

    assert_product(mx.grad(total)(mx.array(x)), g, w.T)
    _, (tangent,) = mx.jvp(
        lambda x: mx.quantized_matmul(x, codes, **parts, mode=mode, transpose=transpose),
        [mx.array(x)],
        [mx.array(x)],
    )
    assert_product(tangent, x, w)


@pytest.mark.parametrize("fmt", SMALL.values(), ids=SMALL)
def test_gradients_of_gathered_products(fmt: dict[str, Any]) -> None:
    codes, parts, w = packed(values(3, 32, 64), fmt)
    x, g = values(2, 5, 64, seed=1), values(4, 5, 32, seed=2)
    left, right = np.array([0, 1, 1, 0]), np.array([2, 0, 2, 2])

    def total(x: mx.array, scales: mx.array) -> mx.array:
        y = mx.gather_qmm(
            x,
            codes,
            **{**parts, "scales": scales},
            **fmt,
            lhs_indices=mx.array(left),
            rhs_indices=mx.array(right),
        )
        return (y * mx.array(g)).sum()

    got = mx.grad(lambda x: total(x, parts["scales"]))(mx.array(x))
    each = g.astype(np.float64) @ w[right]
    size = np.abs(g).astype(np.float64) @ np.abs(w[right])
    want, sizes = np.zeros(x.shape), np.zeros(x.shape)
    np.add.at(want, left, each)
    np.add.at(sizes, left, size + np.abs(g).sum(-1, keepdims=True) * np.abs(w).max())
    assert (np.abs(np.asarray(got, np.float64) - want) <= 32 * F32 * sizes).all()
    if fmt["mode"] == "affine":
        slope = np.asarray(mx.grad(lambda s: total(mx.array(x), s))(parts["scales"]), np.float64)
        h = 2.0**-6
        step = np.zeros(slope.shape)
        step[2, 3, 0] = h
        moved = [float(total(mx.array(x), parts["scales"] + mx.array(d, mx.float32))) for d in (step, -step)]
        # The product is linear in the scales: the difference is exact but for rounding.
        noise = 200 * F32 * float(np.abs(g).sum() * np.abs(x).max() * np.abs(w).max() * 64) / h
        assert abs((moved[0] - moved[1]) / (2 * h) - slope[2, 3, 0]) <= noise
    else:
        with pytest.raises(ValueError, match=r"integer|no gradient|float"):
            mx.grad(lambda s: total(mx.array(x), s))(parts["scales"])


@pytest.mark.parametrize("mode", MODES)
def test_gradients_pass_through_rounding(mode: str) -> None:
    x, w, g = values(5, 64), values(9, 64, seed=1), values(5, 9, seed=2)

    def total(x: mx.array, w: mx.array) -> mx.array:
        return (mx.qqmm(x, w, mode=mode) * mx.array(g)).sum()

    dx, dw = mx.grad(total, (0, 1))(mx.array(x), mx.array(w))
    assert_product(dx, g, rounded(w, mode))
    assert_product(dw, g.T, rounded(x, mode))
    parts = mx.quantize(mx.array(w), mode=mode)
    dx = mx.grad(lambda x: (mx.qqmm(x, *parts, mode=mode) * mx.array(g)).sum())(mx.array(x))
    assert_product(dx, g, rounded(w, mode))


@pytest.mark.parametrize("fmt", SMALL.values(), ids=SMALL)
def test_vmap(fmt: dict[str, Any]) -> None:
    w = mx.array(values(3, 8, 64))
    together = mx.vmap(lambda w: mx.quantize(w, **fmt))(w)
    assert all(mx.array_equal(a, b).item() for a, b in zip(together, mx.quantize(w, **fmt), strict=True))
    back = mx.vmap(lambda *p: mx.dequantize(*p, **fmt))(*together)
    assert mx.array_equal(back, mx.dequantize(*together, **fmt)).item()
    x = mx.array(values(3, 5, 64, seed=1))
    got = mx.vmap(lambda x, *p: mx.quantized_matmul(x, *p, **fmt))(x, *together)
    assert mx.array_equal(got, mx.quantized_matmul(x, *together, **fmt)).item()
    indices = mx.array([2, 0])
    one = dict(zip(("scales", "biases"), together[1:], strict=False))
    got = mx.vmap(lambda x: mx.gather_qmm(x[None], together[0], **one, **fmt, rhs_indices=indices))(x)
    for i in range(3):
        want = mx.gather_qmm(x[i][None], together[0], **one, **fmt, rhs_indices=indices)
        assert mx.allclose(got[i], want, rtol=1e-5, atol=1e-4).item()


@pytest.mark.parametrize("mode", MODES)
def test_vmap_of_qqmm(mode: str) -> None:
    x, w = mx.array(values(3, 5, 64)), mx.array(values(3, 9, 64, seed=1))
    got = mx.vmap(lambda x, w: mx.qqmm(x, w, mode=mode))(x, w)
    for i in range(3):
        assert_product(got[i], rounded(np.asarray(x[i]), mode), rounded(np.asarray(w[i]), mode).T)


def test_vmap_of_global_scales() -> None:
    w = mx.array(values(3, 8, 64))
    scales = mx.abs(w).max((1, 2))
    parts = mx.vmap(lambda w, s: mx.quantize(w, mode="nvfp4", global_scale=s))(w, scales)
    want = mx.quantize(w, mode="nvfp4", global_scale=scales)
    assert all(mx.array_equal(a, b).item() for a, b in zip(parts, want, strict=True))
    back = mx.vmap(lambda w, s, g: mx.dequantize(w, s, mode="nvfp4", global_scale=g))(*parts, scales)
    assert mx.array_equal(back, mx.dequantize(*parts, mode="nvfp4", global_scale=scales)).item()


# ---- errors

W = mx.ones((4, 64))
FP4 = mx.quantize(W, mode="mxfp4")
NV = mx.quantize(W, mode="nvfp4")
AFF = mx.quantize(W)
ONE = mx.array(1.0)
ERRORS: list[tuple[str, Callable[[], Any], str]] = [
    (
        "mode",
        lambda: mx.quantize(W, mode="mxfp6"),
        r"\[quantize\] mode must be one of affine, mxfp4, .*'mxfp6'",
    ),
    (
        "group",
        lambda: mx.quantize(W, 64, mode="mxfp4"),
        "'mxfp4' has a group_size of 32 and 4 bits, got 64 and 4",
    ),
    (
        "bits",
        lambda: mx.quantize(W, bits=4, mode="mxfp8"),
        "'mxfp8' has a group_size of 32 and 8 bits, got 32 and 4",
    ),
    ("huge", lambda: mx.quantize(W, 2**40), "group_size .* is not supported"),
    (
        "columns",
        lambda: mx.quantize(mx.ones((2, 24)), mode="nvfp4"),
        r"\(2, 24\) is not a multiple of group_size 16",
    ),
    ("vector", lambda: mx.quantize(mx.ones(64), mode="nvfp4"), r"at least 2 axes, got shape \(64,\)"),
    (
        "integers",
        lambda: mx.quantize(W.astype(mx.int32), mode="mxfp8"),
        "float32, float16 or bfloat16, got int32",
    ),
    (
        "global mode",
        lambda: mx.quantize(W, mode="mxfp4", global_scale=ONE),
        "only mode 'nvfp4' takes a global_scale",
    ),
    (
        "global dtype",
        lambda: mx.quantize(W, mode="nvfp4", global_scale=mx.array(1)),
        "global_scale must be float32, got int32",
    ),
    (
        "global shape",
        lambda: mx.quantize(W, mode="nvfp4", global_scale=mx.ones(2)),
        r"one number or one for each of 1 matrices, got shape \(2,\)",
    ),
    (
        "biases",
        lambda: mx.dequantize(*FP4, FP4[1], mode="mxfp4"),
        r"'mxfp4' has no biases, got an array of \(4, 2\)",
    ),
    ("no biases", lambda: mx.dequantize(*AFF[:2]), "'affine' wants scales and biases, got None"),
    (
        "scale dtype",
        lambda: mx.quantized_matmul(W, NV[0], NV[1].astype(mx.float32), mode="nvfp4"),
        r"\[quantized_matmul\] mode 'nvfp4' wants scales of uint8, got float32",
    ),
    (
        "scale shape",
        lambda: mx.dequantize(NV[0], NV[1][:, :2], mode="nvfp4"),
        r"'nvfp4' and w of \(4, 8\) want scales of \(4, 4\), got \(4, 2\)",
    ),
    (
        "words",
        lambda: mx.dequantize(NV[0].astype(mx.int32), NV[1], mode="nvfp4"),
        "'nvfp4' wants w of uint32, got int32",
    ),
    (
        "part of a block",
        lambda: mx.dequantize(FP4[0][:, :6], FP4[1], mode="mxfp4"),
        r"whole blocks of 16 bytes, got w of \(4, 6\) uint32",
    ),
    ("dtype", lambda: mx.dequantize(*NV, mode="nvfp4", dtype=mx.int32), "real floating dtype, got int32"),
    (
        "inner",
        lambda: mx.quantized_matmul(mx.ones((2, 32)), *FP4, mode="mxfp4"),
        r"inner dimensions differ: x \(2, 32\) and a quantized matrix of 4 by 64",
    ),
    (
        "experts",
        lambda: mx.gather_qmm(W[None], NV[0][None], NV[1][None], mode="nvfp4", global_scale=mx.ones(3)),
        r"one entry for each of 1 matrices, got shape \(3,\)",
    ),
    (
        "affine pair",
        lambda: mx.qqmm(W, W, mode="affine"),
        r"\[qqmm\] mode must be nvfp4, mxfp8 or mxfp4, got 'affine'",
    ),
    (
        "one global",
        lambda: mx.qqmm(W, W, global_scale_x=ONE),
        "both global scales or none, got only that of x",
    ),
    ("no scales", lambda: mx.qqmm(W, NV[0]), "a packed w wants scales, got None"),
    ("lengths", lambda: mx.qqmm(W, mx.ones((3, 32))), r"last axes differ: x \(4, 64\) and w \(3, 32\)"),
    ("3 axes", lambda: mx.qqmm(W, W[None]), r"w must have 2 axes, got shape \(1, 4, 64\)"),
    (
        "integer x",
        lambda: mx.qqmm(W.astype(mx.int32), W),
        "x must be float32, float16 or bfloat16, got int32",
    ),
    ("integer w", lambda: mx.gather_qqmm(W[None], W[None].astype(mx.int8)), "w must be float32, .* got int8"),
]


@pytest.mark.parametrize(("call", "text"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS])
def test_errors(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()


def test_codes_read_back() -> None:
    """Eight codes a word, the first in the lowest bits."""
    row = mx.array([[0.5 * i - 2 for i in range(32)]])
    codes, scales = mx.quantize(row, mode="mxfp4")
    unit = E8M0[np.asarray(scales)[0, 0]]
    back = E2M1[codes_of(np.asarray(codes), 4)[0]] * unit
    assert np.array_equal(back, np.asarray(mx.dequantize(codes, scales, mode="mxfp4", dtype=mx.float32))[0])


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("rows", [1, 5, 70])
def test_activations_of_8_bits(bits: int, rows: int) -> None:
    """Each group of x is rounded to 8 bits: half a step an element at most, at random."""
    rng = np.random.default_rng(bits * 100 + rows)
    x, group = rng.standard_normal((rows, 256)).astype(np.float32), 64
    parts = mx.quantize(
        mx.array(rng.standard_normal((48, 256)).astype(np.float32)), group_size=group, bits=bits
    )
    got = mx.quantized_matmul(mx.array(x), *parts, group_size=group, bits=bits, activations="int8")
    w = np.array(mx.dequantize(*parts, group_size=group, bits=bits), np.float64)
    steps = np.abs(x).reshape(rows, -1, group).max(-1) / 127
    variance = steps**2 @ np.square(w).reshape(48, -1, group).sum(-1).T / 12
    exact = x.astype(np.float64) @ w.T
    assert np.all(np.abs(np.array(got) - exact) <= 6 * np.sqrt(variance))
    plain = np.array(mx.quantized_matmul(mx.array(x), *parts, group_size=group, bits=bits))
    assert not np.array_equal(np.array(got), plain)


def test_other_activations_are_refused() -> None:
    parts = mx.quantize(mx.ones((4, 64)))
    with pytest.raises(ValueError, match="activations must be 'float' or 'int8', got 'int4'"):
        mx.quantized_matmul(mx.ones((1, 64)), *parts, activations="int4")
