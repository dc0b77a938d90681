"""Options of generation: stop texts, log-probabilities, prompt caches, caches of every kind."""

from __future__ import annotations

import lamina.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamina.lm import LMError, Tokenizer, generate, stream_generate
from lamina.lm.cache import CacheOptions, PromptCache
from lamina.lm.generate import StopStrings
from lamina.lm.sample import Sampling
from lm.lm_toy import KINDS, toy

PROMPT = np.random.default_rng(3).integers(1, 256, 90).tolist()


@pytest.fixture(autouse=True)
def batch_invariant():
    """A row's bits must not depend on how many rows go through a layer with it."""
    before = mx.set_batch_invariant(True)
    yield
    mx.set_batch_invariant(before)


@pytest.fixture
def endless(tokenizer) -> Tokenizer:
    """The tokenizer without an end token."""
    return Tokenizer(tokenizer.inner)


def tokens(model, tokenizer, prompt, count=12, sampler=Sampling(), **options) -> list[int]:  # noqa: B008
    return [p.token for p in stream_generate(model, tokenizer, prompt, count, sampler, **options)]


def uncached(model, ids: list[int], count: int) -> list[int]:
    ids = list(ids)
    for _ in range(count):
        ids.append(int(np.array(model(mx.array([ids])))[0, -1].argmax()))
    return ids[-count:]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer(kind, endless):
    model = toy(kind)
    want = uncached(model, PROMPT, 12)
    assert tokens(model, endless, PROMPT) == want
    for step in (1, 7, 64, 89, 90):
        assert tokens(model, endless, PROMPT, prefill_step=step) == want


OPTIONS = [CacheOptions(), CacheOptions(bits=8), CacheOptions(bits=4), CacheOptions(window=30)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: f"{o.bits}-{o.window}")
def test_a_prompt_cache_changes_nothing_but_the_work(kind, options, endless):
    model = toy(kind)
    cache = PromptCache(model.cache_specs(), options)
    turn, held = PROMPT, 0
    for more in ([5, 6, 7], PROMPT[:40], [9]):
        want = tokens(model, endless, turn, cache_options=options)
        pieces = list(stream_generate(model, endless, turn, 12, prompt_cache=cache))
        assert [p.token for p in pieces] == want
        assert {p.cached_tokens for p in pieces} == {held}
        # The last token of an answer is not run.
        assert cache.tokens == [*turn, *want[:-1]]
        held = len(cache.tokens)
        turn = [*turn, *want, *more]
    other = [*PROMPT[:60], 1, 2, 3]
    pieces = list(stream_generate(model, endless, other, 12, prompt_cache=cache))
    assert [p.token for p in pieces] == tokens(model, endless, other, cache_options=options)
    assert pieces[0].cached_tokens == (0 if kind in ("state", "mixed", "hybrid") else 60)


@pytest.mark.parametrize("kind", ["state", "mixed", "hybrid"])
def test_caches_that_forget_go_back_to_the_end_of_a_prompt(kind, endless):
    model = toy(kind)
    cache = PromptCache(model.cache_specs())
    list(stream_generate(model, endless, PROMPT, 70, prompt_cache=cache))
    again = [*PROMPT, 7, 8, 9]
    pieces = list(stream_generate(model, endless, again, 12, prompt_cache=cache))
    assert pieces[0].cached_tokens == len(PROMPT)
    assert [p.token for p in pieces] == tokens(model, endless, again)


def test_a_stream_that_is_left_leaves_a_usable_cache(endless):
    model = toy("mixed")
    cache = PromptCache(model.cache_specs())
    stream = stream_generate(model, endless, PROMPT, 50, prompt_cache=cache)
    got = [next(stream).token for _ in range(5)]
    stream.close()
    assert cache.tokens == PROMPT + got
    assert {c.offset for c in cache.caches} == {len(cache.tokens)}
    rest = tokens(model, endless, cache.tokens, 7, prompt_cache=cache)
    assert rest == tokens(model, endless, PROMPT, 12)[5:]


def test_a_failure_leaves_an_empty_cache(endless):
    model = toy("attention")
    cache = PromptCache(model.cache_specs())

    def broken(logits):
        raise ArithmeticError("no choice")

    with pytest.raises(ArithmeticError):
        tokens(model, endless, PROMPT, sampler=broken, prompt_cache=cache)
    assert cache.tokens == []
    assert tokens(model, endless, PROMPT, prompt_cache=cache) == tokens(model, endless, PROMPT)


