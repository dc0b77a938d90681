"""Model configurations, read from a Hugging Face style ``config.json``.

A configuration is a frozen dataclass. Fields that change what a model computes are either understood or
refused by name: a checkpoint is never run with a feature silently left out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamina.lm.errors import ConfigError

# Fields of published checkpoints that do not change what the model computes at inference.
_HARMLESS = frozenset(
    [
        "architectures",
        "attention_dropout",
        "auto_map",
        "bos_token",
        "dtype",
        "eos_token",
        "initializer_range",
        "keys_to_ignore_at_inference",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "pretraining_tp",
        "return_dict",
        "torch_dtype",
        "transformers_version",
        "unsloth_fixed",
        "unsloth_version",
        "unk_token_id",
        "use_cache",
        "vocab_type",
    ]
)


@dataclass(frozen=True)
class RopeScaling:
    """How rotary positions are stretched beyond the length a model was trained for.

    ``kind`` is ``"linear"`` (positions divided by ``factor``) or ``"llama3"`` (low frequencies divided by
    ``factor``, high ones kept, those between blended).
    """

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192

    def __post_init__(self) -> None:
        for name in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not value > 0:
                raise ConfigError(f"rope_scaling: {name} must be positive, got {value!r}")
        if self.low_freq_factor >= self.high_freq_factor:
            raise ConfigError(
                f"rope_scaling: low_freq_factor {self.low_freq_factor} must be below "
                f"high_freq_factor {self.high_freq_factor}"
            )


@dataclass(frozen=True)
class Quantization:
    """Affine quantization in the MLX layout: ``bits`` per weight, scale and bias per ``group_size`` weights.

    ``overrides`` maps a module path to its own ``{"group_size": ..., "bits": ...}``, or to ``False`` where
    the module stays in floating point.
    """

    group_size: int
    bits: int
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    GROUP_SIZES = (32, 64, 128)
    BITS = (2, 3, 4, 5, 6, 8)

    def __post_init__(self) -> None:
        if self.group_size not in self.GROUP_SIZES:
            raise ConfigError(
                f"quantization group_size must be one of {self.GROUP_SIZES}, got {self.group_size}"
            )
        if self.bits not in self.BITS:
            raise ConfigError(f"quantization bits must be one of {self.BITS}, got {self.bits}")

    def for_module(self, path: str) -> dict[str, int] | None:
        """Return ``group_size`` and ``bits`` for the module at ``path``; None where it stays unquantized."""
        own = self.overrides.get(path)
        if own is False:
            return None
        own = own or {}
        return {"group_size": own.get("group_size", self.group_size), "bits": own.get("bits", self.bits)}

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that ``config.json`` stores under ``quantization``."""
        return {"group_size": self.group_size, "bits": self.bits, **self.overrides}


@dataclass(frozen=True)
class LlamaConfig:
    """The Llama architecture: grouped-query attention, rotary positions, RMS norm and a gated MLP.

    Names are those of ``config.json``; sizes are element counts. ``num_key_value_heads`` and ``head_dim``
    default to ``num_attention_heads`` and ``hidden_size // num_attention_heads``.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    num_key_value_heads: int = 0
    head_dim: int = 0
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    bos_token_id: int | None = None
    eos_token_id: tuple[int, ...] = ()
    quantization: Quantization | None = None
    model_type: str = "llama"

    def __post_init__(self) -> None:
        if not self.num_key_value_heads:
            object.__setattr__(self, "num_key_value_heads", self.num_attention_heads)
        for name in [
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "intermediate_size",
            "vocab_size",
            "max_position_embeddings",
        ]:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                raise ConfigError(f"config field '{name}' must be a positive integer, got {value!r}")
        if not self.head_dim:
            if self.hidden_size % self.num_attention_heads:
                raise ConfigError(
                    f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                    f"{self.num_attention_heads}, and no head_dim is given"
                )
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        if self.head_dim % 2:
            raise ConfigError(f"head_dim must be even for rotary positions, got {self.head_dim}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of num_key_value_heads "
                f"{self.num_key_value_heads}"
            )
        for name in ("rms_norm_eps", "rope_theta"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"config field '{name}' must be positive, got {getattr(self, name)!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping to store as ``config.json``."""
        out = {k: v for k, v in dataclasses.asdict(self).items() if v is not None and v != ()}
        out["architectures"] = ["LlamaForCausalLM"]
        out["hidden_act"] = "silu"
        if self.eos_token_id:
            out["eos_token_id"] = (
                self.eos_token_id[0] if len(self.eos_token_id) == 1 else list(self.eos_token_id)
            )
        if self.rope_scaling is not None:
            out["rope_scaling"]["rope_type"] = out["rope_scaling"].pop("kind")
        if self.quantization is not None:
            out["quantization"] = self.quantization.to_dict()
        return out


CONFIGS: dict[str, type[LlamaConfig]] = {"llama": LlamaConfig}


