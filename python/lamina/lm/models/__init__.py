"""Architectures: a configuration's ``model_type`` names its class here."""

from __future__ import annotations

from lamina.lm.config import LlamaConfig
from lamina.lm.models.llama import Llama

MODELS: dict[str, type[Llama]] = {"llama": Llama}


def build_model(config: LlamaConfig) -> Llama:
    """Return an untrained model for ``config``; its quantization is left to :mod:`lamina.lm.io`."""
    return MODELS[config.model_type](config)


__all__ = ["MODELS", "Llama", "build_model"]
