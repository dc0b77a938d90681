"""Published names and layouts of weights to those of the module tree."""

from __future__ import annotations

import re

import lamina.core as mx
from lamina.lm.config import AttentionConfig, DecoderConfig, MoEConfig
from lamina.lm.errors import CheckpointError

# Buffers that older files carry: rotary frequencies and causal masks, made from the config here.
_BUFFERS = re.compile(
    r"rotary_emb\.inv_freq$|\.rotary_emb$|\.(attn|attention)\.(bias|masked_bias)$|position_ids$"
)
_EXPERT = re.compile(r"(.*\.)experts\.(\d+)\.([^.]+)\.(.+)$")
_CONVOLUTION = re.compile(r"\.conv_?1d\.weight$")
_FUSED_EXPERTS = re.compile(
    r"(.*\.experts\.)(gate_up_proj|down_proj)(|_blocks|_scales|_bias|\.weight|\.scales|\.bias)$"
)
_NORM_OF_HEAD = re.compile(r"(.*_layernorm)\.norms\.(\d+)\.weight$")


def sanitize(weights: dict[str, mx.array], spec: DecoderConfig) -> dict[str, mx.array]:
    """Return ``weights`` as :meth:`lamina.lm.models.Decoder.sanitize` says."""
    weights = {_place(k, spec): v for k, v in weights.items() if not _BUFFERS.search(k)}
    for i in range(len(spec.layers), len(spec.layers) + spec.further_layers):
        layer = f"{spec.name('model')}.{spec.name('layers')}.{i}."
        weights = {k: v for k, v in weights.items() if not k.startswith(layer)}
    if spec.head.tied:
        head = spec.name("lm_head") + "."
        weights = {k: v for k, v in weights.items() if not k.startswith(head)}
    weights = _stack_experts(_stack_head_norms(weights), spec)
    if any(isinstance(layer.mlp, MoEConfig) and layer.mlp.alternating for layer in spec.layers):
        weights = _split_alternating(weights)
    weights = _turn_convolutions(weights, spec)
    if _is_transposed(weights, spec):
        weights = {k: v.T if _is_linear_of_gpt2(k) else v for k, v in weights.items()}
    return weights


def _place(name: str, spec: DecoderConfig) -> str:
    """Put what stands at the top under the body, which older files leave out and mlx-community renames."""
    body, head, layers = (spec.name(p) for p in ("model", "lm_head", "layers"))
    if name.startswith((body + ".", head + ".")) and body != "model":
        return name
    name = name.removeprefix("model.")
    if name.startswith(head + "."):
        return name
    if name.startswith("h.") and layers != "h":
        name = layers + name[1:]
    return f"{body}.{name}"


def _stack_head_norms(weights: dict[str, mx.array]) -> dict[str, mx.array]:
    """Stack the weights of norms that are one for each head."""
    out, heads = {}, {}
    for name, value in weights.items():
        match = _NORM_OF_HEAD.match(name)
        if match:
            heads.setdefault(match[1], {})[int(match[2])] = value
        else:
            out[name] = value
    for name, rows in heads.items():
        out[f"{name}.weight"] = _stacked(f"{name}.norms.*.weight", rows)
    return out


def _stacked(name: str, parts: dict[int, mx.array]) -> mx.array:
    """Stack the numbered tensors that ``name`` stands for, which must be whole and of one shape."""
    shapes = {tuple(p.shape) for p in parts.values()}
    if sorted(parts) != list(range(len(parts))) or len(shapes) > 1:
        raise CheckpointError(
            f"'{name}': wanted tensors of one shape, numbered from 0, got numbers {sorted(parts)} "
            f"and shapes {sorted(shapes)}"
        )
    return mx.stack([parts[i] for i in range(len(parts))])


def _stack_experts(weights: dict[str, mx.array], spec: DecoderConfig) -> dict[str, mx.array]:
    """Stack the tensors of experts, one for each, into those of all."""
    ours = {spec.name(f"expert.{p}"): p for p in ("gate_proj", "up_proj", "down_proj")}
    ours |= {p: p for p in ("gate_proj", "up_proj", "down_proj")}
    out, stacks = {}, {}
    for name, value in weights.items():
        match = _EXPERT.match(name)
        if match and match[3] in ours:
            stacked = f"{match[1]}{spec.name('switch_mlp')}.{ours[match[3]]}.{match[4]}"
            parts = stacks.setdefault(stacked, (f"{match[1]}experts.*.{match[3]}.{match[4]}", {}))[1]
            parts[int(match[2])] = value
        else:
            out[name] = value
    return out | {name: _stacked(published, parts) for name, (published, parts) in stacks.items()}


def _turn_convolutions(weights: dict[str, mx.array], spec: DecoderConfig) -> dict[str, mx.array]:
    """Bring weights of convolutions from (C, K, 1), where mlx-community has them so, to (C, 1, K)."""
    last = {k for k, v in weights.items() if _CONVOLUTION.search(k) and v.shape[-1] == 1 < v.shape[1]}
    if last and any(layer.beside is not None for layer in spec.layers):
        raise CheckpointError(
            f"'{min(last)}' has its channels last, as where weights have been multiplied by the config's "
            "factors: such checkpoints are not supported; convert the weights as first published"
        )
    return {k: v.swapaxes(1, 2) if k in last else v for k, v in weights.items()}


def _split_alternating(weights: dict[str, mx.array]) -> dict[str, mx.array]:
    """Split tensors of all experts' gates and ups, and turn matrices round, as GPT-OSS needs.

    Its packed weights (mxfp4) are (experts, out, in / 32, 16) bytes with a scale for each 32; its plain ones
    (experts, in, out).
    """
    out = {}
    for name, value in weights.items():
        match = _FUSED_EXPERTS.match(name)
        if not match:
            out[name] = value
            continue
        prefix, part, kind = match[1], match[2], match[3]
        if kind == "_blocks":
            value = value.reshape(*value.shape[:2], -1).view(mx.uint32)
        elif not kind:
            value = value.swapaxes(-1, -2)
        suffix = {"": "weight", "_blocks": "weight"}.get(kind, kind[1:])
        if part == "gate_up_proj":
            # Copied once here, not at each product with every other row.
            out[f"{prefix}gate_proj.{suffix}"] = mx.contiguous(value[:, ::2])
            out[f"{prefix}up_proj.{suffix}"] = mx.contiguous(value[:, 1::2])
        else:
            out[f"{prefix}{part}.{suffix}"] = value
    return out


def _is_linear_of_gpt2(name: str) -> bool:
    return re.search(r"\.(c_attn|c_proj|c_fc)\.weight$", name) is not None


def _is_transposed(weights: dict[str, mx.array], spec: DecoderConfig) -> bool:
    """Return whether linear weights are (in, out), as GPT-2 publishes them; its first one tells."""
    mixer = spec.layers[0].mixer
    if not isinstance(mixer, AttentionConfig) or spec.name("qkv_proj") != "c_attn":
        return False
    name = f"{spec.name('model')}.{spec.name('layers')}.0.{spec.name('self_attn')}.c_attn.weight"
    weight = weights.get(name)
    return weight is not None and weight.shape == (spec.width, 3 * spec.width)
