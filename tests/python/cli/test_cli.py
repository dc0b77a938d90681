"""The ``lamina`` command, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import lamina
import pytest

PROGRAM = [sys.executable, "-m", "lamina"]
TEXT = "def add(a, b):\n    return a + b\n\n\nfor i in range(10):\n    print(add(i, i), 'é日')\n" * 30
SMALL = [
    *("--width", "32", "--layers", "1", "--heads", "2", "--context", "32", "--length", "16"),
    *("--batch", "2", "--vocab-size", "300", "--warmup", "2", "--lr", "0.01"),
]


def lamina_command(*args: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([*PROGRAM, *args], capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The directory of a small run, made by the command itself."""
    root = tmp_path_factory.mktemp("run")
    (root / "text.txt").write_text(TEXT, encoding="utf-8")
    done = lamina_command(
        "pretrain", "--data", str(root / "text.txt"), "--held-out", str(root / "text.txt"),
        "--out", str(root / "out"), "--steps", "20", "--validate-every", "10",
        "--checkpoint-every", "8", *SMALL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return root


def test_version_and_help():
    assert lamina_command("--version").stdout == f"lamina {lamina.__version__}\n"
    text = lamina_command("--help").stdout
    for name in ("generate", "pretrain", "quantize", "convert", "models", "embed", "run", "doctor"):
        assert f"    {name} " in text
        own = lamina_command(name, "--help")
        assert own.returncode == 0
        assert "examples:" in own.stdout
        assert f"lamina {name}" in own.stdout


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys, contextlib, io\nfrom lamina.cli import main\n"
        "for a in (['--help'], ['--version'], ['generate', '--help']):\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main(a)\n"
        "heavy = ('numpy', 'tokenizers', 'lamina.core', 'lamina.lm', 'matplotlib', 'tqdm')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_usage_errors():
    for args, message in (
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["generate"], "no prompt: give one as an argument, with --prompt, or - for stdin"),
        (["generate", "a", "--prompt", "b"], "give the prompt once"),
        (["generate", "a", "--temp", "hot"], "invalid float value: 'hot'"),
        (["quantize"], "required: --model, --out"),
        (["run"], "wanted a FILE, or -m MODULE"),
        (["run", "--fast", "x.py"], "unrecognized arguments: --fast"),
        (["run", "absent.py"], "no such file: absent.py"),
    ):
        done = lamina_command(*args)
        assert done.returncode == 2, args
        assert message in done.stderr, args
        assert "Traceback" not in done.stderr, args


