"""Penalties on tokens that a text already holds, counted as it grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import lamina.core as mx

_Recent = tuple["int | mx.array", ...]


@dataclass(frozen=True)
class History:
    """How often each token occurs in the part of a text that penalties look at.

    Attributes
    ----------
    seen : array (V,), int32, or None
        Counts in prompt and answer; None where no penalty asks for them.
    made : array (V,), int32, or None
        Counts in the answer.
    recent : tuple
        The tokens of the window, oldest first; empty where the window is the whole text.
    answered : int
        How many of ``recent`` belong to the answer.
    """

    seen: mx.array | None
    made: mx.array | None
    recent: _Recent = ()
    answered: int = 0


@dataclass(frozen=True)
class Penalties:
    """Three ways to make tokens less likely the more they occur.

    Parameters
    ----------
    repetition : float
        Logits of tokens in prompt or answer are divided by it where positive and multiplied where negative;
        1 for none.
    frequency : float
        Taken from a token's logit once for each time that the answer holds it; 0 for none.
    presence : float
        Taken once from the logits of tokens that the answer holds; 0 for none.
    window : int
        Look at this many of the last tokens only; 0 for all.
    """

    repetition: float = 1.0
    frequency: float = 0.0
    presence: float = 0.0
    window: int = 0

    def start(self, prompt: Sequence[int], vocab: int) -> History:
        """Return the history of a text of which only the prompt is there."""
        used = prompt[-self.window :] if self.window else prompt
        seen = made = None
        # What nobody reads would never be evaluated, and grow with the text.
        if self.repetition != 1:
            counts = Counter(used)
            seen = mx.zeros((vocab,), dtype=mx.int32)
            if counts:
                ids = mx.array(list(counts), dtype=mx.int32)
                seen = seen.at[ids].add(mx.array(list(counts.values()), dtype=mx.int32))
        if self.frequency or self.presence:
            made = mx.zeros((vocab,), dtype=mx.int32)
        return History(seen, made, tuple(used) if self.window else ())

    def advance(self, history: History, token: mx.array) -> History:
        """Return ``history`` with one more ``token`` (1,) in the answer."""
        seen, made = _counted(history.seen, token, 1), _counted(history.made, token, 1)
        if not self.window:
            return History(seen, made)
        recent, answered = (*history.recent, token), history.answered + 1
        if len(recent) > self.window:
            gone = recent[0]
            seen = _counted(seen, gone, -1)
            if answered > self.window:
                made, answered = _counted(made, gone, -1), self.window
            recent = recent[1:]
        return History(seen, made, recent, answered)

    def apply(self, logits: mx.array, history: History) -> mx.array:
        """Return ``logits`` (..., V) with the penalties of ``history`` taken off."""
        if history.seen is not None:
            lowered = mx.where(logits > 0, logits / self.repetition, logits * self.repetition)
            logits = mx.where(history.seen > 0, lowered, logits)
        if history.made is None:
            return logits
        if self.frequency:
            logits = logits - self.frequency * history.made.astype(logits.dtype)
        if self.presence:
            logits = logits - self.presence * (history.made > 0).astype(logits.dtype)
        return logits


def _counted(counts: mx.array | None, token: int | mx.array, by: int) -> mx.array | None:
    return None if counts is None else counts.at[token].add(by)
