"""Conversions: from every format to both targets, by recipes, with reports; nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import lamina.core as mx
import lamina.nn as nn
import numpy as np
import pytest
from lamina.cli import main
from lamina.lm import CheckpointError, ConfigError, DataError, Quantization, convert, load, quantize, save
from lamina.lm.config import parse_config
from lamina.lm.errors import MemoryNeededError
from lamina.lm.io import check_safetensors, read_checkpoint
from lamina.lm.io.files import INDEX
from lamina.lm.io.gguf import load_gguf, pairs_from_halves
from lamina.lm.io.load import model_of
from lamina.lm.io.report import size_of
from lamina.lm.models import build_model
from lamina.lm.models.switch import QuantizedSwitchLinear
from lamina.lm.quantization import Recipe, parse_format
from lamina.lm.quantization.calibrate import packable
from lamina.lm.quantization.layers import stored_format
from lamina.utils import tree_flatten
from lm import gguf_models
from lm.lm_golden import golden
from lm.lm_helpers import TEXTS, TINY
from lm.test_lm_gguf import MODELS, contents

TEXT = "".join(TEXTS) * 2
TOKENS = mx.array([gguf_models.TOKENS])


@pytest.fixture(scope="module")
def gguf(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    for name in MODELS:
        mx.save_gguf(folder / f"{name}.gguf", *contents(name))
    return {name: folder / f"{name}.gguf" for name in MODELS}


def logits(path: Path) -> np.ndarray:
    return np.asarray(load(path, dtype="float32")[0](TOKENS))


@pytest.mark.parametrize("name", MODELS)
def test_gguf_to_gguf_changes_nothing(name: str, gguf: dict[str, Path], tmp_path: Path) -> None:
    report = convert(gguf[name], tmp_path / "a.gguf")
    old, new = load_gguf(gguf[name]), load_gguf(tmp_path / "a.gguf")
    assert new[0].keys() == old[0].keys()
    for tensor, value in old[0].items():
        other = new[0][tensor]
        a, b = (np.asarray(getattr(v, "data", v)) for v in (value, other))
        np.testing.assert_array_equal(a, b, err_msg=tensor)
        assert getattr(value, "mode", "") == getattr(other, "mode", "")
    for key, value in old[1].items():
        same = new[1][key]
        assert str(same.tolist() if isinstance(same, mx.array) else same) == str(
            value.tolist() if isinstance(value, mx.array) else value
        ), key
    assert report.kind == "gguf"
    assert report.source == report.target
    np.testing.assert_array_equal(logits(tmp_path / "a.gguf"), logits(gguf[name]))
    texts = ["the quick fox", "  naïve 日本 <tool>", "x = [1, 22];\n\n"]
    tokenizers = [load(p)[1] for p in (gguf[name], tmp_path / "a.gguf")]
    assert [t.encode(x) for t in tokenizers[:1] for x in texts] == [tokenizers[1].encode(x) for x in texts]


@pytest.mark.parametrize("name", MODELS)
def test_gguf_to_mlx_and_back(name: str, gguf: dict[str, Path], tmp_path: Path) -> None:
    convert(gguf[name], tmp_path / "mlx", dtype="float32")
    want = logits(gguf[name])
    convert(tmp_path / "mlx", tmp_path / "b.gguf")
    for made in ("mlx", "b.gguf"):
        got = logits(tmp_path / made)
        if name in ("llama", "qwen3moe", "mixtral"):
            # Blocks that the layout lacks are float32 there, and experts run by other kernels: sums are in
            # another order.
            bound = 8 * 2.0**-24 * np.sqrt(24 * 256) * np.abs(want).max()
            assert np.abs(got - want).max() <= bound
        else:
            np.testing.assert_array_equal(got, want)
    if name != "llama":
        kinds = {str(stored_format(m)) for m in packable(load(tmp_path / "b.gguf")[0]).values()}
        assert kinds - {"bfloat16"} == {"q8_0"}


def test_what_is_packed_is_declared(gguf: dict[str, Path], tmp_path: Path) -> None:
    convert(gguf["llama"], tmp_path / "mlx")
    config = json.loads((tmp_path / "mlx" / "config.json").read_text())
    assert config["quantization"] == config["quantization_config"]
    packings = [v for v in config["quantization"].values() if isinstance(v, dict)]
    assert {p["bits"] for p in packings} | {config["quantization"]["bits"]} == {4, 5, 8}
    assert config["rope_traditional"] is True
    model = load(tmp_path / "mlx")[0]
    assert model.model.norm.weight.dtype == mx.float16


def test_a_hugging_face_directory_to_gguf(model_dir: Path, tmp_path: Path) -> None:
    convert(model_dir, tmp_path / "a.gguf")
    source, target = load(model_dir)[0], load(tmp_path / "a.gguf")[0]
    tokens = mx.array([[5, 9, 200, 31]])
    # Rotations pair other rows, but their numbers are the same; sums within heads are in another order.
    a, b = (np.asarray(m(tokens)).astype(np.float64) for m in (source, target))
    assert np.abs(a - b).max() <= 8 * 2.0**-24 * np.sqrt(24 * 128) * np.abs(a).max()
    tensors = load_gguf(tmp_path / "a.gguf")[0]
    rows = pairs_from_halves(source.model.layers[1].self_attn.k_proj.weight, TINY.num_key_value_heads)
    np.testing.assert_array_equal(np.asarray(tensors["blk.1.attn_k.weight"]), np.asarray(rows))
    metadata = load_gguf(tmp_path / "a.gguf")[1]
    # llama.cpp refuses a cut that it does not know: the nearest is named for it, the own one for lamina.
    assert metadata["tokenizer.ggml.pre"] == "seed-coder"
    tokenizers = [load(p)[1] for p in (model_dir, tmp_path / "a.gguf")]
    assert len({tuple(t.encode("'select' it's 12\n\n x")) for t in tokenizers}) == 1
    assert metadata["general.file_type"].item() == 0
    assert metadata["llama.attention.head_count_kv"].item() == TINY.num_key_value_heads


@pytest.mark.parametrize("name", ["awq", "gptq", "gptq_sym", "gptq_order", "gptq_8bit", "fp8"])
def test_published_packings_to_both(name: str, tokenizer, tmp_path: Path) -> None:
    from lm.test_lm_published import GOLDEN, dense

    folder = tmp_path / "source"
    folder.mkdir()
    for file in (GOLDEN / name).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    small = tokenizer.inner.__class__.from_str(tokenizer.inner.to_str())
    raw = json.loads(small.to_str())
    raw["model"]["vocab"] = {t: i for t, i in raw["model"]["vocab"].items() if i < 48}
    raw["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    source = dict(model_of(read_checkpoint(folder)).named_modules())
    for target in (tmp_path / "mlx", tmp_path / "a.gguf"):
        convert(folder, target, dtype="float32")
        made = load(target)[0]
        path = "model.layers.0.mlp.down_proj"
        module = dict(made.named_modules())[path]
        weight = module.dequantized(mx.float32) if hasattr(module, "dequantized") else dense(module)
        np.testing.assert_array_equal(np.asarray(weight), np.asarray(dense(source[path])))
    kept = stored_format(dict(load(tmp_path / "a.gguf")[0].named_modules())[path]).mode
    assert kept == {"awq": "float32", "gptq_sym": "q4_0"}.get(name, "float32")


@pytest.mark.parametrize(
    ("text", "target"),
    [(t, "mlx") for t in ("4", "3g32", "6", "mxfp4", "mxfp8", "nvfp4")]
    + [(t, "a.gguf") for t in ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "bf16")],
)
def test_uniform_recipes(text: str, target: str, model_dir: Path, tmp_path: Path) -> None:
    format = parse_format(text)
    lines: list[str] = []
    report = convert(model_dir, tmp_path / target, recipe=Recipe(format), evaluation=TEXT, log=lines.append)
    model = load(tmp_path / target)[0]
    assert {stored_format(m) for m in packable(model).values()} == {format}
    assert report.target.formats == size_of(model).formats
    assert report.target.weights == size_of(model).weights == report.source.weights
    assert report.comparison is not None
    assert 0 < report.comparison.kl < 1
    assert len(lines) == len(packable(model)) + 2
    tokens = mx.array([[5, 9, 200, 31]])
    quantized = load(tmp_path / target)[0](tokens)
    if target == "mlx":
        made = quantize(load(model_dir)[0], Quantization(format.group_size, format.bits, mode=format.mode))
        np.testing.assert_array_equal(np.asarray(made(tokens)), np.asarray(quantized))


def test_other_formats_of_the_head_and_of_rows_that_do_not_divide(model_dir: Path, tmp_path: Path) -> None:
    recipe = Recipe(parse_format("q4_k"), head=parse_format("q8_0"))
    convert(model_dir, tmp_path / "a.gguf", recipe=recipe)
    kinds = {p: stored_format(m).mode for p, m in packable(load(tmp_path / "a.gguf")[0]).items()}
    # Rows of 64 and of 128 are no whole blocks of 256.
    assert kinds.pop("model.embed_tokens") == "q8_0"
    assert set(kinds.values()) == {"q5_0"}


def test_a_mixed_recipe_heeds_its_budget(model_dir: Path, tmp_path: Path) -> None:
    recipe = Recipe(parse_format("2g32"), parse_format("8g32"), 5.0, calibrate=True)
    report = convert(model_dir, tmp_path / "m", recipe=recipe, calibration=TEXT, evaluation=TEXT)
    model = load(tmp_path / "m")[0]
    packed = packable(model)
    formats = {p: stored_format(m) for p, m in packed.items()}
    assert set(formats.values()) == {recipe.base, recipe.wide}
    sizes = {p: m.weight.shape[0] * m.scales.shape[1] * 32 for p, m in packed.items()}
    bits = sum(formats[p].bits_per_weight * sizes[p] for p in packed) / sum(sizes.values())
    assert bits <= 5.0
    low = convert(model_dir, tmp_path / "low", recipe=Recipe(recipe.base), evaluation=TEXT)
    assert report.comparison is not None
    assert low.comparison is not None
    assert report.comparison.kl < low.comparison.kl


def test_calibration_is_nearer_to_the_source(model_dir: Path, tmp_path: Path) -> None:
    kl = {}
    for calibrate in (False, True):
        recipe = Recipe(parse_format("3g32"), calibrate=calibrate)
        report = convert(
            model_dir, tmp_path / str(calibrate), recipe=recipe, calibration=TEXT, evaluation=TEXT
        )
        assert report.comparison is not None
        kl[calibrate] = report.comparison.kl
    assert kl[True] < kl[False]


def test_experts_are_quantized_and_routers_are_not(tokenizer, tmp_path: Path) -> None:
    sizes = {"hidden_size": 64, "moe_intermediate_size": 32, "vocab_size": 320, "head_dim": 16}
    config = parse_config(golden("qwen3_moe").config | sizes)
    model = build_model(config)
    save(tmp_path / "source", model, tokenizer)
    recipe = Recipe(parse_format("4g32"), calibrate=True)
    report = convert(tmp_path / "source", tmp_path / "q", recipe=recipe, calibration=TEXT, evaluation=TEXT)
    made = load(tmp_path / "q")[0]
    mlp = made.model.layers[0].mlp
    assert type(mlp.switch_mlp.up_proj) is QuantizedSwitchLinear
    assert stored_format(mlp.switch_mlp.down_proj) == recipe.base
    assert type(mlp.gate) is nn.Linear
    assert report.comparison is not None
    assert 0 < report.comparison.kl < 1
    count = sum(a.size for _, a in tree_flatten(model.parameters()))
    assert report.target.weights == report.source.weights == count


def test_shards_and_their_index(model_dir: Path, tmp_path: Path) -> None:
    model, tokenizer = load(model_dir)
    save(tmp_path / "s", model, tokenizer, shard_bytes=100_000)
    names = sorted(p.name for p in (tmp_path / "s").glob("*.safetensors"))
    assert len(names) > 1
    assert names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    index = json.loads((tmp_path / "s" / INDEX).read_text())
    places = {n: f for f in names for n in check_safetensors(tmp_path / "s" / f)}
    assert index["weight_map"] == places
    entries = [e for f in names for e in check_safetensors(tmp_path / "s" / f).values()]
    assert index["metadata"]["total_size"] == sum(
        e["data_offsets"][1] - e["data_offsets"][0] for e in entries
    )
    tokens = mx.array([[5, 9]])
    np.testing.assert_array_equal(np.asarray(load(tmp_path / "s")[0](tokens)), np.asarray(model(tokens)))
    # One file after several: what is old goes.
    save(tmp_path / "s", model, tokenizer)
    assert [p.name for p in (tmp_path / "s").glob("model*")] == ["model.safetensors"]
    load(tmp_path / "s")
    save(tmp_path / "s", model, tokenizer, shard_bytes=100_000)
    assert sorted(p.name for p in (tmp_path / "s").glob("*.safetensors")) == names


def test_blocks_are_not_saved_as_they_are(gguf: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not packed as MLX packs: lm_head, model.*lamina convert"):
        save(tmp_path / "x", *load(gguf["llama3"]))


def test_companions_go_along(model_dir: Path, tmp_path: Path) -> None:
    config = {"chat_template": "{{ x }}", "eos_token": "<|end|>"}
    (model_dir / "tokenizer_config.json").write_text(json.dumps(config))
    (model_dir / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 3]}))
    convert(model_dir, tmp_path / "a")
    assert (tmp_path / "a" / "generation_config.json").is_file()
    tokenizer = load(tmp_path / "a")[1]
    assert tokenizer.chat_template == "{{ x }}"
    assert tokenizer.eos_ids == {0, 3}
    convert(model_dir, tmp_path / "a.gguf")
    tokenizer = load(tmp_path / "a.gguf")[1]
    assert tokenizer.chat_template == "{{ x }}"
    assert tokenizer.eos_ids == {0, 3}
    convert(tmp_path / "a.gguf", tmp_path / "b")
    tokenizer = load(tmp_path / "b")[1]
    assert tokenizer.chat_template == "{{ x }}"
    assert tokenizer.eos_ids == {0, 3}


@pytest.mark.parametrize("target", ["out", "out.gguf"])
def test_nothing_is_half_written(target: str, model_dir: Path, tmp_path: Path, monkeypatch) -> None:
    def broken(path: str, *_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(mx, "save_safetensors", broken)
    monkeypatch.setattr(mx, "save_gguf", broken)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="No space left"):
        convert(model_dir, tmp_path / target)
    assert sorted(tmp_path.iterdir()) == before


def test_requests_that_cannot_be_met(model_dir: Path, gguf: dict[str, Path], tmp_path: Path) -> None:
    four, q4 = Recipe(parse_format("4")), Recipe(parse_format("q4_0"))
    full = tmp_path / "full"
    full.mkdir()
    (full / "a").write_text("b")
    (tmp_path / "old.gguf").write_text("b")
    mixed = Recipe(parse_format("4"), parse_format("8"), 5)
    cases: list[tuple] = [
        ((tmp_path / "a.gguf", {"recipe": four}), ConfigError, "GGUF files do not hold affine 4 bits"),
        ((tmp_path / "a", {"recipe": q4}), ConfigError, "layout of MLX does not hold q4_0"),
        ((full, {}), CheckpointError, "exists already: wanted a new or empty directory"),
        ((tmp_path / "old.gguf", {}), CheckpointError, "exists already: wanted a new file"),
        ((tmp_path / "a", {"recipe": mixed}), DataError, "by a calibration text, but none is given"),
        ((tmp_path / "a", {"recipe": four, "quantization": Quantization(64, 4)}), ConfigError, "not both"),
    ]
    for (target, options), error, message in cases:
        with pytest.raises(error, match=message):
            convert(model_dir, target, **options)
    convert(model_dir, tmp_path / "q", recipe=four)
    with pytest.raises(ConfigError, match=r"quantized already \(affine 4 bits, .*\), and 'model.* would be"):
        convert(tmp_path / "q", tmp_path / "qq", recipe=Recipe(parse_format("3")))
    convert(tmp_path / "q", tmp_path / "qq", recipe=Recipe(parse_format("3g32")), requantize=True)
    assert stored_format(load(tmp_path / "qq")[0].model.embed_tokens) == parse_format("3g32")
    with pytest.raises(CheckpointError, match="same directory or file"):
        convert(gguf["llama"], gguf["llama"])


def test_models_that_gguf_does_not_have(model_dir: Path, tmp_path: Path) -> None:
    raw = json.loads((model_dir / "config.json").read_text())
    raw |= {"model_type": "mistral", "sliding_window": 32}
    (model_dir / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match="GGUF's 'llama' has no sliding window; this model has one of 32"):
        convert(model_dir, tmp_path / "a.gguf")
    raw |= {"sliding_window": None}
    (model_dir / "config.json").write_text(json.dumps(raw))
    convert(model_dir, tmp_path / "a.gguf")
    assert read_checkpoint(tmp_path / "a.gguf").config["model_type"] == "llama"


def test_commands(model_dir: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    arguments = ["--model", str(model_dir), "--evaluation", str(tmp_path / "a.txt")]
    assert main(["convert", *arguments, "--out", str(tmp_path / "m.gguf"), "--format", "q8_0", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["target"]["formats"] == {"q8_0": 15}
    assert report["quality"]["kl"] > 0
    mixed = ["--format", "3g32", "--wide", "8g32", "--bits-per-weight", "6", "--calibration"]
    assert main(["convert", *arguments, "--out", str(tmp_path / "x"), *mixed, str(tmp_path / "a.txt")]) == 0
    printed = capsys.readouterr().err
    assert "bits per weight" in printed
    assert "KL from the source" in printed
    assert main(["quantize", "--model", str(model_dir), "--out", str(tmp_path / "q"), "--quiet"]) == 0
    assert stored_format(load(tmp_path / "q")[0].model.embed_tokens) == parse_format("4")
    for wrong, message in [
        (["--format", "4", "--bits", "4"], "give --bits or --format, not both"),
        (["--wide", "8"], "want --bits or --format"),
        (["--format", "4", "--wide", "8", "--bits-per-weight", "5"], "by a calibration text"),
        (["--format", "q99"], "format 'q99' is not supported"),
    ]:
        assert main(["convert", *arguments, "--out", str(tmp_path / "w"), *wrong]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_a_conversion_says_what_memory_it_needs(model_dir: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("lamina.lm.io.memory.available_memory", lambda root: iter([(20_000, "the machine")]))
    convert(model_dir, tmp_path / "half", dtype="float16")  # written as it goes
    for target, recipe in (("q", Recipe(parse_format("4"))), ("a.gguf", None)):
        with pytest.raises(MemoryNeededError, match=r"the conversion to .* of converted weights\), but the"):
            convert(model_dir, tmp_path / target, recipe=recipe)
        assert not (tmp_path / target).exists()
