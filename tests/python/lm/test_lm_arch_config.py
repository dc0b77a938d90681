"""Configurations as older files write them, as mlx-community publishes them, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lamina.lm import ConfigError, Quantization, parse_config
from lamina.lm.config import Fields, HFQuantization, RopeScaling, RotaryConfig, model_types
from lamina.lm.config.families import reader
from lamina.lm.config.rotary import read_rotary, rotary_periods
from lm.lm_cases import CASES
from lm.lm_golden import golden

# What older files call the base and the rotated part.
OLDER = {"gpt_neox": ("rotary_emb_base", "rotary_pct")}


def older(config: dict[str, Any]) -> dict[str, Any]:
    """The same configuration in fields of 2024: ``rope_theta`` and ``rope_scaling`` at the top."""
    out = {
        k: v
        for k, v in config.items()
        if k not in ("rope_parameters", "layer_types", "_sliding_window_pattern")
    }
    rope = dict(config.get("rope_parameters") or {})
    if "full_attention" in rope:
        out["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = dict(rope["full_attention"])
    theta, part = OLDER.get(config["model_type"], ("rope_theta", "partial_rotary_factor"))
    if "rope_theta" in rope:
        out[theta] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        out[part] = rope.pop("partial_rotary_factor")
    kind = rope.pop("rope_type", "default")
    out["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    return out


@pytest.mark.parametrize("name", CASES)
def test_older_fields_say_the_same(name):
    config = golden(name).config
    wanted = parse_config(config).spec
    if config["model_type"] == "gemma3_text":
        # Its windows follow from a period, 6 by default.
        config = {**config, "_sliding_window_pattern": 3, "sliding_window_pattern": 3}
    if config["model_type"] == "qwen2":
        assert config["max_window_layers"] == 1
    assert parse_config(json.loads(json.dumps(older(config)))).spec == wanted


@pytest.mark.parametrize("name", CASES)
def test_an_unknown_field_is_refused_by_name(name):
    config = golden(name).config
    model_type = config["model_type"]
    with pytest.raises(
        ConfigError, match=f"not understood for model type '{model_type}': warp_drive; supported: "
    ):
        parse_config({**config, "warp_drive": 9})
    assert parse_config({**config, "warp_drive": 9}, ignore=("warp_drive",)).spec == parse_config(config).spec
    needed = "n_embd" if model_type == "gpt2" else "hidden_size"
    with pytest.raises(ConfigError, match=f"'{model_type}' lacks .*{needed}"):
        parse_config({k: v for k, v in config.items() if k != needed})


PUBLISHED = json.loads((Path(__file__).parent / "data" / "configs.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_fields_of_checkpoints_as_published(name):
    raw = PUBLISHED[name]
    config = parse_config(raw)
    assert config.num_hidden_layers == raw.get("num_hidden_layers", raw.get("n_layer"))
    assert config.vocab_size == raw["vocab_size"]
    assert parse_config(config.to_dict()).spec == config.spec


def test_every_type_is_among_those_published():
    assert {raw["model_type"] for raw in PUBLISHED.values()} == set(model_types())


@pytest.mark.parametrize("model_type", model_types())
def test_each_type_has_a_reader_and_says_what_it_is(model_type):
    assert reader(model_type).__doc__.strip().endswith(".")


def test_falsely_typed_fields():
    f = Fields({"a": 1.5, "b": "x", "c": None, "d": True, "e": [1, "2"], "g": -1, "h": 0}, "mine")
    cases = [
        (lambda: f.count("a"), "'a' must be a positive integer, got 1.5"),
        (lambda: f.count("d"), "'d' must be a positive integer, got True"),
        (lambda: f.count("h"), "'h' must be a positive integer, got 0"),
        (lambda: f.whole("g"), "'g' must be a whole number, not negative, got -1"),
        (lambda: f.number("b"), "'b' must be a number, got 'x'"),
        (lambda: f.number("g"), "'g' must be positive, got -1"),
        (lambda: f.flag("a", default=True), "'a' must be true or false, got 1.5"),
        (lambda: f.numbers("e", 2), "'e' must be a list of 2 numbers"),
        (lambda: f.numbers("a", 2), "'a' must be a list of 2 numbers, got 1.5"),
        (
            lambda: f.word("b", options={"y": 1, "z": 2}, default="y"),
            "'b' 'x' is not supported; supported: y, z",
        ),
        (lambda: f.only("d", 1), "'d' True is not supported; supported: 1, null"),
        (lambda: f.count("c"), "config for model type 'mine' lacks c"),
        (lambda: f.count("q", "r"), "lacks q or r"),
    ]
    for call, message in cases:
        with pytest.raises(ConfigError, match=message):
            call()
    assert f.optional_count("c", default=3) is None
    assert f.optional_count("q", default=3) == 3
    assert f.optional_count("h") is None
    assert f.optional_number("c", default=2.0) is None


BAD = [
    ("gemma2", {"layer_types": ["full_attention"]}, "'layer_types' must list 2 layers"),
    (
        "gemma2",
        {"layer_types": ["chunked_attention", "full_attention"]},
        "has 'chunked_attention', which is not",
    ),
    ("gemma", {"use_bidirectional_attention": True}, "'use_bidirectional_attention' True is not supported"),
    ("smollm3", {"no_rope_layers": [1]}, "'no_rope_layers' must list 4 layers"),
    ("qwen2_moe", {"mlp_only_layers": 2}, "'mlp_only_layers' must be a list"),
    ("mixtral", {"num_experts_per_tok": 9}, "a token cannot choose 9 of 4 experts"),
    ("deepseek_v3", {"n_group": 3}, "8 experts do not divide into 3 groups"),
    ("deepseek_v3", {"scoring_func": "softmax"}, "'scoring_func' 'softmax' is not supported"),
    ("deepseek_v2", {"topk_method": "noaux_tc"}, "'topk_method' 'noaux_tc' is not supported"),
    ("deepseek_v2", {"norm_topk_prob": True}, "'norm_topk_prob' True is not supported"),
    ("mamba2", {"num_heads": 7}, "num_heads 7 times head_dim 8 is not expand times hidden_size, 64"),
    ("mamba2", {"n_groups": 3}, "8 heads of a state space do not divide into 3 groups"),
    ("mamba2", {"time_step_limit": "short"}, "'time_step_limit' must be two numbers"),
    ("falcon_h1", {"mamba_d_head": 5}, "mamba_n_heads 6 times mamba_d_head 5 is not mamba_d_ssm, 48"),
    ("falcon_h1", {"ssm_multipliers": [1.0]}, "'ssm_multipliers' must be a list of 5 numbers"),
    ("recurrent_gemma", {"block_types": ["conv"]}, "'block_types' must list 'recurrent' and 'attention'"),
    ("recurrent_gemma", {"lru_width": 30}, "lru_width 30 is not a multiple of num_attention_heads 4"),
    ("gpt2", {"add_cross_attention": True}, "'add_cross_attention' True is not supported"),
    (
        "phi3",
        {"rope_scaling": {"type": "longrope", "long_factor": [1]}, "rope_parameters": None},
        "'short_factor'",
    ),
    (
        "phi3",
        {
            "rope_scaling": {"type": "longrope", "long_factor": [1], "short_factor": [1]},
            "rope_parameters": None,
        },
        "short_factor must have 4 entries, one for each frequency, got 1",
    ),
    ("llama", {"head_dim": 9}, "head_dim must be even for rotary positions, got 9"),
    ("phi", {"tie_word_embeddings": True}, "a head with a bias cannot be tied"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD, ids=[f"{b[0]}-{b[2][:24]}" for b in BAD])
def test_what_does_not_fit_is_refused(name, change, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({**golden(name).config, **change})


QUANTIZATIONS = [
    (
        {"bits": 4, "group_size": 128, "quant_method": "awq", "version": "gemm", "zero_point": True},
        HFQuantization("awq", 4, 128, "gemm", (), {"zero_point": True}),
    ),
    (
        {"bits": 4, "group_size": -1, "quant_method": "gptq", "desc_act": True, "sym": False},
        HFQuantization("gptq", 4, -1, "gptq", (), {"desc_act": True, "sym": False}),
    ),
    (
        {
            "quant_method": "fp8",
            "fmt": "e4m3",
            "weight_block_size": [128, 128],
            "activation_scheme": "dynamic",
        },
        HFQuantization(
            "fp8", 8, 0, "e4m3", (), {"weight_block_size": [128, 128], "activation_scheme": "dynamic"}
        ),
    ),
    (
        {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head", "model.layers.*.mlp.router"]},
        HFQuantization("mxfp4", 4, 32, "", ("lm_head", "model.layers.*.mlp.router")),
    ),
]


@pytest.mark.parametrize(
    ("given", "wanted"), QUANTIZATIONS, ids=[q[0]["quant_method"] for q in QUANTIZATIONS]
)
def test_quantization_of_hugging_face(given, wanted):
    config = parse_config({**golden("qwen3").config, "quantization_config": given})
    assert config.quantization == wanted
    again = parse_config(json.loads(json.dumps(config.to_dict())))
    assert again.quantization == wanted
    assert again.to_dict()["quantization_config"].items() >= given.items()


def test_quantization_of_mlx():
    given = {
        "group_size": 32,
        "bits": 4,
        "mode": "mxfp4",
        "model.embed_tokens": {"group_size": 64, "bits": 8},
        "lm_head": {"bits": 8, "mode": "mxfp8"},
        "model.norm": False,
        "model.layers.0.mlp.up_proj": True,
    }
    config = parse_config({**golden("qwen3").config, "quantization": given, "quantization_config": given})
    q = config.quantization
    assert isinstance(q, Quantization)
    assert q.for_module("model.layers.0.mlp.up_proj") == {"group_size": 32, "bits": 4, "mode": "mxfp4"}
    assert q.for_module("model.embed_tokens") == {"group_size": 64, "bits": 8, "mode": "affine"}
    assert q.for_module("lm_head") == {"group_size": 32, "bits": 8, "mode": "mxfp8"}
    assert q.for_module("model.norm") is None
    assert config.to_dict()["quantization"] == given
    assert "quantization_config" not in config.to_dict()
    with pytest.raises(ConfigError, match=r"of 'lm_head' bits must be one of \(4,\), got 8"):
        Quantization(32, 4, {"lm_head": {"bits": 8, "mode": "mxfp4"}})


class TestRotary:
    def test_scaling_round_trip(self):
        for scaling in (
            RopeScaling("llama3", 8.0, 1.0, 4.0, 64),
            RopeScaling("yarn", 4.0, original_max_position_embeddings=16, mscale=0.7, mscale_all_dim=0.5),
            RopeScaling("longrope", 4.0, short_factor=(1.0, 2.0), long_factor=(3.0, 4.0)),
            RopeScaling("linear", 2.0),
        ):
            raw = json.loads(json.dumps(scaling.to_dict()))
            assert read_rotary(Fields({"rope_scaling": raw}, "mine"), 99).scaling == scaling

    def test_longrope_by_context(self):
        scaling = RopeScaling(
            "longrope", 4.0, original_max_position_embeddings=16, short_factor=(2.0,), long_factor=(5.0,)
        )
        assert rotary_periods(RotaryConfig(2, 10.0, scaling=scaling, context=16)) == [2.0]
        assert rotary_periods(RotaryConfig(2, 10.0, scaling=scaling, context=17)) == [5.0]

    def test_context_is_at_most_the_model_s(self):
        config = golden("phi3_short").config
        assert parse_config(config, context=16).max_position_embeddings == 16
        assert parse_config(golden("llama").config, context=5).max_position_embeddings == 5
        for wrong in (0, 65):
            with pytest.raises(ConfigError, match=f"context must be from 1 to the model's 64, got {wrong}"):
                parse_config(config, context=wrong)
