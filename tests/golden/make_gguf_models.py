"""Write gguf_models.npz: logits of tiny GGUF models by transformers, digests of their files and of their weights.

Run it as ``python tests/golden/make_gguf_models.py`` with a Python that has ``gguf``, ``torch``, ``transformers``
and ``sentencepiece``. The models are those of ``tests/python/lm/gguf_models.py``. The file of each is written by
the gguf package (its SHA-256 is kept: the tests write the same bytes), its tensors are dequantized by that
package, and the logits are those of transformers' model with these weights, in float32.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import sentencepiece as spm
import torch
import transformers
from gguf import GGMLQuantizationType, GGUFWriter

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "python"))
from lm import gguf_models as gm  # noqa: E402

CLASSES = {
    "llama": ("LlamaConfig", "LlamaForCausalLM"),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM"),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM"),
    "qwen3moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM"),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM"),
    "gemma": ("GemmaConfig", "GemmaForCausalLM"),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM"),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM"),
    "phi3": ("Phi3Config", "Phi3ForCausalLM"),
}


def pieces() -> dict:
    """The golden SentencePiece model as GGUF has it."""
    model = spm.SentencePieceProcessor(model_file=str(HERE / "tokenizers" / "bpe.model"))
    count = model.get_piece_size()

    def kind(i: int) -> int:
        checks = ((model.is_unknown, 2), (model.is_control, 3), (model.is_unused, 5), (model.is_byte, 6))
        found = next((k for check, k in checks if check(i)), 1)
        return 4 if model.id_to_piece(i) in ("<tool>", "</tool>") else found

    return {
        "model": "llama",
        "pre": "default",
        "tokens": [model.id_to_piece(i) for i in range(count)],
        "scores": [float(model.get_score(i)) for i in range(count)],
        "token_type": [kind(i) for i in range(count)],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }


def write(model: gm.Model, path: Path) -> None:
    """Write a model with the gguf package."""
    writer = GGUFWriter(path, model.architecture)
    for key, value in gm.metadata(model, pieces() if model.vocabulary == "pieces" else {}).items():
        if key == "general.architecture":
            continue
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    for name, t in model.tensors.items():
        data = gm.content(model, name)
        writer.add_tensor(name, data, raw_dtype=GGMLQuantizationType[t.kind.upper()])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def weights(model: gm.Model) -> dict[str, torch.Tensor]:
    """Every tensor in float32 under transformers' name."""
    arch = next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == model.architecture)
    names = gguf.get_tensor_name_map(arch, model.layers)
    config, kind = classes(model)
    own = kind(config(**model.hugging_face)).state_dict()
    out = {}
    for hf in own:
        if hf == "lm_head.weight" and model.hugging_face["tie_word_embeddings"]:
            continue
        base, _, part = hf.rpartition(".")
        if part in ("gate_up_proj", "down_proj"):
            layer = f"blk.{base.split('.')[2]}"
            kinds = ("gate", "up") if part == "gate_up_proj" else ("down",)
            stacked = [numbers(model, f"{layer}.ffn_{k}_exps.weight") for k in kinds]
            out[hf] = torch.tensor(np.concatenate(stacked, axis=1))
            continue
        own = f"blk.{base.split('.')[2]}.ffn_gate_inp" if base.endswith(".gate") else names.get_name(base)
        name = f"{own}.{part}"
        data = numbers(model, name)
        if model.permuted and ("attn_q." in name or "attn_k." in name):
            heads = model.heads[0 if "attn_q." in name else 1]
            data = data.reshape(heads, data.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(data.shape)
        if model.norm_offset and "norm" in name:
            data = data - model.norm_offset
        out[hf] = torch.tensor(np.ascontiguousarray(data))
    return out


def classes(model: gm.Model) -> tuple[type, type]:
    """Transformers' classes of configuration and model."""
    name = model.name if model.name in CLASSES else model.architecture
    config, kind = (getattr(transformers, n) for n in CLASSES[name])
    return config, kind


def numbers(model: gm.Model, name: str) -> np.ndarray:
    """A tensor in float32."""
    data, t = gm.content(model, name), model.tensors[name]
    if t.kind not in gm.BLOCKS:
        return data
    return gguf.quants.dequantize(data, GGMLQuantizationType[t.kind.upper()])


def dequantized_digest(model: gm.Model) -> str:
    """The SHA-256 of all packed tensors' numbers, in float32 and in the file's order."""
    digest = hashlib.sha256()
    for name, t in model.tensors.items():
        if t.kind in gm.BLOCKS:
            values = gguf.quants.dequantize(gm.content(model, name), GGMLQuantizationType[t.kind.upper()])
            digest.update(values.astype("<f4").tobytes())
    return digest.hexdigest()


def logits(model: gm.Model) -> np.ndarray:
    """Transformers' logits of TOKENS."""
    config, kind = classes(model)
    made = kind(config(**model.hugging_face, attn_implementation="eager")).eval()
    missing = made.load_state_dict(weights(model), strict=False)
    assert not missing.unexpected_keys, missing
    assert set(missing.missing_keys) <= {"lm_head.weight"}, missing
    made.tie_weights()
    with torch.no_grad():
        return made(torch.tensor([gm.TOKENS])).logits[0].numpy()


def main() -> None:
    """Write the golden file."""
    out: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as d:
        for model in gm.models():
            path = Path(d) / f"{model.name}.gguf"
            write(model, path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            out[f"{model.name}.sha256"] = np.array(digest)
            out[f"{model.name}.dequantized"] = np.array(dequantized_digest(model))
            out[f"{model.name}.logits"] = logits(model)
            spread = out[f"{model.name}.logits"].std()
            print(f"{model.name}: {path.stat().st_size} bytes, {digest[:12]}, logits of {spread:.3f}")
    np.savez_compressed(HERE / "gguf_models.npz", **out)


if __name__ == "__main__":
    main()
