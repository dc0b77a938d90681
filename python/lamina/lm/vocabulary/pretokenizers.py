"""How byte-level vocabularies cut text into words before merging, by GGUF's names for it.

A cut is a sequence of regular expressions: each splits what the one before left into its matches and what is
between them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

from lamina.lm.errors import CheckpointError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Words take one leading blank or sign along (" def", "_name"), digits come singly, runs of line ends stay
# together, and a run of blanks leaves its last one to the word that follows.
LAMINA = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = rf"{_WORDS}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
QWEN2 = rf"{_WORDS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"""
    rf" ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
)


def _by_case(ending: str, digits: str) -> str:
    """Words that also break where lower case meets upper case."""
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    start = r"[^\r\n\p{L}\p{N}]?"
    return (
        rf"{start}{upper}*{lower}+{ending}|{start}{upper}+{lower}*{ending}|"
        rf"{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
    )


SEED_CODER = rf"{_WORDS}|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}"
# What lamina's own tokenizers do has no name elsewhere. This differs after a quote: it takes 's of 'select'.
LAMINA_CUT = "tokenizer.lamina.pre"
NEAREST_TO_LAMINA = "seed-coder"
GPT4O = _by_case(f"{_CONTRACTIONS}?", r"\p{N}{1,3}")
TEKKEN = _by_case("", r"\p{N}")


@dataclass(frozen=True)
class Cut:
    """A way to cut text.

    Attributes
    ----------
    patterns : tuple of str
        Applied in this order.
    ignore_merges : bool
        Whether a word that is a token as a whole is taken before any merge.
    add_bos : bool
        Whether a text begins with the BOS token where the file does not say.
    nfc : bool
        Whether the tokenizer composes characters first (Unicode NFC).
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False
    nfc: bool = False


_CUTS: dict[str, Cut] = {
    "llama-bpe": Cut((LLAMA3,), ignore_merges=True, add_bos=True),
    "dbrx": Cut((LLAMA3,)),
    "qwen2": Cut((QWEN2,), nfc=True),
    "stablelm2": Cut((QWEN2,)),
    "gpt-2": Cut((GPT2,)),
    "smollm": Cut((r"\p{N}", GPT2)),
    "falcon": Cut((r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]")),
    "tekken": Cut((TEKKEN,), ignore_merges=True, add_bos=True),
    "gpt-4o": Cut((GPT4O,)),
    "deepseek-coder": Cut(("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}")),
    "deepseek-v3": Cut((r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3)),
    "seed-coder": Cut((SEED_CODER,)),
    "lamina": Cut((LAMINA,)),
    "default": Cut((r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
}
# Other names in use for the same.
_ALIASES = {
    **dict.fromkeys(
        ("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"), "llama-bpe"
    ),
    **dict.fromkeys(("smaug-bpe", "glm4", "chatglm-bpe"), "dbrx"),
    **dict.fromkeys(("deepseek-r1-qwen", "kormo", "megrez"), "qwen2"),
    **dict.fromkeys(("hunyuan", "grok-2"), "stablelm2"),
    **dict.fromkeys(
        ("phi-2", "olmo", "mpt", "jais", "trillion", "exaone4", "gigachat", "mellum", "granite-docling"),
        "gpt-2",
    ),
    **dict.fromkeys(("starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), "smollm"),
    **dict.fromkeys(("llama4", "minimax-m2"), "gpt-4o"),
    "hunyuan-dense": "deepseek-v3",
}
# What files that were written before GGUF named the cut mean, by architecture.
_UNNAMED = {"qwen2": "qwen2", "llama": "llama-bpe", "starcoder2": "smollm", "gpt2": "gpt-2"}


def cut_named(name: str | None, architecture: str = "") -> Cut:
    """Return the cut that a GGUF file names in ``tokenizer.ggml.pre``; the architecture's where it has none.

    Raises
    ------
    CheckpointError
        The name is not known: text would be cut in other places than in training.
    """
    name = _UNNAMED.get(architecture) if name is None else name
    cut = _CUTS.get(_ALIASES.get(name or "", name or ""))
    if cut is None:
        known = ", ".join(sorted([*_CUTS, *_ALIASES]))
        raise CheckpointError(
            f"pre-tokenizer {name!r} (tokenizer.ggml.pre) is not supported; supported: {known}"
        )
    return cut


def pre_tokenizer(cut: Cut) -> PreTokenizer:
    """Return the cut, and then the stand-in characters of bytes, for the tokenizers library."""
    if cut.patterns == (GPT2,):
        return ByteLevel(add_prefix_space=False, use_regex=True)
    splits = [Split(Regex(p), behavior="isolated") for p in cut.patterns]
    return Sequence([*splits, ByteLevel(add_prefix_space=False, use_regex=False)])  # type: ignore[list-item]


def name_of(tokenizer: Mapping[str, Any]) -> str:
    """Return GGUF's name of the cut that the content of a ``tokenizer.json`` describes.

    Raises
    ------
    CheckpointError
        GGUF has no name for it.
    """
    whole = tokenizer.get("pre_tokenizer") or {}
    patterns: list[str] = []
    for part in whole.get("pretokenizers", [whole]):
        kind = part.get("type")
        if kind == "Split" and part["behavior"] == "Isolated" and not part["invert"]:
            pattern = part["pattern"]
            patterns.append(pattern.get("Regex") or re.escape(pattern["String"]))
        elif kind == "Digits" and part["individual_digits"]:
            patterns.append(r"\p{N}")
        elif kind == "ByteLevel" and not part["add_prefix_space"]:
            patterns += [GPT2] if part["use_regex"] else []
        else:
            patterns.append(json.dumps(part))
    names = [name for name, cut in _CUTS.items() if cut.patterns == tuple(patterns)]
    if not names:
        raise CheckpointError(f"GGUF has no name for this tokenizer's cut into words: {patterns}")
    nfc = (tokenizer.get("normalizer") or {}).get("type") == "NFC"
    ignore = bool(tokenizer["model"].get("ignore_merges"))
    return min(names, key=lambda n: (_CUTS[n].nfc != nfc) + (_CUTS[n].ignore_merges != ignore))
