"""GPT-2 and GPT-NeoX."""

import dataclasses

from lamina.lm.config.families.common import Sizes, read_activation, read_sizes, read_tied
from lamina.lm.config.fields import Fields
from lamina.lm.config.llama import head_dim
from lamina.lm.config.rotary import read_rotary
from lamina.lm.config.spec import (
    DecoderConfig,
    EmbeddingConfig,
    LayerConfig,
    MLPConfig,
    NormConfig,
    Norms,
)

_GPT2_NAMES = {
    "model": "transformer",
    "embed_tokens": "wte",
    "embed_positions": "wpe",
    "layers": "h",
    "norm": "ln_f",
    "self_attn": "attn",
    "qkv_proj": "c_attn",
    "o_proj": "c_proj",
    "up_proj": "c_fc",
    "down_proj": "c_proj",
}
_NEOX_NAMES = {
    "model": "gpt_neox",
    "embed_tokens": "embed_in",
    "norm": "final_layer_norm",
    "lm_head": "embed_out",
    "self_attn": "attention",
    "qkv_proj": "query_key_value",
    "o_proj": "dense",
    "up_proj": "dense_h_to_4h",
    "down_proj": "dense_4h_to_h",
}


def read_gpt2(f: Fields) -> DecoderConfig:
    """Learned positions, layer norms, one projection for queries, keys and values, a plain MLP."""
    width, heads = f.count("n_embd", "hidden_size"), f.count("n_head", "num_attention_heads")
    sizes = Sizes(
        vocab=f.count("vocab_size"),
        width=width,
        layers=f.count("n_layer", "num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim(width, heads),
        context=f.count("n_positions", "n_ctx", default=1024),
    )
    f.only("add_cross_attention", False)
    f.ignore("reorder_and_upcast_attn")
    norm = NormConfig("layer", f.number("layer_norm_epsilon", default=1e-5), bias=True)
    scaled = f.flag("scale_attn_weights", default=True)
    by_layer = f.flag("scale_attn_by_inverse_layer_idx", default=False)
    attention = sizes.attention(
        None, scale=sizes.head_dim**-0.5 if scaled else 1.0, qkv_bias=True, out_bias=True, fused="stacked"
    )
    mlp = MLPConfig(
        f.optional_count("n_inner") or 4 * width,
        read_activation(f, "activation_function", default="gelu_new"),
        gated=False,
        bias=True,
    )
    layers = []
    for i in range(sizes.layers):
        mixer = dataclasses.replace(attention, scale=attention.scale / (i + 1 if by_layer else 1))
        layers.append(LayerConfig(mixer, mlp, Norms("ln_1", None, "ln_2", None)))
    return sizes.decoder(
        layers,
        norm,
        embedding=EmbeddingConfig(positions=sizes.context),
        head=read_tied(f, True),
        names=_GPT2_NAMES,
    )


def read_gpt_neox(f: Fields) -> DecoderConfig:
    """Partly rotated heads; attention and MLP side by side, each behind a layer norm of its own."""
    sizes = read_sizes(f)
    norm = NormConfig("layer", f.number("layer_norm_eps", default=1e-5), bias=True)
    rotary = read_rotary(
        f,
        sizes.context,
        part=0.25,
        theta_names=("rotary_emb_base", "rope_theta"),
        part_names=("rotary_pct", "partial_rotary_factor"),
    )
    bias = f.flag("attention_bias", default=True)
    attention = sizes.attention(
        rotary.config(sizes.head_dim, sizes.context), qkv_bias=bias, out_bias=bias, fused="by_head"
    )
    mlp = MLPConfig(f.count("intermediate_size"), read_activation(f, default="gelu"), gated=False, bias=True)
    layer = LayerConfig(attention, mlp, parallel=f.flag("use_parallel_residual", default=True))
    return sizes.decoder([layer] * sizes.layers, norm, head=read_tied(f, False), names=_NEOX_NAMES)
