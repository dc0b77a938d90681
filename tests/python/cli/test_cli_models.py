"""``lamina models``: the list is the package's, and a model's summary is its config's."""

from __future__ import annotations

import json

import pytest
from lamina.cli.main import main
from lamina.lm.config import model_types
from lamina.lm.config.wrapper import wrapper_types
from lm.lm_golden import golden


def test_list(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted([*model_types(), *wrapper_types(), "bert"])
    assert all(line.endswith(".") and len(line) <= 120 for line in lines)
    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {r["model_type"]: r["kind"] for r in rows} == {
        **dict.fromkeys((*model_types(), *wrapper_types()), "decoder"),
        "bert": "encoder",
    }
    assert [f"{r['model_type']} {r['description']}" for r in rows] == [" ".join(x.split()) for x in lines]


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("llama", "2 x Attention + MLP"),
        ("gemma2", "1 x Attention + MLP (window 4), 1 x Attention + MLP"),
        ("falcon_h1", "2 x Attention + Mamba2 + MLP"),
        ("mamba", "2 x Mamba"),
        ("deepseek_v3", "1 x MLA + MLP, 1 x MLA + MoE"),
    ],
)
def test_summary(name, layers, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(golden(name).config))
    assert main(["models", str(tmp_path), "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert (out["model_type"], out["layers"], out["width"]) == (golden(name).config["model_type"], layers, 32)
    assert main(["models", str(tmp_path / "config.json")]) == 0
    assert f"layers: {layers}\n" in capsys.readouterr().out


def test_what_is_not_understood_is_named(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({**golden("qwen3").config, "thinking_rate": 2}))
    assert main(["models", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "error: config fields not understood for model type 'qwen3': thinking_rate; supported: " in err
    (tmp_path / "config.json").write_text(json.dumps({**golden("qwen3").config, "model_type": "qwen9"}))
    assert main(["models", str(tmp_path)]) == 1
    assert "model type 'qwen9' is not supported; supported: cohere, " in capsys.readouterr().err
