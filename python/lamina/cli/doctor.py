"""``lamina doctor``: what this machine has, what lamina uses of it, and whether the two fit."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import lamina

_EXAMPLES = """examples:
  lamina doctor
  lamina doctor --json | python3 -m json.tool
"""

# The least an x86-64 wheel runs on, and what it uses where present, as /proc/cpuinfo spells them.
NEEDED = {"x86_64": ("avx2", "fma", "f16c", "bmi2")}
USED = (
    "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16",
)  # fmt: skip
VERSIONS = (
    "numpy",
    "ml_dtypes",
    "tokenizers",
    "jinja2",
    "tqdm",
    "rich",
    "matplotlib",
    "llguidance",
    "lm_eval",
)


def add_parser(commands: Any) -> None:
    """Add the subcommand to ``commands``."""
    parser = commands.add_parser(
        "doctor",
        help="check the machine and the installation",
        description="Report CPU, SIMD, threads, memory and versions; run the smallest acceptance script.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(execute=execute)


def read_text(path: str | Path) -> str | None:
    """Return a small system file's text without its last line end; None where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").rstrip("\n")
    except OSError:
        return None


def cpu_report(cpuinfo: str, machine: str) -> dict[str, Any]:
    """Read the CPU's model and instruction sets from the text of ``/proc/cpuinfo``.

    Examples
    --------
    >>> r = cpu_report("model name : X\\nflags : avx2 fma f16c", "x86_64")
    >>> r["model"], r["missing"]
    ('X', ['bmi2'])
    """
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    needed = NEEDED.get(machine)
    return {
        "model": fields.get("model name", "unknown"),
        "machine": machine,
        "cpus": os.cpu_count(),
        "needed": list(needed or ()),
        "missing": [f for f in needed or () if f not in flags],
        "extra": [f for f in USED if f in flags],
        "supported_machine": needed is not None,
    }


def cgroup_quota(root: Path = Path("/sys/fs/cgroup"), membership: str | None = None) -> float | None:
    """Return the CPUs that the cgroup quota grants (version 2 or 1), the least along the path; None for none.

    Parameters
    ----------
    root : Path
        Where the cgroup file systems are mounted.
    membership : str, optional
        The text of ``/proc/self/cgroup``.
    """
    membership = membership if membership is not None else read_text("/proc/self/cgroup") or ""
    quotas = []
    for line in membership.splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers == "":
            base, parse = root, _quota_v2
        elif "cpu" in controllers.split(","):
            base, parse = root / controllers if (root / controllers).is_dir() else root / "cpu", _quota_v1
        else:
            continue
        # Every level limits; inside a container the own path may not be visible, the root then is.
        parts = [p for p in own.split("/") if p]
        levels = [base.joinpath(*parts[:n]) for n in range(len(parts) + 1)]
        quotas += [q for q in map(parse, levels) if q is not None]
    return min(quotas, default=None)


def _quota_v2(directory: Path) -> float | None:
    quota, _, period = (read_text(directory / "cpu.max") or "max").partition(" ")
    return None if quota == "max" else int(quota) / int(period or 100000)


def _quota_v1(directory: Path) -> float | None:
    quota, period = (read_text(directory / f"cpu.cfs_{n}_us") for n in ("quota", "period"))
    if quota is None or period is None or int(quota) <= 0:
        return None
    return int(quota) / int(period)


