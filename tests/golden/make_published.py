"""Write tests/golden/published: tiny llamas packed as AWQ, GPTQ and FP8 checkpoints are, and their logits.

Run it as ``python tests/golden/make_published.py`` with a Python that has ``torch``, ``transformers`` and
``safetensors``. Codes, zero points and scales are random; they are packed here by the layouts' documentation, bit
by bit. ``expected.npz`` holds, for each checkpoint, the logits of transformers' model with the weights that they
stand for (float32), and the SHA-256 of each of these weights.

- AWQ (AutoAWQ, version gemm): ``qweight`` (in, out / 8) int32; a word's nibbles, lowest first, are the outputs 0,
  2, 4, 6, 1, 3, 5, 7 of its eight. ``qzeros`` (groups, out / 8) likewise, ``scales`` (groups, out) float16.
- GPTQ: ``qweight`` (in * bits / 32, out) int32, consecutive inputs from the lowest bit on; ``qzeros`` (groups, out
  * bits / 32), consecutive outputs, less one in version 1; ``g_idx`` (in): the group of each input.
- FP8: ``weight`` float8_e4m3fn (out, in), ``weight_scale_inv`` float32, one for each block.
- The weight of AWQ and GPTQ is ``scale * (code - zero)``.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

OUT = Path(__file__).parent / "published"
CONFIG = {
    "vocab_size": 48, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "max_position_embeddings": 64, "rms_norm_eps": 2.0**-16, "head_dim": 16,
    "tie_word_embeddings": True,
}  # fmt: skip
TOKENS = [3, 17, 20, 45, 45, 11, 9, 25]
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def words(values: np.ndarray, bits: int) -> np.ndarray:
    """Pack (n, count) codes along the last axis into int32 words, a stream from the lowest bit on."""
    n, count = values.shape
    stream = ((values[..., None] >> np.arange(bits)) & 1).reshape(n, count * bits // 32, 32).astype(np.uint64)
    return (stream << np.arange(32, dtype=np.uint64)).sum(axis=-1).astype(np.uint32).view(np.int32)


def awq_words(values: np.ndarray) -> np.ndarray:
    """Pack (n, out) codes of 4 bits."""
    n = values.shape[0]
    return words(values.reshape(n, -1, 8)[:, :, AWQ_ORDER].reshape(n, -1), 4)


class Packer:
    """Random codes for a weight, packed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def codes(self, rows: int, columns: int, bits: int, group: int) -> tuple[np.ndarray, ...]:
        """Codes (out, in), scales and zero points (out, groups)."""
        codes = self.rng.integers(0, 1 << bits, (rows, columns))
        scales = self.rng.uniform(0.5, 1.5, (rows, columns // group)) * 0.4 / (1 << bits)
        zeros = self.rng.integers(0, 1 << bits, (rows, columns // group))
        return codes, scales.astype(np.float16), zeros

    def awq(self, shape: tuple[int, int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """AWQ with groups of 32."""
        codes, scales, zeros = self.codes(*shape, 4, 32)
        parts = {"qweight": awq_words(codes.T), "qzeros": awq_words(zeros.T), "scales": scales.T}
        return parts, weight(codes, scales, zeros, np.arange(shape[1]) // 32)

    def gptq(
        self,
        shape: tuple[int, int],
        bits: int = 4,
        version: int = 1,
        middle: bool = False,
        order: bool = False,
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """GPTQ with groups of 32, symmetric with ``middle``, groups of scattered inputs with ``order``."""
        codes, scales, zeros = self.codes(*shape, bits, 32)
        if middle:
            zeros[:] = 1 << (bits - 1)
        index = np.arange(shape[1]) // 32
        if order:
            index = self.rng.permutation(index)
        stored = (zeros - (version == 1)) % (1 << bits)
        parts = {
            "qweight": words(codes, bits).T,
            "qzeros": words(stored.T, bits),
            "scales": scales.T,
            "g_idx": index.astype(np.int32),
        }
        return parts, weight(codes, scales, zeros, index)

    def fp8(self, shape: tuple[int, int]) -> tuple[dict[str, np.ndarray | torch.Tensor], np.ndarray]:
        """FP8 in blocks of 32 x 48, the last of them cut; the weight is rounded to bfloat16."""
        dense = torch.tensor(self.rng.standard_normal(shape).astype(np.float32)) * 30
        codes = dense.to(torch.float8_e4m3fn)
        blocks = tuple(-(-n // b) for n, b in zip(shape, (32, 48), strict=True))
        scales = torch.tensor(self.rng.uniform(0.002, 0.006, blocks).astype(np.float32))
        full = scales.repeat_interleave(32, 0).repeat_interleave(48, 1)[: shape[0], : shape[1]]
        values = (codes.to(torch.float32) * full).to(torch.bfloat16).to(torch.float32)
        return {"weight": codes, "weight_scale_inv": scales}, values.numpy()


def weight(codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The numbers that codes stand for; each is a float32."""
    exact = scales.astype(np.float64)[:, index] * (codes - zeros[:, index])
    assert (exact.astype(np.float32) == exact).all()
    return exact.astype(np.float32)


VARIANTS = {
    "awq": (Packer.awq, {}, {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}),
    "gptq": (Packer.gptq, {}, {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False, "desc_act": False}),
    "gptq_sym": (
        Packer.gptq, {"middle": True, "version": 2},
        {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "checkpoint_format": "gptq_v2"},
    ),
    "gptq_order": (Packer.gptq, {"order": True}, {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True}),
    "gptq_3bit": (Packer.gptq, {"bits": 3}, {"quant_method": "gptq", "bits": 3, "group_size": 32, "sym": False}),
    "gptq_8bit": (Packer.gptq, {"bits": 8}, {"quant_method": "gptq", "bits": 8, "group_size": 32, "sym": False}),
    "fp8": (Packer.fp8, {}, {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [32, 48], "activation_scheme": "dynamic"}),
}  # fmt: skip


def main() -> None:
    """Write all files."""
    expected: dict[str, np.ndarray] = {}
    for number, (name, (pack, options, settings)) in enumerate(VARIANTS.items()):
        torch.manual_seed(number)
        model = LlamaForCausalLM(LlamaConfig(**CONFIG, attn_implementation="eager")).eval()
        state, stored, packer = {}, {}, Packer(number)
        for key, value in model.state_dict().items():
            module = key.removesuffix(".weight")
            if module == "lm_head":
                continue
            if "_proj" in module:
                parts, dense = pack(packer, tuple(value.shape), **options)
                stored |= {f"{module}.{k}": as_tensor(v) for k, v in parts.items()}
                state[key] = torch.tensor(dense)
                digest = hashlib.sha256(dense.astype("<f4").tobytes()).hexdigest()
                expected[f"{name}/{module}"] = np.array(digest)
            else:
                stored[key] = (value + 0.1 * torch.randn(value.shape)).to(torch.float16)
                state[key] = stored[key].to(torch.float32)
        model.load_state_dict(state, strict=False)
        model.tie_weights()
        with torch.no_grad():
            expected[f"{name}/logits"] = model(torch.tensor([TOKENS])).logits[0].numpy()
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        save_file(stored, folder / "model.safetensors")
        raw = {"model_type": "llama", **CONFIG, "hidden_act": "silu", "quantization_config": settings}
        (folder / "config.json").write_text(json.dumps(raw) + "\n")
    np.savez_compressed(OUT / "expected.npz", **expected)


def as_tensor(value: np.ndarray | torch.Tensor) -> torch.Tensor:
    """A contiguous tensor."""
    return value if isinstance(value, torch.Tensor) else torch.tensor(np.ascontiguousarray(value))


if __name__ == "__main__":
    main()
