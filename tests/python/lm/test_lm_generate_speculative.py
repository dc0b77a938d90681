"""Guessing: whatever is guessed, the tokens are those of plain generation."""

from __future__ import annotations

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm import LMError, Tokenizer, make_sampler, stream_generate
from lamina.lm.cache import CacheOptions, PromptCache
from lamina.lm.generate import DraftModel, PromptLookup, course
from lamina.lm.generate.speculative import Pace
from lamina.lm.sample import Chooser, Sampling, greedy
from lm.lm_toy import KINDS, Toy, toy

PROMPT = np.random.default_rng(3).integers(1, 256, 30).tolist() * 3
SAMPLERS = {
    "greedy": Sampling(),
    "penalties": Sampling(repetition_penalty=1.2, frequency_penalty=0.3, penalty_window=10),
    "warm": Sampling(temperature=0.7, top_p=0.95, seed=5),
    "warm with penalties": Sampling(temperature=1.0, min_p=0.02, presence_penalty=1.0, seed=6),
}


class Always(Pace):
    """Guesses in every step, however long it takes."""

    guessing = True

    def took(self, seconds, tokens, guessed):
        pass


@pytest.fixture(autouse=True)
def always_guess(monkeypatch):
    """What is guessed must not depend on the time that steps take; rows' bits not on their number."""
    monkeypatch.setattr(course, "Pace", Always)
    before = mx.set_batch_invariant(True)
    yield
    mx.set_batch_invariant(before)


@pytest.fixture
def endless(tokenizer) -> Tokenizer:
    """The tokenizer without an end token."""
    return Tokenizer(tokenizer.inner)


def pieces(model, tokenizer, count=40, sampler=Sampling(), **options):  # noqa: B008
    return list(stream_generate(model, tokenizer, PROMPT, count, sampler, **options))


def plain(model, tokenizer, *args, **options) -> list[int]:
    return [p.token for p in pieces(model, tokenizer, *args, **options)]


