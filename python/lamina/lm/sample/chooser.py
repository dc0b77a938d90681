"""Choosing the tokens of one text, one after the other."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import lamina.core as mx
from lamina.lm.errors import LMError
from lamina.lm.sample.filters import Filter, Sampler, greedy, likeliest, min_p, temperature, top_k, top_p, xtc
from lamina.lm.sample.penalties import History
from lamina.lm.sample.sampling import Sampling


@dataclass(frozen=True)
class Choice:
    """A chosen token, not yet evaluated.

    Attributes
    ----------
    token : array (1,)
        Its id.
    logprob : array (1,) or None
        The logarithm of its probability by the model, before options change the distribution.
    top_ids, top_logprobs : array (n,) or None
        The model's most likely tokens, best first, and the logarithms of their probabilities.
    """

    token: mx.array
    logprob: mx.array | None = None
    top_ids: mx.array | None = None
    top_logprobs: mx.array | None = None

    def arrays(self) -> list[mx.array]:
        """Return all arrays, to evaluate them together."""
        return [a for a in (self.token, self.logprob, self.top_ids, self.top_logprobs) if a is not None]


@dataclass(frozen=True)
class ChooserState:
    """Where a chooser stands: the key of the next draws, and the history of penalties."""

    key: mx.array | None
    history: History | None


class Chooser:
    """Chooses the tokens of one text by its options, or by a sampler of the caller's.

    Nothing is evaluated: choices are arrays, so that a model can run ahead of their values.

    Parameters
    ----------
    sampling : Sampling or Sampler
        Options, or a function from logits (1, V) to token ids (1,).
    vocab : int
        Number of logits.
    prompt : sequence of int
        The text before the first choice, for the penalties.
    logprobs : int, optional
        Give the chosen token's log-probability and those of this many most likely ones; None for neither.
    eos_ids : iterable of int
        Tokens that end a text; XTC spares them.

    Raises
    ------
    LMError
        A biased token or the number of log-probabilities is outside the vocabulary.
    """

    def __init__(
        self,
        sampling: Sampling | Sampler,
        vocab: int,
        prompt: Sequence[int] = (),
        logprobs: int | None = None,
        eos_ids: Sequence[int] = (),
    ) -> None:
        if logprobs is not None and not 0 <= logprobs <= vocab:
            raise LMError(f"logprobs must be from 0 to the vocabulary's {vocab}, got {logprobs}")
        self._logprobs = logprobs
        self._sampler: Sampler | None = None
        self._options = Sampling()
        if isinstance(sampling, Sampling):
            self._options = sampling
        elif sampling is not greedy:
            self._sampler = sampling
        options = self._options
        self.greedy = self._sampler is None and options.greedy and logprobs is None
        self._bias = _bias(options, vocab)
        self._penalties = options.penalties
        self._filters = _filters(options)
        self._xtc = None
        if options.xtc_probability:
            spared = tuple(i for i in eos_ids if i < vocab)
            self._xtc = xtc(options.xtc_probability, options.xtc_threshold, spared)
        self._draws = options.temperature > 0 or self._xtc is not None
        self._prompt, self._vocab = list(prompt) if self._penalties else [], vocab
        self.state = self._start()

    def _start(self) -> ChooserState:
        return ChooserState(
            mx.random.key(self._options.seed) if self._draws else None,
            self._penalties.start(self._prompt, self._vocab) if self._penalties else None,
        )

    def guesser(self) -> Chooser:
        """Return a chooser that guesses what this one will choose, and leaves it as it is.

        It draws with the same random numbers. A sampler of the caller's may not be called for guesses: for
        those it takes the most likely token.
        """
        return copy.copy(self) if self._sampler is None else Chooser(greedy, self._vocab)

    def replay(self, tokens: Sequence[int]) -> None:
        """Go back to the start and on to where the state is after choosing ``tokens``."""
        state = self._start()
        for token in tokens:
            key = None if state.key is None else mx.random.split(state.key, 3)[0]
            history = state.history
            if history is not None and self._penalties is not None:
                history = self._penalties.advance(history, mx.array([token], dtype=mx.uint32))
            state = ChooserState(key, history)
        self.state = state

    def choose(self, logits: mx.array, mask: mx.array | None = None) -> Choice:
        """Choose from ``logits`` (1, V), of tokens where ``mask`` (V,) is true; the state moves on."""
        given = logits
        if mask is not None:
            logits = mx.where(mask, logits, -mx.inf)
        token = self._sampler(logits) if self._sampler is not None else self._draw(logits)
        if self._penalties is not None and self.state.history is not None:
            history = self._penalties.advance(self.state.history, token)
            self.state = ChooserState(self.state.key, history)
        if self._logprobs is None:
            return Choice(token)
        return self._with_logprobs(token, given)

    def _draw(self, logits: mx.array) -> mx.array:
        options, state = self._options, self.state
        if self._bias is not None or self._penalties is not None:
            logits = logits.astype(mx.float32)
        if self._bias is not None:
            logits = logits + self._bias
        if self._penalties is not None and state.history is not None:
            logits = self._penalties.apply(logits, state.history)
        for keep in self._filters:
            logits = keep(logits)
        if state.key is None:
            return greedy(logits)
        following, draw_key, xtc_key = mx.random.split(state.key, 3)
        self.state = ChooserState(following, state.history)
        if self._xtc is not None:
            logits = self._xtc(logits, xtc_key)
        if options.temperature == 0:
            return greedy(logits)
        return mx.random.categorical(logits.astype(mx.float32), key=draw_key)

    def _with_logprobs(self, token: mx.array, logits: mx.array) -> Choice:
        row = logits.reshape(-1).astype(mx.float32)
        total = mx.logsumexp(row)
        count = self._logprobs or 0
        if not count:
            return Choice(token, row[token] - total)
        best = likeliest(row, count)
        return Choice(token, row[token] - total, best, row[best] - total)


def _bias(options: Sampling, vocab: int) -> mx.array | None:
    if not options.logit_bias:
        return None
    outside = [i for i in options.logit_bias if i >= vocab]
    if outside:
        raise LMError(f"logit_bias has token {outside[0]}: wanted ids from 0 to {vocab - 1}")
    ids = mx.array(list(options.logit_bias), dtype=mx.int32)
    values = mx.array([float(v) for v in options.logit_bias.values()], dtype=mx.float32)
    return mx.zeros((vocab,), dtype=mx.float32).at[ids].add(values)


def _filters(options: Sampling) -> list[Filter]:
    if options.temperature == 0:
        return []
    filters = [temperature(options.temperature)]
    if options.top_p < 1:
        filters.append(top_p(options.top_p, options.top_k))
    elif options.top_k:
        filters.append(top_k(options.top_k))
    if options.min_p > 0:
        filters.append(min_p(options.min_p))
    return filters
