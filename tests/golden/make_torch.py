"""Write torch.json: PyTorch's gradients of two transformer blocks in float64.

Run with an interpreter that has ``torch`` (Debian's python3-torch will do): ``python3 tests/golden/make_torch.py``.
The file is part of the repository, so that the tests need no ``torch``. Inputs and weights are not kept: every
number of theirs follows from its place (`numbers`) and is exact in bfloat16.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch

# Shape letters: B batch, L length, E embedding, H query heads, K key-value heads, D head dim, F hidden size.
SIZES = {"B": 2, "L": 7, "E": 24, "H": 4, "K": 2, "D": 6, "F": 40}
THETA, EPS = 100.0, 1e-5

LLAMA = {
    "input_layernorm.weight": ("E",),
    "self_attn.q_proj.weight": ("HD", "E"),
    "self_attn.k_proj.weight": ("KD", "E"),
    "self_attn.v_proj.weight": ("KD", "E"),
    "self_attn.o_proj.weight": ("E", "HD"),
    "post_attention_layernorm.weight": ("E",),
    "mlp.gate_proj.weight": ("F", "E"),
    "mlp.up_proj.weight": ("F", "E"),
    "mlp.down_proj.weight": ("E", "F"),
}
GELU = {
    "ln1.weight": ("E",),
    "ln1.bias": ("E",),
    **{
        f"attention.{p}_proj.{w}": ("E", "E")[: 2 - (w == "bias")]
        for p in ("query", "key", "value", "out")
        for w in ("weight", "bias")
    },
    "ln2.weight": ("E",),
    "ln2.bias": ("E",),
    "linear1.weight": ("F", "E"),
    "linear1.bias": ("F",),
    "linear2.weight": ("E", "F"),
    "linear2.bias": ("E",),
}


def shape_of(letters: tuple[str, ...]) -> list[int]:
    return [math.prod(SIZES[c] for c in axis) for axis in letters]


def numbers(name: str, shape: list[int]) -> list[float]:
    """Multiples of 1/512 in [-1/2, 1/2), from their places and the name; norms' weights are around 1."""
    state, out = sum((i + 1) * ord(c) for i, c in enumerate(name)) & 0xFFFFFFFF, []
    for _ in range(math.prod(shape)):
        state = (1664525 * state + 1013904223) & 0xFFFFFFFF
        out.append((state >> 16) % 256 - 128)
    if len(shape) == 1 and name.endswith("weight"):
        return [1 + v // 8 / 64 for v in out]
    return [v / (512 if len(shape) == 2 else 256) for v in out]


def tensor(name: str, letters: tuple[str, ...]) -> torch.Tensor:
    shape = shape_of(letters)
    return torch.tensor(numbers(name, shape), dtype=torch.float64).reshape(shape).requires_grad_()


def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS) * weight


def rotated(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions of (B, heads, L, D), halves against each other."""
    half = SIZES["D"] // 2
    frequency = THETA ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(SIZES["L"], dtype=torch.float64)[:, None] * frequency
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def llama(x: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    """RMS norm, grouped-query attention with rotary positions and a causal mask, SwiGLU, residuals."""
    h = rms(x, w["input_layernorm.weight"])

    def heads(name: str) -> torch.Tensor:
        y = h @ w[f"self_attn.{name}_proj.weight"].T
        return y.reshape(*y.shape[:2], -1, SIZES["D"]).transpose(1, 2)

    q, k, v = rotated(heads("q")), rotated(heads("k")), heads("v")
    k, v = (t.repeat_interleave(SIZES["H"] // SIZES["K"], 1) for t in (k, v))
    later = torch.ones(SIZES["L"], SIZES["L"], dtype=torch.bool).triu(1)
    scores = (q @ k.transpose(-1, -2) / math.sqrt(SIZES["D"])).masked_fill(later, -math.inf)
    y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(SIZES["B"], SIZES["L"], -1)
    x = x + y @ w["self_attn.o_proj.weight"].T
    h = rms(x, w["post_attention_layernorm.weight"])
    gate = torch.nn.functional.silu(h @ w["mlp.gate_proj.weight"].T)
    return x + (gate * (h @ w["mlp.up_proj.weight"].T)) @ w["mlp.down_proj.weight"].T


def gelu(x: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    """PyTorch's own encoder layer: layer norms in front, biases, GELU, no mask."""
    layer = torch.nn.TransformerEncoderLayer(
        SIZES["E"],
        SIZES["H"],
        SIZES["F"],
        0.0,
        "gelu",
        EPS,
        batch_first=True,
        norm_first=True,
        dtype=torch.float64,
    )
    theirs = {
        "self_attn.in_proj_weight": torch.cat(
            [w[f"attention.{p}_proj.weight"] for p in ("query", "key", "value")]
        ),
        "self_attn.in_proj_bias": torch.cat(
            [w[f"attention.{p}_proj.bias"] for p in ("query", "key", "value")]
        ),
        "self_attn.out_proj.weight": w["attention.out_proj.weight"],
        "self_attn.out_proj.bias": w["attention.out_proj.bias"],
        **{f"norm{i}.{p}": w[f"ln{i}.{p}"] for i in (1, 2) for p in ("weight", "bias")},
        **{f"linear{i}.{p}": w[f"linear{i}.{p}"] for i in (1, 2) for p in ("weight", "bias")},
    }
    assert set(theirs) == set(layer.state_dict())
    return torch.nn.utils.stateless.functional_call(layer, theirs, (x,))


def gradients(block, weights: dict[str, tuple[str, ...]]) -> dict[str, list]:
    """The result, and the gradients of its product with fixed numbers, by name."""
    x = tensor("x", ("B", "L", "E"))
    w = {name: tensor(name, letters) for name, letters in weights.items()}
    y = block(x, w)
    (y * tensor("cotangent", ("B", "L", "E")).detach()).sum().backward()
    out = {"y": y.detach(), "x": x.grad, **{name: t.grad for name, t in w.items()}}
    return {name: [float(f"{v:.9g}") for v in t.flatten().tolist()] for name, t in out.items()}


def main() -> None:
    content = {
        "torch": torch.__version__,
        "sizes": SIZES,
        "theta": THETA,
        "eps": EPS,
        "llama": {"weights": LLAMA, "results": gradients(llama, LLAMA)},
        "gelu": {"weights": GELU, "results": gradients(gelu, GELU)},
    }
    path = Path(__file__).parent / "torch.json"
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
