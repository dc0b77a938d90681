"""A process that runs one model with one library: reads a request a line, answers with JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from bench.compare.machine import THREAD_VARIABLES

ROOT = Path(__file__).resolve().parents[2]


def environment(threads: int, **more: str) -> dict[str, str]:
    """Variables of a process that finds what this one finds and uses so many threads."""
    path = os.pathsep.join([str(ROOT), *(p for p in sys.path if p)])
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), "PYTHONPATH": path, **more}


class Worker:
    """The asking side.

    Parameters
    ----------
    peer : str
        A name of :data:`bench.e2e.peers.PEERS`.
    model : Path
        What it loads.
    threads : int
        Threads that it may use.
    arithmetic : {"int8", "exact", "dequantized"}
        How lamina multiplies quantized weights, the last one after it has made them float32; the others have
        no choice.
    **variables : str
        Variables that it gets besides this process's own.
    """

    def __init__(
        self,
        peer: str,
        model: Path,
        threads: int,
        arithmetic: str = "int8",
        **variables: str,
    ) -> None:
        command = [sys.executable, "-m", "bench.e2e.worker", peer, str(model), str(threads), arithmetic]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(threads, **variables),
        )
        self.peer = peer
        self.about = self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def prefill(self, ids: Sequence[int]) -> float:
        """Seconds of a prefill."""
        return self._ask(prefill=list(ids))["seconds"]

    def decode(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        """Seconds of decoding so many tokens of each prompt."""
        return self._ask(decode=[list(p) for p in prompts], tokens=tokens)["seconds"]

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Logits (L, V)."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "logits.npy"
            self._ask(logits=list(ids), file=str(path))
            return np.load(path)

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker of {self.peer} ended early with status {self._process.wait()}")
        return json.loads(line)


def _print(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def _serve(name: str, path: Path, threads: int, arithmetic: str) -> None:
    from bench.e2e.peers import PEERS

    try:
        peer = PEERS[name](path, threads, arithmetic)
    except ImportError as error:
        _print({"unavailable": str(error), "version": None})
        return
    _print({"unavailable": None, "version": peer.version})
    for line in sys.stdin:
        request = json.loads(line)
        if "prefill" in request:
            _print({"seconds": peer.prefill(request["prefill"])})
        elif "decode" in request:
            _print({"seconds": peer.decode(request["decode"], request["tokens"])})
        else:
            np.save(request["file"], peer.logits(request["logits"]))
            _print({})


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
