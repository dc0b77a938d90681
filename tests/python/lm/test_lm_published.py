"""Checkpoints that Hugging Face tools packed: AWQ, GPTQ, FP8 with block scales, mxfp4."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm import CheckpointError, LlamaConfig
from lamina.lm.config import parse_config
from lamina.lm.io import fit_weights, read_checkpoint
from lamina.lm.io.load import model_of
from lamina.lm.io.memory import memory_needed
from lamina.lm.io.published import scaled_fp8, unpack_published
from lamina.lm.io.report import size_of
from lamina.lm.layers import Fp8Linear, Fp8SwitchLinear
from lamina.lm.models import build_model
from lamina.lm.models.switch import SwitchLinear
from lamina.lm.quantization import Format
from lamina.lm.quantization.layers import layer_in, stored_format
from lamina.utils import tree_flatten
from lm.lm_golden import golden

GOLDEN = Path(__file__).parents[2] / "golden" / "published"
EXPECTED = np.load(GOLDEN / "expected.npz")
TOKENS = [3, 17, 20, 45, 45, 11, 9, 25]
VARIANTS = ["awq", "gptq", "gptq_sym", "gptq_order", "gptq_3bit", "gptq_8bit", "fp8"]
EPS = 2.0**-24


def dense(module) -> mx.array:
    """The float32 weight of a linear layer of any kind."""
    if hasattr(module, "dequantized"):
        return module.dequantized(mx.float32)
    if "scales" not in module:
        return module.weight.astype(mx.float32)
    parts = [module[p].astype(mx.float32) for p in ("scales", "biases")]
    return mx.dequantize(module.weight, *parts, group_size=module.group_size, bits=module.bits)


@pytest.mark.parametrize("name", VARIANTS)
def test_weights_are_those_of_the_codes(name: str) -> None:
    model = model_of(read_checkpoint(GOLDEN / name))
    modules = dict(model.named_modules())
    wanted = {k.split("/")[1]: str(v) for k, v in EXPECTED.items() if k.startswith(f"{name}/model")}
    assert len(wanted) == 7
    for path, digest in wanted.items():
        values = np.ascontiguousarray(np.asarray(dense(modules[path])))
        assert hashlib.sha256(values.astype("<f4").tobytes()).hexdigest() == digest, path


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_are_the_references(name: str) -> None:
    model = model_of(read_checkpoint(GOLDEN / name))
    model.set_dtype(mx.float32)
    got = np.asarray(model(mx.array([TOKENS])))[0].astype(np.float64)
    want = EXPECTED[f"{name}/logits"]
    # About 20 sums of at most 96 products one after another; each rounds like a random walk.
    bound = 8 * EPS * np.sqrt(20 * 96) * np.abs(want).max()
    assert np.abs(got - want).max() <= bound


def test_packed_layers_stay_packed() -> None:
    for name, bits in (("awq", 4), ("gptq_3bit", 3), ("gptq_8bit", 8)):
        layer = model_of(read_checkpoint(GOLDEN / name)).model.layers[0].mlp.up_proj
        assert layer.weight.dtype == mx.uint32
        assert (layer.bits, layer.group_size, layer.mode) == (bits, 32, "affine")
    # Symmetric codes need no wider scales, and so no layer of their own.
    layer = model_of(read_checkpoint(GOLDEN / "gptq_sym")).model.layers[0].mlp.up_proj
    assert (type(layer).__name__, layer.scales.dtype) == ("QuantizedLinear", mx.float16)
    half = mx.ones((1, 64), mx.float16)
    assert layer(half).dtype == mx.float16
    wide = model_of(read_checkpoint(GOLDEN / "awq")).model.layers[0].mlp.up_proj
    assert (wide.scales.dtype, wide(half).dtype) == (mx.float32, mx.float16)


def changed(tmp_path: Path, name: str, settings: dict, drop: str = "") -> Path:
    """A copy of a golden checkpoint with other settings, and without a tensor."""
    folder = tmp_path / "m"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(GOLDEN / name, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] |= settings
    (folder / "config.json").write_text(json.dumps(config))
    if drop:
        arrays = {k: v for k, v in mx.load(folder / "model.safetensors").items() if k != drop}
        mx.save_safetensors(folder / "model.safetensors", arrays)
    return folder


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "awq",
            {"quant_method": "aqlm"},
            r"method 'aqlm' is not supported \(tensor 'model.*'\); supported: awq",
        ),
        (
            "awq",
            {"version": "gemv"},
            r"AWQ version 'gemv' with 4 bits is not supported \(tensor 'model.*qweight'",
        ),
        ("gptq", {"checkpoint_format": "marlin"}, r"GPTQ layout 'marlin' with 4 bits .* \(tensor 'model"),
        ("gptq", {"bits": 5}, r"GPTQ layout 'gptq' with 5 bits is not supported"),
        ("fp8", {"fmt": "e5m2"}, r"FP8 of 'e5m2' with blocks \[32, 48\] is not supported \(tensor 'model"),
        ("fp8", {"weight_block_size": None}, "blocks None is not supported"),
        ("fp8", {"weight_block_size": [64, 48]}, r"weight_scale_inv' has shape .*, its module wants"),
    ],
)
def test_what_is_not_known_is_refused_by_name(tmp_path, name, settings, message) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(changed(tmp_path, name, settings))


def test_parts_must_be_there_and_fit(tmp_path) -> None:
    module = "model.layers.0.mlp.up_proj"
    with pytest.raises(
        CheckpointError, match=rf"'{module}' is packed, but the checkpoint lacks {module}.qzeros"
    ):
        read_checkpoint(changed(tmp_path, "gptq", {}, f"{module}.qzeros"))
    arrays = mx.load(GOLDEN / "gptq" / "model.safetensors")
    settings = {"bits": 4}
    wrong = {
        "qweight": (mx.zeros((8, 96)), "must be a matrix of 32-bit words, got .*float32"),
        "scales": (mx.zeros((5, 96)), "has 5 groups for 64 inputs"),
        "qzeros": (mx.zeros((2, 96), mx.int32), r"has shape \(2, 96\), its module wants \(2, 12\)"),
        "g_idx": (mx.zeros((64,), mx.int32), "does not put 32 inputs into each group"),
    }
    for part, (value, message) in wrong.items():
        with pytest.raises(CheckpointError, match=message):
            unpack_published("gptq", settings, arrays | {f"{module}.{part}": value})
    order = mx.array(np.arange(64, dtype=np.int32)[::-1] // 32)
    eight = mx.load(GOLDEN / "gptq_8bit" / "model.safetensors") | {f"{module}.g_idx": order}
    with pytest.raises(CheckpointError, match="reorders inputs, which is supported with 4 bits, not 8"):
        unpack_published("gptq", {"bits": 8}, eight)


def test_unknown_packing_names_the_tensor(tmp_path) -> None:
    folder = changed(tmp_path, "fp8", {})
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"has unexpected weights: .*weight_scale_inv"):
        model_of(read_checkpoint(folder))
    arrays = mx.load(folder / "model.safetensors")
    arrays = {k: v for k, v in arrays.items() if not k.endswith("_inv")}
    mx.save_safetensors(folder / "model.safetensors", arrays)
    with pytest.raises(CheckpointError, match=r"weight 'model.*' is of .*uint8, wanted floating point"):
        model_of(read_checkpoint(folder))


@pytest.mark.parametrize("shape", [(256, 384), (130, 200), (1, 1)])
def test_block_scales_of_128(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 127, shape, dtype=np.uint8)
    scales = rng.uniform(1e-3, 1, [-(-n // 128) for n in shape]).astype(np.float32)
    got = scaled_fp8(mx.array(codes), mx.array(scales), (128, 128))
    values = np.asarray(mx.from_fp8(mx.array(codes), mx.float32))
    want = mx.array(values * scales.repeat(128, 0)[: shape[0]].repeat(128, 1)[:, : shape[1]])
    want = want.astype(mx.bfloat16)
    np.testing.assert_array_equal(np.asarray(got.view(mx.uint16)), np.asarray(want.view(mx.uint16)))


def fp8_model(folder: Path) -> dict[str, np.ndarray]:
    """Write a llama of 8-bit floats in blocks of 128; return its weights."""
    config = LlamaConfig(128, 1, 4, 256, 48, max_position_embeddings=64)
    rng = np.random.default_rng(7)
    stored, dense = {}, {}
    for name, value in tree_flatten(build_model(config).parameters()):
        if "_proj" not in name:
            dense[name] = rng.standard_normal(value.shape).astype(np.float32)
            stored[name] = mx.array(dense[name])
            continue
        codes = rng.integers(0, 255, value.shape, dtype=np.uint8)
        codes[(codes & 0x7F) == 0x7F] = 0
        scales = rng.uniform(1e-4, 1e-3, [-(-n // 128) for n in value.shape]).astype(np.float32)
        stored[name] = mx.array(codes)
        stored[name.replace("weight", "weight_scale_inv")] = mx.array(scales)
        full = scales.repeat(128, 0)[: value.shape[0]].repeat(128, 1)[:, : value.shape[1]]
        dense[name] = np.asarray(mx.from_fp8(stored[name], mx.float32)) * full
    mx.save_safetensors(folder / "model.safetensors", stored)
    settings = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    raw = config.to_dict() | {"quantization_config": settings}
    (folder / "config.json").write_text(json.dumps(raw))
    return dense


def test_fp8_stays_in_8_bits(tmp_path) -> None:
    dense_weights = fp8_model(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    model = model_of(checkpoint)
    layer = model.model.layers[0].mlp.down_proj
    assert type(layer) is Fp8Linear
    assert id(layer.weight) in checkpoint.mapped
    need = memory_needed(model, checkpoint.mapped, 8)
    assert need.copied == sum(m.block_scales.nbytes for m in model.modules() if isinstance(m, Fp8Linear))
    for name, value in dense_weights.items():
        module = dict(model.named_modules())[name.removesuffix(".weight")]
        np.testing.assert_array_equal(np.asarray(dense(module)), value)
    reference = build_model(model.config)
    fit_weights(reference, {k: mx.array(v) for k, v in dense_weights.items()})
    tokens = mx.array([TOKENS])
    got, want = (np.asarray(m(tokens)).astype(np.float64) for m in (model, reference))
    assert np.abs(got - want).max() <= 8 * EPS * np.sqrt(12 * 256) * np.abs(want).max()
    assert str(stored_format(layer)) == "fp8"
    assert size_of(model).weights == sum(v.size for v in dense_weights.values())


def test_fp8_experts() -> None:
    rng = np.random.default_rng(8)
    codes = mx.array(rng.integers(0, 0x7F, (3, 4, 256), dtype=np.uint8))
    scales = mx.array(rng.uniform(0.1, 1, (3, 4, 2)).astype(np.float32))
    layer = Fp8SwitchLinear(codes.view(mx.uint32), scales.view(mx.uint8))
    x = rng.standard_normal((2, 1, 256)).astype(np.float32)
    y = np.asarray(layer(mx.array(x), mx.array([2, 0])))
    weight = np.asarray(layer.dequantized(mx.float32)).astype(np.float64)[[2, 0]]
    want = x @ weight.swapaxes(-1, -2)
    size = np.abs(x) @ np.abs(weight).swapaxes(-1, -2)
    assert (np.abs(y - want) <= 8 * EPS * np.sqrt(256) * size).all()
    plain = layer_in(layer, Format("float32"))
    assert type(plain) is SwitchLinear


def test_groups_of_whole_rows() -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 16, (8, 256), dtype=np.uint8)
    scales = rng.uniform(0.5, 1, (1, 8)).astype(np.float16)
    words = (codes.reshape(8, 32, 8).astype(np.uint32) << (4 * np.arange(8, dtype=np.uint32))).sum(
        -1, dtype=np.uint32
    )
    arrays = {
        "m.qweight": mx.array(words.T.view(np.int32)),
        "m.qzeros": mx.array(np.array([[0x77777777]], np.int32)),
        "m.scales": mx.array(scales),
        "m.bias": mx.ones((8,)),
    }
    out = unpack_published("gptq", {"bits": 4, "group_size": -1, "sym": True}, arrays)
    assert set(out) == {"m.weight", "m.scales", "m.biases", "m.bias"}
    parts = [out["m.weight"], *(out[f"m.{p}"].astype(mx.float32) for p in ("scales", "biases"))]
    got = mx.dequantize(*parts, group_size=128, bits=4)
    np.testing.assert_array_equal(
        np.asarray(got), scales.T.astype(np.float32) * (codes.astype(np.float32) - 8)
    )


def test_mxfp4_experts_run_as_they_are_packed(tmp_path) -> None:
    plain = golden("gpt_oss")
    arrays, dense = {}, {}
    for name, value in plain.weights().items():
        dense[name] = arrays[name] = value
        if name.endswith(("gate_up_proj", "down_proj")):
            codes, scales = mx.quantize(value.swapaxes(-1, -2), mode="mxfp4")
            experts, outputs, groups = scales.shape
            arrays[f"{name}_blocks"] = codes.view(mx.uint8).reshape(experts, outputs, groups, 16)
            arrays[f"{name}_scales"] = scales
            del arrays[name]
            rounded = mx.dequantize(codes, scales, mode="mxfp4", dtype=mx.float32)
            dense[name] = rounded.swapaxes(-1, -2)
    mx.save_safetensors(tmp_path / "model.safetensors", arrays)
    config = plain.config | {"quantization_config": {"quant_method": "mxfp4"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = model_of(read_checkpoint(tmp_path))
    layer = model.model.layers[0].mlp.experts.up_proj
    assert (layer.mode, layer.weight.dtype) == ("mxfp4", mx.uint32)
    reference = build_model(parse_config(plain.config))
    fit_weights(reference, dense)
    tokens = mx.array([plain.sequences[0]])
    got, want = (np.asarray(m(tokens)).astype(np.float64) for m in (model, reference))
    assert np.abs(got - want).max() <= plain.tolerance()
    lost = next(n for n in arrays if n.endswith("_scales"))
    mx.save_safetensors(tmp_path / "model.safetensors", {k: v for k, v in arrays.items() if k != lost})
    with pytest.raises(CheckpointError, match=f"is packed, but the checkpoint lacks {lost}"):
        read_checkpoint(tmp_path)
    wrong = {"a_blocks": mx.zeros((2, 3), mx.uint8), "a_scales": mx.zeros((2,), mx.uint8)}
    with pytest.raises(CheckpointError, match=r"must be uint8 of shape \(..., 16\)"):
        unpack_published("mxfp4", {}, wrong)
