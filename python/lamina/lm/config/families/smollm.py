"""SmolLM 3."""

import dataclasses

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
from lamina.lm.errors import ConfigError


def read_smollm3(f: Fields) -> DecoderConfig:
    """Llama without rotary positions in every fourth layer."""
    sizes = read_sizes(f, context=32768)
    bias = f.flag("attention_bias", default=False)
    attention = sizes.attention(plain_rotary(f, sizes, theta=2e6), qkv_bias=bias, out_bias=bias)
    mlp = read_mlp(f, bias=f.flag("mlp_bias", default=False))
    layers = layers_of(attention, mlp, read_windows(f, sizes.layers))
    period = f.count("no_rope_layer_interval", default=4)
    rotated = f.value("no_rope_layers", default=[int((i + 1) % period != 0) for i in range(sizes.layers)])
    if not isinstance(rotated, list) or len(rotated) != sizes.layers:
        raise ConfigError(f"config field 'no_rope_layers' must list {sizes.layers} layers, got {rotated!r}")
    for i, has_rotary in enumerate(rotated):
        if not has_rotary:
            layers[i] = dataclasses.replace(
                layers[i], mixer=dataclasses.replace(layers[i].mixer, rotary=None)
            )
    return sizes.decoder(layers, read_rms_norm(f), head=read_tied(f, True))
