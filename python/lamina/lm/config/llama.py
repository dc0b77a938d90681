"""Llama's configuration, flat as in its ``config.json``: training code writes it, field by field."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from lamina.lm.config.fields import Fields
from lamina.lm.config.quantization import HFQuantization, Quantization
from lamina.lm.config.rotary import RopeScaling, RotaryConfig, read_rotary
from lamina.lm.config.spec import (
    AttentionConfig,
    DecoderConfig,
    HeadConfig,
    LayerConfig,
    MLPConfig,
    NormConfig,
)
from lamina.lm.errors import ConfigError


@dataclass(frozen=True)
class LlamaConfig:
    """The Llama architecture: grouped-query attention, rotary positions, RMS norm and a gated MLP.

    Names are those of ``config.json``; sizes are element counts. ``num_key_value_heads`` and ``head_dim``
    default to ``num_attention_heads`` and ``hidden_size // num_attention_heads``. ``rope_traditional`` is for
    checkpoints whose rotary features are pairs of neighbours.
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
    quantization: Quantization | HFQuantization | None = None
    model_type: str = "llama"
    rope_traditional: bool = False

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
            object.__setattr__(self, "head_dim", head_dim(self.hidden_size, self.num_attention_heads))
        for name in ("rms_norm_eps", "rope_theta"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"config field '{name}' must be positive, got {getattr(self, name)!r}")
        # Raises where heads and dimensions do not fit together.
        _ = self.spec

    @property
    def spec(self) -> DecoderConfig:
        """The decoder that the fields describe."""
        norm = NormConfig("rms", self.rms_norm_eps)
        attention = AttentionConfig(
            heads=self.num_attention_heads,
            kv_heads=self.num_key_value_heads,
            head_dim=self.head_dim,
            scale=self.head_dim**-0.5,
            rotary=RotaryConfig(
                self.head_dim,
                self.rope_theta,
                self.rope_traditional,
                self.rope_scaling,
                self.max_position_embeddings,
            ),
            qkv_bias=self.attention_bias,
            out_bias=self.attention_bias,
        )
        layer = LayerConfig(attention, MLPConfig(self.intermediate_size, bias=self.mlp_bias))
        return DecoderConfig(
            vocab=self.vocab_size,
            width=self.hidden_size,
            context=self.max_position_embeddings,
            layers=(layer,) * self.num_hidden_layers,
            norm=norm,
            head=HeadConfig(self.tie_word_embeddings),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping to store as ``config.json``."""
        out = {k: v for k, v in dataclasses.asdict(self).items() if v is not None and v != ()}
        out["architectures"] = ["LlamaForCausalLM"]
        out["hidden_act"] = "silu"
        if not out["rope_traditional"]:
            del out["rope_traditional"]
        if self.eos_token_id:
            out["eos_token_id"] = (
                self.eos_token_id[0] if len(self.eos_token_id) == 1 else list(self.eos_token_id)
            )
        if self.rope_scaling is not None:
            out["rope_scaling"] = self.rope_scaling.to_dict()
        if self.quantization is not None:
            name = "quantization" if isinstance(self.quantization, Quantization) else "quantization_config"
            del out["quantization"]
            out[name] = self.quantization.to_dict()
        return out


def head_dim(width: int, heads: int) -> int:
    """Return the features of a head where the config leaves them to the width.

    Raises
    ------
    ConfigError
        The heads do not divide the width.
    """
    if width % heads:
        raise ConfigError(
            f"hidden_size {width} is not a multiple of num_attention_heads {heads}, and no head_dim is given"
        )
    return width // heads


def read_llama(f: Fields) -> LlamaConfig:
    """Read the fields of a ``config.json`` of type ``llama``."""
    f.only("hidden_act", "silu", "swish")
    if f.value("use_sliding_window", default=True):
        f.only("sliding_window", 0)
    f.ignore("sliding_window")
    context = f.count("max_position_embeddings", default=2048)
    rotary = read_rotary(f, context)
    if rotary.part != 1:
        raise ConfigError(
            f"config field 'partial_rotary_factor' {rotary.part} is not supported; supported: 1"
        )
    return LlamaConfig(
        hidden_size=f.count("hidden_size"),
        num_hidden_layers=f.count("num_hidden_layers"),
        num_attention_heads=f.count("num_attention_heads"),
        intermediate_size=f.count("intermediate_size"),
        vocab_size=f.count("vocab_size"),
        num_key_value_heads=f.whole("num_key_value_heads", default=0),
        head_dim=f.whole("head_dim", default=0),
        max_position_embeddings=context,
        rms_norm_eps=f.number("rms_norm_eps", default=1e-6),
        rope_theta=rotary.theta,
        rope_scaling=rotary.scaling,
        tie_word_embeddings=f.flag("tie_word_embeddings", default=False),
        attention_bias=f.flag("attention_bias", default=False),
        mlp_bias=f.flag("mlp_bias", default=False),
        rope_traditional=f.flag("rope_traditional", default=False),
    )
