"""Qwen 2 and 3, dense and with experts."""

from typing import Any

from lamina.lm.config.families.common import (
    Sizes,
    layers_of,
    plain_rotary,
    read_activation,
    read_mlp,
    read_rms_norm,
    read_sizes,
    read_tied,
    read_windows,
)
from lamina.lm.config.fields import Fields
from lamina.lm.config.spec import (
    AttentionConfig,
    DecoderConfig,
    LayerConfig,
    MLPConfig,
    MoEConfig,
    RouterConfig,
)
from lamina.lm.errors import ConfigError


def read_qwen2(f: Fields) -> DecoderConfig:
    """Llama with biases of queries, keys and values, and windows in upper layers if switched on."""
    sizes = read_sizes(f, context=32768)
    attention = sizes.attention(plain_rotary(f, sizes), qkv_bias=True)
    layers = layers_of(attention, read_mlp(f), read_windows(f, sizes.layers))
    return sizes.decoder(layers, read_rms_norm(f), head=read_tied(f, False))


def _qwen3_attention(f: Fields, sizes: Sizes) -> AttentionConfig:
    bias = f.flag("attention_bias", default=False)
    return sizes.attention(plain_rotary(f, sizes), qkv_bias=bias, out_bias=bias, qk_norm=read_rms_norm(f))


def read_qwen3(f: Fields) -> DecoderConfig:
    """Llama with a norm of each head's queries and keys."""
    sizes = read_sizes(f, context=32768, dim=128)
    layers = layers_of(_qwen3_attention(f, sizes), read_mlp(f), read_windows(f, sizes.layers))
    return sizes.decoder(layers, read_rms_norm(f), head=read_tied(f, False))


def _with_experts(f: Fields, sizes: Sizes, attention: AttentionConfig, moe: MoEConfig) -> DecoderConfig:
    """Put ``moe`` into every ``decoder_sparse_step``-th layer but those listed as dense."""
    step = f.count("decoder_sparse_step", default=1)
    dense: Any = f.value("mlp_only_layers", default=[])
    if not isinstance(dense, list):
        raise ConfigError(f"config field 'mlp_only_layers' must be a list of layers, got {dense!r}")
    mlp = MLPConfig(f.count("intermediate_size"), read_activation(f))
    layers: list[LayerConfig] = []
    for i, layer in enumerate(layers_of(attention, mlp, read_windows(f, sizes.layers))):
        sparse = i not in dense and (i + 1) % step == 0
        layers.append(LayerConfig(layer.mixer, moe if sparse else mlp))
    return sizes.decoder(layers, read_rms_norm(f), head=read_tied(f, False))


def read_qwen2_moe(f: Fields) -> DecoderConfig:
    """Qwen 2 with experts, and an MLP for all tokens behind a gate."""
    sizes = read_sizes(f, context=32768)
    attention = sizes.attention(plain_rotary(f, sizes), qkv_bias=f.flag("qkv_bias", default=True))
    moe = MoEConfig(
        experts=f.count("num_experts", default=60),
        router=RouterConfig(
            f.count("num_experts_per_tok", default=4), normalize=f.flag("norm_topk_prob", default=False)
        ),
        expert=MLPConfig(f.count("moe_intermediate_size", default=1408), read_activation(f)),
        shared=MLPConfig(f.count("shared_expert_intermediate_size", default=5632), read_activation(f)),
        shared_gate=True,
    )
    return _with_experts(f, sizes, attention, moe)


def read_qwen3_moe(f: Fields) -> DecoderConfig:
    """Qwen 3 with experts."""
    sizes = read_sizes(f, context=32768)
    moe = MoEConfig(
        experts=f.count("num_experts", "num_local_experts", default=128),
        router=RouterConfig(
            f.count("num_experts_per_tok", default=8), normalize=f.flag("norm_topk_prob", default=False)
        ),
        expert=MLPConfig(f.count("moe_intermediate_size", default=768), read_activation(f)),
    )
    return _with_experts(f, sizes, _qwen3_attention(f, sizes), moe)
