"""GPT-OSS."""

import dataclasses

from lamina.lm.config.families.common import (
    plain_rotary,
    read_layer_types,
    read_rms_norm,
    read_sizes,
    read_tied,
)
from lamina.lm.config.fields import Fields
from lamina.lm.config.spec import (
    ClampedSwiGLU,
    DecoderConfig,
    LayerConfig,
    MLPConfig,
    MoEConfig,
    RouterConfig,
)

_NAMES = {"gate": "router", "switch_mlp": "experts"}


def read_gpt_oss(f: Fields) -> DecoderConfig:
    """Experts with biases and a clamped gate, attention sinks, a sliding window in every other layer."""
    sizes = read_sizes(f, context=131072, dim=64)
    f.only("hidden_act", "silu")
    f.ignore("initial_context_length", "experts_per_token")
    bias = f.flag("attention_bias", default=True)
    attention = sizes.attention(
        plain_rotary(f, sizes, theta=150000.0), qkv_bias=bias, out_bias=bias, sinks=True
    )
    swiglu = ClampedSwiGLU(f.number("swiglu_alpha", default=1.702), f.number("swiglu_limit", default=7.0))
    moe = MoEConfig(
        experts=f.count("num_local_experts", default=128),
        router=RouterConfig(
            f.count("num_experts_per_tok", "experts_per_token", default=4),
            scoring="softmax_of_chosen",
            bias=True,
        ),
        expert=MLPConfig(f.count("intermediate_size"), swiglu, bias=True),
        alternating=True,
    )
    window = f.count("sliding_window", default=128)
    default = ["full_attention" if i % 2 else "sliding_attention" for i in range(sizes.layers)]
    layers = []
    for kind in read_layer_types(f, sizes.layers, default):
        mixer = dataclasses.replace(attention, window=window if kind == "sliding_attention" else None)
        layers.append(LayerConfig(mixer, moe))
    return sizes.decoder(layers, read_rms_norm(f, 1e-5), head=read_tied(f, False), names=_NAMES)
