"""Before a model is timed: what it computes is what the model says, by a plain decoder in float64.

Qwen 3 in NumPy from the published description of its layers; weights are those of :mod:`bench.e2e.models`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.e2e.worker import Worker

if TYPE_CHECKING:
    from bench.e2e.__main__ import Pool

CHECKED = 24
"""Positions that are compared."""

# Mean KL divergence, in nats, that a way of computing the same weights may have from another one. Of 8-bit
# activations the targets say 0.002; random weights have no structure that would keep errors small.
_ALLOWED = 0.01
# Where the weights were packed by two formats: the part of the divergence between different positions.
_ALLOWED_PART = 0.25


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities over the last axis, in float64."""
    x = logits.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def divergence(reference: np.ndarray, other: np.ndarray) -> float:
    """The mean Kullback-Leibler divergence of ``other`` from ``reference`` (L, V), in nats.

    Examples
    --------
    >>> a = np.array([[0.0, 1.0], [2.0, 0.0]])
    >>> divergence(a, a), divergence(a, -a) > 0.5
    (0.0, True)
    """
    p, q = log_softmax(reference), log_softmax(other)
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def wrong(pool: Pool, kind: str, against: str, arithmetic: str, vocab: int) -> str | None:
    """What is wrong with a row's model: its logits are held against llama.cpp's, else against exact ones."""
    ids = np.random.default_rng(5).integers(0, vocab, CHECKED).tolist()
    ours: Any = pool.get("lamina", kind, arithmetic)
    theirs = pool.get("llama.cpp", against)
    found = ours.logits(ids)
    if not np.isfinite(found).all():
        return "logits are not finite"
    exact = pool.get("lamina", kind, "exact")
    assert isinstance(exact, Worker)
    far = divergence(exact.logits(ids), found)
    if far > _ALLOWED:
        return f"8-bit activations: a divergence of {far:.4f} from exact products, allowed {_ALLOWED}"
    if isinstance(theirs, Worker):
        wanted = theirs.logits(ids)
        far, unlike = divergence(wanted, found), divergence(wanted, np.roll(found, 1, 0))
        allowed = _ALLOWED if kind == against else _ALLOWED_PART * unlike
        if far > allowed:
            return f"a divergence of {far:.4f} from llama.cpp, allowed {allowed:.4f}"
    return None
