"""What training does: a step of an optimizer over many parameters, an epoch of a small network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.compare import bounds
from bench.compare.jobs import draws
from bench.compare.model import Check, Expected, Input, Job, Mismatch, Outputs, Sizes


def jobs(sizes: Sizes) -> list[Job]:
    """An AdamW step over 50 million parameters, and an epoch of the convolutional example."""
    return [_adamw(sizes), _conv_epoch(sizes)]


# --- optimizer -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AdamWSettings:
    """Of both libraries' AdamW, with bias correction."""

    rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01


def _transformer_shapes(layers: int, width: int) -> list[tuple[int, ...]]:
    """The parameters of layers with biases and two norms: 3.15 million a layer of width 512."""
    pairs = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]
    layer: list[tuple[int, ...]] = [shape for pair in pairs for shape in (pair, pair[:1])]
    return [*layer, *[(width,)] * 4] * layers


def _adamw(sizes: Sizes) -> Job:
    shapes = _transformer_shapes(*((1, 16) if sizes.tiny else (16, 512)))
    count = len(shapes)
    settings = AdamWSettings()

    def truth(inputs: Sequence[np.ndarray]) -> list[Expected]:
        # The first step: bias correction makes the mean the gradient, and the root its size.
        expected = []
        for p, g in zip(inputs[:count], inputs[count:], strict=True):
            p64, g64 = p.astype(np.float64), g.astype(np.float64)
            change = settings.rate * g64 / (np.abs(g64) + settings.eps)
            new = p64 * (1 - settings.rate * settings.weight_decay) - change
            # 1 - beta2 is rounded to float32 near 1: a thousandth of it is off by 2**-24 / 1e-3.
            size = np.abs(p64) + np.abs(change) / (1 - settings.beta2)
            expected.append(bounds.absolute(new, size, 4))
        return expected

    return Job(
        "target/adamw_50m",
        lambda r: [draws.normal(r, *shape) for shape in (*shapes, *shapes)],
        lambda xp, step: step(),
        truth,
        1.0,
        bytes=28 * sum(int(np.prod(shape)) for shape in shapes),
        prepare=lambda xp, *arrays: [xp.adamw(arrays[:count], arrays[count:], settings)],
        traceable=False,
    )


# --- convolutional network -------------------------------------------------------------------------------


@dataclass(frozen=True)
class EpochSettings:
    """Of the network's training: as in ``lamina.examples.conv``."""

    batch: int = 32
    rate: float = 3e-3
    weight_decay: float = 0.01
    dropout: float = 0.3
    total_steps: int = 880


_CLASSES, _SIDE = 10, 8
_CHANNELS = (1, 32, 64, 64)


def _network(rng: np.random.Generator) -> list[Input]:
    """Weights (O, 3, 3, C) and biases of the convolutions, then those of the last layer."""
    made = []
    for inputs, outputs in itertools.pairwise(_CHANNELS):
        made += [_uniform(rng, 9 * inputs, outputs, 3, 3, inputs), _uniform(rng, 9 * inputs, outputs)]
    features = _CHANNELS[-1] * (_SIDE // 4) ** 2
    return [*made, _uniform(rng, features, _CLASSES, features), _uniform(rng, features, _CLASSES)]


def _uniform(rng: np.random.Generator, fan_in: int, *shape: int) -> Input:
    return draws.uniform(rng, *shape, low=-(fan_in**-0.5), high=fan_in**-0.5)


def _digits(rng: np.random.Generator, count: int) -> list[Input]:
    """As many images as scikit-learn's digits are for training, noisy copies of ten; and what they show."""
    labels = rng.integers(0, _CLASSES, count, dtype=np.int32)
    prototypes = rng.random((_CLASSES, _SIDE, _SIDE, 1), dtype=np.float32)
    images = 0.5 * prototypes[labels] + 0.5 * rng.random((count, _SIDE, _SIDE, 1), dtype=np.float32)
    return [Input(images, "float32"), Input(labels, "index")]


def _first_logits(images: np.ndarray, *weights: np.ndarray) -> Expected:
    """The untrained network in evaluation, where norms divide by sqrt(1 + 1e-5) only."""
    x, size = images.astype(np.float64), np.abs(images).astype(np.float64)
    for layer in range(3):
        w, b = (a.astype(np.float64) for a in weights[2 * layer : 2 * layer + 2])
        x, size = _convolved(x, w) + b, _convolved(size, np.abs(w)) + np.abs(b)
        x, size = np.maximum(x / np.sqrt(1 + 1e-5), 0), size
        if layer > 0:
            x, size = _pooled(x), _pooled(size)
    w, b = (a.astype(np.float64) for a in weights[6:])
    x, size = x.reshape(len(x), -1), size.reshape(len(size), -1)
    # Errors of all layers, each a walk as long as its longest sum.
    return bounds.absolute(x @ w.T + b, size @ np.abs(w).T + np.abs(b), 4 * bounds.walk(9 * 64))


def _convolved(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    return np.einsum("nijcuv,ouvc->nijo", windows, w, optimize=True)


def _pooled(x: np.ndarray) -> np.ndarray:
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def _conv_epoch(sizes: Sizes) -> Job:
    settings = EpochSettings()
    count = 320 if sizes.tiny else 1437

    def checked(inputs: Sequence[np.ndarray]) -> Check:
        logits = _first_logits(*(inputs[0][: settings.batch], *inputs[2:]))

        def check(got: Outputs) -> None:
            first, losses = got
            if first.shape != logits.values.shape:
                raise Mismatch(f"wanted logits of shape {logits.values.shape}, got {first.shape}")
            off = np.abs(first - logits.values) - logits.bound
            if not (off <= 0).all():
                raise Mismatch(f"the untrained network's logits are off by {off.max():.3g} more than allowed")
            steps = count // settings.batch
            if losses.shape != (steps,) or not np.isfinite(losses).all():
                raise Mismatch(f"wanted {steps} finite losses, got {losses}")
            # Ten noisy pictures are soon known apart; a network that learns nothing stays at log(10).
            if not losses[-3:].mean() < 0.5 * np.log(_CLASSES):
                raise Mismatch(f"wanted a loss below {0.5 * np.log(_CLASSES):.2f}, got {losses[-3:]}")

        return check

    return Job(
        "target/conv_epoch",
        lambda r: [*_digits(r, count), *_network(r)],
        lambda xp, training: training(),
        checked,
        1.0,
        prepare=lambda xp, *arrays: [xp.conv_training(*arrays[:2], arrays[2:], settings)],
        traceable=False,
    )
