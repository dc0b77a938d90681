"""Mistral."""

from lamina.lm.config.families.common import (
    layers_of,
    plain_rotary,
    read_mlp,
    read_rms_norm,
    read_sizes,
    read_tied,
)
from lamina.lm.config.fields import Fields
from lamina.lm.config.spec import DecoderConfig


def read_mistral(f: Fields) -> DecoderConfig:
    """Llama with a sliding window in all layers."""
    sizes = read_sizes(f, context=131072)
    attention = sizes.attention(plain_rotary(f, sizes))
    windows = [f.optional_count("sliding_window", default=4096)] * sizes.layers
    layers = layers_of(attention, read_mlp(f), windows)
    return sizes.decoder(layers, read_rms_norm(f), head=read_tied(f, False))
