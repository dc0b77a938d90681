"""Models to disk: a directory of config, safetensors and tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import lamina.core as mx
from lamina.lm.io.files import replacing
from lamina.lm.models import Llama
from lamina.lm.tokenizer import Tokenizer
from lamina.utils import tree_flatten


def save(path: str | Path, model: Llama, tokenizer: Tokenizer) -> None:
    """Write ``model`` and ``tokenizer`` to the directory ``path``, each file whole or not at all."""
    directory = Path(path)
    directory.mkdir(parents=True, exist_ok=True)
    with replacing(directory / "model.safetensors") as tmp:
        mx.save_safetensors(str(tmp), dict(tree_flatten(model.parameters())), {"format": "mlx"})
    with replacing(directory / "tokenizer.json") as tmp:
        tokenizer.save(tmp)
    with replacing(directory / "config.json") as tmp:
        tmp.write_text(json.dumps(model.config.to_dict(), indent=2) + "\n", encoding="utf-8")
