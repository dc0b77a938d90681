"""A vocabulary as data, and the tokenizer that it makes."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as HFTokenizer

from lamina.lm.errors import CheckpointError
from lamina.lm.vocabulary.pretokenizers import cut_named, pre_tokenizer

SPACE = "\u2581"  # what SentencePiece writes for a space


class TokenType(enum.IntEnum):
    """What a token is, by the numbers of GGUF and of SentencePiece."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in the order of their ids, and how a text becomes tokens.

    Attributes
    ----------
    kind : str
        ``"bytes"`` (merges over bytes, as GPT-2's), ``"pieces"`` (SentencePiece: the best-scored merge
        first) or ``"unigram"`` (SentencePiece: the likeliest cut).
    tokens : sequence of str
        Spellings; bytes as their stand-in characters, spaces as U+2581 in the SentencePiece kinds.
    types : sequence of int
        A :class:`TokenType` for each token.
    scores : sequence of float
        Of each token, in the SentencePiece kinds.
    merges : sequence of str
        ``"left right"`` in order of rank, for bytes.
    cut : str or None
        GGUF's name of how text is cut into words, for bytes.
    architecture : str
        The model's, for files without a name of the cut.
    bos_id, eos_id, unk_id, pad_id : int or None
        Tokens with a role.
    end_ids : tuple of int
        All ids that end a text or a turn, ``eos_id`` among them.
    add_bos, add_eos : bool or None
        Whether texts begin and end with those tokens; None where nothing says.
    add_space_prefix : bool
        Whether SentencePiece puts a space before the text.
    merge_spaces : bool
        Whether SentencePiece makes runs of spaces one space, and drops those at the ends.
    characters : bytes
        SentencePiece's compiled table of replaced characters; empty for none.
    chat_template : str or None
        Jinja text that writes a conversation.
    """

    kind: str
    tokens: Sequence[str]
    types: Sequence[int]
    scores: Sequence[float] = ()
    merges: Sequence[str] = ()
    cut: str | None = None
    architecture: str = ""
    bos_id: int | None = None
    eos_id: int | None = None
    unk_id: int | None = None
    pad_id: int | None = None
    end_ids: tuple[int, ...] = ()
    add_bos: bool | None = None
    add_eos: bool | None = None
    add_space_prefix: bool = True
    merge_spaces: bool = False
    characters: bytes = b""
    chat_template: str | None = None

    def __post_init__(self) -> None:
        count = len(self.tokens)
        if len(self.types) != count:
            raise CheckpointError(f"the vocabulary has {count} tokens, but types for {len(self.types)}")
        if self.kind != "bytes" and len(self.scores) != count:
            raise CheckpointError(f"the vocabulary has {count} tokens, but scores for {len(self.scores)}")
        for name in ("bos_id", "eos_id", "unk_id", "pad_id"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < count:
                raise CheckpointError(f"the vocabulary's {name} is {value}, wanted 0 to {count - 1}")

    def role(self, name: str) -> str | None:
        """Return the spelling of the token with the role ``"bos"``, ``"eos"``, ``"unk"`` or ``"pad"``."""
        number: int | None = getattr(self, f"{name}_id")
        return None if number is None else self.tokens[number]


def build_tokenizer(vocabulary: Vocabulary) -> HFTokenizer:
    """Return the tokenizer that a vocabulary describes.

    Raises
    ------
    CheckpointError
        The vocabulary contradicts itself, or cuts text in a way that is not known.

    Examples
    --------
    >>> v = Vocabulary("pieces", ["<unk>", "\u2581", "a", "b", "\u2581a", "ab"], [2, 1, 1, 1, 1, 1],
    ...                scores=[0, -3, -4, -5, -1, -2], unk_id=0)
    >>> build_tokenizer(v).encode("ab a").tokens
    ['\u2581a', 'b', '\u2581a']
    """
    ids = {token: i for i, token in enumerate(vocabulary.tokens)}
    if len(ids) != len(vocabulary.tokens):
        twice = next(t for i, t in enumerate(vocabulary.tokens) if ids[t] != i)
        raise CheckpointError(f"the vocabulary holds {twice!r} twice")
    try:
        inner = _BUILDERS[vocabulary.kind](vocabulary, ids)
    except KeyError:
        raise CheckpointError(f"vocabulary kind {vocabulary.kind!r} is not supported") from None
    _add_tokens(inner, vocabulary)
    return inner


def _bytes_tokenizer(vocabulary: Vocabulary, ids: dict[str, int]) -> HFTokenizer:
    cut = cut_named(vocabulary.cut, vocabulary.architecture)
    merges: Any = [tuple(m.split(" ")) for m in vocabulary.merges]
    try:
        model = models.BPE(ids, merges, ignore_merges=cut.ignore_merges)
    except Exception as e:  # the library raises bare Exception
        raise CheckpointError(f"the merges do not fit the tokens: {e}") from e
    inner = HFTokenizer(model)
    if cut.nfc:
        inner.normalizer = normalizers.NFC()  # type: ignore[assignment]
    inner.pre_tokenizer = pre_tokenizer(cut)  # type: ignore[assignment]
    inner.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    add_bos = cut.add_bos if vocabulary.add_bos is None else vocabulary.add_bos
    template = _template(vocabulary, add_bos, bool(vocabulary.add_eos))
    first = processors.ByteLevel(trim_offsets=False)
    # The type checker does not know that attributes of the library's own classes can be set.
    inner.post_processor = processors.Sequence([first, *template]) if template else first  # type: ignore
    return inner


def _pieces_tokenizer(vocabulary: Vocabulary, ids: dict[str, int]) -> HFTokenizer:
    has_bytes = all(f"<0x{b:02X}>" in ids for b in range(256))
    unknown = vocabulary.role("unk")
    model = models.BPE(
        ids, _merges_by_score(vocabulary, ids), unk_token=unknown, fuse_unk=True, byte_fallback=has_bytes
    )
    inner = HFTokenizer(model)
    steps: list[normalizers.Normalizer] = _spaces(vocabulary)
    if vocabulary.add_space_prefix:
        steps.append(normalizers.Prepend(SPACE))
    steps.append(normalizers.Replace(" ", SPACE))
    inner.normalizer = normalizers.Sequence(steps)  # type: ignore[assignment]
    _finish_pieces(inner, vocabulary)
    return inner


def _unigram_tokenizer(vocabulary: Vocabulary, ids: dict[str, int]) -> HFTokenizer:
    has_bytes = all(f"<0x{b:02X}>" in ids for b in range(256))
    pairs = list(zip(vocabulary.tokens, map(float, vocabulary.scores), strict=True))
    inner = HFTokenizer(models.Unigram(pairs, unk_id=vocabulary.unk_id, byte_fallback=has_bytes))
    steps = _spaces(vocabulary)
    if steps:
        inner.normalizer = normalizers.Sequence(steps)  # type: ignore[assignment]
    scheme = "always" if vocabulary.add_space_prefix else "never"
    inner.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, scheme, split=False)  # type: ignore[assignment]
    _finish_pieces(inner, vocabulary)
    return inner


_BUILDERS = {"bytes": _bytes_tokenizer, "pieces": _pieces_tokenizer, "unigram": _unigram_tokenizer}


def _spaces(vocabulary: Vocabulary) -> list[normalizers.Normalizer]:
    steps: list[normalizers.Normalizer] = []
    if vocabulary.characters:
        steps.append(normalizers.Precompiled(vocabulary.characters))
    if vocabulary.merge_spaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    return steps


def _finish_pieces(inner: HFTokenizer, vocabulary: Vocabulary) -> None:
    """Set how pieces are decoded, and what begins and ends a text."""
    steps: list[decoders.Decoder] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if vocabulary.add_space_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    inner.decoder = decoders.Sequence(steps)  # type: ignore[assignment]
    add_bos = True if vocabulary.add_bos is None else vocabulary.add_bos
    template = _template(vocabulary, add_bos, bool(vocabulary.add_eos))
    if template:
        inner.post_processor = template[0]  # type: ignore[assignment]


def _template(vocabulary: Vocabulary, bos: bool, eos: bool) -> list[processors.TemplateProcessing]:
    ends = [
        i for i, wanted in ((vocabulary.bos_id, bos), (vocabulary.eos_id, eos)) if wanted and i is not None
    ]
    if not ends:
        return []
    names = [(vocabulary.tokens[i], i) for i in dict.fromkeys(ends)]
    before = [vocabulary.tokens[vocabulary.bos_id]] if bos and vocabulary.bos_id is not None else []
    after = [vocabulary.tokens[vocabulary.eos_id]] if eos and vocabulary.eos_id is not None else []
    single = [*before, "$A", *after]
    pair = [*single, *(f"{t}:1" for t in before), "$B:1", *(f"{t}:1" for t in after)]
    return [processors.TemplateProcessing(single=single, pair=pair, special_tokens=names)]


def _merges_by_score(vocabulary: Vocabulary, ids: dict[str, int]) -> list[tuple[str, str]]:
    """Return every way to make a piece of two, the best-scored piece first.

    SentencePiece merges the pair whose whole scores best; all ways to make one piece are equal to it. Among
    them the order is by the ids of the halves.
    """
    part = (TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED)
    pieces = {t: i for t, i in ids.items() if vocabulary.types[i] in part}
    found: list[tuple[float, int, int]] = []
    for piece, number in pieces.items():
        score = -vocabulary.scores[number]
        for at in range(1, len(piece)):
            left, right = pieces.get(piece[:at]), pieces.get(piece[at:])
            if left is not None and right is not None:
                found.append((score, left, right))
    found.sort()
    tokens = vocabulary.tokens
    return [(tokens[left], tokens[right]) for _, left, right in found]


def _add_tokens(inner: HFTokenizer, vocabulary: Vocabulary) -> None:
    """Tell the tokenizer which tokens are found in the text as a whole."""
    special, plain = [], []
    roles = {vocabulary.unk_id, vocabulary.bos_id, vocabulary.eos_id} - {None}
    for i, kind in enumerate(vocabulary.types):
        if kind in (TokenType.CONTROL, TokenType.UNKNOWN) or i in roles:
            special.append(AddedToken(vocabulary.tokens[i], special=True, normalized=False))
        elif kind == TokenType.USER_DEFINED:
            plain.append(AddedToken(vocabulary.tokens[i], special=False, normalized=False))
    inner.add_special_tokens(special)
    inner.add_tokens(plain)
