"""The heavy kernels that the project has speed targets for: products, attention, convolution, gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.compare import bounds
from bench.compare.jobs import draws
from bench.compare.model import EPS, Expected, Input, Job, Sizes


def jobs(sizes: Sizes) -> list[Job]:
    """Jobs of the heavy kernels; a peer that lacks one says so."""
    return [
        *_products(sizes),
        *_quantized(sizes),
        *_attention(sizes),
        *_convolution(sizes),
        *_analysis(sizes),
    ]


def _matmul(xp: Any, a: Any, b: Any) -> Any:
    return a @ b


def _products(sizes: Sizes) -> list[Job]:
    made = []
    for side, target in ((256, None), (1024, 1.1), (2048, 1.1)):
        n = sizes.side(side)
        made.append(
            Job(
                f"target/matmul/{side}",
                lambda r, n=n: [draws.normal(r, n, n), draws.normal(r, n, n)],
                _matmul,
                lambda i: bounds.product(i[0], i[1]),
                target,
                12 * n * n,
                2 * n**3,
            )
        )
    n, k = sizes.side(2048), sizes.side(4096)
    made.append(
        Job(
            "target/matmul/2048_bfloat16",
            lambda r: [draws.normal_bfloat16(r, n, n), draws.normal_bfloat16(r, n, n)],
            _matmul,
            lambda i: bounds.product(i[0], i[1], "bfloat16"),
            0.75,
            6 * n * n,
            2 * n**3,
        )
    )
    made.append(
        Job(
            "target/vector_x_4096x4096",
            lambda r: [draws.normal(r, 1, k), draws.normal(r, k, k)],
            _matmul,
            lambda i: bounds.product(i[0], i[1]),
            1.0,
            4 * k * k,
            2 * k * k,
        )
    )
    return made


_GROUP = 64


def _packed(rng: np.random.Generator, m: int, k: int, dtype: str) -> list[Input]:
    """m rows of activations and a k x k matrix of random 4-bit weights with scales and biases."""
    words = rng.integers(0, 1 << 32, (k, k // 8), dtype=np.uint32)
    # Powers of two: libraries that store biases for codes offset by 8 then hold the same weights.
    scales = np.exp2(rng.integers(-8, -5, (k, k // _GROUP))).astype(np.float32)
    x = draws.normal(rng, m, k) if dtype == "float32" else draws.normal_bfloat16(rng, m, k)
    return [x, Input(words, "uint32"), Input(scales, dtype), Input(-8 * scales, dtype)]


def _unpacked_product(inputs: Sequence[np.ndarray], dtype: str, int8: bool) -> list[Expected]:
    x, words, scales, biases = inputs
    codes = (words[..., None] >> np.arange(0, 32, 4, dtype=np.uint32) & np.uint32(15)).reshape(len(words), -1)
    each = np.repeat(scales.astype(np.float64), _GROUP, 1)
    weights = codes * each + np.repeat(biases, _GROUP, 1)
    out = x.astype(np.float64) @ weights.T
    # The codes' part and the biases' part cancel: each is rounded at its own size.
    bound = bounds.walk(1) * EPS["float32"] * (np.abs(x, dtype=np.float64) @ (16 * each).T)
    if int8:
        # An activation is off by half a step of its group at most; eight standard deviations of their sum.
        steps = np.abs(x, dtype=np.float64).reshape(len(x), -1, _GROUP).max(-1) / 127
        squares = np.square(weights).reshape(len(words), -1, _GROUP).sum(-1)
        bound = bound + 8 * np.sqrt(np.square(steps) @ squares.T / 12)
    return [Expected(out, bound + EPS[dtype] * (np.abs(out) + bound), dtype)]


def _quantized(sizes: Sizes) -> list[Job]:
    k = sizes.side(4096)

    def job(rows: int, dtype: str, int8: bool, target: float | None) -> Job:
        multiply = "matmul_4bit_int8" if int8 else "matmul_4bit"
        mode = "int8/" if int8 else "" if dtype == "bfloat16" else f"{dtype}/"
        return Job(
            f"target/matmul_4bit/{mode}{rows}",
            lambda r: _packed(r, rows, k, dtype),
            lambda xp, x, packed: getattr(xp, multiply)(x, packed),
            lambda i: _unpacked_product(i, dtype, int8),
            target,
            k * k // 2 + (2 if dtype == "bfloat16" else 4) * 2 * k * k // _GROUP,
            2 * rows * k * k,
            prepare=lambda xp, x, *weights: [x, xp.packed_4bit(*weights)],
        )

    made = [job(rows, "bfloat16", False, target) for rows, target in ((1, 1.0), (32, 0.7), (256, 0.6))]
    made += [job(rows, "bfloat16", True, target) for rows, target in ((1, 0.8), (32, 0.35), (256, 0.35))]
    return [*made, job(1, "float32", False, None)]


def _attention_expected(inputs: Sequence[np.ndarray]) -> list[Expected]:
    q, k, v = (a.astype(np.float64) for a in inputs)
    scores = q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5
    scores = np.where(np.triu(np.ones(scores.shape[-2:], dtype=bool), 1), -np.inf, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    # An error of a score changes its weight by as much, relatively; scores stay below 8 here.
    return [bounds.absolute(weights @ v, weights @ np.abs(v), bounds.walk(q.shape[-1]) + 32)]


def _attention(sizes: Sizes) -> list[Job]:
    heads, length, dim = 16, sizes.side(512), 64
    return [
        Job(
            "target/causal_attention",
            lambda r: [draws.normal(r, 1, heads, length, dim) for _ in range(3)],
            lambda xp, q, k, v: xp.attention(q, k, v, dim**-0.5, True),
            _attention_expected,
            1.0,
            16 * heads * length * dim,
            2 * heads * length * length * dim,
        )
    ]


def _convolution_expected(inputs: Sequence[np.ndarray]) -> list[Expected]:
    x, w = (a.astype(np.float64) for a in inputs)
    height, width = x.shape[1:3]

    def convolved(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifts = [(i, j) for i in range(3) for j in range(3)]
        return np.sum([padded[:, i : i + height, j : j + width] @ w[:, i, j].T for i, j in shifts], axis=0)

    norm = np.sqrt(convolved(np.square(x), np.ones_like(w)) * np.square(w).sum((1, 2, 3)))
    return [bounds.absolute(convolved(x, w), norm, bounds.walk(9 * x.shape[-1]))]


def _convolution(sizes: Sizes) -> list[Job]:
    n, side, channels = 4, sizes.side(56), sizes.side(64)
    if sizes.tiny:
        n, side, channels = 1, 8, 16
    return [
        Job(
            "target/conv2d",
            lambda r: [draws.normal(r, n, side, side, channels), draws.normal(r, channels, 3, 3, channels)],
            lambda xp, x, w: xp.convolution(x, w, 1, 1, 1),
            _convolution_expected,
            1.4,
            8 * n * side * side * channels,
            18 * n * side * side * channels**2,
        )
    ]


def _loss(xp: Any, x: Any, y: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    d = xp.relu(x @ w1 + b1) @ w2 + b2 - y
    return xp.mean(d * d)


def _loss_and_gradients(xp: Any, x: Any, y: Any, *parameters: Any) -> Any:
    return xp.value_and_gradients(lambda *p: _loss(xp, x, y, *p), *parameters)


def _loss_and_gradients_expected(inputs: Sequence[np.ndarray]) -> list[Expected]:
    x, y, w1, b1, w2, b2 = (a.astype(np.float64) for a in inputs)
    before = x @ w1 + b1
    hidden = np.maximum(before, 0)
    d = hidden @ w2 + b2 - y
    g = 2 * d / d.size
    back = (g @ w2.T) * (before > 0)
    outputs = [np.asarray(np.square(d).mean()), x.T @ back, back.sum(0), hidden.T @ g, g.sum(0)]
    return bounds.near(outputs, 64 * bounds.walk(x.shape[-1]) * EPS["float32"])


def _cholesky_operand(rng: np.random.Generator, n: int) -> list[Input]:
    a = rng.standard_normal((n, n))
    return [Input((a @ a.T / n + np.eye(n)).astype(np.float32), "float32")]


def _rfft_expected(inputs: Sequence[np.ndarray]) -> list[Expected]:
    x = inputs[0].astype(np.float64)
    norm = np.sqrt(np.square(x).sum(-1, keepdims=True))
    return [bounds.absolute(np.fft.rfft(x, axis=-1), norm, bounds.walk(int(np.log2(x.shape[-1]))))]


def _analysis(sizes: Sizes) -> list[Job]:
    batch, width, rows, cols = sizes.side(256), sizes.side(512), sizes.side(2048), sizes.side(4096)
    n = sizes.side(256)

    def network(r: np.random.Generator) -> list[Input]:
        layer = [draws.normal(r, width, width), draws.normal(r, width)]
        scaled = [
            Input(a.values / np.float32(width**0.5), "float32") for a in (*layer, *map(_like(r), layer))
        ]
        return [draws.normal(r, batch, width), draws.normal(r, batch, width), *scaled]

    return [
        Job(
            "target/rfft_rows",
            lambda r: [draws.normal(r, rows, cols)],
            lambda xp, x: xp.fft.rfft(x, axis=-1),
            lambda i: [Expected(e.values, e.bound, "complex64") for e in _rfft_expected(i)],
            1.5,
            8 * rows * cols,
        ),
        Job(
            "target/cholesky_256",
            lambda r: _cholesky_operand(r, n),
            lambda xp, a: xp.linalg.cholesky(a),
            # Eigenvalues lie between 1 and about 5: the factor's error is a small multiple of the rounding.
            lambda i: bounds.near(
                [np.linalg.cholesky(i[0].astype(np.float64))], 16 * bounds.walk(n) * EPS["float32"]
            ),
            2.0,
            8 * n * n,
            n**3 // 3,
        ),
        Job(
            "target/mlp_loss_and_gradient",
            network,
            _loss_and_gradients,
            _loss_and_gradients_expected,
            1.0,
            0,
            12 * batch * width * width,
        ),
    ]


def _like(rng: np.random.Generator) -> Any:
    return lambda a: draws.normal(rng, *a.values.shape)
