"""Detokenizers of every family: pieces put together are what the decoder gives, and no character is split."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lamina.lm import Tokenizer
from lamina.lm.detokenize import ByteDetokenizer, PieceDetokenizer, TextDetokenizer, WordDetokenizer
from tokenizers import AddedToken, decoders, models
from tokenizers import Tokenizer as HFTokenizer

MARK, LOST = "▁", "\N{REPLACEMENT CHARACTER}"
SCRIPTS = (
    "The fox. Größe naïve; русский текст, ελληνικά, עברית, العربية, हिन्दी में, ภาษาไทย, 한국어, 日本語の文,"
    " 中文。\n\t👩\u200d🚀👨\u200d👩\u200d👧 🏳️\u200d🌈 🇨🇭 e\u0301 \u200f𝔘𝔫𝔦"
)
BLANKS = decoders.Replace(MARK, " ")
FAMILIES = {
    "llama": (
        [BLANKS, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)],
        PieceDetokenizer,
    ),
    "gemma": ([BLANKS, decoders.ByteFallback(), decoders.Fuse()], PieceDetokenizer),
    "strip two": (
        [BLANKS, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 2, 0)],
        PieceDetokenizer,
    ),
    "unigram": ([decoders.Metaspace()], PieceDetokenizer),
    "unigram, no prefix": ([decoders.Metaspace(prepend_scheme="never")], PieceDetokenizer),
    "suffixes": ([decoders.BPEDecoder("</w>")], TextDetokenizer),
    "bytes": ([decoders.ByteLevel()], ByteDetokenizer),
    "bert": ([decoders.WordPiece()], WordDetokenizer),
    "bert, as it is": ([decoders.WordPiece(cleanup=False)], WordDetokenizer),
}
WORDS = [
    MARK,
    MARK * 2,
    MARK + "the",
    "fox",
    "日本",
    "語",
    "👩\u200d",
    "é",
    ".",
    "##s",
    "##.",
    "n't",
    "'",
    "!",
    "a</w>",
]


def make(steps) -> Tokenizer:
    vocab = {"<unk>": 0, "</s>": 1, **{f"<0x{b:02X}>": b + 2 for b in range(256)}}
    for word in WORDS:
        vocab.setdefault(word, len(vocab))
    inner = HFTokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True, unk_token="<unk>"))
    inner.add_special_tokens(["</s>"])
    inner.add_tokens([AddedToken("<tool>", normalized=False)])
    inner.decoder = steps[0] if len(steps) == 1 else decoders.Sequence(steps)
    return Tokenizer(inner)


MADE = {name: make(steps) for name, (steps, _) in FAMILIES.items()}


def pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    detokenizer = tokenizer.detokenizer()
    return [detokenizer.add(i) for i in ids] + [detokenizer.finish()]


def byte_ids(text: str) -> list[int]:
    return [b + 2 for b in text.encode()]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_kind_follows_the_decoder(name):
    assert type(MADE[name].detokenizer()) is FAMILIES[name][1]


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=40)
@given(data=st.data())
def test_any_whole_pieces_give_what_decode_gives(name, data):
    tokenizer = MADE[name]
    choices = [0, 1, *range(258, tokenizer.vocab_size)]
    ids = data.draw(st.lists(st.sampled_from(choices), max_size=12))
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


@pytest.mark.parametrize("name", ["llama", "gemma", "strip two"])
@settings(max_examples=40)
@given(parts=st.lists(st.sampled_from([*SCRIPTS, *SCRIPTS.split(" ")]) | st.integers(258, 270)))
def test_bytes_among_pieces_become_whole_characters(name, parts):
    tokenizer = MADE[name]
    ids = [i for p in parts for i in ([p] if isinstance(p, int) else byte_ids(p))]
    out = pieces(tokenizer, ids)
    assert "".join(out) == tokenizer.decode(ids)
    assert LOST not in "".join(out)


@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_every_script_byte_by_byte(name):
    out = pieces(MADE[name], byte_ids(SCRIPTS))
    assert "".join(out) == SCRIPTS
    assert [len(p) for p in out if p] == [1] * len(SCRIPTS)


def test_bytes_that_are_no_text():
    tokenizer = MADE["gemma"]
    fox = tokenizer.token_id("fox")
    assert pieces(tokenizer, [0xE2 + 2, fox]) == ["", LOST + "fox", ""]
    assert pieces(tokenizer, [0xFF + 2, fox]) == [LOST, "fox", ""]
    assert pieces(tokenizer, [fox, 0xE2 + 2, 0x82 + 2]) == ["fox", "", "", LOST]


def test_words_come_with_the_blank_before_them():
    tokenizer = MADE["bert"]
    ids = [tokenizer.token_id(w) for w in ("fox", "##s", "fox", ".", "n't", "##.")]
    assert pieces(tokenizer, ids) == ["fox", "s", " fox", ".", "n't", ".", ""]


@pytest.mark.parametrize("name", FAMILIES)
def test_special_and_unknown_ids_are_silent(name):
    tokenizer = MADE[name]
    fox = tokenizer.token_id("fox")
    assert pieces(tokenizer, [1, 99999, fox, 1])[:3:2] == ["", tokenizer.decode([fox])]
