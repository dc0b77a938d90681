"""One step of the model over many sequences."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import lamina.core as mx
from lamina._lazy import numpy as np
from lamina.lm.cache.plain import BLOCK_ROWS
from lamina.lm.cache.pool import Rows
from lamina.lm.engine.ragged import Chunk, RaggedStep, ragged_arrays, ragged_cache
from lamina.lm.engine.sequence import Sequence, Text
from lamina.lm.engine.store import Store
from lamina.lm.generate.step import LanguageModel


@dataclass(frozen=True)
class Work:
    """What a step does: one token for each of ``decodes``, ``count`` tokens of each prompt in ``chunks``."""

    decodes: list[Sequence]
    chunks: list[tuple[Sequence, int]]

    @property
    def sequences(self) -> list[tuple[Sequence, int]]:
        """All sequences in the order of the step's tokens, and how many tokens each has."""
        return [(s, 1) for s in self.decodes] + self.chunks

    def ending(self) -> list[bool]:
        """Return, for each of the sequences, whether its next token can be chosen after the step."""
        return [True] * len(self.decodes) + [n == s.prompt_left for s, n in self.chunks]


@dataclass(frozen=True)
class _Where:
    """Where a step's tokens stand: their positions (T,), the rows of each group, and for each text its length
    after the step and the end of its tokens among the T."""

    positions: mx.array
    rows: list[Rows]
    lengths: mx.array
    ends: np.ndarray


class Runner:
    """Runs steps of a model on the arrays of a store.

    Steps in which every sequence has one token are recorded once for each number of sequences and built again
    without running the model's Python code.
    """

    def __init__(self, model: LanguageModel, store: Store) -> None:
        self._model = model
        self._store = store
        self._decode = mx.compile(self._decode_step, whole=True)

    def run(self, work: Work) -> mx.array | None:
        """Append the tokens of ``work``, for which the sequences have blocks.

        Returns the logits (R, V) that follow the last tokens of the R sequences of ``work.ending()``; None
        where there are none. Nothing is evaluated.
        """
        if work.chunks:
            ending = np.array(work.ending())
            hidden, ends = self._append(work.decodes, work.chunks, _tokens(work))
            last = (ends - 1)[ending]
            return self._model.head(hidden[mx.array(last)]) if len(last) else None
        store = self._store
        where = self._where(work.sequences)
        places = [(r.slots, r.tables) for r in where.rows]
        singles = _slots(work.decodes)
        logits, store.arrays = self._decode(
            _tokens(work), where.positions, where.lengths, places, singles, store.arrays
        )
        _count(work.sequences)
        return logits

    def hidden(self, chunks: SequenceOf[tuple[Text, int]]) -> mx.array:
        """Append so many tokens of texts, which have blocks, and return their hidden states (T, E)."""
        tokens = mx.array([i for s, n in chunks for i in s.ids[s.length : s.length + n]], dtype=mx.uint32)
        return self._append([], chunks, tokens)[0]

    def _append(
        self, decodes: SequenceOf[Text], chunks: SequenceOf[tuple[Text, int]], tokens: mx.array
    ) -> tuple[mx.array, np.ndarray]:
        """Append ``tokens``; return their hidden states (T, E), and where among them each text's ones end."""
        store, texts = self._store, [*((s, 1) for s in decodes), *chunks]
        where = self._where(texts)
        parts = [
            Chunk(int(end - n), int(end), s.slot, s.length == 0)
            for (s, n), end in zip(chunks, where.ends[len(decodes) :], strict=True)
        ]
        step = RaggedStep(where.positions, where.rows, len(decodes), _slots(decodes), parts)
        hidden, store.arrays = self._layers(tokens, step, store.arrays)
        _count(texts)
        return hidden[0], where.ends

    def _where(self, texts: SequenceOf[tuple[Text, int]]) -> _Where:
        store = self._store
        store.fit()
        starts = np.array([s.length for s, _ in texts], np.int32)
        counts = np.array([n for _, n in texts], np.int32)
        ends = np.cumsum(counts, dtype=np.int32)
        positions = np.concatenate(
            [np.arange(a, a + n, dtype=np.int32) for a, n in zip(starts, counts, strict=True)]
        )
        owners = np.repeat(np.arange(len(texts)), counts)
        lengths = mx.array(starts + counts)
        rows = []
        for group in range(len(store.groups)):
            table = _tables(texts, group)
            slots = table[owners, positions // BLOCK_ROWS] * BLOCK_ROWS + positions % BLOCK_ROWS
            rows.append(Rows(mx.array(slots), mx.array(np.maximum(table, 0)), mx.array(ends), lengths))
        return _Where(mx.array(positions), rows, lengths, ends)

    def _decode_step(
        self,
        tokens: mx.array,
        positions: mx.array,
        lengths: mx.array,
        places: list[tuple[mx.array, mx.array]],
        singles: mx.array,
        arrays: list[list[mx.array]],
    ) -> tuple[mx.array, list[list[mx.array]]]:
        count = tokens.shape[0]
        ends = mx.arange(1, count + 1, dtype=mx.int32)
        rows = [Rows(slots, tables, ends, lengths) for slots, tables in places]
        hidden, after = self._layers(tokens, RaggedStep(positions, rows, count, singles, ()), arrays)
        return self._model.head(hidden[0]), after

    def _layers(
        self, tokens: mx.array, step: RaggedStep, arrays: SequenceOf[SequenceOf[mx.array]]
    ) -> tuple[mx.array, list[list[mx.array]]]:
        store = self._store
        caches = [
            ragged_cache(step, plan, store.format, own) for plan, own in zip(store.plans, arrays, strict=True)
        ]
        hidden = self._model.hidden(tokens[None], caches)
        return hidden, [ragged_arrays(c) for c in caches]


def _tables(sequences: SequenceOf[tuple[Text, int]], group: int) -> np.ndarray:
    """The blocks of each sequence; as many columns as a power of two, so that their number seldom changes."""
    longest = max(len(s.tables[group]) for s, _ in sequences)
    out = np.full((len(sequences), 1 << (longest - 1).bit_length()), -1, np.int32)
    for row, (sequence, _) in zip(out, sequences, strict=True):
        table = sequence.tables[group]
        row[: len(table)] = table
    return out


def _slots(decodes: SequenceOf[Text]) -> mx.array:
    return mx.array([s.slot for s in decodes], dtype=mx.int32)


def _count(texts: SequenceOf[tuple[Text, int]]) -> None:
    for text, count in texts:
        text.length += count


def _tokens(work: Work) -> mx.array:
    parts = [s.choice.token for s in work.decodes if s.choice is not None]
    for sequence, count in work.chunks:
        ids = sequence.ids[sequence.length : sequence.length + count]
        parts.append(mx.array(ids, dtype=mx.uint32))
    return parts[0] if len(parts) == 1 else mx.concatenate(parts)
