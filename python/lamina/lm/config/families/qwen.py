"""Qwen 2 and 3."""

from lamina.lm.config.families.common import (
    layers_of,
    plain_rotary,
    read_mlp,
    read_rms_norm,
    read_sizes,
    read_tied,
    read_windows,
)
from lamina.lm.config.fields import Fields
from lamina.lm.config.spec import DecoderConfig


def read_qwen2(f: Fields) -> DecoderConfig:
    """Llama with biases of queries, keys and values, and windows in upper layers if switched on."""
    sizes = read_sizes(f, context=32768)
    attention = sizes.attention(plain_rotary(f, sizes), qkv_bias=True)
    layers = layers_of(attention, read_mlp(f), read_windows(f, sizes.layers))
    return sizes.decoder(layers, read_rms_norm(f), head=read_tied(f, False))


def read_qwen3(f: Fields) -> DecoderConfig:
    """Llama with a norm of each head's queries and keys."""
    sizes, norm = read_sizes(f, context=32768, dim=128), read_rms_norm(f)
    bias = f.flag("attention_bias", default=False)
    attention = sizes.attention(plain_rotary(f, sizes), qkv_bias=bias, out_bias=bias, qk_norm=norm)
    layers = layers_of(attention, read_mlp(f), read_windows(f, sizes.layers))
    return sizes.decoder(layers, norm, head=read_tied(f, False))
