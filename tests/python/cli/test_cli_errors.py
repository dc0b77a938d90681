"""What goes wrong on the command line is one line that names it, and leaves nothing behind."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from lamina.cli import main
from lamina.lm import LlamaConfig, Tokenizer, demo_path, load_tokenizer
from lm.lm_helpers import TINY, write_model_dir


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a model, a text, bytes that are no text, JSON that is broken, and an empty folder."""
    folder = tmp_path_factory.mktemp("errors")
    (folder / "a.txt").write_text("import os\nimport sys\n")
    (folder / "bytes.txt").write_bytes(b"ab\xc5\x00\xff")
    (folder / "broken.json").write_text("{")
    (folder / "empty").mkdir()
    tokenizer: Tokenizer = load_tokenizer(demo_path() / "tokenizer.json", [0])
    config = LlamaConfig(**{**TINY.__dict__, "vocab_size": tokenizer.vocab_size})
    write_model_dir(folder / "model", config, tokenizer)
    return folder


NOT_TEXT = "bytes.txt is not UTF-8 text: invalid continuation byte at byte 2"
CASES = [
    ("generate x --lookup --draft-tokens 0", 2, "--draft-tokens must be at least 1, got 0"),
    ("generate x --batch 0", 2, "--batch must be at least 1, got 0"),
    ("generate --prompts none.txt", 1, "none.txt: No such file or directory"),
    ("generate --prompts bytes.txt", 1, NOT_TEXT),
    ("generate x --grammar none.lark", 1, "none.lark: No such file or directory"),
    ("generate x --json-schema bytes.txt", 1, NOT_TEXT),
    ("generate x --context 0", 1, "context must be from 1 to the model's 512, got 0"),
    ("generate x --profile no/such.json", 1, "no: no such folder for the profile"),
    ("generate -", 1, "wanted text of whole Unicode characters, got '\\udcff'"),
    ("chat --template bytes.txt", 1, NOT_TEXT),
    ("chat --load bytes.txt", 1, NOT_TEXT),
    ("chat --load broken.json", 1, "broken.json is not a saved conversation"),
    ("chat --max-tokens 0", 2, "--max-tokens must be at least 1, got 0"),
    ("cache build no/such.safetensors x", 1, "no: no such folder for the cache"),
    ("cache inspect none.safetensors", 1, "cannot read none.safetensors: No such file or directory"),
    ("quantize --model model --out q --wide 8", 1, "--wide and --bits-per-weight want each other"),
    ("convert --model model --out q --bits-per-weight 4", 1, "--wide and --bits-per-weight want each other"),
    ("convert --model model --out a.txt/q", 1, "a.txt: File exists"),
    ("perplexity --model model --text a.txt --stride 0", 2, "--stride must be at least 1, got 0"),
    ("perplexity --model model --text a.txt --context 0", 2, "--context must be at least 1, got 0"),
    ("perplexity --model model --text a.txt --limit -5", 2, "--limit must be 0 or more, got -5"),
    ("perplexity --model empty --text a.txt", 1, "cannot read empty/config.json: No such file or directory"),
    ("embed --model model", 2, "no text: give some as arguments, or a file of them with --file"),
    ("embed --model model --file bytes.txt", 1, NOT_TEXT),
    ("models none", 1, "cannot read none: No such file or directory"),
    ("run -m no_such_module.at.all", 2, "no module named no_such_module"),
    ("run empty", 2, "no __main__.py in the folder empty"),
    ("run none.py", 2, "no such file: none.py"),
]


@pytest.mark.parametrize(("line", "code", "message"), CASES, ids=[c[0] for c in CASES])
def test_one_line(place, monkeypatch, capsys, line, code, message):
    monkeypatch.chdir(place)
    monkeypatch.setattr("sys.stdin", io.StringIO("\udcff"))
    monkeypatch.setattr("sys.path", list(sys.path))
    before = sorted(p.name for p in place.iterdir())
    args = line.split()
    if args[0] == "run":
        done = subprocess.run([sys.executable, "-m", "lamina", *args], capture_output=True, text=True)
        got, err = done.returncode, done.stderr
    else:
        try:
            got = main(args)
        except SystemExit as end:
            got = end.code
        err = capsys.readouterr().err
    last = err.splitlines()[-1]
    assert (got, f"error: {message}" in last) == (code, True), err
    assert last.startswith(f"lamina {args[0]}")
    assert code == 2 or args[0] == "chat" or err.count("\n") == 1
    assert sorted(p.name for p in place.iterdir()) == before


def test_perplexity_of_an_arithmetic(place, capsys):
    demo = str(demo_path())
    options = ["--text", str(place / "a.txt"), "--json", "--model", demo, "--reference", demo]
    records = []
    for arithmetic in ("exact", "int8"):
        assert main(["perplexity", *options, "--arithmetic", arithmetic]) == 0
        records.append(json.loads(capsys.readouterr().out))
    exact, rounded = records
    assert exact["kl"] == 0
    assert 0 < rounded["kl"] < 0.01
    assert rounded["reference"] == exact["reference"]


@pytest.mark.parametrize("command", ["convert", "perplexity"])
def test_ctrl_c(place, tmp_path, command):
    """The work is stopped in its midst, by a signal that it sends itself."""
    text = """
import os, signal, sys
from lamina.lm.models import Decoder
calls, hidden = [], Decoder.hidden
def stopping(self, *args):
    calls.append(0)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGINT)
    return hidden(self, *args)
Decoder.hidden = stopping
from lamina.cli import main
sys.exit(main(sys.argv[1:]))
"""
    source = str(Path(__file__))
    args = {
        "convert": ["--model", str(place / "model"), "--out", "q", "--bits", "4", "--group-size", "32",
                    "--calibration", source],
        "perplexity": ["--model", str(place / "model"), "--text", source],
    }[command]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", text, command, *args], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
