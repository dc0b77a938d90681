"""The demo model: its corpus, its build in small, and the shipped weights."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import lzma
import math
from pathlib import Path

import pytest
from lamina.lm import DataError, demo_path, generate, load
from lamina.lm.arithmetic import set_arithmetic
from lamina.lm.demo import build as demo_build
from lamina.lm.demo.corpus import (
    MAX_HELD_OUT_BYTES,
    Corpus,
    build_corpus,
    is_held_out,
    library_sources,
    load_held_out,
    save_held_out,
    unit_of,
    xz_bits_per_byte,
)
from lamina.lm.demo.recipe import Recipe
from lamina.lm.evaluate import compare_models
from lamina.lm.train import TrainConfig, bits_per_byte

HELD_OUT = Path(__file__).parent / "data" / "heldout.json.xz"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A small standard library: units on both sides of the rule, and everything that must stay out."""
    root = tmp_path / "lib"
    files = {
        "json/__init__.py": "x = 1\n",
        "json/decoder.py": "y = 2\n",
        "ast.py": "# ast\n",
        "bisect.py": "# held out by the rule\n",
        "ssl.py": "# too large\n" * (MAX_HELD_OUT_BYTES // 10),
        "latin.py": "# -*- coding: latin-1 -*-\n# \xe9\n",
        "empty.py": "\n",
        "test/test_ast.py": "no",
        "unittest/test/test_case.py": "no",
        "ctypes/test/test_x.py": "no",
        "idlelib/idle_test/t.py": "no",
        "site-packages/other/a.py": "no",
        "encodings/cp1250.py": "no",
        "pydoc_data/topics.py": "no",
        "_sysconfigdata__linux.py": "no",
        "config-3.11-x/python-config.py": "no",
        "notes.txt": "no",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="latin-1")
    return root


def test_what_is_in_the_corpus(library):
    assert sorted(library_sources(library)) == [
        "ast.py",
        "bisect.py",
        "json/__init__.py",
        "json/decoder.py",
        "latin.py",
        "ssl.py",
    ]
    corpus = build_corpus(library)
    assert corpus.held_out_units == ("bisect",)
    assert list(corpus.held_out) == ["bisect.py"]
    assert {"ssl.py", "json/decoder.py"} <= corpus.train.keys()
    assert "bisect.py" not in corpus.train
    assert "é" in corpus.train["latin.py"]
    assert any(name.startswith("topics/") for name in corpus.train)


def test_sources_that_cannot_be_read(library, tmp_path):
    (library / "broken.py").write_bytes(b"# \xff\xfe\n")
    with pytest.raises(DataError, match=r"broken\.py is not readable Python source"):
        library_sources(library)
    with pytest.raises(DataError, match="no Python sources below"):
        library_sources(tmp_path / "none")


def test_the_rule_takes_about_one_unit_in_twenty():
    names = [f"module{i}" for i in range(4000)]
    share = sum(map(is_held_out, names)) / len(names)
    assert abs(share - 0.05) < 5 * (0.05 * 0.95 / 4000) ** 0.5
    assert [is_held_out(u) for u in ("bisect", "functools", "json", "ast")] == [True, True, False, False]


def test_units():
    assert [unit_of(n) for n in ("ast.py", "json/decoder.py", "xml/sax/handler.py")] == ["ast", "json", "xml"]


def test_held_out_files(tmp_path):
    corpus = Corpus({}, {"b.py": "é = 1\n", "a.py": "x\n"}, ("a", "b"))
    save_held_out(tmp_path / "h.json.xz", corpus)
    assert list(load_held_out(tmp_path / "h.json.xz").items()) == [("a.py", "x\n"), ("b.py", "é = 1\n")]
    (tmp_path / "h.json.xz").write_bytes((tmp_path / "h.json.xz").read_bytes()[:-9])
    with pytest.raises(DataError, match="is not a file of held-out documents"):
        load_held_out(tmp_path / "h.json.xz")
    raw = "x\né = 1\n".encode()
    assert xz_bits_per_byte(corpus.held_out) == 8 * len(
        lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)
    ) / len(raw)


def test_the_shipped_held_out_text_follows_the_rule():
    data = json.loads(lzma.decompress(HELD_OUT.read_bytes()))
    documents = load_held_out(HELD_OUT)
    assert data["licence"].startswith("Python Software Foundation License Version 2")
    assert {unit_of(n) for n in documents} == set(data["units"])
    assert all(map(is_held_out, data["units"]))
    assert 150_000 <= sum(len(t.encode()) for t in documents.values()) <= 300_000
    assert HELD_OUT.stat().st_size <= 150_000


TINY = Recipe(
    vocab_size=320,
    width=64,
    layers=1,
    heads=1,
    kv_heads=1,
    hidden=64,
    context=64,
    train=TrainConfig(
        steps=30,
        batch=4,
        length=64,
        lr=1e-2,
        min_lr=1e-3,
        warmup=5,
        validate_every=15,
        checkpoint_every=10,
        seed=1,
    ),
    prompt="def f(",
)
CORPUS = Corpus(
    {f"m{i}.py": f"def function_{i}(a, b):\n    return a * {i} + b\n" * 12 for i in range(16)},
    {"held.py": "def function_99(a, b):\n    return a * 99 + b\n" * 6},
    ("held",),
)


