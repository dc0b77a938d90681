"""Models of random weights: the same numbers for every library, in the file format that each one reads."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Shape:
    """Sizes of a Qwen 3 decoder, in elements."""

    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    vocab: int
    context: int = 4096

    @property
    def matrices(self) -> Iterator[tuple[str, int, int]]:
        """Name, rows and columns of every matrix, by Hugging Face's names."""
        yield "model.embed_tokens", self.vocab, self.width
        for i in range(self.layers):
            at = f"model.layers.{i}"
            inner, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
            yield f"{at}.self_attn.q_proj", inner, self.width
            yield f"{at}.self_attn.k_proj", kv, self.width
            yield f"{at}.self_attn.v_proj", kv, self.width
            yield f"{at}.self_attn.o_proj", self.width, inner
            yield f"{at}.mlp.gate_proj", self.hidden, self.width
            yield f"{at}.mlp.up_proj", self.hidden, self.width
            yield f"{at}.mlp.down_proj", self.width, self.hidden

    @property
    def norms(self) -> Iterator[tuple[str, int]]:
        """Name and size of every vector."""
        for i in range(self.layers):
            at = f"model.layers.{i}"
            yield f"{at}.input_layernorm", self.width
            yield f"{at}.post_attention_layernorm", self.width
            yield f"{at}.self_attn.q_norm", self.head_dim
            yield f"{at}.self_attn.k_norm", self.head_dim
        yield "model.norm", self.width

    @property
    def parameters(self) -> int:
        """Weights of the matrices."""
        return sum(rows * columns for _, rows, columns in self.matrices)

    def config(self) -> dict[str, Any]:
        """The ``config.json``."""
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.hidden,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.context,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "tie_word_embeddings": True,
            "hidden_act": "silu",
            "attention_bias": False,
        }


SHAPES = {
    s.name: s
    for s in (
        Shape("qwen3-0.6b", 28, 1024, 16, 8, 128, 3072, 151936),
        Shape("tiny", 2, 256, 4, 2, 64, 512, 512, 1024),
    )
}

_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _gguf_name(name: str) -> str:
    parts = name.split(".")
    if parts[1] == "layers":
        return f"blk.{parts[2]}.{_GGUF_NAMES['.'.join(parts[3:])]}.weight"
    return f"{_GGUF_NAMES[name]}.weight"


def _matrix(index: int, rows: int, columns: int) -> np.ndarray:
    """Weights that keep the size of what they multiply."""
    rng = np.random.default_rng([17, index])
    return rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(columns**-0.5)


def _vector(index: int, size: int) -> np.ndarray:
    return np.random.default_rng([18, index]).uniform(0.8, 1.2, size).astype(np.float32)


# --- files -----------------------------------------------------------------------------------------------

GGUF_TYPES = ("q4_0", "q4_k_m", "q8_0", "f16")
MLX_BITS = {"4bit": 4, "8bit": 8, "bf16": None}


def made(folder: Path, shape: Shape, kind: str) -> Path:
    """The file or directory of a model, written if it is not there yet; several GB for the large shapes.

    Parameters
    ----------
    folder : Path
        Where models are kept.
    kind : str
        One of :data:`GGUF_TYPES` or :data:`MLX_BITS`.
    """
    gguf = kind in GGUF_TYPES
    path = folder / f"{shape.name}-{kind}{'.gguf' if gguf else ''}"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        (_write_gguf if gguf else _write_mlx)(temporary, shape, kind)
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)
    return path


def _write_mlx(path: Path, shape: Shape, kind: str) -> None:
    import lamina.core as mx

    bits = MLX_BITS[kind]
    weights: dict[str, mx.array] = {}
    for i, (name, rows, columns) in enumerate(shape.matrices):
        w = mx.array(_matrix(i, rows, columns)).astype(mx.bfloat16)
        if bits is None:
            weights[f"{name}.weight"] = w
        else:
            parts = mx.quantize(w, group_size=64, bits=bits)
            weights |= {f"{name}.{p}": a for p, a in zip(("weight", "scales", "biases"), parts, strict=True)}
        mx.eval(weights)
    for i, (name, size) in enumerate(shape.norms):
        weights[f"{name}.weight"] = mx.array(_vector(i, size)).astype(mx.bfloat16)
    path.mkdir()
    config = shape.config() | ({} if bits is None else {"quantization": {"group_size": 64, "bits": bits}})
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    mx.save_safetensors(str(path / "model.safetensors"), weights, {"format": "mlx"})


