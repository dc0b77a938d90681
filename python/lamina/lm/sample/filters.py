"""Filters: small closures that rule tokens out, and the samplers that they are chained with.

A *filter* maps logits (..., V) to logits of the same shape, with -inf for tokens that are ruled out. A
*sampler* maps logits (..., V) to token ids (...).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import lamina.core as mx
from lamina.lm.errors import LMError

_BLOCK = 64

Filter = Callable[[mx.array], mx.array]
KeyedFilter = Callable[[mx.array, mx.array], mx.array]
Sampler = Callable[[mx.array], mx.array]


def temperature(value: float) -> Filter:
    """Divide the logits by ``value`` > 0: below 1 sharpens the distribution, above 1 flattens it."""
    if not (value > 0 and math.isfinite(value)):
        raise LMError(f"temperature must be positive and finite, got {value}")
    return lambda logits: logits * (1 / value)


def largest(logits: mx.array, k: int) -> mx.array:
    """Return the ``k`` largest of each row of (..., V), the largest last, as (..., k).

    Examples
    --------
    >>> import lamina.core as mx
    >>> largest(mx.array([[3.0, 1.0, 2.0]]), 2).tolist()
    [[2.0, 3.0]]
    """
    if k * _BLOCK * 2 > logits.shape[-1]:
        return mx.sort(logits, axis=-1)[..., -k:]
    blocks, best = _best_blocks(logits, k)
    few = mx.take_along_axis(blocks, best[..., None], axis=-2).reshape(*logits.shape[:-1], -1)
    return mx.sort(few, axis=-1)[..., -k:]


def likeliest(logits: mx.array, k: int) -> mx.array:
    """Return the ids of the ``k`` largest of ``logits`` (V,), the largest first, as (k,).

    Examples
    --------
    >>> import lamina.core as mx
    >>> likeliest(mx.array([3.0, 1.0, 2.0]), 2).tolist()
    [0, 2]
    """
    if k * _BLOCK * 2 > logits.shape[-1]:
        return mx.argsort(-logits)[:k]
    blocks, best = _best_blocks(logits, k)
    ids = best.astype(mx.int32)[:, None] * _BLOCK + mx.arange(_BLOCK, dtype=mx.int32)
    return ids.reshape(-1)[mx.argsort(-blocks[best].reshape(-1))[:k]]


def _best_blocks(logits: mx.array, k: int) -> tuple[mx.array, mx.array]:
    """Return ``logits`` in blocks, and which ``k`` of them have the largest maxima.

    The ``k`` largest numbers lie in those: sorting them alone is much less work.
    """
    pad = -logits.shape[-1] % _BLOCK
    if pad:
        tail = mx.full((*logits.shape[:-1], pad), -mx.inf, dtype=logits.dtype)
        logits = mx.concatenate([logits, tail], axis=-1)
    blocks = logits.reshape(*logits.shape[:-1], -1, _BLOCK)
    return blocks, mx.argsort(mx.max(blocks, axis=-1), axis=-1)[..., -k:]


def top_k(k: int) -> Filter:
    """Keep the ``k`` most likely tokens, and those that tie with the last of them."""
    if k < 1:
        raise LMError(f"top_k must be at least 1, got {k}")

    def keep(logits: mx.array) -> mx.array:
        if k >= logits.shape[-1]:
            return logits
        return mx.where(logits < largest(logits, k)[..., :1], -mx.inf, logits)

    return keep


def top_p(p: float, k: int = 0) -> Filter:
    """Keep the most likely tokens until they add up to ``p`` (0 < p <= 1), and ties with the last.

    With ``k``, of the ``k`` most likely tokens alone, which is less work than both filters.
    """
    if not 0 < p <= 1:
        raise LMError(f"top_p must be in (0, 1], got {p}")

    def keep(logits: mx.array) -> mx.array:
        if p == 1:
            return logits
        count = logits.shape[-1]
        ranked = largest(logits, min(k, count) if k else count)
        probs = mx.softmax(ranked.astype(mx.float32), axis=-1)
        above = 1 - mx.cumsum(probs, axis=-1)
        last = mx.min(mx.where(above >= p, mx.inf, ranked), axis=-1, keepdims=True)
        # The best token stays whatever rounding does to the sums.
        last = mx.minimum(last, ranked[..., -1:])
        return mx.where(logits < last, -mx.inf, logits)

    return keep


def min_p(p: float) -> Filter:
    """Keep tokens at least ``p`` times as likely as the most likely one (0 <= p <= 1)."""
    if not 0 <= p <= 1:
        raise LMError(f"min_p must be in [0, 1], got {p}")

    def keep(logits: mx.array) -> mx.array:
        if p == 0:
            return logits
        floor = mx.max(logits, axis=-1, keepdims=True) + math.log(p)
        return mx.where(logits < floor, -mx.inf, logits)

    return keep


def xtc(probability: float, threshold: float, keep: tuple[int, ...] = ()) -> KeyedFilter:
    """Exclude the top choices: in a share of draws, keep only the least likely of the tokens that stand out.

    Parameters
    ----------
    probability : float
        Share of the draws that exclude anything, from 0 to 1.
    threshold : float
        Tokens of at least this probability stand out; from 0 to 0.5, so that two can. Where less than two
        do, nothing is excluded.
    keep : tuple of int
        Tokens that are never excluded, such as the end of the text.

    Returns
    -------
    KeyedFilter
        A filter whose second argument is the key of the draw, one draw for each row.
    """
    if not 0 <= probability <= 1:
        raise LMError(f"xtc probability must be in [0, 1], got {probability}")
    if not 0 <= threshold <= 0.5:
        raise LMError(f"xtc threshold must be in [0, 0.5], got {threshold}")
    kept = mx.array(keep, dtype=mx.int32) if keep else None

    def exclude(logits: mx.array, key: mx.array) -> mx.array:
        probs = mx.softmax(logits.astype(mx.float32), axis=-1)
        least = mx.min(mx.where(probs >= threshold, probs, mx.inf), axis=-1, keepdims=True)
        out = mx.where(probs > least, -mx.inf, logits)
        if kept is not None:
            out[..., kept] = logits[..., kept]
        draw = mx.random.uniform(shape=(*logits.shape[:-1], 1), key=key)
        return mx.where(draw < probability, out, logits)

    return exclude


def greedy(logits: mx.array) -> mx.array:
    """Take the most likely token; the lowest id where several tie."""
    return mx.argmax(logits, axis=-1)


def categorical(seed: int) -> Sampler:
    """Draw from the distribution of the logits; the same ``seed`` gives the same draws."""
    state = mx.random.key(seed)

    def draw(logits: mx.array) -> mx.array:
        nonlocal state
        state, key = mx.random.split(state)
        return mx.random.categorical(logits.astype(mx.float32), key=key)

    return draw


def chain(filters: list[Filter], sampler: Sampler) -> Sampler:
    """Return a sampler that applies ``filters`` in order before ``sampler``."""

    def sample(logits: mx.array) -> mx.array:
        for f in filters:
            logits = f(logits)
        return sampler(logits)

    return sample


def make_sampler(
    temp: float = 0.0, top_k_tokens: int = 0, top_p_mass: float = 1.0, min_p_ratio: float = 0.0, seed: int = 0
) -> Sampler:
    """Build the sampler that the usual options describe.

    Parameters
    ----------
    temp : float
        0 for greedy decoding; else the temperature.
    top_k_tokens : int
        Keep this many tokens; 0 for all.
    top_p_mass : float
        Keep this much probability; 1 for all.
    min_p_ratio : float
        Keep tokens this likely relative to the best; 0 for all.
    seed : int
        Seed of the draws.

    Returns
    -------
    Sampler
        Maps logits (..., V) to token ids (...).

    Raises
    ------
    LMError
        An option is out of its range.

    Examples
    --------
    >>> import lamina.core as mx
    >>> make_sampler()(mx.array([[0.0, 3.0, 1.0]])).item()
    1
    """
    if not (temp >= 0 and math.isfinite(temp)):
        raise LMError(f"temperature must be 0 or more and finite, got {temp}")
    if top_k_tokens < 0:
        raise LMError(f"top_k must be 0 (off) or more, got {top_k_tokens}")
    # Built before the greedy shortcut, so that a bad option is named whatever the temperature.
    filters = [top_p(top_p_mass), min_p(min_p_ratio)]
    if top_k_tokens:
        filters.insert(0, top_k(top_k_tokens))
    if temp == 0:
        return greedy
    return chain([temperature(temp), *filters], categorical(seed))
