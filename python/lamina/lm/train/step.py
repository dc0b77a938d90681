"""The training step: loss, gradient, clipping and the AdamW update."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lamina.core as mx
import lamina.nn as nn
import lamina.optimizers as optim
from lamina.lm.models import Llama
from lamina.lm.train.config import TrainConfig
from lamina.utils import tree_flatten, tree_map, tree_unflatten

Step = Callable[[list[mx.array], float], tuple[mx.array, mx.array]]


def init_weights(model: Llama, seed: int) -> None:
    """Set fresh weights: normal with deviation 0.02, less for layers that add to the residual stream.

    ``o_proj`` and ``down_proj`` get ``0.02 / sqrt(2 * layers)``; norm weights stay 1, biases become 0.
    Every array has its own key, split from ``seed`` in the order of the names.
    """
    residual = 0.02 / math.sqrt(2 * model.config.num_hidden_layers)
    named = sorted(tree_flatten(model.parameters()))
    keys = mx.random.split(mx.random.key(seed), len(named))
    fresh = []
    for i, (name, old) in enumerate(named):
        if old.ndim > 1:
            scale = residual if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
            fresh.append((name, mx.random.normal(old.shape, scale=scale, key=keys[i])))
        elif name.endswith("bias"):
            fresh.append((name, mx.zeros_like(old)))
    model.update(tree_unflatten(fresh))


def loss_fn(model: Llama, windows: mx.array) -> mx.array:
    """Return the mean cross entropy (nats per token, f32) of predicting windows (B, L + 1) id by id."""
    logits = model(windows[:, :-1]).astype(mx.float32)
    return nn.losses.cross_entropy(logits, windows[:, 1:], reduction="mean")


def clip_gradients(grads: Any, limit: float) -> tuple[Any, mx.array]:
    """Scale gradients to a norm of at most ``limit`` (0: leave them); return them and the norm before."""
    leaves = [g for _, g in tree_flatten(grads)]
    norm = mx.sqrt(sum(mx.sum(mx.square(g.astype(mx.float32))) for g in leaves))
    if limit == 0:
        return grads, norm
    scale = mx.minimum(limit / (norm + 1e-6), 1.0)
    return tree_map(lambda g: g * scale, grads), norm


def make_optimizer(model: Llama, config: TrainConfig) -> optim.Optimizer:
    """Return AdamW's moment part with its state laid out for ``model``; the decay is applied by the step."""
    optimizer = optim.Adam(
        config.lr, betas=[config.beta1, config.beta2], eps=config.eps, bias_correction=True
    )
    optimizer.init(model.trainable_parameters())
    return optimizer


def make_step(model: Llama, optimizer: optim.Optimizer, config: TrainConfig) -> Step:
    """Return ``step(batches, lr) -> (loss, gradient norm)``; it updates ``model`` and ``optimizer`` in place.

    ``batches`` holds ``config.accumulate`` arrays of windows (B, L + 1). The results are lazy when there is
    one batch.
    """
    state = [model.state, optimizer.state]
    value_and_grad = nn.value_and_grad(model, loss_fn)

    def update(grads: Any) -> mx.array:
        grads, norm = clip_gradients(grads, config.clip)
        shrink = 1 - optimizer.learning_rate * config.weight_decay
        decayed = tree_map(lambda p: p * shrink if p.ndim > 1 else p, model.trainable_parameters())
        model.update(optimizer.apply_gradients(grads, decayed))
        return norm

    def whole(windows: mx.array) -> tuple[mx.array, mx.array]:
        loss, grads = value_and_grad(model, windows)
        return loss, update(grads)

    def gradient(windows: mx.array) -> tuple[mx.array, Any]:
        return value_and_grad(model, windows)

    if config.compile:
        whole = mx.compile(whole, inputs=state, outputs=state)
        # Outputs too: tracing passes through the model, which must get its own arrays back.
        gradient = mx.compile(gradient, inputs=[model.state], outputs=[model.state])
        update = mx.compile(update, inputs=state, outputs=state)

    def accumulated(batches: list[mx.array]) -> tuple[mx.array, mx.array]:
        total, grads = gradient(batches[0])
        for windows in batches[1:]:
            mx.eval(total, grads)  # one batch's activations at a time
            loss, more = gradient(windows)
            total, grads = total + loss, tree_map(mx.add, grads, more)
        share = 1 / len(batches)
        return total * share, update(tree_map(lambda g: g * share, grads))

    def step(batches: list[mx.array], lr: float) -> tuple[mx.array, mx.array]:
        optimizer.learning_rate = lr
        return whole(batches[0]) if len(batches) == 1 else accumulated(batches)

    return step
