"""Mistral and Mixtral."""

from lamina.lm.config.families.common import (
    layers_of,
    plain_rotary,
    read_mlp,
    read_rms_norm,
    read_sizes,
    read_tied,
)
from lamina.lm.config.fields import Fields
from lamina.lm.config.spec import DecoderConfig, MoEConfig, RouterConfig

_MIXTRAL_NAMES = {
    "mlp": "block_sparse_moe",
    "expert.gate_proj": "w1",
    "expert.up_proj": "w3",
    "expert.down_proj": "w2",
}


def read_mistral(f: Fields) -> DecoderConfig:
    """Llama with a sliding window in all layers."""
    sizes = read_sizes(f, context=131072)
    attention = sizes.attention(plain_rotary(f, sizes))
    windows = [f.optional_count("sliding_window", default=4096)] * sizes.layers
    layers = layers_of(attention, read_mlp(f), windows)
    return sizes.decoder(layers, read_rms_norm(f), head=read_tied(f, False))


def read_mixtral(f: Fields) -> DecoderConfig:
    """Mistral with a mixture of experts in each layer."""
    sizes = read_sizes(f, context=131072)
    attention = sizes.attention(plain_rotary(f, sizes, theta=1e6))
    router = RouterConfig(f.count("num_experts_per_tok", default=2), normalize=True)
    moe = MoEConfig(f.count("num_local_experts", default=8), router, read_mlp(f))
    layers = layers_of(attention, moe, [f.optional_count("sliding_window")] * sizes.layers)
    return sizes.decoder(layers, read_rms_norm(f, 1e-5), head=read_tied(f, False), names=_MIXTRAL_NAMES)
