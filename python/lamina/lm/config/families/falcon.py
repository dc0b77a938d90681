"""Falcon-H1."""

from lamina.lm.config.families.common import plain_rotary, read_mlp, read_rms_norm, read_sizes
from lamina.lm.config.families.mamba import read_limits
from lamina.lm.config.fields import Fields
from lamina.lm.config.spec import (
    DecoderConfig,
    EmbeddingConfig,
    HeadConfig,
    LayerConfig,
    Mamba2Config,
    Norms,
)
from lamina.lm.errors import ConfigError

_NAMES = {"norm": "final_layernorm", "mlp": "feed_forward"}


def read_falcon_h1(f: Fields) -> DecoderConfig:
    """Attention and a state space side by side in each layer, with a factor at nearly every place."""
    sizes, norm = read_sizes(f, context=8192), read_rms_norm(f, 1e-5)
    f.ignore("mamba_chunk_size", "mamba_use_mlp", "mlp_expansion_factor", "num_logits_to_keep", "layer_types")
    f.ignore("time_step_floor", "time_step_max", "time_step_min", "time_step_rank")
    f.only("attn_layer_indices")
    bias = f.flag("attention_bias", default=False)
    attention = sizes.attention(
        plain_rotary(f, sizes),
        scale=sizes.head_dim**-0.5 * f.number("key_multiplier", default=1.0),
        qkv_bias=bias,
        out_bias=bias,
        in_scale=f.number("attention_in_multiplier", default=1.0),
        out_scale=f.number("attention_out_multiplier", default=1.0),
    )
    gate_scale, out_scale = f.numbers("mlp_multipliers", 2)
    mlp = read_mlp(f, bias=f.flag("mlp_bias", default=False), gate_scale=gate_scale, out_scale=out_scale)
    layer = LayerConfig(
        attention, mlp, Norms(before_mlp="pre_ff_layernorm"), beside=_state_space(f, sizes.width)
    )
    return sizes.decoder(
        [layer] * sizes.layers,
        norm,
        embedding=EmbeddingConfig(f.number("embedding_multiplier", default=1.0)),
        head=HeadConfig(
            f.flag("tie_word_embeddings", default=False), scale=f.number("lm_head_multiplier", default=1.0)
        ),
        names=_NAMES,
    )


def _state_space(f: Fields, width: int) -> Mamba2Config:
    expanded = int(f.number("mamba_expand", default=2) * width)
    inner = f.optional_count("mamba_d_ssm", default=1024) or expanded
    heads = f.count("mamba_n_heads", default=128)
    given = f.value("mamba_d_head", default="auto")
    dim = inner // heads if given == "auto" else f.count("mamba_d_head")
    if heads * dim != inner:
        raise ConfigError(f"mamba_n_heads {heads} times mamba_d_head {dim} is not mamba_d_ssm, {inner}")
    normed = f.flag("mamba_rms_norm", default=False)
    return Mamba2Config(
        heads=heads,
        head_dim=dim,
        state=f.count("mamba_d_state", default=256),
        groups=f.count("mamba_n_groups", default=1),
        kernel=f.count("mamba_d_conv", default=4),
        bias=f.flag("mamba_proj_bias", default=False),
        conv_bias=f.flag("mamba_conv_bias", default=True),
        out_bias=f.flag("projectors_bias", default=False),
        step_limits=read_limits(f),
        norm=read_rms_norm(f, 1e-5) if normed else None,
        norm_first=f.flag("mamba_norm_before_gate", default=True),
        in_scale=f.number("ssm_in_multiplier", default=1.0),
        out_scale=f.number("ssm_out_multiplier", default=1.0),
        part_scales=f.numbers("ssm_multipliers", 5),
    )
