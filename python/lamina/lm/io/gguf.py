"""GGUF files as checkpoints: their blocks stay as they are stored, in the mapped file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import lamina.core as mx
from lamina.lm.errors import CheckpointError
from lamina.lm.io.checkpoint import Blocks, Checkpoint, Value, by_id
from lamina.lm.io.files import listed
from lamina.lm.io.gguf_names import DERIVED, Architecture, Fields, architecture_of, common_config
from lamina.lm.tokenizer import Tokenizer
from lamina.lm.vocabulary import vocabulary_from_gguf
from lamina.lm.vocabulary.files import tokenizer_from
from lamina.lm.vocabulary.gguf import plain

_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
_TYPES = "lamina.tensor_types"


def gguf_files(path: Path) -> list[Path]:
    """Return the files of the model at ``path``: a file, all parts of a split one, or those in a directory.

    Raises
    ------
    CheckpointError
        Parts are missing, or a directory holds several models.
    """
    if path.is_dir():
        files = sorted(path.glob("*.gguf"))
        heads = [f for f in files if (m := _SHARD.fullmatch(f.name)) is None or int(m[2]) == 1]
        if len(heads) != 1:
            raise CheckpointError(
                f"{path} holds {len(heads)} GGUF models, name one of them: {listed([f.name for f in heads])}"
            )
        path = heads[0]
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match[3])
    parts = [path.with_name(f"{match[1]}-{i:05d}-of-{count:05d}.gguf") for i in range(1, count + 1)]
    missing = [p.name for p in parts if not p.is_file()]
    if missing:
        raise CheckpointError(f"{path.parent} lacks {len(missing)} of {count} parts: {listed(missing)}")
    return parts


def load_gguf(path: str | Path) -> tuple[dict[str, Value], dict[str, Any]]:
    """Map a GGUF file, or all parts of a split one.

    Returns
    -------
    tuple of dict
        Tensors by GGUF's names, and the first file's metadata.

    Raises
    ------
    CheckpointError
        A file cannot be read, is damaged, or has a tensor of an unknown type.
    """
    tensors: dict[str, Value] = {}
    first: dict[str, Any] = {}
    for file in gguf_files(Path(path)):
        try:
            loaded = mx.load(str(file), format="gguf_blocks", return_metadata=True)
        except FileNotFoundError as e:
            raise CheckpointError(f"no model at {file}") from e
        except (ValueError, RuntimeError, OSError) as e:
            raise CheckpointError(f"cannot load {file}: {e}") from e
        arrays, metadata = cast(tuple[dict[str, mx.array], dict[str, Any]], loaded)
        first = first or metadata
        types = metadata.get(_TYPES, {})
        twice = tensors.keys() & arrays.keys()
        if twice:
            raise CheckpointError(f"{file} repeats tensors of other parts: {listed(list(twice))}")
        tensors |= {n: Blocks(a, types[n]) if n in types else a for n, a in arrays.items()}
    return tensors, {k: v for k, v in first.items() if k != _TYPES}


def read_gguf(path: str | Path, dtype: mx.Dtype | None = None) -> Checkpoint:
    """Read the model in a GGUF file.

    Parameters
    ----------
    path : str or Path
        The file, the first part of a split one, or a directory with one model.
    dtype : Dtype, optional
        What activations are computed in; by default that of the matrices that are not packed, or bfloat16
        where all are.

    Raises
    ------
    CheckpointError
        A file is missing or damaged, or holds what is not supported.
    """
    tensors, metadata = load_gguf(path)
    architecture = architecture_of(metadata)
    shapes = {n: tuple(t.shape) for n, t in tensors.items()}
    # Text is left alone: a vocabulary is long, and read by its own reader.
    numbers = {k: plain(v) for k, v in metadata.items() if not k.startswith("tokenizer.")}
    fields = Fields(architecture.name, numbers, shapes)
    config = common_config(fields, architecture)
    config |= _rotary(fields, tensors, config)
    for role in ("bos", "eos"):
        if f"tokenizer.ggml.{role}_token_id" in metadata:
            config[f"{role}_token_id"] = plain(metadata[f"tokenizer.ggml.{role}_token_id"])

    def tokenizer(end_ids: tuple[int, ...]) -> Tokenizer:
        return tokenizer_from(vocabulary_from_gguf(metadata, architecture.name))

    renamed = _renamed(tensors, architecture)
    dtype = dtype or _matrix_dtype(renamed)
    return Checkpoint(
        Path(path),
        "gguf",
        config,
        {n: _converted(n, t, dtype, architecture, config) for n, t in renamed.items()},
        tokenizer,
        by_id(tensors.values()),
    )


def _renamed(tensors: Mapping[str, Value], a: Architecture) -> dict[str, Value]:
    names = {n: a.hugging_face(n) for n in tensors if n not in DERIVED}
    unknown = [n for n, own in names.items() if own is None]
    if unknown:
        raise CheckpointError(f"tensors not known in architecture '{a.name}': {listed(unknown)}")
    return {cast(str, own): tensors[n] for n, own in names.items()}


def _matrix_dtype(tensors: Mapping[str, Value]) -> mx.Dtype:
    """Return the dtype of most of the numbers in matrices that are not packed; bfloat16 where all are.

    Beside packed matrices those in float32 do not count: they are small ones, such as routers.
    """
    packed = any(isinstance(v, Blocks) for v in tensors.values())
    sizes: dict[mx.Dtype, int] = {}
    for value in tensors.values():
        if isinstance(value, mx.array) and value.ndim > 1 and not (packed and value.dtype == mx.float32):
            sizes[value.dtype] = sizes.get(value.dtype, 0) + value.size
    return max(sizes, key=lambda d: sizes[d]) if sizes else mx.bfloat16


def _converted(name: str, value: Value, dtype: mx.Dtype, a: Architecture, config: Mapping[str, Any]) -> Value:
    """Return a tensor as the model wants it: floats of one dtype, norms without the files' offset."""
    if a.interleaved and not a.switchable and re.search(r"\.[qk]_proj\.", name):
        heads = config["num_attention_heads" if ".q_proj." in name else "num_key_value_heads"]
        if isinstance(value, Blocks):
            return Blocks(halves_from_pairs(value.data, heads), value.mode)
        value = halves_from_pairs(value, heads)
    if isinstance(value, Blocks):
        return value
    if not mx.issubdtype(value.dtype, mx.floating):
        raise CheckpointError(f"tensor '{name}' is of {value.dtype}, wanted floating point or blocks")
    if a.norm_offset and name.endswith("norm.weight"):
        value = value - a.norm_offset
    return value.astype(dtype) if value.dtype != dtype else value


