"""Granite."""

from lamina.lm.config.families.common import plain_rotary, read_mlp, read_rms_norm, read_sizes
from lamina.lm.config.fields import Fields
from lamina.lm.config.spec import DecoderConfig, EmbeddingConfig, HeadConfig, LayerConfig


def read_granite(f: Fields) -> DecoderConfig:
    """Llama with factors of embeddings, scores, residual branches and logits."""
    sizes = read_sizes(f)
    bias = f.flag("attention_bias", default=False)
    attention = sizes.attention(
        plain_rotary(f, sizes),
        qkv_bias=bias,
        out_bias=bias,
        scale=f.number("attention_multiplier", default=1.0),
    )
    mlp = read_mlp(f, bias=f.flag("mlp_bias", default=False))
    layer = LayerConfig(attention, mlp, residual_scale=f.number("residual_multiplier", default=1.0))
    tied = f.flag("tie_word_embeddings", default=False)
    return sizes.decoder(
        [layer] * sizes.layers,
        read_rms_norm(f),
        embedding=EmbeddingConfig(f.number("embedding_multiplier", default=1.0)),
        head=HeadConfig(tied, scale=1 / f.number("logits_scaling", default=1.0)),
    )
