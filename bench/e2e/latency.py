"""What is no kernel: time from the command to its first token, and what a token costs besides kernels."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.e2e.worker import Worker, environment

if TYPE_CHECKING:
    from bench.e2e.models import Shape

ROWS = {"start/first_token": 0.6, "start/imports": 0.25, "host/token": 0.4e-3}
"""Names and the longest times that are wanted, in seconds."""

_IMPORTS = """
import time
begin = time.perf_counter()
import lamina.cli.generate, lamina.lm
print(time.perf_counter() - begin)
"""


def write_tokenizer(path: Path, vocab: int) -> None:
    """Write a byte-level BPE of ``vocab`` entries with random merges: as large to load as a real one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    rng = np.random.default_rng(23)
    words = sorted(pre_tokenizers.ByteLevel.alphabet())
    known, merges = set(words), []
    while len(words) < vocab:
        left, right = (words[i] for i in rng.integers(0, len(words), 2))
        if len(left + right) <= 12 and left + right not in known:
            known.add(left + right)
            words.append(left + right)
            merges.append((left, right))
    inner = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.save(str(path), pretty=False)


def first_token(model: Path, threads: int) -> float:
    """Seconds until ``lamina generate`` has written something.

    Raises
    ------
    RuntimeError
        It wrote nothing or failed.
    """
    command = [sys.executable, "-m", "lamina", "generate", "--model", str(model), "--max-tokens", "1"]
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--temp", "0", "The first word"],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(threads),
        )
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - begin
        process.stdout.read()
        if process.wait() or not first:
            errors.seek(0)
            raise RuntimeError(f"lamina generate failed: {errors.read().decode(errors='replace')}")
    return seconds


def imports(threads: int) -> float:
    """Seconds that a fresh process spends on the imports of ``lamina generate``."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS],
        capture_output=True,
        text=True,
        check=True,
        env=environment(threads),
    )
    return float(done.stdout)


def measure(folder: Path, model: Path, shape: Shape, threads: int, rounds: int) -> list[dict[str, Any]]:
    """The rows.

    Parameters
    ----------
    folder : Path
        Where a directory with ``model``'s files and a tokenizer may be made.
    model : Path
        The directory of a packed model.
    """
    with tempfile.TemporaryDirectory(dir=folder) as made:
        path = Path(made)
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        (path / "model.safetensors").symlink_to((model / "model.safetensors").resolve())
        write_tokenizer(path / "tokenizer.json", shape.vocab)
        first_token(path, threads)
        starts = [first_token(path, threads) for _ in range(rounds)]
    found = {
        "start/first_token": starts,
        "start/imports": [imports(threads) for _ in range(rounds)],
        "host/token": _host(model, shape, threads, rounds),
    }
    return [
        {
            "row": name,
            "status": "ok",
            "limit_s": ROWS[name],
            "best_s": min(seconds),
            "all_s": seconds,
            "met": min(seconds) <= ROWS[name] * 1.05,
        }
        for name, seconds in found.items()
    ]


def _host(model: Path, shape: Shape, threads: int, rounds: int) -> list[float]:
    """Seconds a token where no kernel computes anything: graph, plan, sampling and Python."""
    ids = np.random.default_rng(2).integers(0, shape.vocab, 16).tolist()
    with Worker("lamina", model, threads, LAMINA_BACKEND="null") as worker:
        worker.decode([ids], 64)
        return [worker.decode([ids], 64) / 64 for _ in range(rounds)]
