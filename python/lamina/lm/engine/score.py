"""How likely a model finds given continuations: many texts in a step, beginnings that they share run once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

import lamina.core as mx
from lamina.lm.cache.plain import BLOCK_ROWS
from lamina.lm.engine.engine import EngineOptions, quarter_of_memory
from lamina.lm.engine.memory import Memory
from lamina.lm.engine.sequence import Text
from lamina.lm.engine.step import Runner
from lamina.lm.engine.store import Store
from lamina.lm.errors import CapacityError, PromptError
from lamina.lm.evaluate import LOGITS_AT_ONCE, Advance
from lamina.lm.generate.step import LanguageModel

Pair = tuple[SequenceOf[int], SequenceOf[int]]
"""Tokens of a context, and of what follows it."""
SCORING = EngineOptions(max_sequences=16, prefill_tokens=512)
"""Texts and tokens in a step where nothing else is asked for."""


@dataclass(frozen=True)
class Scored:
    """How likely a continuation is.

    Attributes
    ----------
    logprobs : tuple of float
        The logarithm of each token's probability, given those before it.
    greedy : bool
        Whether each token is the likeliest.
    """

    logprobs: tuple[float, ...]
    greedy: bool

    @property
    def logprob(self) -> float:
        """The logarithm of the continuation's probability."""
        return math.fsum(self.logprobs)


@dataclass
class _Job:
    """A text to run: its tokens, and which of them to predict for which pairs.

    ``wanted`` has (number of the pair, position of the first prediction, predicted tokens).
    """

    ids: tuple[int, ...]
    wanted: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)

    @property
    def first(self) -> int:
        """The first position whose prediction is wanted."""
        return min(first for _, first, _ in self.wanted)


@dataclass
class _Result:
    """What is known of a pair so far."""

    logprobs: list[float]
    greedy: bool = True


@dataclass(frozen=True)
class _Span:
    """``count`` positions of text ``number`` from ``position`` on, at a step's rows from ``row`` on."""

    number: int
    position: int
    row: int
    count: int


