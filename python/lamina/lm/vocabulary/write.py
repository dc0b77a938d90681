"""Tokenizers as the metadata of GGUF files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import lamina.core as mx
from lamina._lazy import numpy as np
from lamina.lm.errors import CheckpointError
from lamina.lm.tokenizer import Tokenizer
from lamina.lm.vocabulary.build import SPACE, TokenType
from lamina.lm.vocabulary.pretokenizers import LAMINA_CUT, NEAREST_TO_LAMINA, name_of

_KEY = "tokenizer.ggml."


def vocabulary_to_gguf(tokenizer: Tokenizer, vocab_size: int, bos_id: int | None = None) -> dict[str, Any]:
    """Return what a GGUF file says about a tokenizer.

    Parameters
    ----------
    tokenizer : Tokenizer
        A byte-level BPE, or a BPE over SentencePiece's pieces.
    vocab_size : int
        Rows of the model's embedding; tokens that the tokenizer lacks are marked as unused.
    bos_id : int, optional
        The token that begins a text, where the tokenizer does not name it.

    Returns
    -------
    dict
        Metadata for ``mx.save_gguf``.

    Raises
    ------
    CheckpointError
        GGUF cannot say what the tokenizer does.
    """
    raw = json.loads(tokenizer.inner.to_str())
    if raw["model"]["type"] != "BPE":
        raise CheckpointError(
            f"a tokenizer of type {raw['model']['type']!r} cannot be written to GGUF; wanted BPE"
        )
    tokens = _tokens(tokenizer, vocab_size)
    types = _types(raw, tokens)
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in raw["model"]["merges"]]
    out: dict[str, Any]
    own: dict[str, str] = {}
    if tokenizer.byte_level:
        cut = name_of(raw)
        own = {LAMINA_CUT: cut} if cut == "lamina" else {}
        out = {"model": "gpt2", "pre": NEAREST_TO_LAMINA if own else cut, "tokens": tokens}
        out["merges"] = [" ".join(m) for m in merges]
    else:
        out = {"model": "llama", "pre": "default", "tokens": tokens, "scores": _scores(tokens, merges)}
        out["add_space_prefix"] = mx.array(_adds_space(raw))
    out["token_type"] = mx.array(np.array(types, np.int32))
    out |= _roles(tokenizer, bos_id)
    metadata = {f"{_KEY}{k}": v for k, v in out.items()} | own
    if tokenizer.chat_template is not None:
        metadata["tokenizer.chat_template"] = tokenizer.chat_template
    return metadata


def _tokens(tokenizer: Tokenizer, vocab_size: int) -> list[str]:
    """Return the spelling of each id."""
    count = tokenizer.vocab_size
    if count > vocab_size:
        raise CheckpointError(f"the tokenizer has {count} tokens, the model's vocabulary {vocab_size}")
    found = [tokenizer.inner.id_to_token(i) for i in range(vocab_size)]
    return [f"[PAD{i}]" if t is None else t for i, t in enumerate(found)]


def _types(raw: Mapping[str, Any], tokens: list[str]) -> list[int]:
    model = raw["model"]
    types = [TokenType.NORMAL if t in model["vocab"] else TokenType.UNUSED for t in tokens]
    if model.get("byte_fallback"):
        for i, token in enumerate(tokens):
            if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
                types[i] = TokenType.BYTE
    for added in raw["added_tokens"]:
        types[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    unknown = model.get("unk_token")
    if unknown in tokens:
        types[tokens.index(unknown)] = TokenType.UNKNOWN
    return [int(t) for t in types]


def _scores(tokens: list[str], merges: list[tuple[str, str]]) -> mx.array:
    """Return scores by which SentencePiece makes the same merges: a piece's first merge counts."""
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    return mx.array(
        np.array([-float(ranks.get(t, len(merges) + i)) for i, t in enumerate(tokens)], np.float32)
    )


def _adds_space(raw: Mapping[str, Any]) -> bool:
    """Return whether a tokenizer puts a space before the text, and refuse what pieces cannot do."""
    normalizer, cut = raw.get("normalizer") or {}, raw.get("pre_tokenizer") or {}
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    adds = any(s["type"] == "Prepend" and s["prepend"] == SPACE for s in steps)
    rest = [s["type"] for s in steps if s["type"] not in ("Prepend", "Replace")]
    if cut.get("type") == "Metaspace":
        adds = adds or cut.get("prepend_scheme", "always") != "never"
    elif cut and not (cut.get("type") == "Split" and cut.get("pattern") == {"String": " "}):
        rest.append(cut["type"])
    if rest:
        raise CheckpointError(f"GGUF has no name for what this tokenizer does to a text: {', '.join(rest)}")
    return adds


def _roles(tokenizer: Tokenizer, bos_id: int | None) -> dict[str, mx.array]:
    bare = tokenizer.encode("a", special=False)
    whole = tokenizer.encode("a")
    begins = whole[: len(whole) - len(bare)] if whole[-len(bare) :] == bare else []
    adds_bos = len(begins) == 1
    adds_eos = len(whole) > len(bare) and whole[-1] in tokenizer.eos_ids and whole[-1] != bare[-1]
    ids: dict[str, int | None] = {
        f"{role}_token_id": tokenizer.token_id(tokenizer.special_tokens.get(f"{name}_token", ""))
        for role, name in (("bos", "bos"), ("eos", "eos"), ("unknown", "unk"), ("padding", "pad"))
    }
    if adds_bos:
        ids["bos_token_id"] = begins[0]
    if ids["bos_token_id"] is None:
        ids["bos_token_id"] = bos_id
    if tokenizer.eos_ids and ids["eos_token_id"] not in tokenizer.eos_ids:
        ids["eos_token_id"] = min(tokenizer.eos_ids)
    others = sorted(tokenizer.eos_ids - {ids["eos_token_id"]})
    if others:
        ids["eot_token_id"] = others[0]
    out = {k: mx.array(v, mx.uint32) for k, v in ids.items() if v is not None}
    return out | {"add_bos_token": mx.array(adds_bos), "add_eos_token": mx.array(adds_eos)}
