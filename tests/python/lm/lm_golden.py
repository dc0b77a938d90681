"""The golden models' files, and a cache that runs sequences of different lengths as one."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lamina.core as mx
import numpy as np
from lamina.lm.cache import HybridSpec, StateSpec, causal_attention
from lamina.lm.config import parse_config
from lamina.lm.io import fit_weights
from lamina.lm.models import Decoder, build_model
from lm.golden_numbers import all_numbers, tokens
from lm.lm_cases import CONTEXTS

FOLDER = Path(__file__).parents[2] / "golden" / "lm"


@dataclass(frozen=True)
class Golden:
    """One golden model: its published config and weights, the sequences, and their logits."""

    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    sequences: list[list[int]]
    logits: np.ndarray
    bfloat16_error: float
    context: int | None = None

    def weights(self, dtype: mx.Dtype = mx.float32) -> dict[str, mx.array]:
        """The tensors as published, in ``dtype``."""
        return {k: mx.array(v).astype(dtype) for k, v in all_numbers(self.shapes).items()}

    def model(self, dtype: mx.Dtype = mx.float32) -> Decoder:
        """The model with its weights in ``dtype``."""
        model = build_model(parse_config(self.config, context=self.context))
        fit_weights(model, self.weights(dtype))
        return model

    def tolerance(self) -> float:
        """How far float32 logits may be from the golden ones.

        Roundings are as many as terms of the longest chain of sums, over layers, and their errors add up like
        a random walk. The factor 4 is for the spread of a maximum over all logits.
        """
        spec = parse_config(self.config).spec
        terms = spec.width + len(spec.layers) * (8 * spec.width + max(map(len, self.sequences)))
        return 4 * float(np.finfo(np.float32).eps) * math.sqrt(terms) * float(np.abs(self.logits).max())


@functools.cache
def golden(name: str) -> Golden:
    """Read the golden model of a case."""
    return read_golden(FOLDER / f"{name}.safetensors")


def read_golden(file: Path) -> Golden:
    """Read a golden model's file."""
    arrays, meta = mx.load(str(file), return_metadata=True)
    config = json.loads(meta["config"])
    shapes = {k: tuple(v) for k, v in json.loads(meta["tensors"]).items()}
    vocab = arrays["logits"].shape[-1]
    logits, error = np.array(arrays["logits"]), float(meta["bfloat16_error"])
    return Golden(config, shapes, tokens(vocab), logits, error, CONTEXTS.get(file.stem))


class Ragged:
    """A layer's cache for several sequences whose new tokens stand one after the other in (1, T).

    It splits what it gets by sequence and does for each what the protocol says: the plainest thing that
    gives every sequence what it would get alone.
    """

    def __init__(self, sequences: int) -> None:
        self.counts = [0] * sequences
        self.seen = [0] * sequences
        self._kept: list[Any] = [None] * sequences

    def begin(self, counts: list[int]) -> None:
        """Announce how many new tokens each sequence has."""
        self.seen = [s + c for s, c in zip(self.seen, self.counts, strict=True)]
        self.counts = counts

    def _split(self, x: mx.array, axis: int) -> list[mx.array]:
        return mx.split(x, np.cumsum(self.counts)[:-1].tolist(), axis=axis)

    def positions(self, length: int) -> mx.array:
        """The numbers of all new positions."""
        assert length == sum(self.counts)
        return mx.concatenate([mx.arange(s, s + c) for s, c in zip(self.seen, self.counts, strict=True)])

    def rotate(self, rotation: Any, x: mx.array) -> mx.array:
        """Rotate each sequence's part from its own first position."""
        parts = self._split(x, 2)
        return mx.concatenate([rotation(p, s) for p, s in zip(parts, self.seen, strict=True)], axis=2)

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, **options: Any) -> mx.array:
        """Attend within each sequence."""
        out = []
        parts = zip(*(self._split(x, 2) for x in (queries, keys, values)), strict=True)
        for i, (q, k, v) in enumerate(parts):
            if self._kept[i] is not None:
                k, v = (mx.concatenate([old, new], 2) for old, new in zip(self._kept[i], (k, v), strict=True))
            self._kept[i] = k, v
            out.append(causal_attention(q, k, v, **options))
        return mx.concatenate(out, axis=2)

    def run(self, step: Any, *inputs: mx.array) -> mx.array:
        """Run each sequence's part from its own state."""
        out = []
        for i, parts in enumerate(zip(*(self._split(x, 1) for x in inputs), strict=True)):
            y, self._kept[i] = step(self._kept[i], *parts)
            out.append(y)
        return mx.concatenate(out, axis=1)


class RaggedHybrid:
    """A hybrid layer's cache: one of each kind."""

    def __init__(self, sequences: int) -> None:
        self.attention, self.state = Ragged(sequences), Ragged(sequences)

    def begin(self, counts: list[int]) -> None:
        """As :meth:`Ragged.begin`."""
        self.attention.begin(counts)
        self.state.begin(counts)

    def positions(self, length: int) -> mx.array:
        """As :meth:`Ragged.positions`."""
        return self.attention.positions(length)


def ragged_logits(model: Decoder, sequences: list[list[int]], steps: list[list[int]]) -> np.ndarray:
    """The logits (T, V) of ``sequences``, which take ``steps[i]`` tokens each at step i, all in one batch."""
    count = len(sequences)
    specs = model.cache_specs()
    caches = [RaggedHybrid(count) if isinstance(s, HybridSpec) else Ragged(count) for s in specs]
    done, rows = [0] * count, [[] for _ in sequences]
    for counts in steps:
        for cache in caches:
            cache.begin(counts)
        new = [t for s, d, c in zip(sequences, done, counts, strict=True) for t in s[d : d + c]]
        logits = np.array(model(mx.array([new]), caches)[0].astype(mx.float32))
        for row, part in zip(rows, np.split(logits, np.cumsum(counts)[:-1]), strict=True):
            row.append(part)
        done = [d + c for d, c in zip(done, counts, strict=True)]
    assert done == [len(s) for s in sequences]
    return np.concatenate([part for row in rows for part in row])


def keeps_state(model: Decoder) -> bool:
    """Whether a layer of the model is recurrent."""
    return any(isinstance(s, (StateSpec, HybridSpec)) for s in model.cache_specs())
