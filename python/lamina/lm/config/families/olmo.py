"""OLMo 2 and OLMoE."""

from lamina.lm.config.families.common import plain_rotary, read_mlp, read_rms_norm, read_sizes, read_tied
from lamina.lm.config.fields import Fields
from lamina.lm.config.spec import DecoderConfig, LayerConfig, MoEConfig, Norms, RouterConfig


def read_olmo2(f: Fields) -> DecoderConfig:
    """Norms behind each branch, none before; queries and keys are normed over all heads together."""
    sizes, norm = read_sizes(f), read_rms_norm(f, 1e-5)
    bias = f.flag("attention_bias", default=False)
    attention = sizes.attention(
        plain_rotary(f, sizes), qkv_bias=bias, out_bias=bias, qk_norm=norm, norm_all=True
    )
    norms = Norms(None, "post_attention_layernorm", None, "post_feedforward_layernorm")
    layer = LayerConfig(attention, read_mlp(f), norms)
    return sizes.decoder([layer] * sizes.layers, norm, head=read_tied(f, False))


def read_olmoe(f: Fields) -> DecoderConfig:
    """Llama with experts; queries and keys are normed over all heads together."""
    sizes, norm = read_sizes(f, context=4096), read_rms_norm(f, 1e-5)
    bias = f.flag("attention_bias", default=False)
    attention = sizes.attention(
        plain_rotary(f, sizes),
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=norm,
        norm_all=True,
        clip=f.optional_number("clip_qkv"),
    )
    router = RouterConfig(
        f.count("num_experts_per_tok", default=8), normalize=f.flag("norm_topk_prob", default=False)
    )
    layer = LayerConfig(attention, MoEConfig(f.count("num_experts", default=64), router, read_mlp(f)))
    return sizes.decoder([layer] * sizes.layers, norm, head=read_tied(f, False))