class Scorer:
    """Scores continuations, and keeps what it ran for contexts that begin alike.

    Parameters
    ----------
    model : LanguageModel
        The model; its weights must not change while the scorer is in use.
    options : EngineOptions, optional
        Texts and tokens in a step, memory, how positions are kept.

    Attributes
    ----------
    tokens_run : int
        Positions that went through the model so far.

    Examples
    --------
    >>> from lamina.lm import demo_path, load
    >>> model, tokenizer = load(demo_path())
    >>> context = tokenizer.encode("import sys\\nsys.")
    >>> pairs = [(context, tokenizer.encode(text, special=False)) for text in ("stdout", "apples")]
    >>> likely, unlikely = Scorer(model).score(pairs)
    >>> likely.logprob > unlikely.logprob
    True
    """

    def __init__(self, model: LanguageModel, options: EngineOptions | None = None) -> None:
        self.options = options = options or SCORING
        self._model = model
        budget = options.kv_bytes or quarter_of_memory()
        store = Store(model, options.cache, options.max_sequences, budget, options.prefill_tokens)
        self._memory = Memory(store, options.prefix_cache)
        self._runner = Runner(model, store)
        self.tokens_run = 0

    def score(self, pairs: SequenceOf[Pair], advance: Advance | None = None) -> list[Scored]:
        """Return how likely each continuation is after its context.

        Parameters
        ----------
        pairs : sequence of (sequence of int, sequence of int)
            Tokens of contexts and continuations, at least one of each.
        advance : callable, optional
            Called with the number of pairs done after each part of the work.

        Raises
        ------
        PromptError
            A pair cannot be used: it lacks tokens, has too many, or ones outside the vocabulary.
        CapacityError
            A text does not fit into the memory allowed.
        """
        jobs = self._jobs(pairs)
        results = [_Result([0.0] * len(continuation)) for _, continuation in pairs]
        while jobs:
            batch = self._next_batch(jobs)
            try:
                self._run_batch(batch, results)
            except BaseException:
                self._memory.reset()
                raise
            del jobs[: len(batch)]
            if advance is not None:
                advance(sum(len(job.wanted) for job in batch))
        return [Scored(tuple(r.logprobs), r.greedy) for r in results]

    def _jobs(self, pairs: SequenceOf[Pair]) -> list[_Job]:
        """Return what to run, each text once, in an order in which texts that begin alike are neighbours."""
        config = self._model.config
        jobs: dict[tuple[int, ...], _Job] = {}
        for number, (context, continuation) in enumerate(pairs):
            if not len(context) or not len(continuation):
                raise PromptError(
                    f"pair {number}: wanted a context and a continuation of at least one token each, "
                    f"got {len(context)} and {len(continuation)}"
                )
            whole = (*context, *continuation)
            strange = next((i for i in whole if not 0 <= i < config.vocab_size), None)
            if strange is not None:
                raise PromptError(
                    f"pair {number} holds {strange!r}: wanted token ids from 0 to {config.vocab_size - 1}"
                )
            if len(whole) - 1 > config.max_position_embeddings:
                raise PromptError(
                    f"pair {number} has {len(whole)} tokens, and the model's context holds "
                    f"{config.max_position_embeddings} before the last one"
                )
            ids = whole[:-1]
            job = jobs.setdefault(ids, _Job(ids))
            job.wanted.append((number, len(context) - 1, whole[len(context) :]))
        return [jobs[ids] for ids in sorted(jobs)]

    def _next_batch(self, jobs: SequenceOf[_Job]) -> list[_Job]:
        """Return the first jobs that fit side by side."""
        groups, texts = len(self._memory.store.groups), []
        for job in jobs[: self.options.max_sequences]:
            text = Text(list(job.ids), groups)
            if not self._memory.has_room(text, texts):
                break
            texts.append(text)
        if not texts:
            raise CapacityError(
                f"a text of {len(jobs[0].ids)} tokens does not fit into the "
                f"{self._memory.store.budget_bytes} bytes for keys and values"
            )
        return list(jobs[: len(texts)])

    def _run_batch(self, batch: SequenceOf[_Job], results: SequenceOf[_Result]) -> None:
        for stems in self._shared(batch):
            for _ in self._run(stems, [len(s) for s in stems]):
                pass
        for hidden, spans in self._run([j.ids for j in batch], [j.first for j in batch]):
            self._look_up(batch, hidden, spans, results)

    def _shared(self, batch: SequenceOf[_Job]) -> Iterator[list[tuple[int, ...]]]:
        """Yield beginnings that several texts share and nothing is known of: the common one, then others."""
        if not self.options.prefix_cache or len(batch) < 2:
            return
        # What comes before the first prediction of each; the last token is run again with what follows.
        contexts = [job.ids[: job.first] for job in batch]
        by_all = _common(contexts[0], contexts[-1])
        by_two = {_common(a, b) for a, b in itertools.pairwise(contexts)}
        for level in ({by_all}, by_two - {by_all}):
            stems = sorted(s for s in level if len(s) >= BLOCK_ROWS and not self._known(s))
            # One that begins another is run as a part of it.
            stems = [s for s, after in itertools.pairwise([*stems, ()]) if after[: len(s)] != s]
            if stems:
                yield stems

    def _known(self, ids: tuple[int, ...]) -> bool:
        return self._memory.tree.match((*ids, 0)).length == len(ids)

    def _run(
        self, texts: SequenceOf[tuple[int, ...]], firsts: SequenceOf[int]
    ) -> Iterator[tuple[mx.array, list[_Span]]]:
        """Run texts; yield each step's hidden states (T, E), and where positions from ``firsts`` on are."""
        memory, left = self._memory, []
        for number, (ids, first) in enumerate(zip(texts, firsts, strict=True)):
            # What is known already is of use up to the first position that is wanted.
            text = Text(list(ids[: first + 1]), len(memory.store.groups))
            text.slot = number
            memory.reuse(text)
            text.ids = list(ids)
            left.append((number, text))
        while left:
            room, chunks = self.options.prefill_tokens, []
            for number, text in left:
                count = min(text.prompt_left, room)
                if count:
                    memory.make_room(text, text.length + count)
                    chunks.append((number, text, count))
                    room -= count
            hidden = self._runner.hidden([(text, count) for _, text, count in chunks])
            mx.eval(hidden, memory.store.all_arrays)
            spans, end = [], 0
            for number, text, count in chunks:
                end += count
                wanted = min(count, text.length - firsts[number])
                if wanted > 0:
                    spans.append(_Span(number, text.length - wanted, end - wanted, wanted))
            self.tokens_run += end
            yield hidden, spans
            mx.eval([memory.release(text) for _, text in left if not text.prompt_left])
            left = [(number, text) for number, text in left if text.prompt_left]

    def _look_up(
        self, batch: SequenceOf[_Job], hidden: mx.array, spans: list[_Span], results: SequenceOf[_Result]
    ) -> None:
        """Note what the model says at the positions of ``spans``, whose hidden states are in ``hidden``."""
        places = [
            (span.row + i, span.position + i, batch[span.number].wanted)
            for span in spans
            for i in range(span.count)
        ]
        step = max(1, LOGITS_AT_ONCE // self._model.config.vocab_size)
        for at in range(0, len(places), step):
            part = places[at : at + step]
            logits = self._model.head(hidden[mx.array([row for row, *_ in part])]).astype(mx.float32)
            best = mx.argmax(logits, axis=-1)
            asked = [
                (row, number, position - start, targets[position - start])
                for row, (_, position, wanted) in enumerate(part)
                for number, start, targets in wanted
                if start <= position < start + len(targets)
            ]
            rows, tokens = mx.array([a[0] for a in asked]), mx.array([a[3] for a in asked])
            found = logits[rows, tokens] - mx.logsumexp(logits, axis=-1)[rows]
            for (_, number, index, _), value, same in zip(
                asked, found.tolist(), (best[rows] == tokens).tolist(), strict=True
            ):
                results[number].logprobs[index] = value
                results[number].greedy &= same


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Return the beginning that two texts share."""
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:same]
