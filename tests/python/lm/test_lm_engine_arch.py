"""Every architecture in the engine: beside others, in parts, from a known beginning, and with guesses."""

from __future__ import annotations

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm import Engine, EngineOptions, Request, Tokenizer, stream_generate
from lamina.lm.cache import AttentionSpec
from lamina.lm.generate import DraftModel
from lm.lm_cases import CASES
from lm.lm_golden import golden


@pytest.fixture(autouse=True)
def batch_invariant():
    """A row's bits must not depend on how many rows go through a layer with it."""
    before = mx.set_batch_invariant(True)
    yield
    mx.set_batch_invariant(before)


@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_the_same_however_it_is_made(name, tokenizer):
    model, endless = golden(name).model(), Tokenizer(tokenizer.inner)
    room = model.config.max_position_embeddings
    rng = np.random.default_rng(0)
    lengths = [min(n, room - 9) for n in (23, 3, 66)]
    prompts = [rng.integers(0, model.config.vocab_size, n).tolist() for n in lengths]

    def alone(prompt, **options):
        return [p.token for p in stream_generate(model, endless, prompt, 8, **options)]

    want = [alone(p) for p in prompts]
    assert [alone(p, prefill_step=10) for p in prompts] == want
    assert alone(prompts[0], draft=DraftModel(model, 2)) == want[0]
    engine = Engine(model, endless, EngineOptions(max_sequences=2, prefill_tokens=20))
    for handle, answer in zip(engine.run([Request(p, 8) for p in prompts]), want, strict=True):
        assert [e.token for e in handle.events] == answer
    again = [*prompts[0][:-2], 1, 2, 3]
    handle = engine.run([Request(again, 8)])[0]
    assert [e.token for e in handle.events] == alone(again)
    # Recurrent states are known at the ends of prompts and answers only.
    recurrent = not all(isinstance(s, AttentionSpec) for s in model.cache_specs())
    assert handle.cached_tokens == (0 if recurrent else len(prompts[0]) - 2)
