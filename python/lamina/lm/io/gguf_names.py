"""GGUF's names of tensors and of configuration fields, and Hugging Face's for the same, by architecture."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lamina.lm.errors import CheckpointError

# Parts of names that all these architectures share: outside of layers, and in each.
_OUTER = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
_MLP = {
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_FOUR_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_EXPERTS = {
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.switch_mlp.gate_proj",
    "ffn_up_exps": "mlp.switch_mlp.up_proj",
    "ffn_down_exps": "mlp.switch_mlp.down_proj",
}
# Tables that the configuration stands for.
DERIVED = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


@dataclass(frozen=True)
class Architecture:
    """How one of GGUF's architectures is named and configured in Hugging Face's terms.

    Attributes
    ----------
    name : str
        ``general.architecture``, the prefix of its fields.
    model_type : str
        Hugging Face's name.
    layer : Mapping[str, str]
        Names of the parts of a layer.
    interleaved : bool
        Whether features that rotate together are neighbours, where Hugging Face has them in two halves.
    switchable : bool
        Whether the model can be told so; else rows of queries and keys are reordered.
    norm_offset : float
        What files add to the weights of norms.
    extra : callable
        Further fields of ``config.json``, from a function that looks up the file's own (see :func:`reader`).
    """

    name: str
    model_type: str
    layer: Mapping[str, str]
    interleaved: bool = False
    switchable: bool = True
    norm_offset: float = 0.0
    extra: Callable[[Fields], dict[str, Any]] = field(default=lambda _: {})

    @property
    def has_experts(self) -> bool:
        """Whether its MLPs are mixtures of experts."""
        return "ffn_gate_exps" in self.layer

    def hugging_face(self, name: str) -> str | None:
        """Return Hugging Face's name of a tensor; None where it is not known."""
        match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
        if match is None:
            return None
        number, part, kind = match.groups()
        own = (_OUTER if number is None else self.layer).get(part)
        if own is None:
            return None
        return f"{own}.{kind}" if number is None else f"model.layers.{number}.{own}.{kind}"

    def gguf(self, name: str) -> str | None:
        """Return GGUF's name of a tensor with Hugging Face's ``name``; None where there is none."""
        module, _, kind = name.rpartition(".")
        match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", module)
        names = _OUTER if match is None else self.layer
        own = {v: k for k, v in names.items()}.get(module if match is None else match[2])
        if own is None or kind not in ("weight", "bias"):
            return None
        return f"{own}.{kind}" if match is None else f"blk.{match[1]}.{own}.{kind}"


class Fields:
    """The fields of an architecture in a GGUF file, by their names without the architecture.

    Parameters
    ----------
    name : str
        The architecture.
    metadata : Mapping[str, Any]
        The file's values, in Python's own types.
    tensors : Mapping[str, Any]
        Shapes of the tensors by GGUF's name.
    """

    def __init__(
        self, name: str, metadata: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]
    ) -> None:
        self.name = name
        self.metadata = metadata
        self.tensors = tensors

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a field, or ``default``."""
        return self.metadata.get(f"{self.name}.{key}", default)

    def need(self, key: str) -> Any:
        """Return the value of a field that must be there."""
        value = self.get(key)
        if value is None:
            raise CheckpointError(f"the file lacks the field '{self.name}.{key}'")
        return value

    def number(self, key: str, default: int | None = None) -> int:
        """Return a whole number; one for each layer must be the same for all."""
        value = self.need(key) if default is None else self.get(key, default)
        if isinstance(value, list):
            if len(set(value)) != 1:
                raise CheckpointError(
                    f"'{self.name}.{key}' differs between layers, which is not supported: {value}"
                )
            value = value[0]
        if not isinstance(value, int) or isinstance(value, bool):
            raise CheckpointError(f"'{self.name}.{key}' must be a whole number, got {value!r}")
        return value


def _head_dim(f: Fields) -> int:
    return f.number("attention.key_length", f.number("embedding_length") // f.number("attention.head_count"))


def _query_scalar(f: Fields, widest: int) -> int:
    """The square of what queries are divided by: a head's size, but for the model with ``widest`` layers."""
    if f.number("block_count") == widest:
        return f.number("embedding_length") // f.number("attention.head_count")
    return _head_dim(f)


def _gemma(f: Fields) -> dict[str, Any]:
    return {"hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu_pytorch_tanh"}


def _gemma2(f: Fields) -> dict[str, Any]:
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": f.number("attention.sliding_window", 4096),
        "attn_logit_softcapping": f.get("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": f.get("final_logit_softcapping", 30.0),
        "query_pre_attn_scalar": _query_scalar(f, 46),
    }


