"""The engine: whatever runs beside a text, its answer is the one it gets alone."""

from __future__ import annotations

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm import (
    CapacityError,
    ContextError,
    Engine,
    EngineOptions,
    LMError,
    PromptError,
    Request,
    Tokenizer,
    batch_generate,
    stream_generate,
)
from lamina.lm.cache import CacheOptions
from lamina.lm.sample import Sampling
from lm.lm_toy import KINDS, toy

RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(1, 256, n).tolist() for n in (1, 5, 64, 70, 130, 17)]
WARM = Sampling(temperature=1.0, frequency_penalty=0.5, penalty_window=9, seed=3)


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


def alone(model, tokenizer, prompt, count=20, sampler=Sampling(), **options) -> list[int]:  # noqa: B008
    return [p.token for p in stream_generate(model, tokenizer, prompt, count, sampler, **options)]


def taken(handle) -> list[int]:
    return [e.token for e in handle.events if e.token is not None]


def drain(engine) -> None:
    while not engine.idle:
        engine.step()


def nothing_in_use(engine) -> bool:
    """Once the prefixes are forgotten, every block is free, and so is every place."""
    while engine.memory.tree.evict():
        pass
    return not any(g.blocks.used for g in engine.memory.store.groups) and engine.running == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampler", [Sampling(), WARM], ids=["greedy", "warm"])
@pytest.mark.parametrize(("places", "chunk"), [(2, 16), (6, 1000)])
def test_a_batch_gives_what_each_prompt_gives_alone(kind, sampler, places, chunk, endless):
    model = toy(kind)
    options = EngineOptions(max_sequences=places, prefill_tokens=chunk)
    got = batch_generate(model, endless, PROMPTS, 20, sampler, options=options)
    for i, (answer, prompt) in enumerate(zip(got, PROMPTS, strict=True)):
        own = sampler.with_seed(sampler.seed + i)
        assert list(answer.tokens) == alone(model, endless, prompt, 20, own)
        assert answer.text == endless.decode(answer.tokens)
        assert (answer.finish_reason, answer.prompt_tokens) == ("length", len(prompt))


@pytest.mark.parametrize("kind", ["attention", "mixed", "capped", "hybrid"])
@pytest.mark.parametrize("option", [{"bits": 8}, {"bits": 4}, {"window": 40}], ids=str)
def test_so_do_caches_of_fewer_bits_and_windows(kind, option, endless):
    model, cache = toy(kind), CacheOptions(**option)
    got = batch_generate(
        model, endless, PROMPTS, 90, options=EngineOptions(max_sequences=3, prefill_tokens=50, cache=cache)
    )
    for answer, prompt in zip(got, PROMPTS, strict=True):
        assert list(answer.tokens) == alone(model, endless, prompt, 90, cache_options=cache)


@pytest.mark.parametrize("kind", ["attention", "mixed", "hybrid"])
def test_sequences_join_and_leave_at_any_step(kind, endless):
    model = toy(kind)
    engine = Engine(model, endless, EngineOptions(max_sequences=4, prefill_tokens=20))
    rng, waiting, handles, cancelled = np.random.default_rng(1), [*PROMPTS, *PROMPTS[::-1]], [], {}
    while waiting or not engine.idle:
        if waiting and rng.random() < 0.3:
            handles.append(engine.submit(Request(waiting.pop(), 30)))
        running = [h for h in handles if not h.finished and h.id not in cancelled]
        if running and rng.random() < 0.06:
            victim = running[rng.integers(len(running))]
            engine.cancel(victim)
            cancelled[victim.id] = len(taken(victim))
        engine.step()
    assert len(handles) == 12
    assert 2 <= len(cancelled) <= 10
    for handle in handles:
        want = alone(model, endless, handle.request.prompt, 30)
        if handle.finish_reason == "cancelled":
            assert taken(handle) == want[: cancelled[handle.id]]
        else:
            assert (taken(handle), handle.finish_reason) == (want, "length")
    assert nothing_in_use(engine)


