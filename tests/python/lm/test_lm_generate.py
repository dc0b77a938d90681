"""Generation against the full forward pass, its ends and its errors."""

from __future__ import annotations

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm import (
    ContextError,
    LMError,
    PromptError,
    Tokenizer,
    build_model,
    generate,
    make_sampler,
    stream_generate,
)
from lamina.lm.io import fit_weights
from lm.llama_reference import random_weights
from lm.lm_helpers import TINY


@pytest.fixture(scope="module")
def model():
    model = build_model(TINY)
    fit_weights(model, {k: mx.array(v) for k, v in random_weights(TINY, 3).items()})
    return model


@pytest.fixture
def endless(tokenizer) -> Tokenizer:
    """The tokenizer without an end token."""
    return Tokenizer(tokenizer.inner)


def argmax_continuation(model, ids: list[int], count: int) -> list[int]:
    """Greedy decoding with no cache: the whole sequence through the model for every token."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(np.array(model(mx.array([ids])))[0, -1].argmax()))
    return ids[-count:]


@pytest.mark.parametrize("prompt", ["def add", "日本語🎉", "x"])
def test_greedy_equals_the_uncached_model(model, endless, prompt):
    got = list(stream_generate(model, endless, prompt, max_tokens=12))
    assert [p.token for p in got] == argmax_continuation(model, endless.encode(prompt), 12)
    assert "".join(p.text for p in got) == endless.decode([p.token for p in got])


def test_text_and_ids_as_prompt_give_the_same(model, endless):
    by_text = generate(model, endless, "def add(a, b):", 8)
    assert generate(model, endless, endless.encode("def add(a, b):"), 8) == by_text


def test_counts_and_rates(model, endless):
    got = list(stream_generate(model, endless, "def add", max_tokens=5))
    assert [p.generated_tokens for p in got] == [1, 2, 3, 4, 5]
    assert {p.prompt_tokens for p in got} == {len(endless.encode("def add"))}
    assert all(p.prompt_tps > 0 for p in got)
    assert got[0].generation_tps == 0
    assert all(p.generation_tps > 0 for p in got[1:])
    assert [p.finish_reason for p in got] == [None] * 4 + ["length"]


def test_an_end_token_stops_and_shows_no_text(model, endless):
    tokens = [p.token for p in stream_generate(model, endless, "def add", max_tokens=6)]
    stop = tokens[3]
    got = list(stream_generate(model, Tokenizer(endless.inner, [stop]), "def add", max_tokens=6))
    assert [p.token for p in got] == tokens[: tokens.index(stop) + 1]
    assert got[-1].finish_reason == "stop"
    assert "".join(p.text for p in got) == endless.decode(tokens[: tokens.index(stop)])


def test_the_context_is_filled_and_no_more(model, endless):
    ids = endless.encode("print(i) " * 20)[:60]
    got = list(stream_generate(model, endless, ids, max_tokens=50))
    assert len(got) == TINY.max_position_embeddings - 60
    assert got[-1].finish_reason == "context"
    exact = list(stream_generate(model, endless, ids, max_tokens=4))
    assert len(exact) == 4
    assert exact[-1].finish_reason == "length"


def test_sampling_is_reproducible(model, endless):
    def run(seed):
        return generate(model, endless, "def add", 12, make_sampler(temp=1.0, seed=seed))

    assert run(1) == run(1)
    assert len({run(s) for s in range(4)}) > 1


def test_errors_come_with_the_call(model, endless):
    with pytest.raises(PromptError, match="the prompt is empty"):
        stream_generate(model, endless, "")
    with pytest.raises(PromptError, match="the prompt is empty"):
        stream_generate(model, endless, [])
    with pytest.raises(PromptError, match="holds 5000: wanted token ids from 0 to 319"):
        stream_generate(model, endless, [1, 5000])
    with pytest.raises(LMError, match="max_tokens must be at least 1, got 0"):
        stream_generate(model, endless, "x", max_tokens=0)
    with pytest.raises(ContextError, match="has 64 tokens, but the model's context holds 64") as e:
        stream_generate(model, endless, [1] * 64)
    assert (e.value.prompt_tokens, e.value.context) == (64, 64)
    assert isinstance(e.value, ValueError)
    assert len(list(stream_generate(model, endless, [1] * 63))) == 1
