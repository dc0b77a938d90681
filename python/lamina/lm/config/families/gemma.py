"""Gemma and RecurrentGemma: norms' weights are kept minus 1, embeddings scaled by the root of their width."""

import dataclasses
import math
import struct

from lamina.lm.config.families.common import (
    Sizes,
    layers_of,
    plain_rotary,
    read_activation,
    read_layer_types,
    read_rms_norm,
    read_sizes,
)
from lamina.lm.config.fields import Fields
from lamina.lm.config.rotary import RotaryFields, read_rotary
from lamina.lm.config.spec import (
    DecoderConfig,
    EmbeddingConfig,
    HeadConfig,
    LayerConfig,
    MLPConfig,
    Norms,
    RecurrentConfig,
)
from lamina.lm.errors import ConfigError

_FOUR_NORMS = Norms(
    before_mixer="input_layernorm",
    after_mixer="post_attention_layernorm",
    before_mlp="pre_feedforward_layernorm",
    after_mlp="post_feedforward_layernorm",
)
_RECURRENT_NAMES = {
    "norm": "final_norm",
    "self_attn": "temporal_block",
    "recurrent": "temporal_block",
    "mlp": "mlp_block",
}


def _bfloat16(x: float) -> float:
    """Round ``x`` to the nearest bfloat16: a float32 without its lower 16 bits."""
    (bits,) = struct.unpack("<I", struct.pack("<f", x))
    return struct.unpack("<f", struct.pack("<I", (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000))[0]


def _finish(f: Fields, sizes: Sizes, layers: list[LayerConfig]) -> DecoderConfig:
    tied = f.flag("tie_word_embeddings", default=True)
    return sizes.decoder(
        layers,
        read_rms_norm(f, offset=1.0),
        embedding=EmbeddingConfig(scale=math.sqrt(sizes.width)),
        head=HeadConfig(tied, softcap=f.optional_number("final_logit_softcapping")),
    )


def _mlp(f: Fields) -> MLPConfig:
    activation = read_activation(f, "hidden_activation", "hidden_act", default="gelu_pytorch_tanh")
    return MLPConfig(f.count("intermediate_size"), activation)


def read_gemma(f: Fields) -> DecoderConfig:
    """Llama with Gemma's norms and embeddings."""
    sizes = read_sizes(f, context=8192, dim=256)
    f.only("use_bidirectional_attention", False)
    bias = f.flag("attention_bias", default=False)
    attention = sizes.attention(plain_rotary(f, sizes), qkv_bias=bias, out_bias=bias)
    # Early files say "gelu" and mean the tanh form.
    f.only("hidden_act", "gelu", "gelu_pytorch_tanh")
    mlp = MLPConfig(
        f.count("intermediate_size"), read_activation(f, "hidden_activation", default="gelu_pytorch_tanh")
    )
    return _finish(f, sizes, layers_of(attention, mlp, [None] * sizes.layers))


def read_gemma2(f: Fields) -> DecoderConfig:
    """Norms around both branches, soft caps, a sliding window in every other layer."""
    sizes = read_sizes(f, context=8192, dim=256)
    f.only("use_bidirectional_attention", False)
    f.ignore("cache_implementation")
    bias = f.flag("attention_bias", default=False)
    attention = sizes.attention(
        plain_rotary(f, sizes),
        qkv_bias=bias,
        out_bias=bias,
        scale=f.number("query_pre_attn_scalar", default=256) ** -0.5,
        softcap=f.optional_number("attn_logit_softcapping", default=50.0),
    )
    window = f.count("sliding_window", default=4096)
    default = ["full_attention" if i % 2 else "sliding_attention" for i in range(sizes.layers)]
    types = read_layer_types(f, sizes.layers, default)
    windows = [window if t == "sliding_attention" else None for t in types]
    spec = _finish(f, sizes, layers_of(attention, _mlp(f), windows, norms=_FOUR_NORMS))
    softcap = f.optional_number("final_logit_softcapping", default=30.0)
    return dataclasses.replace(spec, head=dataclasses.replace(spec.head, softcap=softcap))


def read_gemma3_text(f: Fields) -> DecoderConfig:
    """Norms of queries and keys; most layers see a window and have a rotary embedding of their own."""
    sizes = read_sizes(f, context=131072, dim=256)
    f.only("use_bidirectional_attention", False)
    f.ignore("cache_implementation")
    bias = f.flag("attention_bias", default=False)
    local = RotaryFields(f.number("rope_local_base_freq", default=1e4), 1.0, None)
    if f.has("rope_parameters"):
        local = read_rotary(f, sizes.context, "sliding_attention")
    full = read_rotary(f, sizes.context, "full_attention", theta=1e6)
    attention = sizes.attention(
        None,
        qkv_bias=bias,
        out_bias=bias,
        scale=f.number("query_pre_attn_scalar", default=256) ** -0.5,
        softcap=f.optional_number("attn_logit_softcapping"),
        qk_norm=read_rms_norm(f, offset=1.0),
    )
    window = f.count("sliding_window", default=4096)
    period = f.count("sliding_window_pattern", "_sliding_window_pattern", default=6)
    default = ["sliding_attention" if (i + 1) % period else "full_attention" for i in range(sizes.layers)]
    mlp, layers = _mlp(f), []
    for kind in read_layer_types(f, sizes.layers, default):
        sliding = kind == "sliding_attention"
        rotary = (local if sliding else full).config(sizes.head_dim, sizes.context)
        mixer = dataclasses.replace(attention, rotary=rotary, window=window if sliding else None)
        layers.append(LayerConfig(mixer, mlp, _FOUR_NORMS))
    return _finish(f, sizes, layers)


def read_recurrent_gemma(f: Fields) -> DecoderConfig:
    """Two layers of a gated linear recurrence for each of local attention (Griffin)."""
    sizes = read_sizes(f, context=1 << 20, dim=256)
    f.ignore("w_init_variance_scale", "final_w_init_variance_scale", "layers_block_type", "layer_types")
    f.only("embeddings_scale_by_sqrt_dim", True)
    activation = read_activation(f, "hidden_activation", default="gelu_pytorch_tanh")
    attention = sizes.attention(
        plain_rotary(f, sizes, part=0.5),
        qkv_bias=f.flag("attention_bias", default=False),
        out_bias=True,
        window=f.count("attention_window_size", default=2048),
    )
    recurrent = RecurrentConfig(
        f.count("lru_width", default=sizes.width),
        sizes.heads,
        f.count("conv1d_width", default=4),
        activation,
    )
    mixers = {"recurrent": recurrent, "attention": attention}
    pattern = f.value("block_types", "_block_types", default=["recurrent", "recurrent", "attention"])
    if not isinstance(pattern, (list, tuple)) or not pattern or not set(pattern) <= mixers.keys():
        raise ConfigError(
            f"config field 'block_types' must list 'recurrent' and 'attention', got {pattern!r}"
        )
    mlp = MLPConfig(f.count("intermediate_size") // 2, activation, bias=True)
    norms = Norms("temporal_pre_norm", None, "channel_pre_norm", None)
    return sizes.decoder(
        [LayerConfig(mixers[pattern[i % len(pattern)]], mlp, norms) for i in range(sizes.layers)],
        read_rms_norm(f, offset=1.0),
        # The models were trained with a factor in bfloat16, whatever dtype they run in.
        embedding=EmbeddingConfig(scale=_bfloat16(math.sqrt(sizes.width))),
        head=HeadConfig(
            f.flag("tie_word_embeddings", default=True),
            softcap=f.optional_number("logits_soft_cap", default=30.0),
        ),
        names=_RECURRENT_NAMES,
    )
