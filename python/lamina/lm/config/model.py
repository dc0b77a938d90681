"""From a ``config.json`` to a frozen configuration."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamina.lm.config.families import encoder_types, model_types, reader
from lamina.lm.config.fields import Fields
from lamina.lm.config.llama import LlamaConfig, read_llama
from lamina.lm.config.quantization import HFQuantization, Quantization, read_quantization
from lamina.lm.config.spec import DecoderConfig
from lamina.lm.config.wrapper import IMAGE_TOKENS, text_config, wrapper_types
from lamina.lm.errors import ConfigError


@dataclass(frozen=True)
class ModelConfig:
    """What a ``config.json`` says: the model as data, its special tokens, how its weights are packed.

    Attributes
    ----------
    model_type : str
        The architecture's name in Hugging Face's files.
    spec : DecoderConfig
        The model.
    bos_token_id, eos_token_id : int or None, tuple of int
        The token that begins a text, and those that end one.
    quantization : Quantization or HFQuantization, optional
        How weights are quantized.
    published : Mapping[str, Any]
        The fields as they were read.
    image_tokens : tuple of int
        Tokens that stand for images, which texts do not have.
    """

    model_type: str
    spec: DecoderConfig
    bos_token_id: int | None = None
    eos_token_id: tuple[int, ...] = ()
    quantization: Quantization | HFQuantization | None = None
    published: Mapping[str, Any] = field(default_factory=dict)
    image_tokens: tuple[int, ...] = ()

    @property
    def vocab_size(self) -> int:
        """Token ids that the model knows."""
        return self.spec.vocab

    @property
    def hidden_size(self) -> int:
        """Features of a hidden state."""
        return self.spec.width

    @property
    def num_hidden_layers(self) -> int:
        """Layers, each with a cache."""
        return len(self.spec.layers)

    @property
    def max_position_embeddings(self) -> int:
        """Positions that the model is run with at most."""
        return self.spec.context

    @property
    def tie_word_embeddings(self) -> bool:
        """Whether the head uses the token embeddings."""
        return self.spec.head.tied

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping to store as ``config.json``."""
        out = {k: v for k, v in self.published.items() if k not in ("quantization", "quantization_config")}
        out["model_type"] = self.model_type
        if self.bos_token_id is not None:
            out["bos_token_id"] = self.bos_token_id
        if self.eos_token_id:
            ids = self.eos_token_id
            out["eos_token_id"] = ids[0] if len(ids) == 1 else list(ids)
        if self.quantization is not None:
            name = "quantization" if isinstance(self.quantization, Quantization) else "quantization_config"
            out[name] = self.quantization.to_dict()
        return out


Config = LlamaConfig | ModelConfig


def parse_config(raw: Mapping[str, Any], ignore: tuple[str, ...] = (), context: int | None = None) -> Config:
    """Build a configuration from the mapping in a ``config.json``.

    Parameters
    ----------
    raw : Mapping[str, Any]
        The parsed JSON object.
    ignore : tuple of str
        Names of fields to drop although they are not understood.
    context : int, optional
        Positions that the model will be run with at most; all that it has by default.

    Returns
    -------
    LlamaConfig or ModelConfig
        The frozen configuration.

    Raises
    ------
    ConfigError
        ``model_type`` is missing or not supported, a required field is missing, a field has a bad value, or a
        field that may change the computation is not understood.

    Examples
    --------
    >>> c = parse_config({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1,
    ...                   "num_attention_heads": 2, "intermediate_size": 128, "vocab_size": 256})
    >>> c.head_dim
    32
    """
    supported = ", ".join(sorted((*model_types(), *wrapper_types())))
    raw = text_config(raw, ignore)
    model_type = raw.get("model_type")
    if model_type is None:
        raise ConfigError(f"config has no 'model_type'; supported: {supported}")
    if model_type in encoder_types():
        raise ConfigError(f"model type {model_type!r} is an encoder: lamina.lm.load_embedder loads it")
    if model_type not in model_types():
        raise ConfigError(f"model type {model_type!r} is not supported; supported: {supported}")
    f = Fields({k: v for k, v in raw.items() if k not in ignore}, model_type)
    f.ignore("model_type")
    bos = _read_ids(f, "bos_token_id")
    common: dict[str, Any] = {
        "bos_token_id": bos[0] if bos else None,
        "eos_token_id": _read_ids(f, "eos_token_id"),
        "quantization": read_quantization(f),
    }
    if model_type == "llama":
        config = dataclasses.replace(read_llama(f), **common)
        if context is not None:
            spec = config.spec.with_context(context)
            config = dataclasses.replace(config, max_position_embeddings=spec.context)
    else:
        images = tuple(i for name in IMAGE_TOKENS for i in _read_ids(f, name))
        spec = reader(model_type)(f)
        spec = spec if context is None else spec.with_context(context)
        config = ModelConfig(model_type, spec, published=dict(raw), image_tokens=images, **common)
    f.finish()
    return config


def load_config(path: str | Path, ignore: tuple[str, ...] = (), context: int | None = None) -> Config:
    """Read ``config.json`` at ``path`` (the file or its directory); see :func:`parse_config`."""
    path = Path(path)
    if path.is_dir():
        path = path / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"cannot read {path}: {e.strerror}") from e
    except ValueError as e:
        raise ConfigError(f"{path} is not valid JSON: {e}") from e
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold a JSON object, got {type(raw).__name__}")
    return parse_config(raw, ignore, context)


def _read_ids(f: Fields, name: str) -> tuple[int, ...]:
    value = f.value(name)
    if value is None:
        return ()
    ids = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not all(isinstance(i, int) and i >= 0 for i in ids):
        raise ConfigError(f"config field '{name}' must be a token id or a list of them, got {value!r}")
    return ids
