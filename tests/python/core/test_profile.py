"""mx.profile: what it records, its reports, and that it leaves evaluation alone."""

from __future__ import annotations

import copy
import gc
import json
import threading
from pathlib import Path
from typing import Any

import lamina.core as mx
import numpy as np
import pytest


def names(p: mx.Profile, *kinds: str) -> list[str]:
    return [e.name for e in p.events if e.kind in kinds]


SYNCS = {
    "eval": lambda x: mx.eval(x),
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool(x.sum()),
    "tolist": lambda x: x.tolist(),
    "print": lambda x: repr(x),
    "host view": lambda x: np.asarray(x),
    "nonzero": lambda x: mx.nonzero(x),
    "boolean mask": lambda x: mx.ones(3)[x > 0],
    "copy": lambda x: copy.deepcopy(x),
    "synchronize": lambda x: (mx.async_eval(x), mx.synchronize()),
}


@pytest.mark.parametrize("name", SYNCS)
def test_waits_say_what_they_are_for(name: str) -> None:
    x = mx.array([1.0, 2.0, 3.0]) + 1
    with mx.profile() as p:
        SYNCS[name](x)
    assert name in names(p, "sync")


def test_ready_arrays_are_not_waited_for() -> None:
    x = mx.ones(3) + 1
    mx.eval(x)
    with mx.profile() as p:
        mx.eval(x)
        x.tolist()
        mx.async_eval(x)
    assert p.events == []


def test_events_tell_what_ran() -> None:
    a = mx.arange(32, dtype=mx.float32).reshape(4, 8)
    b = mx.arange(16, dtype=mx.float64).reshape(8, 2)
    mx.eval(a, b)
    with mx.profile() as p:
        mx.eval(mx.exp(a @ a.T).sum(-1), b @ mx.ones((2, 3), dtype=mx.float64))
    matmul = next(e for e in p.events if e.name == "matmul" and e.detail == "float32 (4, 4)")
    assert (matmul.kind, matmul.flops, matmul.bytes_read, matmul.bytes_written) == ("kernel", 256, 256, 64)
    assert matmul.bound in {"compute", "memory"}
    assert matmul.share is not None
    assert matmul.share >= 0
    assert "exp+sum" in names(p, "tape")
    assert all(e.start >= 0 and e.start + e.duration <= p.seconds for e in p.events)
    wait = next(e for e in p.events if e.kind == "sync")
    assert (wait.share, wait.bound, wait.flops) == (None, None, 0)
    inside = [e for e in p.events if e.thread == wait.thread and e is not wait]
    assert all(wait.start <= e.start and e.start + e.duration <= wait.start + wait.duration for e in inside)
    assert p.peak_memory >= max(e.active_memory for e in p.events) > 0


def test_plans_are_made_once() -> None:
    def work(n: int) -> None:
        mx.eval(mx.cos(mx.sin(mx.ones(n) * 0.125) - 3.25).sum())

    with mx.profile() as first:
        work(10)
    with mx.profile() as second:
        work(11)
    assert len(names(first, "plan")) == 1
    assert names(second, "plan") == []


def test_an_exception_leaves_a_valid_profile() -> None:
    def fails() -> None:
        mx.eval(mx.ones(3) + 1)
        raise ZeroDivisionError

    p = mx.profile()
    with pytest.raises(ZeroDivisionError), p:
        fails()
    assert names(p, "tape") == ["add"]
    with pytest.raises(IndexError, match="7"), p:  # anew
        mx.eval(mx.take(mx.arange(3), mx.array([7])))
    assert names(p, "tape") == []
    assert "eval" in names(p, "sync")
    mx.eval(mx.ones(3) + 1)
    assert names(p, "tape") == []


def test_blocks_nest_and_overlap() -> None:
    x = mx.ones(3)
    with mx.profile() as outer:
        mx.eval(x + 1)
        with mx.profile() as inner:
            mx.eval(mx.exp(x))
        mx.eval(mx.sin(x))
    assert names(outer, "tape") == ["add", "exp", "sin"]
    assert names(inner, "tape") == ["exp"]
    one, two = mx.profile(), mx.profile()
    one.__enter__()
    two.__enter__()
    one.__exit__()
    mx.eval(mx.cos(x))
    two.__exit__()
    assert names(one, "tape") == []
    assert names(two, "tape") == ["cos"]


