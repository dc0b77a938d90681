"""Guessing several tokens and checking them in one step of the model.

The tokens are exactly those that plain generation chooses: after each guess the chooser draws with the same
options, the same penalties and the same random numbers as it would without guesses, and guesses are kept as
far as they are what it chose. So a guess changes how fast an answer comes and nothing else. A draft model
draws with the chooser's random numbers too, and so guesses right more often than with its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import lamina.core as mx
from lamina.lm.cache import PromptCache
from lamina.lm.errors import LMError
from lamina.lm.generate.prompts import prefill
from lamina.lm.generate.step import Decoder, LanguageModel
from lamina.lm.sample import Chooser


class Drafter(Protocol):
    """Guesses how a text goes on."""

    tokens: int

    def begin(self, vocab: int, limit: int) -> None:
        """Get ready for a text of up to ``limit`` tokens of a vocabulary of ``vocab``."""
        ...

    def propose(self, text: Sequence[int], chooser: Chooser) -> list[int]:
        """Return up to :attr:`tokens` tokens that ``chooser`` may choose after ``text``."""
        ...


class PromptLookup:
    """Guesses that a text goes on as it did after its last words came before: for edits, summaries, code.

    Parameters
    ----------
    tokens : int
        Tokens to guess at once.
    longest, shortest : int
        Look for the last ``longest`` tokens of the text first, then for fewer, down to ``shortest``.

    Raises
    ------
    LMError
        A number is not positive.

    Examples
    --------
    >>> from lamina.lm.sample import Chooser, greedy
    >>> PromptLookup(tokens=3).propose([5, 6, 7, 8, 9, 5, 6], Chooser(greedy, 10))
    [7, 8, 9]
    """

    def __init__(self, tokens: int = 6, longest: int = 4, shortest: int = 2) -> None:
        if not (tokens > 0 and longest >= shortest > 0):
            raise LMError(f"PromptLookup: wanted positive lengths, got {tokens}, {longest}, {shortest}")
        self.tokens = tokens
        self._sizes = range(longest, shortest - 1, -1)
        self._ends: dict[tuple[int, ...], int] = {}
        self._known = 0

    def begin(self, vocab: int, limit: int) -> None:
        """Forget the last text."""
        self._ends, self._known = {}, 0

    def propose(self, text: Sequence[int], chooser: Chooser) -> list[int]:
        """Return what followed the last occurrence of the text's end; nothing where there is none."""
        # Each run of tokens is remembered by where it ended last, the text's own end not yet among them.
        for end in range(self._known + 1, len(text)):
            for size in self._sizes:
                if size <= end:
                    self._ends[tuple(text[end - size : end])] = end
        self._known = max(self._known, len(text) - 1)
        for size in self._sizes:
            at = self._ends.get(tuple(text[-size:])) if size <= len(text) else None
            if at is not None:
                return list(text[at : at + self.tokens])
        return []


class DraftModel:
    """Guesses with a smaller model of the same vocabulary.

    Parameters
    ----------
    model : LanguageModel
        The smaller model.
    tokens : int
        Tokens to guess at once.

    Raises
    ------
    LMError
        ``tokens`` is not positive.
    """

    def __init__(self, model: LanguageModel, tokens: int = 4) -> None:
        if tokens < 1:
            raise LMError(f"DraftModel: tokens must be positive, got {tokens}")
        self.tokens = tokens
        self._model = model
        self._cache = PromptCache(model.cache_specs())
        self._limit = 0
        self._decoder: Decoder | None = None

    def begin(self, vocab: int, limit: int) -> None:
        """Get ready for a text of up to ``limit`` tokens.

        Raises
        ------
        LMError
            The models have different vocabularies.
        """
        own = self._model.config.vocab_size
        if own != vocab:
            raise LMError(f"the draft model has a vocabulary of {own} tokens, the model one of {vocab}")
        self._limit = min(limit, self._model.config.max_position_embeddings)
        self._decoder = None

    def propose(self, text: Sequence[int], chooser: Chooser) -> list[int]:
        """Return the tokens that the smaller model would choose after ``text``."""
        if len(text) + self.tokens > self._limit:
            return []
        cache, chooser = self._cache, chooser.guesser()
        kept = cache.begin(text, self._limit)
        if self._decoder is None or self._decoder.caches is not cache.caches:
            self._decoder = Decoder(self._model, cache.caches, self._limit)
        new = list(text[kept:])
        if kept and len(new) <= 2:
            logits = self._decoder(mx.array([new], dtype=mx.uint32))[:, -1]
        else:
            logits = prefill(self._model, new, cache.caches)
        cache.extend(new)
        cache.mark()
        tokens = [chooser.choose(logits).token]
        while len(tokens) < self.tokens:
            tokens.append(chooser.choose(self._decoder(tokens[-1][:, None])[:, -1]).token)
        mx.eval(tokens)
        guesses = [int(t.item()) for t in tokens]
        cache.extend(guesses[:-1])
        return guesses


class Pace:
    """Says whether guessing pays, from the time that steps take with it and without.

    Parameters
    ----------
    trial : int
        Steps of either kind that are compared.
    rest, longest_rest : int
        Steps without guesses once guessing has lost; twice as many each time.
    """

    def __init__(self, trial: int = 4, rest: int = 16, longest_rest: int = 256) -> None:
        self._rest, self._longest_rest = rest, longest_rest
        self._resting = 0
        # The first step of either kind also records the model, and is not compared.
        self._warm_up = {True: 1, False: 1}
        self._plain: deque[float] = deque(maxlen=trial)
        self._guessed: deque[tuple[float, int]] = deque(maxlen=trial)

    @property
    def guessing(self) -> bool:
        """Whether the next step should guess."""
        return bool(self._plain) and self._resting == 0

    def took(self, seconds: float, tokens: int, guessed: bool) -> None:
        """Count a step that gave ``tokens`` tokens in so many seconds."""
        if self._warm_up[guessed]:
            self._warm_up[guessed] -= 1
            return
        if not guessed:
            self._plain.append(seconds)
            self._resting = max(0, self._resting - 1)
            return
        self._guessed.append((seconds, tokens))
        if len(self._guessed) < (self._guessed.maxlen or 0):
            return
        for_one = sum(s for s, _ in self._guessed) / sum(n for _, n in self._guessed)
        if for_one > min(self._plain):
            self._guessed.clear()
            self._resting, self._rest = self._rest, min(2 * self._rest, self._longest_rest)
