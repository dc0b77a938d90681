"""Vocabularies in SentencePiece's ``tokenizer.model``, read without its library.

The file is one protocol buffer: pieces (field 1: spelling, score, type), the trainer's settings (field 2) and
the normalizer's (field 3).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from lamina.lm.errors import CheckpointError
from lamina.lm.vocabulary.build import TokenType, Vocabulary

_UNIGRAM, _BPE = 1, 2


def vocabulary_from_sentencepiece(path: str | Path) -> Vocabulary:
    """Read a SentencePiece model of the kinds BPE and Unigram.

    Raises
    ------
    CheckpointError
        The file cannot be read, is damaged, or is of another kind.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        raise CheckpointError(f"cannot read {path}: {e.strerror}") from e
    try:
        return _vocabulary(data)
    except (ValueError, IndexError, struct.error) as e:
        raise CheckpointError(f"{path} is not a usable SentencePiece model: {e}") from e


def _vocabulary(data: bytes) -> Vocabulary:
    tokens, scores, types = [], [], []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for field, value in _fields(data):
        if field == 1:
            piece = dict(_fields(_message(value)))
            tokens.append(_message(piece.get(1, b"")).decode("utf-8"))
            scores.append(struct.unpack("<f", _message(piece.get(2, b"\0\0\0\0")))[0])
            types.append(int(piece.get(3, TokenType.NORMAL)))
        elif field == 2:
            trainer = dict(_fields(_message(value)))
        elif field == 3:
            normalizer = dict(_fields(_message(value)))
    kind = int(trainer.get(3, _UNIGRAM))
    if kind not in (_UNIGRAM, _BPE) or not tokens:
        raise ValueError(f"model type {kind} with {len(tokens)} pieces; wanted 1 (unigram) or 2 (BPE)")

    def number(field: int, default: int) -> int | None:
        value = int(trainer.get(field, default))
        value = value - (1 << 64) if value >= 1 << 63 else value
        return value if 0 <= value < len(tokens) else None

    eos = number(42, 2)
    return Vocabulary(
        "pieces" if kind == _BPE else "unigram",
        tokens,
        types,
        scores=scores,
        unk_id=number(40, 0),
        bos_id=number(41, 1),
        eos_id=eos,
        pad_id=number(43, -1),
        end_ids=() if eos is None else (eos,),
        add_space_prefix=bool(normalizer.get(3, 1)),
        merge_spaces=bool(normalizer.get(4, 1)),
        characters=_message(normalizer.get(2, b"")),
    )


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where a message is wanted")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the numbers and contents of a message's fields: integers, else bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield field, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} of field {field}")
        if at + length > len(data):
            raise ValueError(f"field {field} ends at byte {at + length} of {len(data)}")
        yield field, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if not byte & 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"a number of more than ten bytes at {at}")