def test_pools_grow_once_for_answers_that_are_known(endless):
    # More blocks than the first ones, and still more at the end: pools copy what they hold when they grow.
    engine = Engine(toy("attention"), endless, EngineOptions(max_sequences=8))
    store = engine.memory.store
    handles = [engine.submit(Request([*PROMPTS[4], i], 200)) for i in range(8)]
    while not all(h.generated_tokens for h in handles):
        engine.step()
    first = list(store.capacities)
    drain(engine)
    assert store.groups[0].blocks.high > 32
    assert store.capacities == first
    # A long answer has room for its beginning only.
    engine = Engine(toy("attention"), endless, EngineOptions(max_sequences=8))
    engine.submit(Request([1], 100_000))
    engine.step()
    assert engine.memory.store.capacities == [16]


def test_events_tell_all(endless):
    model = toy("attention")
    ends = alone(model, endless, PROMPTS[2])
    tokenizer = Tokenizer(endless.inner, [ends[7]])
    engine = Engine(model, tokenizer)
    stop = engine.submit(Request(PROMPTS[2], 20, logprobs=2))
    text = endless.decode(alone(model, endless, PROMPTS[3]))
    stopped = engine.submit(Request(PROMPTS[3], 20, stop=[text[4:7]]))
    full = engine.submit(Request([5] * 510, 20))
    seen = []
    while not engine.idle:
        seen += engine.step()
    assert sorted({e.request_id for e in seen}) == [stop.id, stopped.id, full.id]
    assert [e for e in seen if e.request_id == stop.id] == list(stop.events)
    first = ends.index(ends[7])
    assert taken(stop) == ends[: first + 1]
    assert [e.finish_reason for e in stop.events] == [None] * first + ["stop"]
    alike = list(stream_generate(model, tokenizer, PROMPTS[2], 20, logprobs=2))
    assert [(e.logprob, e.top_logprobs) for e in stop.events] == [(p.logprob, p.top_logprobs) for p in alike]
    assert "".join(e.text for e in stopped.events) == text[: text.find(text[4:7])]
    assert (stopped.finish_reason, full.finish_reason, len(taken(full))) == ("stop", "context", 2)
    assert (stop.generated_tokens, stop.prompt_tokens, stop.finished) == (first + 1, 64, True)


class TestPrefixes:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("bits", [None, 4])
    def test_a_known_beginning_changes_only_the_work(self, kind, bits, endless):
        model, cache = toy(kind), CacheOptions(bits=bits)
        engine = Engine(model, endless, EngineOptions(prefill_tokens=50, cache=cache))
        base = PROMPTS[4]
        first = alone(model, endless, base, 30, cache_options=cache)
        prompts = {
            "the first time": (base, 0),
            "the answer and more": ([*base, *first, 3], len(base) + 29),
            "inside a block": ([*base[:100], 9, 9], 100),
            "at the end of a block": ([*base[:64], 9, 9], 64),
            "the same": (base, len(base) - 1),
            "nothing alike": ([*base[::-1], 1], 0),
        }
        for name, (prompt, known) in prompts.items():
            handle = engine.submit(Request(prompt, 30))
            drain(engine)
            assert taken(handle) == alone(model, endless, prompt, 30, cache_options=cache), name
            # Layers with a state know the ends of prompts and answers only, windows not long before.
            if (
                kind == "attention"
                or name == "the answer and more"
                or (kind in ("window", "capped") and name != "at the end of a block")
            ):
                assert handle.cached_tokens == known, name
        assert nothing_in_use(engine)

    def test_a_beginning_is_shared_while_its_text_still_runs(self, endless):
        model = toy("attention")
        engine = Engine(model, endless)
        first = engine.submit(Request(PROMPTS[4], 200))
        for _ in range(5):
            engine.step()
        used = engine.memory.store.groups[0].blocks.used
        second = engine.submit(Request([*PROMPTS[4], 1, 2], 30))
        engine.step()
        assert second.cached_tokens == 130
        assert engine.memory.store.groups[0].blocks.used == used + 1
        drain(engine)
        assert taken(first) == alone(model, endless, PROMPTS[4], 200)
        assert taken(second) == alone(model, endless, [*PROMPTS[4], 1, 2], 30)

    def test_states_are_found_at_the_end_of_a_prompt(self, endless):
        model = toy("mixed")
        engine = Engine(model, endless)
        engine.run([Request(PROMPTS[4], 40)])
        handle = engine.run([Request([*PROMPTS[4], 1, 2], 30)])[0]
        assert handle.cached_tokens == 130
        assert taken(handle) == alone(model, endless, [*PROMPTS[4], 1, 2], 30)

    def test_they_can_be_switched_off(self, endless):
        engine = Engine(toy("attention"), endless, EngineOptions(prefix_cache=False))
        engine.run([Request(PROMPTS[4], 4)])
        assert engine.run([Request(PROMPTS[4], 4)])[0].cached_tokens == 0
        assert nothing_in_use(engine)


