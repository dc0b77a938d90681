"""Generation: prefill the prompt in batches, then decode token by token."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import lamina.core as mx
from lamina.lm.cache import KVCache
from lamina.lm.errors import ContextError, LMError, PromptError
from lamina.lm.models import Llama
from lamina.lm.sample import Sampler, greedy
from lamina.lm.tokenizer import Tokenizer

PREFILL_STEP = 512


@dataclass(frozen=True)
class Piece:
    """What one step of :func:`stream_generate` yields.

    Attributes
    ----------
    text : str
        Text that became complete with this token; perhaps empty.
    token : int
        The token's id.
    prompt_tokens, generated_tokens : int
        Tokens so far.
    prompt_tps, generation_tps : float
        Tokens per second: of the prefill, and of the decoding so far (0 until the second token).
    finish_reason : str or None
        On the last piece: ``"stop"`` (an end token), ``"length"`` (``max_tokens`` reached) or ``"context"``
        (no position left); before it None.
    """

    text: str
    token: int
    prompt_tokens: int
    generated_tokens: int
    prompt_tps: float
    generation_tps: float
    finish_reason: str | None = None


def prompt_ids(model: Llama, tokenizer: Tokenizer, prompt: str | list[int]) -> list[int]:
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
    if len(ids) >= config.max_position_embeddings:
        raise ContextError(len(ids), config.max_position_embeddings)
    return ids


def prefill(model: Llama, ids: list[int], cache: list[KVCache], step: int = PREFILL_STEP) -> mx.array:
    """Run ``ids`` through the model in chunks of ``step``; return the logits (1, V) after the last one."""
    last = (len(ids) - 1) // step * step
    for start in range(0, last, step):
        model.hidden(mx.array([ids[start : start + step]], dtype=mx.int32), cache)
        mx.eval([c.state for c in cache])
    hidden = model.hidden(mx.array([ids[last:]], dtype=mx.int32), cache)
    # One position goes through the head: the others' logits are of no use here.
    return model.head(hidden[:, -1:, :])[:, 0, :]


def stream_generate(
    model: Llama,
    tokenizer: Tokenizer,
    prompt: str | list[int],
    max_tokens: int = 256,
    sampler: Sampler = greedy,
) -> Iterator[Piece]:
    """Generate a continuation of ``prompt``, yielding text as it becomes complete.

    The next token is computed while the last one is turned into text.

    Parameters
    ----------
    model : Llama
        The model.
    tokenizer : Tokenizer
        Its tokenizer.
    prompt : str or list of int
        Text, or token ids used as they are.
    max_tokens : int
        Stop after this many tokens.
    sampler : Sampler
        Maps logits (1, V) to token ids (1,).

    Yields
    ------
    Piece
        One per generated token; an end token is the last piece and adds no text.

    Raises
    ------
    PromptError, ContextError
        As :func:`prompt_ids`; raised by the call itself, before the first piece.
    LMError
        ``max_tokens`` is not positive.
    """
    if max_tokens < 1:
        raise LMError(f"max_tokens must be at least 1, got {max_tokens}")
    ids = prompt_ids(model, tokenizer, prompt)
    return _stream(model, tokenizer, ids, max_tokens, sampler)


def _stream(
    model: Llama, tokenizer: Tokenizer, ids: list[int], max_tokens: int, sampler: Sampler
) -> Iterator[Piece]:
    room = model.config.max_position_embeddings - len(ids)
    budget = min(max_tokens, room)
    cache = model.make_cache(len(ids) + budget)
    detokenizer = tokenizer.detokenizer()
    began = time.perf_counter()
    token = sampler(prefill(model, ids, cache))
    mx.eval(token)
    decode_began = time.perf_counter()
    prompt_tps = len(ids) / max(decode_began - began, 1e-9)
    for count in range(1, budget + 1):
        upcoming = token
        if count < budget:
            upcoming = sampler(model(token[:, None], cache)[:, -1, :])
            mx.async_eval(upcoming)
        current = int(token.item())
        elapsed = time.perf_counter() - decode_began
        reason = None
        if current in tokenizer.eos_ids:
            text, reason = "", "stop"
        else:
            text = detokenizer.add(current)
            if count == budget:
                reason = "length" if budget == max_tokens else "context"
        if reason is not None:
            text += detokenizer.finish()
        # The first token came with the prefill: decoding made the others.
        generation_tps = (count - 1) / elapsed if count > 1 else 0.0
        yield Piece(text, current, len(ids), count, prompt_tps, generation_tps, reason)
        if reason is not None:
            return
        token = upcoming


def generate(
    model: Llama,
    tokenizer: Tokenizer,
    prompt: str | list[int],
    max_tokens: int = 256,
    sampler: Sampler = greedy,
) -> str:
    """Return the whole continuation of ``prompt``; parameters and errors as :func:`stream_generate`."""
    return "".join(p.text for p in stream_generate(model, tokenizer, prompt, max_tokens, sampler))
