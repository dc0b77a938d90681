"""Steady loops ask the operating system for no memory, once their first rounds have run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import lamina.core as mx
import numpy as np
import pytest
from lamina import nn, optimizers
from lamina.lm import LlamaConfig
from lamina.lm.models import build_model

SMALL = LlamaConfig(
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=256,
    vocab_size=320,
)
WARM_UP, ROUNDS, WINDOWS = 20, 40, 6


def allocations(step: Callable[[], None]) -> int:
    """What a loop asks of the system after its first rounds; the least that a window of rounds saw.

    A thread of the pool may get its first work late, and then takes working memory of its own, once. A loop
    that goes on asking does so in every window.
    """
    for _ in range(WARM_UP):
        step()
    least = 1 << 62
    for _ in range(WINDOWS):
        before = mx.get_system_allocation_count()
        for _ in range(ROUNDS):
            step()
        least = min(least, mx.get_system_allocation_count() - before)
        if least == 0:
            break
    return least


def test_a_loop_that_grows_is_noticed() -> None:
    kept: list[mx.array] = []
    mx.clear_cache()

    def step() -> None:
        kept.append(mx.ones(1 << 15) + 1)
        mx.eval(kept)

    assert allocations(step) >= ROUNDS


def test_the_counter_counts() -> None:
    kept = []
    before = mx.get_system_allocation_count()
    for i in range(4):
        kept.append(mx.ones((1 << 20) + (i << 18)) + 1)
        mx.eval(kept)
    assert mx.get_system_allocation_count() >= before + 4
    mx.clear_cache()


def test_decode_step() -> None:
    """One token after the other, inside one capacity step of the cache, as `generate` runs it."""
    mx.random.seed(0)
    model = build_model(SMALL)
    nn.quantize(model, group_size=32, bits=4)
    mx.eval(model.parameters())
    cache = model.make_cache(16 + WARM_UP + WINDOWS * ROUNDS + 1)
    token = mx.argmax(model(mx.arange(16)[None], cache)[:, -1, :], axis=-1)
    mx.eval(token)

    def step() -> None:
        nonlocal token
        upcoming = mx.argmax(model(token[:, None], cache)[:, -1, :], axis=-1)
        mx.async_eval(upcoming)
        token.item()
        token = upcoming

    step()
    capacity = cache[0].capacity
    assert allocations(step) == 0
    assert cache[0].capacity == capacity
    assert cache[0].offset >= 16 + WARM_UP + ROUNDS


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_training_step(compiled: bool) -> None:
    mx.random.seed(0)
    model = build_model(SMALL)
    optimizer = optimizers.AdamW(learning_rate=1e-3)
    optimizer.init(model.trainable_parameters())
    mx.eval(model.parameters(), optimizer.state)
    batches = np.random.default_rng(0).integers(0, SMALL.vocab_size, (4, 4, 33)).astype(np.int32)
    state = [model.state, optimizer.state]

    def loss_of(tokens: mx.array) -> mx.array:
        return nn.losses.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:], reduction="mean")

    loss_and_gradients = nn.value_and_grad(model, loss_of)

    def update(tokens: mx.array) -> mx.array:
        loss, gradients = loss_and_gradients(tokens)
        optimizer.update(model, gradients)
        return loss

    run = partial(mx.compile, inputs=state, outputs=state)(update) if compiled else update
    losses: list[float] = []

    def step() -> None:
        loss = run(mx.array(batches[len(losses) % len(batches)]))
        mx.eval(loss, state)
        losses.append(loss.item())

    assert allocations(step) == 0
    assert losses[-1] < losses[0]
