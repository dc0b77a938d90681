"""Configurations of models that also see: the part that is a language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamina.lm.config.fields import Fields
from lamina.lm.errors import ConfigError

IMAGE_TOKENS = ("boi_token_index", "eoi_token_index", "image_token_index")
"""Fields with the tokens that stand for an image: where it begins, where it ends, and a part of it."""

# By model_type: that of the text part, and fields which files leave out of it, for its class has them.
_TEXT_PARTS = {
    "gemma3": (
        "gemma3_text",
        {
            "vocab_size": 262208,
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_hidden_layers": 26,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
        },
    ),
}
# Fields that say something of the whole, and are the text part's business.
_SHARED = (
    "bos_token_id",
    "eos_token_id",
    "quantization",
    "quantization_config",
    "tie_word_embeddings",
    *IMAGE_TOKENS,
)
# What stands before the names of the text part's tensors and modules; what those of other parts begin with.
_PREFIXES = ("language_model.", "model.language_model.")
_OTHERS = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


def wrapper_types() -> tuple[str, ...]:
    """Return the supported model types whose text part is run."""
    return tuple(sorted(_TEXT_PARTS))


def text_config(raw: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """Return the configuration of the text part; ``raw`` itself where there are no parts.

    Fields that ``ignore`` names may be there although they are not understood.

    Raises
    ------
    ConfigError
        The text part is missing or of another type, or a field is not understood.

    Examples
    --------
    >>> whole = {"model_type": "gemma3", "vision_config": {}, "eos_token_id": 1,
    ...          "text_config": {"model_type": "gemma3_text", "hidden_size": 64}}
    >>> part = text_config(whole)
    >>> part["model_type"], part["hidden_size"], part["eos_token_id"]
    ('gemma3_text', 64, 1)
    """
    name = str(raw.get("model_type"))
    if name not in _TEXT_PARTS:
        return raw
    wanted, defaults = _TEXT_PARTS[name]
    f = Fields({k: v for k, v in raw.items() if k not in ignore}, name)
    f.ignore("model_type", "vision_config", "mm_tokens_per_image")
    given = f.value("text_config")
    if not isinstance(given, Mapping) or given.get("model_type", wanted) != wanted:
        raise ConfigError(f"config field 'text_config' must describe a {wanted} model, got {given!r}")
    shared = {k: v for k in _SHARED if (v := f.value(k)) is not None}
    f.finish()
    for key in ("quantization", "quantization_config"):
        if isinstance(shared.get(key), Mapping):
            shared[key] = {text_name(k) or k: v for k, v in shared[key].items()}
    return {**defaults, **given, **shared, "model_type": wanted}


def text_name(name: str) -> str | None:
    """Return the text part's own name of a tensor or module; None for those of other parts.

    Examples
    --------
    >>> text_name("language_model.model.norm.weight"), text_name("vision_tower.norm.weight")
    ('model.norm.weight', None)
    """
    if name.startswith(_OTHERS):
        return None
    prefix = next((p for p in _PREFIXES if name.startswith(p)), "")
    return name.removeprefix(prefix)