def memory_report() -> dict[str, Any]:
    """Return memory sizes in bytes (None where unknown) and the huge-page mode."""
    sizes = {}
    for line in (read_text("/proc/meminfo") or "").splitlines():
        key, _, value = line.partition(":")
        sizes[key] = int(value.split()[0]) * 1024
    limit = read_text("/sys/fs/cgroup/memory.max") or read_text("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    huge = read_text("/sys/kernel/mm/transparent_hugepage/enabled") or ""
    return {
        "total_bytes": sizes.get("MemTotal"),
        "available_bytes": sizes.get("MemAvailable"),
        # Version 1 spells 'no limit' as a number near 2**63.
        "cgroup_limit_bytes": int(limit) if limit and limit.isdigit() and int(limit) < 2**60 else None,
        "huge_pages": huge[huge.find("[") + 1 : huge.find("]")] if "[" in huge else None,
    }


def acceptance() -> dict[str, Any]:
    """Run :mod:`lamina.cli.acceptance` in its own process: a crash there is a finding, not our end."""
    done = subprocess.run(
        [sys.executable, "-m", "lamina.cli.acceptance"], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return json.loads(done.stdout)
    lines = done.stderr.strip().splitlines()
    reason = (
        f"killed by signal {-done.returncode}"
        if done.returncode < 0
        else lines[-1]
        if lines
        else "no message"
    )
    return {"ok": False, "reason": reason}


def _versions() -> dict[str, str | None]:
    from importlib import metadata  # 20 ms, which other commands need not wait

    found: dict[str, str | None] = {"lamina": lamina.__version__, "python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def examine() -> dict[str, Any]:
    """Return everything that the command reports, as plain data."""
    cpu = cpu_report(read_text("/proc/cpuinfo") or "", platform.machine())
    fits = cpu["supported_machine"] and not cpu["missing"]
    if not cpu["supported_machine"]:
        why = f"lamina has no build for {cpu['machine']}: wanted one of {', '.join(NEEDED)}"
    elif cpu["missing"]:
        why = f"the CPU lacks {', '.join(cpu['missing'])}: wanted {', '.join(cpu['needed'])}"
    else:
        why = f"the CPU has {', '.join(cpu['needed'])}"
    check = acceptance() if fits else {"ok": False, "reason": "not run: " + why}
    device, peaks, kernels = (check.pop(name, {}) for name in ("device", "peaks", "kernels"))
    return {
        "ok": bool(fits and check["ok"]),
        "versions": _versions(),
        "platform": platform.platform(),
        "cpu": cpu,
        "wheel": {"fits": fits, "why": why},
        "simd": {"target": device.get("simd"), "forced": os.environ.get("LAMINA_SIMD")},
        "caches": {f"{name}_bytes": device.get(f"{name}_cache_size") for name in ("l1d", "l2", "l3")},
        "kernels": kernels,
        "peaks": {"flops": peaks.get("flops"), "read_bytes_per_s": peaks.get("bandwidth")},
        "threads": {
            "affinity": len(os.sched_getaffinity(0)),
            "cgroup_quota": cgroup_quota(),
            "used": device.get("threads"),
        },
        "memory": {**memory_report(), "limit_bytes": device.get("memory_limit_bytes")},
        "acceptance": check,
    }


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"


def _cache_sizes(caches: dict[str, int | None]) -> str:
    known = ((name.removesuffix("_bytes").upper(), size) for name, size in caches.items() if size)
    return ", ".join(f"{name} {size / 2**10:.0f} KiB" for name, size in known) or "unknown"


def _peaks(peaks: dict[str, float | None]) -> str:
    flops, read = peaks["flops"], peaks["read_bytes_per_s"]
    if not flops or not read:
        return "not measured"
    return f"{flops / 1e9:.0f} GFLOP/s of float32 multiply-adds, {read / 1e9:.1f} GB/s read from memory"


_RATES = {
    "float32": "float32 {} GFLOP/s",
    "avx512_bf16": "avx512_bf16 {} GFLOP/s",
    "vnni": "vnni {} GOP/s",
    "amx_bf16": "amx bfloat16 {} GFLOP/s",
    "amx_int8": "amx int8 {} GOP/s",
}


def _kernel_lines(kernels: dict[str, Any]) -> list[str]:
    """Which kernels were chosen, and the measured rates of one core that they were chosen by."""
    if not kernels:
        return ["kernels     not known"]
    rates = [
        text.format(f"{kernels['rates'][k] / 1e9:.0f}") for k, text in _RATES.items() if kernels["rates"][k]
    ]
    if kernels["file"] is None:
        origin = "measured now, and not kept: no folder to write to"
    else:
        origin = f"{'kept in' if kernels['from_file'] else 'measured now, and kept in'} {kernels['file']}"
    how = ", of ".join(f"{name} by {kernels[name]}" for name in ("float32", "bfloat16", "int8"))
    return [
        f"kernels     products of {how}",
        f"rates       one core: {', '.join(rates) or 'none measured'} ({origin})",
    ]


def render(report: dict[str, Any]) -> str:
    """Return the report as text for people."""
    cpu, threads, memory, check = (report[k] for k in ("cpu", "threads", "memory", "acceptance"))
    quota = "none" if threads["cgroup_quota"] is None else f"{threads['cgroup_quota']:g} CPUs"
    limit = memory["cgroup_limit_bytes"]
    sets = [f for f in cpu["needed"] if f not in cpu["missing"]] + cpu["extra"]
    used = threads["used"] or "unknown"
    forced = f" (forced by LAMINA_SIMD={report['simd']['forced']})" if report["simd"]["forced"] else ""
    lines = [
        "versions    " + ", ".join(f"{k} {v or 'not installed'}" for k, v in report["versions"].items()),
        f"platform    {report['platform']}",
        f"cpu         {cpu['model']}, {cpu['cpus']} CPUs",
        f"sets        {', '.join(sets) or 'none known'}",
        f"simd        {report['simd']['target'] or 'unknown'}{forced}",
        f"caches      {_cache_sizes(report['caches'])}",
        *_kernel_lines(report["kernels"]),
        f"measured    {_peaks(report['peaks'])}",
        f"threads     {used} used; affinity {threads['affinity']}, cgroup quota {quota}",
        f"memory      {_gib(memory['available_bytes'])} free of {_gib(memory['total_bytes'])}; cgroup limit "
        f"{'none' if limit is None else _gib(limit)}; lamina's limit {_gib(memory['limit_bytes'])}; "
        f"huge pages {memory['huge_pages'] or 'unknown'}",
        f"wheel       {'fits' if report['wheel']['fits'] else 'DOES NOT FIT'}: {report['wheel']['why']}",
    ]
    if check["ok"]:
        lines += [f"check       {line}" for line in check["lines"]]
        lines.append(
            f"check       passed in {check['run_ms']:.1f} ms, after {check['import_ms']:.1f} ms of import"
        )
    else:
        lines.append(f"check       FAILED: {check['reason']}")
    lines.append("result      " + ("all is well" if report["ok"] else "NOT WELL: see above"))
    return "\n".join(lines)


def execute(args: argparse.Namespace) -> int:
    """Report; 1 when something is wrong."""
    report = examine()
    print(json.dumps(report) if args.json else render(report))
    return 0 if report["ok"] else 1
