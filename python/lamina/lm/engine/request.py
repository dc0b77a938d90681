"""What an engine is asked for, and what it answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from lamina.lm.constrain import Constraint
from lamina.lm.sample import Sampler, Sampling, greedy


@dataclass(frozen=True)
class Request:
    """A text to continue.

    Parameters
    ----------
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
    constraint : Constraint, optional
        What the answer must look like, such as a :class:`lamina.lm.constrain.Grammar`.
    """

    prompt: str | Sequence[int]
    max_tokens: int = 256
    sampler: Sampler | Sampling = greedy
    stop: Sequence[str] = ()
    logprobs: int | None = None
    constraint: Constraint | None = None


@dataclass(frozen=True)
class Event:
    """One token of one request, or its end.

    Attributes
    ----------
    request_id : int
        The handle's number.
    text : str
        Text that became complete; perhaps empty.
    token : int or None
        The token; None on an end without one.
    finish_reason : str or None
        On the last event: ``"stop"``, ``"length"``, ``"context"``, ``"cancelled"`` or ``"error"``.
    logprob : float or None
        The logarithm of the token's probability by the model, where asked for.
    top_logprobs : tuple of (int, float)
        The most likely tokens and the logarithms of their probabilities, where asked for.
    error : Exception or None
        What ended the request, where ``finish_reason`` is ``"error"``.
    """

    request_id: int
    text: str = ""
    token: int | None = None
    finish_reason: str | None = None
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()
    error: Exception | None = None


class Handle:
    """A request inside an engine.

    Attributes
    ----------
    id : int
        Its number.
    request : Request
        What was asked for.
    events : deque of Event
        What came so far and nobody took; take from the left. The engine's thread adds on the right.
    prompt_tokens, cached_tokens, generated_tokens : int
        Tokens of the prompt, those of them that the engine had already seen, and tokens of the answer.
    finish_reason : str or None
        Why the request ended; None before.
    error : Exception or None
        What ended it, where ``finish_reason`` is ``"error"``.
    """

    def __init__(self, number: int, request: Request, prompt_tokens: int) -> None:
        self.id = number
        self.request = request
        self.events: deque[Event] = deque()
        self.prompt_tokens = prompt_tokens
        self.cached_tokens = 0
        self.generated_tokens = 0
        self.finish_reason: str | None = None
        self.error: Exception | None = None

    @property
    def finished(self) -> bool:
        """Whether the last event has come."""
        return self.finish_reason is not None

    def add(self, event: Event) -> Event:
        """Count an event and keep it."""
        self.generated_tokens += event.token is not None
        self.error = event.error
        self.events.append(event)
        self.finish_reason = event.finish_reason
        return event
