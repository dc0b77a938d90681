"""Models on disk: load, save, quantize, convert.

A model is a directory with ``config.json``, one or more ``*.safetensors`` files and ``tokenizer.json``.
Files are written under a temporary name and renamed, so that an interrupted save leaves the old files
whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.config import HFQuantization, Quantization, load_config
from lamina.lm.errors import CheckpointError, ConfigError
from lamina.lm.models import Llama, build_model
from lamina.lm.tokenizer import Tokenizer, load_tokenizer
from lamina.utils import tree_flatten

_ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
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


def load_weights(directory: str | Path) -> dict[str, mx.array]:
    """Read all tensors of a model directory: ``model.safetensors``, or the shards that its index names.

    Raises
    ------
    CheckpointError
        No weights are there, or a file is missing or corrupt.
    """
    directory = Path(directory)
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise CheckpointError(f"{index} is not a usable index of shards: {e!r}") from e
        files = [directory / n for n in names]
    else:
        files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"no *.safetensors in {directory}")
    weights: dict[str, mx.array] = {}
    for file in files:
        weights.update(load_tensors(file)[0])
    return weights


def load_tensors(path: str | Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    """Read one checked safetensors file; return its arrays and its metadata."""
    check_safetensors(path)
    try:
        return cast(tuple[dict[str, mx.array], dict[str, str]], mx.load(str(path), return_metadata=True))
    except (ValueError, RuntimeError, OSError) as e:
        raise CheckpointError(f"cannot load {path}: {e}") from e


def fit_weights(model: Llama, weights: Mapping[str, mx.array]) -> None:
    """Put ``weights`` into ``model``, quantizing the modules that have scales among the weights.

    Raises
    ------
    CheckpointError
        Names are missing or unexpected, or a shape differs from what the configuration wants.
    """
    config = model.config
    if isinstance(config.quantization, HFQuantization):
        raise CheckpointError(f"weights packed by '{config.quantization.method}' are not supported")
    weights = model.sanitize(dict(weights))
    if config.quantization is not None:
        quantize_modules(model, config.quantization, only={k[:-7] for k in weights if k.endswith(".scales")})
    elif any(k.endswith(".scales") for k in weights):
        raise CheckpointError(
            "the weights are quantized (they hold scales), but the config has no 'quantization'"
        )
    wanted = dict(tree_flatten(model.parameters()))
    for problem, names in (
        ("lacks", wanted.keys() - weights.keys()),
        ("has unexpected", weights.keys() - wanted.keys()),
    ):
        if names:
            shown = ", ".join(sorted(names)[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            raise CheckpointError(f"the checkpoint {problem} weights: {shown}")
    for name, value in weights.items():
        if tuple(value.shape) != tuple(wanted[name].shape):
            raise CheckpointError(
                f"weight '{name}' has shape {tuple(value.shape)}, "
                f"the config wants {tuple(wanted[name].shape)}"
            )
    model.load_weights(list(weights.items()))


def quantize_modules(model: nn.Module, quantization: Quantization, only: set[str] | None = None) -> None:
    """Quantize the linear and embedding layers of ``model`` in place; with ``only``, just those paths.

    Raises
    ------
    ConfigError
        A layer's input size is not a multiple of the group size.
    """

    def choose(path: str, module: nn.Module) -> dict[str, int] | bool:
        if not hasattr(module, "to_quantized") or (only is not None and path not in only):
            return False
        own = quantization.for_module(path)
        if own is None:
            return False
        if module.weight.shape[-1] % own["group_size"]:
            raise ConfigError(
                f"'{path}' has rows of {module.weight.shape[-1]} weights, "
                f"not a multiple of group_size {own['group_size']}"
            )
        return own

    nn.quantize(model, quantization.group_size, quantization.bits, class_predicate=choose)


def load(path: str | Path, ignore_fields: tuple[str, ...] = ()) -> tuple[Llama, Tokenizer]:
    """Load a model and its tokenizer from a local directory.

    Parameters
    ----------
    path : str or Path
        Directory with ``config.json``, ``*.safetensors`` and ``tokenizer.json``.
    ignore_fields : tuple of str
        Config fields to ignore although they are not understood.

    Returns
    -------
    tuple of Llama and Tokenizer
        The model, ready for inference, and its tokenizer.

    Raises
    ------
    ConfigError
        The configuration is missing, malformed or not supported.
    CheckpointError
        Weights or tokenizer are missing, corrupt, or do not fit the configuration.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise CheckpointError(
            f"no model at {directory}: wanted a directory with config.json and *.safetensors"
        )
    config = load_config(directory, ignore_fields)
    tokenizer = load_tokenizer(directory / "tokenizer.json", config.eos_token_id)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens, "
            f"the model's vocabulary {config.vocab_size}"
        )
    model = build_model(config)
    fit_weights(model, load_weights(directory))
    model.eval()
    return model, tokenizer


def save(path: str | Path, model: Llama, tokenizer: Tokenizer) -> None:
    """Write ``model`` and ``tokenizer`` to the directory ``path``, each file whole or not at all."""
    directory = Path(path)
    directory.mkdir(parents=True, exist_ok=True)
    with replacing(directory / "model.safetensors") as tmp:
        mx.save_safetensors(str(tmp), dict(tree_flatten(model.parameters())), {"format": "mlx"})
    with replacing(directory / "tokenizer.json") as tmp:
        tokenizer.save(tmp)
    with replacing(directory / "config.json") as tmp:
        tmp.write_text(json.dumps(model.config.to_dict(), indent=2) + "\n", encoding="utf-8")


def quantize(model: Llama, quantization: Quantization) -> Llama:
    """Quantize ``model`` in place and record it in its configuration.

    Raises
    ------
    ConfigError
        The model is quantized already, or a layer does not divide into groups.
    """
    if model.config.quantization is not None:
        was = model.config.quantization
        raise ConfigError(f"the model is quantized already ({was.bits} bits, groups of {was.group_size})")
    quantize_modules(model, quantization)
    model.config = dataclasses.replace(model.config, quantization=quantization)
    return model


def convert(
    source: str | Path,
    target: str | Path,
    quantization: Quantization | None = None,
    dtype: str | None = None,
    ignore_fields: tuple[str, ...] = (),
) -> Llama:
    """Read the model at ``source``, change dtype or quantize, and write it to ``target``.

    Parameters
    ----------
    source, target : str or Path
        Model directories; they must differ.
    quantization : Quantization, optional
        Quantize the linear and embedding layers so.
    dtype : {"float32", "float16", "bfloat16"}, optional
        Convert floating-point weights to this dtype first.
    ignore_fields : tuple of str
        Config fields to ignore although they are not understood.

    Returns
    -------
    Llama
        The converted model.

    Raises
    ------
    ConfigError, CheckpointError
        As :func:`load` and :func:`quantize`; or ``source`` and ``target`` are the same directory.
    """
    dtypes = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
    if dtype is not None and dtype not in dtypes:
        raise ConfigError(f"dtype must be one of {', '.join(dtypes)}, got {dtype!r}")
    if Path(source).resolve() == Path(target).resolve():
        raise CheckpointError(f"source and target are the same directory: {source}")
    model, tokenizer = load(source, ignore_fields)
    if dtype is not None:
        model.set_dtype(dtypes[dtype])
    if quantization is not None:
        quantize(model, quantization)
    save(target, model, tokenizer)
    return model
