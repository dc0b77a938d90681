"""The machine a comparison runs on, and how many threads it may use. Imports no array library."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Read by the libraries when they are imported or first used.
THREAD_VARIABLES = (
    "LAMINA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
)

_INTERESTING = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
)


def _text(path: str) -> str:
    """A small system file's text; empty where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def usable_cpus() -> int:
    """Processors that this process may keep busy: its affinity, less where a control group limits it."""
    cpus = len(os.sched_getaffinity(0))
    quota, _, period = _text("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cpus = min(cpus, max(1, int(quota) // int(period)))
    return cpus


def equalize_threads(threads: int) -> None:
    """Give this process as many processors as threads, and tell every library; before any is imported."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)


def _caches() -> Iterator[tuple[str, int]]:
    """Name and bytes of each cache of the first processor."""
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_text(str(index / what)) for what in ("level", "type", "size"))
        if level and kind in ("Data", "Unified") and size.endswith("K"):
            yield f"L{level}", int(size[:-1]) * 1024


def last_level_cache() -> int:
    """Bytes of the largest cache; 32 MiB where the system does not tell."""
    return max((size for _, size in _caches()), default=32 << 20)


def describe() -> dict[str, Any]:
    """What results depend on: processor, caches, memory, system and Python."""
    fields: dict[str, str] = {}
    for line in _text("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = set(fields.get("flags", "").split())
    memory = next((x for x in _text("/proc/meminfo").splitlines() if x.startswith("MemTotal:")), "")
    return {
        "cpu": fields.get("model name", platform.processor() or "unknown"),
        "architecture": platform.machine(),
        "instruction_sets": [f for f in _INTERESTING if f in flags],
        "cpus": os.cpu_count(),
        "usable_cpus": usable_cpus(),
        "cache_bytes": dict(_caches()),
        "memory_bytes": int(memory.split()[1]) * 1024 if memory else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "nice": os.nice(0),
    }
