"""How well a model predicts a text, and how far it is from another model: perplexity, KL divergence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lamina.core as mx
import lamina.nn as nn
from lamina._lazy import numpy as np
from lamina.lm.errors import DataError
from lamina.lm.tokenizer import Tokenizer

Advance = Callable[[int], object]
LOGITS_AT_ONCE = 1 << 24
"""Numbers that a model's head makes at once."""
# Positions that go through a model at once.
_POSITIONS = 2048


@dataclass(frozen=True)
class Score:
    """How well a model predicts a text.

    Attributes
    ----------
    nats : float
        The sum of ``-log p`` over the predicted tokens.
    tokens : int
        How many they are.
    text_bytes : int
        Length of the text in UTF-8.
    """

    nats: float
    tokens: int
    text_bytes: int

    @property
    def perplexity(self) -> float:
        """``exp`` of the mean over tokens."""
        return math.exp(min(self.nats / self.tokens, 709.0))

    @property
    def bits_per_byte(self) -> float:
        """Bits for each byte of the text."""
        return self.nats / math.log(2) / self.text_bytes


@dataclass(frozen=True)
class Comparison:
    """A model beside the one that it was made from, on the same predictions.

    Attributes
    ----------
    score, reference : Score
        How well the two predict the text.
    kl : float
        Mean divergence from the reference's distribution to the model's, in nats.
    kl_max, kl_99 : float
        The largest divergence, and the one that 99 of 100 predictions do not exceed.
    same_top : float
        Part of the predictions in which both hold the same token for the likeliest.
    """

    score: Score
    reference: Score
    kl: float
    kl_max: float
    kl_99: float
    same_top: float


