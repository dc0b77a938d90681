"""A model directory's tokenizer: its file, its special tokens, its chat templates."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as HFTokenizer

from lamina.lm.errors import CheckpointError
from lamina.lm.tokenizer import Tokenizer, load_tokenizer
from lamina.lm.vocabulary.build import Vocabulary, build_tokenizer
from lamina.lm.vocabulary.sentencepiece import vocabulary_from_sentencepiece

ROLES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
# Small files that describe how a model is used; conversions carry them along.
COMPANIONS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)


def tokenizer_from(vocabulary: Vocabulary) -> Tokenizer:
    """Return the tokenizer of a vocabulary, with its special tokens and chat template.

    Raises
    ------
    CheckpointError
        As :func:`lamina.lm.vocabulary.build_tokenizer`.
    """
    roles = {f"{r}_token": vocabulary.role(r) for r in ("bos", "eos", "unk", "pad")}
    return Tokenizer(
        build_tokenizer(vocabulary),
        vocabulary.end_ids,
        vocabulary.chat_template,
        {r: t for r, t in roles.items() if t is not None},
    )


def read_tokenizer(directory: str | Path, eos_ids: Iterable[int] = ()) -> Tokenizer:
    """Read the tokenizer of a model directory.

    That is ``tokenizer.json``, or SentencePiece's ``tokenizer.model``; special tokens and chat templates come
    from the files beside it.

    Parameters
    ----------
    directory : str or Path
        The model directory.
    eos_ids : iterable of int
        Ids that end a text, besides those that ``generation_config.json`` names.

    Raises
    ------
    CheckpointError
        There is no tokenizer, or a file is damaged.
    """
    from lamina.lm.io.files import read_json

    directory = Path(directory)

    def beside(name: str) -> dict[str, Any]:
        return read_json(directory / name) if (directory / name).is_file() else {}

    config = beside("tokenizer_config.json")
    pieces = directory / "tokenizer.model"
    ends = set(eos_ids) | _ids(beside("generation_config.json").get("eos_token_id"))
    if not (directory / "tokenizer.json").is_file() and pieces.is_file():
        inner = _from_sentencepiece(pieces, config)
    else:
        inner = load_tokenizer(directory / "tokenizer.json").inner
    roles = _roles({**beside("special_tokens_map.json"), **config})
    if not ends and "eos_token" in roles:
        end = inner.token_to_id(roles["eos_token"])
        ends = set() if end is None else {end}
    template, others = _templates(directory, config, beside("chat_template.json"))
    return Tokenizer(inner, ends, template, roles, others)


def _from_sentencepiece(path: Path, config: Mapping[str, Any]) -> HFTokenizer:
    vocabulary = vocabulary_from_sentencepiece(path)
    own = {name: config[f"{name}_token"] for name in ("add_bos", "add_eos") if f"{name}_token" in config}
    return build_tokenizer(dataclasses.replace(vocabulary, **own))


def _ids(value: Any) -> set[int]:
    values = value if isinstance(value, list) else [value]
    return {v for v in values if isinstance(v, int) and not isinstance(v, bool)}


def _roles(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens of a ``tokenizer_config.json``: text, or objects with the text in them."""
    found = {}
    for role in ROLES:
        value = config.get(role)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            found[role] = value
    return found


def _templates(
    directory: Path, config: Mapping[str, Any], separate: Mapping[str, Any]
) -> tuple[str | None, dict[str, str]]:
    """Return the default chat template and the named ones; a file of its own wins over the config's."""
    given = separate.get("chat_template", config.get("chat_template"))
    named: dict[str, str] = {}
    if isinstance(given, list):
        named = {
            t["name"]: t["template"]
            for t in given
            if isinstance(t, dict) and {"name", "template"} <= t.keys()
        }
        given = named.pop("default", None)
    elif given is not None and not isinstance(given, str):
        raise CheckpointError(f"{directory}: the chat template must be text, got {type(given).__name__}")
    own = directory / "chat_template.jinja"
    if own.is_file():
        given = _text(own)
    for file in sorted((directory / "additional_chat_templates").glob("*.jinja")):
        named[file.stem] = _text(file)
    return given, named


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise CheckpointError(f"cannot read {path}: {e}") from e


def write_tokenizer(directory: str | Path, tokenizer: Tokenizer) -> None:
    """Write ``tokenizer.json`` and, where there is something to say, ``tokenizer_config.json``.

    Each file appears whole or not at all. An end known only by its number is named, as other tools want it.
    """
    from lamina.lm.io.files import replacing, write_json

    directory = Path(directory)
    with replacing(directory / "tokenizer.json") as tmp:
        tokenizer.save(tmp)
    named = [{"name": n, "template": t} for n, t in tokenizer.chat_templates.items()]
    config: dict[str, Any] = {**tokenizer.special_tokens}
    end = tokenizer.inner.id_to_token(min(tokenizer.eos_ids)) if tokenizer.eos_ids else None
    if end is not None:
        config.setdefault("eos_token", end)
    if named and tokenizer.chat_template is not None:
        config["chat_template"] = [{"name": "default", "template": tokenizer.chat_template}, *named]
    elif tokenizer.chat_template is not None:
        config["chat_template"] = tokenizer.chat_template
    if config:
        kind = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        write_json(directory / "tokenizer_config.json", {**kind, **config})
