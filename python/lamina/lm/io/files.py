"""Files of a model: whole or not at all when written, checked before they are mapped when read."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import lamina.core as mx
from lamina.lm.errors import CheckpointError

INDEX = "model.safetensors.index.json"
_ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16,
    "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
_UNREAD = ("F8_E5M2",)
_MAX_HEADER_BYTES = 100_000_000


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success flush that file to disk and rename it to ``path``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as d:
    ...     with replacing(Path(d) / "a.txt") as tmp:
    ...         _ = tmp.write_text("whole")
    ...     (Path(d) / "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    # The suffix stays last: writers choose their format by it.
    tmp = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    try:
        yield tmp
        with tmp.open("rb+") as f:
            os.fsync(f.fileno())
        os.replace(tmp, path)
    finally:
        tmp.unlink(missing_ok=True)


@contextlib.contextmanager
def new_directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty directory beside ``path``; on success rename it to ``path``, else remove it.

    Raises
    ------
    CheckpointError
        ``path`` is a file, or a directory that is not empty.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as d:
    ...     with new_directory(Path(d) / "a") as tmp:
    ...         _ = (tmp / "b.txt").write_text("whole")
    ...     [p.name for p in (Path(d) / "a").iterdir()]
    ['b.txt']
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise CheckpointError(f"{path} exists already: wanted a new or empty directory to write to")
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    tmp.mkdir()
    try:
        yield tmp
        os.replace(tmp, path)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    CheckpointError
        The file cannot be read, or does not hold a JSON object.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise CheckpointError(f"cannot read {path}: {e.strerror}") from e
    except ValueError as e:
        raise CheckpointError(f"{path} is not valid JSON: {e}") from e
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object, whole or not at all."""
    with replacing(path) as tmp:
        tmp.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def check_safetensors(path: str | Path) -> dict[str, dict[str, Any]]:
    """Check that a safetensors file is whole and return its header entries by tensor name.

    Only the header is read: its length, its JSON, every tensor's dtype, shape and byte range, and the
    file's size.

    Raises
    ------
    CheckpointError
        The file is missing, truncated, or its header contradicts itself or the file's size.
    """
    path = Path(path)
    try:
        file_bytes = path.stat().st_size
        with path.open("rb") as f:
            head = f.read(8)
            header_bytes = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            limit = min(file_bytes - 8, _MAX_HEADER_BYTES)
            if len(head) < 8 or not 2 <= header_bytes <= limit:
                raise CheckpointError(
                    f"{path} is not a whole safetensors file: it holds {file_bytes} bytes, "
                    f"and its header claims {header_bytes}"
                )
            raw = f.read(header_bytes)
    except OSError as e:
        raise CheckpointError(f"cannot read {path}: {e.strerror}") from e
    try:
        header = json.loads(raw)
        if not isinstance(header, dict):
            raise ValueError("wanted a JSON object")
        header.pop("__metadata__", None)
        ends = [_check_entry(name, entry) for name, entry in header.items()]
    except (ValueError, TypeError, KeyError) as e:
        raise CheckpointError(f"{path} has a corrupt safetensors header: {e}") from e
    wanted = 8 + header_bytes + max(ends, default=0)
    if wanted != file_bytes:
        raise CheckpointError(
            f"{path} is truncated or corrupt: its header wants {wanted} bytes, the file has {file_bytes}"
        )
    return header


def _check_entry(name: str, entry: Mapping[str, Any]) -> int:
    begin, end = entry["data_offsets"]
    if entry["dtype"] not in _ITEM_BITS:
        raise ValueError(f"tensor '{name}' has unknown dtype {entry['dtype']!r}")
    bits = _ITEM_BITS[entry["dtype"]]
    for n in entry["shape"]:
        if not isinstance(n, int) or n < 0:
            raise ValueError(f"tensor '{name}' has shape {entry['shape']}")
        bits *= n
    if not 0 <= begin <= end or (end - begin) * 8 != bits:
        raise ValueError(
            f"tensor '{name}' of shape {entry['shape']} and {entry['dtype']} has byte range {begin}..{end}"
        )
    return end


def load_tensors(path: str | Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    """Map one checked safetensors file; return its arrays and its metadata.

    Raises
    ------
    CheckpointError
        The file is missing or damaged, or a tensor has a dtype that lamina does not read.
    """
    for name, entry in check_safetensors(path).items():
        if entry["dtype"] in _UNREAD:
            raise CheckpointError(
                f"{path}: tensor '{name}' has dtype {entry['dtype']}, which is not supported"
            )
    try:
        return cast(tuple[dict[str, mx.array], dict[str, str]], mx.load(str(path), return_metadata=True))
    except (ValueError, RuntimeError, OSError) as e:
        raise CheckpointError(f"cannot load {path}: {e}") from e


def weight_map(directory: str | Path) -> dict[str, str] | None:
    """Return the index of shards of a model directory, tensor name to file name; None where there is none.

    Raises
    ------
    CheckpointError
        The index is not one, or shards that it names are missing.
    """
    directory = Path(directory)
    index = directory / INDEX
    if not index.is_file():
        return None
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(f, str) for f in places.values()):
        raise CheckpointError(f"{index} is not a usable index of shards: it has no 'weight_map' of files")
    files = sorted(set(places.values()))
    outside = [f for f in files if Path(f).name != f]
    if outside:
        raise CheckpointError(f"{index} names files outside its directory: {', '.join(outside)}")
    missing = [f for f in files if not (directory / f).is_file()]
    if missing:
        raise CheckpointError(
            f"{directory} lacks {len(missing)} of its {len(files)} shards: {listed(missing)}"
        )
    return places


def weight_files(directory: str | Path) -> list[Path]:
    """Return the files of weights of a model directory: those that its index names, else all there are.

    Raises
    ------
    CheckpointError
        There are none, or some that the index names are missing.
    """
    directory = Path(directory)
    places = weight_map(directory)
    if places is not None:
        return [directory / f for f in sorted(set(places.values()))]
    # Some publish the same weights twice, under a name of their own as well.
    files = sorted(directory.glob("model*.safetensors")) or sorted(directory.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"no *.safetensors in {directory}")
    return files


def load_weights(directory: str | Path) -> dict[str, mx.array]:
    """Map all tensors of a model directory: the shards that its index names, else its safetensors files.

    Raises
    ------
    CheckpointError
        No weights are there, a file is missing or corrupt, or tensors are not where the index says.
    """
    directory = Path(directory)
    places = weight_map(directory)
    weights: dict[str, mx.array] = {}
    for file in weight_files(directory):
        arrays = load_tensors(file)[0]
        if places is not None:
            lost = [n for n, f in places.items() if f == file.name and n not in arrays]
            if lost:
                raise CheckpointError(f"{file} lacks tensors that the index places there: {listed(lost)}")
        twice = weights.keys() & arrays.keys()
        if twice:
            raise CheckpointError(f"{file} repeats tensors of other files: {listed(list(twice))}")
        weights.update(arrays)
    return weights


def listed(names: list[str], most: int = 8) -> str:
    """Return the first names, sorted, and how many there are besides.

    Examples
    --------
    >>> listed(["c", "a", "b"], most=2)
    'a, b and 1 more'
    """
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