def sliding_windows(count: int, context: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Cut ``count`` ids into windows so that every id but the first is predicted exactly once.

    Yields
    ------
    tuple of int
        ``(start, stop, first)``: feed ids ``start..stop-1``, score the predictions of ids ``first..stop``.
        Windows hold ``context`` ids (one shorter window where ``count`` is small); after the first each
        scores at most ``stride`` new ids, with at least ``context - stride`` ids before them.

    Examples
    --------
    >>> list(sliding_windows(10, 4, 2))
    [(0, 4, 1), (2, 6, 5), (4, 8, 7), (5, 9, 9)]
    """
    if not 1 <= stride <= context:
        raise DataError(f"the stride must be from 1 to the context {context}, got {stride}")
    if count < 2:
        raise DataError(f"wanted at least 2 ids to score, got {count}")
    stop = min(context, count - 1)
    yield 0, stop, 1
    while stop < count - 1:
        first = stop + 1
        stop = min(stop + stride, count - 1)
        yield stop - context, stop, first


@dataclass(frozen=True)
class _Group:
    """Windows that go through a model side by side: inputs and targets (N, L), and which targets count."""

    inputs: mx.array
    targets: mx.array
    counted: np.ndarray


def _groups(
    ids: np.ndarray, context: int, stride: int | None, batch: int, bos: int | None
) -> Iterator[_Group]:
    windows = list(sliding_windows(len(ids), context, max(1, context // 2) if stride is None else stride))
    for at in range(0, len(windows), batch):
        group = windows[at : at + batch]
        inputs = np.stack([ids[start:stop] for start, stop, _ in group])
        if bos is not None:
            inputs[[i for i, (start, _, _) in enumerate(group) if start], 0] = bos
        targets = np.stack([ids[start + 1 : stop + 1] for start, stop, _ in group])
        counted = np.zeros(targets.shape, dtype=bool)
        for row, (start, _, first) in enumerate(group):
            counted[row, first - start - 1 :] = True
        yield _Group(mx.array(inputs), mx.array(targets), counted)


def _pieces(model: Any, group: _Group) -> Iterator[slice]:
    """Yield ranges of positions whose logits are few enough to hold at once."""
    count, length = group.inputs.shape
    # Positions that no window counts are left out.
    first = int(np.argmax(group.counted.any(axis=0)))
    step = max(1, LOGITS_AT_ONCE // (model.config.vocab_size * count))
    for start in range(first, length, step):
        yield slice(start, min(start + step, length))


def total_nats(
    model: Any,
    ids: np.ndarray,
    context: int,
    stride: int | None = None,
    batch: int = 8,
    bos: int | None = None,
    advance: Advance | None = None,
) -> float:
    """Return the sum of ``-log p`` over ``ids[1:]``, each predicted from a window of the ids before it.

    Parameters
    ----------
    model : Module
        A causal language model.
    ids : ndarray
        Token ids (n,).
    context : int
        Ids in a window.
    stride : int, optional
        Ids that a window adds; half the context by default.
    batch : int
        Windows in a forward pass. The result does not depend on it, but for rounding.
    bos : int, optional
        Id to begin every window with, in place of its first.
    advance : callable, optional
        Called with the number of ids scored after each pass.

    Returns
    -------
    float
        Nats, added up in float64.
    """
    nats = 0.0
    for group in _groups(ids, context, stride, batch, bos):
        hidden = model.hidden(group.inputs)
        for part in _pieces(model, group):
            logits = model.head(hidden[:, part]).astype(mx.float32)
            losses = nn.losses.cross_entropy(logits, group.targets[:, part], reduction="none")
            nats += float(np.asarray(losses, dtype=np.float64)[group.counted[:, part]].sum())
        if advance is not None:
            advance(int(group.counted.sum()))
    return nats


def encoded(tokenizer: Tokenizer, text: str) -> tuple[np.ndarray, int | None]:
    """Return the ids of ``text``, and the id that the tokenizer begins texts with, if it does.

    Raises
    ------
    DataError
        The text makes less than two tokens.
    """
    ids, bare = tokenizer.encode(text), tokenizer.encode(text, special=False)
    bos = ids[0] if len(ids) > len(bare) and ids[1 : len(bare) + 1] == bare else None
    ids = ids[: len(bare) + 1] if bos is not None else bare
    if len(ids) < 2:
        raise DataError(f"wanted a text of at least two tokens, got {len(ids)}")
    return np.asarray(ids, dtype=np.int32), bos


def evaluation_context(model: Any, context: int | None = None) -> int:
    """Return how many ids a window has: ``context``, by default 512 or what the model has.

    Raises
    ------
    DataError
        The model has fewer positions.
    """
    longest = model.config.max_position_embeddings
    if context is None:
        return min(512, longest)
    if not 1 <= context <= longest:
        raise DataError(f"the context must be from 1 to the model's {longest}, got {context}")
    return context


def score_text(
    model: Any,
    tokenizer: Tokenizer,
    text: str,
    context: int | None = None,
    stride: int | None = None,
    advance: Advance | None = None,
) -> Score:
    """Return how well a model predicts a text.

    Parameters
    ----------
    model, tokenizer
        The model and its tokenizer.
    text : str
        What to predict.
    context : int, optional
        Tokens in a window; 512 by default, or the model's context where that is less.
    stride : int, optional
        Tokens that a window adds; half the context by default.
    advance : callable, optional
        Called with the number of tokens scored after each pass.

    Raises
    ------
    DataError
        The text is shorter than two tokens, or context or stride do not fit.
    """
    ids, bos = encoded(tokenizer, text)
    context = evaluation_context(model, context)
    batch = max(1, _POSITIONS // context)
    nats = total_nats(model, ids, context, stride, batch, bos, advance)
    return Score(nats, len(ids) - 1, len(text.encode("utf-8")))


def compare_models(
    model: Any,
    reference: Any,
    tokenizer: Tokenizer,
    text: str,
    context: int | None = None,
    stride: int | None = None,
    advance: Advance | None = None,
) -> Comparison:
    """Run two models of one vocabulary over a text and compare their predictions.

    Parameters
    ----------
    model, reference
        The model, and the one that it should be like.
    tokenizer, text, context, stride, advance
        As for :func:`score_text`.

    Raises
    ------
    DataError
        The vocabularies differ in size, or as :func:`score_text`.
    """
    sizes = [m.config.vocab_size for m in (model, reference)]
    if sizes[0] != sizes[1]:
        raise DataError(f"the models' vocabularies differ: {sizes[0]} and {sizes[1]} tokens")
    ids, bos = encoded(tokenizer, text)
    context = min(evaluation_context(m, context) for m in (model, reference))
    batch = max(1, _POSITIONS // context)
    columns: list[np.ndarray] = []
    for group in _groups(ids, context, stride, batch, bos):
        columns += _compared(model, reference, group)
        if advance is not None:
            advance(int(group.counted.sum()))
    own, other, kl, same = np.concatenate(columns, axis=1)
    size = len(text.encode("utf-8"))
    return Comparison(
        Score(float(own.sum()), len(own), size),
        Score(float(other.sum()), len(own), size),
        float(kl.mean()),
        float(kl.max()),
        float(np.quantile(kl, 0.99)),
        float(same.mean()),
    )


def _compared(model: Any, reference: Any, group: _Group) -> list[np.ndarray]:
    """Return, for the predictions that count, rows of: nats of both, divergence, the same likeliest token."""
    hidden = [m.hidden(group.inputs) for m in (model, reference)]
    found = []
    for part in _pieces(model, group):
        targets = group.targets[:, part][..., None]
        logits = [
            m.head(h[:, part]).astype(mx.float32) for m, h in zip((model, reference), hidden, strict=True)
        ]
        own, other = (x - mx.logsumexp(x, axis=-1, keepdims=True) for x in logits)
        parts = [
            -mx.take_along_axis(own, targets, axis=-1)[..., 0],
            -mx.take_along_axis(other, targets, axis=-1)[..., 0],
            (mx.exp(other) * (other - own)).sum(axis=-1),
            mx.argmax(own, axis=-1) == mx.argmax(other, axis=-1),
        ]
        counted = group.counted[:, part]
        found.append(np.stack([np.asarray(p, dtype=np.float64)[counted] for p in parts]))
    return found


def read_text(paths: Sequence[str]) -> str:
    """Read text files, or the text files below directories, one after another.

    Raises
    ------
    DataError
        A path is missing, or no file has any text.
    """
    from lamina.lm.train.data import read_documents

    return "\n\n".join(read_documents(paths))
