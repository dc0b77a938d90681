"""Phi (1.5 and 2) and Phi 3."""

from lamina.lm.config.families.common import (
    layers_of,
    plain_rotary,
    read_activation,
    read_mlp,
    read_rms_norm,
    read_sizes,
    read_tied,
)
from lamina.lm.config.fields import Fields
from lamina.lm.config.spec import DecoderConfig, HeadConfig, LayerConfig, MLPConfig, NormConfig, Norms

_PHI_NAMES = {
    "norm": "final_layernorm",
    "o_proj": "dense",
    "q_norm": "q_layernorm",
    "k_norm": "k_layernorm",
    "up_proj": "fc1",
    "down_proj": "fc2",
}


def read_phi(f: Fields) -> DecoderConfig:
    """Attention and a plain MLP side by side behind one layer norm, biases everywhere."""
    sizes = read_sizes(f)
    norm = NormConfig("layer", f.number("layer_norm_eps", default=1e-5), bias=True)
    attention = sizes.attention(
        plain_rotary(f, sizes, part=0.5),
        qkv_bias=True,
        out_bias=True,
        qk_norm=norm if f.flag("qk_layernorm", default=False) else None,
    )
    activation = read_activation(f, default="gelu_new")
    mlp = MLPConfig(f.count("intermediate_size"), activation, gated=False, bias=True)
    layer = LayerConfig(attention, mlp, Norms(before_mlp=None), parallel=True)
    head = HeadConfig(f.flag("tie_word_embeddings", default=False), bias=True)
    return sizes.decoder([layer] * sizes.layers, norm, head=head, names=_PHI_NAMES)


def read_phi3(f: Fields) -> DecoderConfig:
    """Llama with fused projections; longer ones have a divisor for each rotary frequency."""
    sizes = read_sizes(f, context=4096)
    f.only("attention_bias", False)
    f.only("lm_head_bias", False)
    f.only("mlp_bias", False)
    f.ignore("original_max_position_embeddings", "full_attn_mod", "interpolate_factor")
    attention = sizes.attention(plain_rotary(f, sizes), fused="stacked")
    windows = [f.optional_count("sliding_window")] * sizes.layers
    layers = layers_of(attention, read_mlp(f, fused=True), windows)
    return sizes.decoder(layers, read_rms_norm(f, 1e-5), head=read_tied(f, False))
