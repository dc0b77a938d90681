"""Layers, losses and optimizers against PyTorch's, whose numbers tests/golden/make_torch_nn.py wrote.

In float64 both compute the same formulas, so that what is left is rounding and the ten digits of the file;
float32 is held to its own rounding of as many terms.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lamina.core as mx
import lamina.optimizers as optim
import numpy as np
import pytest
from lamina import nn
from lamina.utils import tree_flatten, tree_unflatten

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "torch_nn.json").read_text(encoding="utf-8"))
EPS = {"float64": 1e-9, "float32": 2.0**-23}


def causal(layer: nn.MultiHeadAttention) -> Callable[..., mx.array]:
    return lambda q, k, v: layer(q, k, v, nn.MultiHeadAttention.create_additive_causal_mask(4, q.dtype))


# What takes the case's inputs in the place of the layer itself.
CALLS: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "MultiHeadAttention mask": causal,
    "TransformerEncoderLayer": lambda layer: lambda x: layer(x, None),
    "TransformerEncoderLayer last": lambda layer: lambda x: layer(x, None),
    "TransformerDecoderLayer": lambda layer: lambda x, memory: layer(x, memory, None, None),
    "TransformerEncoder": lambda layer: lambda x: layer(x, None),
    "ReLU6": lambda layer: lambda x: layer(20 * x),
}
LAYERS: dict[str, Callable[[], Any]] = {
    "Linear": lambda: nn.Linear(5, 4),
    "Bilinear": lambda: nn.Bilinear(5, 2, 4),
    "Embedding": lambda: nn.Embedding(5, 3),
    "Conv1d": lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1),
    "Conv1d groups": lambda: nn.Conv1d(4, 6, 3, groups=2, dilation=2),
    "Conv2d": lambda: nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
    "Conv3d": lambda: nn.Conv3d(2, 3, (2, 3, 2), padding=1),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(4, 3, 3, stride=2, padding=1, output_padding=1),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(3, 2, (2, 3), stride=2, dilation=2),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(2, 3, (3, 2, 3), padding=1),
    "LayerNorm": lambda: nn.LayerNorm(5),
    "RMSNorm": lambda: nn.RMSNorm(5),
    "GroupNorm": lambda: nn.GroupNorm(2, 4, pytorch_compatible=True),
    "InstanceNorm": lambda: nn.InstanceNorm(4, affine=True),
    "BatchNorm": lambda: nn.BatchNorm(4),
    "MaxPool1d": lambda: nn.MaxPool1d(3, 2, 1),
    "MaxPool2d": lambda: nn.MaxPool2d(2),
    "MaxPool3d": lambda: nn.MaxPool3d(2, 1),
    "AvgPool1d": lambda: nn.AvgPool1d(3, 2, 1),
    "AvgPool2d": lambda: nn.AvgPool2d(2),
    "AvgPool3d": lambda: nn.AvgPool3d(2, 1),
    "Upsample nearest": lambda: nn.Upsample(2),
    "Upsample linear": lambda: nn.Upsample(2, mode="linear"),
    "Upsample linear aligned": lambda: nn.Upsample(3, mode="linear", align_corners=True),
    "Upsample cubic": lambda: nn.Upsample(2, mode="cubic"),
    "RNN": lambda: nn.RNN(3, 4),
    "GRU": lambda: nn.GRU(3, 4),
    "LSTM": lambda: nn.LSTM(3, 4),
    "MultiHeadAttention": lambda: nn.MultiHeadAttention(6, 2, bias=True),
    "MultiHeadAttention mask": lambda: nn.MultiHeadAttention(6, 2),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(6, 2, 8),
    "TransformerEncoderLayer last": lambda: nn.TransformerEncoderLayer(6, 2, 8, norm_first=False),
    "TransformerDecoderLayer": lambda: nn.TransformerDecoderLayer(6, 2, 8),
    "TransformerEncoder": lambda: nn.TransformerEncoder(2, 6, 2, 8),
    "PReLU": nn.PReLU,
    "CELU": lambda: nn.CELU(0.7),
    "ELU": lambda: nn.ELU(0.7),
    "GELU": nn.GELU,
    "GELU tanh": lambda: nn.GELU(approx="tanh"),
    "GLU": nn.GLU,
    "HardShrink": lambda: lambda x: nn.hard_shrink(x, 0.2),
    "HardTanh": lambda: lambda x: nn.hard_tanh(x, -0.3, 0.2),
    "Hardswish": nn.Hardswish,
    "LeakyReLU": lambda: nn.LeakyReLU(0.1),
    "LogSigmoid": nn.LogSigmoid,
    "LogSoftmax": nn.LogSoftmax,
    "Mish": nn.Mish,
    "ReLU": nn.ReLU,
    "ReLU6": nn.ReLU6,
    "SELU": nn.SELU,
    "SiLU": nn.SiLU,
    "Sigmoid": nn.Sigmoid,
    "Softmax": nn.Softmax,
    "Softmin": nn.Softmin,
    "Softplus": nn.Softplus,
    "Softshrink": lambda: nn.Softshrink(0.2),
    "Softsign": nn.Softsign,
    "Tanh": nn.Tanh,
}
LOSSES: dict[str, Callable[..., mx.array]] = {
    "cross_entropy": lambda x, targets: nn.losses.cross_entropy(x, targets),
    "cross_entropy smoothed": lambda x, targets: nn.losses.cross_entropy(x, targets, label_smoothing=0.1),
    "cross_entropy soft": lambda x, y: nn.losses.cross_entropy(x, mx.softmax(y, axis=-1)),
    "binary_cross_entropy": lambda x, y: nn.losses.binary_cross_entropy(x, mx.sigmoid(y)),
    "binary_cross_entropy probabilities": lambda x, y: nn.losses.binary_cross_entropy(
        mx.sigmoid(x), mx.stop_gradient(mx.sigmoid(y)), with_logits=False, reduction="none"
    ),
    "l1_loss": nn.losses.l1_loss,
    "mse_loss": nn.losses.mse_loss,
    "nll_loss": nn.losses.nll_loss,
    "gaussian_nll_loss": lambda x, y, v: nn.losses.gaussian_nll_loss(x, y, v),
    "gaussian_nll_loss full": lambda x, y, v: nn.losses.gaussian_nll_loss(x, y, v, full=True),
    "kl_div_loss": lambda x, y: nn.losses.kl_div_loss(nn.log_softmax(x), nn.log_softmax(y)),
    "smooth_l1_loss": lambda x, y: nn.losses.smooth_l1_loss(x, y, beta=0.3),
    "triplet_loss": lambda x, y, z: nn.losses.triplet_loss(x, y, z, eps=0.0),
    "huber_loss": lambda x, y: nn.losses.huber_loss(x, y, delta=0.3),
    "cosine_similarity_loss": nn.losses.cosine_similarity_loss,
    "margin_ranking_loss": lambda x, y, targets: nn.losses.margin_ranking_loss(x, y, targets, margin=0.1),
}
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "SGD": lambda: optim.SGD(0.1),
    "SGD momentum": lambda: optim.SGD(0.1, momentum=0.9, weight_decay=0.01),
    "SGD nesterov": lambda: optim.SGD(0.1, momentum=0.9, nesterov=True),
    "RMSprop": lambda: optim.RMSprop(0.02, alpha=0.95, eps=1e-6),
    "Adagrad": lambda: optim.Adagrad(0.1, eps=1e-8),
    "AdaDelta": lambda: optim.AdaDelta(1.0, rho=0.9, eps=1e-6),
    "Adam": lambda: optim.Adam(0.05, betas=[0.8, 0.95], eps=1e-7, bias_correction=True),
    "AdamW": lambda: optim.AdamW(0.05, betas=[0.8, 0.95], eps=1e-7, weight_decay=0.1, bias_correction=True),
}


def numbers(name: str, shape: list[int]) -> np.ndarray:
    """The numbers that tests/golden/make_torch.py makes of a name."""
    state, out = sum((i + 1) * ord(c) for i, c in enumerate(name)) & 0xFFFFFFFF, []
    for _ in range(int(np.prod(shape))):
        state = (1664525 * state + 1013904223) & 0xFFFFFFFF
        out.append((state >> 16) % 256 - 128)
    v = np.array(out, np.float64).reshape(shape)
    if len(shape) == 1 and name.endswith("weight"):
        return 1 + v // 8 / 64
    return v / (512 if len(shape) == 2 else 256)


def arrays(case: dict[str, Any], which: str, dtype: str) -> dict[str, mx.array]:
    drawn = {n: numbers(n, shape) for n, shape in case[which].items()}
    positive = case["positive"] if which == "inputs" else []
    plain = {n: np.abs(v) + 0.25 if n in positive else v for n, v in drawn.items()}
    return {n: mx.array(v, getattr(mx, dtype)) for n, v in plain.items()}


def close(label: str, got: mx.array, want: list[float], dtype: str, terms: int) -> None:
    a, b = np.asarray(got, np.float64).ravel(), np.array(want)
    assert a.shape == b.shape, label
    bound = EPS[dtype] * (16 + 2 * terms) * max(1.0, np.abs(b).max(initial=0))
    assert np.abs(a - b).max(initial=0) <= bound, f"{label}: off by {np.abs(a - b).max()}, allowed {bound}"


def check(case: dict[str, Any], call: Callable[..., Any], model: nn.Module | None, dtype: str) -> None:
    """Results and gradients of inputs and parameters."""
    inputs, parameters = (arrays(case, which, dtype) for which in ("inputs", "parameters"))
    fixed = {n: mx.array(v) for n, v in case["fixed"].items()}
    results = {}

    def total(parameters: dict[str, mx.array], inputs: dict[str, mx.array]) -> mx.array:
        if model is not None:
            model.update(tree_unflatten(list(parameters.items())))
        out = call(*inputs.values(), *fixed.values())
        results.update(zip(["y", "cells"], out if isinstance(out, tuple) else [out], strict=False))
        weights = {n: mx.array(numbers(n, list(r.shape)), r.dtype) for n, r in results.items()}
        return sum(((results[n] * w).sum() for n, w in weights.items()), mx.array(0.0, getattr(mx, dtype)))

    wanted = [i for i, part in enumerate((parameters, inputs)) if part]
    _, gradients = mx.value_and_grad(total, argnums=wanted)(parameters, inputs)
    found = {}
    for part in gradients if isinstance(gradients, tuple) else (gradients,):
        found.update(part)
    terms = max((int(np.prod(s)) for s in (case["inputs"] | case["parameters"]).values()), default=1)
    for name in results:
        close(name, results[name], case["results"][name]["values"], dtype, terms)
    for name, want in case["gradients"].items():
        close(f"gradient of {name}", found[name], want, dtype, terms)


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("name", GOLDEN["layers"])
def test_layers(name: str, dtype: str) -> None:
    case, layer = GOLDEN["layers"][name], LAYERS[name]()
    model = None
    if isinstance(layer, nn.Module):
        if case["parameters"]:
            # Every parameter of the layer is in the file.
            assert {n for n, _ in tree_flatten(layer.trainable_parameters())} == set(case["parameters"])
            model = layer
        layer.train()
    check(case, CALLS.get(name, lambda same: same)(layer), model, dtype)
    if name == "BatchNorm":
        for part in ("running_mean", "running_var"):
            close(part, layer[part], case["results"][part]["values"], "float32", 15)
        layer.eval()
        (x,) = arrays(case, "inputs", "float32").values()
        close("evaluated", layer(x), case["results"]["evaluated"]["values"], "float32", 15)


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("name", GOLDEN["losses"])
def test_losses(name: str, dtype: str) -> None:
    check(GOLDEN["losses"][name], LOSSES[name], None, dtype)


def objective(parameters: dict[str, mx.array]) -> mx.array:
    w, b = parameters["w"], parameters["b"]
    target = mx.array(np.linspace(-1, 1, 6), w.dtype)
    return ((mx.tanh(w).sum(0) * target - b) ** 2).sum() + (w**4).sum() / 4 + mx.cos(b).sum() / 8


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("name", GOLDEN["optimizers"])
def test_twenty_steps(name: str, dtype: str, compiled: bool) -> None:
    golden, optimizer = GOLDEN["optimizers"][name], OPTIMIZERS[name]()
    parameters = {n: mx.array(numbers(n, s), getattr(mx, dtype)) for n, s in {"w": [4, 6], "b": [6]}.items()}
    optimizer.init(parameters)

    def step(parameters: dict[str, mx.array]) -> tuple[mx.array, dict[str, mx.array]]:
        loss, gradients = mx.value_and_grad(objective)(parameters)
        return loss, optimizer.apply_gradients(gradients, parameters)

    run = mx.compile(step, inputs=optimizer.state, outputs=optimizer.state) if compiled else step
    # The learning rate and the step count are float32; an error of one step is carried through the others.
    eps = "float32" if name.startswith("Ada") else dtype
    for want in golden["losses"]:
        loss, parameters = run(parameters)
        close("loss", loss, [want], eps, 200)
    for n in parameters:
        close(n, parameters[n], golden[n], eps, 400)


def test_the_file_and_the_tables_agree() -> None:
    for kind, table in (("layers", LAYERS), ("losses", LOSSES), ("optimizers", OPTIMIZERS)):
        assert set(GOLDEN[kind]) == set(table)
