"""Generation of one text: prefill the prompt in chunks, then decode token by token."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import lamina.core as mx
from lamina.lm.cache import CacheOptions
from lamina.lm.cache.prompt import PromptCache, check_fits
from lamina.lm.constrain import Allowed, Constraint
from lamina.lm.errors import LMError
from lamina.lm.generate.answer import Answer
from lamina.lm.generate.course import Chosen, Course, guessed_tokens, plain_tokens
from lamina.lm.generate.prompts import PREFILL_STEP, prefill, prompt_ids
from lamina.lm.generate.speculative import Drafter
from lamina.lm.generate.step import Decoder, LanguageModel
from lamina.lm.sample import Chooser, Sampler, Sampling, greedy
from lamina.lm.tokenizer import Tokenizer


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
        On the last piece: ``"stop"`` (an end token or a stop text), ``"length"`` (``max_tokens`` reached) or
        ``"context"`` (no position left); before it None.
    logprob : float or None
        The logarithm of the token's probability by the model, where asked for.
    top_logprobs : tuple of (int, float)
        The most likely tokens and the logarithms of their probabilities, where asked for.
    cached_tokens : int
        Tokens of the prompt that a prompt cache held.
    guessed : bool
        Whether the token was guessed, and checked with others in one step.
    """

    text: str
    token: int
    prompt_tokens: int
    generated_tokens: int
    prompt_tps: float
    generation_tps: float
    finish_reason: str | None = None
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()
    cached_tokens: int = 0
    guessed: bool = False


@dataclass(frozen=True)
class _Task:
    """The checked arguments of one generation."""

    model: LanguageModel
    tokenizer: Tokenizer
    ids: list[int]
    answer: Answer
    budget: int
    chooser: Chooser
    cache: PromptCache
    constraint: Allowed | None
    draft: Drafter | None
    prefill_step: int


def stream_generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    max_tokens: int = 256,
    sampler: Sampler | Sampling = greedy,
    *,
    stop: Sequence[str] = (),
    logprobs: int | None = None,
    prompt_cache: PromptCache | None = None,
    cache_options: CacheOptions | None = None,
    constraint: Constraint | None = None,
    draft: Drafter | None = None,
    prefill_step: int = PREFILL_STEP,
) -> Iterator[Piece]:
    """Generate a continuation of ``prompt``, yielding text as it becomes complete.

    The next token is computed while the last one is turned into text.

    Parameters
    ----------
    model : LanguageModel
        The model.
    tokenizer : Tokenizer
        Its tokenizer.
    prompt : str or sequence of int
        Text, or token ids used as they are.
    max_tokens : int
        Stop after this many tokens.
    sampler : Sampler or Sampling
        How tokens are chosen: options, or a function from logits (1, V) to token ids (1,).
    stop : sequence of str
        Texts that end the answer and are no part of it.
    logprobs : int, optional
        Give log-probabilities: the chosen token's and those of this many most likely ones.
    prompt_cache : PromptCache, optional
        Keeps the text's positions for a next prompt that begins like it, and holds those of an earlier one.
    cache_options : CacheOptions, optional
        How positions are kept where there is no ``prompt_cache``.
    constraint : Constraint, optional
        What the answer must look like, such as a :class:`lamina.lm.constrain.Grammar`.
    draft : Drafter, optional
        Guesses tokens, which are checked several at once: :class:`PromptLookup` or :class:`DraftModel`. The
        answer stays the same.
    prefill_step : int
        Positions of the prompt that go through the model at once.

    Yields
    ------
    Piece
        One per generated token; an end token is the last piece and adds no text.

    Raises
    ------
    PromptError, ContextError
        As :func:`prompt_ids`; raised by the call itself, before the first piece.
    LMError
        ``max_tokens`` is not positive, or an option is out of its range.
    """
    for name, value in (("max_tokens", max_tokens), ("prefill_step", prefill_step)):
        if value < 1:
            raise LMError(f"{name} must be at least 1, got {value}")
    ids = prompt_ids(model, tokenizer, prompt)
    room = model.config.max_position_embeddings - len(ids)
    budget = min(max_tokens, room)
    answer = Answer(tokenizer, budget, stop, "length" if budget == max_tokens else "context")
    eos = sorted(tokenizer.eos_ids)
    chooser = Chooser(sampler, model.config.vocab_size, ids, logprobs, eos)
    if prompt_cache is None:
        prompt_cache = PromptCache(model.cache_specs(), cache_options)
    check_fits(prompt_cache, model.cache_specs())
    allowed = constraint.start() if constraint is not None else None
    return _stream(
        _Task(model, tokenizer, ids, answer, budget, chooser, prompt_cache, allowed, draft, prefill_step)
    )


def _stream(task: _Task) -> Iterator[Piece]:
    cache, ids, answer, constraint = task.cache, task.ids, task.answer, task.constraint
    began = time.perf_counter()
    limit = len(ids) + task.budget
    spare = task.draft.tokens if task.draft is not None else 0
    cached = cache.begin(ids, limit + spare)
    try:
        logits = prefill(task.model, ids[cached:], cache.caches, task.prefill_step)
        decoder = Decoder(task.model, cache.caches, limit + spare)
        most = task.model.config.max_position_embeddings
        course = Course(task.model, decoder, cache, task.chooser, constraint, task.budget, most)
        choice = course.choose(logits)
        mx.eval(choice.arrays())
        cache.extend(ids[cached:])
        cache.mark()
        clock = _Clock(len(ids), cached, began)
        tokens = plain_tokens(course, choice)
        if task.draft is not None:
            tokens = guessed_tokens(course, choice, task.draft)
        with contextlib.closing(tokens):
            for chosen in tokens:
                text = answer.add(chosen.token)
                if constraint is not None and answer.reason is None:
                    constraint.accept(chosen.token)
                    if constraint.finished:
                        text += answer.finish("stop")
                yield clock.piece(text, chosen, answer)
                if answer.reason is not None:
                    break
    except Exception:
        cache.reset()  # what it holds may not have been computed
        raise
    finally:
        cache.settle()


class _Clock:
    """Counts tokens and time, and puts pieces together."""

    def __init__(self, prompt_tokens: int, cached: int, began: float) -> None:
        self._prompt_tokens, self._cached = prompt_tokens, cached
        self._decode_began = time.perf_counter()
        self._prompt_tps = (prompt_tokens - cached) / max(self._decode_began - began, 1e-9)

    def piece(self, text: str, chosen: Chosen, answer: Answer) -> Piece:
        """Return the piece of a token."""
        choice = chosen.choice
        elapsed = time.perf_counter() - self._decode_began
        # The first token came with the prefill: decoding made the others.
        tps = (answer.count - 1) / max(elapsed, 1e-9) if answer.count > 1 else 0.0
        top: tuple[tuple[int, float], ...] = ()
        if choice.top_ids is not None and choice.top_logprobs is not None:
            top = tuple(zip(choice.top_ids.tolist(), choice.top_logprobs.tolist(), strict=True))
        logprob = None if choice.logprob is None else float(choice.logprob.item())
        return Piece(
            text,
            chosen.token,
            self._prompt_tokens,
            answer.count,
            self._prompt_tps,
            tps,
            answer.reason,
            logprob,
            top,
            self._cached,
            chosen.guessed,
        )


def generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    max_tokens: int = 256,
    sampler: Sampler | Sampling = greedy,
    **options,
) -> str:
    """Return the whole continuation of ``prompt``; parameters and errors as :func:`stream_generate`."""
    pieces = stream_generate(model, tokenizer, prompt, max_tokens, sampler, **options)
    return "".join(p.text for p in pieces)
