"""Vocabularies in the metadata of GGUF files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lamina.core as mx
from lamina.lm.errors import CheckpointError
from lamina.lm.vocabulary.build import TokenType, Vocabulary
from lamina.lm.vocabulary.pretokenizers import LAMINA_CUT

_KINDS = {"gpt2": "bytes", "llama": "pieces", "t5": "unigram"}
_KEY = "tokenizer.ggml."
# Tokens that end a turn in chats, found by their spelling where no key names them.
_TURN_ENDS = (
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",
    "<EOT>",
)


def plain(value: Any) -> Any:
    """Return a metadata value as Python's own: numbers and lists of numbers for arrays."""
    return value.tolist() if isinstance(value, mx.array) else value


def vocabulary_from_gguf(metadata: Mapping[str, Any], architecture: str = "") -> Vocabulary:
    """Read the vocabulary in the metadata of a GGUF file.

    Parameters
    ----------
    metadata : Mapping[str, Any]
        As ``mx.load(path, return_metadata=True)`` returns it.
    architecture : str
        The model's, ``general.architecture``.

    Raises
    ------
    CheckpointError
        There is no vocabulary, it is of a kind that is not supported, or it contradicts itself.
    """
    model = metadata.get(f"{_KEY}model")
    if model is None or f"{_KEY}tokens" not in metadata:
        raise CheckpointError("the file has no tokenizer: wanted tokenizer.ggml.model and .tokens")
    if model not in _KINDS:
        raise CheckpointError(
            f"tokenizer model {model!r} (tokenizer.ggml.model) is not supported; "
            f"supported: {', '.join(_KINDS)}"
        )
    get = {k.removeprefix(_KEY): plain(v) for k, v in metadata.items() if k.startswith(_KEY)}
    tokens = get["tokens"]
    eos = get.get("eos_token_id")
    ends = [eos, get.get("eot_token_id"), get.get("eom_token_id")]
    places = {t: i for i, t in enumerate(tokens) if t in _TURN_ENDS}
    kind = _KINDS[model]
    return Vocabulary(
        kind,
        tokens,
        get.get("token_type", [TokenType.NORMAL] * len(tokens)),
        scores=get.get("scores", [0.0] * len(tokens)) if kind != "bytes" else (),
        merges=get.get("merges", ()),
        cut=metadata.get(LAMINA_CUT, get.get("pre")),
        architecture=architecture,
        bos_id=get.get("bos_token_id"),
        eos_id=eos,
        unk_id=get.get("unknown_token_id", 0 if kind == "pieces" else None),
        pad_id=get.get("padding_token_id"),
        end_ids=tuple(dict.fromkeys([i for i in [*ends, *places.values()] if i is not None])),
        add_bos=get.get("add_bos_token"),
        add_eos=get.get("add_eos_token"),
        add_space_prefix=get.get("add_space_prefix", kind != "bytes"),
        merge_spaces=bool(get.get("remove_extra_whitespaces", False)),
        characters=bytes(b & 255 for b in get.get("precompiled_charsmap", ())),
        chat_template=metadata.get("tokenizer.chat_template"),
    )
