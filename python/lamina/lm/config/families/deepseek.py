"""DeepSeek V2 and V3: latent attention, many small experts beside shared ones."""

from lamina.lm.config.families.common import Sizes, read_activation, read_rms_norm, read_sizes, read_tied
from lamina.lm.config.fields import Fields
from lamina.lm.config.rotary import read_rotary, yarn_magnitude
from lamina.lm.config.spec import DecoderConfig, LayerConfig, MLAConfig, MLPConfig, MoEConfig, RouterConfig

_NAMES = {"shared_expert": "shared_experts"}


def _attention(f: Fields, sizes: Sizes, interleaved: bool) -> MLAConfig:
    plain = f.count("qk_nope_head_dim", default=128)
    turned = f.count("qk_rope_head_dim", default=64)
    rotary = read_rotary(f, sizes.context).config(turned, sizes.context, interleaved)
    scale = (plain + turned) ** -0.5
    if rotary.scaling is not None and rotary.scaling.mscale_all_dim:
        scale *= yarn_magnitude(rotary.scaling.factor, rotary.scaling.mscale_all_dim) ** 2
    f.ignore("head_dim", "qk_head_dim", "num_key_value_heads")
    return MLAConfig(
        heads=sizes.heads,
        query_rank=f.optional_count("q_lora_rank", default=1536),
        kv_rank=f.count("kv_lora_rank", default=512),
        plain_dim=plain,
        value_dim=f.count("v_head_dim", default=128),
        rotary=rotary,
        scale=scale,
        bias=f.flag("attention_bias", default=False),
    )


def _finish(
    f: Fields, sizes: Sizes, attention: MLAConfig, router: RouterConfig, shared_experts: int
) -> DecoderConfig:
    f.only("moe_layer_freq", 1)
    f.ignore("aux_loss_alpha", "seq_aux")
    activation, hidden = read_activation(f), f.count("moe_intermediate_size", default=2048)
    shared = f.optional_count("n_shared_experts", default=shared_experts)
    moe = MoEConfig(
        experts=f.count("n_routed_experts"),
        router=router,
        expert=MLPConfig(hidden, activation),
        shared=MLPConfig(hidden * shared, activation) if shared else None,
    )
    mlp = MLPConfig(f.count("intermediate_size"), activation)
    dense = f.whole("first_k_dense_replace", default=0)
    return sizes.decoder(
        [LayerConfig(attention, mlp if i < dense else moe) for i in range(sizes.layers)],
        read_rms_norm(f),
        head=read_tied(f, False),
        names=_NAMES,
        further_layers=f.whole("num_nextn_predict_layers", default=0),
    )


def read_deepseek_v2(f: Fields) -> DecoderConfig:
    """Experts are chosen by softmax scores, in some models within the groups of the best experts."""
    sizes = read_sizes(f)
    f.only("scoring_func", "softmax")
    f.only("norm_topk_prob", False)
    f.only("mlp_bias", False)
    groups, kept = f.optional_count("n_group"), f.optional_count("topk_group")
    limited = f.word("topk_method", options={"greedy": False, "group_limited_greedy": True}, default="greedy")
    router = RouterConfig(
        chosen=f.count("num_experts_per_tok"),
        scale=f.number("routed_scaling_factor", default=1.0),
        groups=(groups if limited else None) or 1,
        chosen_groups=(kept if limited else None) or 1,
    )
    return _finish(f, sizes, _attention(f, sizes, interleaved=True), router, 2)


def read_deepseek_v3(f: Fields) -> DecoderConfig:
    """Experts are chosen by sigmoid scores with a correction, within the best groups."""
    sizes = read_sizes(f, context=4096)
    f.only("scoring_func", "sigmoid")
    f.only("topk_method", "noaux_tc")
    router = RouterConfig(
        chosen=f.count("num_experts_per_tok", default=8),
        scoring="sigmoid",
        normalize=f.flag("norm_topk_prob", default=True),
        scale=f.number("routed_scaling_factor", default=2.5),
        groups=f.count("n_group", default=8),
        chosen_groups=f.count("topk_group", default=4),
        group_score="top2",
        correction=True,
    )
    interleaved = f.flag("rope_interleave", default=True)
    return _finish(f, sizes, _attention(f, sizes, interleaved), router, 1)
