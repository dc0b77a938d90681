"""eval and async_eval: trees, laziness, errors, long chains, threads and the GIL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import lamina.core as mx
import numpy as np
import pytest


def test_trees_and_other_objects() -> None:
    a, b = mx.ones(2) + 1, mx.ones(2) + 2
    mx.eval(a, {"b": [b, None, "x"]}, (1, 2.5))
    mx.eval()
    mx.async_eval([a], b + 1)
    assert (a + b).tolist() == [5, 5]


def test_async_eval_then_use() -> None:
    a = mx.ones((1000,)) * 3
    mx.async_eval(a)
    b = a + 1
    mx.synchronize()
    assert b.sum().item() == 4000


def test_errors_leave_arrays_unevaluated_and_the_process_alive() -> None:
    a = mx.arange(3)
    bad = mx.take(a, mx.array([7]))
    for _ in range(2):
        with pytest.raises(IndexError, match="7"):
            mx.eval(bad)
    mx.async_eval(bad)
    with pytest.raises(IndexError, match="7"):
        bad.item()
    assert (a + 1).tolist() == [1, 2, 3]


def test_long_chains() -> None:
    a = mx.zeros(3)
    for _ in range(100_000):
        a = a + 1
    assert a.tolist() == [100_000] * 3
    b = mx.zeros(3)
    for _ in range(100_000):
        b = b + 1
    del b  # never evaluated: taking it apart must not recurse


def test_other_python_threads_run_during_an_evaluation() -> None:
    a = mx.random.normal((1200, 1200), key=mx.random.key(0))
    mx.eval(a)
    ticks = []
    done = threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    thread = threading.Thread(target=tick)
    thread.start()
    while not ticks:
        time.sleep(0.001)
    begin = time.perf_counter()
    for _ in range(4):
        mx.eval(a @ a)
    end = time.perf_counter()
    done.set()
    thread.join()
    assert sum(begin < t < end for t in ticks) >= 3


def test_many_threads_evaluate_shared_graphs() -> None:
    base = mx.arange(1000).astype(mx.float32)
    shared = mx.sin(base) * 2
    want = (np.sin(np.arange(1000, dtype=np.float64)) * 2).sum()
    results: list[float] = []
    errors: list[BaseException] = []

    def work(i: int) -> None:
        try:
            for k in range(20):
                results.append((shared + i + k).sum().item() - 1000 * (i + k))
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert len(results) == 120
    # Sums of a thousand numbers of up to 2 + 25, each rounded to float32.
    assert max(abs(r - want) for r in results) < 1000 * 32 * np.finfo(np.float32).eps * 32


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter with the same module search path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )


def test_fork_after_import() -> None:
    code = """
import os
import lamina.core as mx
assert (mx.ones(1000) + 1).sum().item() == 2000
pid = os.fork()
if pid == 0:
    ok = (mx.ones(1000) + 2).sum().item() == 3000
    os._exit(0 if ok else 1)
assert os.waitpid(pid, 0)[1] == 0
print((mx.ones(3) + 3).tolist())
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[4.0, 4.0, 4.0]"


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "import threading; threading.Thread(target=lambda: mx.eval(a @ a), daemon=True).start()",
        "mx.async_eval(a @ a)",
    ],
    ids=["plain", "thread", "async"],
)
def test_interpreter_ends_cleanly(ending: str) -> None:
    code = f"""
import numpy as np
import lamina.core as mx
values = np.ones((600, 600), np.float32)
a = mx.asarray(values, copy=False)
keep = [a, a + 1, memoryview(a), mx.compile(lambda x: x * 2)]
keep.append(keep)
mx.eval(a + 1)
{ending}
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_keyboard_interrupt() -> None:
    def interrupt() -> None:
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    a = mx.random.normal((600, 600), key=mx.random.key(0))
    mx.eval(a)
    thread = threading.Thread(target=interrupt)

    def evaluate_until_stopped() -> None:
        thread.start()
        while True:
            mx.eval(a @ a)

    with pytest.raises(KeyboardInterrupt):
        evaluate_until_stopped()
    thread.join()
    assert (mx.ones(2) + 1).tolist() == [2, 2]
