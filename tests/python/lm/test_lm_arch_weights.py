"""Published layouts of weights, and quantized weights of every kind of layer."""

from __future__ import annotations

import dataclasses

import lamina.core as mx
import lamina.nn as nn
import numpy as np
import pytest
from lamina.lm import CheckpointError, Quantization, quantize
from lamina.lm.arithmetic import set_arithmetic
from lamina.lm.config import HFQuantization, parse_config
from lamina.lm.io import fit_weights
from lamina.lm.models import Decoder, build_model
from lamina.lm.models.switch import SwitchLinear
from lamina.utils import tree_flatten
from lm.golden_numbers import numbers
from lm.lm_golden import golden

TOKENS = mx.array([[5, 9, 2, 33, 17, 60, 4, 8, 21, 40, 11, 3]])


def filled(config: dict) -> Decoder:
    """A model of this config with numbers that follow from its parameters' names."""
    model = build_model(parse_config(config))
    shapes = {k: v.shape for k, v in tree_flatten(model.parameters())}
    model.load_weights([(k, mx.array(numbers(k, tuple(s)))) for k, s in shapes.items()])
    return model


def dequantized(model: Decoder) -> dict[str, mx.array]:
    """The weights that a quantized model computes with."""
    stored = dict(tree_flatten(model.parameters()))
    out = {}
    for name, value in stored.items():
        path, _, leaf = name.rpartition(".")
        if leaf in ("scales", "biases"):
            continue
        if leaf == "weight" and f"{path}.scales" in stored:
            own = model.config.quantization.for_module(path)
            scales, biases = stored[f"{path}.scales"], stored.get(f"{path}.biases")
            value = mx.dequantize(value, scales, biases, dtype=mx.float32, **own)
        out[name] = value
    return out


def tolerance(model: Decoder, logits: np.ndarray) -> float:
    """How far two float32 computations of the same logits may be apart; see ``Golden.tolerance``."""
    spec = model.config.spec
    terms = spec.width + len(spec.layers) * (8 * spec.width + logits.shape[1])
    return 8 * float(np.finfo(np.float32).eps) * float(np.sqrt(terms)) * float(np.abs(logits).max())


