"""Makes calls for another process: reads pickled calls from its input and answers with pickled outcomes."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

from .calls import Call, Outcome, outcome


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

    def __init__(self, python: str, module: str, patience: float = 60) -> None:
        self._command = [python, "-m", f"{__package__}.worker", module]
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        top = Path(__file__).parents[__package__.count(".") + 1]
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
        return process.wait()

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
            code = process.wait()
            self._end()
            return Outcome(error=("hang" if hung else "crash",), message=f"the process ended with {code}")
        finally:
            late.cancel()


if __name__ == "__main__":
    serve(sys.argv[1])
