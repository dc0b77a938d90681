"""The golden models: for each case its ``model_type`` and the fields that differ from its defaults."""

from __future__ import annotations

from typing import Any

Case = tuple[str, dict[str, Any]]

TINY: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
# What types call the norms' epsilon, those that do not say rms_norm_eps.
EPS = {
    "cohere": "layer_norm_eps",
    "gpt2": "layer_norm_epsilon",
    "gpt_neox": "layer_norm_eps",
    "mamba": "layer_norm_epsilon",
    "mamba2": "layer_norm_epsilon",
    "phi": "layer_norm_eps",
    "stablelm": "layer_norm_eps",
    "starcoder2": "norm_epsilon",
}


def tiny(model_type: str, **fields: Any) -> Case:
    """A case with two layers of width 32 and an epsilon that shows; a field given as ``...`` is left out."""
    fields = {**TINY, EPS.get(model_type, "rms_norm_eps"): 0.01, **fields}
    return model_type, {k: v for k, v in fields.items() if v is not ...}


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 16}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 500.0,
    "short_factor": [1.0, 1.1, 1.25, 1.5],
    "long_factor": [1.0, 1.5, 2.5, 4.0],
    "original_max_position_embeddings": 6,
}
GPT2 = {
    "vocab_size": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "layer_norm_epsilon": 0.01,
}

CASES: dict[str, Case] = {
    "llama": tiny("llama", attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "llama_llama3": tiny("llama", rope_parameters=LLAMA3),
    "llama_linear": tiny(
        "llama", rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0}, head_dim=16
    ),
    "llama_yarn": tiny("llama", rope_parameters=YARN),
    "llama_dynamic": tiny(
        "llama", rope_parameters={"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0}
    ),
    "mistral": tiny("mistral", sliding_window=4, head_dim=16),
    "qwen2": tiny(
        "qwen2", num_hidden_layers=3, use_sliding_window=True, sliding_window=5, max_window_layers=1
    ),
    "qwen3": tiny("qwen3", head_dim=16, tie_word_embeddings=True),
    "phi": tiny("phi", num_key_value_heads=4),
    "phi_qk_norm": tiny("phi", qk_layernorm=True),
    "phi3": tiny("phi3", sliding_window=6),
    "phi3_longrope": tiny("phi3", rope_parameters=LONGROPE, original_max_position_embeddings=6),
    "phi3_short": tiny(
        "phi3",
        rope_parameters={
            **LONGROPE,
            "partial_rotary_factor": 0.5,
            "short_factor": [1.0, 1.5],
            "long_factor": [2.0, 4.0],
            "original_max_position_embeddings": 16,
        },
        original_max_position_embeddings=16,
    ),
    "gemma": tiny("gemma", head_dim=16, num_key_value_heads=1),
    "gemma2": tiny("gemma2", head_dim=16, sliding_window=4, query_pre_attn_scalar=24),
    "gemma3_text": tiny(
        "gemma3_text",
        head_dim=16,
        num_hidden_layers=3,
        sliding_window=4,
        query_pre_attn_scalar=24,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0},
        },
    ),
    "gpt2": ("gpt2", GPT2),
    "gpt2_by_layer": ("gpt2", {**GPT2, "scale_attn_by_inverse_layer_idx": True, "n_inner": 48}),
    "gpt_neox": tiny(
        "gpt_neox",
        num_key_value_heads=...,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5},
    ),
    "gpt_neox_serial": tiny("gpt_neox", num_key_value_heads=..., use_parallel_residual=False),
    "stablelm": tiny("stablelm", use_qkv_bias=True),
    "stablelm_parallel": tiny("stablelm", use_parallel_residual=True, qk_layernorm=True),
    "starcoder2": tiny("starcoder2", sliding_window=5),
    "olmo2": tiny("olmo2"),
    "smollm3": tiny("smollm3", num_hidden_layers=4, vocab_size=64),
    "granite": tiny(
        "granite",
        embedding_multiplier=3.0,
        attention_multiplier=0.2,
        residual_multiplier=0.5,
        logits_scaling=2.0,
    ),
    "cohere": tiny("cohere"),
    "cohere_qk_norm": tiny("cohere", use_qk_norm=True, tie_word_embeddings=True),
}

