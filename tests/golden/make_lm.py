"""Write lm/*.safetensors: logits of tiny models by transformers, for each architecture.

Run with an interpreter that has ``torch``, ``transformers`` and ``safetensors``:
``python3 tests/golden/make_lm.py [CASE...]``. The files are part of the repository, so that the tests need none of them. Weights
are not kept: they follow from the names and shapes of the published tensors (``tests/python/lm/golden_numbers.py``).

A file's tensors are ``logits`` (T, V), those of all sequences one after the other in float64 rounded to float32;
its metadata are ``config`` (as ``save_pretrained`` writes it), ``tensors`` (names and shapes), and ``bfloat16_error``: of the same
model run by transformers in bfloat16 the root mean square error of a position's logits, its median over all positions.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "python" / "lm"))
from golden_numbers import numbers, tokens  # noqa: E402
from lm_cases import CASES  # noqa: E402


def published(model_type: str, fields: dict[str, Any], directory: Path) -> dict[str, list[int]]:
    """Save a model of this config with the golden numbers; return the names and shapes of its tensors."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **fields)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    file = directory / "model.safetensors"
    shapes = {k: list(v.shape) for k, v in load_file(file).items()}
    save_file({k: torch.from_numpy(numbers(k, tuple(s))) for k, s in shapes.items()}, file, {"format": "pt"})
    return shapes


def logits(directory: Path, ids: list[list[int]], dtype: torch.dtype) -> torch.Tensor:
    """The logits (T, V) of all sequences, each alone."""
    plain = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, **plain).eval()
    with torch.no_grad():
        parts = [model(torch.tensor([row]), use_cache=False).logits[0] for row in ids]
    return torch.cat(parts).to(torch.float64)


def write(name: str) -> None:
    """Write the file of one case."""
    model_type, fields = CASES[name]
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        shapes = published(model_type, fields, directory)
        config = json.loads((directory / "config.json").read_text())
        ids = tokens(config["vocab_size"])
        exact = logits(directory, ids, torch.float64)
        rough = logits(directory, ids, torch.bfloat16)
    error = (rough - exact).square().mean(-1).sqrt().median().item()
    config.pop("transformers_version")
    meta = {
        "config": json.dumps(config, sort_keys=True),
        "tensors": json.dumps(shapes, sort_keys=True),
        "bfloat16_error": f"{error:.6g}",
    }
    out = HERE / "lm" / f"{name}.safetensors"
    save_file({"logits": exact.to(torch.float32)}, out, meta)
    with safe_open(out, "pt") as f:
        size = f.get_tensor("logits").abs().max().item()
    print(f"{name}: {out.stat().st_size} bytes, largest logit {size:.3g}, bfloat16 error {error:.3g}")


if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        write(case)
