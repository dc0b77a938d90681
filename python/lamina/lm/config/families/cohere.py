"""Cohere's Command R."""

import dataclasses

from lamina.lm.config.families.common import read_mlp, read_sizes
from lamina.lm.config.fields import Fields
from lamina.lm.config.rotary import read_rotary
from lamina.lm.config.spec import DecoderConfig, HeadConfig, LayerConfig, NormConfig, Norms


def read_cohere(f: Fields) -> DecoderConfig:
    """Attention and MLP side by side behind one layer norm; rotary features are pairs of neighbours."""
    sizes = read_sizes(f, context=8192)
    # Long-context checkpoints say so here only.
    longest = f.count("model_max_length", default=sizes.context)
    sizes = dataclasses.replace(sizes, context=max(sizes.context, longest))
    norm = NormConfig("layer", f.number("layer_norm_eps", default=1e-5))
    rotary = read_rotary(f, sizes.context, theta=500000.0)
    bias = f.flag("attention_bias", default=False)
    attention = sizes.attention(
        rotary.config(sizes.head_dim, sizes.context, interleaved=True),
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=NormConfig("layer", norm.eps, by_head=True) if f.flag("use_qk_norm", default=False) else None,
    )
    layer = LayerConfig(attention, read_mlp(f), Norms(before_mlp=None), parallel=True)
    tied = f.flag("tie_word_embeddings", default=True)
    head = HeadConfig(tied, scale=f.number("logit_scale", default=0.0625))
    return sizes.decoder([layer] * sizes.layers, norm, head=head)
