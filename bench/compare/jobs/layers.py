"""Attention by regime, convolutions by shape, and Fourier transforms by length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.compare import bounds
from bench.compare.jobs import draws
from bench.compare.model import Expected, Input, Job, Sizes


def jobs(sizes: Sizes) -> list[Job]:
    """Attention, convolutions, transforms."""
    return [*_attentions(sizes), *_convolutions(sizes), *_transforms(sizes)]


# --- attention -------------------------------------------------------------------------------------------


def _attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool, dtype: str) -> list[Expected]:
    """Attention of heads (B, H, L, D) in float64; query i sees the keys up to its own place from the end."""
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    k, v = (np.repeat(a, q.shape[1] // k.shape[1], 1) for a in (k, v))
    (queries, dim), keys = q.shape[2:], k.shape[2]
    scores = q @ k.swapaxes(-1, -2) * dim**-0.5
    if causal:
        hidden = np.triu(np.ones((queries, keys), dtype=bool), 1 + keys - queries)
        scores = np.where(hidden, -np.inf, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    # A library may round weights to the dtype before it multiplies values by them.
    roundings = bounds.walk(dim) + 32 if dtype == "float32" else 4
    return [bounds.absolute(weights @ v, weights @ np.abs(v), roundings, dtype)]


def _attention(
    name: str,
    heads: int,
    kv_heads: int,
    queries: int,
    keys: int,
    causal: bool,
    dim: int = 64,
    dtype: str = "float32",
) -> Job:
    """Heads of one sequence."""
    draw = draws.normal if dtype == "float32" else draws.normal_bfloat16

    def inputs(r: np.random.Generator) -> list[Input]:
        shapes = [(heads, queries), (kv_heads, keys), (kv_heads, keys)]
        return [draw(r, 1, h, length, dim) for h, length in shapes]

    return Job(
        f"attention/{name}",
        inputs,
        lambda xp, q, k, v: xp.attention(q, k, v, dim**-0.5, causal),
        lambda inputs: _attended(inputs[0], inputs[1], inputs[2], causal, dtype),
        bytes=(4 if dtype == "float32" else 2) * dim * (2 * heads * queries + 2 * kv_heads * keys),
        flops=(2 if causal else 4) * heads * queries * keys * dim,
    )


def _paged(name: str, batch: int, keys: int) -> Job:
    """One new position of sequences of one length, in blocks of 64 positions of bfloat16."""
    heads, kv_heads, dim, block = 16, 8, 128, min(64, keys)
    columns = keys // block

    def inputs(r: np.random.Generator) -> list[Input]:
        pools = [draws.normal_bfloat16(r, batch * columns, kv_heads, block, dim) for _ in range(2)]
        tables = r.permutation(batch * columns).astype(np.int32).reshape(batch, columns)
        return [draws.normal_bfloat16(r, batch, heads, dim), *pools, Input(tables, "index")]

    def truth(inputs: Sequence[np.ndarray]) -> list[Expected]:
        q, *pools, tables = inputs
        k, v = (p[tables].swapaxes(1, 2).reshape(batch, kv_heads, keys, dim) for p in pools)
        (out,) = _attended(q[:, :, None], k, v, False, "bfloat16")
        return [Expected(out.values[:, :, 0], np.asarray(out.bound)[:, :, 0], "bfloat16")]

    return Job(
        f"attention/{name}",
        inputs,
        lambda xp, q, k, v, tables: xp.paged_attention(q, k, v, tables, dim**-0.5),
        truth,
        bytes=2 * dim * batch * (2 * heads + 2 * kv_heads * keys),
        flops=4 * batch * heads * keys * dim,
    )


def _attentions(sizes: Sizes) -> list[Job]:
    short, long, far = sizes.side(512), sizes.side(2048), sizes.side(8192)
    half = {"dim": 128, "dtype": "bfloat16"}
    return [
        _attention("prefill/512", 16, 16, short, short, True),
        _attention("prefill_grouped/2048", 16, 8, long, long, True),
        _attention("prefill_grouped_bfloat16/2048", 16, 8, long, long, True, **half),
        _attention("all_to_all/512", 16, 16, short, short, False),
        _attention("decode/4096", 16, 16, 1, sizes.side(4096), False),
        _attention("decode_grouped/4096", 16, 4, 1, sizes.side(4096), False),
        _attention("decode_grouped_bfloat16/8192", 16, 8, 1, far, False, **half),
        _paged("paged_decode/8x2048", 8, long),
        _paged("paged_decode/32768", 1, sizes.side(32768)),
    ]


# --- convolution -----------------------------------------------------------------------------------------


def _convolved(x: np.ndarray, w: np.ndarray, stride: int, padding: int, groups: int) -> np.ndarray:
    """The definition, in whatever dtype comes: channels last, weights (O, kernel..., C / groups)."""
    rank = x.ndim - 2
    kernel = w.shape[1:-1]
    padded = np.pad(x, ((0, 0), *((padding, padding),) * rank, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, tuple(range(1, rank + 1)))
    windows = windows[(slice(None), *(slice(None, None, stride),) * rank)]
    outs, each = w.shape[0] // groups, w.shape[-1]
    parts = []
    for g in range(groups):
        part = windows[(..., slice(g * each, (g + 1) * each), *(slice(None),) * rank)]
        weight = np.moveaxis(w[g * outs : (g + 1) * outs], -1, 1)
        axes = list(range(1, rank + 2))
        parts.append(np.tensordot(part, weight, ([a + rank for a in axes], axes)))
    return np.concatenate(parts, -1)


def _convolution(
    name: str, x: tuple[int, ...], w: tuple[int, ...], stride: int = 1, padding: int = 0, groups: int = 1
) -> Job:
    def truth(inputs: Sequence[np.ndarray]) -> list[Expected]:
        a, b = (v.astype(np.float64) for v in inputs)
        norm = np.sqrt(_convolved(np.square(a), np.ones_like(b), stride, padding, groups))
        norm = norm * np.sqrt(np.square(b).reshape(len(b), -1).sum(1))
        out = _convolved(a, b, stride, padding, groups)
        return [bounds.absolute(out, norm, bounds.walk(b[0].size))]

    places = int(
        np.prod([(n + 2 * padding - k) // stride + 1 for n, k in zip(x[1:-1], w[1:-1], strict=True)])
    )
    out = x[0] * places * w[0]
    return Job(
        f"convolution/{name}",
        lambda r: [draws.normal(r, *x), draws.normal(r, *w)],
        lambda xp, a, b: xp.convolution(a, b, stride, padding, groups),
        truth,
        bytes=4 * (int(np.prod(x)) + int(np.prod(w)) + out),
        flops=2 * out * int(np.prod(w[1:])),
    )


def _convolutions(sizes: Sizes) -> list[Job]:
    side, c, n = (8, 8, 1) if sizes.tiny else (56, 64, 4)
    image = (n, side, side, c)
    return [
        _convolution("3x3", image, (c, 3, 3, c), padding=1),
        _convolution("3x3_stride_2", image, (2 * c, 3, 3, c), 2, 1),
        _convolution("1x1", image, (4 * c, 1, 1, c)),
        _convolution("5x5_few_channels", (n, 4 * side, 4 * side, 3), (c // 2, 5, 5, 3), 2, 2),
        _convolution("3x3_few_outputs", image, (3, 3, 3, c), padding=1),
        _convolution("depthwise_3x3", (n, side, side, 2 * c), (2 * c, 3, 3, 1), 1, 1, 2 * c),
        _convolution("groups_of_16", image, (c, 3, 3, c // 4), 1, 1, 4),
        _convolution("line_7", (n, side * side, c), (c, 7, c), padding=3),
        _convolution("cube_3", (1, side // 4, side // 2, side // 2, c), (c, 3, 3, 3, c), padding=1),
    ]


# --- Fourier transforms ----------------------------------------------------------------------------------


def _transform(name: str, shape: tuple[int, ...], function: str, axes: int = 1) -> Job:
    """A transform along the last axes; the truth is NumPy's in float64."""
    real = function.startswith("rfft")

    def inputs(r: np.random.Generator) -> list[Input]:
        if real:
            return [draws.normal(r, *shape)]
        parts = r.standard_normal((2, *shape), dtype=np.float32)
        return [Input((parts[0] + 1j * parts[1]).astype(np.complex64), "complex64")]

    def truth(i: Sequence[np.ndarray]) -> list[Expected]:
        wide = i[0].astype(np.float64 if real else np.complex128)
        out = getattr(np.fft, function)(wide)
        last = tuple(range(-axes, 0))
        # An inverse divides by the length: its outputs are as much smaller than sums of inputs are.
        scale = np.abs(out).std(axis=last, keepdims=True) + np.abs(out).mean(axis=last, keepdims=True)
        roundings = bounds.walk(int(np.log2(np.prod(shape[-axes:]))) + 1)
        return [bounds.absolute(out, scale, roundings, "float32")]

    def typed(i: Sequence[np.ndarray]) -> list[Expected]:
        dtype = "float32" if function == "irfft" else "complex64"
        return [Expected(e.values, e.bound, dtype) for e in truth(i)]

    run: Callable[..., Any] = lambda xp, x: getattr(xp.fft, function)(x)  # noqa: E731
    return Job(f"fft/{name}", inputs, run, typed, bytes=(8 if real else 16) * int(np.prod(shape)))


def _transforms(sizes: Sizes) -> list[Job]:
    rows = sizes.side(2048)
    return [
        *(_transform(f"rows/{n}", (rows, sizes.side(n)), "fft") for n in (64, 256, 1024, 4096)),
        _transform("rows/360", (rows, 60 if sizes.tiny else 360), "fft"),
        _transform("rows_prime/1009", (rows, 61 if sizes.tiny else 1009), "fft"),
        _transform("inverse_rows/1024", (rows, sizes.side(1024)), "ifft"),
        _transform("real_rows/1024", (rows, sizes.side(1024)), "rfft"),
        _transform("real_inverse_rows/1024", (rows, sizes.side(1024) // 2 + 1), "irfft"),
        _transform("line/1m", (sizes.length(1 << 20),), "fft"),
        _transform("plane/1024", (sizes.side(1024), sizes.side(1024)), "fft2", 2),
    ]
