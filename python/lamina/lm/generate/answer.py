"""From tokens to the text of an answer, and to its end."""

from __future__ import annotations

from collections.abc import Sequence

from lamina.lm.generate.stops import StopStrings
from lamina.lm.tokenizer import Tokenizer


class Answer:
    """Takes an answer's tokens one by one and gives its text, up to an end token or a stop text.

    Parameters
    ----------
    tokenizer : Tokenizer
        Gives texts to tokens, and says which tokens end an answer.
    budget : int
        Tokens that the answer may have.
    stop : sequence of str
        Texts that end the answer and are no part of it.
    budget_reason : str
        Why an answer of ``budget`` tokens ends: ``"length"`` or ``"context"``.

    Attributes
    ----------
    count : int
        Tokens so far.
    reason : str or None
        Why the answer ended: ``"stop"`` or ``budget_reason``; None before.
    """

    def __init__(
        self, tokenizer: Tokenizer, budget: int, stop: Sequence[str] = (), budget_reason: str = "length"
    ) -> None:
        self._eos = tokenizer.eos_ids
        self._detokenizer = tokenizer.detokenizer()
        self._stops = StopStrings(stop)
        self._budget, self._budget_reason = budget, budget_reason
        self.count = 0
        self.reason: str | None = None

    def add(self, token: int) -> str:
        """Take the next token; return the text that became complete with it."""
        self.count += 1
        if token in self._eos:
            return self.finish("stop")
        text = self._stops.add(self._detokenizer.add(token))
        if self._stops.found is not None:
            self.reason = "stop"
        elif self.count >= self._budget:
            text += self.finish(self._budget_reason)
        return text

    def finish(self, reason: str) -> str:
        """End the answer for ``reason``; return the text that was held back."""
        text = self._stops.add(self._detokenizer.finish())
        self.reason = "stop" if self._stops.found is not None else reason
        return text + self._stops.finish()
