"""The unmodified mlx-lm runs on lamina: the commands of docs/mlx-lm.md, and tokens equal to lamina.lm's."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from lamina.lm import Quantization, Sampling, Tokenizer, convert, load, stream_generate
from lm.lm_helpers import TINY, write_model_dir

if importlib.util.find_spec("mlx_lm") is None:
    pytest.skip("mlx-lm is not installed here", allow_module_level=True)

PAGE = Path(__file__).parents[3] / "docs" / "mlx-lm.md"
BLOCK = re.compile(r"^```(sh|python|json)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PROMPT = "for i in"


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the page in ``folder``, without a network."""
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def page(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder in which the page's commands ran, and what each printed."""
    folder = tmp_path_factory.mktemp("mlx_lm")
    (folder / "lamina").write_text(f'#!/bin/sh\nexec {sys.executable} -m lamina "$@"\n')
    (folder / "lamina").chmod(0o755)
    write_model_dir(folder / "model", TINY, tokenizer)
    # Without a name of an end token mlx-lm generates but does not train.
    (folder / "model" / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    out: dict[str, str] = {}
    for kind, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "python":
            (folder / "script.py").write_text(text)
            continue
        if kind == "json":
            (folder / "data").mkdir()
            for name in ("train", "valid", "test"):
                (folder / "data" / f"{name}.jsonl").write_text(text * 8)
            continue
        for line in text.splitlines():
            done = run(folder, line)
            assert done.returncode == 0, (line, done.stderr)
            out[line] = done.stdout
    return folder, out


def printed(page: tuple[Path, dict[str, str]], *words: str) -> str:
    """What the one command with these words printed."""
    found = [text for line, text in page[1].items() if all(word in line for word in words)]
    assert len(found) == 1, words
    return found[0]


def answer(text: str) -> str:
    """The text between the lines that mlx-lm draws around it; a space in front of it is not printed."""
    return text.split("==========\n")[1].removesuffix("\n")


def own_answer(path: Path) -> tuple[list[int], str]:
    """The tokens that lamina.lm chooses, and their text."""
    model, tokenizer = load(path)
    pieces = list(stream_generate(model, tokenizer, PROMPT, 12, Sampling(temperature=0.0)))
    return [p.token for p in pieces], "".join(p.text for p in pieces)


def test_every_command_of_the_page_ran(page) -> None:
    assert len(page[1]) == 10


def test_mlx_is_not_there() -> None:
    """What runs is lamina: mlx-lm came without mlx."""
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("mlx")


def test_tokens_equal_those_of_lamina(page) -> None:
    tokens, text = own_answer(page[0] / "model")
    assert len(set(tokens)) > 4  # a model that repeats itself would prove little
    assert json.loads(printed(page, "script.py")) == tokens
    assert answer(printed(page, "generate --model model ", "--max-tokens 12 --temp 0")) == text


def test_quantized_tokens_equal_those_of_lamina(page) -> None:
    config = json.loads((page[0] / "model-4bit" / "config.json").read_text())
    assert config["quantization"] == {"group_size": 32, "bits": 4, "mode": "affine"}
    _, text = own_answer(page[0] / "model-4bit")
    words = ("run -m mlx_lm generate --model model-4bit --prompt",)
    assert answer(printed(page, *words)) == text == printed(page, "--arithmetic exact").removesuffix("\n")


def test_what_lamina_quantized_runs_in_mlx_lm(page) -> None:
    folder = page[0]
    convert(folder / "model", folder / "own-4bit", Quantization(group_size=32, bits=4))
    done = run(folder, f'lamina run -m mlx_lm generate --model own-4bit -p "{PROMPT}" -m 12 --temp 0')
    assert done.returncode == 0, done.stderr
    assert answer(done.stdout) == own_answer(folder / "own-4bit")[1]


def ask(port: int, path: str, question: dict | None = None) -> dict:
    """The JSON answer of a server; a GET where there is no question."""
    body = None if question is None else json.dumps(question).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body) as reply:
        return json.load(reply)


def test_its_server_answers(page) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = [sys.executable, "-m", "lamina", "run", "-m", "mlx_lm", "server", "--model", "model"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with open(page[0] / "server.log", "w") as log:
        server = subprocess.Popen(
            [*program, "--port", str(port)], cwd=page[0], env=environment, stdout=log, stderr=log
        )
    try:
        while server.poll() is None:
            try:
                ask(port, "/health")
                break
            except OSError:
                time.sleep(0.1)
        assert server.poll() is None, (page[0] / "server.log").read_text()
        question = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0}
        (choice,) = ask(port, "/v1/completions", question)["choices"]
        assert choice["text"] == own_answer(page[0] / "model")[1]
    finally:
        server.kill()
        server.wait()


def test_fine_tuning_learns_and_the_adapter_is_used(page) -> None:
    report = printed(page, "mlx_lm lora")
    losses = [float(x) for x in re.findall(r"val\S* +\S*?(\d+\.\d+)", report)]
    assert len(losses) >= 2, report
    assert losses[-1] < losses[0] / 2
    with_adapter = answer(printed(page, "--adapter-path adapters", "generate"))
    assert with_adapter != answer(printed(page, "run -m mlx_lm generate --model model-4bit --prompt"))
    assert with_adapter == "range(3):\n    print(i)\n"
    assert "range(3):" in printed(page, "--model model-tuned")
