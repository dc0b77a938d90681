"""Tiny models as GGUF files, from hashes alone: the golden script and the tests write the same bytes.

Imports NumPy only, so that ``tests/golden/make_gguf_models.py`` runs where lamina is not.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

TOKENS = [3, 17, 200, 45, 45, 101, 9, 250, 77, 12, 60, 5]
# Elements and bytes of a block, and where its float16 fields are: scales, then minima.
BLOCKS = {
    "q4_0": (32, 18, (0,)), "q4_1": (32, 20, (0, 2)), "q5_0": (32, 22, (0,)), "q5_1": (32, 24, (0, 2)),
    "q8_0": (32, 34, (0,)), "q2_k": (256, 84, (80, 82)), "q3_k": (256, 110, (108,)),
    "q4_k": (256, 144, (0, 2)), "q5_k": (256, 176, (0, 2)), "q6_k": (256, 210, (208,)),
    "iq4_nl": (32, 18, (0,)), "iq4_xs": (256, 136, (0,)),
}  # fmt: skip
# A scale times this is about the size of the block's weights.
_REACH = {
    "q4_0": 4, "q4_1": 8, "q5_0": 8, "q5_1": 16, "q8_0": 64, "q2_k": 12, "q3_k": 40, "q4_k": 250, "q5_k": 500,
    "q6_k": 800, "iq4_nl": 60, "iq4_xs": 900,
}  # fmt: skip


def hashes(name: str, count: int) -> np.ndarray:
    """Return ``count`` numbers from 0 to 2**32 - 1 that the name determines."""
    seed = 0
    for byte in name.encode():
        seed = (seed * 257 + byte + 1) % 2**31
    x = (np.arange(count, dtype=np.uint64) + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(29)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    return (x >> np.uint64(32)).astype(np.uint32)


def floats(name: str, shape: tuple[int, ...], size: float, middle: float = 0.0) -> np.ndarray:
    """Return float32 values around ``middle``, at most ``size`` from it."""
    unit = hashes(name, math.prod(shape)).astype(np.float64) / 2**31 - 1
    return (middle + size * unit).astype(np.float32).reshape(shape)


def blocks(name: str, kind: str, shape: tuple[int, int], size: float) -> np.ndarray:
    """Return blocks (rows, bytes of a row) whose weights are of about the given size."""
    elems, length, fields = BLOCKS[kind]
    count = shape[0] * shape[1] // elems
    data = (hashes(name, count * length) >> 13).astype(np.uint8).reshape(count, length)
    for number, place in enumerate(fields):
        scale = floats(f"{name}.{place}", (count,), 0.3, 1.0) * size / _REACH[kind]
        if number == 1 and kind in ("q4_1", "q5_1"):
            scale *= -_REACH[kind]  # these add their minimum, the others subtract a multiple of theirs
        data[:, place : place + 2] = scale.astype(np.float16)[:, None].view(np.uint8)
    return data.reshape(shape[0], -1)


@dataclass(frozen=True)
class Tensor:
    """A tensor: its type is a block type's name, ``"f32"``, ``"f16"`` or ``"bf16"``."""

    kind: str
    shape: tuple[int, ...]
    size: float = 0.1
    middle: float = 0.0


@dataclass(frozen=True)
class Model:
    """A model: fields of its architecture, and tensors by GGUF's names.

    ``fields`` have no architecture in their names; a number is written as uint32, float32 or bool by its
    type.
    ``hugging_face`` are the arguments of the configuration class that transformers has for it.
    """

    name: str
    architecture: str
    hugging_face: dict
    fields: dict
    tensors: dict[str, Tensor]
    vocabulary: str = "bytes"
    layers: int = 2
    permuted: bool = False
    norm_offset: float = 0.0
    heads: tuple[int, int] = field(default=(4, 2))


def metadata(model: Model, pieces: dict) -> dict[str, object]:
    """Return everything but tensors, in Python's types; ``pieces`` are a SentencePiece model's."""
    out: dict[str, object] = {"general.architecture": model.architecture}
    out |= {f"{model.architecture}.{k}": v for k, v in model.fields.items()}
    return out | {f"tokenizer.ggml.{k}": v for k, v in (pieces or bytes_vocabulary()).items()}


