"""``lamina doctor``."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from lamina.cli import acceptance, doctor


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    """Nothing is kept in the user's own folder."""
    monkeypatch.setenv("LAMINA_CACHE_DIR", str(tmp_path / "cache"))


def command(*args: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "lamina", "doctor", *args],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_this_machine_passes():
    done = command()
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "versions ",
        "cpu ",
        "simd ",
        "caches      L1D ",
        "measured    ",
        "threads ",
        "memory ",
        "wheel       fits",
        "result      all is well",
    ):
        assert line in done.stdout
    assert "a + b = [11.0, 22.0, 33.0]" in done.stdout
    assert "float32" in done.stdout
    assert " ms" in done.stdout


def test_json_has_the_same_facts():
    report = json.loads(command("--json").stdout)
    assert report["ok"] is True
    assert report["wheel"]["fits"] is True
    assert report["threads"]["affinity"] == len(os.sched_getaffinity(0))
    assert report["versions"]["python"] == platform.python_version()
    assert report["memory"]["total_bytes"] >= report["memory"]["available_bytes"] > 0
    assert report["caches"]["l1d_bytes"] < report["caches"]["l2_bytes"]
    assert report["peaks"]["flops"] > report["peaks"]["read_bytes_per_s"] > 0
    check = report["acceptance"]
    assert check["ok"]
    assert len(check["lines"]) == 3
    assert check["run_ms"] > 0


def test_affinity_is_seen():
    one = min(os.sched_getaffinity(0))
    done = command("--json", preexec_fn=lambda: os.sched_setaffinity(0, {one}))
    assert json.loads(done.stdout)["threads"]["affinity"] == 1


CPUINFO = """processor\t: 0
model name\t: Some CPU @ 2 GHz
flags\t\t: fpu sse2 {flags}

processor\t: 1
model name\t: Some CPU @ 2 GHz
flags\t\t: fpu
"""


def test_the_gate():
    whole = doctor.cpu_report(CPUINFO.format(flags="avx2 fma f16c bmi2 avx512f avx512_vnni"), "x86_64")
    assert whole["missing"] == []
    assert whole["extra"] == ["avx512f", "avx512_vnni"]
    assert whole["model"] == "Some CPU @ 2 GHz"
    old = doctor.cpu_report(CPUINFO.format(flags="avx"), "x86_64")
    assert old["missing"] == ["avx2", "fma", "f16c", "bmi2"]
    assert doctor.cpu_report("", "riscv64")["supported_machine"] is False


@pytest.mark.parametrize(
    ("cpuinfo", "machine", "why"),
    [
        (CPUINFO.format(flags="avx2 f16c bmi2"), "x86_64", "the CPU lacks fma: wanted avx2, fma, f16c, bmi2"),
        ("", "aarch64", "lamina has no build for aarch64: wanted one of x86_64"),
    ],
)
def test_a_machine_that_does_not_fit(monkeypatch, capsys, cpuinfo, machine, why):
    original = doctor.read_text
    monkeypatch.setattr(
        doctor, "read_text", lambda path: cpuinfo if str(path) == "/proc/cpuinfo" else original(path)
    )
    monkeypatch.setattr(doctor.platform, "machine", lambda: machine)
    monkeypatch.setattr(
        doctor, "acceptance", lambda: pytest.fail("nothing may run on a machine that does not fit")
    )
    report = doctor.examine()
    assert not report["ok"]
    assert report["wheel"] == {"fits": False, "why": why}
    text = doctor.render(report)
    assert "DOES NOT FIT" in text
    assert f"FAILED: not run: {why}" in text
    assert "NOT WELL" in text


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "killed by signal 4"),
        ("raise ImportError('no core here')", "ImportError: no core here"),
        ("raise SystemExit(3)", "no message"),
    ],
)
def test_a_failing_check_is_reported(monkeypatch, tmp_path, code, reason):
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}"\n')
    fake.chmod(0o755)
    monkeypatch.setattr(doctor.sys, "executable", str(fake))
    report = doctor.examine()
    assert not report["ok"]
    assert report["acceptance"] == {"ok": False, "reason": reason}
    assert f"FAILED: {reason}" in doctor.render(report)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "membership", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
        ({"cpu.max": "max 100000\n"}, "0::/\n", None),
        ({"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "max 100000\n"}, "0::/a/b\n", 4.0),
        ({"a/cpu.max": "50000 100000\n", "a/b/cpu.max": "200000 100000\n"}, "0::/a/b\n", 0.5),
        (
            {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            "3:cpu:/not/visible\n",
            2.0,
        ),
        (
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"},
            "3:cpu,cpuacct:/x\n",
            0.5,
        ),
        (
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            "3:cpu:/\n1:name=systemd:/\n",
            None,
        ),
        ({}, "", None),
    ],
)
def test_cgroup_quotas(tmp_path, files, membership, quota):
    assert doctor.cgroup_quota(write(tmp_path, files), membership) == quota


def test_the_acceptance_script_can_fail(monkeypatch):
    import lamina.core as mx

    monkeypatch.setattr(mx, "grad", lambda f: lambda x: x)
    with pytest.raises(
        ArithmeticError, match=r"grad sum\(a \* a\): wanted \[2.0, 4.0, 6.0\], got \[1.0, 2.0, 3.0\]"
    ):
        acceptance.check()


CHOICES = "import json, lamina.core as mx; print(json.dumps(mx._kernel_choices()))"


def choices(cache: Path | None, code: str = CHOICES, **variables: str) -> dict:
    """What a fresh process chooses, with its cache in a folder, or with nowhere to keep one."""
    environment = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "HOME", "LAMINA_SIMD")}
    environment |= variables | ({"LAMINA_CACHE_DIR": str(cache)} if cache else {})
    if cache is None:
        environment.pop("LAMINA_CACHE_DIR", None)
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_kernels_are_chosen_by_rates_that_are_kept(tmp_path):
    folder = tmp_path / "not" / "yet"
    first = choices(folder)
    assert first["from_file"] is False
    assert Path(first["file"]).parent == folder
    assert [str(p) for p in folder.iterdir()] == [first["file"]]
    second = choices(folder)
    assert second["from_file"] is True
    assert second["file"] == first["file"]
    # Six digits are kept.
    assert second["rates"] == pytest.approx(first["rates"], rel=1e-5)
    Path(first["file"]).write_text("lamina rates 1\n")
    assert choices(folder)["from_file"] is False
    assert choices(folder)["from_file"] is True


