"""What most architectures' configurations have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lamina.lm.config.fields import Fields
from lamina.lm.config.llama import head_dim
from lamina.lm.config.rotary import read_rotary
from lamina.lm.config.spec import (
    AttentionConfig,
    DecoderConfig,
    HeadConfig,
    LayerConfig,
    MLPConfig,
    NormConfig,
)
from lamina.lm.errors import ConfigError

# Hugging Face's names of activations, and ours.
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "gelu_sigmoid",
    "relu": "relu",
    "relu2": "relu2",
}


@dataclass(frozen=True)
class Sizes:
    """The sizes that every decoder has."""

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int

    def attention(self, rotary: Any, **options: Any) -> AttentionConfig:
        """Return attention of these sizes; scores are scaled by ``head_dim ** -0.5`` by default."""
        options.setdefault("scale", self.head_dim**-0.5)
        return AttentionConfig(self.heads, self.kv_heads, self.head_dim, rotary=rotary, **options)

    def decoder(self, layers: Iterable[LayerConfig], norm: NormConfig, **options: Any) -> DecoderConfig:
        """Return a decoder of these sizes."""
        return DecoderConfig(self.vocab, self.width, self.context, tuple(layers), norm, **options)


def read_sizes(f: Fields, context: int = 2048, dim: int | None = None) -> Sizes:
    """Read the sizes under llama's names; ``context`` and ``dim`` are the type's defaults."""
    width, heads = f.count("hidden_size"), f.count("num_attention_heads")
    given = f.optional_count("head_dim", default=dim)
    return Sizes(
        vocab=f.count("vocab_size"),
        width=width,
        layers=f.count("num_hidden_layers"),
        heads=heads,
        kv_heads=f.count("num_key_value_heads", default=heads),
        head_dim=given or head_dim(width, heads),
        context=f.count("max_position_embeddings", default=context),
    )


def read_activation(f: Fields, *names: str, default: str = "silu") -> str:
    """Read the activation's name, by default the field ``hidden_act``."""
    return f.word(*(names or ("hidden_act",)), options=ACTIVATIONS, default=default)


def read_rms_norm(f: Fields, eps: float = 1e-6, **options: Any) -> NormConfig:
    """Read an RMS norm."""
    return NormConfig("rms", f.number("rms_norm_eps", default=eps), **options)


def read_tied(f: Fields, default: bool) -> HeadConfig:
    """Read a plain head."""
    return HeadConfig(tied=f.flag("tie_word_embeddings", default=default))


def read_mlp(f: Fields, **options: Any) -> MLPConfig:
    """Read a gated MLP under llama's names."""
    return MLPConfig(f.count("intermediate_size"), read_activation(f), **options)


def layers_of(
    attention: AttentionConfig, mlp: Any, windows: Sequence[int | None], **options: Any
) -> list[LayerConfig]:
    """Return one layer for each of ``windows``, the same otherwise."""
    return [LayerConfig(dataclasses.replace(attention, window=w), mlp, **options) for w in windows]


def plain_rotary(f: Fields, sizes: Sizes, theta: float = 10000.0, part: float = 1.0) -> Any:
    """Read one rotary embedding for all layers."""
    return read_rotary(f, sizes.context, theta=theta, part=part).config(sizes.head_dim, sizes.context)


def read_layer_types(f: Fields, layers: int, default: Sequence[str]) -> list[str]:
    """Read ``layer_types``: for each layer ``"full_attention"`` or ``"sliding_attention"``."""
    kinds = ("full_attention", "sliding_attention")
    types = f.value("layer_types", default=list(default))
    if not isinstance(types, (list, tuple)) or len(types) != layers:
        raise ConfigError(f"config field 'layer_types' must list {layers} layers, got {types!r}")
    for kind in types:
        if kind not in kinds:
            raise ConfigError(
                f"config field 'layer_types' has {kind!r}, which is not supported; "
                f"supported: {', '.join(kinds)}"
            )
    return list(types)


def read_windows(f: Fields, layers: int) -> list[int | None]:
    """Read Qwen's fields of sliding windows: upper layers have one, if it is switched on at all."""
    window = f.optional_count("sliding_window")
    first = f.whole("max_window_layers", default=28)
    if not f.flag("use_sliding_window", default=False) or window is None:
        f.ignore("layer_types")
        return [None] * layers
    default = ["full_attention" if i < first else "sliding_attention" for i in range(layers)]
    return [window if t == "sliding_attention" else None for t in read_layer_types(f, layers, default)]
