"""The Llama forward pass in NumPy float64, from its published equations: the oracle of the model tests."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from lamina.lm import LlamaConfig


def random_weights(config: LlamaConfig, seed: int) -> dict[str, np.ndarray]:
    """Return float32 weights under their Hugging Face names, scaled so that activations stay near 1."""
    rng = np.random.default_rng(seed)
    width, dim = config.hidden_size, config.head_dim
    shapes = {"model.embed_tokens.weight": (config.vocab_size, width), "model.norm.weight": (width,)}
    for i in range(config.num_hidden_layers):
        block = f"model.layers.{i}."
        shapes[block + "self_attn.q_proj.weight"] = (config.num_attention_heads * dim, width)
        shapes[block + "self_attn.k_proj.weight"] = (config.num_key_value_heads * dim, width)
        shapes[block + "self_attn.v_proj.weight"] = (config.num_key_value_heads * dim, width)
        shapes[block + "self_attn.o_proj.weight"] = (width, config.num_attention_heads * dim)
        shapes[block + "mlp.gate_proj.weight"] = (config.intermediate_size, width)
        shapes[block + "mlp.up_proj.weight"] = (config.intermediate_size, width)
        shapes[block + "mlp.down_proj.weight"] = (width, config.intermediate_size)
        shapes[block + "input_layernorm.weight"] = (width,)
        shapes[block + "post_attention_layernorm.weight"] = (width,)
        if config.attention_bias:
            for name in "qkvo":
                rows = shapes[f"{block}self_attn.{name}_proj.weight"][0]
                shapes[f"{block}self_attn.{name}_proj.bias"] = (rows,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, width)
    weights = {}
    for name, shape in sorted(shapes.items()):
        noise = rng.standard_normal(shape)
        if name.endswith("bias"):
            value = 0.1 * noise
        elif len(shape) == 1:
            value = 1 + 0.2 * noise
        else:
            value = noise / math.sqrt(shape[1])
        weights[name] = value.astype(np.float32)
    return weights


def _rms(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def _frequencies(config: LlamaConfig) -> np.ndarray:
    dims = config.head_dim
    freq = config.rope_theta ** (-np.arange(0, dims, 2, dtype=np.float64) / dims)
    scaling = config.rope_scaling
    if scaling is None:
        return freq
    if scaling.kind == "linear":
        return freq / scaling.factor
    wavelength = 2 * np.pi / freq
    short = scaling.original_max_position_embeddings / scaling.high_freq_factor
    long = scaling.original_max_position_embeddings / scaling.low_freq_factor
    smooth = (scaling.original_max_position_embeddings / wavelength - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    middle = (1 - smooth) * freq / scaling.factor + smooth * freq
    return np.where(wavelength < short, freq, np.where(wavelength > long, freq / scaling.factor, middle))


def _rope(x: np.ndarray, config: LlamaConfig) -> np.ndarray:
    half = config.head_dim // 2
    angle = np.outer(np.arange(x.shape[-2]), _frequencies(config))
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], -1)


def forward(
    config: LlamaConfig, weights: Mapping[str, np.ndarray], tokens: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits (B, L, V) and the final hidden states (B, L, E) of ``tokens`` (B, L)."""
    w = {k: v.astype(np.float64) for k, v in weights.items()}
    batch, length = tokens.shape
    heads, groups = config.num_attention_heads, config.num_attention_heads // config.num_key_value_heads
    x = w["model.embed_tokens.weight"][tokens]

    def split(name: str, y: np.ndarray) -> np.ndarray:
        out = y @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)
        return out.reshape(batch, length, -1, config.head_dim).transpose(0, 2, 1, 3)

    hidden_from_future = np.triu(np.full((length, length), -np.inf), 1)
    for i in range(config.num_hidden_layers):
        block = f"model.layers.{i}."
        attn = block + "self_attn."
        y = _rms(x, w[block + "input_layernorm.weight"], config.rms_norm_eps)
        q, k, v = (split(f"{attn}{n}_proj", y) for n in "qkv")
        q, k = _rope(q, config), np.repeat(_rope(k, config), groups, axis=1)
        v = np.repeat(v, groups, axis=1)
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(config.head_dim) + hidden_from_future
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        out = scores / scores.sum(-1, keepdims=True) @ v
        out = out.transpose(0, 2, 1, 3).reshape(batch, length, heads * config.head_dim)
        x = x + out @ w[attn + "o_proj.weight"].T + w.get(attn + "o_proj.bias", 0.0)
        y = _rms(x, w[block + "post_attention_layernorm.weight"], config.rms_norm_eps)
        gate = y @ w[block + "mlp.gate_proj.weight"].T
        up = y @ w[block + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[block + "mlp.down_proj.weight"].T
    hidden = _rms(x, w["model.norm.weight"], config.rms_norm_eps)
    head = w["model.embed_tokens.weight"] if config.tie_word_embeddings else w["lm_head.weight"]
    return hidden @ head.T, hidden


def logit_tolerance(
    config: LlamaConfig, weights: Mapping[str, np.ndarray], hidden: np.ndarray, length: int
) -> float:
    """Return how far float32 logits may lie from the oracle's.

    A dot product of n terms errs by about eps * sqrt(n) of the product of its norms; the errors of the
    residual stream's parts add up over the layers. The factor 8 is for the spread of a maximum over all
    logits.
    """
    head = weights["model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"]
    terms = math.sqrt(config.hidden_size) + config.num_hidden_layers * (
        3 * math.sqrt(config.hidden_size) + math.sqrt(config.intermediate_size) + math.sqrt(length)
    )
    scale = np.linalg.norm(hidden, axis=-1).max() * np.linalg.norm(head.astype(np.float64), axis=-1).max()
    return 8 * float(np.finfo(np.float32).eps) * terms * scale / math.sqrt(config.hidden_size)


def dequantize(packed: np.ndarray, scales: np.ndarray, biases: np.ndarray, bits: int) -> np.ndarray:
    """Unpack affine weights of 4 or 8 bits: fields of uint32 words, low bits first, ``scale * q + bias``."""
    fields = 32 // bits
    shifts = bits * np.arange(fields, dtype=np.uint32)
    q = (packed[..., None] >> shifts & (2**bits - 1)).reshape(packed.shape[0], -1).astype(np.float64)
    group = q.shape[1] // scales.shape[1]
    return q * np.repeat(scales.astype(np.float64), group, 1) + np.repeat(biases.astype(np.float64), group, 1)


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write float32 and uint32 arrays as a safetensors file, independently of lamina's own writer."""
    header, blobs, at = {}, [], 0
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array).tobytes()
        kind = {"float32": "F32", "uint32": "U32"}[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + len(raw)]}
        blobs.append(raw)
        at += len(raw)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
