"""Architectures: a configuration describes one, and one decoder runs them all."""

from __future__ import annotations

from lamina.lm.config import Config
from lamina.lm.models.decoder import Decoder

Llama = Decoder
"""The decoder under its first architecture's name."""


def build_model(config: Config) -> Decoder:
    """Return an untrained model for ``config``; its quantization is left to :mod:`lamina.lm.io`."""
    return Decoder(config)


__all__ = ["Decoder", "Llama", "build_model"]
