"""Many texts at once, from a list of prompts to a list of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lamina.lm.engine.engine import Engine, EngineOptions
from lamina.lm.engine.request import Event, Handle, Request
from lamina.lm.errors import LMError
from lamina.lm.generate.step import LanguageModel
from lamina.lm.sample import Sampler, Sampling, greedy
from lamina.lm.tokenizer import Tokenizer


@dataclass(frozen=True)
class Completion:
    """An answer.

    Attributes
    ----------
    text : str
        Its text.
    tokens : tuple of int
        Its tokens, an end token included.
    finish_reason : str
        ``"stop"``, ``"length"``, ``"context"`` or ``"error"``.
    prompt_tokens, cached_tokens : int
        Tokens of the prompt, and those of them that another prompt of the batch had in common.
    logprobs : tuple of float
        The logarithm of each token's probability by the model, where asked for.
    error : Exception or None
        What ended the answer early.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int = 0
    logprobs: tuple[float, ...] = ()
    error: Exception | None = None


def batch_generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str | Sequence[int]],
    max_tokens: int | Sequence[int] = 256,
    sampler: Sampler | Sampling | Sequence[Sampler | Sampling] = greedy,
    *,
    stop: Sequence[str] = (),
    logprobs: int | None = None,
    options: EngineOptions | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> list[Completion]:
    """Continue many prompts at once.

    Each answer is what :func:`stream_generate` gives for its prompt alone, as far as the model's products
    give a row the same bits in any batch (8-bit activations, or ``mx.set_batch_invariant``).

    Parameters
    ----------
    model : LanguageModel
        The model.
    tokenizer : Tokenizer
        Its tokenizer.
    prompts : sequence of (str or sequence of int)
        Texts, or token ids used as they are.
    max_tokens : int or sequence of int
        Tokens of the answers, for all or for each.
    sampler : Sampler or Sampling, or a sequence of them
        How tokens are chosen, for all or for each. With one :class:`Sampling` for all, the i-th prompt draws
        by its seed plus i.
    stop : sequence of str
        Texts that end an answer and are no part of it.
    logprobs : int, optional
        Give the log-probabilities of the tokens.
    options : EngineOptions, optional
        How many sequences run at once, and in how much memory.
    on_event : callable, optional
        Gets each token as it comes; ``request_id`` is the prompt's index.

    Returns
    -------
    list of Completion
        In the order of the prompts.

    Raises
    ------
    PromptError, ContextError, LMError
        A prompt or an option cannot be used; nothing was generated then.

    Examples
    --------
    >>> from lamina.lm import batch_generate, demo_path, load
    >>> model, tokenizer = load(demo_path())
    >>> answers = batch_generate(model, tokenizer, ["def f(", "import "], max_tokens=4)
    >>> [len(a.tokens) for a in answers]
    [4, 4]
    """
    count = len(prompts)
    budgets = [max_tokens] * count if isinstance(max_tokens, int) else list(max_tokens)
    if isinstance(sampler, Sequence):
        samplers = list(sampler)
    elif isinstance(sampler, Sampling):
        samplers = [sampler.with_seed(sampler.seed + i) for i in range(count)]
    else:
        samplers = [sampler] * count
    for name, values in (("max_tokens", budgets), ("sampler", samplers)):
        if len(values) != count:
            raise LMError(f"{name} must be one for all or one for each of {count} prompts, got {len(values)}")
    engine = Engine(model, tokenizer, options)
    handles = [
        engine.submit(Request(prompt, budget, own, stop, logprobs))
        for prompt, budget, own in zip(prompts, budgets, samplers, strict=True)
    ]
    while not engine.idle:
        for event in engine.step():
            if on_event is not None:
                on_event(event)
    return [_completion(h) for h in handles]


def _completion(handle: Handle) -> Completion:
    events = list(handle.events)
    return Completion(
        "".join(e.text for e in events),
        tuple(e.token for e in events if e.token is not None),
        handle.finish_reason or "error",
        handle.prompt_tokens,
        handle.cached_tokens,
        tuple(e.logprob for e in events if e.logprob is not None),
        handle.error,
    )
