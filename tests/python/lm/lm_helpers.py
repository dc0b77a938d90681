"""What several test files of the language models share."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from lamina.lm import LlamaConfig, Tokenizer
from lm.llama_reference import random_weights, write_safetensors

TEXTS = [
    "def add(a, b):\n    return a + b\n\n\nclass Point:\n"
    "    def __init__(self, x, y):\n        self.x = x\n        self.y = y\n",
    "The quick brown fox jumps over the lazy dog. Größe, naïve, 日本語, emoji: 🎉🚀👩‍🚀. " * 3,
    "for i in range(10):\n    print(i, i * i)\n" * 4,
]

TINY = LlamaConfig(
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=128,
    vocab_size=320,
    max_position_embeddings=64,
    tie_word_embeddings=True,
    bos_token_id=0,
    eos_token_id=(0,),
)


def write_model_dir(path: Path, config: LlamaConfig, tokenizer: Tokenizer, seed: int = 0) -> Path:
    """Write config, weights and tokenizer without using lamina's own writers for the first two."""
    path.mkdir(parents=True)
    raw = {k: v for k, v in dataclasses.asdict(config).items() if v is not None}
    raw["eos_token_id"] = list(config.eos_token_id)
    raw |= {
        "architectures": ["LlamaForCausalLM"],
        "hidden_act": "silu",
        "torch_dtype": "float32",
        "use_cache": True,
    }
    (path / "config.json").write_text(json.dumps(raw))
    write_safetensors(path / "model.safetensors", random_weights(config, seed))
    tokenizer.save(path / "tokenizer.json")
    return path
