"""Write torch_nn.json: PyTorch's layers, losses and optimizers in float64.

Run with an interpreter that has ``torch`` (Debian's python3-torch will do): ``python3 tests/golden/make_torch_nn.py``.
The file is part of the repository, so that the tests need no ``torch``. Inputs and parameters are not kept: their
numbers follow from their names (`make_torch.numbers`). Arrays have lamina's layouts: channels last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from make_torch import numbers

T = torch.Tensor
Shape = list[int]


@dataclass
class Case:
    """A function of inputs and parameters; `fixed` are whole numbers, which have no gradient."""

    f: Callable[..., Any]
    inputs: dict[str, Shape]
    parameters: dict[str, Shape] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    positive: list[str] = field(default_factory=list)


def first(x: T) -> T:
    return x.movedim(-1, 1)


def last(x: T) -> T:
    return x.movedim(1, -1)


def linear(x: T, p: dict[str, T], name: str) -> T:
    return F.linear(x, p[f"{name}.weight"], p.get(f"{name}.bias"))


def convolution(axes: int, transposed: bool = False, **options: Any) -> Callable[..., T]:
    f = getattr(F, f"conv_transpose{axes}d" if transposed else f"conv{axes}d")

    def run(p: dict[str, T], x: T) -> T:
        # Channels last: (out, *kernel, in / groups), for transposed ones too.
        w = p["weight"].movedim(-1, 0 if transposed else 1)
        return last(f(first(x), w, p.get("bias"), **options))

    return run


def pooled(f: Callable[..., T], *args: Any, **options: Any) -> Callable[..., T]:
    return lambda p, x: last(f(first(x), *args, **options))


def resized(**options: Any) -> Callable[..., T]:
    return lambda p, x: last(F.interpolate(first(x), **options))


def batch_norm(p: dict[str, T], x: T) -> dict[str, T]:
    mean, var = torch.zeros(4, dtype=x.dtype), torch.ones(4, dtype=x.dtype)
    y = last(F.batch_norm(first(x), mean, var, p["weight"], p["bias"], True, 0.1, 1e-5))
    again = last(F.batch_norm(first(x), mean, var, p["weight"], p["bias"], False, 0.1, 1e-5))
    return {"y": y, "evaluated": again, "running_mean": mean, "running_var": var}


def stepped(x: T, step: Callable[[T, T], T], hidden: int) -> T:
    """The states of all steps of (B, L, D)."""
    h, out = x.new_zeros(x.shape[0], hidden), []
    for i in range(x.shape[1]):
        h = step(x[:, i], h)
        out.append(h)
    return torch.stack(out, 1)


def rnn(p: dict[str, T], x: T) -> T:
    zero = torch.zeros_like(p["bias"])
    cell = torch._VF.rnn_tanh_cell
    return stepped(x, lambda v, h: cell(v, h, p["Wxh"], p["Whh"], p["bias"], zero), 4)


def gru(p: dict[str, T], x: T) -> T:
    hidden = torch.cat([torch.zeros(8, dtype=x.dtype), p["bhn"]])
    return stepped(x, lambda v, h: torch._VF.gru_cell(v, h, p["Wx"], p["Wh"], p["b"], hidden), 4)


def lstm(p: dict[str, T], x: T) -> dict[str, T]:
    h = c = x.new_zeros(x.shape[0], 4)
    zero, hs, cs = torch.zeros_like(p["bias"]), [], []
    for i in range(x.shape[1]):
        h, c = torch._VF.lstm_cell(x[:, i], (h, c), p["Wx"], p["Wh"], p["bias"], zero)
        hs.append(h)
        cs.append(c)
    return {"y": torch.stack(hs, 1), "cells": torch.stack(cs, 1)}


def attended(p: dict[str, T], name: str, q: T, k: T, v: T, mask: T | None = None) -> T:
    """Two heads of a module's projections; torch's own attention."""
    weights = [p[f"{name}{part}_proj.weight"] for part in ("query", "key", "value")]
    biases = [p.get(f"{name}{part}_proj.bias") for part in ("query", "key", "value")]
    joined = None if biases[0] is None else torch.cat(biases)
    width = weights[0].shape[0]
    y, _ = F.multi_head_attention_forward(
        *(t.transpose(0, 1) for t in (q, k, v)), width, 2, torch.cat(weights), joined, None, None, False, 0.0,
        p[f"{name}out_proj.weight"], p.get(f"{name}out_proj.bias"), training=False, need_weights=False, attn_mask=mask,
    )  # fmt: skip
    return y.transpose(0, 1)


def norm(p: dict[str, T], name: str, x: T) -> T:
    return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"], 1e-5)


def encoder_layer(p: dict[str, T], x: T, prefix: str = "", first_norm: bool = True) -> T:
    q = {k.removeprefix(prefix): v for k, v in p.items() if k.startswith(prefix)}

    def feed(h: T) -> T:
        return linear(F.relu(linear(h, q, "linear1")), q, "linear2")

    if first_norm:
        h = norm(q, "ln1", x)
        x = x + attended(q, "attention.", h, h, h)
        return x + feed(norm(q, "ln2", x))
    x = norm(q, "ln1", x + attended(q, "attention.", x, x, x))
    return norm(q, "ln2", x + feed(x))


def decoder_layer(p: dict[str, T], x: T, memory: T) -> T:
    h = norm(p, "ln1", x)
    x = x + attended(p, "self_attention.", h, h, h)
    x = x + attended(p, "cross_attention.", norm(p, "ln2", x), memory, memory)
    return x + linear(F.relu(linear(norm(p, "ln3", x), p, "linear1")), p, "linear2")


def projections(name: str, width: int, bias: bool = False) -> dict[str, Shape]:
    parts = [f"{name}{part}_proj" for part in ("query", "key", "value", "out")]
    shapes = {f"{part}.weight": [width, width] for part in parts}
    return shapes | ({f"{part}.bias": [width] for part in parts} if bias else {})


def layered(norms: int, prefix: str = "") -> dict[str, Shape]:
    shapes = {f"{prefix}ln{i + 1}.{part}": [6] for i in range(norms) for part in ("weight", "bias")}
    return shapes | {
        f"{prefix}linear1.weight": [8, 6],
        f"{prefix}linear1.bias": [8],
        f"{prefix}linear2.weight": [6, 8],
        f"{prefix}linear2.bias": [6],
    }


def encoder(p: dict[str, T], x: T) -> T:
    for i in range(2):
        x = encoder_layer(p, x, f"layers.{i}.")
    return norm(p, "ln", x)


def kernel(*shape: int) -> dict[str, Shape]:
    return {"weight": list(shape), "bias": [shape[0]]}


def plain(f: Callable[[T], T]) -> Case:
    return Case(lambda p, x: f(x), {"x": [3, 5]})


LAYERS: dict[str, Case] = {
    "Linear": Case(lambda p, x: F.linear(x, p["weight"], p["bias"]), {"x": [3, 5]}, kernel(4, 5)),
    "Bilinear": Case(lambda p, x, y: F.bilinear(x, y, p["weight"].transpose(1, 2), p["bias"]),
                     {"x": [3, 5], "y": [3, 2]}, {"weight": [4, 2, 5], "bias": [4]}),
    "Embedding": Case(lambda p, ids: F.embedding(ids, p["weight"]), {}, {"weight": [5, 3]},
                      {"ids": [[0, 4, 4], [2, 0, 1]]}),
    "Conv1d": Case(convolution(1, stride=2, padding=1), {"x": [2, 9, 4]}, kernel(6, 3, 4)),
    "Conv1d groups": Case(convolution(1, groups=2, dilation=2), {"x": [2, 9, 4]}, kernel(6, 3, 2)),
    "Conv2d": Case(convolution(2, stride=(2, 1), padding=(1, 2), dilation=(1, 2)), {"x": [2, 6, 7, 3]},
                   kernel(4, 3, 2, 3)),
    "Conv3d": Case(convolution(3, padding=1), {"x": [1, 4, 3, 4, 2]}, kernel(3, 2, 3, 2, 2)),
    "ConvTranspose1d": Case(convolution(1, True, stride=2, padding=1, output_padding=1), {"x": [2, 5, 4]},
                            kernel(3, 3, 4)),
    "ConvTranspose2d": Case(convolution(2, True, stride=2, dilation=2), {"x": [2, 3, 4, 3]}, kernel(2, 2, 3, 3)),
    "ConvTranspose3d": Case(convolution(3, True, padding=1), {"x": [1, 3, 3, 2, 2]}, kernel(3, 3, 2, 3, 2)),
    "LayerNorm": Case(lambda p, x: F.layer_norm(x, (5,), p["weight"], p["bias"], 1e-5), {"x": [3, 5]}, kernel(5)),
    "RMSNorm": Case(lambda p, x: x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * p["weight"],
                    {"x": [3, 5]}, {"weight": [5]}),
    "GroupNorm": Case(lambda p, x: last(F.group_norm(first(x), 2, p["weight"], p["bias"], 1e-5)),
                      {"x": [2, 3, 5, 4]}, kernel(4)),
    "InstanceNorm": Case(lambda p, x: last(F.instance_norm(first(x), weight=p["weight"], bias=p["bias"])),
                         {"x": [2, 3, 5, 4]}, kernel(4)),
    "BatchNorm": Case(batch_norm, {"x": [3, 5, 4]}, kernel(4)),
    "MaxPool1d": Case(pooled(F.max_pool1d, 3, 2, 1), {"x": [2, 9, 3]}),
    "MaxPool2d": Case(pooled(F.max_pool2d, 2), {"x": [2, 6, 5, 3]}),
    "MaxPool3d": Case(pooled(F.max_pool3d, 2, 1), {"x": [1, 4, 3, 4, 2]}),
    "AvgPool1d": Case(pooled(F.avg_pool1d, 3, 2, 1), {"x": [2, 9, 3]}),
    "AvgPool2d": Case(pooled(F.avg_pool2d, 2), {"x": [2, 6, 5, 3]}),
    "AvgPool3d": Case(pooled(F.avg_pool3d, 2, 1), {"x": [1, 4, 3, 4, 2]}),
    "Upsample nearest": Case(resized(scale_factor=2, mode="nearest"), {"x": [1, 3, 4, 2]}),
    "Upsample linear": Case(resized(scale_factor=2, mode="bilinear", align_corners=False), {"x": [1, 3, 4, 2]}),
    "Upsample linear aligned": Case(resized(scale_factor=3, mode="bilinear", align_corners=True),
                                    {"x": [1, 3, 4, 2]}),
    "Upsample cubic": Case(resized(scale_factor=2, mode="bicubic", align_corners=False), {"x": [1, 4, 5, 1]}),
    "RNN": Case(rnn, {"x": [2, 5, 3]}, {"Wxh": [4, 3], "Whh": [4, 4], "bias": [4]}),
    "GRU": Case(gru, {"x": [2, 5, 3]}, {"Wx": [12, 3], "Wh": [12, 4], "b": [12], "bhn": [4]}),
    "LSTM": Case(lstm, {"x": [2, 5, 3]}, {"Wx": [16, 3], "Wh": [16, 4], "bias": [16]}),
    "MultiHeadAttention": Case(lambda p, q, k, v: attended(p, "", q, k, v),
                               {"q": [2, 3, 6], "k": [2, 4, 6], "v": [2, 4, 6]}, projections("", 6, True)),
    "MultiHeadAttention mask": Case(
        lambda p, q, k, v: attended(p, "", q, k, v, torch.full((4, 4), -1e9, dtype=q.dtype).triu(1)),
        {"q": [2, 4, 6], "k": [2, 4, 6], "v": [2, 4, 6]}, projections("", 6)),
    "TransformerEncoderLayer": Case(encoder_layer, {"x": [2, 4, 6]}, projections("attention.", 6) | layered(2)),
    "TransformerEncoderLayer last": Case(lambda p, x: encoder_layer(p, x, first_norm=False), {"x": [2, 4, 6]},
                                         projections("attention.", 6) | layered(2)),
    "TransformerDecoderLayer": Case(
        decoder_layer, {"x": [2, 4, 6], "memory": [2, 3, 6]},
        projections("self_attention.", 6) | projections("cross_attention.", 6) | layered(3)),
    "TransformerEncoder": Case(encoder, {"x": [2, 4, 6]}, {
        name: shape for i in range(2)
        for name, shape in (projections(f"layers.{i}.attention.", 6) | layered(2, f"layers.{i}.")).items()
    } | {"ln.weight": [6], "ln.bias": [6]}),
    "PReLU": Case(lambda p, x: F.prelu(x, p["weight"]), {"x": [3, 5]}, {"weight": [1]}),
    "CELU": plain(lambda x: F.celu(x, 0.7)),
    "ELU": plain(lambda x: F.elu(x, 0.7)),
    "GELU": plain(F.gelu),
    "GELU tanh": plain(lambda x: F.gelu(x, approximate="tanh")),
    "GLU": Case(lambda p, x: F.glu(x), {"x": [3, 6]}),
    "HardShrink": plain(lambda x: F.hardshrink(x, 0.2)),
    "HardTanh": plain(lambda x: F.hardtanh(x, -0.3, 0.2)),
    "Hardswish": plain(F.hardswish),
    "LeakyReLU": plain(lambda x: F.leaky_relu(x, 0.1)),
    "LogSigmoid": plain(F.logsigmoid),
    "LogSoftmax": plain(lambda x: F.log_softmax(x, -1)),
    "Mish": plain(F.mish),
    "ReLU": plain(F.relu),
    "ReLU6": plain(lambda x: F.relu6(20 * x)),
    "SELU": plain(F.selu),
    "SiLU": plain(F.silu),
    "Sigmoid": plain(torch.sigmoid),
    "Softmax": plain(lambda x: F.softmax(x, -1)),
    "Softmin": plain(lambda x: F.softmin(x, -1)),
    "Softplus": plain(F.softplus),
    "Softshrink": plain(lambda x: F.softshrink(x, 0.2)),
    "Softsign": plain(F.softsign),
    "Tanh": plain(torch.tanh),
}  # fmt: skip


def loss(f: Callable[..., T], *names: str, fixed: dict[str, Any] | None = None, positive: str = "") -> Case:
    return Case(lambda p, **x: f(**x), {n: [4, 3] for n in names}, {}, fixed or {}, positive.split())


CLASSES = {"targets": [0, 2, 1, 2]}
SIGNS = {"targets": [1, -1, -1, 1]}

LOSSES: dict[str, Case] = {
    "cross_entropy": loss(lambda x, targets: F.cross_entropy(x, targets, reduction="none"), "x", fixed=CLASSES),
    "cross_entropy smoothed": loss(
        lambda x, targets: F.cross_entropy(x, targets, label_smoothing=0.1, reduction="none"), "x", fixed=CLASSES),
    "cross_entropy soft": loss(
        lambda x, y: F.cross_entropy(x, F.softmax(y, -1), reduction="none"), "x", "y"),
    "binary_cross_entropy": loss(
        lambda x, y: F.binary_cross_entropy_with_logits(x, torch.sigmoid(y), reduction="mean"), "x", "y"),
    "binary_cross_entropy probabilities": loss(
        lambda x, y: F.binary_cross_entropy(torch.sigmoid(x), torch.sigmoid(y).detach(), reduction="none"), "x", "y"),
    "l1_loss": loss(lambda x, y: F.l1_loss(x, y), "x", "y"),
    "mse_loss": loss(lambda x, y: F.mse_loss(x, y), "x", "y"),
    "nll_loss": loss(lambda x, targets: F.nll_loss(x, targets, reduction="none"), "x", fixed=CLASSES),
    "gaussian_nll_loss": loss(lambda x, y, v: F.gaussian_nll_loss(x, y, v), "x", "y", "v", positive="v"),
    "gaussian_nll_loss full": loss(lambda x, y, v: F.gaussian_nll_loss(x, y, v, full=True), "x", "y", "v",
                                   positive="v"),
    "kl_div_loss": loss(
        lambda x, y: F.kl_div(F.log_softmax(x, -1), F.log_softmax(y, -1), reduction="none", log_target=True).sum(-1),
        "x", "y"),
    "smooth_l1_loss": loss(lambda x, y: F.smooth_l1_loss(x, y, beta=0.3), "x", "y"),
    "triplet_loss": loss(
        lambda x, y, z: F.triplet_margin_loss(x, y, z, margin=1.0, p=2, eps=0.0, reduction="none"), "x", "y", "z"),
    "huber_loss": loss(lambda x, y: F.huber_loss(x, y, delta=0.3, reduction="none"), "x", "y"),
    "cosine_similarity_loss": loss(lambda x, y: F.cosine_similarity(x, y, dim=1), "x", "y"),
    "margin_ranking_loss": Case(
        lambda p, x, y, targets: F.margin_ranking_loss(x, y, targets, margin=0.1, reduction="none"),
        {"x": [4], "y": [4]}, {}, SIGNS),
}  # fmt: skip

OPTIMIZERS: dict[str, Callable[[list[T]], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.1),
    "SGD momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
    "SGD nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.02, alpha=0.95, eps=1e-6),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 0.1, eps=1e-8),
    "AdaDelta": lambda p: torch.optim.Adadelta(p, 1.0, rho=0.9, eps=1e-6),
    "Adam": lambda p: torch.optim.Adam(p, 0.05, betas=(0.8, 0.95), eps=1e-7),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.05, betas=(0.8, 0.95), eps=1e-7, weight_decay=0.1),
}
STEPS = 20


def tensor(name: str, shape: Shape, positive: bool = False) -> T:
    x = torch.tensor(numbers(name, shape), dtype=torch.float64).reshape(shape)
    return (x.abs() + 0.25 if positive else x).requires_grad_()


def short(x: T) -> list[float]:
    return [float(f"{v:.10g}") for v in x.detach().flatten().tolist()]


def solved(case: Case) -> dict[str, Any]:
    """Results, and the gradients of their products with fixed numbers."""
    inputs = {n: tensor(n, s, n in case.positive) for n, s in case.inputs.items()}
    parameters = {n: tensor(n, s) for n, s in case.parameters.items()}
    out = case.f(parameters, **inputs, **{n: torch.tensor(v) for n, v in case.fixed.items()})
    results = out if isinstance(out, dict) else {"y": out}
    total = sum(
        (r * torch.tensor(numbers(n, list(r.shape)), dtype=r.dtype).reshape(r.shape)).sum()
        for n, r in results.items() if n in ("y", "cells")
    )  # fmt: skip
    total.backward()
    gradients = {n: short(t.grad) for n, t in (inputs | parameters).items() if t.grad is not None}
    return {
        "inputs": case.inputs,
        "positive": case.positive,
        "fixed": case.fixed,
        "parameters": case.parameters,
        "results": {n: {"shape": list(r.shape), "values": short(r)} for n, r in results.items()},
        "gradients": gradients,
    }


def objective(w: T, b: T) -> T:
    """Something with a minimum and no symmetry."""
    target = torch.linspace(-1, 1, 6, dtype=w.dtype)
    return ((torch.tanh(w).sum(0) * target - b) ** 2).sum() + (w**4).sum() / 4 + torch.cos(b).sum() / 8


def optimized(make: Callable[[list[T]], torch.optim.Optimizer]) -> dict[str, Any]:
    w, b = tensor("w", [4, 6]), tensor("b", [6])
    optimizer, losses = make([w, b]), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = objective(w, b)
        value.backward()
        losses.append(value.item())
        optimizer.step()
    return {"losses": [float(f"{v:.10g}") for v in losses], "w": short(w), "b": short(b)}


def main() -> None:
    assert all(math.isfinite(v) for v in numbers("w", [9]))
    content = {
        "torch": torch.__version__,
        "layers": {name: solved(case) for name, case in LAYERS.items()},
        "losses": {name: solved(case) for name, case in LOSSES.items()},
        "optimizers": {name: optimized(make) for name, make in OPTIMIZERS.items()},
    }
    path = Path(__file__).parent / "torch_nn.json"
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