def bytes_vocabulary() -> dict[str, object]:
    """A byte-level vocabulary: 256 bytes, a few merges, an end token; 272 tokens."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in set(plain)]
    tokens = [chr(b) for b in plain] + [chr(0x100 + i) for i in range(len(rest))]
    merges = ["t h", "th e", "Ġ a", "i n", "e r", "Ġ the", "a n", "o n", "Ġ s", "r e", "l l", "l o"]
    tokens += [m.replace(" ", "") for m in merges] + ["<|end|>", "<|user|>", "<pad0>", "<pad1>"]
    return {
        "model": "gpt2",
        "pre": "qwen2",
        "tokens": tokens,
        "token_type": [1] * 268 + [3, 3, 5, 5],
        "merges": merges,
        "eos_token_id": 268,
        "add_bos_token": False,
    }


def _layer(
    width: int, heads: tuple[int, int], dim: int, hidden: int, kind: str, biased: bool
) -> dict[str, Tensor]:
    norm = Tensor("f32", (width,), 0.3, 1.0)
    out = {
        "attn_norm.weight": norm,
        "attn_q.weight": Tensor(kind, (heads[0] * dim, width)),
        "attn_k.weight": Tensor(kind, (heads[1] * dim, width)),
        "attn_v.weight": Tensor(kind, (heads[1] * dim, width)),
        "attn_output.weight": Tensor(kind, (width, heads[0] * dim)),
        "ffn_norm.weight": norm,
        "ffn_gate.weight": Tensor(kind, (hidden, width)),
        "ffn_up.weight": Tensor(kind, (hidden, width)),
        "ffn_down.weight": Tensor(kind, (width, hidden)),
    }
    if biased:
        for part, rows in (("q", heads[0]), ("k", heads[1]), ("v", heads[1])):
            out[f"attn_{part}.bias"] = Tensor("f32", (rows * dim,), 0.2)
    return out


def _experts(layer: dict[str, Tensor], count: int, hidden: int) -> dict[str, Tensor]:
    """A layer with a router and experts in place of its MLP, of width 64."""
    kept = {k: t for k, t in layer.items() if not k.startswith(("ffn_gate", "ffn_up", "ffn_down"))}
    return kept | {
        "ffn_gate_inp.weight": Tensor("f32", (count, 64), 0.3),
        "ffn_gate_exps.weight": Tensor("q8_0", (count, hidden, 64)),
        "ffn_up_exps.weight": Tensor("q8_0", (count, hidden, 64)),
        "ffn_down_exps.weight": Tensor("q8_0", (count, 64, hidden)),
    }


def _model(
    name: str,
    architecture: str,
    config: dict,
    fields: dict,
    layer: dict[str, Tensor],
    width: int = 64,
    heads: tuple[int, int] = (4, 2),
    dim: int = 32,
    hidden: int = 96,
    vocab: int = 272,
    tied: bool = False,
    kind: str = "q8_0",
    layers: int = 2,
    **others: object,
) -> Model:
    tensors = {"token_embd.weight": Tensor(kind, (vocab, width), 0.5)}
    for i in range(layers):
        tensors |= {f"blk.{i}.{part}": t for part, t in layer.items()}
    tensors["output_norm.weight"] = Tensor("f32", (width,), 0.3, 1.0)
    if not tied:
        tensors["output.weight"] = Tensor(kind, (vocab, width), 0.3)
    config = {
        "vocab_size": vocab, "hidden_size": width, "num_hidden_layers": layers, "intermediate_size": hidden,
        "num_attention_heads": heads[0], "num_key_value_heads": heads[1], "head_dim": dim,
        "max_position_embeddings": 256, "rms_norm_eps": 2.0**-16, "tie_word_embeddings": tied, **config,
    }  # fmt: skip
    fields = {
        "block_count": layers, "context_length": 256, "embedding_length": width,
        "feed_forward_length": hidden, "attention.head_count": heads[0], "attention.head_count_kv": heads[1],
        "attention.layer_norm_rms_epsilon": 2.0**-16, "attention.key_length": dim,
        "attention.value_length": dim, "rope.dimension_count": dim, **fields,
    }  # fmt: skip
    return Model(name, architecture, config, fields, tensors, layers=layers, heads=heads, **others)  # type: ignore


def every_type() -> Model:
    """A llama whose matrices have all block types, and a SentencePiece vocabulary of 560 pieces."""
    layer = _layer(256, (4, 2), 64, 256, "q8_0", False)
    model = _model(
        "llama", "llama", {"rope_theta": 10000.0}, {"rope.freq_base": 10000.0}, layer, width=256, dim=64,
        hidden=256, vocab=560, vocabulary="pieces", permuted=True,
    )  # fmt: skip
    matrices = [n for n, t in model.tensors.items() if len(t.shape) == 2]
    kinds = [list(BLOCKS)[i % len(BLOCKS)] for i in range(len(matrices))]
    typed = {n: dataclasses.replace(model.tensors[n], kind=k) for n, k in zip(matrices, kinds, strict=True)}
    return dataclasses.replace(model, tensors=model.tensors | typed)


def llama3_factors(dim: int, theta: float, factor: float) -> np.ndarray:
    """Llama 3's divisors of the frequencies, float32."""
    turns = 8192 * theta ** (-np.arange(0, dim, 2) / dim) / (2 * math.pi)
    smooth = np.clip((turns - 1) / 3, 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def models() -> list[Model]:
    """Return one model for each architecture, and one for llama's stretched positions."""
    plain = _layer(64, (4, 2), 32, 96, "q8_0", False)
    norm = Tensor("f32", (64,), 0.3, 1.0)
    head_norms = {f"attn_{p}_norm.weight": Tensor("f32", (32,), 0.3, 1.0) for p in "qk"}
    four = plain | {"post_attention_norm.weight": norm, "post_ffw_norm.weight": norm}
    phi = {k: v for k, v in plain.items() if k[:6] not in ("attn_q", "attn_k", "attn_v", "ffn_ga", "ffn_up")}
    phi |= {
        "attn_qkv.weight": Tensor("q8_0", ((4 + 2 + 2) * 16, 64)),
        "attn_output.weight": Tensor("q8_0", (64, 64)),
        "ffn_up.weight": Tensor("q8_0", (192, 64)),
    }
    gelu = {"hidden_activation": "gelu_pytorch_tanh"}
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_theta": 500000.0,
    }  # fmt: skip
    stretched = _model(
        "llama3", "llama", {"rope_parameters": scaling}, {"rope.freq_base": 500000.0}, plain, permuted=True
    )
    stretched.tensors["rope_freqs.weight"] = Tensor("f32", (16,))
    window = {"attention.sliding_window": 4}
    caps = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    kinds = ["sliding_attention"] * 5 + ["full_attention"]
    return [
        every_type(),
        stretched,
        _model(
            "qwen2", "qwen2", {"rope_theta": 1000000.0, "use_sliding_window": False},
            {"rope.freq_base": 1000000.0}, _layer(64, (4, 2), 16, 96, "q8_0", True), dim=16, tied=True,
        ),
        _model(
            "qwen3", "qwen3", {"rope_theta": 1000000.0}, {"rope.freq_base": 1000000.0}, plain | head_norms,
            tied=True,
        ),
        _model(
            "qwen3moe", "qwen3moe",
            {
                "rope_theta": 1000000.0, "num_experts": 6, "num_local_experts": 6, "num_experts_per_tok": 2,
                "moe_intermediate_size": 32, "norm_topk_prob": True,
            },
            {
                "rope.freq_base": 1000000.0, "expert_count": 6, "expert_used_count": 2,
                "expert_feed_forward_length": 32,
            },
            _experts(plain, 6, 32) | head_norms,
        ),
        _model(
            "mixtral", "llama",
            {
                "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None,
                "rope_theta": 1000000.0,
            },
            {"rope.freq_base": 1000000.0, "expert_count": 4, "expert_used_count": 2}, _experts(plain, 4, 96),
            permuted=True,
        ),
        _model("gemma", "gemma", gelu, {}, plain, tied=True, norm_offset=1.0),
        _model(
            "gemma2", "gemma2", {**gelu, **caps, "sliding_window": 4, "query_pre_attn_scalar": 32},
            {**window, **caps}, four, tied=True, norm_offset=1.0,
        ),
        _model(
            "gemma3", "gemma3",
            {
                **gelu, "sliding_window": 4, "query_pre_attn_scalar": 32, "layer_types": kinds,
                "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
            },
            {**window, "rope.freq_base": 1000000.0}, four | head_norms, tied=True, norm_offset=1.0, layers=6,
        ),
        _model(
            "phi3", "phi3",
            {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None, "sliding_window": 4},
            {**window, "rope.scaling.original_context_length": 256}, phi, dim=16,
        ),
    ]  # fmt: skip


def content(model: Model, name: str) -> np.ndarray:
    """Return what the file holds: blocks as uint8 (rows, bytes), other tensors as float32."""
    t = model.tensors[name]
    if name == "rope_freqs.weight":
        return llama3_factors(2 * t.shape[0], 500000.0, 8.0)
    key = f"{model.name}/{name}"
    if t.kind in BLOCKS:
        rows = math.prod(t.shape[:-1])
        return blocks(key, t.kind, (rows, t.shape[-1]), t.size).reshape(*t.shape[:-1], -1)
    return floats(key, t.shape, t.size, t.middle)
