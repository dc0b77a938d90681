"""Configurations of encoders, which turn texts into vectors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamina.lm.config.families import encoder_types
from lamina.lm.config.families.common import read_activation
from lamina.lm.config.fields import Fields
from lamina.lm.config.llama import head_dim
from lamina.lm.config.quantization import HFQuantization, Quantization, read_quantization
from lamina.lm.errors import ConfigError

# What sentence-transformers calls the ways to make one vector of a text's, and our names.
_POOLINGS = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls", "max": "max"}
_POOLINGS["max_tokens"] = "max"


@dataclass(frozen=True)
class Pooling:
    """How one vector is made of those of a text's tokens.

    ``mode`` is ``"mean"``, ``"max"`` or ``"cls"`` (the first token's); ``normalize`` scales it to length 1.
    """

    mode: str = "mean"
    normalize: bool = False


@dataclass(frozen=True)
class EncoderConfig:
    """BERT: attention in both directions, layer norms behind each branch, learned positions.

    Sizes are element counts. ``max_tokens`` is the length at which texts are cut, ``published`` the fields as
    they were read.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    activation: str = "gelu"
    pooling: Pooling = Pooling()
    max_tokens: int = 512
    quantization: Quantization | HFQuantization | None = None
    model_type: str = "bert"
    published: Mapping[str, Any] = field(default_factory=dict)

    @property
    def head_dim(self) -> int:
        """Features of a head."""
        return head_dim(self.hidden_size, self.num_attention_heads)


def parse_encoder_config(raw: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> EncoderConfig:
    """Build an encoder's configuration from the mapping in a ``config.json``.

    Raises
    ------
    ConfigError
        As :func:`lamina.lm.parse_config`.

    Examples
    --------
    >>> c = parse_encoder_config({"model_type": "bert", "vocab_size": 99, "hidden_size": 64,
    ...     "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128})
    >>> c.head_dim, c.pooling.mode
    (16, 'mean')
    """
    model_type = raw.get("model_type")
    if model_type not in encoder_types():
        raise ConfigError(
            f"model type {model_type!r} is no supported encoder; supported: {', '.join(encoder_types())}"
        )
    f = Fields({k: v for k, v in raw.items() if k not in ignore}, str(model_type))
    f.only("position_embedding_type", "absolute")
    f.only("is_decoder", False)
    f.only("add_cross_attention", False)
    f.ignore(
        *("model_type", "attention_probs_dropout_prob", "gradient_checkpointing", "tie_word_embeddings"),
        *("bos_token_id", "eos_token_id", "directionality", "pooler_fc_size", "pooler_num_attention_heads"),
        *("pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"),
    )
    context = f.count("max_position_embeddings", default=512)
    config = EncoderConfig(
        vocab_size=f.count("vocab_size"),
        hidden_size=f.count("hidden_size"),
        num_hidden_layers=f.count("num_hidden_layers"),
        num_attention_heads=f.count("num_attention_heads"),
        intermediate_size=f.count("intermediate_size"),
        max_position_embeddings=context,
        type_vocab_size=f.count("type_vocab_size", default=2),
        layer_norm_eps=f.number("layer_norm_eps", default=1e-12),
        activation=read_activation(f, default="gelu"),
        max_tokens=context,
        quantization=read_quantization(f),
        published=dict(raw),
    )
    f.finish()
    _ = config.head_dim
    return config


def load_encoder_config(path: str | Path, ignore: tuple[str, ...] = ()) -> EncoderConfig:
    """Read an encoder's directory: ``config.json``, and sentence-transformers' files where there are any.

    Those are ``modules.json`` (the steps from a text to a vector), ``1_Pooling/config.json`` and
    ``sentence_bert_config.json`` (where texts are cut). Without them vectors are means, not normalized.

    Raises
    ------
    ConfigError
        A file is damaged, or asks for something that is not supported.
    """
    path = Path(path)
    config = parse_encoder_config(_read_json(path / "config.json"), ignore)
    modules = path / "modules.json"
    if modules.is_file():
        config = dataclasses.replace(config, pooling=_read_modules(path, _read_json(modules, list)))
    limits = path / "sentence_bert_config.json"
    if limits.is_file():
        longest = _read_json(limits).get("max_seq_length") or config.max_tokens
        if not isinstance(longest, int) or longest < 1:
            raise ConfigError(f"{limits}: max_seq_length must be a positive integer, got {longest!r}")
        config = dataclasses.replace(config, max_tokens=min(longest, config.max_position_embeddings))
    return config


def _read_modules(path: Path, modules: list[Any]) -> Pooling:
    """Return the pooling that a list of modules ends in."""
    mode, normalize = None, False
    for module in modules:
        kind = str(module.get("type") if isinstance(module, Mapping) else None).rpartition(".")[2]
        if kind == "Pooling":
            mode = _read_pooling(path / str(module.get("path")) / "config.json")
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise ConfigError(
                f"{path / 'modules.json'}: a module of type {kind!r} is not supported; "
                "supported: Transformer, Pooling, Normalize"
            )
    if mode is None:
        raise ConfigError(f"{path / 'modules.json'} lists no module of type Pooling")
    return Pooling(mode, normalize)


def _read_pooling(file: Path) -> str:
    raw = _read_json(file)
    asked = [k.removeprefix("pooling_mode_") for k, v in raw.items() if k.startswith("pooling_mode_") and v]
    if isinstance(raw.get("pooling_mode"), str):
        asked = [raw["pooling_mode"]]
    if len(asked) != 1 or asked[0] not in _POOLINGS:
        raise ConfigError(
            f"{file}: wanted one pooling mode out of mean_tokens, max_tokens and cls_token, got {asked}"
        )
    return _POOLINGS[asked[0]]


def _read_json(file: Path, kind: type = dict) -> Any:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"cannot read {file}: {e.strerror}") from e
    except ValueError as e:
        raise ConfigError(f"{file} is not valid JSON: {e}") from e
    if not isinstance(value, kind):
        raise ConfigError(f"{file} must hold a JSON {kind.__name__}, got {type(value).__name__}")
    return value
