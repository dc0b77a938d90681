"""Generation with every kind of layer: alone, many at once, and without a cache, the tokens are the same."""

from __future__ import annotations

from collections.abc import Iterator

import lamina.core as mx
import pytest
from lamina.lm import Tokenizer
from lamina.lm.engine import batch_generate
from lamina.lm.generate.stream import stream_generate
from lm.lm_golden import golden

# One of each: fused and learned positions, windows and caps, sinks, latent attention, experts, state spaces.
KINDS = [
    "gpt2",
    "gemma2",
    "gpt_oss",
    "deepseek_v3",
    "qwen3_moe",
    "mamba",
    "mamba2",
    "recurrent_gemma",
    "jamba",
]
LENGTHS = [8, 5, 11]


@pytest.fixture
def same_bits_in_batches() -> Iterator[None]:
    before = mx.get_batch_invariant()
    mx.set_batch_invariant(True)
    yield
    mx.set_batch_invariant(before)


@pytest.mark.usefixtures("same_bits_in_batches")
@pytest.mark.parametrize("name", [*KINDS, "falcon_h1"])
def test_the_same_tokens(name: str, tokenizer: Tokenizer) -> None:
    case = golden(name)
    model = case.model()
    plain = Tokenizer(tokenizer.inner)

    def without_cache(prompt: list[int], count: int) -> list[int]:
        ids = list(prompt)
        for _ in range(count):
            ids.append(mx.argmax(model(mx.array([ids]))[0, -1]).item())
        return ids[len(prompt) :]

    prompts = list(zip(case.sequences, LENGTHS, strict=True))
    wanted = [without_cache(p, n) for p, n in prompts]
    alone = [[piece.token for piece in stream_generate(model, plain, p, n)] for p, n in prompts]
    together = batch_generate(model, plain, case.sequences, max_tokens=LENGTHS)
    assert alone == wanted
    assert [list(c.tokens) for c in together] == wanted
