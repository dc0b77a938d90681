"""The differential script's own side: what it draws, that lamina answers, and that differences are seen."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import lamina.core as mx
import numpy as np
import pytest
from parity import surface_composed, surface_more  # noqa: F401 - add their rows
from parity.__main__ import differences, drawn, report
from parity.calls import Call, Name, Operand, Outcome, Value, outcome
from parity.compare import Accepted, accepted, difference
from parity.surface import SPECS, Spec

ROOT = Path(__file__).parents[3]
TYPED = {"TypeError", "ValueError", "IndexError", "OverflowError", "RuntimeError", "NotImplementedError"}
TYPED |= {"AxisError", "LinalgError"}
NAMES = list(SPECS)

# Functions that no call is drawn for, and why.
NOT_DRAWN = {
    "state, devices, memory": """
        async_eval clear_cache clear_streams default_device default_stream device_count device_info
        disable_compile enable_compile eval get_active_memory get_array_buffer_size get_cache_memory
        get_memory_limit get_peak_memory get_printoptions get_system_allocation_count is_available
        new_stream new_thread_local_stream new_thread_unsafe_stream printoptions reset_peak_memory
        set_cache_limit set_default_device set_default_stream set_memory_limit set_printoptions
        set_wired_limit stream synchronize random.seed""",
    "drawn as prefixes of other functions": """
        checkpoint compile grad jvp load save save_gguf save_safetensors savez savez_compressed
        value_and_grad vjp vmap""",
    "functions and foreign memory": """
        asarray custom_function export_function export_to_dot exporter from_dlpack import_function""",
    "kernels from source": "fast.cuda_kernel fast.metal_kernel fast.precompiled_cuda_kernel",
    "beyond MLX": """
        explain export_to_svg fast.cache_write fast.paged_attention fast.quantize_kv get_batch_invariant
        nonzero profile set_batch_invariant""",
    "tests of their own against definitions": """
        gather_qqmm qqmm vector_norm""",
}


def test_every_function_is_drawn_or_said_why_not() -> None:
    scopes = {"": mx, "fast.": mx.fast, "fft.": mx.fft, "linalg.": mx.linalg, "random.": mx.random}
    present = {
        prefix + name
        for prefix, scope in scopes.items()
        for name in dir(scope)
        if name[0] != "_" and callable(getattr(scope, name)) and not isinstance(getattr(scope, name), type)
    }
    listed = {name for names in NOT_DRAWN.values() for name in names.split()}
    assert listed & set(SPECS) == set()
    assert present - listed - set(SPECS) == {n for n in present if n[0].isupper()}


@pytest.mark.parametrize("name", NAMES)
def test_drawn_calls_give_arrays_or_typed_errors(name: str) -> None:
    """Some of the calls must be valid, or the generator draws nonsense."""
    valid = 0
    for number in range(8):
        spec = SPECS[name]
        _, call = drawn(11, number, [name])
        assert call.name == spec.name
        got = outcome(mx, call)
        assert not got.error or TYPED & set(got.error), f"{call}: {got.error}: {got.message}"
        assert not got.error or got.message
        valid += not got.error
    assert valid > 0


def test_draws_are_the_same_every_time() -> None:
    once = [str(drawn(5, n, NAMES)[1]) for n in range(200)]
    assert once == [str(drawn(5, n, NAMES)[1]) for n in range(200)]
    assert once != [str(drawn(6, n, NAMES)[1]) for n in range(200)]


def test_a_package_does_not_differ_from_itself() -> None:
    assert differences(sys.executable, "lamina.core", 3, 150, NAMES[::5]) == []


def test_a_worker_that_ends_is_a_difference() -> None:
    found = differences(sys.executable, "json", 0, 2, ["add"])
    assert [d.kind for d in found] == ["crash", "crash"]


F32 = np.array([1.0, 2.0], np.float32)


@pytest.mark.parametrize(
    ("how", "theirs", "kind"),
    [
        ("ulp", Value("float32", np.nextafter(F32, 9, dtype=np.float32)), None),
        ("exact", Value("float32", np.nextafter(F32, 9, dtype=np.float32)), "value"),
        ("ulp", Value("float32", F32 * np.float32(1.00001)), "value"),
        ("norm", Value("float32", F32 * np.float32(1.0001)), "value"),
        ("kind", Value("float32", F32 * 2), None),
        ("kind", Value("float32", F32[:1]), "shape"),
        ("kind", Value("float16", F32.astype(np.float16)), "dtype"),
        ("ulp", Value("float32", np.array([1, np.nan], np.float32)), "nan"),
        ("ulp", 1.0, "value"),
    ],
)
def test_what_counts_as_a_difference(how: str, theirs: object, kind: str | None) -> None:
    spec = Spec("f", lambda d: ([], {}), how, 4)
    call = Call("f", (Operand(F32, "float32"),))
    found = difference(spec, call, Outcome((Value("float32", F32),)), Outcome((theirs,)))
    assert (found and found.kind) == kind


def test_errors_agree_by_class() -> None:
    spec, call = Spec("f", lambda d: ([], {})), Call("f", (Name("float32"),))
    axis = Outcome(error=("AxisError", "ValueError", "IndexError", "Exception"), message="m")
    assert difference(spec, call, axis, Outcome(error=("IndexError",))) is None
    assert difference(spec, call, axis, Outcome(error=("ValueError",))) is None
    found = difference(spec, call, axis, Outcome(error=("TypeError",)))
    assert found is not None
    assert found.kind == "error"
    crash = difference(spec, call, axis, Outcome(error=("crash",)))
    assert crash is not None
    assert crash.kind == "crash"
    assert Accepted("f", "error", "theirs TypeError", "r").covers(found)
    assert not Accepted("g", "error", "theirs TypeError", "r").covers(found)
    assert report([found], [], 1) == 1
    assert report([found], [Accepted("f", "error", "", "r")], 1) == 0


def test_every_accepted_difference_has_its_section() -> None:
    rows = accepted()
    headings = re.findall(
        r"^## (.+)$", (ROOT / "docs" / "differences.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert rows
    assert {row.reason for row in rows} <= set(headings)
    for row in rows:
        re.compile(row.function)
        re.compile(row.kind)
        re.compile(row.text)
    kept = json.loads((Path(__file__).parent / "accepted.json").read_text(encoding="utf-8"))
    assert len({json.dumps(row) for row in kept}) == len(kept)


def test_without_a_peer_it_says_so() -> None:
    command = [sys.executable, "-m", "tests.python.parity"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "nothing compared" in done.stderr
    done = subprocess.run(
        [*command, "--peer", sys.executable, "--module", "no_such"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2
    assert "cannot import no_such" in done.stderr
