"""Models as GGUF files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lamina.core as mx
from lamina._lazy import numpy as np
from lamina.lm.config import AttentionConfig, DecoderConfig, MLPConfig, MoEConfig, RopeScaling, RotaryConfig
from lamina.lm.errors import CheckpointError, ConfigError
from lamina.lm.io.checkpoint import Blocks, Value
from lamina.lm.io.files import listed, replacing
from lamina.lm.io.gguf import pairs_from_halves
from lamina.lm.io.gguf_names import ARCHITECTURES, Architecture
from lamina.lm.tokenizer import Tokenizer
from lamina.lm.vocabulary.write import vocabulary_to_gguf

# ``general.file_type``: what llama.cpp calls a file whose matrices are mostly of one type.
_FILE_TYPES = {
    "float32": 0, "float16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k": 12,
    "q4_k": 15, "q5_k": 17, "q6_k": 18, "bfloat16": 32,
}  # fmt: skip


def architecture_for(config: Any) -> Architecture:
    """Return the architecture that a model is written as.

    Raises
    ------
    ConfigError
        GGUF has no architecture for it that lamina writes.
    """
    kind = "llama" if config.model_type == "mistral" else config.model_type
    found = ARCHITECTURES.get(kind)
    if found is None:
        known = ", ".join(sorted({"mistral", *ARCHITECTURES}))
        raise ConfigError(f"models of type {config.model_type!r} are not written to GGUF; supported: {known}")
    spec = config.spec
    windows = [w for w in _windows(spec) if w is not None]
    if windows and found.name in ("llama", "qwen2", "qwen3", "qwen3moe"):
        raise ConfigError(
            f"GGUF's {found.name!r} has no sliding window; this model has one of {max(windows)}"
        )
    return found


def write_gguf(
    path: str | Path,
    config: Any,
    weights: Mapping[str, Value],
    tokenizer: Tokenizer,
    name: str = "",
    vocabulary: Mapping[str, Any] | None = None,
) -> None:
    """Write a model as one GGUF file, whole or not at all.

    Parameters
    ----------
    path : str or Path
        The file.
    config : LlamaConfig or ModelConfig
        The model's configuration.
    weights : Mapping[str, Value]
        Arrays and blocks by the names of the model's parameters.
    tokenizer : Tokenizer
        Its tokenizer.
    name : str
        ``general.name``.
    vocabulary : Mapping[str, Any], optional
        The tokenizer as another GGUF file's metadata have it, to be written as it is.

    Raises
    ------
    ConfigError, CheckpointError
        GGUF cannot hold the model, one of its weights, or its tokenizer.
    """
    a = architecture_for(config)
    arrays, types = _tensors(config, a, weights)
    metadata: dict[str, Any] = {
        "general.architecture": a.name,
        "general.type": "model",
        "general.name": name or Path(path).stem,
        "general.quantization_version": mx.array(2, mx.uint32),
        "general.file_type": mx.array(_file_type(arrays, types), mx.uint32),
    }
    metadata |= {f"{a.name}.{k}": _typed(v) for k, v in architecture_fields(config, a).items()}
    metadata |= vocabulary or vocabulary_to_gguf(tokenizer, config.vocab_size, config.bos_token_id)
    metadata["lamina.tensor_types"] = types
    with replacing(path) as tmp:
        mx.save_gguf(str(tmp), arrays, metadata)


def _typed(value: Any) -> Any:
    if isinstance(value, bool):
        return mx.array(value)
    if isinstance(value, int):
        return mx.array(value, mx.uint32)
    if isinstance(value, float):
        return mx.array(value, mx.float32)
    if isinstance(value, list) and value and isinstance(value[0], bool):
        return mx.array(value)
    return value


def _tensors(
    config: Any, a: Architecture, weights: Mapping[str, Value]
) -> tuple[dict[str, mx.array], dict[str, str]]:
    """Return arrays by GGUF's names, and the types of those that are blocks."""
    spec = config.spec
    names = {n: a.gguf(n) for n in weights}
    unknown = [n for n, own in names.items() if own is None]
    if unknown:
        raise CheckpointError(f"GGUF's {a.name!r} has no name for the weights: {listed(unknown)}")
    arrays: dict[str, mx.array] = {}
    types: dict[str, str] = {}
    attention = _attention(spec)
    rotary = attention.rotary
    permute = a.interleaved and not (rotary is not None and rotary.interleaved)
    for name, value in weights.items():
        own = str(names[name])
        data = value.data if isinstance(value, Blocks) else value
        if permute and own.split(".")[-2] in ("attn_q", "attn_k"):
            data = pairs_from_halves(data, attention.heads if "attn_q" in own else attention.kv_heads)
        if isinstance(value, Blocks):
            types[own] = value.mode
        elif data.ndim == 1 or own.endswith("ffn_gate_inp.weight"):
            # llama.cpp wants all vectors, and routers, in float32.
            data = data.astype(mx.float32)
            if a.norm_offset and own.endswith("norm.weight"):
                data = data + a.norm_offset
        arrays[own] = data
    return arrays | _rotary_tables(rotary), types


def _file_type(arrays: Mapping[str, mx.array], types: Mapping[str, str]) -> int:
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        if array.ndim > 1:
            kind = types.get(name, str(array.dtype).rpartition(".")[2])
            sizes[kind] = sizes.get(kind, 0) + array.nbytes
    return _FILE_TYPES.get(max(sizes, key=lambda k: sizes[k]), 0)


def _attention(spec: DecoderConfig) -> AttentionConfig:
    """Return the attention of a layer that sees all positions, or of the first layer."""
    mixers = _attentions(spec)
    return next((m for m in mixers if m.window is None), mixers[0])


