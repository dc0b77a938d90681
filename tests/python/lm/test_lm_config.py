"""Configurations: what is understood, what is refused, and how it is told."""

from __future__ import annotations

import json

import pytest
from lamina.lm import ConfigError, LlamaConfig, Quantization, load_config, parse_config

GOOD = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 300,
}


def test_defaults_and_harmless_fields():
    c = parse_config(
        {**GOOD, "torch_dtype": "bfloat16", "use_cache": True, "architectures": ["LlamaForCausalLM"]}
    )
    assert c == LlamaConfig(64, 2, 4, 128, 300)
    assert (c.num_key_value_heads, c.head_dim, c.rope_theta, c.eos_token_id) == (4, 16, 10000.0, ())


def test_absent_values_are_defaults():
    c = parse_config(
        {**GOOD, "head_dim": None, "rope_scaling": None, "some_new_switch": False, "another": None}
    )
    assert c.head_dim == 16


def test_ids_rope_and_quantization():
    c = parse_config(
        {
            **GOOD,
            "eos_token_id": [1, 2],
            "bos_token_id": 0,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
            },
            "quantization": {
                "group_size": 32,
                "bits": 8,
                "model.embed_tokens": {"bits": 4},
                "lm_head": False,
            },
        }
    )
    assert c.eos_token_id == (1, 2)
    assert c.bos_token_id == 0
    assert c.rope_theta == 5e5
    assert c.rope_scaling.kind == "llama3"
    assert c.rope_scaling.factor == 8.0
    q = c.quantization
    assert q.for_module("model.layers.0.mlp.up_proj") == {"group_size": 32, "bits": 8, "mode": "affine"}
    assert q.for_module("model.embed_tokens") == {"group_size": 32, "bits": 4, "mode": "affine"}
    assert q.for_module("lm_head") is None


def test_round_trip():
    c = parse_config(
        {
            **GOOD,
            "eos_token_id": 3,
            "rope_scaling": {"type": "linear", "factor": 2.0},
            "tie_word_embeddings": True,
        }
    )
    assert parse_config(json.loads(json.dumps(c.to_dict()))) == c
    q = parse_config({**c.to_dict(), "quantization": {"group_size": 64, "bits": 4, "lm_head": False}})
    assert parse_config(json.loads(json.dumps(q.to_dict()))) == q


BAD = [
    ({"model_type": "gpt5"}, "model type 'gpt5' is not supported; supported: .*llama"),
    ({"model_type": None}, "config has no 'model_type'"),
    (
        {"logit_softcap": 30.0},
        "config fields not understood for model type 'llama': logit_softcap; supported: .*hidden_size",
    ),
    ({"hidden_size": None}, "lacks hidden_size"),
    ({"hidden_size": -1}, "'hidden_size' must be a positive integer, got -1"),
    ({"hidden_size": "64"}, "'hidden_size' must be a positive integer, got '64'"),
    ({"hidden_size": 66}, "hidden_size 66 is not a multiple of num_attention_heads 4"),
    ({"head_dim": 15}, "head_dim must be even"),
    ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
    ({"hidden_act": "gelu"}, "'hidden_act' 'gelu' is not supported; supported: silu"),
    ({"sliding_window": 4096}, "'sliding_window' 4096 is not supported"),
    ({"rope_theta": "big"}, "'rope_theta' must be a number, got 'big'"),
    ({"rope_theta": -1.0}, "'rope_theta' must be positive"),
    (
        {"rope_scaling": {"rope_type": "ntk", "factor": 4}},
        "type 'ntk' is not supported; supported: default, linear, dynamic, llama3, yarn, longrope",
    ),
    ({"rope_scaling": {"type": "linear"}}, "lacks 'factor'"),
    (
        {"rope_scaling": {"type": "linear", "factor": 2, "beta": 1}},
        "fields not understood for type 'linear': beta",
    ),
    ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor must be positive"),
    ({"rope_scaling": 2}, "'rope_scaling' must be an object"),
    (
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        "quant_method 'bitsandbytes', which is not supported; supported: awq, gptq, fp8, mxfp4",
    ),
    ({"quantization": {"bits": 4}}, "wanted quantization as"),
    ({"quantization": {"bits": 7, "group_size": 64}}, r"bits must be one of \(2, 3, 4, 5, 6, 8\), got 7"),
    ({"quantization": {"bits": 4, "group_size": 48}}, r"group_size must be one of \(32, 64, 128\), got 48"),
    ({"quantization": {"bits": 4, "group_size": 64, "mode": "nf4"}}, "mode 'nf4' is not supported"),
    ({"quantization": {"bits": 4, "group_size": 64, "extra": 3}}, "entries not understood: extra"),
    ({"eos_token_id": "end"}, "'eos_token_id' must be a token id or a list of them, got 'end'"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[str(b[0]) for b in BAD])
def test_bad_fields_are_named(change, message):
    raw = {k: v for k, v in {**GOOD, **change}.items() if not (k in change and v is None)}
    with pytest.raises(ConfigError, match=message):
        parse_config(raw)


def test_unknown_fields_can_be_ignored_by_name():
    raw = {**GOOD, "logit_softcap": 30.0, "other": 1}
    with pytest.raises(ConfigError, match="logit_softcap, other"):
        parse_config(raw)
    assert parse_config(raw, ignore=("logit_softcap", "other")) == parse_config(GOOD)


def test_files(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*config\.json"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ConfigError, match="must hold a JSON object, got list"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(GOOD))
    assert load_config(tmp_path) == parse_config(GOOD)


def test_configs_are_frozen():
    with pytest.raises(AttributeError):
        parse_config(GOOD).hidden_size = 1
    with pytest.raises(ConfigError, match="bits"):
        Quantization(64, 9)