def halves_from_pairs(rows: mx.array, heads: int) -> mx.array:
    """Undo :func:`pairs_from_halves`.

    Examples
    --------
    >>> import lamina.core as mx
    >>> halves_from_pairs(mx.arange(6), 1).tolist()
    [0, 2, 4, 1, 3, 5]
    """
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def pairs_from_halves(rows: mx.array, heads: int) -> mx.array:
    """Reorder the rows of each head: from halves that rotate together to neighbours that do.

    Examples
    --------
    >>> import lamina.core as mx
    >>> pairs_from_halves(mx.array([0, 2, 4, 1, 3, 5]), 1).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def _rotary(f: Fields, tensors: Mapping[str, Value], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``rope_scaling`` that a file's fields and tables stand for."""
    kind = f.get("rope.scaling.type", "none")
    tables = [_table(tensors, n) for n in ("rope_factors_short.weight", "rope_factors_long.weight")]
    original = f.number("rope.scaling.original_context_length", config["max_position_embeddings"])
    if tables[0] is not None and tables[1] is not None:
        scaling: dict[str, Any] = {"short_factor": tables[0], "long_factor": tables[1]}
        magnitude = f.get("rope.scaling.attn_factor")
        if magnitude is not None:
            scaling["attention_factor"] = float(magnitude)
        return {"rope_scaling": {"rope_type": "longrope", **scaling}}
    factors = _table(tensors, "rope_freqs.weight")
    if factors is not None:
        return {"rope_scaling": _scaling_of(factors, config["rope_theta"], original)}
    if kind == "linear":
        return {"rope_scaling": {"rope_type": "linear", "factor": float(f.need("rope.scaling.factor"))}}
    if kind == "yarn":
        scaling = {
            "factor": float(f.need("rope.scaling.factor")),
            "original_max_position_embeddings": original,
        }
        return {"rope_scaling": {"rope_type": "yarn", **scaling}}
    if kind not in ("none", "longrope"):
        raise CheckpointError(f"'{f.name}.rope.scaling.type' {kind!r} is not supported")
    return {}


def _table(tensors: Mapping[str, Value], name: str) -> list[float] | None:
    value = tensors.get(name)
    if value is None:
        return None
    if isinstance(value, Blocks):
        raise CheckpointError(f"tensor '{name}' must be of floats, got {value.mode}")
    return cast(list[float], value.astype(mx.float32).tolist())


def _scaling_of(factors: list[float], theta: float, context: int) -> dict[str, Any]:
    """Return Llama 3's scaling where a table of divisors is its, else the table itself."""
    factor, dims = max(factors), 2 * len(factors)
    eps = 2.0**-20  # a few roundings of float32
    for original in (8192, context):
        low, high = 1.0, 4.0
        wanted = []
        for i in range(len(factors)):
            turns = original * theta ** (-2 * i / dims) / (2 * math.pi)
            smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
            wanted.append(1 / ((1 - smooth) / factor + smooth))
        if all(abs(a - b) <= eps * b for a, b in zip(factors, wanted, strict=True)):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": original,
            }
    return {
        "rope_type": "longrope",
        "short_factor": factors,
        "long_factor": factors,
        "attention_factor": 1.0,
        "factor": 1.0,
        "original_max_position_embeddings": context,
    }