def _attentions(spec: DecoderConfig) -> list[AttentionConfig]:
    mixers = [layer.mixer for layer in spec.layers if isinstance(layer.mixer, AttentionConfig)]
    if len(mixers) < len(spec.layers):
        raise ConfigError("GGUF is written for models whose layers are all plain attention")
    return mixers


def _windows(spec: DecoderConfig) -> list[int | None]:
    return [getattr(layer.mixer, "window", None) for layer in spec.layers]


def architecture_fields(config: Any, a: Architecture) -> dict[str, Any]:
    """Return the fields of a model's architecture, without its name in them."""
    spec: DecoderConfig = config.spec
    attention, mlps = _attention(spec), {layer.mlp for layer in spec.layers}
    rotary, mlp = attention.rotary, spec.layers[0].mlp
    wanted = MoEConfig if a.has_experts else MLPConfig
    if len(mlps) > 1 or not isinstance(mlp, wanted) or rotary is None:
        raise ConfigError(f"GGUF's {a.name!r} wants the same MLP in each layer and rotary positions")
    fields: dict[str, Any] = {
        "block_count": len(spec.layers),
        "context_length": spec.context,
        "embedding_length": spec.width,
        **_mlp_fields(mlp, a, config.to_dict().get("intermediate_size")),
        "attention.head_count": attention.heads,
        "attention.head_count_kv": attention.kv_heads,
        "attention.layer_norm_rms_epsilon": float(spec.norm.eps),
        "attention.key_length": attention.head_dim,
        "attention.value_length": attention.head_dim,
        "rope.dimension_count": rotary.dims,
        "rope.freq_base": float(rotary.theta),
        "vocab_size": spec.vocab,
    }
    windows = _windows(spec)
    if any(windows):
        fields["attention.sliding_window"] = max(w for w in windows if w)
        if a.name == "gemma3":
            fields |= _window_period(windows)
            local = next(m.rotary for m in _attentions(spec) if m.window)
            fields["rope.freq_base_swa"] = float(local.theta if local else rotary.theta)
    if attention.softcap is not None:
        fields["attn_logit_softcapping"] = float(attention.softcap)
    if spec.head.softcap is not None:
        fields["final_logit_softcapping"] = float(spec.head.softcap)
    if a.name == "phi3":
        original = config.to_dict().get("original_max_position_embeddings", spec.context)
        fields["rope.scaling.original_context_length"] = int(original)
    return fields | _scaling_fields(rotary, a)


def _mlp_fields(mlp: MLPConfig | MoEConfig, a: Architecture, hidden: int | None) -> dict[str, int]:
    if isinstance(mlp, MLPConfig):
        return {"feed_forward_length": mlp.hidden}
    if mlp.shared is not None or not mlp.router.normalize:
        raise ConfigError(f"GGUF's {a.name!r} has no shared experts, and weights of experts that add up to 1")
    out = {"expert_count": mlp.experts, "expert_used_count": mlp.router.chosen}
    if a.name != "qwen3moe":
        return out | {"feed_forward_length": mlp.expert.hidden}
    out["expert_feed_forward_length"] = mlp.expert.hidden
    return out if hidden is None else out | {"feed_forward_length": hidden}


def _window_period(windows: list[int | None]) -> dict[str, int]:
    """Return after how many layers one sees all positions, where it is not the usual sixth."""
    period = windows.index(None) + 1 if None in windows else len(windows) + 1
    if any((w is None) != ((i + 1) % period == 0) for i, w in enumerate(windows)):
        raise ConfigError("GGUF's 'gemma3' wants every n-th layer to see all positions")
    return {} if period == 6 else {"attention.sliding_window_pattern": period}


def _scaling_fields(rotary: RotaryConfig, a: Architecture) -> dict[str, Any]:
    scaling = rotary.scaling
    if scaling is None or scaling.kind == "llama3":  # a table says it
        return {}
    if scaling.kind == "linear":
        return {"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling.factor)}
    original = int(scaling.original_max_position_embeddings)
    if scaling.kind == "yarn":
        return {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": float(scaling.factor),
            "rope.scaling.original_context_length": original,
        }
    if scaling.kind == "longrope":
        return {
            "rope.scaling.original_context_length": original,
            "rope.scaling.attn_factor": float(scaling.magnitude),
        }
    raise ConfigError(f"rotary scaling of kind {scaling.kind!r} is not written to GGUF's {a.name!r}")


def _rotary_tables(rotary: RotaryConfig | None) -> dict[str, mx.array]:
    scaling = None if rotary is None else rotary.scaling
    if rotary is None or scaling is None:
        return {}
    if scaling.kind == "llama3":
        return {"rope_freqs.weight": mx.array(llama3_divisors(rotary, scaling))}
    if scaling.kind == "longrope" and scaling.short_factor == scaling.long_factor and scaling.magnitude == 1:
        return {"rope_freqs.weight": mx.array(np.array(scaling.short_factor, np.float32))}
    if scaling.kind == "longrope":
        return {
            "rope_factors_short.weight": mx.array(np.array(scaling.short_factor, np.float32)),
            "rope_factors_long.weight": mx.array(np.array(scaling.long_factor, np.float32)),
        }
    return {}


def llama3_divisors(rotary: RotaryConfig, scaling: RopeScaling) -> np.ndarray:
    """Return what Llama 3's scaling divides each frequency by, float32 (dims / 2,)."""
    powers = -np.arange(0, rotary.dims, 2) / rotary.dims
    turns = scaling.original_max_position_embeddings * rotary.theta**powers / (2 * np.pi)
    blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = np.clip(blend, 0, 1)
    return (1 / ((1 - blend) / scaling.factor + blend)).astype(np.float32)
