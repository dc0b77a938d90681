"""Model directories: round trips, shards, quantization, and files that are not whole."""

from __future__ import annotations

import dataclasses
import json
import struct

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm import (
    CheckpointError,
    ConfigError,
    ContextError,
    Quantization,
    convert,
    load,
    quantize,
    save,
    stream_generate,
)
from lamina.lm.cache.files import fingerprint
from lamina.lm.io import check_safetensors, load_tensors, replacing
from lamina.utils import tree_flatten
from lm.llama_reference import random_weights, write_safetensors
from lm.lm_golden import golden
from lm.lm_helpers import TINY, write_model_dir


def arrays_of(model) -> dict[str, np.ndarray]:
    return {
        k: np.array(v.astype(mx.float32) if v.dtype == mx.bfloat16 else v)
        for k, v in tree_flatten(model.parameters())
    }


def test_load_gives_the_weights_in_the_files(model_dir):
    model, tokenizer = load(model_dir)
    wanted = random_weights(TINY, 0)
    got = arrays_of(model)
    assert got.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(got[name], wanted[name])
    assert tokenizer.eos_ids == {0}
    assert model.config == TINY


def test_save_and_load(model_dir, tmp_path):
    model, tokenizer = load(model_dir)
    save(tmp_path / "again", model, tokenizer)
    again, tokenizer2 = load(tmp_path / "again")
    for name, value in arrays_of(model).items():
        np.testing.assert_array_equal(arrays_of(again)[name], value)
    assert again.config == model.config
    assert tokenizer2.encode("def f(é):") == tokenizer.encode("def f(é):")
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    named = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())
    assert named["eos_token"] == tokenizer2.special_tokens["eos_token"] == "<|endoftext|>"


@pytest.mark.parametrize(("bits", "group"), [(4, 64), (4, 32), (8, 32)])
def test_quantized_round_trip(model_dir, tmp_path, bits, group):
    model, tokenizer = load(model_dir)
    quantize(model, Quantization(group, bits))
    save(tmp_path / "q", model, tokenizer)
    again, _ = load(tmp_path / "q")
    tokens = mx.array([[5, 9, 200, 31]])
    np.testing.assert_array_equal(np.array(again(tokens)), np.array(model(tokens)))
    assert json.loads((tmp_path / "q" / "config.json").read_text())["quantization"] == {
        "group_size": group,
        "bits": bits,
    }
    with pytest.raises(ConfigError, match=f"quantized already \\({bits} bits, groups of {group}\\)"):
        quantize(again, Quantization(64, 4))


def test_modules_can_have_their_own_quantization(model_dir, tmp_path):
    model, tokenizer = load(model_dir)
    own = {"model.embed_tokens": {"bits": 8}, "model.layers.0.mlp.up_proj": False}
    quantize(model, Quantization(64, 4, own))
    save(tmp_path / "q", model, tokenizer)
    again, _ = load(tmp_path / "q")
    shapes = {k: v.shape for k, v in arrays_of(again).items()}
    assert shapes["model.embed_tokens.weight"] == (320, 16)
    assert shapes["model.layers.0.mlp.up_proj.weight"] == (128, 64)
    assert shapes["model.layers.1.mlp.up_proj.weight"] == (128, 8)
    tokens = mx.array([[5, 9]])
    np.testing.assert_array_equal(np.array(again(tokens)), np.array(model(tokens)))


