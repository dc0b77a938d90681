"""Matrix products by dtype, layout and shape, and products with quantized weights by format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.compare import bounds
from bench.compare.jobs import draws
from bench.compare.jobs.blocks import FORMATS, Packed
from bench.compare.model import EPS, Expected, Input, Job, Sizes


def jobs(sizes: Sizes) -> list[Job]:
    """Products of float matrices, then those with packed weights."""
    floats = [*_by_dtype(sizes), *_by_layout(sizes), *_batched(sizes), *_skinny(sizes), *_experts(sizes)]
    return [*floats, *_by_format(sizes)]


def _typed(rng: np.random.Generator, dtype: str, *shape: int) -> Input:
    """Normally distributed numbers that the dtype holds exactly."""
    if dtype == "bfloat16":
        return draws.normal_bfloat16(rng, *shape)
    values = rng.standard_normal(shape)
    if dtype == "complex64":
        values = values + 1j * rng.standard_normal(shape)
    held = values.astype(dtype)
    return Input(held if dtype in ("float64", "complex64") else held.astype(np.float32), dtype)


def _expected(a: np.ndarray, b: np.ndarray, dtype: str) -> list[Expected]:
    if dtype == "float64":
        values = a @ b
        norm = np.sqrt(np.square(a).sum(-1))[..., :, None] * np.sqrt(np.square(b).sum(-2))[..., None, :]
        # The truth is rounded like what it is compared with.
        return [Expected(values, 2 * bounds.walk(a.shape[-1]) * EPS["float64"] * norm, dtype)]
    if dtype == "complex64":
        values = a.astype(np.complex128) @ b.astype(np.complex128)
        norm = np.linalg.norm(a, axis=-1)[:, None] * np.linalg.norm(b, axis=-2)[None]
        return [Expected(values, 2 * bounds.walk(a.shape[-1]) * EPS["float32"] * norm, dtype)]
    return bounds.product(a, b, dtype)


def _product(
    name: str,
    left: tuple[int, ...],
    right: tuple[int, ...],
    dtype: str = "float32",
    views: Callable[[Any, Any], tuple[Any, Any]] = lambda a, b: (a, b),
) -> Job:
    """The product of two views of operands of these shapes."""
    a, b = views(np.empty(left, np.int8), np.empty(right, np.int8))
    out = int(np.prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]))) * a.shape[-2] * b.shape[-1]
    item = np.dtype("float16" if dtype == "bfloat16" else dtype).itemsize
    return Job(
        f"matmul/{name}",
        lambda r: [_typed(r, dtype, *left), _typed(r, dtype, *right)],
        lambda xp, a, b: xp.matmul(*views(a, b)),
        lambda i: _expected(*views(i[0], i[1]), dtype),
        bytes=item * (a.size + b.size + out),
        flops=(8 if dtype == "complex64" else 2) * out * a.shape[-1],
    )


def _by_dtype(sizes: Sizes) -> list[Job]:
    sides = [("float32", (64, 512)), ("float64", (64, 512, 1024)), ("float16", (64, 512, 1024))]
    sides += [("bfloat16", (64, 512, 1024)), ("complex64", (512,))]
    return [
        _product(f"{dtype}/{side}", (sizes.side(side),) * 2, (sizes.side(side),) * 2, dtype)
        for dtype, all_sides in sides
        for side in all_sides
    ]


def _by_layout(sizes: Sizes) -> list[Job]:
    n = sizes.side(1024)
    square, double = (n, n), (2 * n, 2 * n)
    return [
        _product("transposed/left", square, square, views=lambda a, b: (a.T, b)),
        _product("transposed/right", square, square, views=lambda a, b: (a, b.T)),
        _product("transposed/both", square, square, views=lambda a, b: (a.T, b.T)),
        _product("strided", double, double, views=lambda a, b: (a[::2, ::2], b[::2, ::2])),
        _product("tall", (16 * n, n // 16), (n // 16, n // 16)),
        _product("inner", (n // 16, 16 * n), (16 * n, n // 16)),
        _product("outer", (2 * n, n // 64), (n // 64, 2 * n)),
    ]


def _batched(sizes: Sizes) -> list[Job]:
    s, m = sizes.side(32), sizes.side(128)
    batch = 16 if sizes.tiny else 256
    return [
        _product("batched/32", (8 * batch, s, s), (8 * batch, s, s)),
        _product("batched/128", (batch, m, m), (batch, m, m)),
        _product("batched/one_right", (batch, m, m), (m, m)),
        _product(
            "batched/heads",
            (2, m, 8, m),
            (2, m, 8, m),
            views=lambda a, b: (_heads(a), _heads(b).swapaxes(-1, -2)),
        ),
    ]


def _heads(x: Any) -> Any:
    """(B, L, H, D) as (B, H, L, D)."""
    return x.swapaxes(1, 2)


def _skinny(sizes: Sizes) -> list[Job]:
    k = sizes.side(4096)
    made = []
    for rows in (1, 4, 16, 64):
        made.append(_product(f"skinny/{rows}", (rows, k), (k, k)))
        made.append(_product(f"skinny_transposed/{rows}", (rows, k), (k, k), views=lambda a, b: (a, b.T)))
    made.append(_product("skinny_bfloat16/1", (1, k), (k, k), "bfloat16", lambda a, b: (a, b.T)))
    made.append(_product("matrix_x_vector", (k, k), (k, 1)))
    return made


def _experts(sizes: Sizes) -> list[Job]:
    k, n = sizes.side(1024), sizes.side(512)

    def job(tokens: int) -> Job:
        def truth(i: Sequence[np.ndarray]) -> list[Expected]:
            return bounds.product(i[0][:, None, None], i[1].swapaxes(-1, -2)[i[2]], "float32")

        # Of 32 matrices, those of the 4 that each token picks, all of them for many tokens.
        return Job(
            f"matmul/experts/{tokens}",
            lambda r: [
                draws.normal(r, tokens, k),
                draws.normal(r, 32, n, k),
                draws.indices(r, 32, tokens, 4),
            ],
            lambda xp, x, w, at: xp.experts(x, w, at),
            truth,
            bytes=4 * n * k * min(32, 4 * tokens),
            flops=2 * 4 * tokens * n * k,
        )

    return [job(tokens) for tokens in (1, 16, 64)]


def _by_format(sizes: Sizes) -> list[Job]:
    n = sizes.side(2048)
    k = max(n, 256)

    def job(packed: Packed, rows: int) -> Job:
        def inputs(r: np.random.Generator) -> list[Input]:
            return [draws.normal_bfloat16(r, rows, k), *packed.draw(r, n, k)]

        def truth(i: Sequence[np.ndarray]) -> list[Expected]:
            x, weights = i[0].astype(np.float64), packed.decode(*i[1:])
            # Codes and biases cancel: each part is rounded at its own size, 16 steps of a code at most.
            size = np.abs(x) @ (np.abs(weights) + packed.offset_size(*i[1:])).T
            out, bound = x @ weights.T, bounds.walk(1) * EPS["float32"] * size
            return [Expected(out, bound + EPS["bfloat16"] * (np.abs(out) + bound), "bfloat16")]

        return Job(
            f"quantized/{packed.name}/{rows}",
            inputs,
            lambda xp, x, *w: xp.quantized(x, w, packed.mode, packed.group, packed.bits),
            truth,
            bytes=packed.bytes(n, k),
            flops=2 * rows * n * k,
        )

    return [job(packed, rows) for packed in FORMATS for rows in (1, 32)]
