"""Cases of the structured rows that language models are made of: quantization, rotation, attention."""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import numpy as np
from core.core_cases import FLOATS, NUMPY_DTYPES
from core.table_cases import HALVES, Kernel, Wanted, accumulator_eps, normal, rounding
from core.table_paged import PAGED_KERNELS
from core.table_quant import QUANT_KERNELS
from core.table_rows import EPS

F32 = EPS["float32"]

# ---- quantization


def groups(w: np.ndarray, group: int) -> np.ndarray:
    return w.astype(np.float32).reshape(*w.shape[:-1], -1, group)


def packed_words(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes of a row as one little-endian stream of bits."""
    stream = (codes[..., None] >> np.arange(bits, dtype=np.uint32)) & np.uint32(1)
    stream = stream.reshape(*codes.shape[:-1], -1, 32)
    return (stream << np.arange(32, dtype=np.uint32)).sum(-1, dtype=np.uint32)


def unpacked_codes(words: np.ndarray, bits: int) -> np.ndarray:
    stream = (words[..., None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
    stream = stream.reshape(*words.shape[:-1], -1, bits)
    return (stream << np.arange(bits, dtype=np.uint32)).sum(-1, dtype=np.uint32)


def encoded(w: np.ndarray, group: int, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The affine format of quant/affine.h, every step in float32."""
    x = groups(w, group)
    low, high, top = x.min(-1), x.max(-1), np.float32(2**bits - 1)
    scale = np.maximum((high - low) / top, np.float32(1e-7))
    scale = np.where(np.abs(low) > np.abs(high), scale, -scale)
    edge = np.where(np.abs(low) > np.abs(high), low, high)
    steps = np.rint(edge / scale)
    scale = np.where(steps != 0, edge / np.where(steps != 0, steps, 1), scale)
    bias = np.where(steps != 0, edge, np.float32(0))
    codes = np.clip(np.rint((x - bias[..., None]) / scale[..., None]), 0, top).astype(np.uint32)
    return packed_words(codes.reshape(w.shape), bits), scale.astype(w.dtype), bias.astype(w.dtype)


def encode(group: int, bits: int) -> Kernel:
    def theirs(dtype: str, w: np.ndarray) -> Wanted:
        return [(part, 0) for part in encoded(w, group, bits)]

    return Kernel(
        f"{bits} bits, groups of {group}",
        normal((5, 256)),
        lambda w: mx.quantize(w, group, bits),
        theirs,
        HALVES,
        lambda dtype: ["uint32", dtype, dtype],
    )


def parts(shape: tuple[int, ...], group: int, bits: int) -> Any:
    """A packed matrix of random codes, its scales and biases."""

    def make(rng: np.random.Generator, dtype: str) -> list[np.ndarray]:
        *outer, columns = shape
        words = rng.integers(0, 2**32, (*outer, columns * bits // 32), np.uint32)
        edges = rng.standard_normal((2, *outer, columns // group)).astype(NUMPY_DTYPES[dtype])
        return [words, *edges]

    return make


def decode(group: int, bits: int) -> Kernel:
    def theirs(dtype: str, words: np.ndarray, scales: np.ndarray, biases: np.ndarray) -> Wanted:
        """Both steps are rounded to the dtype."""
        q = groups(unpacked_codes(words, bits), group)
        t = scales.dtype
        scaled = (q * scales.astype(np.float32)[..., None]).astype(t).astype(np.float32)
        w = (scaled + biases.astype(np.float32)[..., None]).astype(t)
        return [(w.reshape(*words.shape[:-1], -1), 0)]

    return Kernel(
        f"{bits} bits, groups of {group}",
        parts((5, 256), group, bits),
        lambda *p: mx.dequantize(*p, group_size=group, bits=bits),
        theirs,
        HALVES,
    )


def multiply(
    group: int, bits: int, x_shape: tuple[int, ...], w_shape: tuple[int, ...], transpose: bool
) -> Kernel:
    def make(rng: np.random.Generator, dtype: str) -> list[np.ndarray]:
        return [*normal(x_shape)(rng, dtype), *parts(w_shape, group, bits)(rng, dtype)]

    def theirs(
        dtype: str, x: np.ndarray, words: np.ndarray, scales: np.ndarray, biases: np.ndarray
    ) -> Wanted:
        q = unpacked_codes(words, bits).reshape(*scales.shape, group).astype(np.float64)
        s, b = (v.astype(np.float64)[..., None] for v in (scales, biases))
        turned = (lambda a: np.swapaxes(a, -1, -2)) if transpose else (lambda a: a)
        flat = [turned(a.reshape(*words.shape[:-1], -1)) for a in (q * s + b, q * np.abs(s) + np.abs(b))]
        want, size = (
            np.matmul(x.astype(np.float64), flat[0]),
            np.matmul(np.abs(x.astype(np.float64)), flat[1]),
        )
        # Sums in float32; a weight may be rounded to the scales' dtype, twice, before it is multiplied.
        return [(want, (x.shape[-1] * F32 + 2 * EPS[dtype]) * size + rounding(dtype) * np.abs(want))]

    return Kernel(
        f"{bits} bits, groups of {group}, {x_shape} by {w_shape}{', transposed' * transpose}",
        make,
        lambda *p: mx.quantized_matmul(*p, transpose=transpose, group_size=group, bits=bits),
        theirs,
        HALVES,
    )


FORMATS = ((32, 4), (64, 2), (64, 3), (128, 5), (32, 6), (64, 8))
PRODUCTS = [
    multiply(64, 4, (1, 256), (33, 256), True),
    multiply(32, 4, (5, 256), (33, 256), True),
    multiply(128, 8, (70, 256), (9, 256), True),
    multiply(64, 4, (3, 33), (33, 256), False),
    multiply(32, 2, (2, 3, 128), (2, 7, 128), True),
    *[multiply(64, bits, (4, 128), (5, 128), True) for bits in (2, 3, 5, 6, 8)],
    multiply(64, 4, (256,), (3, 256), True),
    multiply(64, 4, (0, 128), (5, 128), True),
]

# ---- rotary embedding


def rotate(dims: int, traditional: bool, scale: float, offset: Any, freqs: bool) -> Kernel:
    def make(rng: np.random.Generator, dtype: str) -> list[np.ndarray]:
        x = normal((2, 3, 9, 16))(rng, dtype)
        return [*x, rng.uniform(1, 100, dims // 2).astype(np.float32)] if freqs else x

    def ours(x: mx.array, f: mx.array | None = None) -> mx.array:
        base = None if freqs else 10000.0
        where = mx.array(offset) if isinstance(offset, list) else offset
        return mx.fast.rope(x, dims, traditional=traditional, base=base, scale=scale, offset=where, freqs=f)

    def theirs(dtype: str, x: np.ndarray, f: np.ndarray | None = None) -> Wanted:
        wave = np.arange(dims // 2) * -2.0 / dims
        speed = 10000.0**wave if f is None else 1 / f.astype(np.float64)
        start = np.asarray(offset, np.float64).reshape(-1, 1, 1, 1)
        angle = scale * (start + np.arange(x.shape[2])[:, None]) * speed
        half = dims // 2
        low, high = (
            (slice(0, dims, 2), slice(1, dims, 2)) if traditional else (slice(half), slice(half, dims))
        )
        out = x.astype(np.float64)
        a, b = out[..., low], out[..., high]
        turned = (a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle))
        size = np.zeros_like(out)
        # The angle is a few roundings of float32 off, its cosine and sine as much more.
        size[..., low] = size[..., high] = (8 + 4 * np.abs(angle)) * accumulator_eps(dtype) * np.hypot(a, b)
        out[..., low], out[..., high] = turned
        return [(out, size + rounding(dtype) * np.abs(out))]

    label = f"{dims} dims{', pairs' * traditional}, scale {scale}, offset {offset}{', freqs' * freqs}"
    return Kernel(label, make, ours, theirs, FLOATS)


ROPE = [
    rotate(16, False, 1.0, 0, False),
    rotate(16, True, 1.0, 3, False),
    rotate(8, False, 0.5, 100, False),
    rotate(8, True, 1.0, [5, 0], False),
    rotate(16, False, 1.0, 7, True),
]

# ---- attention


def repeated(x: np.ndarray, heads: int) -> np.ndarray:
    """Keys or values of grouped heads, once for each query head; in float64."""
    return np.repeat(x.astype(np.float64), heads // x.shape[1], axis=1)


def weights(
    q: np.ndarray,
    k: np.ndarray,
    scale: float,
    causal: bool,
    mask: np.ndarray | None,
    sinks: np.ndarray | None,
) -> np.ndarray:
    """The softmax of the scores in float64."""
    scores = scale * np.matmul(q.astype(np.float64), repeated(k, q.shape[1]).swapaxes(-1, -2))
    length, keys = scores.shape[-2:]
    if causal:
        scores = np.where(np.tri(length, keys, keys - length) > 0, scores, -np.inf)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == np.bool_ else scores + mask
    sink = -np.inf if sinks is None else sinks.astype(np.float64).reshape(-1, 1, 1)
    top = np.maximum(scores.max(-1, keepdims=True), sink)
    e = np.exp(scores - top)
    return e / (e.sum(-1, keepdims=True) + np.exp(sink - top))


def score_error(dtype: str, q: np.ndarray, k: np.ndarray, scale: float) -> float:
    """How far a weight may be off, relatively: its score's error twice, and the sum's."""
    size = scale * np.matmul(np.abs(q.astype(np.float64)), np.abs(repeated(k, q.shape[1])).swapaxes(-1, -2))
    return (2 * q.shape[-1] * size.max(initial=0) + k.shape[2] + 16) * accumulator_eps(dtype) + 2 * rounding(
        dtype
    )


def attend(
    label: str,
    q: tuple[int, ...],
    kv: tuple[int, ...],
    causal: bool = False,
    mask: str = "",
    sinks: bool = False,
) -> Kernel:
    scale = q[-1] ** -0.5

    def make(rng: np.random.Generator, dtype: str) -> list[np.ndarray]:
        out = normal(q, kv, kv)(rng, dtype)
        if mask == "bool":
            keep = rng.random((q[2], kv[2])) < 0.7
            keep[:, 0] = True
            out.append(keep)
        if mask == "additive":
            out += normal((q[0], 1, q[2], kv[2]))(rng, dtype)
        return out + normal((q[1],))(rng, dtype) if sinks else out

    def split(extra: tuple[Any, ...]) -> tuple[Any, Any]:
        return (extra[0] if mask else None), (extra[-1] if sinks else None)

    def ours(qs: mx.array, ks: mx.array, vs: mx.array, *extra: mx.array) -> mx.array:
        m, s = split(extra)
        m = "causal" if causal else m
        return mx.fast.scaled_dot_product_attention(qs, ks, vs, scale=scale, mask=m, sinks=s)

    def theirs(dtype: str, qs: np.ndarray, ks: np.ndarray, vs: np.ndarray, *extra: np.ndarray) -> Wanted:
        m, s = split(extra)
        p = weights(qs, ks, scale, causal, m if m is None or m.dtype == np.bool_ else m.astype(np.float64), s)
        v = repeated(vs, q[1])
        want, size = np.matmul(p, v), np.matmul(p, np.abs(v))
        return [(want, score_error(dtype, qs, ks, scale) * size + rounding(dtype) * np.abs(want))]

    return Kernel(label, make, ours, theirs, FLOATS)


ATTENTION = [
    attend("plain", (2, 4, 9, 16), (2, 4, 9, 16)),
    attend("grouped heads", (2, 6, 5, 8), (2, 2, 33, 8)),
    attend("causal", (1, 4, 40, 32), (1, 2, 40, 32), causal=True),
    attend("causal, keys ahead", (1, 2, 3, 16), (1, 2, 70, 16), causal=True),
    attend("one query", (2, 8, 1, 64), (2, 2, 130, 64)),
    attend("boolean mask", (2, 2, 7, 16), (2, 2, 11, 16), mask="bool"),
    attend("additive mask", (2, 2, 7, 16), (2, 1, 11, 16), mask="additive"),
    attend("sinks", (1, 4, 5, 16), (1, 2, 9, 16), sinks=True),
    attend("no query", (1, 2, 0, 8), (1, 2, 5, 8)),
]


def differentiate(label: str, q: tuple[int, ...], kv: tuple[int, ...], causal: bool) -> Kernel:
    scale = q[-1] ** -0.5

    def ours(qs: mx.array, ks: mx.array, vs: mx.array, g: mx.array) -> list[mx.array]:
        def f(*xs: mx.array) -> mx.array:
            return mx.fast.scaled_dot_product_attention(*xs, scale=scale, mask="causal" if causal else None)

        return mx.vjp(f, [qs, ks, vs], [g])[1]

    def theirs(dtype: str, qs: np.ndarray, ks: np.ndarray, vs: np.ndarray, g: np.ndarray) -> Wanted:
        p, out = weights(qs, ks, scale, causal, None, None), g.astype(np.float64)
        k, v, x = repeated(ks, q[1]), repeated(vs, q[1]), qs.astype(np.float64)

        def gradients(
            p: np.ndarray, out: np.ndarray, k: np.ndarray, v: np.ndarray, x: np.ndarray, sign: int
        ) -> Any:
            dp = np.matmul(out, v.swapaxes(-1, -2))
            ds = p * (dp - sign * (dp * p).sum(-1, keepdims=True)) * scale
            grouped = [
                np.matmul(a.swapaxes(-1, -2), b).reshape(*kv[:2], -1, *kv[2:]).sum(2)
                for a, b in ((ds, x), (p, out))
            ]
            return [np.matmul(ds, k), *grouped]

        want = gradients(p, out, k, v, x, 1)
        # The same sums of magnitudes bound how errors of the weights and of the sums spread.
        sizes = gradients(p, np.abs(out), np.abs(k), np.abs(v), np.abs(x), -1)
        error = (
            score_error(dtype, qs, ks, scale) + (kv[2] + q[2]) * accumulator_eps(dtype) + 2 * rounding(dtype)
        )
        return [(w, error * s + rounding(dtype) * np.abs(w)) for w, s in zip(want, sizes, strict=True)]

    return Kernel(label, normal(q, kv, kv, q), ours, theirs, FLOATS, lambda dtype: [dtype] * 3)


def one_output() -> Kernel:
    """The second of three outputs, without the others."""
    return Kernel(
        "scales",
        normal((5, 64)),
        lambda w: mx.quantize(w, 32, 4)[1],
        lambda dtype, w: [(encoded(w, 32, 4)[1], 0)],
        HALVES,
    )


MODEL_KERNELS: dict[str, list[Kernel]] = {
    "Output": [one_output()],
    "AffineQuantize": [*[encode(g, b) for g, b in FORMATS], *QUANT_KERNELS["AffineQuantize"]],
    "AffineDequantize": [*[decode(g, b) for g, b in FORMATS], *QUANT_KERNELS["AffineDequantize"]],
    "QuantizedMatmul": [*PRODUCTS, *QUANT_KERNELS["QuantizedMatmul"]],
    "GatherQuantizedMatmul": QUANT_KERNELS["GatherQuantizedMatmul"],
    "Rope": ROPE,
    "Attention": ATTENTION,
    "AttentionBackward": [
        differentiate("plain", (2, 4, 9, 16), (2, 2, 12, 16), False),
        differentiate("causal", (1, 2, 33, 16), (1, 2, 33, 16), True),
    ],
    **PAGED_KERNELS,
}
