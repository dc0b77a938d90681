"""Jobs of the other commands: work in cache, and a chain of products as one decoded token has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.compare import bounds
from bench.compare.jobs import draws
from bench.compare.model import EPS, Expected, Input, Job, Sizes

_ROOT = 0.7978845608028654  # sqrt(2 / pi)
_GROUP = 64


def extra_jobs(sizes: Sizes) -> list[Job]:
    """Jobs by name, like those of the comparison."""
    return [_gelu_in_cache(sizes), _decode_chain(sizes)]


def _gelu(xp: Any, x: Any) -> Any:
    return 0.5 * x * (1.0 + xp.tanh(_ROOT * (x + 0.044715 * x * x * x)))


def _gelu_in_cache(sizes: Sizes) -> Job:
    n = sizes.length(1 << 18)

    def truth(i: Sequence[np.ndarray]) -> list[Expected]:
        x = i[0].astype(np.float64)
        return [bounds.absolute(_gelu(np, x), np.abs(x), 16)]

    return Job("extra/gelu_in_cache", lambda r: [draws.normal(r, n)], _gelu, truth, bytes=8 * n)


def _decode_chain(sizes: Sizes) -> Job:
    """A token's way through layers: wider and back by 4-bit weights, with a norm in between."""
    layers, width = (2, 64) if sizes.tiny else (28, 1024)
    wide = 3 * width

    def inputs(r: np.random.Generator) -> list[Input]:
        out = [draws.normal(r, 1, width)]
        for _ in range(layers):
            for rows, cols in ((wide, width), (width, wide)):
                words = r.integers(0, 1 << 32, (rows, cols // 8), dtype=np.uint32)
                # Outputs of size 1 for inputs of size 1; codes have a deviation of 4.6.
                scales = np.full((rows, cols // _GROUP), 1 / (4.6 * cols**0.5), np.float32)
                out += [Input(words, "uint32"), Input(scales, "float32")]
                out.append(Input((-7.5 * scales).astype(np.float32), "float32"))
        return out

    def run(xp: Any, x: Any, *weights: Any) -> Any:
        for i in range(0, len(weights), 6):
            h = xp.quantized(x, weights[i : i + 3], "affine", _GROUP, 4)
            x = x + xp.quantized(h, weights[i + 3 : i + 6], "affine", _GROUP, 4)
            x = x * xp.rsqrt(xp.mean(x * x, axis=-1, keepdims=True) + 1e-5)
        return x

    def dense(words: np.ndarray, scales: np.ndarray, biases: np.ndarray) -> np.ndarray:
        codes = (words[..., None] >> np.arange(0, 32, 4, dtype=np.uint32) & 15).reshape(len(words), -1)
        each, offset = (np.repeat(a.astype(np.float64), _GROUP, 1) for a in (scales, biases))
        return codes * each + offset

    def truth(i: Sequence[np.ndarray]) -> list[Expected]:
        x, weights = i[0].astype(np.float64), i[1:]
        for k in range(0, len(weights), 6):
            h = x @ dense(*weights[k : k + 3]).T
            x = x + h @ dense(*weights[k + 3 : k + 6]).T
            x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-5)
        # Layers are of size 1 and turn errors about; each adds those of two sums.
        off = bounds.walk(layers) * 16 * bounds.walk(1) * EPS["float32"]
        return [Expected(x, off * (1 + np.abs(x)), "float32")]

    return Job(
        "extra/decode_chain",
        inputs,
        run,
        truth,
        bytes=layers * 2 * wide * width * 5 // 8,
        flops=layers * 4 * wide * width,
    )