def test_kernels_are_chosen_where_nothing_can_be_kept(tmp_path):
    (tmp_path / "text").write_text("no folder")
    for place in (tmp_path / "text", None):
        found = choices(place)
        assert found["file"] is None
        assert found["from_file"] is False
        assert found["rates"]["float32"] > 0


def test_two_processes_measure_at_once(tmp_path):
    folder = tmp_path / "both"
    environment = {**os.environ, "LAMINA_CACHE_DIR": str(folder)}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    both = [
        subprocess.Popen([sys.executable, "-c", CHOICES], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    found = [json.loads(p.communicate()[0]) for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert found[0]["file"] == found[1]["file"]
    assert len(list(folder.iterdir())) == 1
    assert choices(folder)["from_file"] is True


def test_an_import_measures_nothing(tmp_path):
    probe = (
        "import os, lamina.core as mx; x = mx.ones((64, 64), mx.float32); mx.eval(x @ x); "
        f"print(len(os.listdir({str(tmp_path)!r})))"
    )
    assert choices(tmp_path, probe) == 0


@pytest.mark.parametrize(
    ("target", "vectors"), [("avx3", "avx512"), ("avx2", "avx2"), ("sse2", "plain loops")]
)
def test_lower_targets_widen_bfloat16(tmp_path, target, vectors):
    best = choices(tmp_path)["float32"]
    if best == "plain loops" or (target == "avx3" and best == "avx2"):
        pytest.skip(f"this CPU has no {target}")
    found = choices(tmp_path, LAMINA_SIMD=target)
    assert (found["float32"], found["bfloat16"], found["int8"]) == (vectors, "float32", vectors)


def test_the_section_of_kernels(tmp_path):
    environment = {**os.environ, "LAMINA_CACHE_DIR": str(tmp_path)}
    report = json.loads(command("--json", env=environment).stdout)
    kernels = report["kernels"]
    assert kernels["float32"] in ("avx512", "avx2")
    assert kernels["bfloat16"] in ("amx tiles", "avx512_bf16", "float32")
    assert kernels["int8"] in ("amx tiles", "vnni", "avx512", "avx2")
    assert kernels["rates"]["float32"] > 0
    text = command(env=environment).stdout
    assert (
        f"kernels     products of float32 by {kernels['float32']}, of bfloat16 by {kernels['bfloat16']}"
        in text
    )
    assert "rates       one core: float32 " in text
    assert f"(kept in {kernels['file']})" in text


def test_a_wrong_setting_is_named():
    done = command(env={**os.environ, "LAMINA_BF16_DOT": "yes"})
    assert done.returncode == 1
    assert "kernels     not known" in done.stdout
    assert "FAILED: ValueError: [LAMINA_BF16_DOT] wanted on or off, got 'yes'" in done.stdout
