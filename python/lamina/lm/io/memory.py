"""What a model needs of memory, what there is, and an error before loading where that does not suffice."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lamina.core as mx
from lamina.lm.cache import AttentionSpec, HybridSpec, LayerSpec, StateSpec
from lamina.lm.errors import MemoryNeededError
from lamina.utils import tree_flatten

# Positions to count where nobody says how many will be run.
USUAL_POSITIONS = 4096
_STATE_BYTES = 4  # recurrent states are float32


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a model needs.

    Attributes
    ----------
    mapped : int
        Weights that stay in mapped files. The system can drop them, but each token reads them all.
    copied : int
        Weights that are converted, and so have memory of their own.
    cache : int
        Keys, values and states of one sequence.
    positions : int
        Its length.
    """

    mapped: int
    copied: int
    cache: int
    positions: int

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return self.mapped + self.copied + self.cache


def memory_needed(model: Any, mapped: Container[int] = (), positions: int | None = None) -> MemoryNeed:
    """Return what a model needs to run one sequence; nothing is read or computed.

    Parameters
    ----------
    model : Module
        The model.
    mapped : container of int
        ``id`` of the arrays that are views of mapped files.
    positions : int, optional
        Length of the sequence; by default 4096, or the model's context where that is shorter.
    """
    parameters = [array for _, array in tree_flatten(model.parameters())]
    shared = sum(a.nbytes for a in parameters if id(a) in mapped)
    longest = model.config.max_position_embeddings
    positions = min(positions or USUAL_POSITIONS, longest)
    width = max(
        (a.itemsize for a in parameters if a.ndim == 1 and mx.issubdtype(a.dtype, mx.floating)), default=4
    )
    cache = sum(_cache_bytes(spec, positions, width) for spec in model.cache_specs())
    return MemoryNeed(shared, sum(a.nbytes for a in parameters) - shared, cache, positions)


def _cache_bytes(spec: LayerSpec, positions: int, itemsize: int) -> int:
    if isinstance(spec, HybridSpec):
        return _cache_bytes(spec.attention, positions, itemsize) + _cache_bytes(
            spec.state, positions, itemsize
        )
    if isinstance(spec, StateSpec):
        return sum(math.prod(shape) for shape in spec.shapes) * _STATE_BYTES
    assert isinstance(spec, AttentionSpec)
    kept = min(positions, spec.window or positions)
    return spec.kv_heads * (spec.key_dim + spec.value_dim) * kept * itemsize


def check_memory(need: MemoryNeed, name: str, root: Path = Path("/")) -> None:
    """Raise where a model needs more memory than there is.

    Parameters
    ----------
    need : MemoryNeed
        What it needs.
    name : str
        The model, for the message.
    root : Path
        Where ``proc`` and ``sys`` are.

    Raises
    ------
    MemoryNeededError
        It does not fit; the message has the numbers.
    """
    bounds = list(available_memory(root))
    if not bounds:
        return
    available, bound = min(bounds)
    if need.total <= available:
        return
    parts = [
        f"{_gigabytes(need.mapped)} of weights in mapped files" if need.mapped else "",
        f"{_gigabytes(need.copied)} of converted weights" if need.copied else "",
        f"{_gigabytes(need.cache)} for {need.positions} positions" if need.positions else "",
    ]
    raise MemoryNeededError(
        f"{name} needs {_gigabytes(need.total)} of memory ({', '.join(p for p in parts if p)}), "
        f"but {bound} leaves {_gigabytes(available)}",
        need.total,
        available,
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def available_memory(root: Path = Path("/")) -> Iterator[tuple[int, str]]:
    """Yield what the machine and each control group of the process leave, in bytes, and the bound's name.

    Pages of files in the page cache count as available: they are dropped when memory is short.
    """
    machine = _numbers(root / "proc" / "meminfo").get("MemAvailable")
    if machine is not None:
        yield machine * 1024, "the machine"
    groups = root / "sys" / "fs" / "cgroup"
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        top = groups / "memory" if controllers else groups
        own = top / path.strip("/")
        for folder in (own, *own.parents):
            if not folder.is_relative_to(top):
                break
            left = _left_in_group(folder, v1=bool(controllers))
            if left is not None:
                yield left, "the memory limit of the control group"


def _left_in_group(folder: Path, v1: bool) -> int | None:
    limit, used = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes") if v1 else ("memory.max", "memory.current")
    )
    numbers = [_text(folder / n).strip() for n in (limit, used)]
    if not all(n.isdigit() for n in numbers) or int(numbers[0]) >= 1 << 60:
        return None  # no limit
    stat = _numbers(folder / "memory.stat")
    prefix = "total_" if v1 else ""
    cached = sum(stat.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))
    return max(0, int(numbers[0]) - max(0, int(numbers[1]) - cached))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _numbers(path: Path) -> dict[str, int]:
    """Return the lines ``name number`` or ``name: number unit`` of a file."""
    found = {}
    for line in _text(path).splitlines():
        parts = line.split()
        if len(parts) >= 2 and parts[1].isdigit():
            found[parts[0].rstrip(":")] = int(parts[1])
    return found