class TestMemory:
    # Bytes of 64 positions in the two layers of the toy: keys and values of 2 heads of 16 float32 numbers.
    BLOCK = 2 * 2 * 64 * 2 * 16 * 4

    def test_requests_wait_for_memory(self, endless):
        model = toy("attention")
        options = EngineOptions(max_sequences=6, kv_bytes=5 * self.BLOCK)
        engine = Engine(model, endless, options)
        handles = [engine.submit(Request(p, 40)) for p in PROMPTS]
        most = 0
        while not engine.idle:
            engine.step()
            most = max(most, engine.running)
            assert engine.memory.store.nbytes <= options.kv_bytes
        assert 1 <= most <= 4
        for handle in handles:
            assert taken(handle) == alone(model, endless, handle.request.prompt, 40)

    def test_prefixes_give_way_to_texts_in_work(self, endless):
        model = toy("attention")
        engine = Engine(model, endless, EngineOptions(kv_bytes=4 * self.BLOCK))
        for i in range(12):
            prompt = [i + 1] * 70
            assert taken(engine.run([Request(prompt, 60)])[0]) == alone(model, endless, prompt, 60)
        again = engine.run([Request([12] * 70, 10)])[0]
        assert again.cached_tokens == 69
        assert engine.run([Request([1] * 70, 10)])[0].cached_tokens == 0

    def test_windows_hold_bounded_memory(self, endless):
        engine = Engine(toy("window"), endless, EngineOptions(max_sequences=1, prefill_tokens=32))
        engine.submit(Request(PROMPTS[4], 300))
        while not engine.idle:
            engine.step()
            for group in engine.memory.store.groups:
                assert group.blocks.used <= 2 * group.most_blocks(430, 32)
        window = next(g for g in engine.memory.store.groups if g.window is not None)
        # 24 positions of the window and 32 of a step, or what the end of the prompt keeps for others.
        assert window.most_blocks(430, 32) == 2

    def test_what_never_fits_is_refused_with_the_numbers(self, endless):
        engine = Engine(toy("attention"), endless, EngineOptions(kv_bytes=3 * self.BLOCK))
        message = (
            rf"of 130 tokens with an answer of up to 200 wants {6 * self.BLOCK} bytes .* are {3 * self.BLOCK}"
        )
        with pytest.raises(CapacityError, match=message) as error:
            engine.submit(Request(PROMPTS[4], 200))
        assert isinstance(error.value, MemoryError)
        assert isinstance(error.value, LMError)
        with pytest.raises(CapacityError, match="1000 bytes for keys, values and states are too few"):
            Engine(toy("attention"), endless, EngineOptions(kv_bytes=1000))


class Failing:
    """A model that fails at chosen calls."""

    def __init__(self, model, calls, error):
        self.model, self.calls, self.error, self.count = model, calls, error, 0
        self.config, self.head, self.cache_specs = model.config, model.head, model.cache_specs

    def hidden(self, tokens, cache=None):
        self.count += 1
        if self.count in self.calls:
            raise self.error
        return self.model.hidden(tokens, cache)