class Guesses:
    """Guesses right and wrong in a fixed pattern."""

    def __init__(self, answer: list[int], tokens: int = 5, right: int = 2) -> None:
        self.answer, self.tokens, self._right = answer, tokens, right

    def begin(self, vocab, limit):
        pass

    def propose(self, text, chooser):
        at = len(text) - len(PROMPT)
        return [
            t if i < self._right else (t + 1) % 320 for i, t in enumerate(self.answer[at : at + self.tokens])
        ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("right", [0, 2, 5])
def test_right_and_wrong_guesses_change_nothing(kind, right, endless):
    model = toy(kind)
    want = pieces(model, endless)
    got = pieces(model, endless, draft=Guesses([p.token for p in want], right=right))
    assert [p.token for p in got] == [p.token for p in want]
    assert "".join(p.text for p in got) == "".join(p.text for p in want)
    guessed = sum(p.guessed for p in got)
    # Of each round the right guesses, and one more token that nobody guessed.
    assert guessed == {0: 0, 2: 26, 5: 32}[right]


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("kind", ["attention", "mixed"])
@pytest.mark.parametrize("drafter", ["lookup", "same model", "other model"])
def test_drafters_change_nothing_whatever_the_options(sampler, kind, drafter, endless):
    model = toy(kind)
    draft = {
        "lookup": lambda: PromptLookup(4, shortest=1),
        "same model": lambda: DraftModel(toy(kind), 3),
        "other model": lambda: DraftModel(toy("window", seed=1), 3),
    }[drafter]()
    got = pieces(model, endless, 40, sampler, draft=draft)
    assert [p.token for p in got] == plain(model, endless, 40, sampler)
    if drafter == "same model":
        # It draws with the same random numbers: every guess is right, three of four tokens are guesses.
        assert [p.guessed for p in got[1:33]] == [True, True, True, False] * 8


@pytest.mark.parametrize("options", [{"bits": 8}, {"bits": 4}, {"window": 20}], ids=str)
def test_caches_of_every_kind(options, endless):
    model, cache = toy("attention"), CacheOptions(**options)
    want = plain(model, endless, cache_options=cache)
    got = pieces(model, endless, draft=Guesses(want), cache_options=cache)
    assert [p.token for p in got] == want


@pytest.mark.parametrize("kind", ["attention", "mixed", "hybrid"])
def test_a_prompt_cache_goes_on_after_guesses(kind, endless):
    model = toy(kind)
    want = plain(model, endless, 60)
    cache = PromptCache(model.cache_specs())
    stream = stream_generate(model, endless, PROMPT, 60, draft=Guesses(want), prompt_cache=cache)
    got = [next(stream).token for _ in range(20)]
    stream.close()
    assert {c.offset for c in cache.caches} == {len(cache.tokens)}
    assert [*PROMPT, *got][: len(cache.tokens)] == cache.tokens
    rest = stream_generate(model, endless, [*PROMPT, *got], 40, Sampling(), prompt_cache=cache)
    assert [p.token for p in rest] == want[20:]


def test_ends_inside_a_round(endless):
    model = toy("attention")
    want = plain(model, endless)
    for count in range(1, 12):
        got = pieces(model, endless, count, draft=Guesses(want, right=5))
        assert [p.token for p in got] == want[:count]
        assert got[-1].finish_reason == "length"
    end = Tokenizer(endless.inner, [want[9]])
    got = pieces(model, end, draft=Guesses(want, right=5))
    assert [p.token for p in got] == want[: want.index(want[9]) + 1]
    short = toy("attention", max_position_embeddings=len(PROMPT) + 7)
    got = pieces(short, endless, draft=Guesses(want, right=5))
    assert ([p.token for p in got], got[-1].finish_reason) == (want[:7], "context")


def test_a_sampler_of_the_callers_is_called_once_for_each_token(endless):
    model = toy("attention")
    got = pieces(model, endless, 30, make_sampler(temp=1.0, seed=3), draft=DraftModel(toy("attention")))
    want = pieces(model, endless, 30, make_sampler(temp=1.0, seed=3))
    assert [p.token for p in got] == [p.token for p in want]


def test_logprobs_come_with_guesses(endless):
    model = toy("attention")
    want = pieces(model, endless, logprobs=2)
    got = pieces(model, endless, logprobs=2, draft=Guesses([p.token for p in want]))
    assert [(p.token, p.logprob, p.top_logprobs) for p in got] == [
        (p.token, p.logprob, p.top_logprobs) for p in want
    ]


class TestLookup:
    def propose(self, text, **options):
        return PromptLookup(**options).propose(text, Chooser(greedy, 320))

    def test_the_longest_and_latest_match(self):
        assert self.propose([1, 2, 3, 4, 9, 2, 3, 5, 8, 1, 2, 3], tokens=2) == [4, 9]
        assert self.propose([1, 2, 9, 7, 2, 9, 5, 2, 9], tokens=2) == [5, 2]
        assert self.propose([1, 2, 3], tokens=2) == []
        assert self.propose([3, 3, 3, 3], tokens=2) == [3]

    def test_it_follows_a_growing_text(self):
        rng, text, grown = np.random.default_rng(0), [], PromptLookup(tokens=3, shortest=1)
        for token in rng.integers(0, 4, 200).tolist():
            text.append(token)
            chooser = Chooser(greedy, 320)
            assert grown.propose(text, chooser) == self.propose(text, tokens=3, shortest=1)

    def test_bad_lengths(self):
        for options in ({"tokens": 0}, {"longest": 1, "shortest": 2}, {"shortest": 0}):
            with pytest.raises(LMError, match="PromptLookup: wanted positive lengths"):
                PromptLookup(**options)


class TestPace:
    def run(self, costs: list[tuple[float, int]]) -> list[bool]:
        """What is done when plain steps take 1 second and guessing ones as given, in turn."""
        pace, done, costs = Pace(trial=2, rest=3, longest_rest=6), [], list(costs)
        while costs:
            done.append(pace.guessing)
            seconds, tokens = costs.pop(0) if pace.guessing else (1.0, 1)
            pace.took(seconds, tokens, done[-1])
        return done

    def test_it_guesses_as_long_as_it_wins(self):
        # The first step of either kind does not count.
        assert self.run([(9.0, 1)] + [(1.5, 2)] * 8) == [False] * 2 + [True] * 9

    def test_it_rests_when_it_loses_and_tries_again_later(self):
        done = self.run([(9.0, 1)] + [(1.5, 1)] * 6)
        assert done == [False] * 2 + [True] * 3 + [False] * 3 + [True] * 2 + [False] * 6 + [True] * 2


def test_other_vocabularies_are_refused(endless):
    class Small:
        config = type("Config", (), {"vocab_size": 5, "max_position_embeddings": 99})

        def cache_specs(self):
            return []

    with pytest.raises(LMError, match="has a vocabulary of 5 tokens, the model one of 320"):
        pieces(toy("attention"), endless, draft=DraftModel(Small()))
    with pytest.raises(LMError, match="DraftModel: tokens must be positive, got 0"):
        DraftModel(toy("attention"), 0)


def test_toys_differ():
    """The other model of the tests above does guess wrong."""
    tokens = mx.array([PROMPT])
    assert isinstance(toy("window"), Toy)
    assert (
        mx.argmax(toy("window", seed=1)(tokens), -1).tolist()
        != mx.argmax(toy("attention")(tokens), -1).tolist()
    )