def test_a_prompt_cache_of_another_model_is_refused(endless):
    cache = PromptCache(toy("state").cache_specs())
    with pytest.raises(LMError, match="made for a model whose layers cache something else"):
        stream_generate(toy("attention"), endless, PROMPT, prompt_cache=cache)


class TestStops:
    STOPS = ("ab", "abc", "cab", "\n\n")

    @given(st.text(alphabet="abc\n", max_size=30), st.lists(st.integers(1, 4)))
    def test_any_cut_gives_the_text_before_the_first_stop(self, text, sizes):
        places = [text.find(s) for s in self.STOPS if s in text]
        stops, out, at = StopStrings(self.STOPS), "", 0
        for size in [*sizes, len(text)]:
            out += stops.add(text[at : at + size])
            at += size
        out += stops.finish()
        assert out == (text[: min(places)] if places else text)
        assert (stops.found is not None) == bool(places)

    def test_nothing_is_held_longer_than_needed(self):
        stops = StopStrings(["stop", "\n\n"])
        assert [stops.add(p) for p in ("a", "\n", "b st", "o", "b")] == ["a", "", "\nb ", "", "stob"]

    def test_they_cross_tokens_and_end_the_answer(self, endless):
        model = toy("attention")
        whole = list(stream_generate(model, endless, PROMPT, 40))
        text = "".join(p.text for p in whole)
        stop = text[10:16]
        assert text.find(stop) == 10
        pieces = list(stream_generate(model, endless, PROMPT, 40, stop=[stop, "never there"]))
        assert (
            "".join(p.text for p in pieces) == text[:10] == generate(model, endless, PROMPT, 40, stop=[stop])
        )
        assert pieces[-1].finish_reason == "stop"
        assert all(p.finish_reason is None for p in pieces[:-1])
        assert len(pieces) < 40

    def test_text_held_back_comes_at_the_end(self, endless):
        model = toy("attention")
        text = generate(model, endless, PROMPT, 20)
        assert generate(model, endless, PROMPT, 20, stop=[text[-3:] + "never"]) == text

    @pytest.mark.parametrize("stop", ["word", [""], [3]])
    def test_what_is_no_list_of_texts_is_refused(self, stop, endless):
        with pytest.raises(LMError, match="stop"):
            stream_generate(toy("attention"), endless, PROMPT, stop=stop)


def test_several_end_tokens(endless):
    model = toy("attention")
    whole = tokens(model, endless, PROMPT, 30)
    ends = [whole[9], whole[4]]
    pieces = list(stream_generate(model, Tokenizer(endless.inner, ends), PROMPT, 30))
    first = min(whole.index(e) for e in ends)
    assert [p.token for p in pieces] == whole[: first + 1]
    assert pieces[-1].finish_reason == "stop"


def test_logprobs_of_a_stream(endless):
    model = toy("attention")
    pieces = list(stream_generate(model, endless, PROMPT, 6, Sampling(temperature=1.0, seed=4), logprobs=3))
    ids = list(PROMPT)
    for piece in pieces:
        row = np.array(model(mx.array([ids])))[0, -1].astype(np.float64)
        exact = row - np.log(np.exp(row).sum())
        # The cached and the uncached logits differ by sums in another order.
        slack = 1e3 * np.finfo(np.float32).eps * np.abs(row).max()
        assert abs(piece.logprob - exact[piece.token]) < slack
        assert [i for i, _ in piece.top_logprobs] == np.argsort(-row)[:3].tolist()
        np.testing.assert_allclose(
            [p for _, p in piece.top_logprobs], np.sort(exact)[-3:][::-1], rtol=0, atol=slack
        )
        ids.append(piece.token)
    plain = stream_generate(model, endless, PROMPT, 6, Sampling(temperature=1.0, seed=4))
    assert [(p.token, p.logprob, p.top_logprobs) for p in plain] == [(p.token, None, ()) for p in pieces]


def test_options_out_of_range(endless):
    model = toy("attention")
    with pytest.raises(LMError, match="prefill_step must be at least 1, got 0"):
        stream_generate(model, endless, PROMPT, prefill_step=0)
    with pytest.raises(LMError, match="logit_bias has token 999"):
        stream_generate(model, endless, PROMPT, 5, Sampling(logit_bias={999: 1.0}))