MOE: dict[str, Any] = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 16}
CASES |= {
    "mixtral": tiny("mixtral", num_local_experts=4, sliding_window=6),
    "qwen2_moe": tiny(
        "qwen2_moe",
        **MOE,
        shared_expert_intermediate_size=24,
        num_hidden_layers=3,
        decoder_sparse_step=2,
        norm_topk_prob=True,
    ),
    "qwen2_moe_plain": tiny("qwen2_moe", **MOE, shared_expert_intermediate_size=24, mlp_only_layers=[0]),
    "qwen3_moe": tiny("qwen3_moe", **{**MOE, "num_experts": 6}, head_dim=16, norm_topk_prob=True),
    "olmoe": tiny("olmoe", num_experts=6, num_experts_per_tok=2, intermediate_size=24, clip_qkv=0.75),
}

DEEPSEEK: dict[str, Any] = {
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 12,
    "moe_intermediate_size": 16,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
}
CASES |= {
    "deepseek_v2": tiny(
        "deepseek_v2", **{**DEEPSEEK, "q_lora_rank": None}, n_routed_experts=6, routed_scaling_factor=1.5
    ),
    "deepseek_v2_groups": tiny(
        "deepseek_v2",
        **DEEPSEEK,
        n_routed_experts=8,
        topk_method="group_limited_greedy",
        n_group=4,
        topk_group=2,
        rope_parameters={**YARN, "mscale": 0.7, "mscale_all_dim": 0.5},
    ),
    "deepseek_v3": tiny(
        "deepseek_v3",
        **DEEPSEEK,
        n_routed_experts=8,
        n_group=4,
        topk_group=2,
        num_nextn_predict_layers=1,
        rope_parameters={**YARN, "mscale": 1.0, "mscale_all_dim": 1.0},
    ),
    "gpt_oss": tiny(
        "gpt_oss",
        head_dim=16,
        intermediate_size=32,
        num_local_experts=6,
        num_experts_per_tok=2,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={**YARN, "truncate": False},
    ),
}

NO_ATTENTION: dict[str, Any] = dict.fromkeys(
    ["num_attention_heads", "num_key_value_heads", "max_position_embeddings", "intermediate_size"], ...
)
STATE: dict[str, Any] = {"mamba_d_state": 8, "mamba_n_heads": 6, "mamba_d_head": 8, "mamba_n_groups": 2}
CASES |= {
    "mamba": tiny("mamba", **NO_ATTENTION, state_size=5, time_step_rank=3),
    "mamba2": tiny("mamba2", **NO_ATTENTION, state_size=8, num_heads=8, head_dim=8, n_groups=2, chunk_size=4),
    "recurrent_gemma": tiny(
        "recurrent_gemma",
        num_hidden_layers=3,
        num_key_value_heads=1,
        max_position_embeddings=...,
        lru_width=48,
        head_dim=16,
        attention_window_size=5,
        intermediate_size=96,
    ),
    "jamba": tiny(
        "jamba",
        num_hidden_layers=4,
        attn_layer_period=3,
        attn_layer_offset=1,
        num_experts=4,
        mamba_d_state=6,
        mamba_dt_rank=5,
        use_mamba_kernels=False,
    ),
    "falcon_h1": tiny(
        "falcon_h1",
        **STATE,
        mamba_d_ssm=48,
        mamba_chunk_size=4,
        embedding_multiplier=2.0,
        lm_head_multiplier=0.5,
        key_multiplier=0.8,
        attention_in_multiplier=1.25,
        attention_out_multiplier=0.75,
        ssm_in_multiplier=1.5,
        ssm_out_multiplier=0.5,
        ssm_multipliers=[0.5, 0.75, 1.25, 1.5, 0.9],
        mlp_multipliers=[0.75, 1.5],
    ),
    "falcon_h1_norm": tiny(
        "falcon_h1",
        **STATE,
        mamba_d_ssm=48,
        mamba_rms_norm=True,
        mamba_norm_before_gate=False,
        mamba_proj_bias=True,
        projectors_bias=True,
        attention_bias=True,
        mlp_bias=True,
    ),
}

# Cases to run with fewer positions than the model has: within the original length, other rotary factors hold.
CONTEXTS = {"phi3_short": 16}
