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