class TestFailures:
    @pytest.mark.parametrize("kind", ["attention", "mixed"])
    @pytest.mark.parametrize(
        "error", [MemoryError("no memory"), RuntimeError("broken")], ids=["memory", "other"]
    )
    def test_the_model_fails_and_the_others_go_on(self, kind, error, endless):
        model = toy(kind)
        # Calls: the probe, three steps with prompts, the recording of a decode step for each batch size.
        failing = Failing(model, {3}, error)
        engine = Engine(failing, endless, EngineOptions(max_sequences=3, prefill_tokens=60))
        handles = engine.run([Request(p, 20, WARM) for p in PROMPTS[2:5]])
        assert [h.finish_reason for h in handles].count("error") == 1
        for handle in handles:
            want = alone(model, endless, handle.request.prompt, 20, WARM)
            if handle.finish_reason == "error":
                assert handle.error is error
                assert taken(handle) == want[: len(taken(handle))]
            else:
                assert taken(handle) == want
        assert nothing_in_use(engine)

    def test_a_failure_in_the_midst_of_answers(self, endless):
        model = toy("mixed")
        failing = Failing(model, {4}, MemoryError("no memory"))
        engine = Engine(failing, endless, EngineOptions(max_sequences=2))
        handles = [engine.submit(Request(p, 20, WARM)) for p in PROMPTS[1:3]]
        for _ in range(9):
            engine.step()
        assert [len(taken(h)) for h in handles] == [8, 8]
        handles.append(engine.submit(Request(PROMPTS[3], 20)))
        for _ in range(3):
            engine.step()
        assert handles[2].finish_reason is None or handles[2].finish_reason == "error"
        drain(engine)
        for handle in handles[:2]:
            assert taken(handle) == alone(model, endless, handle.request.prompt, 20, WARM)

    def test_a_sampler_that_fails_ends_its_own_request(self, endless):
        model, calls = toy("attention"), []

        def sampler(logits):
            calls.append(1)
            if len(calls) == 5:
                raise ArithmeticError("no choice")
            return mx.argmax(logits, axis=-1)

        engine = Engine(model, endless)
        handles = engine.run(
            [Request(PROMPTS[2], 20), Request(PROMPTS[3], 20, sampler), Request(PROMPTS[1], 20)]
        )
        assert [h.finish_reason for h in handles] == ["length", "error", "length"]
        assert repr(handles[1].error) == "ArithmeticError('no choice')"
        for handle, count in zip(handles, (20, 4, 20), strict=True):
            assert taken(handle) == alone(model, endless, handle.request.prompt, 20)[:count]
        assert nothing_in_use(engine)

    def test_an_interrupt_loses_nothing(self, endless):
        model = toy("attention")
        failing = Failing(model, {4}, KeyboardInterrupt())
        engine = Engine(failing, endless, EngineOptions(prefill_tokens=40))
        handles = [engine.submit(Request(p, 20)) for p in PROMPTS[2:5]]
        interrupts = 0
        while not engine.idle:
            try:
                engine.step()
            except KeyboardInterrupt:
                interrupts += 1
        assert interrupts == 1
        for handle in handles:
            assert taken(handle) == alone(model, endless, handle.request.prompt, 20)

    def test_bad_requests_are_refused_at_once(self, endless):
        engine = Engine(toy("attention"), endless)
        for request, error, message in (
            (Request(""), PromptError, "the prompt is empty"),
            (Request([1] * 512), ContextError, "has 512 tokens, but the model's context holds 512"),
            (Request([1], 0), LMError, "max_tokens must be at least 1, got 0"),
            (Request([1], stop="x"), LMError, "stop must be a list"),
            (Request([1], sampler=Sampling(logit_bias={400: 1.0})), LMError, "logit_bias has token 400"),
        ):
            with pytest.raises(error, match=message):
                engine.submit(request)
        assert engine.idle

    @pytest.mark.parametrize("name", ["max_sequences", "kv_bytes", "prefill_tokens"])
    def test_limits_are_positive(self, name):
        with pytest.raises(LMError, match=f"{name} must be positive, got 0"):
            EngineOptions(**{name: 0})

    def test_lists_that_do_not_fit(self, endless):
        with pytest.raises(
            LMError, match="max_tokens must be one for all or one for each of 6 prompts, got 2"
        ):
            batch_generate(toy("attention"), endless, PROMPTS, [1, 2])


def test_cancelling_while_waiting_and_after_the_end(endless):
    engine = Engine(toy("attention"), endless, EngineOptions(max_sequences=1))
    first, second = (engine.submit(Request(p, 5)) for p in PROMPTS[:2])
    engine.cancel(second)
    drain(engine)
    engine.cancel(first)
    drain(engine)
    assert (first.finish_reason, second.finish_reason, taken(second)) == ("length", "cancelled", [])
