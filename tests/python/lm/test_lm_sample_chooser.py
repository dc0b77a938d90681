"""Options of choosing: penalties against counting, XTC, bias, log-probabilities, seeds."""

from __future__ import annotations

import math
from collections import Counter

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm import LMError
from lamina.lm.sample import Chooser, Penalties, Sampling, greedy, largest, likeliest, top_k, top_p, xtc

V = 50
EPS = np.finfo(np.float32).eps
RNG = np.random.default_rng(5)


def rows(count: int) -> np.ndarray:
    return (RNG.standard_normal((count, V)) * 3).astype(np.float32)


def choose_all(options: Sampling, logits: np.ndarray, prompt=(), **more) -> list[int]:
    chooser = Chooser(options, V, prompt, **more)
    return [int(chooser.choose(mx.array(row[None])).token.item()) for row in logits]


def penalized(row: np.ndarray, p: Penalties, prompt: list[int], made: list[int]) -> np.ndarray:
    """The definition, by counting the window again for every token."""
    window = p.window or len(prompt) + len(made)
    text = [*((t, False) for t in prompt), *((t, True) for t in made)][-window:]
    out = row.astype(np.float64)
    for token in {t for t, _ in text}:
        out[token] = out[token] / p.repetition if out[token] > 0 else out[token] * p.repetition
    for token, count in Counter(t for t, in_answer in text if in_answer).items():
        out[token] -= p.frequency * count + p.presence
    return out


@pytest.mark.parametrize("window", [0, 1, 4, 9, 100])
@pytest.mark.parametrize(
    ("repetition", "frequency", "presence"),
    [(1.5, 0, 0), (0.7, 0, 0), (1, 0.8, 0), (1, 0, 2.5), (1.3, 0.4, -0.5)],
)
def test_penalties_count_what_the_window_holds(window, repetition, frequency, presence):
    penalties = Penalties(repetition, frequency, presence, window)
    prompt = [3, 7, 3, 49, 0]
    history = penalties.start(prompt, V)
    made: list[int] = []
    for row, token in zip(rows(14), [3, 3, 8, 7, 3, 11, 8, 8, 8, 49, 2, 3, 1, 0], strict=True):
        got = np.array(penalties.apply(mx.array(row[None]), history))[0]
        want = penalized(row, penalties, prompt, made)
        # Three roundings of numbers of at most this size.
        np.testing.assert_allclose(got, want, rtol=0, atol=4 * EPS * (np.abs(want).max() + 40))
        history = penalties.advance(history, mx.array([token]))
        made.append(token)


def test_penalties_steer_greedy_choices():
    options = Sampling(repetition_penalty=1.4, frequency_penalty=0.5, presence_penalty=0.2, penalty_window=6)
    logits, prompt, made = rows(30) * 0.3, [1, 2, 3], []
    for token, row in zip(choose_all(options, logits, prompt), logits, strict=True):
        want = penalized(row, options.penalties, prompt, made)
        assert want[token] >= want.max() - 8 * EPS * np.abs(want).max()
        made.append(token)


def test_bias():
    logits = rows(5)
    assert choose_all(Sampling(logit_bias={17: 1000.0}), logits) == [17] * 5
    best = int(logits[0].argmax())
    rest = [i for i in np.argsort(-logits[0]) if i != best]
    assert choose_all(Sampling(logit_bias={best: -math.inf}), logits[:1]) == [rest[0]]
    assert choose_all(Sampling(), logits) == logits.argmax(-1).tolist()


def test_a_mask_leaves_only_its_tokens():
    mask = np.zeros(V, bool)
    mask[[4, 9]] = True
    for options in (Sampling(), Sampling(temperature=1.0, top_k=1, seed=3), Sampling(logit_bias={1: 99.0})):
        chooser = Chooser(options, V)
        row = rows(1)
        token = int(chooser.choose(mx.array(row), mx.array(mask)).token.item())
        assert token in (4, 9)
        if options.temperature == 0 or options.top_k == 1:
            assert token == max((4, 9), key=lambda i: row[0, i])


class TestXTC:
    PROBS = np.array([0.4, 0.3, 0.15, 0.1, 0.05])

    def kept(self, filtered: mx.array) -> list[tuple[int, ...]]:
        return [tuple(np.flatnonzero(np.isfinite(r)).tolist()) for r in np.array(filtered)]

    def logits(self, count=1) -> mx.array:
        return mx.broadcast_to(mx.array(np.log(self.PROBS).astype(np.float32)), (count, 5))

    @pytest.mark.parametrize(
        ("threshold", "wanted"),
        [
            (0.5, (0, 1, 2, 3, 4)),
            (0.35, (0, 1, 2, 3, 4)),
            (0.2, (1, 2, 3, 4)),
            (0.12, (2, 3, 4)),
            (0.0, (4,)),
        ],
    )
    def test_the_least_likely_that_stands_out_stays(self, threshold, wanted):
        assert self.kept(xtc(1.0, threshold)(self.logits(), mx.random.key(0))) == [wanted]
        assert self.kept(xtc(0.0, threshold)(self.logits(), mx.random.key(0))) == [(0, 1, 2, 3, 4)]

    def test_spared_tokens(self):
        assert self.kept(xtc(1.0, 0.12, keep=(0,))(self.logits(), mx.random.key(0))) == [(0, 2, 3, 4)]

    def test_it_acts_in_the_asked_share_of_draws(self):
        n = 4000
        got = self.kept(xtc(0.3, 0.2)(self.logits(n), mx.random.key(1)))
        share = sum(k == (1, 2, 3, 4) for k in got) / n
        assert abs(share - 0.3) < 5 * math.sqrt(0.3 * 0.7 / n)

    def test_as_an_option(self):
        logits = np.log(np.concatenate([self.PROBS, np.full(V - 5, 1e-9)])).astype(np.float32)[None]
        options = Sampling(xtc_probability=1.0, xtc_threshold=0.12)
        assert choose_all(options, logits) == [2]
        assert choose_all(options, logits, eos_ids=(0,)) == [0]