def _gemma3(f: Fields) -> dict[str, Any]:
    pattern = f.get("attention.sliding_window_pattern", 6)
    layers = f.number("block_count")
    if isinstance(pattern, int):
        pattern = [(i + 1) % pattern != 0 for i in range(layers)]
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": f.number("attention.sliding_window", 1024),
        "layer_types": ["sliding_attention" if s else "full_attention" for s in pattern],
        "rope_theta": float(f.get("rope.freq_base", 1e6)),
        "rope_local_base_freq": float(f.get("rope.freq_base_swa", 10000.0)),
        "query_pre_attn_scalar": _query_scalar(f, 62),
        "final_logit_softcapping": f.get("final_logit_softcapping"),
    }


def _phi3(f: Fields) -> dict[str, Any]:
    head_dim = _head_dim(f)
    part = f.number("rope.dimension_count", head_dim) / head_dim
    return {
        "partial_rotary_factor": part,
        "original_max_position_embeddings": f.number(
            "rope.scaling.original_context_length", f.number("context_length")
        ),
        "sliding_window": f.number("attention.sliding_window", 0) or None,
        "pad_token_id": None,
    }


def _qwen2(f: Fields) -> dict[str, Any]:
    return {"use_sliding_window": False}


def _qwen3moe(f: Fields) -> dict[str, Any]:
    return {
        "num_experts": f.number("expert_count"),
        "num_experts_per_tok": f.number("expert_used_count"),
        "moe_intermediate_size": f.number("expert_feed_forward_length"),
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def _mixtral(f: Fields) -> dict[str, Any]:
    return {
        "num_local_experts": f.number("expert_count"),
        "num_experts_per_tok": f.number("expert_used_count"),
    }


_LLAMA = {**_ATTENTION, **_MLP}
_MIXTRAL = {k: v.replace("mlp.", "block_sparse_moe.", 1) for k, v in {**_ATTENTION, **_EXPERTS}.items()}
ARCHITECTURES = {
    a.model_type: a
    for a in (
        Architecture("llama", "llama", _LLAMA, interleaved=True),
        Architecture("llama", "mixtral", _MIXTRAL, interleaved=True, switchable=False, extra=_mixtral),
        Architecture("qwen3moe", "qwen3_moe", {**_ATTENTION, **_HEAD_NORMS, **_EXPERTS}, extra=_qwen3moe),
        Architecture("qwen2", "qwen2", _LLAMA, extra=_qwen2),
        Architecture("qwen3", "qwen3", {**_LLAMA, **_HEAD_NORMS}),
        Architecture("gemma", "gemma", _LLAMA, norm_offset=1.0, extra=_gemma),
        Architecture("gemma2", "gemma2", {**_LLAMA, **_FOUR_NORMS}, norm_offset=1.0, extra=_gemma2),
        Architecture(
            "gemma3", "gemma3_text", {**_LLAMA, **_HEAD_NORMS, **_FOUR_NORMS}, norm_offset=1.0, extra=_gemma3
        ),
        Architecture(
            "phi3",
            "phi3",
            {**_LLAMA, "attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
            extra=_phi3,
        ),
    )
}


def architecture_of(metadata: Mapping[str, Any]) -> Architecture:
    """Return the architecture that a file's metadata name.

    Raises
    ------
    CheckpointError
        It is missing or not supported.
    """
    name = metadata.get("general.architecture")
    known = [a for a in ARCHITECTURES.values() if a.name == name]
    if not known:
        names = dict.fromkeys(a.name for a in ARCHITECTURES.values())
        raise CheckpointError(f"GGUF architecture {name!r} is not supported; supported: {', '.join(names)}")
    experts = bool(metadata.get(f"{name}.expert_count"))
    found = next((a for a in known if a.has_experts == experts), None)
    if found is None:
        kind = "with" if experts else "without"
        raise CheckpointError(
            f"GGUF architecture {name!r} {kind} experts ('{name}.expert_count') is not supported"
        )
    return found


def common_config(f: Fields, a: Architecture) -> dict[str, Any]:
    """Return the ``config.json`` that a file's fields stand for."""
    embedding = f.tensors.get("token_embd.weight")
    if embedding is None:
        raise CheckpointError("the file lacks the tensor 'token_embd.weight'")
    layers = f.number("block_count")
    config = {
        "model_type": a.model_type,
        "vocab_size": embedding[0],
        "hidden_size": f.number("embedding_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": f.number("attention.head_count"),
        "num_key_value_heads": f.number("attention.head_count_kv", f.number("attention.head_count")),
        "head_dim": _head_dim(f),
        "intermediate_size": f.number("feed_forward_length", 0 if a.has_experts else None) or None,
        "max_position_embeddings": f.number("context_length"),
        "rms_norm_eps": float(f.need("attention.layer_norm_rms_epsilon")),
        "rope_theta": float(f.get("rope.freq_base", 10000.0)),
        "hidden_act": "silu",
        "tie_word_embeddings": "output.weight" not in f.tensors,
        **a.extra(f),
    }
    if a.model_type == "llama":
        config["attention_bias"] = "blk.0.attn_q.bias" in f.tensors
        config["mlp_bias"] = "blk.0.ffn_up.bias" in f.tensors
    if a.interleaved and a.switchable:
        config["rope_traditional"] = True
    return {k: v for k, v in config.items() if v is not None}
