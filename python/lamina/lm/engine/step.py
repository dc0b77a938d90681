"""One step of the model over many sequences."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np

import lamina.core as mx
from lamina.lm.cache.plain import BLOCK_ROWS
from lamina.lm.cache.pool import Rows
from lamina.lm.engine.ragged import Chunk, RaggedStep, ragged_arrays, ragged_cache
from lamina.lm.engine.sequence import Sequence
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
        store, sequences = self._store, work.sequences
        store.fit()
        starts = np.array([s.length for s, _ in sequences], np.int32)
        counts = np.array([n for _, n in sequences], np.int32)
        ends = np.cumsum(counts, dtype=np.int32)
        positions = np.concatenate(
            [np.arange(a, a + n, dtype=np.int32) for a, n in zip(starts, counts, strict=True)]
        )
        owners = np.repeat(np.arange(len(sequences)), counts)
        tables = [_tables(sequences, g) for g in range(len(store.groups))]
        slots = [
            mx.array(t[owners, positions // BLOCK_ROWS] * BLOCK_ROWS + positions % BLOCK_ROWS) for t in tables
        ]
        lengths = mx.array(starts + counts)
        rows = [
            Rows(slot, mx.array(np.maximum(t, 0)), mx.array(ends), lengths)
            for slot, t in zip(slots, tables, strict=True)
        ]
        singles = mx.array([s.slot for s in work.decodes], dtype=mx.int32)
        tokens = _tokens(work)
        if work.chunks:
            chunks = [
                Chunk(int(end - n), int(end), s.slot, s.length == 0)
                for (s, n), end in zip(work.chunks, ends[len(work.decodes) :], strict=True)
            ]
            step = RaggedStep(mx.array(positions), rows, len(work.decodes), singles, chunks)
            hidden, arrays = self._layers(tokens, step, store.arrays)
            last = (ends - 1)[np.array(work.ending())]
            logits = self._model.head(hidden[0][mx.array(last)]) if len(last) else None
        else:
            places = [(r.slots, r.tables) for r in rows]
            logits, arrays = self._decode(tokens, mx.array(positions), lengths, places, singles, store.arrays)
        store.arrays = arrays
        for sequence, count in sequences:
            sequence.length += count
        return logits

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


def _tables(sequences: SequenceOf[tuple[Sequence, int]], group: int) -> np.ndarray:
    """The blocks of each sequence; as many columns as a power of two, so that their number seldom changes."""
    longest = max(len(s.tables[group]) for s, _ in sequences)
    out = np.full((len(sequences), 1 << (longest - 1).bit_length()), -1, np.int32)
    for row, (sequence, _) in zip(out, sequences, strict=True):
        table = sequence.tables[group]
        row[: len(table)] = table
    return out


def _tokens(work: Work) -> mx.array:
    parts = [s.choice.token for s in work.decodes if s.choice is not None]
    for sequence, count in work.chunks:
        ids = sequence.ids[sequence.length : sequence.length + count]
        parts.append(mx.array(ids, dtype=mx.uint32))
    return parts[0] if len(parts) == 1 else mx.concatenate(parts)
