"""Before a model is timed: its logits are held against those of other ways of computing the same weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.e2e import models
from bench.e2e.worker import Worker

if TYPE_CHECKING:
    from bench.e2e.__main__ import Pool

CHECKED = 24
"""Positions that are compared."""

# Mean KL divergence, in nats, that a way of computing the same weights may have from another one. Of 8-bit
# activations the targets say 0.002; random weights have no structure that would keep errors small.
_ALLOWED = 0.01
# Where one format holds the weights that another one rounded: the part of the divergence between positions.
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
    """What is wrong with a row's model, whose logits are held against others of the same weights.

    Files of llama.cpp's formats are held against llama.cpp itself, packed ones of MLX's against the products
    of their weights in float32; 8-bit activations also against exact products.
    """
    ids = np.random.default_rng(5).integers(0, vocab, CHECKED).tolist()

    def logits(peer: str, name: str, how: str = "exact") -> np.ndarray | None:
        worker: Any = pool.get(peer, name, how)
        return worker.logits(ids) if isinstance(worker, Worker) else None

    found = logits("lamina", kind, arithmetic)
    exact = found if arithmetic == "exact" else logits("lamina", kind)
    assert found is not None
    assert exact is not None
    if not np.isfinite(found).all():
        return "logits are not finite"
    far = divergence(exact, found)
    if far > _ALLOWED:
        return f"8-bit activations: a divergence of {far:.4f} from exact products, allowed {_ALLOWED}"
    if models.MLX_BITS.get(kind):
        other, name, allowed = logits("lamina", kind, "dequantized"), "float32 weights", _ALLOWED
        pool.end("lamina", kind, "dequantized")
    else:
        other, name = logits("llama.cpp", against), "llama.cpp"
        unlike = 0.0 if other is None else divergence(other, np.roll(found, 1, 0))
        allowed = _ALLOWED if kind == against else _ALLOWED_PART * unlike
    far = 0.0 if other is None else divergence(other, found)
    return f"a divergence of {far:.4f} from {name}, allowed {allowed:.4f}" if far > allowed else None