def _write_gguf(path: Path, shape: Shape, kind: str) -> None:
    import gguf  # pyright: ignore[reportMissingImports]

    types = gguf.GGMLQuantizationType
    w = gguf.GGUFWriter(str(path), "qwen3")
    for name, value in (
        ("context_length", shape.context),
        ("block_count", shape.layers),
        ("embedding_length", shape.width),
        ("feed_forward_length", shape.hidden),
        ("vocab_size", shape.vocab),
    ):
        getattr(w, f"add_{name}")(value)
    w.add_head_count(shape.heads)
    w.add_head_count_kv(shape.kv_heads)
    w.add_key_length(shape.head_dim)
    w.add_value_length(shape.head_dim)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_rope_freq_base(1000000.0)
    w.add_tokenizer_model("no_vocab")
    for i, (name, rows, columns) in enumerate(shape.matrices):
        kept, data = _gguf_blocks(kind, name, i, shape.layers, _matrix(i, rows, columns))
        w.add_tensor(_gguf_name(name), data, raw_dtype=types[kept])
    for i, (name, size) in enumerate(shape.norms):
        w.add_tensor(_gguf_name(name), _vector(i, size))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def _gguf_blocks(kind: str, name: str, index: int, layers: int, matrix: np.ndarray) -> tuple[str, np.ndarray]:
    """The type of a matrix and its blocks; of the mixed kinds, K blocks of random codes."""
    import gguf  # pyright: ignore[reportMissingImports]

    if kind == "f16":
        return "F16", matrix.astype(np.float16)
    if kind in ("q4_0", "q8_0"):
        # As published files have it: the table that is also the head in more bits.
        wanted = "Q6_K" if kind == "q4_0" and name == "model.embed_tokens" else kind.upper()
        if wanted != "Q6_K":
            return wanted, gguf.quants.quantize(matrix, gguf.GGMLQuantizationType[wanted])
    more = name == "model.embed_tokens" or (
        name.rpartition(".")[2] in ("v_proj", "down_proj") and _in_more_bits(int(name.split(".")[2]), layers)
    )
    return _k_blocks("Q6_K" if more else "Q4_K", index, *matrix.shape)


def _in_more_bits(layer: int, layers: int) -> bool:
    """Layers whose value and down projections the mixed recipe keeps in 6 bits."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _deviation(codes: int) -> float:
    """The deviation of codes 0, 1, ... that are equally likely."""
    return math.sqrt((codes**2 - 1) / 12)


def _k_blocks(kind: str, index: int, rows: int, columns: int) -> tuple[str, np.ndarray]:
    """Random codes whose values have a deviation of columns ** -0.5."""
    rng = np.random.default_rng([19, index])
    size = {"Q4_K": 144, "Q6_K": 210}[kind]
    blocks = rng.integers(0, 256, (rows, columns // 256, size), dtype=np.uint8)
    if kind == "Q4_K":
        # Codes of 4 bits less a minimum; scales and minima of 6 bits: set so that they cancel in the mean.
        blocks[..., 4:16] = _packed_scales(32, 30)
        step = columns**-0.5 / (_deviation(16) * 32)
        units = np.array([step, step * 7.5 * 32 / 30], np.float16).view(np.uint8)
        blocks[..., :4] = units
    else:
        blocks[..., 192:208] = np.int8(32).view(np.uint8)
        blocks[..., 208:] = np.array([columns**-0.5 / (_deviation(64) * 32)], np.float16).view(np.uint8)
    return kind, blocks.reshape(rows, -1)


def _packed_scales(scale: int, minimum: int) -> np.ndarray:
    """Twelve bytes of eight equal 6-bit scales and minima."""
    low = [(scale & 63) | (scale >> 4 << 6)] * 4
    middle = [(minimum & 63) | (minimum >> 4 << 6)] * 4
    high = [(scale & 15) | (minimum & 15) << 4] * 4
    return np.array(low + middle + high, np.uint8)


def describe(shape: Shape) -> dict[str, Any]:
    """The sizes, for the JSON."""
    return {**asdict(shape), "parameters": shape.parameters}
