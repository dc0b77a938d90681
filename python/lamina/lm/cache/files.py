"""Prompt caches in files: safetensors with the tokens, every layer's buffers, and what made them."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lamina.core as mx
from lamina._lazy import numpy as np
from lamina.lm.cache.make import CacheOptions, SequenceCache
from lamina.lm.cache.plain import KVCache
from lamina.lm.cache.prompt import PromptCache
from lamina.lm.cache.protocol import AttentionSpec, HybridSpec, LayerSpec, StateSpec
from lamina.lm.cache.state import HybridCache, RecurrentCache
from lamina.lm.errors import CacheError, CheckpointError, LMError
from lamina.lm.generate.step import LanguageModel
from lamina.lm.io import load_tensors, replacing
from lamina.utils import tree_flatten

FORMAT = "lamina-prompt-cache"
VERSION = 1
_SAMPLED = 16


@dataclass(frozen=True)
class PromptCacheInfo:
    """What a file of a prompt's cache says of itself.

    Attributes
    ----------
    version : int
        Version of the format.
    model : str
        Fingerprint of the model, see :func:`fingerprint`.
    model_type : str
        The model's architecture.
    tokens : int
        Length of the text.
    options : CacheOptions
        How positions are kept.
    layers : int
        Number of the model's layers.
    nbytes : int
        Bytes of the buffers.
    """

    version: int
    model: str
    model_type: str
    tokens: int
    options: CacheOptions
    layers: int
    nbytes: int


def fingerprint(model: Any) -> str:
    """Return a short text that other configurations and other weights do not have.

    It is a hash of the configuration, and of the names, shapes, dtypes and first numbers of all weights, so
    that a mapped checkpoint is not read as a whole.
    """
    digest = hashlib.sha256()
    config = model.config
    digest.update(json.dumps(config.to_dict(), sort_keys=True, default=str).encode())
    if "longrope" in str(config.to_dict()):
        digest.update(str(config.max_position_embeddings).encode())  # it says which factors rotate keys
    for name, value in tree_flatten(model.parameters()):
        raw = np.asarray(value.reshape(-1)[:_SAMPLED]).tobytes()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode() + raw)
    return digest.hexdigest()[:32]


def save_prompt_cache(path: str | Path, cache: PromptCache, model: LanguageModel) -> None:
    """Write ``cache``, which ``model`` filled; the file appears whole or not at all.

    Raises
    ------
    CacheError
        The cache is empty.
    OSError
        The file cannot be written.
    """
    if not cache.tokens:
        raise CacheError("an empty prompt cache was to be saved: wanted a text of at least one token")
    tensors = {"tokens": mx.array(cache.tokens, dtype=mx.int32)}
    for i, layer in enumerate(cache.caches):
        for j, array in enumerate(_buffers(layer)):
            tensors[f"layers.{i}.{j}"] = array
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "model": fingerprint(model),
        "model_type": str(model.config.model_type),
        "options": json.dumps(asdict(cache.options)),
        "layers": str(len(cache.caches)),
    }
    metadata["checksum"] = str(_checksum(tensors, metadata))
    with replacing(path) as temporary:
        mx.save_safetensors(str(temporary), tensors, metadata)


def load_prompt_cache(path: str | Path, model: LanguageModel) -> PromptCache:
    """Read what :func:`save_prompt_cache` wrote for ``model``.

    Raises
    ------
    CacheError
        The file is missing, truncated or corrupt, of an unknown version, or of another model.
    """
    tensors, metadata = _read(path)
    info = _info(path, tensors, metadata)
    own = fingerprint(model)
    if info.model != own:
        raise CacheError(
            f"{path} was made by another model: it is of {info.model_type} {info.model}, "
            f"this one is {model.config.model_type} {own}"
        )
    if metadata.get("checksum") != str(_checksum(tensors, metadata)):
        raise CacheError(f"{path} is corrupt: its contents do not have the checksum that it names")
    specs = list(model.cache_specs())
    if len(specs) != info.layers:
        raise CacheError(f"{path} has {info.layers} layers, the model has {len(specs)}")
    cache = PromptCache(specs, info.options)
    tokens = tensors["tokens"].tolist()
    for i, (spec, layer) in enumerate(zip(specs, cache.caches, strict=True)):
        buffers = []
        while (name := f"layers.{i}.{len(buffers)}") in tensors:
            buffers.append(tensors[name])
        try:
            _adopt(layer, spec, buffers, len(tokens))
        except LMError as error:
            raise CacheError(f"{path}, layer {i}: {error}") from error
    wrong = [t for t in tokens if not 0 <= t < model.config.vocab_size]
    if wrong:
        raise CacheError(
            f"{path} holds the token {wrong[0]}, outside a vocabulary of {model.config.vocab_size}"
        )
    cache.tokens = tokens
    cache.mark()
    return cache


def inspect_prompt_cache(path: str | Path) -> tuple[PromptCacheInfo, list[int]]:
    """Return what a file says of itself, and its tokens, without a model.

    Raises
    ------
    CacheError
        The file is missing, truncated or corrupt, or of an unknown version.
    """
    tensors, metadata = _read(path)
    return _info(path, tensors, metadata), tensors["tokens"].tolist()


def _read(path: str | Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    try:
        return load_tensors(path)
    except CheckpointError as error:
        raise CacheError(str(error)) from error


def _checksum(tensors: Mapping[str, mx.array], metadata: Mapping[str, str]) -> int:
    facts = sorted((k, v) for k, v in metadata.items() if k != "checksum")
    total = zlib.crc32(json.dumps(facts).encode())
    for name in sorted(tensors):
        raw = np.ascontiguousarray(np.asarray(tensors[name])).reshape(-1).view(np.uint8)
        total = zlib.crc32(raw.data, zlib.crc32(name.encode(), total))
    return total


def _info(path: str | Path, tensors: Mapping[str, mx.array], metadata: Mapping[str, str]) -> PromptCacheInfo:
    if metadata.get("format") != FORMAT:
        raise CacheError(f"{path} is not the cache of a prompt: its metadata has no format {FORMAT!r}")
    if metadata.get("version") != str(VERSION):
        raise CacheError(f"{path} has version {metadata.get('version')!r} of the format, wanted {VERSION}")
    tokens = tensors.get("tokens")
    if tokens is None or tokens.ndim != 1 or tokens.dtype != mx.int32 or not tokens.size:
        raise CacheError(f"{path} has no text: wanted its tokens as int32 of shape (n,)")
    try:
        options = CacheOptions(**json.loads(metadata["options"]))
        layers = int(metadata["layers"])
        model, model_type = metadata["model"], metadata["model_type"]
    except (KeyError, TypeError, ValueError, LMError) as error:
        raise CacheError(f"{path} has metadata that cannot be used: {error!r}") from error
    nbytes = sum(a.nbytes for name, a in tensors.items() if name != "tokens")
    return PromptCacheInfo(VERSION, model, model_type, tokens.size, options, layers, nbytes)


def _buffers(layer: SequenceCache) -> list[mx.array]:
    if isinstance(layer, HybridCache):
        return [*layer.attention.used_buffers(), *layer.state.arrays]
    return layer.used_buffers() if isinstance(layer, KVCache) else list(layer.arrays)


def _adopt(layer: SequenceCache, spec: LayerSpec, buffers: Sequence[mx.array], offset: int) -> None:
    if isinstance(layer, HybridCache) and isinstance(spec, HybridSpec):
        count = 2 if layer.attention.format.bits is None else 4
        layer.attention.adopt(list(buffers[:count]), offset, spec.attention)
        _adopt_state(layer.state, spec.state, buffers[count:], offset)
    elif isinstance(layer, KVCache) and isinstance(spec, AttentionSpec):
        layer.adopt(list(buffers), offset, spec)
    elif isinstance(layer, RecurrentCache) and isinstance(spec, StateSpec):
        _adopt_state(layer, spec, buffers, offset)


def _adopt_state(layer: RecurrentCache, spec: StateSpec, buffers: Sequence[mx.array], offset: int) -> None:
    got = [tuple(a.shape[1:]) for a in buffers]
    if got != [tuple(s) for s in spec.shapes] or any(a.shape[0] != 1 for a in buffers):
        raise LMError(f"a state wants arrays of shapes {list(spec.shapes)} for one sequence, got {got}")
    layer.arrays, layer.offset = list(buffers), offset