def parse_config(raw: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> LlamaConfig:
    """Build a configuration from the mapping in a ``config.json``.

    Parameters
    ----------
    raw : Mapping[str, Any]
        The parsed JSON object.
    ignore : tuple of str
        Names of fields to drop although they are not understood.

    Returns
    -------
    LlamaConfig
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
    supported = ", ".join(sorted(CONFIGS))
    model_type = raw.get("model_type")
    if model_type is None:
        raise ConfigError(f"config has no 'model_type'; supported: {supported}")
    if model_type not in CONFIGS:
        raise ConfigError(f"model type {model_type!r} is not supported; supported: {supported}")
    cls = CONFIGS[model_type]
    fields = {f.name: f for f in dataclasses.fields(cls)}
    values = {k: v for k, v in raw.items() if v is not None and k in fields}
    _check_special_fields(raw)
    rest = set(raw) - set(fields) - _HARMLESS - set(ignore) - _SPECIAL
    unknown = sorted(k for k in rest if raw[k] and not k.startswith("_"))
    if unknown:
        raise ConfigError(
            f"config fields not understood for model type '{model_type}': {', '.join(unknown)}; "
            f"supported: {', '.join(sorted(fields))}"
        )
    missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in values]
    if missing:
        raise ConfigError(f"config for model type '{model_type}' lacks {', '.join(missing)}")
    values["rope_scaling"] = _parse_rope(raw)
    values["rope_theta"] = _rope_theta(raw)
    values["quantization"] = _parse_quantization(raw)
    values["eos_token_id"] = _parse_ids("eos_token_id", raw.get("eos_token_id"))
    bos = _parse_ids("bos_token_id", raw.get("bos_token_id"))
    values["bos_token_id"] = bos[0] if bos else None
    return cls(**values)


def load_config(path: str | Path, ignore: tuple[str, ...] = ()) -> LlamaConfig:
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
    return parse_config(raw, ignore)


# Read by their own parsers below, not copied into the dataclass as they are.
_SPECIAL = frozenset({"hidden_act", "quantization_config", "rope_parameters", "sliding_window"})


def _check_special_fields(raw: Mapping[str, Any]) -> None:
    act = raw.get("hidden_act", "silu")
    if act not in ("silu", "swish"):
        raise ConfigError(f"config field 'hidden_act' {act!r} is not supported; supported: silu")
    if raw.get("sliding_window") and raw.get("use_sliding_window", True):
        raise ConfigError(
            f"config field 'sliding_window' {raw['sliding_window']!r} is not supported; supported: null"
        )


def _rope_theta(raw: Mapping[str, Any]) -> float:
    params = raw.get("rope_parameters") or {}
    theta = params.get("rope_theta", raw.get("rope_theta"))
    if theta is None:
        return 10000.0
    if not isinstance(theta, (int, float)):
        raise ConfigError(f"config field 'rope_theta' must be a number, got {theta!r}")
    return float(theta)


def _parse_rope(raw: Mapping[str, Any]) -> RopeScaling | None:
    name = "rope_parameters" if raw.get("rope_parameters") else "rope_scaling"
    given = raw.get(name)
    if not given:
        return None
    if not isinstance(given, Mapping):
        raise ConfigError(f"config field '{name}' must be an object, got {given!r}")
    kind = given.get("rope_type", given.get("type", "default"))
    if kind == "default":
        return None
    if kind not in ("linear", "llama3"):
        raise ConfigError(f"{name} type {kind!r} is not supported; supported: default, linear, llama3")
    allowed = {f.name for f in dataclasses.fields(RopeScaling)} - {"kind"}
    unknown = sorted(set(given) - allowed - {"rope_type", "type", "rope_theta"})
    if unknown:
        raise ConfigError(
            f"{name} fields not understood: {', '.join(unknown)}; supported: {', '.join(sorted(allowed))}"
        )
    if "factor" not in given:
        raise ConfigError(f"{name} of type {kind!r} lacks 'factor'")
    return RopeScaling(kind, **{k: given[k] for k in allowed if k in given})


def _parse_quantization(raw: Mapping[str, Any]) -> Quantization | None:
    name = "quantization" if raw.get("quantization") else "quantization_config"
    given = raw.get(name)
    if not given:
        return None
    if (
        not isinstance(given, Mapping)
        or "group_size" not in given
        or "bits" not in given
        or "quant_method" in given
    ):
        raise ConfigError(
            f"config field '{name}' is not supported: wanted affine quantization as "
            f'{{"group_size": ..., "bits": ...}}, got {given!r}'
        )
    if given.get("mode", "affine") != "affine":
        raise ConfigError(f"quantization mode {given['mode']!r} is not supported; supported: affine")
    own = {k: v for k, v in given.items() if k not in ("group_size", "bits", "mode")}
    wrong = [k for k, v in own.items() if v is not False and not isinstance(v, Mapping)]
    if wrong:
        raise ConfigError(f"config field '{name}' entries not understood: {', '.join(sorted(wrong))}")
    return Quantization(given["group_size"], given["bits"], own)


def _parse_ids(name: str, value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    ids = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not all(isinstance(i, int) and i >= 0 for i in ids):
        raise ConfigError(f"config field '{name}' must be a token id or a list of them, got {value!r}")
    return ids
