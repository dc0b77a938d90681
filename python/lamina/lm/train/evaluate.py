"""Held-out quality: bits per byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.errors import DataError
from lamina.lm.models import Llama
from lamina.lm.tokenizer import Tokenizer
from lamina.lm.train.data import encode_documents


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


def total_bits(
    model: Llama,
    ids: np.ndarray,
    stride: int | None = None,
    batch: int = 8,
    advance: Callable[[int], None] | None = None,
) -> float:
    """Return the sum of ``-log2 p`` over ``ids[1:]``, each predicted from a window of the ids before it.

    Parameters
    ----------
    model : Llama
        The model; windows are as long as its context.
    ids : ndarray
        Token ids (n,).
    stride : int, optional
        Ids that a window adds; half the context by default.
    batch : int
        Windows in a forward pass. The result does not depend on it, but for rounding.
    advance : callable, optional
        Called with the number of ids scored after each pass.

    Returns
    -------
    float
        Bits, added up in float64.
    """
    context = model.config.max_position_embeddings
    windows = list(sliding_windows(len(ids), context, stride or max(1, context // 2)))
    bits = 0.0
    for at in range(0, len(windows), batch):
        group = windows[at : at + batch]
        inputs = np.stack([ids[start:stop] for start, stop, _ in group])
        targets = np.stack([ids[start + 1 : stop + 1] for start, stop, _ in group])
        logits = model(mx.array(inputs)).astype(mx.float32)
        nats = np.array(
            nn.losses.cross_entropy(logits, mx.array(targets), reduction="none"), dtype=np.float64
        )
        scored = 0
        for row, (start, stop, first) in enumerate(group):
            bits += float(nats[row, first - start - 1 :].sum()) / math.log(2)
            scored += stop - first + 1
        if advance is not None:
            advance(scored)
    return bits


def cut_documents(documents: Sequence[str], limit: int) -> list[str]:
    """Return the first ``limit`` characters of the documents, as documents; all of them where limit is 0."""
    if not limit:
        return list(documents)
    kept: list[str] = []
    for document in documents:
        kept.append(document[:limit])
        limit -= len(kept[-1])
        if not limit:
            break
    return kept


def bits_per_byte(
    model: Llama,
    tokenizer: Tokenizer,
    documents: Sequence[str],
    separator: int,
    stride: int | None = None,
    batch: int = 8,
    advance: Callable[[int], None] | None = None,
) -> float:
    """Return the bits per UTF-8 byte that ``model`` needs for ``documents`` one after another.

    The separators between documents are counted as bits (the model pays for them) but not as bytes.

    Parameters
    ----------
    model, tokenizer
        The model and its tokenizer.
    documents : sequence of str
        Text that the model has not seen.
    separator : int
        Id before each document; the first one is given, not predicted.
    stride, batch, advance
        As :func:`total_bits`.

    Returns
    -------
    float
        Bits per byte.

    Raises
    ------
    DataError
        There is no text.
    """
    if not any(documents):
        raise DataError("no text to evaluate on")
    ids = np.concatenate(encode_documents(tokenizer, documents, separator))
    return total_bits(model, ids, stride, batch, advance) / sum(len(d.encode("utf-8")) for d in documents)
