"""Many texts at once: sequences of different lengths share every step of the model."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

import lamina.core as mx
from lamina.lm.cache import CacheOptions
from lamina.lm.constrain import Allowed
from lamina.lm.engine.memory import Memory
from lamina.lm.engine.request import Event, Handle, Request
from lamina.lm.engine.sequence import Sequence
from lamina.lm.engine.step import Runner, Work
from lamina.lm.engine.store import Store
from lamina.lm.errors import LMError
from lamina.lm.generate.answer import Answer
from lamina.lm.generate.prompts import prompt_ids
from lamina.lm.generate.step import LanguageModel
from lamina.lm.io.memory import available_memory
from lamina.lm.sample import Choice, Chooser, greedy
from lamina.lm.tokenizer import Tokenizer


@dataclass(frozen=True)
class EngineOptions:
    """Limits of an engine.

    Parameters
    ----------
    max_sequences : int
        Sequences in work at once; others wait.
    kv_bytes : int, optional
        Bytes that keys, values and recurrent states may take; a quarter of the memory that is free when
        the engine is made by default.
    prefill_tokens : int
        Tokens of prompts in one step, so that a long prompt does not keep the others waiting.
    cache : CacheOptions
        How positions are kept.
    prefix_cache : bool
        Whether positions of past texts are kept, as far as the memory is not needed, for prompts that begin
        alike.

    Raises
    ------
    LMError
        A limit is not positive.
    """

    max_sequences: int = 8
    kv_bytes: int | None = None
    prefill_tokens: int = 256
    cache: CacheOptions = field(default_factory=CacheOptions)
    prefix_cache: bool = True

    def __post_init__(self) -> None:
        for name in ("max_sequences", "kv_bytes", "prefill_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise LMError(f"{name} must be positive, got {value}")


class Engine:
    """Continues many texts at once.

    Each :meth:`step` gives every running sequence its next token, and takes some of the prompts of those that
    have just come through the model beside them. Sequences join and leave between any two steps. What a
    sequence is given does not depend on the others: on the CPU its bits are those of
    :func:`lamina.lm.stream_generate`, where the model's products give a row the same bits in any batch
    (8-bit activations, or ``mx.set_batch_invariant``).

    :meth:`submit` and :meth:`cancel` may be called from any thread, :meth:`step` from one at a time.

    Parameters
    ----------
    model : LanguageModel
        The model; its weights must not change while the engine is in use.
    tokenizer : Tokenizer
        Its tokenizer.
    options : EngineOptions, optional
        Limits.

    Raises
    ------
    CapacityError
        The memory allowed does not hold anything.
    """

    def __init__(
        self, model: LanguageModel, tokenizer: Tokenizer, options: EngineOptions | None = None
    ) -> None:
        self.options = options = options or EngineOptions()
        self._model, self._tokenizer = model, tokenizer
        budget = options.kv_bytes or quarter_of_memory()
        self.memory = Memory(
            Store(model, options.cache, options.max_sequences, budget, options.prefill_tokens),
            options.prefix_cache,
        )
        self._runner = Runner(model, self.memory.store)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._arrived: deque[Sequence] = deque()
        self._cancelled: set[int] = set()
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._pending: list[tuple[Sequence, Choice]] = []
        self._slots = list(range(options.max_sequences))
        self._kept: list[mx.array] = []  # of prefixes, to be evaluated with the next step
        self._failed: list[tuple[Sequence, Exception]] = []
        self._broken = False

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._arrived or self._waiting or self._running or self._pending or self._cancelled)

    @property
    def running(self) -> int:
        """Sequences in work."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests that wait for a place or for memory."""
        return len(self._arrived) + len(self._waiting)

    def submit(self, request: Request) -> Handle:
        """Take a request; its events come from :meth:`step`.

        Raises
        ------
        PromptError, ContextError
            The prompt cannot be used.
        LMError
            An option is out of its range.
        CapacityError
            The text would never fit into the memory allowed.
        """
        if request.max_tokens < 1:
            raise LMError(f"max_tokens must be at least 1, got {request.max_tokens}")
        config = self._model.config
        ids = prompt_ids(self._model, self._tokenizer, request.prompt)
        budget = min(request.max_tokens, config.max_position_embeddings - len(ids))
        reason = "length" if budget == request.max_tokens else "context"
        answer = Answer(self._tokenizer, budget, request.stop, reason)
        eos = sorted(self._tokenizer.eos_ids)
        chooser = Chooser(request.sampler, config.vocab_size, ids, request.logprobs, eos)
        handle = Handle(next(self._numbers), request, len(ids))
        sequence = Sequence(handle, ids, chooser, answer, budget, len(self.memory.store.groups))
        self.memory.check_fits(sequence)
        with self._lock:
            self._arrived.append(sequence)
        return handle

    def cancel(self, handle: Handle) -> None:
        """End a request at the next step; one that has ended stays as it is."""
        with self._lock:
            self._cancelled.add(handle.id)

    def step(self) -> list[Event]:
        """Do one step of work and return what came of it.

        An error of one request ends that request. Where the model fails, out of memory say, the request that
        joined last ends, and the others start again from their tokens.
        """
        events: list[Event] = []
        if self._broken:
            self._begin_anew()
        try:
            self._arrive(events)
            self._admit()
            before, self._pending = self._pending, []
            work, bound = self._work(), []
            if work.sequences:
                # The model is under way before the tokens of the last step are looked at.
                bound = self._launch(work)
            self._collect(before, events)
            self._end_failed(events)
            self._choose_bound(bound)
            self._end_failed(events)
        except Exception as error:
            self._recover(error, events)
        except BaseException:
            self._broken = True
            raise
        return events

    def run(self, requests: SequenceOf[Request]) -> list[Handle]:
        """Submit ``requests``, step until they are done, and return their handles."""
        handles = [self.submit(r) for r in requests]
        while not all(h.finished for h in handles):
            self.step()
        return handles

    def _arrive(self, events: list[Event]) -> None:
        with self._lock:
            self._waiting += self._arrived
            self._arrived.clear()
            cancelled, self._cancelled = self._cancelled, set()
        for sequence in [s for s in (*self._waiting, *self._running) if s.handle.id in cancelled]:
            self._end(sequence, events, Event(sequence.handle.id, finish_reason="cancelled"))

    def _admit(self) -> None:
        """Let waiting sequences in, in order, while there is room for the whole of their texts."""
        before = len(self._running)
        while self._waiting and self._slots and self.memory.has_room(self._waiting[0], self._running):
            sequence = self._waiting.popleft()
            self._running.append(sequence)
            sequence.slot = self._slots.pop()
            self.memory.reuse(sequence)
            sequence.handle.cached_tokens = sequence.cached_tokens
        if len(self._running) > before:
            self.memory.store.expect(self._running)

    def _end(self, sequence: Sequence, events: list[Event], event: Event) -> None:
        """Add the last event of ``sequence`` and take it out."""
        events.append(sequence.handle.add(event))
        if sequence in self._waiting:
            self._waiting.remove(sequence)
            return
        self._running.remove(sequence)
        self._slots.append(sequence.slot)
        self._kept += self.memory.release(sequence)

    def _work(self) -> Work:
        """Choose what the step does, and take the blocks it needs."""
        decodes = [s for s in self._running if s.choice is not None and s.launched < s.budget]
        room, chunks = self.options.prefill_tokens, []
        for sequence in self._running:
            count = min(sequence.prompt_left, room)
            if count:
                chunks.append((sequence, count))
                room -= count
        work = Work(decodes, chunks)
        for sequence, count in work.sequences:
            self.memory.make_room(sequence, sequence.length + count)
        return work

    def _launch(self, work: Work) -> list[tuple[Sequence, mx.array]]:
        """Set off the step and its free choices; return the other sequences with their logits."""
        answering = [s for (s, _), ends in zip(work.sequences, work.ending(), strict=True) if ends]
        logits = self._runner.run(work)
        bound: list[tuple[Sequence, mx.array]] = []
        best = None
        for row, sequence in enumerate(answering):
            assert logits is not None
            sequence.choice = None
            if not sequence.through:
                sequence.through = True
                self._kept += self.memory.remember(sequence)
            own = logits[row : row + 1]
            if sequence.constraint is not None:
                bound.append((sequence, own))
            elif sequence.chooser.greedy:
                best = greedy(logits) if best is None else best
                self._chose(sequence, Choice(best[row : row + 1]))
            else:
                self._guarded(sequence, lambda s=sequence, x=own: self._chose(s, s.chooser.choose(x)))
        chosen = [a for _, choice in self._pending for a in choice.arrays()]
        kept, self._kept = self._kept, []
        # Logits need all keys and values of the step; states that only later steps read are named.
        arrays = self.memory.store.state_arrays if logits is not None else self.memory.store.all_arrays
        mx.async_eval(*arrays, *([logits] if bound else []), *chosen, *kept)
        return bound

    def _chose(self, sequence: Sequence, choice: Choice) -> None:
        sequence.choice = choice
        sequence.launched += 1
        self._pending.append((sequence, choice))

    def _guarded(self, sequence: Sequence, act: Callable[[], None]) -> None:
        """Do what may go wrong for one request only."""
        try:
            act()
        except Exception as error:
            self._failed.append((sequence, error))

    def _end_failed(self, events: list[Event]) -> None:
        """End the requests for which something went wrong, once their last tokens are known."""
        failed, self._failed = self._failed, []
        for sequence, error in failed:
            if not sequence.handle.finished:
                event = Event(sequence.handle.id, finish_reason="error", error=error)
                self._end(sequence, events, event)

    def _collect(self, choices: list[tuple[Sequence, Choice]], events: list[Event]) -> None:
        """Look at the tokens of the step before."""
        mx.eval([c.arrays() for _, c in choices])
        for sequence, choice in choices:
            if not sequence.handle.finished:
                self._guarded(sequence, lambda s=sequence, c=choice: self._take_token(s, c, events))

    def _take_token(self, sequence: Sequence, choice: Choice, events: list[Event]) -> None:
        token, answer = int(choice.token.item()), sequence.answer
        sequence.ids.append(token)
        text = answer.add(token)
        if sequence.constraint is not None and answer.reason is None:
            sequence.constraint.accept(token)
            if sequence.constraint.finished:
                text += answer.finish("stop")
        top: tuple[tuple[int, float], ...] = ()
        if choice.top_ids is not None and choice.top_logprobs is not None:
            top = tuple(zip(choice.top_ids.tolist(), choice.top_logprobs.tolist(), strict=True))
        logprob = None if choice.logprob is None else float(choice.logprob.item())
        event = Event(sequence.handle.id, text, token, answer.reason, logprob, top)
        if answer.reason is None:
            events.append(sequence.handle.add(event))
        else:
            self._end(sequence, events, event)

    def _choose_bound(self, bound: list[tuple[Sequence, mx.array]]) -> None:
        """Choose where what is allowed depends on the token before."""

        def choose(sequence: Sequence, logits: mx.array, constraint: Allowed) -> None:
            choice = sequence.chooser.choose(logits, constraint.mask())
            self._chose(sequence, choice)
            mx.async_eval(*choice.arrays())

        for sequence, logits in bound:
            constraint = sequence.constraint
            if constraint is not None and not sequence.handle.finished:
                self._guarded(sequence, lambda s=sequence, x=logits, c=constraint: choose(s, x, c))

    def _recover(self, error: Exception, events: list[Event]) -> None:
        """End the sequence that joined last, and begin anew with the others."""
        if not self._running:
            raise error
        last = self._running.pop()
        self._slots.append(last.slot)
        events.append(last.handle.add(Event(last.handle.id, finish_reason="error", error=error)))
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._broken = False
        self._pending, self._kept, self._failed = [], [], []
        self.memory.reset()
        for sequence in self._running:
            sequence.restart()


def quarter_of_memory() -> int:
    free = [count for count, _ in available_memory()]
    return min([*free, int(mx.device_info()["memory_size"])]) // 4
