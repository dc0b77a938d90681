"""Many generations in one process: memory stays where it is, and steady steps ask the system for nothing."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm import (
    Engine,
    EngineOptions,
    PromptCache,
    Request,
    Tokenizer,
    demo_path,
    load,
    stream_generate,
)
from lamina.lm.cache import CacheOptions, make_caches
from lamina.lm.generate import Decoder, PromptLookup
from lamina.lm.sample import Sampling
from lm.lm_toy import toy

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes of the process that are in memory and no file's."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * PAGE


def slope(run, warm_up: int, count: int) -> float:
    """Bytes that the process grows by with each run, by the least squares over `count` of them."""
    for i in range(warm_up):
        run(i)
    gc.collect()
    sizes = []
    for i in range(count):
        run(warm_up + i)
        if i % 10 == 9:
            sizes.append(resident())
    return float(np.polyfit(np.arange(len(sizes)) * 10, sizes, 1)[0])


@pytest.fixture
def endless(tokenizer) -> Tokenizer:
    """The tokenizer without an end token."""
    return Tokenizer(tokenizer.inner)


@pytest.mark.parametrize("kind", ["attention", "mixed"])
def test_generations_leave_nothing(kind, endless):
    model = toy(kind)
    cache = PromptCache(model.cache_specs())

    def run(i: int) -> None:
        prompt = [i % 250 + 1, *range(1, 20 + i % 8)]
        options = {"draft": PromptLookup()} if i % 3 == 0 else {"logprobs": 2}
        sampler = Sampling(temperature=1.0, presence_penalty=0.5, seed=i)
        for _ in stream_generate(model, endless, prompt, 4, sampler, prompt_cache=cache, **options):
            pass

    # Plans of all lengths and options are made within the first hundreds.
    assert slope(run, 750, 1000) < 1024


def test_an_engine_holds_what_it_may_and_no_more(endless):
    engine = Engine(toy("mixed"), endless, EngineOptions(max_sequences=3, kv_bytes=400_000))

    def run(i: int) -> None:
        engine.run([Request([i % 250 + 1, *range(1, 20 + (i + k) % 40)], 5) for k in range(2)])

    assert slope(run, 160, 240) < 1024
    assert engine.memory.store.nbytes <= 400_000


@pytest.mark.parametrize("option", [{}, {"bits": 8}, {"bits": 4}, {"window": 64}], ids=str)
def test_a_steady_step_allocates_nothing(option):
    model = toy("hybrid")
    caches = make_caches(model.cache_specs(), 512, CacheOptions(**option))
    mx.eval(model.hidden(mx.array([[1, 2, 3]]), caches))
    decoder = Decoder(model, caches, 512)
    token = mx.array([[1]], dtype=mx.uint32)
    counts = []
    for _ in range(60):
        token = mx.argmax(decoder(token), axis=-1)
        mx.eval(token)
        counts.append(mx.get_system_allocation_count())
    assert counts[-1] == counts[20]


def test_a_steady_step_of_an_engine_allocates_nothing(endless):
    engine = Engine(toy("attention"), endless)
    for i in range(3):
        engine.submit(Request([i + 1, 2, 3], 120))
    counts = []
    while not engine.idle:
        engine.step()
        counts.append(mx.get_system_allocation_count())
    # Blocks come into use up to the 64th position; pools of 16 have room for them.
    assert counts[110] == counts[75]


@pytest.mark.parametrize(
    "sampler",
    [
        Sampling(),
        Sampling(temperature=0.8, top_p=0.95, seed=1),
        Sampling(temperature=0.8, top_k=40, repetition_penalty=1.1, penalty_window=30),
        Sampling(frequency_penalty=0.5, xtc_probability=0.5),
    ],
    ids=repr,
)
def test_a_steady_stream_allocates_nothing(sampler):
    model, tokenizer = load(demo_path())
    endless = Tokenizer(tokenizer.inner)
    # Twice: where processors are busy, a thread may get its first work, and its working memory, late.
    for _ in range(2):
        counts = []
        for _ in stream_generate(model, endless, "def f(x):\n", 120, sampler, logprobs=2):
            counts.append(mx.get_system_allocation_count())
    assert counts[-1] == counts[50]
