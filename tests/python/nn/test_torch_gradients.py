"""Gradients of whole transformer blocks against PyTorch's in float64 (tests/golden/make_torch.py)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from lamina import nn
from lamina.lm import LlamaConfig
from lamina.lm.models.decoder import DecoderLayer
from lamina.utils import tree_flatten, tree_unflatten

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "golden" / "torch.json").read_text(encoding="utf-8")
)
SIZES: dict[str, int] = GOLDEN["sizes"]
EPS = {"float32": 2.0**-24, "bfloat16": 2.0**-8}
# What lies between an input and its gradient, forth and as often back: 8 matrix products (those of attention
# among them), 3 norms and softmaxes, 10 rotations, gates, activations and residuals.
STAGES = 42


def shape_of(letters: list[str]) -> tuple[int, ...]:
    return tuple(math.prod(SIZES[c] for c in axis) for axis in letters)


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers that make_torch.py gives an input of this name."""
    state = sum((i + 1) * ord(c) for i, c in enumerate(name)) & 0xFFFFFFFF
    out = np.empty(math.prod(shape))
    for k in range(out.size):
        state = (1664525 * state + 1013904223) & 0xFFFFFFFF
        out[k] = (state >> 16) % 256 - 128
    if len(shape) == 1 and name.endswith("weight"):
        return (1 + out // 8 / 64).reshape(shape)
    return (out / (512 if len(shape) == 2 else 256)).reshape(shape)


def llama() -> tuple[nn.Module, Callable[[nn.Module, mx.array], mx.array]]:
    config = LlamaConfig(
        hidden_size=SIZES["E"],
        num_hidden_layers=1,
        num_attention_heads=SIZES["H"],
        num_key_value_heads=SIZES["K"],
        head_dim=SIZES["D"],
        intermediate_size=SIZES["F"],
        rms_norm_eps=GOLDEN["eps"],
        rope_theta=GOLDEN["theta"],
        vocab_size=8,
    )
    decoder = config.spec
    return DecoderLayer(decoder.layers[0], decoder), lambda m, x: m(x)


def gelu() -> tuple[nn.Module, Callable[[nn.Module, mx.array], mx.array]]:
    layer = nn.TransformerEncoderLayer(SIZES["E"], SIZES["H"], SIZES["F"], activation=nn.gelu)
    layer.attention = nn.MultiHeadAttention(SIZES["E"], SIZES["H"], bias=True)
    return layer, lambda m, x: m(x, None)


BLOCKS = {"llama": llama, "gelu": gelu}


@pytest.mark.parametrize(
    "wrap", [lambda f: f, mx.compile, mx.checkpoint], ids=["plain", "compile", "checkpoint"]
)
@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("block", BLOCKS)
def test_gradients_of_a_block(block: str, dtype: str, wrap: Callable[[Any], Any]) -> None:
    kind = getattr(mx, dtype)
    model, call = BLOCKS[block]()
    golden = GOLDEN[block]
    weights = {n: mx.array(numbers(n, shape_of(s)), kind) for n, s in golden["weights"].items()}
    assert {n for n, _ in tree_flatten(model.parameters())} == set(weights)
    x, cotangent = (mx.array(numbers(n, shape_of(["B", "L", "E"])), kind) for n in ("x", "cotangent"))

    def f(x: mx.array, *values: mx.array) -> mx.array:
        model.update(tree_unflatten(list(zip(weights, values, strict=True))))
        return call(model, x)

    (y,), gradients = mx.vjp(wrap(f), [x, *weights.values()], [cotangent])
    got = dict(zip(["y", "x", *weights], [y, *gradients], strict=True))
    assert set(got) == set(golden["results"])
    # Roundings of independent signs: of each stage in its dtype, and of each term of its sums in float32.
    longest = max(SIZES["F"], SIZES["B"] * SIZES["L"])
    bound = EPS[dtype] * math.sqrt(STAGES) + EPS["float32"] * math.sqrt(STAGES * longest)
    for name, want in golden["results"].items():
        assert got[name].dtype == kind
        ours = np.asarray(got[name], np.float64)
        theirs = np.array(want).reshape(ours.shape)
        # Softmax does not see a shift of all scores: zero but for roundings, as large as the weight's.
        size = golden["results"]["attention.key_proj.weight"] if name == "attention.key_proj.bias" else theirs
        off = np.linalg.norm(ours - theirs) / np.linalg.norm(size)
        assert off <= bound, (name, off, bound)
