"""Continuations get the log-probabilities that the model gives them alone, whatever shares their steps."""

from __future__ import annotations

import random

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm import CacheOptions, EngineOptions, demo_path, load
from lamina.lm.arithmetic import set_arithmetic
from lamina.lm.engine import Scorer
from lamina.lm.errors import CapacityError, LMError, PromptError
from lm.lm_toy import KINDS, VOCAB, toy

FEW = list(range(40, 80))  # what all contexts of some pairs begin with


def pairs(seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """Contexts with several continuations each, of all lengths, some of them beginnings of others."""
    rng = random.Random(seed)

    def draw(count: int) -> list[int]:
        return [rng.randrange(VOCAB) for _ in range(count)]

    out: list[tuple[list[int], list[int]]] = []
    for length in (1, 2, 17, 33, 70):
        context = FEW * (length > 2) + draw(length)
        choices = [draw(1), draw(1), draw(5), draw(20)]
        choices += [choices[2] + draw(3), choices[0] + draw(2)]
        out += [(context, choice) for choice in choices]
        out += [(context + choices[2][:2], choices[2][2:])]  # the same text, divided elsewhere
    out += [(draw(1), draw(200)), out[0]]
    rng.shuffle(out)
    return out


def brute_force(model, context, continuation) -> tuple[np.ndarray, bool]:
    """Log-probabilities of a continuation from one run over the whole text, in float64."""
    logits = np.array(model(mx.array([[*context, *continuation][:-1]]))[0], dtype=np.float64)
    logits = logits[len(context) - 1 :]
    top = logits.max(axis=-1, keepdims=True)
    logprobs = logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
    rows = np.arange(len(continuation))
    return logprobs[rows, continuation], bool((logits.argmax(axis=-1) == continuation).all())


def check(model, scored, given) -> None:
    for one, (context, continuation) in zip(scored, given, strict=True):
        want, greedy = brute_force(model, context, continuation)
        length = len(context) + len(continuation)
        # Roundings of float32 add up over the terms of sums like a random walk; the logits are of order 10.
        tolerance = 8 * np.finfo(np.float32).eps * np.sqrt(length + 48 * len(model.layers)) * 10
        np.testing.assert_allclose(one.logprobs, want, rtol=0, atol=tolerance)
        assert one.greedy == greedy
        assert one.logprob == pytest.approx(want.sum(), abs=tolerance * len(want))


@pytest.mark.parametrize("kind", KINDS)
def test_as_alone(kind):
    model, given = toy(kind), pairs()
    scorer = Scorer(model, EngineOptions(max_sequences=5, prefill_tokens=64))
    counts: list[int] = []
    check(model, scorer.score(given, counts.append), given)
    assert sum(counts) == len(given)
    # Again, now that much of it is known; and what the model would say itself is recognized.
    context = given[3][0]
    answer: list[int] = []
    for _ in range(3):
        answer.append(int(mx.argmax(model(mx.array([context + answer]))[0, -1]).item()))
    again = [*given[::-1], (context, answer)]
    scored = scorer.score(again)
    check(model, scored, again)
    assert scored[-1].greedy


@pytest.mark.parametrize("kind", ["attention", "state", "hybrid", "window"])
def test_beginnings_that_are_shared_run_once(kind):
    rng = random.Random(1)
    stem = [rng.randrange(VOCAB) for _ in range(100)]
    contexts = [stem + [rng.randrange(VOCAB) for _ in range(40)] for _ in range(4)]
    given = [(c, [rng.randrange(VOCAB) for _ in range(6)]) for c in contexts for _ in range(4)]
    scorers = [
        Scorer(toy(kind), EngineOptions(max_sequences=16, prefill_tokens=512, prefix_cache=shared))
        for shared in (True, False)
    ]
    ours, plain = (s.score(given) for s in scorers)
    assert [s.greedy for s in ours] == [s.greedy for s in plain]
    # 100 positions once, 40 for each context but for the last of each, and 1 + 5 for each continuation.
    assert scorers[0].tokens_run <= 100 + 4 * 40 + 16 * 6
    assert scorers[1].tokens_run == 16 * 145
    before = scorers[0].tokens_run
    scorers[0].score(given)
    assert scorers[0].tokens_run - before == 16 * 6


def test_choices_of_one_token_are_one_run():
    scorer = Scorer(toy("attention"))
    context = FEW * 2
    scored = scorer.score([(context, [token]) for token in range(VOCAB)])
    assert scorer.tokens_run == len(context)
    assert sum(s.greedy for s in scored) == 1
    total = sum(np.exp(s.logprob) for s in scored)
    assert abs(total - 1) <= VOCAB * np.finfo(np.float32).eps


def test_the_same_bits_in_any_batch():
    model, tokenizer = load(demo_path())
    set_arithmetic(model, "int8")
    texts = ["import sys\n", "import os\n", "import sys\nimport os\n", "def f(x):\n"]
    given = [
        (tokenizer.encode(t), tokenizer.encode(c, special=False))
        for t in texts
        for c in ("sys.exit(0)", "os.path", "return x")
    ]
    results = [
        Scorer(model, EngineOptions(max_sequences=n, prefill_tokens=p, prefix_cache=shared)).score(given)
        for n, p, shared in ((1, 512, False), (12, 512, True), (5, 7, True))
    ]
    assert results[0] == results[1] == results[2]


def test_positions_in_few_bits_are_close():
    model, given = toy("attention"), pairs()[:10]
    exact = Scorer(model).score(given)
    scored = Scorer(model, EngineOptions(cache=CacheOptions(bits=8))).score(given)
    off = max(abs(a.logprob - b.logprob) / len(a.logprobs) for a, b in zip(scored, exact, strict=True))
    # A code is off by half a step of 1/127 of the largest of its group; scores and values pass it on.
    assert 0 < off < 8 / 127


def test_memory_of_little_more_than_one_text():
    model, given = toy("attention"), pairs()
    scorer = Scorer(model, EngineOptions(max_sequences=8, kv_bytes=2 * 2 * 2 * 16 * 4 * 256))
    check(model, scorer.score(given), given)
    with pytest.raises(CapacityError, match="a text of 300 tokens does not fit into the 131072 bytes"):
        scorer.score([([1] * 300, [2])])
    check(model, scorer.score(given[:3]), given[:3])


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (([], [1]), "pair 1: wanted a context and a continuation of at least one token each, got 0 and 1"),
        (([1], []), "got 1 and 0"),
        (([1, VOCAB], [1]), f"pair 1 holds {VOCAB}: wanted token ids from 0 to {VOCAB - 1}"),
        (([1] * 512, [1, 2]), "pair 1 has 514 tokens, and the model's context holds 512"),
    ],
)
def test_pairs_that_cannot_be_used(pair, message):
    scorer = Scorer(toy("attention"))
    with pytest.raises(PromptError, match=message):
        scorer.score([([1], [2]), pair])
    assert scorer.tokens_run == 0
    assert scorer.score([]) == []
    with pytest.raises(LMError):
        EngineOptions(max_sequences=0)


def test_an_error_on_the_way_leaves_nothing_behind(monkeypatch):
    model, given = toy("mixed"), pairs()
    scorer = Scorer(model, EngineOptions(max_sequences=4))
    hidden, calls = type(model).hidden, []

    def failing(self, tokens, cache=None):
        calls.append(tokens)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return hidden(self, tokens, cache)

    monkeypatch.setattr(type(model), "hidden", failing)
    with pytest.raises(KeyboardInterrupt):
        scorer.score(given)
    check(model, scorer.score(given), given)
