"""GGUF files: run from their blocks, with the tokenizer that they hold; what is damaged or not known."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import lamina.core as mx
import numpy as np
import pytest
from lamina.lm import CheckpointError, generate, load
from lamina.lm.io.checkpoint import BLOCK_SIZES, Blocks
from lamina.lm.io.gguf import gguf_files, load_gguf, read_gguf
from lamina.lm.io.gguf_names import ARCHITECTURES
from lamina.lm.layers import BlockEmbedding, BlockLinear
from lamina.lm.vocabulary import vocabulary_from_sentencepiece
from lm import gguf_models

GOLDEN = Path(__file__).parents[2] / "golden"
EXPECTED = np.load(GOLDEN / "gguf_models.npz")
MODELS = {m.name: m for m in gguf_models.models()}
EPS = 2.0**-24


def pieces() -> dict:
    """The golden SentencePiece model as GGUF has it."""
    v = vocabulary_from_sentencepiece(GOLDEN / "tokenizers" / "bpe.model")
    types = [int(t) for t in v.types]
    roles = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    texts = {"model": "llama", "pre": "default", "tokens": list(v.tokens)}
    return {**texts, "scores": list(v.scores), "token_type": types, **roles}


def typed(value: object) -> object:
    """A value of metadata as an array of the type that the golden script writes."""
    if isinstance(value, bool):
        return mx.array(value)
    if isinstance(value, (int, float)):
        return mx.array(value, mx.uint32 if isinstance(value, int) else mx.float32)
    if isinstance(value, list) and not isinstance(value[0], str):
        return mx.array(value, mx.int32 if isinstance(value[0], int) else mx.float32)
    return value


def contents(name: str) -> tuple[dict[str, mx.array], dict[str, object]]:
    """Arrays and metadata of a model's file."""
    model = MODELS[name]
    values = gguf_models.metadata(model, pieces() if model.vocabulary == "pieces" else {})
    metadata = {k: typed(v) for k, v in values.items()}
    metadata["lamina.tensor_types"] = {
        n: t.kind for n, t in model.tensors.items() if t.kind in gguf_models.BLOCKS
    }
    return {n: mx.array(gguf_models.content(model, n)) for n in model.tensors}, metadata


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> dict[str, Path]:
    """The file of each model."""
    folder = tmp_path_factory.mktemp("gguf")
    for name in MODELS:
        mx.save_gguf(folder / f"{name}.gguf", *contents(name))
    return {name: folder / f"{name}.gguf" for name in MODELS}


def test_tables_are_complete(files: dict[str, Path]) -> None:
    assert {k: v[:2] for k, v in gguf_models.BLOCKS.items()} == BLOCK_SIZES
    assert {m.architecture for m in MODELS.values()} == {a.name for a in ARCHITECTURES.values()}
    assert {read_gguf(f).config["model_type"] for f in files.values()} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", MODELS)
def test_files_are_those_of_the_gguf_package(name: str, files: dict[str, Path]) -> None:
    digest = hashlib.sha256(files[name].read_bytes()).hexdigest()
    assert digest == str(EXPECTED[f"{name}.sha256"])


@pytest.mark.parametrize("name", MODELS)
def test_blocks_stand_for_the_references_numbers(name: str, files: dict[str, Path]) -> None:
    digest = hashlib.sha256()
    for value in load_gguf(files[name])[0].values():
        if isinstance(value, Blocks):
            digest.update(np.asarray(value.dequantize()).astype("<f4").tobytes())
    assert digest.hexdigest() == str(EXPECTED[f"{name}.dequantized"])


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_the_references(name: str, files: dict[str, Path]) -> None:
    model, _ = load(files[name], dtype="float32")
    got = np.asarray(model(mx.array([gguf_models.TOKENS])))[0].astype(np.float64)
    want = EXPECTED[f"{name}.logits"]
    # 12 sums of at most 256 products in each layer; each rounds like a random walk, and the next amplifies.
    depth = 12 * MODELS[name].layers
    assert np.abs(got - want).max() <= 8 * EPS * np.sqrt(depth * 256) * np.abs(want).max()


