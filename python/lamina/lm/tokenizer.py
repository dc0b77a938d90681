"""Text to token ids and back, over the ``tokenizers`` library and a ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer as HFTokenizer

from lamina.lm.detokenize import Detokenizer, decoder_steps, make_detokenizer
from lamina.lm.errors import CheckpointError, LMError, PromptError


def byte_alphabet() -> dict[str, int]:
    """Return the byte-level BPE alphabet: printable stand-in character -> byte.

    Printable Latin-1 bytes stand for themselves; the others are numbered from U+0100 in byte order.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in set(plain)]
    return {**{chr(b): b for b in plain}, **{chr(0x100 + i): b for i, b in enumerate(rest)}}


class Tokenizer:
    """A tokenizer with the ids that begin and end a text.

    Parameters
    ----------
    inner : tokenizers.Tokenizer
        The tokenizer itself.
    eos_ids : iterable of int
        Ids that end a text; generation stops there.
    chat_template : str, optional
        Jinja text that writes a conversation, as published with the model.
    special_tokens : Mapping[str, str], optional
        Spellings by role: ``"bos_token"``, ``"eos_token"`` and the like, as chat templates name them.
    chat_templates : Mapping[str, str], optional
        Further templates by name (``"tool_use"``, say).
    """

    def __init__(
        self,
        inner: HFTokenizer,
        eos_ids: Iterable[int] = (),
        chat_template: str | None = None,
        special_tokens: Mapping[str, str] | None = None,
        chat_templates: Mapping[str, str] | None = None,
    ) -> None:
        self.inner = inner
        self.eos_ids = frozenset(eos_ids)
        self.chat_template = chat_template
        self.special_tokens = dict(special_tokens or {})
        self.chat_templates = dict(chat_templates or {})
        self._decoder_steps = decoder_steps(inner)
        self.byte_level = [step.get("type") for step in self._decoder_steps] == ["ByteLevel"]
        self._special = frozenset(i for i, t in inner.get_added_tokens_decoder().items() if t.special)
        self._alphabet = byte_alphabet()

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""
        return self.inner.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Return the ids of ``text``; with ``special``, also those its template adds (a leading BOS, say).

        Raises
        ------
        PromptError
            The text holds halves of surrogate pairs.
        """
        try:
            return self.inner.encode(text, add_special_tokens=special).ids
        except TypeError as error:  # of half characters, as undecodable bytes of a command line become
            raise PromptError(f"wanted text of whole Unicode characters, got {text[:40]!r}") from error

    def encode_batch(self, texts: Sequence[str], special: bool = False) -> list[list[int]]:
        """Return the ids of many texts, encoded side by side."""
        return [e.ids for e in self.inner.encode_batch(list(texts), add_special_tokens=special)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, special tokens left out, bytes that are not UTF-8 as U+FFFD."""
        return self.inner.decode(list(ids), skip_special_tokens=True)

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that ``token`` stands for in a byte-level tokenizer; none for a special token.

        Raises
        ------
        LMError
            The id is outside the vocabulary.
        """
        if token in self._special:
            return b""
        piece = self.inner.id_to_token(token)
        if piece is None:
            raise LMError(f"token id {token} is outside the vocabulary of {self.vocab_size}")
        if all(c in self._alphabet for c in piece):
            return bytes(self._alphabet[c] for c in piece)
        return piece.encode("utf-8")  # an added token, stored as plain text

    def visible_piece(self, token: int) -> str | None:
        """Return how the vocabulary spells ``token``; None for a special or an unknown one."""
        return None if token in self._special else self.inner.id_to_token(token)

    def decode_pieces(self, pieces: Sequence[str]) -> str:
        """Return the text that the decoder makes of spellings."""
        return self.inner.decoder.decode(list(pieces))

    def token_id(self, token: str) -> int | None:
        """Return the id of a token by its spelling; None where the vocabulary does not have it."""
        return self.inner.token_to_id(token)

    def detokenizer(self) -> Detokenizer:
        """Return a fresh incremental detokenizer."""
        return make_detokenizer(self, self._decoder_steps)

    def save(self, path: str | Path) -> None:
        """Write ``tokenizer.json`` to ``path``."""
        Path(path).write_text(self.inner.to_str(pretty=False), encoding="utf-8")


def load_tokenizer(path: str | Path, eos_ids: Iterable[int] = ()) -> Tokenizer:
    """Read a ``tokenizer.json``.

    Raises
    ------
    CheckpointError
        The file is missing or is not a tokenizer.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no tokenizer at {path}: wanted a tokenizer.json")
    try:
        inner = HFTokenizer.from_file(str(path))
    except Exception as e:  # the library raises bare Exception
        raise CheckpointError(f"{path} is not a usable tokenizer.json: {e}") from e
    return Tokenizer(inner, eos_ids)
