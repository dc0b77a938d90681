"""What models need of memory, and the error where there is less."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import lamina.core as mx
import pytest
from lamina.lm import Quantization, load, quantize, save
from lamina.lm.errors import LMError, MemoryNeededError
from lamina.lm.io import read_checkpoint
from lamina.lm.io.load import model_of
from lamina.lm.io.memory import MemoryNeed, available_memory, check_memory, memory_needed
from lamina.utils import tree_flatten
from lm.lm_helpers import TINY


def machine(root: Path, available_kb: int, groups: dict[str, dict[str, object]], own: str) -> Path:
    """A root with what the system says in ``proc`` and ``sys``."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {available_kb} kB\n")
    (root / "proc" / "self" / "cgroup").write_text(own)
    for path, files in groups.items():
        folder = root / "sys" / "fs" / "cgroup" / path
        folder.mkdir(parents=True)
        for name, value in files.items():
            (folder / name).write_text(f"{value}\n")
    return root


def test_the_machine_alone(tmp_path: Path) -> None:
    root = machine(tmp_path, 1000, {}, "0::/\n")
    assert list(available_memory(root)) == [(1024000, "the machine")]
    assert list(available_memory(tmp_path / "nothing")) == []


def test_groups_and_their_parents(tmp_path: Path) -> None:
    stat = "anon 5\nactive_file 100\ninactive_file 50\n"
    groups = {
        "a": {"memory.max": 5000, "memory.current": 1000, "memory.stat": stat},
        "a/b": {"memory.max": "max", "memory.current": 900, "memory.stat": stat},
    }
    root = machine(tmp_path, 1000, groups, "0::/a/b\n")
    assert [b for b, _ in available_memory(root)] == [1024000, 4150]


def test_groups_of_version_1(tmp_path: Path) -> None:
    stat = "total_active_file 0\ntotal_inactive_file 400\n"
    group = {"memory.limit_in_bytes": 2000, "memory.usage_in_bytes": 1500, "memory.stat": stat}
    boundless = {"memory.limit_in_bytes": 9223372036854771712, "memory.usage_in_bytes": 1, "memory.stat": ""}
    root = machine(tmp_path, 1, {"memory/x": group, "memory/y": boundless}, "5:cpu,cpuacct:/x\n4:memory:/x\n")
    assert [b for b, _ in available_memory(root)] == [1024, 900]
    (root / "proc" / "self" / "cgroup").write_text("4:memory:/y\n")
    assert [b for b, _ in available_memory(root)] == [1024]


def test_the_error_has_the_numbers(tmp_path: Path) -> None:
    root = machine(tmp_path, 2_000_000, {}, "")
    check_memory(MemoryNeed(2_000_000_000, 0, 48_000_000, 10), "m", root)
    with pytest.raises(MemoryNeededError) as caught:
        check_memory(MemoryNeed(3_000_000_000, 500_000_000, 250_000_000, 4096), "m", root)
    assert str(caught.value) == (
        "m needs 3.75 GB of memory (3.00 GB of weights in mapped files, 0.50 GB of converted weights, "
        "0.25 GB for 4096 positions), but the machine leaves 2.05 GB"
    )
    assert isinstance(caught.value, (LMError, MemoryError))
    assert (caught.value.needed_bytes, caught.value.available_bytes) == (3_750_000_000, 2_048_000_000)


def test_what_a_model_needs(model_dir: Path, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(model_dir)
    model = model_of(checkpoint)
    weights = sum(a.nbytes for _, a in tree_flatten(model.parameters()))
    row = TINY.num_hidden_layers * TINY.num_key_value_heads * 2 * TINY.head_dim * 4
    assert memory_needed(model, checkpoint.mapped, 16) == MemoryNeed(weights, 0, 16 * row, 16)
    assert memory_needed(model, checkpoint.mapped).positions == TINY.max_position_embeddings
    model.set_dtype(mx.bfloat16)
    assert memory_needed(model, checkpoint.mapped, 16) == MemoryNeed(0, weights // 2, 8 * row, 16)
    again, tokenizer = load(model_dir)
    save(tmp_path / "q", quantize(again, Quantization(64, 4)), tokenizer)
    checkpoint = read_checkpoint(tmp_path / "q")
    need = memory_needed(model_of(checkpoint), checkpoint.mapped)
    assert need.copied == 0
    assert need.mapped < weights / 4


def test_loading_asks_first(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.lm.io.memory.available_memory", lambda root: iter([(1000, "the machine")]))
    with pytest.raises(MemoryNeededError, match=r"model needs 0\.00 GB .* but the machine leaves 0\.00 GB"):
        load(model_dir)
    load(model_dir, memory_check=False)


def test_only_what_is_used_is_read(tmp_path: Path) -> None:
    """A file of 2 GB, nearly all of it a hole: looking up a few rows must not bring the rest to memory."""
    rows, columns = 1 << 20, 512
    header = write_hole(tmp_path / "a.safetensors", rows, columns)
    assert (tmp_path / "a.safetensors").stat().st_size == header + rows * columns * 4
    table = mx.load(tmp_path / "a.safetensors")["w"]
    before = resident(tmp_path / "a.safetensors")
    picked = table[mx.array([5, rows // 2, rows - 1])]
    assert picked.sum().item() == 0
    assert before == 0
    assert resident(tmp_path / "a.safetensors") <= 3 * (1 << 22)  # read-ahead of the system, at most


def write_hole(path: Path, rows: int, columns: int) -> int:
    """Write a safetensors file whose one tensor takes no space on the disk; return the header's length."""
    entry = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [0, rows * columns * 4]}
    text = json.dumps({"w": entry}).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + rows * columns * 4)
    return 8 + len(text)


def resident(path: Path) -> int:
    """Bytes of the file's maps that are in this process's memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total
