"""Ids to text, one by one: pieces that never split a character and that put together are the whole text.

Which of the classes a tokenizer wants is read off its decoder. Bytes that are not UTF-8 come as U+FFFD.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer as HFTokenizer

if TYPE_CHECKING:
    from lamina.lm.tokenizer import Tokenizer

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_MARK = "▁"  # stands for a blank in the vocabularies of SentencePiece


class Detokenizer:
    """Turns ids, one by one, into pieces of text that never split a character."""

    def add(self, token: int) -> str:
        """Take one id; return the text that became complete with it, perhaps none."""
        raise NotImplementedError

    def finish(self) -> str:
        """Return what is left: an unfinished character as U+FFFD."""
        raise NotImplementedError


class ByteDetokenizer(Detokenizer):
    """For byte-level tokenizers: bytes through an incremental UTF-8 decoder, exact for any ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        """Take one id; return the characters that became whole."""
        if self._tokenizer.visible_piece(token) is None:
            return ""  # also rows that pad a model's vocabulary beyond the tokenizer's
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def finish(self) -> str:
        """Return an unfinished character as U+FFFD."""
        return self._decoder.decode(b"", final=True)


class PieceDetokenizer(Detokenizer):
    """For SentencePiece vocabularies: marks are blanks, ``<0xNN>`` a byte of a character without a piece.

    Parameters
    ----------
    tokenizer : Tokenizer
        The tokenizer.
    mark : str
        The character that stands for a blank.
    leading : int
        Blanks to drop at the start of the text.
    first_piece : bool
        Drop the marks of the first piece instead.
    byte_pieces : bool
        Whether ``<0xNN>`` is a byte.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        mark: str = _MARK,
        leading: int = 0,
        first_piece: bool = False,
        byte_pieces: bool = True,
    ) -> None:
        self._tokenizer = tokenizer
        self._mark = mark
        self._leading = leading
        self._first_piece = first_piece
        self._byte_pieces = byte_pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        """Take one id; return its text, or the characters that its byte completes."""
        piece = self._tokenizer.visible_piece(token)
        if piece is None:
            return ""
        byte = _BYTE_PIECE.fullmatch(piece) if self._byte_pieces else None
        if byte is not None:
            self._first_piece = False
            return self._without_leading(self._decoder.decode(bytes([int(byte[1], 16)])))
        blank = "" if self._first_piece else " "
        self._first_piece = False
        unfinished = self._decoder.decode(b"", final=True)
        return self._without_leading(unfinished + piece.replace(self._mark, blank))

    def finish(self) -> str:
        """Return an unfinished character as U+FFFD."""
        return self._decoder.decode(b"", final=True)

    def _without_leading(self, text: str) -> str:
        if not self._leading or not text:
            return text
        kept = text.lstrip(" ")
        dropped = min(self._leading, len(text) - len(kept))
        self._leading = self._leading - dropped if not kept else 0
        return text[dropped:]


class WordDetokenizer(Detokenizer):
    """For WordPiece vocabularies: pieces with the prefix go on with a word, the others begin one.

    Parameters
    ----------
    tokenizer : Tokenizer
        The tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._first = True

    def add(self, token: int) -> str:
        """Take one id; return its text with the blank before it."""
        piece = self._tokenizer.visible_piece(token)
        if piece is None:
            return ""
        if self._first:
            self._first = False
            return self._tokenizer.decode_pieces([piece])
        # The decoder treats the first piece apart; it looks at each by itself.
        return self._tokenizer.decode_pieces(["x", piece])[1:]

    def finish(self) -> str:
        """Return nothing: pieces are whole."""
        return ""


class TextDetokenizer(Detokenizer):
    """For other tokenizers: decodes a short window of ids again and returns what is new and complete."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = 0  # ids of the window whose text was returned

    def add(self, token: int) -> str:
        """Take one id; return its text unless a character is unfinished."""
        self._ids.append(token)
        piece = self._new_text()
        if not piece or piece.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        # One returned piece stays as context of the next.
        self._ids = self._ids[self._shown :]
        self._shown = len(self._ids)
        return piece

    def finish(self) -> str:
        """Return the text held back."""
        return self._new_text()

    def _new_text(self) -> str:
        decode = self._tokenizer.decode
        return decode(self._ids)[len(decode(self._ids[: self._shown])) :]


def decoder_steps(inner: HFTokenizer) -> Sequence[Mapping[str, Any]]:
    """Return what the decoder of a tokenizer does, step by step, each as its JSON object."""
    decoder = inner.decoder
    # The state of the decoder alone: the JSON of the whole tokenizer has every piece of the vocabulary.
    return [] if decoder is None else _flat(json.loads(decoder.__getstate__()))


def make_detokenizer(tokenizer: Tokenizer, steps: Sequence[Mapping[str, Any]]) -> Detokenizer:
    """Return a fresh detokenizer of the kind that the decoder's ``steps`` ask for."""
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"]:
        return ByteDetokenizer(tokenizer)
    if kinds == ["WordPiece"]:
        return WordDetokenizer(tokenizer)
    if kinds == ["Metaspace"]:
        keeps = steps[0].get("prepend_scheme", "always") == "never"
        mark = steps[0].get("replacement", _MARK)
        return PieceDetokenizer(tokenizer, mark, first_piece=not keeps, byte_pieces=False)
    if kinds[:3] == ["Replace", "ByteFallback", "Fuse"] and _is_blank_mark(steps[0]):
        mark, rest = steps[0]["pattern"]["String"], steps[3:]
        if not rest:
            return PieceDetokenizer(tokenizer, mark)
        strip = rest[0]
        plain = strip.get("type") == "Strip" and strip.get("content") == " " and not strip.get("stop")
        if len(rest) == 1 and plain:
            return PieceDetokenizer(tokenizer, mark, leading=strip.get("start", 0))
    return TextDetokenizer(tokenizer)


def _flat(decoder: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    if decoder.get("type") != "Sequence":
        return [decoder]
    return [step for part in decoder["decoders"] for step in _flat(part)]


def _is_blank_mark(step: Mapping[str, Any]) -> bool:
    return step.get("content") == " " and len(step.get("pattern", {}).get("String", "")) == 1