WIDE = {"kv_lora_rank": 32, "q_lora_rank": 32, "moe_intermediate_size": 32, "v_head_dim": 16}
QUANTIZED = [
    ("llama", {"intermediate_size": 64}, (32, 4, "affine")),
    ("gpt2", {}, (32, 8, "affine")),
    ("phi3", {"intermediate_size": 64}, (32, 4, "mxfp4")),
    ("mixtral", {"intermediate_size": 64}, (32, 4, "affine")),
    (
        "qwen2_moe",
        {"intermediate_size": 64, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
        (16, 4, "nvfp4"),
    ),
    ("deepseek_v3", {**WIDE, "intermediate_size": 64}, (32, 8, "affine")),
    ("deepseek_v2", {**WIDE, "intermediate_size": 64, "q_lora_rank": None}, (32, 8, "mxfp8")),
    ("gpt_oss", {}, (32, 4, "mxfp4")),
]


@pytest.mark.parametrize(("name", "change", "how"), QUANTIZED, ids=[f"{q[0]}-{q[2]}" for q in QUANTIZED])
def test_quantized_models_compute_with_their_dequantized_weights(name, change, how):
    config = {**golden(name).config, **change}
    model = filled(config)
    size, bits, mode = how
    quantize(model, Quantization(size, bits, mode=mode))
    plain = build_model(parse_config(config))
    fit_weights(plain, dequantized(model))
    wanted = np.array(plain(TOKENS))
    for tokens in (TOKENS, TOKENS[:, :1]):
        got = np.array(model(tokens))
        assert np.abs(got - wanted[:, : tokens.shape[1]]).max() <= tolerance(model, wanted)
    # And from a directory: published names, the config's quantization.
    again = build_model(parse_config(model.config.to_dict()))
    fit_weights(again, dict(tree_flatten(model.parameters())))
    assert np.array_equal(np.array(again(TOKENS)), np.array(model(TOKENS)))


def test_routers_are_not_packed():
    config = {**golden("qwen2_moe").config, "moe_intermediate_size": 32, "intermediate_size": 64}
    model = filled({**config, "shared_expert_intermediate_size": 32})
    routers = {p for p, m in model.named_modules() if p.endswith(("mlp.gate", "shared_expert_gate"))}
    assert len(routers) == 2
    one = min(routers)
    quantize(model, Quantization(32, 4, {one: {"group_size": 32, "bits": 8}}))
    packed = {p for p, m in model.named_modules() if "scales" in m}
    assert packed & routers == {one}
    assert {p for p, m in model.named_modules() if isinstance(m, nn.Linear)} == routers - {one}


def test_gpt_oss_with_words_and_scales_by_name():
    """As the reader of packed checkpoints hands them on: the matrices turned, gate and up by turns."""
    case = golden("gpt_oss")
    named = {}
    for name, value in case.weights().items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            named[f"{name}.weight"] = value.swapaxes(-1, -2)
        elif name.endswith("_proj_bias"):
            named[f"{name.removesuffix('_bias')}.bias"] = value
        else:
            named[name] = value
    model = case.model()
    wanted = np.array(model(TOKENS))
    fit_weights(model, named)
    assert np.array_equal(np.array(model(TOKENS)), wanted)


@pytest.mark.parametrize("name", ["mamba", "mamba2", "jamba", "recurrent_gemma"])
def test_convolutions_with_channels_last(name):
    case = golden(name)
    model = case.model()
    wanted = np.array(model(TOKENS))
    turned = {k: v.swapaxes(1, 2) if "conv" in k and v.ndim == 3 else v for k, v in case.weights().items()}
    assert any(v.ndim == 3 and v.shape[-1] == 1 for v in turned.values())
    fit_weights(model, turned)
    assert np.array_equal(np.array(model(TOKENS)), wanted)


def test_falcon_with_its_factors_in_the_weights_is_refused():
    case = golden("falcon_h1")
    model = case.model()
    turned = {k: v.swapaxes(1, 2) if "conv" in k and v.ndim == 3 else v for k, v in case.weights().items()}
    with pytest.raises(CheckpointError, match="multiplied by the config's factors"):
        model.sanitize(turned)


def test_gpt_oss_as_published_in_mxfp4():
    case = golden("gpt_oss")
    published: dict[str, mx.array] = {}
    plain = case.weights()
    for name, value in case.weights().items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            # (experts, in, out): packed along the inputs, 16 bytes for each 32 of them.
            packed, scales = mx.quantize(value.swapaxes(-1, -2), 32, 4, mode="mxfp4")[:2]
            published[name + "_scales"] = scales
            published[name + "_blocks"] = packed.view(mx.uint8).reshape(*packed.shape[:2], -1, 16)
            unpacked = mx.dequantize(packed, scales, group_size=32, bits=4, mode="mxfp4")
            plain[name] = unpacked.swapaxes(-1, -2)
        else:
            published[name] = value
    hugging_face = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    config = parse_config({**case.config, "quantization_config": hugging_face})
    assert config.quantization == HFQuantization("mxfp4", 4, 32, "", ("model.layers.*.self_attn",))
    config = dataclasses.replace(config, quantization=Quantization(32, 4, mode="mxfp4"))
    model, reference = build_model(config), build_model(parse_config(case.config))
    fit_weights(model, published)
    fit_weights(reference, plain)
    wanted = np.array(reference(TOKENS))
    assert np.abs(np.array(model(TOKENS)) - wanted).max() <= tolerance(model, wanted)


def test_layers_that_predict_further_tokens_are_left_out():
    case = golden("deepseek_v3")
    model = build_model(parse_config(case.config))
    further = {
        f"model.layers.2.{k.split('.', 3)[3]}": v
        for k, v in case.weights().items()
        if k.startswith("model.layers.1.")
    }
    assert model.sanitize({**case.weights(), **further}).keys() == model.sanitize(case.weights()).keys()
    beyond = model.sanitize({**case.weights(), "model.layers.3.mlp.gate.weight": mx.zeros((1,))})
    assert "model.layers.3.mlp.gate.weight" in beyond


def test_experts_that_are_not_whole_are_refused_by_name():
    model = golden("mixtral").model()
    weights = golden("mixtral").weights()
    name = "model.layers.0.block_sparse_moe.experts.1.w3.weight"
    published = r"'model\.layers\.0\.block_sparse_moe\.experts\.\*\.w3\.weight'"
    lacking = {k: v for k, v in weights.items() if k != name}
    with pytest.raises(CheckpointError, match=published + r".* got numbers \[0, 2, 3\]"):
        model.sanitize(lacking)
    with pytest.raises(CheckpointError, match=published + r".*shapes \[\(47, 32\), \(48, 32\)\]"):
        model.sanitize({**weights, name: weights[name][:47]})


def test_gpt2_without_prefix_or_already_turned_round():
    case = golden("gpt2")
    model = case.model()
    wanted = np.array(model(TOKENS))
    bare = {k.removeprefix("transformer."): v for k, v in case.weights().items()}
    bare |= {f"h.{i}.attn.bias": mx.ones((1, 1, 64, 64)) for i in range(2)}
    turned = {
        f"model.{k.removeprefix('transformer.')}": v.T if v.ndim == 2 and ".h." in k else v
        for k, v in case.weights().items()
    }
    for weights in (bare, turned):
        other = build_model(parse_config(case.config))
        fit_weights(other, weights)
        assert np.array_equal(np.array(other(TOKENS)), wanted)


def test_gpt_neox_as_mlx_community_names_it():
    case = golden("gpt_neox")
    model = case.model()
    renamed = {
        f"model.{k.replace('gpt_neox.layers.', 'h.').replace('gpt_neox.', '')}": v
        for k, v in case.weights().items()
    }
    assert {"model.h.0.attention.dense.weight", "model.embed_out.weight"} <= renamed.keys()
    wanted = np.array(model(TOKENS))
    fit_weights(model, renamed)
    assert np.array_equal(np.array(model(TOKENS)), wanted)


def test_latent_attention_with_another_kind_of_layer():
    """Such as one with an adapter: its matrix is what it makes of the identity."""

    class Adapted(nn.Module):
        def __init__(self, linear: nn.Linear) -> None:
            super().__init__()
            self.linear = linear

        def __call__(self, x: mx.array) -> mx.array:
            return self.linear(x)

    case = golden("deepseek_v2")
    model = case.model()
    wanted = np.array(model(TOKENS))
    for layer in model.body.decoder_layers:
        layer.self_attn.kv_b_proj = Adapted(layer.self_attn.kv_b_proj)
    assert np.abs(np.array(model(TOKENS)) - wanted).max() <= tolerance(model, wanted)


class TestSwitch:
    @pytest.mark.parametrize(
        ("tokens", "picks", "experts"), [(1, 2, 4), (5, 1, 2), (9, 3, 4), (64, 2, 8), (7, 4, 4)]
    )
    def test_rows_go_through_the_experts_they_chose(self, tokens, picks, experts):
        rng = np.random.default_rng(tokens)
        x = rng.standard_normal((tokens, 6)).astype(np.float32)
        w = rng.standard_normal((experts, 5, 6)).astype(np.float32)
        b = rng.standard_normal((experts, 5)).astype(np.float32)
        chosen = np.argsort(rng.standard_normal((tokens, experts)), axis=1)[:, :picks]
        layer = SwitchLinear(experts, 6, 5, bias=True)
        layer.weight, layer.bias = mx.array(w), mx.array(b)
        got = np.array(layer(mx.array(x)[:, None, None, :], mx.array(chosen)))[:, :, 0, :]
        wanted = np.einsum("ti,tnoi->tno", x.astype(np.float64), w.astype(np.float64)[chosen]) + b[chosen]
        bound = np.finfo(np.float32).eps * 7 * (np.abs(wanted).max() + 6 * np.abs(x).max() * np.abs(w).max())
        assert np.abs(got - wanted).max() <= bound

    def test_rows_of_8_bit_activations_get_the_same_bits_alone_and_together(self):
        rng = np.random.default_rng(0)
        x = mx.array(rng.standard_normal((50, 1, 1, 64)).astype(np.float32))
        chosen = mx.array(np.argsort(rng.standard_normal((50, 6)), axis=1)[:, :2])
        model = nn.Sequential(SwitchLinear(6, 64, 9, bias=True).to_quantized())
        set_arithmetic(model, "int8")
        layer = model.layers[0]
        assert layer.activations == "int8"
        together = layer(x, chosen)
        alone = mx.concatenate([layer(x[i : i + 1], chosen[i : i + 1]) for i in range(50)])
        assert mx.array_equal(together, alone).item()
        set_arithmetic(model, "exact")
        exact = layer(x, chosen)
        # Half a step of the 127 that the largest activation has, in each of them.
        weights = mx.abs(mx.dequantize(layer["weight"], layer["scales"], layer["biases"])).sum(axis=-1)
        bound = weights[chosen][..., None, :] * mx.abs(x).max(axis=-1, keepdims=True) / 254
        rounding = 64 * np.finfo(np.float32).eps * weights.max() * mx.abs(x).max()
        assert mx.abs(exact - together).max().item() > 0
        assert (mx.abs(exact - together) <= bound + rounding).all().item()