MISUSE: dict[str, tuple[Any, type[Exception], str]] = {
    "negative limit": (lambda: mx.profile(-1), ValueError, r"\[profile\] wants max_events .* got -1"),
    "no number": (lambda: mx.profile("x"), TypeError, "max_events"),
    "negative rows": (lambda: mx.profile().table(-1), ValueError, r"\[table\] wants rows .* got -1"),
    "exit first": (lambda: mx.profile().__exit__(), ValueError, r"\[profile\] wants a profile that records"),
    "no path": (lambda: mx.profile().save(3), TypeError, "file"),
    "no folder": (lambda: mx.profile().save("/no/such/folder/x.json"), OSError, "/no/such/folder"),
    "no constructor": (lambda: mx.Profile(), TypeError, "Profile"),
}


@pytest.mark.parametrize("case", MISUSE)
def test_misuse(case: str) -> None:
    call, error, message = MISUSE[case]
    with pytest.raises(error, match=message):
        call()


def test_entering_twice() -> None:
    with mx.profile() as p, pytest.raises(ValueError, match="does not record, got one that does"):
        p.__enter__()
    assert "recording" not in repr(p)


def test_the_number_of_events_is_bounded() -> None:
    x = mx.ones(3)
    with mx.profile(max_events=5) as p:
        for _ in range(20):
            mx.eval(x + 1)
    assert len(p.events) == 5
    assert p.dropped >= 35
    assert f"{p.dropped} events dropped: the profile keeps 5" in str(p)
    assert p.to_dict()["dropped"] == p.dropped


def test_threads_and_streams() -> None:
    streams = [mx.new_stream(mx.cpu) for _ in range(3)]
    x = mx.ones(1000)
    mx.eval(x)

    def work(s: mx.Stream) -> None:
        for _ in range(20):
            mx.eval(mx.multiply(x, 2.0, stream=s))

    with mx.profile() as p:
        threads = [threading.Thread(target=work, args=(s,)) for s in streams]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    ran = [e for e in p.events if e.kind == "tape"]
    assert {s.index: 20 for s in streams} == {s.index: sum(e.stream == s.index for e in ran) for s in streams}
    assert len({e.thread for e in ran}) == 3


def test_a_profile_read_while_it_records() -> None:
    x = mx.ones(3)
    with mx.profile() as p:
        mx.eval(x + 1)
        before = len(p.events)
        assert "recording" in repr(p)
        assert "add" in p.table()
        mx.eval(x * 2)
    assert 0 < before < len(p.events)


def test_reports_agree(tmp_path: Path) -> None:
    x = mx.ones((32, 32))
    with mx.profile() as p:
        mx.eval(x @ x + 1)
        mx.async_eval(mx.sort(x))
        mx.synchronize()
    d = p.to_dict()
    assert d["machine"]["flops"] > 0
    assert d["machine"]["bandwidth"] > 0
    assert [e["name"] for e in d["events"]] == [e.name for e in p.events]
    assert set(d["events"][0]) == {n for n in dir(p.events[0]) if not n.startswith("_")}
    json.dumps(d)
    p.save(tmp_path / "trace.json")
    assert [f.name for f in tmp_path.iterdir()] == ["trace.json"]
    trace = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    slices = [e for e in trace if e["ph"] == "X"]
    assert [e["name"] for e in slices] == [e.name for e in p.events]
    for got, want in zip(slices, p.events, strict=True):
        assert got["ts"] == pytest.approx(want.start * 1e6, abs=1e-3)
        assert got["dur"] == pytest.approx(want.duration * 1e6, abs=1e-3)
        assert got["args"].get("flops", 0) == pytest.approx(want.flops, rel=1e-5)
    assert {e["ph"] for e in trace} == {"X", "C", "M", "i"}
    lines = p.table(1).splitlines()
    assert lines[2].endswith("kernels more")


def test_profiling_changes_no_result() -> None:
    def work() -> list[float]:
        x = mx.random.normal((40, 30), key=mx.random.key(3))
        y = mx.softmax(x @ x.T, axis=-1) + mx.cumsum(x, axis=0)[:, :1]
        return mx.grad(lambda v: (mx.sin(v) * v).sum())(y).flatten().tolist()

    plain = work()
    with mx.profile():
        assert work() == plain


def test_a_profile_that_is_let_go_stops() -> None:
    p = mx.profile()
    p.__enter__()
    del p
    gc.collect()
    with mx.profile() as other:
        mx.eval(mx.ones(3) + 1)
    assert names(other, "tape") == ["add"]
