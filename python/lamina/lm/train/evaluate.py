"""Held-out quality: bits per byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from lamina.lm.errors import DataError
from lamina.lm.evaluate import total_nats
from lamina.lm.models import Llama
from lamina.lm.tokenizer import Tokenizer
from lamina.lm.train.data import encode_documents


def total_bits(
    model: Llama,
    ids: np.ndarray,
    stride: int | None = None,
    batch: int = 8,
    advance: Callable[[int], None] | None = None,
) -> float:
    """Return the sum of ``-log2 p`` over ``ids[1:]``, each predicted from a window as long as the context.

    Parameters
    ----------
    model, ids, stride, batch, advance
        As :func:`lamina.lm.evaluate.total_nats`.

    Returns
    -------
    float
        Bits.
    """
    context = model.config.max_position_embeddings
    return total_nats(model, ids, context, stride, batch, advance=advance) / math.log(2)


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
