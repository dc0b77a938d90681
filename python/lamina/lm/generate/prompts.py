"""Prompts: their tokens, checked, and their way through the model."""

from __future__ import annotations

from collections.abc import Sequence

import lamina.core as mx
from lamina.lm.cache import SequenceCache
from lamina.lm.errors import ContextError, PromptError
from lamina.lm.generate.step import LanguageModel
from lamina.lm.tokenizer import Tokenizer

PREFILL_STEP = 512
"""Positions of a prompt that go through the model at once."""


def prompt_ids(model: LanguageModel, tokenizer: Tokenizer, prompt: str | Sequence[int]) -> list[int]:
    """Return the ids of ``prompt``, checked against the model.

    Raises
    ------
    PromptError
        The prompt is empty, neither text nor ids, or holds an id outside the vocabulary.
    ContextError
        The prompt leaves no position free for an answer.
    """
    if isinstance(prompt, str):
        if not prompt:
            raise PromptError("the prompt is empty: wanted at least one character")
        ids = tokenizer.encode(prompt)
    else:
        ids = list(prompt)
    if not ids:
        raise PromptError("the prompt is empty: wanted at least one token")
    config = model.config
    for i in ids:
        if not isinstance(i, int) or not 0 <= i < config.vocab_size:
            raise PromptError(f"the prompt holds {i!r}: wanted token ids from 0 to {config.vocab_size - 1}")
    images = [i for i in getattr(config, "image_tokens", ()) if i in ids]
    if images:
        raise PromptError(
            f"the prompt holds token {images[0]}, which stands for an image: images are not supported, "
            "the model's text part alone is loaded"
        )
    if len(ids) >= config.max_position_embeddings:
        raise ContextError(len(ids), config.max_position_embeddings)
    return ids


def prefill(
    model: LanguageModel, ids: Sequence[int], caches: Sequence[SequenceCache], step: int = PREFILL_STEP
) -> mx.array:
    """Run ``ids`` through the model in chunks of ``step``; return the logits (1, V) after the last one."""
    last = (len(ids) - 1) // step * step
    for start in range(0, last, step):
        model.hidden(mx.array([ids[start : start + step]], dtype=mx.int32), caches)
        mx.eval([c.arrays for c in caches])
    hidden = model.hidden(mx.array([ids[last:]], dtype=mx.int32), caches)
    # One position goes through the head: the others' logits are of no use here.
    return model.head(hidden[:, -1:, :])[:, 0, :]
