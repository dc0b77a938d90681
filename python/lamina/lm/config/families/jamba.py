"""Jamba."""

from lamina.lm.config.families.common import read_mlp, read_rms_norm, read_sizes, read_tied
from lamina.lm.config.families.mamba import read_step_rank
from lamina.lm.config.fields import Fields
from lamina.lm.config.spec import DecoderConfig, LayerConfig, MambaConfig, MoEConfig, Norms, RouterConfig

_NAMES = {"norm": "final_layernorm", "mlp": "feed_forward", "gate": "router"}


def read_jamba(f: Fields) -> DecoderConfig:
    """Selective state spaces, attention without positions now and then, experts in every other layer."""
    sizes, norm = read_sizes(f, context=262144), read_rms_norm(f)
    f.ignore("use_mamba_kernels", "num_logits_to_keep", "use_associative_scan", "use_mambapy")
    f.ignore("calc_logits_for_entire_prompt", "layers_block_type", "layer_types", "layers_num_experts")
    f.only("sliding_window", 0)
    f.only("mamba_inner_layernorms", True)
    mamba = MambaConfig(
        inner=int(f.number("mamba_expand", default=2) * sizes.width),
        state=f.count("mamba_d_state", default=16),
        kernel=f.count("mamba_d_conv", default=4),
        rank=read_step_rank(f, "mamba_dt_rank", sizes.width),
        bias=f.flag("mamba_proj_bias", default=False),
        conv_bias=f.flag("mamba_conv_bias", default=True),
        norm=norm,
    )
    attention, mlp = sizes.attention(None), read_mlp(f)
    experts = f.count("num_experts", "num_local_experts", default=16)
    router = RouterConfig(min(f.count("num_experts_per_tok", default=2), experts))
    moe = MoEConfig(experts, router, mlp)

    def period(what: str, every: int, offset: int) -> tuple[int, int]:
        return f.count(f"{what}_period", default=every), f.whole(f"{what}_offset", default=offset)

    attention_period, attention_offset = period("attn_layer", 8, 4)
    expert_period, expert_offset = period("expert_layer", 2, 1)
    layers = [
        LayerConfig(
            attention if i % attention_period == attention_offset else mamba,
            moe if experts > 1 and i % expert_period == expert_offset else mlp,
            Norms(before_mlp="pre_ff_layernorm"),
        )
        for i in range(sizes.layers)
    ]
    return sizes.decoder(layers, norm, head=read_tied(f, False), names=_NAMES)
