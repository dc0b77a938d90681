"""Architectures by Hugging Face's ``model_type``: one reader of ``config.json`` for each."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from lamina.lm.config.fields import Fields
from lamina.lm.config.spec import DecoderConfig

Reader = Callable[[Fields], DecoderConfig]

# Which module of this package has the type's reader: read_<model_type>.
_MODULES = {
    "cohere": "cohere",
    "deepseek_v2": "deepseek",
    "deepseek_v3": "deepseek",
    "falcon_h1": "falcon",
    "gemma": "gemma",
    "gemma2": "gemma",
    "gemma3_text": "gemma",
    "gpt2": "gpt",
    "gpt_neox": "gpt",
    "gpt_oss": "gpt_oss",
    "granite": "granite",
    "jamba": "jamba",
    "llama": "llama",
    "mamba": "mamba",
    "mamba2": "mamba",
    "mistral": "mistral",
    "mixtral": "mistral",
    "olmo2": "olmo",
    "olmoe": "olmo",
    "phi": "phi",
    "phi3": "phi",
    "qwen2": "qwen",
    "qwen2_moe": "qwen",
    "qwen3": "qwen",
    "qwen3_moe": "qwen",
    "recurrent_gemma": "gemma",
    "smollm3": "smollm",
    "stablelm": "stablelm",
    "starcoder2": "starcoder",
}


def model_types() -> tuple[str, ...]:
    """Return the supported model types, in order of the alphabet."""
    return tuple(sorted(_MODULES))


def encoder_types() -> tuple[str, ...]:
    """Return the supported types of encoders, which :mod:`lamina.lm.embed` runs."""
    return ("bert",)


def reader(model_type: str) -> Reader:
    """Return the function that reads the fields of a supported ``model_type``."""
    module = importlib.import_module(f"lamina.lm.config.families.{_MODULES[model_type]}")
    return getattr(module, f"read_{model_type}")
