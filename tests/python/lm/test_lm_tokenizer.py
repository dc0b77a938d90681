"""Tokenizer and incremental detokenizers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamina.lm import CheckpointError, ConfigError, LMError, Tokenizer, load_tokenizer
from lamina.lm.detokenize import ByteDetokenizer
from lamina.lm.tokenizer import byte_alphabet
from lamina.lm.train.bpe import SEPARATOR, train_tokenizer
from lm.lm_helpers import TEXTS

BYTE_LEVEL = train_tokenizer(TEXTS, 300)


def pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    detokenizer = tokenizer.detokenizer()
    return [detokenizer.add(i) for i in ids] + [detokenizer.finish()]


def test_the_alphabet_covers_every_byte_once():
    alphabet = byte_alphabet()
    assert sorted(alphabet.values()) == list(range(256))
    assert (alphabet["A"], alphabet["Ġ"], alphabet["Ċ"]) == (0x41, 0x20, 0x0A)


@given(st.text())
def test_any_text_survives(text):
    ids = BYTE_LEVEL.encode(text)
    assert ids[0] == 0
    assert BYTE_LEVEL.inner.id_to_token(0) == SEPARATOR
    if SEPARATOR not in text:
        assert BYTE_LEVEL.decode(ids) == text
        assert "".join(pieces(BYTE_LEVEL, ids)) == text


@given(st.text(alphabet="aé日🎉👩\u200d🚀 \n", min_size=1), st.integers(0, 2**32))
def test_pieces_never_split_a_character(text, seed):
    """The text's bytes cut at random places, part by part: every way to spell it gives whole characters."""
    raw = text.encode("utf-8")
    rng = random.Random(seed)
    by_bytes = {BYTE_LEVEL.token_bytes(i): i for i in range(1, BYTE_LEVEL.vocab_size)}
    ids, at = [], 0
    while at < len(raw):
        sizes = [n for n in range(1, 9) if raw[at : at + n] in by_bytes and at + n <= len(raw)]
        size = rng.choice(sizes)
        ids.append(by_bytes[raw[at : at + size]])
        at += size
    out = pieces(BYTE_LEVEL, ids)
    assert "".join(out) == text
    assert all("\N{REPLACEMENT CHARACTER}" not in p for p in out)


@given(st.lists(st.integers(0, BYTE_LEVEL.vocab_size - 1)))
def test_any_ids_give_what_decode_gives(ids):
    assert "".join(pieces(BYTE_LEVEL, ids)) == BYTE_LEVEL.decode(ids)


def test_a_character_comes_with_its_last_byte():
    ids = [
        BYTE_LEVEL.inner.token_to_id(c) for c, b in byte_alphabet().items() for w in "€".encode() if b == w
    ]
    by_byte = {BYTE_LEVEL.token_bytes(i): i for i in ids}
    assert pieces(BYTE_LEVEL, [by_byte[bytes([b])] for b in "€".encode()]) == ["", "", "€", ""]
    assert pieces(BYTE_LEVEL, [by_byte[b"\xe2"]]) == ["", "\N{REPLACEMENT CHARACTER}"]


def test_special_tokens_are_silent_and_unknown_ids_an_error():
    assert BYTE_LEVEL.token_bytes(0) == b""
    assert isinstance(BYTE_LEVEL.detokenizer(), ByteDetokenizer)
    with pytest.raises(LMError, match="token id 9999 is outside the vocabulary of"):
        BYTE_LEVEL.token_bytes(9999)


def test_training_is_deterministic_and_has_every_byte():
    again = train_tokenizer(TEXTS, 300)
    assert again.inner.to_str() == BYTE_LEVEL.inner.to_str()
    spelled = {BYTE_LEVEL.token_bytes(i) for i in range(BYTE_LEVEL.vocab_size)}
    assert {bytes([b]) for b in range(256)} <= spelled
    assert BYTE_LEVEL.vocab_size == 300
    with pytest.raises(ConfigError, match=r"vocab_size must be at least 257 .* got 256"):
        train_tokenizer(TEXTS, 256)


def test_files(tmp_path):
    BYTE_LEVEL.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json", [0])
    assert again.encode("naïve 日本") == BYTE_LEVEL.encode("naïve 日本")
    assert again.eos_ids == {0}
    with pytest.raises(CheckpointError, match=r"no tokenizer at .*absent\.json"):
        load_tokenizer(tmp_path / "absent.json")
    whole = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "cut.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"cut\.json is not a usable tokenizer\.json"):
        load_tokenizer(tmp_path / "cut.json")
