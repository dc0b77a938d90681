"""Llama."""

from lamina.lm.config.fields import Fields
from lamina.lm.config.llama import read_llama as read_llama_config
from lamina.lm.config.spec import DecoderConfig


def read_llama(f: Fields) -> DecoderConfig:
    """Grouped-query attention, rotary positions, RMS norm before each branch, a gated MLP."""
    return read_llama_config(f).spec
