"""What a layer asks of its cache.

A model never asks how many sequences it runs, how long each is, or how their past is stored: a cache rotates,
attends and steps for it. ``None`` in place of a cache is a sequence without a past.

Shape letters: B batch, L new positions, S all positions, H query heads, K key-value heads, D head dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import lamina.core as mx

Rotation = Callable[[mx.array, "int | mx.array"], mx.array]
"""Rotates (B, H, L, D), whose first position is the second argument: one number, or one for each of B."""

StepFunction = Callable[..., tuple[mx.array, list[mx.array]]]
"""``step(state, *inputs)``: from the state before (None at the start) and inputs (B, L, ...) to the outputs
(B, L, ...) and the state after, a list of arrays (B, ...)."""


@dataclass(frozen=True)
class AttentionSpec:
    """What an attention layer caches, in element counts: keys (K, key_dim) and values (K, value_dim).

    ``window`` is the number of positions that a position sees, itself included; None for all before it.
    """

    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None = None


@dataclass(frozen=True)
class StateSpec:
    """What a recurrent layer caches: arrays of these shapes for each sequence, whatever its length."""

    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class HybridSpec:
    """A layer with both: its cache has ``attention`` and ``state``, each by its own spec."""

    attention: AttentionSpec
    state: StateSpec


LayerSpec = AttentionSpec | StateSpec | HybridSpec


class Positions(Protocol):
    """Where the new positions of a batch are."""

    def positions(self, length: int) -> mx.array:
        """Return the numbers of the next ``length`` positions, (L,) or (B, L), int32."""
        ...


class AttentionCache(Positions, Protocol):
    """Keys and values of the positions seen so far."""

    def rotate(self, rotation: Rotation, x: mx.array) -> mx.array:
        """Apply ``rotation`` to the new positions ``x`` (B, H, L, D); call it before :meth:`attend`."""
        ...

    def attend(
        self,
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        *,
        scale: float,
        window: int | None = None,
        sinks: mx.array | None = None,
        softcap: float | None = None,
    ) -> mx.array:
        """Append ``keys`` (B, K, L, D) and ``values`` (B, K, L, Dv), then attend causally from ``queries``.

        Parameters
        ----------
        queries : array (B, H, L, D)
            Queries of the new positions, H a multiple of K.
        scale : float
            Factor of the scores.
        window : int, optional
            Positions that a position sees, itself included; None for all before it.
        sinks : array (H,), optional
            A score for each head that takes part in the softmax and adds no value.
        softcap : float, optional
            Scores become ``softcap * tanh(score / softcap)``.

        Returns
        -------
        array (B, H, L, Dv)
        """
        ...


class StateCache(Positions, Protocol):
    """The state of a recurrent layer."""

    def run(self, step: StepFunction, *inputs: mx.array) -> mx.array:
        """Run ``step`` from the cached state over ``inputs`` (B, L, ...), keep the state, return outputs."""
        ...


LayerCache = AttentionCache | StateCache
Caches = Sequence[Any]
"""One cache for each layer, of the kind its spec names; a hybrid layer's has one of each kind."""


def rotate(cache: AttentionCache | None, rotation: Rotation, x: mx.array) -> mx.array:
    """Rotate the new positions ``x`` (B, H, L, D) that follow those in ``cache``."""
    return rotation(x, 0) if cache is None else cache.rotate(rotation, x)


def attend(
    cache: AttentionCache | None,
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    *,
    scale: float,
    window: int | None = None,
    sinks: mx.array | None = None,
    softcap: float | None = None,
) -> mx.array:
    """Attend causally over what ``cache`` holds and the new positions; see :meth:`AttentionCache.attend`."""
    if cache is None:
        return causal_attention(
            queries, keys, values, scale=scale, window=window, sinks=sinks, softcap=softcap
        )
    return cache.attend(queries, keys, values, scale=scale, window=window, sinks=sinks, softcap=softcap)


def run(cache: StateCache | None, step: StepFunction, *inputs: mx.array) -> mx.array:
    """Run a recurrent ``step`` over ``inputs`` (B, L, ...) from the state in ``cache``."""
    return step(None, *inputs)[0] if cache is None else cache.run(step, *inputs)


def causal_attention(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    *,
    scale: float,
    window: int | None = None,
    sinks: mx.array | None = None,
    softcap: float | None = None,
) -> mx.array:
    """Attention of the last L of S positions: queries (B, H, L, D) to keys and values (B, K, S, D).

    Examples
    --------
    >>> import lamina.core as mx
    >>> q, k = mx.ones((1, 4, 2, 8)), mx.ones((1, 2, 5, 8))
    >>> causal_attention(q, k, k, scale=1.0).shape
    (1, 4, 2, 8)
    """
    length, total = queries.shape[2], keys.shape[2]
    if window is not None and total > window + length - 1:
        # No query sees what lies before the first one's window.
        first = total - (window + length - 1)
        keys, values, total = keys[:, :, first:], values[:, :, first:], total - first
    mask: mx.array | str | None = "causal" if length > 1 else None
    if window is not None and length > 1 and total > window:
        rows = mx.arange(total - length, total)[:, None]
        columns = mx.arange(total)[None]
        mask = (columns <= rows) & (columns > rows - window)
    if softcap is None:
        return mx.fast.scaled_dot_product_attention(
            queries, keys, values, scale=scale, mask=mask, sinks=sinks
        )
    return _capped_attention(queries, keys, values, scale, mask, sinks, softcap)


def _capped_attention(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    scale: float,
    mask: mx.array | str | None,
    sinks: mx.array | None,
    softcap: float,
) -> mx.array:
    batch, heads, length, dim = queries.shape
    kv_heads, total = keys.shape[1], keys.shape[2]
    grouped = queries.reshape(batch, kv_heads, heads // kv_heads, length, dim)
    scores = (grouped * scale) @ keys[:, :, None].swapaxes(-1, -2)
    scores = mx.tanh(scores.astype(mx.float32) / softcap) * softcap
    if mask is not None:
        if isinstance(mask, str):
            mask = mx.arange(total)[None] <= mx.arange(total - length, total)[:, None]
        scores = mx.where(mask, scores, -mx.inf)
    if sinks is not None:
        column = mx.broadcast_to(
            sinks.astype(mx.float32).reshape(1, kv_heads, -1, 1, 1), (*scores.shape[:-1], 1)
        )
        scores = mx.concatenate([column, scores], axis=-1)
    weights = mx.softmax(scores, axis=-1)
    if sinks is not None:
        weights = weights[..., 1:]
    out = weights.astype(values.dtype) @ values[:, :, None]
    return out.reshape(batch, heads, length, values.shape[-1])
