"""The tokens of one text, one after the other: plainly, or with guesses that are checked several at once."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import lamina.core as mx
from lamina.lm.cache.prompt import Mark, PromptCache
from lamina.lm.constrain import Allowed
from lamina.lm.generate.speculative import Drafter, Pace
from lamina.lm.generate.step import Decoder, LanguageModel
from lamina.lm.sample import Choice, Chooser


@dataclass(frozen=True)
class Chosen:
    """A token whose value is known.

    Attributes
    ----------
    token : int
        Its id.
    choice : Choice
        What else was asked for.
    guessed : bool
        Whether it had been guessed.
    """

    token: int
    choice: Choice
    guessed: bool = False


@dataclass(frozen=True)
class Course:
    """A model in the course of a text.

    Attributes
    ----------
    model : LanguageModel
        The model.
    decoder : Decoder
        Its steps.
    cache : PromptCache
        The text so far, but for the token that was chosen last.
    chooser : Chooser
        Chooses tokens.
    constraint : Allowed or None
        Says which may be chosen; whoever takes a token from here tells it to the constraint.
    budget : int
        Tokens to choose at most.
    limit : int
        Positions that the model has.
    """

    model: LanguageModel
    decoder: Decoder
    cache: PromptCache
    chooser: Chooser
    constraint: Allowed | None
    budget: int
    limit: int

    def choose(self, logits: mx.array) -> Choice:
        """Choose from ``logits`` (1, V) what may come."""
        return self.chooser.choose(logits, self.constraint.mask() if self.constraint else None)


def plain_tokens(course: Course, choice: Choice) -> Generator[Chosen, None, None]:
    """Yield ``choice`` and what follows; the next token is computed while one is looked at."""
    for left in range(course.budget - 1, -1, -1):
        logits = following = None
        if left:
            logits = course.decoder(choice.token[:, None])[:, -1]
            # What a constraint allows depends on the token; the model need not wait for it.
            following = None if course.constraint else course.chooser.choose(logits)
            mx.async_eval(logits if following is None else following.arrays())
        token = int(choice.token.item())
        if logits is not None:
            course.cache.extend([token])
        yield Chosen(token, choice)
        if logits is not None:
            choice = following or course.choose(logits)


def guessed_tokens(course: Course, choice: Choice, drafter: Drafter) -> Generator[Chosen, None, None]:
    """Yield ``choice`` and what follows; ``drafter`` guesses as long as that is faster."""
    drafter.begin(course.model.config.vocab_size, course.limit)
    pace, left = Pace(), course.budget - 1
    token = int(choice.token.item())
    yield Chosen(token, choice)
    while left:
        began = time.perf_counter()
        text = [*course.cache.tokens, token]
        guesses: Sequence[int] = ()
        if pace.guessing and len(text) + drafter.tokens <= course.limit:
            guesses = drafter.propose(text, course.chooser)[: left - 1]
        # Always as many, so that the step need not be recorded again.
        padding = [guesses[-1]] * (drafter.tokens - len(guesses)) if guesses else []
        mark = course.cache.here(short=True) if guesses else None
        fed = [token]
        logits = course.decoder(mx.array([[token, *guesses, *padding]], dtype=mx.uint32))
        count, seconds = 0, 0.0
        try:
            for row in range(len(guesses) + 1):
                choice = course.choose(logits[:, row])
                token = int(choice.token.item())
                right = row < len(guesses) and token == guesses[row]
                count, seconds = count + 1, seconds + time.perf_counter() - began
                yield Chosen(token, choice, right)
                began = time.perf_counter()
                if not right:
                    break
                fed.append(token)
            _keep(course, fed, mark, again=True)
        except GeneratorExit:
            _keep(course, fed, mark, again=False)
            raise
        left -= count
        pace.took(seconds + time.perf_counter() - began, count, bool(guesses))


def _keep(course: Course, fed: list[int], mark: Mark | None, again: bool) -> None:
    """Keep the positions of ``fed`` and drop the wrong guesses behind them.

    Caches that cannot drop positions go back to ``mark``, and take ``fed`` once more if ``again``.
    """
    cache = course.cache
    cache.extend(fed)
    surplus = cache.caches[0].offset - len(cache.tokens)
    if mark is None or all(c.trimmable(surplus) for c in cache.caches):
        cache.settle()
        return
    cache.back(mark)
    if again:
        course.model.hidden(mx.array([fed], dtype=mx.uint32), cache.caches)
        cache.extend(fed)