def test_every_block_type_is_run_as_it_is_stored(files: dict[str, Path]) -> None:
    model, tokenizer = load(files["llama"])
    layers = [m for _, m in model.named_modules() if isinstance(m, (BlockLinear, BlockEmbedding))]
    assert {m.mode for m in layers} == set(BLOCK_SIZES)
    assert len(layers) == 16
    assert model.model.norm.weight.dtype == mx.bfloat16
    assert model.model.embed_tokens(mx.array([1])).dtype == mx.bfloat16
    assert generate(model, tokenizer, "the quick", max_tokens=3) is not None
    assert tokenizer.decode(tokenizer.encode("the quick fox")) == "the quick fox"


def test_nothing_is_copied_but_vectors(files: dict[str, Path]) -> None:
    for name, file in files.items():
        checkpoint = read_gguf(file)
        copied = {
            n
            for n, t in checkpoint.tensors.items()
            if id(t.data if isinstance(t, Blocks) else t) not in checkpoint.mapped
        }
        small = {n for n, t in checkpoint.tensors.items() if "norm" in n or ".gate." in n or "bias" in n}
        rows = {n for n in checkpoint.tensors if name == "mixtral" and ("q_proj" in n or "k_proj" in n)}
        assert copied == small | rows, name


def test_rotary_tables_become_llama3s_scaling(files: dict[str, Path], tmp_path: Path) -> None:
    assert read_gguf(files["llama3"]).config["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    arrays, metadata = contents("llama3")
    arrays["rope_freqs.weight"] = mx.arange(1, 17).astype(mx.float32)
    mx.save_gguf(tmp_path / "a.gguf", arrays, metadata)
    scaling = read_gguf(tmp_path / "a.gguf").config["rope_scaling"]
    assert (scaling["rope_type"], scaling["attention_factor"]) == ("longrope", 1.0)
    assert scaling["short_factor"] == scaling["long_factor"] == list(range(1, 17))


def test_split_files(tmp_path: Path) -> None:
    arrays, metadata = contents("llama3")
    types = metadata["lamina.tensor_types"]
    names = list(arrays)
    for part, own in enumerate((names[::2], names[1::2])):
        kept = {**(metadata if part == 0 else {}), "split.no": mx.array(part, mx.uint16)}
        kept["lamina.tensor_types"] = {n: types[n] for n in own if n in types}
        mx.save_gguf(tmp_path / f"m-{part + 1:05d}-of-00002.gguf", {n: arrays[n] for n in own}, kept)
    model, _ = load(tmp_path, dtype="float32")
    again, _ = load(tmp_path / "m-00002-of-00002.gguf", dtype="float32")
    tokens = mx.array([gguf_models.TOKENS])
    np.testing.assert_array_equal(np.asarray(model(tokens)), np.asarray(again(tokens)))
    got = np.asarray(model(tokens))[0]
    want = EXPECTED["llama3.logits"]
    assert np.abs(got - want).max() <= 8 * EPS * np.sqrt(24 * 256) * np.abs(want).max()
    (tmp_path / "m-00001-of-00002.gguf").rename(tmp_path / "m.gguf")
    with pytest.raises(CheckpointError, match=r"lacks 1 of 2 parts: m-00001-of-00002\.gguf"):
        load(tmp_path / "m-00002-of-00002.gguf")
    shutil.copy(tmp_path / "m.gguf", tmp_path / "n.gguf")
    with pytest.raises(CheckpointError, match=r"holds 2 GGUF models, name one of them: m\.gguf, n\.gguf"):
        gguf_files(tmp_path)
    with pytest.raises(CheckpointError, match=r"no model at .*nowhere\.gguf"):
        load(tmp_path / "nowhere.gguf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"general.architecture": "t5"},
            "'t5' is not supported; supported: llama, qwen3moe, qwen2",
        ),
        ({"llama.block_count": None}, r"lacks the field 'llama\.block_count'"),
        ({"llama.block_count": "two"}, r"'llama\.block_count' must be a whole number, got 'two'"),
        ({"llama.block_count": 3}, r"lacks weights: model\.layers\.2\."),
        ({"llama.embedding_length": 128}, r"has shape .*, the config wants"),
        ({"llama.expert_count": 8}, r"lacks the field 'llama\.expert_used_count'"),
        ({"general.architecture": "qwen3moe"}, r"'qwen3moe' without experts \('qwen3moe\.expert_count'\) is"),
        (
            {"llama.rope.scaling.type": "odd", "-": "rope_freqs.weight"},
            "scaling.type' 'odd' is not supported",
        ),
        ({"llama.attention.head_count_kv": [2, 1]}, "differs between layers"),
        ({"-": "token_embd.weight"}, r"lacks the tensor 'token_embd\.weight'"),
        ({"-": "blk.1.attn_norm.weight"}, r"lacks weights: model\.layers\.1\.input_layernorm\.weight"),
        ({"+": "blk.0.attn_sinks.weight"}, r"not known in architecture 'llama': blk\.0\.attn_sinks\.weight"),
        ({"+": "blk.0.attn_q_norm.weight"}, r"not known in architecture 'llama': blk\.0\.attn_q_norm"),
        ({"tokenizer.ggml.model": "none"}, "tokenizer model 'none'"),
        ({"tokenizer.ggml.model": None}, "the file has no tokenizer"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(change: dict, message: str, tmp_path: Path) -> None:
    arrays, metadata = contents("llama3")
    for key, value in change.items():
        if key == "-":
            del arrays[value]
            metadata["lamina.tensor_types"].pop(value, None)
        elif key == "+":
            arrays[value] = mx.ones((64,))
        elif value is None:
            del metadata[key]
        else:
            metadata[key] = typed(value)
    mx.save_gguf(tmp_path / "a.gguf", arrays, metadata)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "a.gguf")


def test_types_that_are_not_known_are_named(files: dict[str, Path], tmp_path: Path) -> None:
    data = bytearray(files["llama3"].read_bytes())
    name = b"blk.0.ffn_up.weight"
    at = data.index(name) + len(name) + 4 + 2 * 8  # its count of axes and two lengths
    data[at : at + 4] = (16).to_bytes(4, "little")  # IQ2_XXS
    (tmp_path / "a.gguf").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"tensor 'blk\.0\.ffn_up\.weight'.*(?i:iq2_xxs|16)"):
        load(tmp_path / "a.gguf")


def test_truncation_is_found_before_anything_is_computed(files: dict[str, Path], tmp_path: Path) -> None:
    whole = files["llama3"].read_bytes()
    for size in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "a.gguf").write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"cannot load .*a\.gguf"):
            load(tmp_path / "a.gguf")


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    arrays, metadata = contents("llama3")
    tokens = metadata["tokenizer.ggml.tokens"]
    metadata["tokenizer.ggml.tokens"] = [*tokens, "one too many"]
    metadata["tokenizer.ggml.token_type"] = mx.array([1] * (len(tokens) + 1), mx.int32)
    mx.save_gguf(tmp_path / "a.gguf", arrays, metadata)
    with pytest.raises(CheckpointError, match="the tokenizer has 273 tokens, the model's vocabulary 272"):
        load(tmp_path / "a.gguf")


def test_the_config_is_hugging_faces(files: dict[str, Path]) -> None:
    for name, model in MODELS.items():
        config = read_gguf(files[name]).config
        assert json.loads(json.dumps(config)) == config
        for key, value in model.hugging_face.items():
            if key in config and not key.endswith("_token_id"):
                assert config[key] == value, (name, key)