def test_a_build_in_small(tmp_path, monkeypatch):
    metrics = demo_build.build(TINY, tmp_path, quiet=True, corpus=CORPUS)
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "LICENSE", "README.md", "config.json", "curve.json", "curve.png", "metrics.json",
        "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    model, tokenizer = load(tmp_path / "model")
    documents = list(load_held_out(tmp_path / "run" / "heldout.json.xz").values())
    assert metrics.bits_per_byte == round(bits_per_byte(model, tokenizer, documents, 0), 4)
    assert metrics.bits_per_byte < 8
    assert metrics.held_out_units == ("held",)
    assert metrics.parameters == 320 * 64 + 4 * 64 * 64 + 3 * 64 * 64 + 3 * 64
    assert metrics.tokens_seen == 30 * 4 * 64
    assert metrics.held_out_sha256 == hashlib.sha256(CORPUS.held_out["held.py"].encode()).hexdigest()
    assert (
        json.loads((tmp_path / "model" / "metrics.json").read_text())["bits_per_byte"]
        == metrics.bits_per_byte
    )
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"**{metrics.bits_per_byte:.4f}**" in card
    assert "def f(" in card
    assert "`held`" in card
    curve = json.loads((tmp_path / "model" / "curve.json").read_text())
    assert len(curve["loss_nats_per_token"]) == 30
    assert len(curve["held_out_bits_per_byte"]) == 2
    assert (tmp_path / "model" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_build_that_was_stopped_goes_on_to_the_same_model(tmp_path, monkeypatch):
    whole = demo_build.build(TINY, tmp_path / "whole", quiet=True, corpus=CORPUS)
    run = demo_build.Trainer.run
    monkeypatch.setattr(
        demo_build.Trainer,
        "run",
        lambda self, resume: dataclasses.replace(run(self, resume, stop_after=13), interrupted=True),
    )
    assert demo_build.build(TINY, tmp_path / "parts", quiet=True, corpus=CORPUS) is None
    monkeypatch.undo()
    parts = demo_build.build(TINY, tmp_path / "parts", resume=True, quiet=True, corpus=CORPUS)
    assert parts.bits_per_byte == whole.bits_per_byte
    files = [(tmp_path / d / "model" / "model.safetensors").read_bytes() for d in ("whole", "parts")]
    assert files[0] == files[1]


def test_the_recipe_divides_into_groups():
    recipe = Recipe()
    config = recipe.model_config(0)
    widths = (config.hidden_size, config.intermediate_size, config.num_attention_heads * config.head_dim)
    assert all(w % recipe.group_size == 0 for w in widths)
    assert config.head_dim == 64
    assert 3e6 <= demo_build.count_parameters(recipe) <= 8e6


class TestShipped:
    """The weights in the package, on the held-out text in this directory."""

    def test_it_is_small_and_says_what_it_is(self):
        names = {p.name for p in demo_path().iterdir()}
        assert {
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "README.md",
            "curve.json",
            "curve.png",
            "metrics.json",
            "LICENSE",
        } <= names
        shipped = sum(
            (demo_path() / n).stat().st_size for n in ("config.json", "model.safetensors", "tokenizer.json")
        )
        assert shipped <= 6_000_000
        model, tokenizer = load(demo_path())
        assert model.config.quantization.bits == 4
        assert tokenizer.decode(tokenizer.encode("def naïve(日本):")) == "def naïve(日本):"

    def test_it_beats_xz_on_text_it_has_not_seen(self):
        documents = load_held_out(HELD_OUT)
        metrics = json.loads((demo_path() / "metrics.json").read_text())
        joined = "".join(documents.values()).encode()
        assert hashlib.sha256(joined).hexdigest() == metrics["held_out_sha256"]
        model, tokenizer = load(demo_path())
        got = bits_per_byte(model, tokenizer, list(documents.values()), separator=model.config.bos_token_id)
        assert got < xz_bits_per_byte(documents)
        assert got == pytest.approx(metrics["bits_per_byte"], abs=1e-3)

    def test_8_bit_activations_change_little(self):
        (model, tokenizer), (reference, _) = load(demo_path()), load(demo_path())
        set_arithmetic(model, "int8")
        text = "".join(load_held_out(HELD_OUT).values())[:15_000]
        both = compare_models(model, reference, tokenizer, text)
        assert 0 < both.kl < 0.002
        # At least 99 % of the likeliest tokens; this many tokens show it to three deviations.
        assert both.same_top >= 0.99 - 3 * math.sqrt(0.99 * 0.01 / both.score.tokens)

    def test_it_continues_a_prompt(self):
        model, tokenizer = load(demo_path())
        text = generate(model, tokenizer, "def read_lines(path):", max_tokens=30)
        assert text.startswith("\n    ")
        assert len(text) > 20
