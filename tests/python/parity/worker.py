"""Makes calls for another process: reads pickled calls from its input and answers with pickled outcomes."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

from .calls import Call, Outcome, outcome

PIPE = subprocess.PIPE
# "parity", or "tests.python.parity" from the root of the repository.
PACKAGE = __name__.rpartition(".")[0] if __name__ != "__main__" else ""


def serve(module: str) -> None:
    """Answers calls until the input ends."""
    mx = importlib.import_module(module)
    # Answers have a descriptor of their own: whatever a library prints goes to the standard error.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            call = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(outcome(mx, call), answers)
        answers.flush()


class Worker:
    """A process that makes calls; it is started again where a call ends it."""

    def __init__(self, python: str, module: str, patience: float = 20) -> None:
        self._command = [python, "-m", f"{PACKAGE}.worker", module]
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        top = Path(__file__).parents[PACKAGE.count(".") + 1]
        environment = {**os.environ, "PYTHONPATH": str(top)}
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def _end(self) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.kill()
        # Leaving its context closes both pipes and waits; what was still to be written is lost.
        with contextlib.suppress(BrokenPipeError), process:
            pass
        return process.returncode

    def _ended(self, process: subprocess.Popen[bytes]) -> int:
        """The status of a process that has closed its side, before it is killed."""
        code = process.wait()
        self._end()
        return code

    def ask(self, call: Call) -> Outcome:
        """What the call gives there; an `error` of 'crash' or 'hang' where the process did not answer."""
        self._process = process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(self._patience, process.kill)
        late.start()
        try:
            pickle.dump(call, process.stdin)
            process.stdin.flush()
            return pickle.load(process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            hung = not late.is_alive()
            code = self._end() if hung else self._ended(process)
            return Outcome(error=("hang" if hung else "crash",), message=f"the process ended with {code}")
        finally:
            late.cancel()


if __name__ == "__main__":
    serve(sys.argv[1])