def test_shards(model_dir):
    weights = random_weights(TINY, 0)
    (model_dir / "model.safetensors").unlink()
    names = sorted(weights)
    index = {}
    for i, part in enumerate((names[::2], names[1::2])):
        file = f"model-{i + 1:05d}-of-00002.safetensors"
        write_safetensors(model_dir / file, {n: weights[n] for n in part})
        index |= dict.fromkeys(part, file)
    (model_dir / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    got = arrays_of(load(model_dir)[0])
    for name in names:
        np.testing.assert_array_equal(got[name], weights[name])
    (model_dir / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks 1 of its 2 shards: model-00002-of-00002\.safetensors"):
        load(model_dir)
    (model_dir / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not a usable index of shards"):
        load(model_dir)


def test_truncation_anywhere_is_found(model_dir):
    file = model_dir / "model.safetensors"
    whole = file.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for size in (0, 3, 8, 9, header // 2, header - 1, header, header + 1, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            load(model_dir)
    file.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError, match=f"wants {len(whole)} bytes, the file has {len(whole) + 1}"):
        load(model_dir)
    file.write_bytes(whole)
    load(model_dir)


def _with_header(path, header: object, data: bytes = b"\0" * 8) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{ not json", "corrupt safetensors header"),
        (b"\xff\xfe{}", "corrupt safetensors header"),
        ([1], "wanted a JSON object"),
        ({"a": 3}, "corrupt safetensors header"),
        ({"a": {**ENTRY, "dtype": "F31"}}, "tensor 'a' has unknown dtype 'F31'"),
        ({"a": {**ENTRY, "shape": [3]}}, "byte range 0..8"),
        ({"a": {**ENTRY, "shape": [-2]}}, r"has shape \[-2\]"),
        ({"a": {**ENTRY, "data_offsets": [8, 0]}}, "byte range 8..0"),
        ({"a": {**ENTRY, "data_offsets": [0]}}, "corrupt safetensors header"),
        ({"a": {"dtype": "F32"}}, "corrupt safetensors header"),
    ],
    ids=str,
)
def test_headers_that_lie(tmp_path, header, message):
    _with_header(tmp_path / "a.safetensors", header)
    with pytest.raises(CheckpointError, match=message):
        check_safetensors(tmp_path / "a.safetensors")


def test_a_good_header_passes(tmp_path):
    _with_header(tmp_path / "a.safetensors", {"__metadata__": {"k": "v"}, "a": ENTRY})
    assert check_safetensors(tmp_path / "a.safetensors") == {"a": ENTRY}
    arrays, meta = load_tensors(tmp_path / "a.safetensors")
    assert arrays["a"].tolist() == [0, 0]
    assert meta["k"] == "v"
    with pytest.raises(CheckpointError, match=r"cannot read .*b\.safetensors"):
        check_safetensors(tmp_path / "b.safetensors")


def test_names_and_shapes_must_fit(model_dir):
    weights = random_weights(TINY, 0)
    file = model_dir / "model.safetensors"
    write_safetensors(file, {k: v for k, v in weights.items() if k != "model.norm.weight"})
    with pytest.raises(CheckpointError, match=r"lacks weights: model\.norm\.weight"):
        load(model_dir)
    write_safetensors(file, {**weights, "model.layers.7.mlp.up_proj.weight": weights["model.norm.weight"]})
    with pytest.raises(
        CheckpointError, match=r"has unexpected weights: model\.layers\.7\.mlp\.up_proj\.weight"
    ):
        load(model_dir)
    write_safetensors(file, {**weights, "model.norm.weight": weights["model.norm.weight"][:32]})
    with pytest.raises(
        CheckpointError, match=r"'model\.norm\.weight' has shape \(32,\), the config wants \(64,\)"
    ):
        load(model_dir)
    write_safetensors(
        file,
        {
            **weights,
            "lm_head.weight": weights["model.norm.weight"],
            "x.rotary_emb.inv_freq": np.zeros(8, np.float32),
        },
    )
    load(model_dir)  # tied: the head is the embedding; old tables of rotary frequencies are of no use


def test_quantized_weights_need_a_quantized_config(model_dir, tmp_path):
    model, tokenizer = load(model_dir)
    quantize(model, Quantization(64, 4))
    save(tmp_path / "q", model, tokenizer)
    raw = json.loads((tmp_path / "q" / "config.json").read_text())
    del raw["quantization"], raw["quantization_config"]
    (tmp_path / "q" / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match="the config has no 'quantization'"):
        load(tmp_path / "q")


def test_missing_parts(model_dir, tmp_path):
    with pytest.raises(CheckpointError, match=r"no model at .*nowhere"):
        load(tmp_path / "nowhere")
    (model_dir / "tokenizer.json").rename(model_dir / "t.json")
    with pytest.raises(CheckpointError, match="no tokenizer at"):
        load(model_dir)
    (model_dir / "t.json").rename(model_dir / "tokenizer.json")
    (model_dir / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors in"):
        load(model_dir)


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(tmp_path, tokenizer):
    small = dataclasses.replace(TINY, vocab_size=100)
    with pytest.raises(
        CheckpointError, match=f"the tokenizer has {tokenizer.vocab_size} tokens, the model's vocabulary 100"
    ):
        load(write_model_dir(tmp_path / "m", small, tokenizer))


def test_convert(model_dir, tmp_path):
    convert(model_dir, tmp_path / "half", dtype="float16")
    half, _ = load(tmp_path / "half")
    assert {v.dtype for _, v in tree_flatten(half.parameters())} == {mx.float16}
    wanted = random_weights(TINY, 0)
    for name, value in arrays_of(half).items():
        np.testing.assert_array_equal(value, wanted[name].astype(np.float16))
    convert(model_dir, tmp_path / "q", Quantization(64, 4), "bfloat16")
    quantized, _ = load(tmp_path / "q")
    assert quantized.model.norm.weight.dtype == mx.bfloat16
    assert quantized.model.embed_tokens.weight.dtype == mx.uint32
    with pytest.raises(ConfigError, match="dtype must be one of float32, float16, bfloat16, got 'int8'"):
        convert(model_dir, tmp_path / "x", dtype="int8")
    with pytest.raises(CheckpointError, match="source and target are the same directory"):
        convert(model_dir, model_dir / ".." / model_dir.name)


def test_groups_must_divide_rows(tmp_path, tokenizer):
    odd = dataclasses.replace(TINY, hidden_size=32, head_dim=16)
    model, _ = load(write_model_dir(tmp_path / "m", odd, tokenizer))
    with pytest.raises(ConfigError, match="rows of 32 weights, not a multiple of group_size 64"):
        quantize(model, Quantization(64, 4))


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def break_off():
        with replacing(target) as tmp:
            tmp.write_text("half of the new")
            raise RuntimeError("broken off")

    with pytest.raises(RuntimeError, match="broken off"):
        break_off()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with replacing(target) as tmp:
        tmp.write_text("new")
    assert target.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def write_golden(path, words, name):
    """Write a golden model as a directory; return it and its case."""
    case = golden(name)
    path.mkdir()
    (path / "config.json").write_text(json.dumps(case.config))
    mx.save_safetensors(str(path / "model.safetensors"), case.weights())
    words.save(path / "tokenizer.json")
    return path, case


@pytest.mark.parametrize(("name", "context"), [("phi3_short", 16), ("phi3_longrope", None)])
def test_the_context_chooses_factors_of_longrope(words, tmp_path, name, context):
    path, case = write_golden(tmp_path / "model", words, name)
    model, _ = load(path, context=context)
    got = np.concatenate([np.array(model(mx.array([s]))[0]) for s in case.sequences])
    assert np.abs(got - case.logits).max() <= case.tolerance()
    assert model.config.max_position_embeddings == (context or case.config["max_position_embeddings"])
    with pytest.raises(ContextError, match="context holds 16"):
        list(stream_generate(*load(path, context=16), [5] * 16, 1))
    with pytest.raises(ConfigError, match="context must be from 1 to"):
        load(path, context=1 << 20)


def test_a_prompt_cache_knows_the_factors_it_was_made_with(words, tmp_path):
    path, _ = write_golden(tmp_path / "longrope", words, "phi3_short")
    assert fingerprint(load(path)[0]) != fingerprint(load(path, context=16)[0])
    path, _ = write_golden(tmp_path / "plain", words, "llama")
    assert fingerprint(load(path)[0]) == fingerprint(load(path)[0])


@pytest.mark.parametrize("mode", ["mxfp8", "mxfp4", "nvfp4"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_packed_tables_keep_the_dtype_of_the_model(model_dir, tmp_path, mode, dtype):
    model, tokenizer = load(model_dir)
    packing = Quantization(16 if mode == "nvfp4" else 32, 8 if mode == "mxfp8" else 4, mode=mode)
    save(tmp_path / "packed", quantize(model, packing), tokenizer)
    packed, _ = load(tmp_path / "packed", dtype=dtype)
    hidden = packed.hidden(mx.array([[5, 9, 2]]))
    assert hidden.dtype == packed.head(hidden).dtype == getattr(mx, dtype)
