"""Mamba and Mamba 2: state spaces only, no attention and no MLP."""

import math

from lamina.lm.config.fields import Fields
from lamina.lm.config.spec import (
    DecoderConfig,
    HeadConfig,
    LayerConfig,
    Mamba2Config,
    MambaConfig,
    NormConfig,
    Norms,
)
from lamina.lm.errors import ConfigError

_NAMES = {"model": "backbone", "embed_tokens": "embeddings", "norm": "norm_f", "mamba": "mixer"}
_LAYER_NORMS = Norms("norm", None, None, None)
# Of models whose memory does not grow: more than anyone asks for.
_CONTEXT = 1 << 20


def read_step_rank(f: Fields, name: str, width: int) -> int:
    """Read the rank of the time steps' projection, a number or ``"auto"``: a sixteenth of the width."""
    return math.ceil(width / 16) if f.value(name, default="auto") == "auto" else f.count(name)


def read_limits(f: Fields) -> tuple[float, float]:
    """Read ``time_step_limit``, two numbers of which the second may be infinite."""
    value = f.value("time_step_limit", default=[0.0, math.inf])
    try:
        # Newer files write infinity as {"__float__": "Infinity"}.
        low, high = (float(v["__float__"] if isinstance(v, dict) else v) for v in value)
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"config field 'time_step_limit' must be two numbers, got {value!r}") from None
    return low, high


def _decoder(f: Fields, width: int, mixer: MambaConfig | Mamba2Config, tied: bool) -> DecoderConfig:
    f.only("hidden_act", "silu", "swish")
    f.only("rms_norm", True)
    f.ignore(
        *("d_inner", "d_model", "fused_add_norm", "n_layer", "pad_vocab_size_multiple", "ssm_cfg"),
        *("rescale_prenorm_residual", "time_step_floor", "time_step_init_scheme", "time_step_max"),
        *("time_step_min", "time_step_scale", "use_associative_scan", "use_mambapy", "layer_types"),
    )
    return DecoderConfig(
        vocab=f.count("vocab_size"),
        width=width,
        context=f.count("max_position_embeddings", default=_CONTEXT),
        layers=(LayerConfig(mixer, None, _LAYER_NORMS),) * f.count("num_hidden_layers"),
        norm=NormConfig("rms", f.number("layer_norm_epsilon", default=1e-5)),
        head=HeadConfig(f.flag("tie_word_embeddings", default=tied)),
        names=_NAMES,
        wide_residual=f.flag("residual_in_fp32", default=True),
    )


def read_mamba(f: Fields) -> DecoderConfig:
    """Layers of a selective state space."""
    width = f.count("hidden_size")
    mixer = MambaConfig(
        inner=f.count("intermediate_size", default=int(f.number("expand", default=2) * width)),
        state=f.count("state_size", default=16),
        kernel=f.count("conv_kernel", default=4),
        rank=read_step_rank(f, "time_step_rank", width),
        bias=f.flag("use_bias", default=False),
        conv_bias=f.flag("use_conv_bias", default=True),
    )
    return _decoder(f, width, mixer, tied=True)


def read_mamba2(f: Fields) -> DecoderConfig:
    """Layers of a state space with one decay for each head."""
    width = f.count("hidden_size")
    inner = int(f.number("expand", default=2) * width)
    dim = f.count("head_dim", default=64)
    heads = f.count("num_heads", default=inner // dim)
    if heads * dim != inner:
        raise ConfigError(f"num_heads {heads} times head_dim {dim} is not expand times hidden_size, {inner}")
    # The gate comes first whatever a file says of it: no implementation of these models reads the field.
    f.ignore("norm_before_gate", "chunk_size", "time_step_rank", "intermediate_size")
    bias = f.flag("use_bias", default=False)
    mixer = Mamba2Config(
        heads=heads,
        head_dim=dim,
        state=f.count("state_size", default=128),
        groups=f.count("n_groups", default=8),
        kernel=f.count("conv_kernel", default=4),
        bias=bias,
        conv_bias=f.flag("use_conv_bias", default=True),
        out_bias=bias,
        step_limits=read_limits(f),
        norm=NormConfig("rms", f.number("layer_norm_epsilon", default=1e-5)),
    )
    return _decoder(f, width, mixer, tied=False)