@pytest.mark.parametrize("count", [0, 1, 5, V])
def test_logprobs_are_the_models(count):
    logits = rows(6)
    options = Sampling(temperature=2.0, top_k=9, frequency_penalty=1.0, logit_bias={3: 5.0}, seed=2)
    chooser = Chooser(options, V, logprobs=count)
    for row in logits:
        choice = chooser.choose(mx.array(row[None]))
        exact = row.astype(np.float64) - np.log(np.exp(row.astype(np.float64)).sum())
        token, tolerance = int(choice.token.item()), 2 * EPS * (np.abs(row).max() + math.log(V) + V)
        assert choice.logprob.shape == (1,)
        assert abs(choice.logprob.item() - exact[token]) <= tolerance
        if count == 0:
            assert choice.top_ids is None
            continue
        assert choice.top_ids.tolist() == np.argsort(-row, kind="stable")[:count].tolist()
        np.testing.assert_allclose(
            np.array(choice.top_logprobs), np.sort(exact)[::-1][:count], rtol=0, atol=tolerance
        )
    assert Chooser(options, V).choose(mx.array(logits[:1])).arrays()[1:] == []


def test_the_same_seed_gives_the_same_tokens():
    logits = rows(40) * 0.2
    options = Sampling(temperature=1.0, top_p=0.95, seed=7)
    assert choose_all(options, logits) == choose_all(options, logits)
    assert choose_all(options, logits) != choose_all(options.with_seed(8), logits)


def test_a_state_can_be_taken_back():
    logits = rows(6) * 0.2
    chooser = Chooser(Sampling(temperature=1.0, presence_penalty=1.0, penalty_window=3, seed=1), V, [1, 2])
    first = [chooser.choose(mx.array(r[None])).token.item() for r in logits[:3]]
    state = chooser.state
    second = [chooser.choose(mx.array(r[None])).token.item() for r in logits[3:]]
    chooser.state = state
    assert [chooser.choose(mx.array(r[None])).token.item() for r in logits[3:]] == second
    assert len(first) == 3


def test_a_sampler_of_the_callers():
    chooser = Chooser(lambda x: mx.argmin(x, axis=-1), V)
    row = rows(1)
    assert not chooser.greedy
    assert chooser.choose(mx.array(row)).token.item() == row.argmin()
    assert Chooser(greedy, V).greedy


@pytest.mark.parametrize("vocab", [1, 63, 64, 65, 1000, 5000])
def test_the_largest(vocab):
    values = RNG.integers(-40, 40, (3, vocab)).astype(np.float32)
    for k in (1, 2, 7, 33):
        if k <= vocab:
            want = np.sort(values, axis=-1)[:, -k:]
            np.testing.assert_array_equal(np.array(largest(mx.array(values), k)), want)
            for row in values:
                ids = np.array(likeliest(mx.array(row), k))
                assert len(set(ids.tolist())) == k
                np.testing.assert_array_equal(row[ids], np.sort(row)[::-1][:k])


@pytest.mark.parametrize(("k", "p"), [(5, 0.5), (5, 0.99), (20, 0.8), (3000, 0.9), (9000, 0.9)])
def test_top_p_of_the_top_k_is_both_filters(k, p):
    logits = mx.array((RNG.standard_normal((4, 5000)) * 2).astype(np.float32))
    both = np.array(top_p(p)(top_k(k)(logits)))
    np.testing.assert_array_equal(np.array(top_p(p, k)(logits)), both)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "temperature must be 0 or more and finite, got -1"),
        ({"temperature": math.inf}, "temperature must be 0 or more and finite, got inf"),
        ({"temperature": "hot"}, "temperature must be a number, got 'hot'"),
        ({"top_k": -1}, r"top_k must be 0 \(off\) or more, got -1"),
        ({"top_k": 1.5}, "top_k must be an integer, got 1.5"),
        ({"top_p": 0}, r"top_p must be in \(0, 1\], got 0"),
        ({"min_p": 2}, r"min_p must be in \[0, 1\], got 2"),
        ({"xtc_probability": 2}, r"xtc_probability must be in \[0, 1\], got 2"),
        ({"xtc_threshold": 0.7}, r"xtc_threshold must be in \[0, 0.5\], got 0.7"),
        ({"repetition_penalty": 0}, "repetition_penalty must be positive and finite, got 0"),
        ({"frequency_penalty": math.nan}, "frequency_penalty must be finite, got nan"),
        ({"penalty_window": -1}, r"penalty_window must be 0 \(the whole text\) or more, got -1"),
        ({"seed": -1}, "seed must be in"),
        ({"logit_bias": {-1: 0.0}}, "logit_bias must map token ids to numbers, got the id -1"),
        ({"logit_bias": {1: math.inf}}, "logit_bias of token 1 must be a number below infinity, got inf"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(LMError, match=message):
        Sampling(**options)


def test_ids_outside_the_vocabulary_are_named():
    with pytest.raises(LMError, match="logit_bias has token 50: wanted ids from 0 to 49"):
        Chooser(Sampling(logit_bias={50: 1.0}), V)
    with pytest.raises(LMError, match="logprobs must be from 0 to the vocabulary's 50, got 51"):
        Chooser(Sampling(), V, logprobs=51)