def test_pretrain_leaves_a_model(trained):
    names = {p.name for p in (trained / "out").iterdir()}
    assert {"model", "train.log", "curve.json", "curve.png", "tokenizer.json"} <= names
    assert {p.name for p in (trained / "out" / "model").iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    curve = json.loads((trained / "out" / "curve.json").read_text())
    losses = curve["loss_nats_per_token"]
    assert len(losses) == 20
    assert losses[-1] < losses[0]
    assert [v["step"] for v in curve["held_out_bits_per_byte"]] == [10, 20]
    log = (trained / "out" / "train.log").read_text()
    assert "step 10/20 loss" in log
    assert "tokens/s" in log


def test_generate_streams_text_and_reports_speed(trained):
    model = str(trained / "out" / "model")
    done = lamina_command(
        "generate", "--model", model, "def add", "--max-tokens", "12", "--temp", "1", "--seed", "3"
    )
    assert done.returncode == 0
    assert "tokens/s; generated " in done.stderr
    assert done.stdout.endswith("\n")
    again = lamina_command(
        "generate", "--model", model, "-p", "def add", "--max-tokens", "12", "--temp", "1", "--seed", "3"
    )
    assert again.stdout == done.stdout
    other = lamina_command(
        "generate", "--model", model, "def add", "--max-tokens", "12", "--temp", "1", "--seed", "4"
    )
    assert other.stdout != done.stdout
    echoed = lamina_command(
        "generate", "--model", model, "def add", "--max-tokens", "12", "--temp", "1", "--seed", "3", "--echo"
    )
    assert echoed.stdout == "def add" + done.stdout
    piped = lamina_command(
        "generate", "--model", model, "-", "--max-tokens", "12", "--temp", "1", "--seed", "3", input="def add"
    )
    assert piped.stdout == done.stdout


def test_generate_json(trained):
    model = str(trained / "out" / "model")
    plain = lamina_command("generate", "--model", model, "for i", "--max-tokens", "5", "--temp", "0")
    done = lamina_command("generate", "--model", model, "for i", "--max-tokens", "5", "--temp", "0", "--json")
    record = json.loads(done.stdout)
    assert record["text"] + "\n" == plain.stdout
    assert record["prompt"] == "for i"
    assert record["generated_tokens"] == 5
    assert record["finish_reason"] == "length"
    assert record["interrupted"] is False
    assert record["prompt_tokens"] > 0
    assert record["generation_tps"] > 0


def test_generate_errors(trained, tmp_path):
    model = str(trained / "out" / "model")
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (broken / name).write_bytes((Path(model) / name).read_bytes())
    (broken / "model.safetensors").write_bytes((Path(model) / "model.safetensors").read_bytes()[:-100])
    unknown = tmp_path / "unknown"
    unknown.mkdir()
    (unknown / "config.json").write_text('{"model_type": "mamba9"}')
    for args, message in (
        (["--model", model, ""], "the prompt is empty: wanted at least one character"),
        (["--model", model, "word é " * 100], "but the model's context holds 32"),
        (["--model", model, "x", "--top-p", "3"], "top_p must be in (0, 1], got 3.0"),
        (["--model", model, "x", "--max-tokens", "0"], "max_tokens must be at least 1, got 0"),
        (["--model", str(tmp_path / "none"), "x"], "no model at"),
        (["--model", str(broken), "x"], "is truncated or corrupt"),
        (["--model", str(unknown), "x"], "model type 'mamba9' is not supported; supported: "),
    ):
        done = lamina_command("generate", *args)
        assert done.returncode == 1, args
        assert done.stderr.startswith("lamina generate: error: ")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""


def test_quantize_and_convert(trained, tmp_path):
    model = str(trained / "out" / "model")
    done = lamina_command(
        "quantize", "--model", model, "--out", str(tmp_path / "q"), "--bits", "8", "--group-size", "32"
    )
    assert done.returncode == 0
    assert "10.081 bits per weight" in done.stderr
    assert json.loads((tmp_path / "q" / "config.json").read_text())["quantization"] == {
        "group_size": 32,
        "bits": 8,
    }
    plain, quantized = (
        json.loads(
            lamina_command(
                "generate", "--model", m, "def add", "--temp", "0", "--max-tokens", "4", "--json"
            ).stdout
        )
        for m in (model, str(tmp_path / "q"))
    )
    assert quantized["generated_tokens"] == plain["generated_tokens"] == 4
    again = lamina_command(
        "quantize", "--model", str(tmp_path / "q"), "--out", str(tmp_path / "qq"), "--group-size", "32"
    )
    assert again.returncode == 1
    assert "the model is quantized already (affine 8 bits, groups of 32)" in again.stderr
    assert (
        lamina_command(
            "convert", "--model", model, "--out", str(tmp_path / "h"), "--dtype", "float16"
        ).returncode
        == 0
    )
    assert (tmp_path / "h" / "model.safetensors").stat().st_size < (
        trained / "out" / "model" / "model.safetensors"
    ).stat().st_size
    same = lamina_command("convert", "--model", model, "--out", model)
    assert same.returncode == 1
    assert "source and target are the same directory" in same.stderr


def test_pretrain_errors(trained, tmp_path):
    text = str(trained / "text.txt")
    for args, message in (
        (["--data", "absent.txt", "--out", "o"], "no such file or directory: absent.txt"),
        (["--data", text, "--out", "o", "--steps", "0"], "'steps' must be at least 1, got 0"),
        (
            ["--data", text, "--out", "o", "--length", "64", "--context", "32"],
            "windows of 64 tokens do not fit the context of 32",
        ),
        (
            ["--data", text, "--out", str(trained / "out"), *SMALL],
            "resume that run or choose another directory",
        ),
        (
            ["--data", text, "--out", str(trained / "out"), *SMALL, "--resume", "--seed", "9"],
            "belongs to another run",
        ),
        (["--data", text, "--out", "o", "--tokenizer", text], "is not a usable tokenizer.json"),
    ):
        done = lamina_command("pretrain", *args, cwd=tmp_path)
        assert done.returncode == 1, args
        assert message in done.stderr, args
        assert "Traceback" not in done.stderr, args


def test_ctrl_c_saves_and_resume_goes_on_exactly(trained, tmp_path):
    args = [
        "pretrain",
        "--data",
        str(trained / "text.txt"),
        "--steps",
        "20",
        "--validate-every",
        "0",
        "--no-png",
        *SMALL,
    ]
    whole = lamina_command(*args, "--out", str(tmp_path / "whole"), "--quiet")
    assert whole.returncode == 0
    assert whole.stderr == ""
    # A real signal, sent by the process to itself so that it always comes after the same step.
    interrupting = (
        "import signal, sys\nfrom lamina.cli import main\nfrom lamina.lm.train.report import Progress\n"
        "step = Progress.step\ndef patched(self, done, *rest):\n    step(self, done, *rest)\n"
        "    done == 7 and signal.raise_signal(signal.SIGINT)\n"
        "Progress.step = patched\nsys.exit(main(sys.argv[1:]))"
    )
    parts = tmp_path / "parts"
    command = [sys.executable, "-c", interrupting, *args, "--out", str(parts)]
    stopped = subprocess.run(command, capture_output=True, text=True, check=False)
    assert stopped.returncode == 130
    assert "Traceback" not in stopped.stderr
    assert "interrupted: saved a checkpoint at step 7" in stopped.stderr
    assert "stopped at step 7: --resume goes on from there" in stopped.stderr
    assert not (parts / "model").exists()
    done = lamina_command(*args, "--out", str(parts), "--resume")
    assert done.returncode == 0
    assert "resumed at step 7" in done.stderr
    curves = [
        json.loads((d / "curve.json").read_text())["loss_nats_per_token"] for d in (tmp_path / "whole", parts)
    ]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 20
    weights = [(d / "model" / "model.safetensors").read_bytes() for d in (tmp_path / "whole", parts)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_ctrl_c_ends_a_generation_cleanly(trained, monkeypatch, capsys, options):
    import lamina.lm
    from lamina.cli import main

    stream = lamina.lm.stream_generate

    def interrupted(*args, **options):
        for count, piece in enumerate(stream(*args, **options), 1):
            yield piece
            if count == 4:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(lamina.lm, "stream_generate", interrupted)
    args = ["generate", "--model", str(trained / "out" / "model"), "def add", "--temp", "0", "--max-tokens"]
    assert main([*args, "20", *options]) == 130
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    monkeypatch.undo()
    assert main([*args, "4"]) == 0
    whole = capsys.readouterr().out
    if options:
        record = json.loads(out)
        assert record["interrupted"] is True
        assert record["text"] + "\n" == whole
        assert record["generated_tokens"] == 4
    else:
        assert out == whole
        assert "generated 4 tokens" in err


def test_a_closed_reader_is_no_error(trained):
    command = [
        *PROGRAM,
        "generate",
        "--model",
        str(trained / "out" / "model"),
        "def",
        "--max-tokens",
        "25",
        "--temp",
        "0",
    ]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == ""


def test_pretrain_offers_the_defaults_of_the_settings():
    from lamina.cli.pretrain import MODEL_OPTIONS, TRAIN_OPTIONS
    from lamina.lm.train.config import TrainConfig
    from lamina.lm.train.pretrain import ModelSize

    for options, settings in ((MODEL_OPTIONS, ModelSize()), (TRAIN_OPTIONS, TrainConfig())):
        for name, kind, default, _ in options:
            assert getattr(settings, name.replace("-", "_")) == default, name
            assert isinstance(default, kind), name


def test_generate_with_a_profile(tmp_path):
    trace = tmp_path / "trace.json"
    done = lamina_command("generate", "x = ", "--max-tokens", "3", "--temp", "0", "--profile", str(trace))
    assert done.returncode == 0, done.stderr
    assert "matmul" in done.stderr
    assert json.loads(trace.read_text())["traceEvents"]
    done = lamina_command("generate", "x = ", "--profile", str(tmp_path / "no" / "trace.json"))
    assert done.returncode == 1
    assert "no such folder for the profile" in done.stderr
