"""A decoder as data: what :class:`lamina.lm.models.Decoder` builds and runs.

Each architecture's reader turns a ``config.json`` into these. Sizes are element counts; names of parts are
llama's unless ``DecoderConfig.names`` gives the architecture's own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from lamina.lm.config.rotary import RotaryConfig
from lamina.lm.errors import ConfigError


@dataclass(frozen=True)
class NormConfig:
    """A norm over the last axis: ``kind`` is ``"rms"`` or ``"layer"``.

    ``bias`` is of layer norms; ``offset`` is added to the weight; with ``by_head`` a norm of heads has
    weights for each of them.
    """

    kind: str
    eps: float
    bias: bool = False
    offset: float = 0.0
    by_head: bool = False


@dataclass(frozen=True)
class AttentionConfig:
    """Causal attention of ``heads`` query heads to ``kv_heads`` key-value heads of ``head_dim`` features.

    Attributes
    ----------
    scale : float
        Factor of the scores.
    rotary : RotaryConfig, optional
        Rotary positions; none at all without.
    window : int, optional
        Positions that a position sees, itself included; None for all before it.
    softcap : float, optional
        Scores become ``softcap * tanh(score / softcap)``.
    sinks : bool
        Whether each head has a score that takes part in the softmax and adds no value.
    qkv_bias, out_bias : bool
        Which projections have a bias.
    qk_norm : NormConfig, optional
        Norm of queries and keys, over each head, or over all heads together where ``norm_all`` is set.
    fused : {None, "stacked", "by_head"}
        Whether one projection makes queries, keys and values: all queries, all keys, all values, or those
        three head by head.
    clip : float, optional
        Bound of the absolute values of queries, keys and values.
    in_scale, out_scale : float
        Factors of the input and of the output.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    rotary: RotaryConfig | None
    window: int | None = None
    softcap: float | None = None
    sinks: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: NormConfig | None = None
    norm_all: bool = False
    fused: str | None = None
    clip: float | None = None
    in_scale: float = 1.0
    out_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ConfigError(
                f"num_attention_heads {self.heads} is not a multiple of num_key_value_heads {self.kv_heads}"
            )


@dataclass(frozen=True)
class MLAConfig:
    """Multi-head latent attention: keys and values of all heads come from one short vector for each position.

    Attributes
    ----------
    heads : int
        Query heads, each of ``plain_dim`` features plus those that ``rotary`` turns.
    query_rank : int, optional
        Features that queries are made from; None where they are made from the input.
    kv_rank : int
        Features that keys and values are made from; these, and one rotated key for all heads, are cached.
    plain_dim, value_dim : int
        Features of a head's key without position, and of its value.
    rotary : RotaryConfig
        Rotary positions; its ``dims`` are the features of the rotated key.
    scale : float
        Factor of the scores.
    bias : bool
        Whether the projections from the input and to the output have biases.
    """

    heads: int
    query_rank: int | None
    kv_rank: int
    plain_dim: int
    value_dim: int
    rotary: RotaryConfig
    scale: float
    bias: bool = False


@dataclass(frozen=True)
class ClampedSwiGLU:
    """``(up + 1) * gate * sigmoid(alpha * gate)`` of a gate up to ``limit`` and an ``up`` within it."""

    alpha: float
    limit: float


@dataclass(frozen=True)
class MLPConfig:
    """``down(act(up(x)))``, or ``down(act(gate(x)) * up(x))`` where ``gated``.

    ``fused`` is for gate and up in one projection, ``gate_scale`` and ``out_scale`` multiply the gate before
    its activation and the output.
    """

    hidden: int
    activation: str | ClampedSwiGLU = "silu"
    gated: bool = True
    bias: bool = False
    fused: bool = False
    gate_scale: float = 1.0
    out_scale: float = 1.0


@dataclass(frozen=True)
class RouterConfig:
    """How a token chooses ``chosen`` of the experts, and their weights.

    Attributes
    ----------
    scoring : {"softmax", "sigmoid", "softmax_of_chosen"}
        What makes scores of the router's outputs; the last takes the softmax of the chosen outputs only.
    normalize : bool
        Whether the chosen scores are divided by their sum.
    scale : float
        Factor of the weights.
    groups, chosen_groups : int
        Experts compete within the best ``chosen_groups`` of so many equal groups.
    group_score : {"max", "top2"}
        A group's score: its best expert's, or the sum of its best two.
    bias : bool
        Whether the router has a bias.
    correction : bool
        Whether a learned bias is added to the scores to choose by, but not to the weights.
    """

    chosen: int
    scoring: str = "softmax"
    normalize: bool = False
    scale: float = 1.0
    groups: int = 1
    chosen_groups: int = 1
    group_score: str = "max"
    bias: bool = False
    correction: bool = False


@dataclass(frozen=True)
class MoEConfig:
    """A mixture of ``experts``, each an MLP of ``expert``'s kind, and perhaps a shared one for all tokens.

    ``shared_gate`` is for a shared MLP whose output is multiplied by a sigmoid of the input's projection.
    ``alternating`` is for published tensors of all experts, (experts, in, out), gate and up by turns.
    """

    experts: int
    router: RouterConfig
    expert: MLPConfig
    shared: MLPConfig | None = None
    shared_gate: bool = False
    alternating: bool = False

    def __post_init__(self) -> None:
        if self.router.chosen > self.experts:
            raise ConfigError(f"a token cannot choose {self.router.chosen} of {self.experts} experts")
        if self.experts % self.router.groups:
            raise ConfigError(f"{self.experts} experts do not divide into {self.router.groups} groups")


@dataclass(frozen=True)
class MambaConfig:
    """A selective state space (Mamba): each of ``inner`` features has ``state`` numbers that decay by input.

    ``kernel`` is the length of the convolution before it, ``rank`` that of the time steps' projection.
    ``norm`` is for norms of time steps, inputs and outputs (Jamba).
    """

    inner: int
    state: int
    kernel: int
    rank: int
    bias: bool = False
    conv_bias: bool = True
    norm: NormConfig | None = None


@dataclass(frozen=True)
class Mamba2Config:
    """A state space with one decay for each head (Mamba 2).

    Attributes
    ----------
    heads, head_dim, state : int
        Heads, their features, and the numbers that each feature keeps.
    groups : int
        Groups of heads that share inputs and outputs of the state.
    kernel : int
        Length of the convolution before it.
    bias, conv_bias, out_bias : bool
        Which parts have biases.
    step_limits : tuple of float
        Bounds of the time steps.
    norm : NormConfig, optional
        RMS norm of the gated output, group by group.
    norm_first : bool
        Whether the norm comes before the gate.
    in_scale, out_scale : float
        Factors of the input and of the output.
    part_scales : tuple of 5 float
        Factors of gate, features, state inputs, state outputs and time steps.
    """

    heads: int
    head_dim: int
    state: int
    groups: int
    kernel: int
    bias: bool = False
    conv_bias: bool = True
    out_bias: bool = False
    step_limits: tuple[float, float] = (0.0, math.inf)
    norm: NormConfig | None = None
    norm_first: bool = False
    in_scale: float = 1.0
    out_scale: float = 1.0
    part_scales: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.heads % self.groups:
            raise ConfigError(f"{self.heads} heads of a state space do not divide into {self.groups} groups")


@dataclass(frozen=True)
class RecurrentConfig:
    """A gated linear recurrence of ``inner`` features (RG-LRU), whose gates are ``heads`` blocks.

    ``kernel`` is the length of the convolution before it; ``activation`` is of the branch beside it.
    """

    inner: int
    heads: int
    kernel: int
    activation: str

    def __post_init__(self) -> None:
        if self.inner % self.heads:
            raise ConfigError(f"lru_width {self.inner} is not a multiple of num_attention_heads {self.heads}")


MixerConfig = AttentionConfig | MLAConfig | MambaConfig | Mamba2Config | RecurrentConfig


@dataclass(frozen=True)
class Norms:
    """The names of a layer's norms; None where there is none.

    Each branch is ``x + after(f(before(x)))``.
    """

    before_mixer: str | None = "input_layernorm"
    after_mixer: str | None = None
    before_mlp: str | None = "post_attention_layernorm"
    after_mlp: str | None = None


@dataclass(frozen=True)
class LayerConfig:
    """One layer: a mixer over positions and an MLP over features, both added to the residual stream.

    Attributes
    ----------
    mixer : MixerConfig
        What mixes positions.
    mlp : MLPConfig or MoEConfig, optional
        What follows it; None where a layer is a mixer alone.
    norms : Norms
        Where the layer has norms.
    parallel : bool
        Whether mixer and MLP read the same input; an MLP without a norm of its own shares the mixer's.
    residual_scale : float
        Factor of what is added to the stream.
    beside : Mamba2Config, optional
        A state space of the same input, whose output is added to the mixer's.
    """

    mixer: MixerConfig
    mlp: MLPConfig | MoEConfig | None
    norms: Norms = Norms()
    parallel: bool = False
    residual_scale: float = 1.0
    beside: Mamba2Config | None = None


@dataclass(frozen=True)
class EmbeddingConfig:
    """Token embeddings times ``scale``, plus learned embeddings of ``positions`` positions (0 for none)."""

    scale: float = 1.0
    positions: int = 0


@dataclass(frozen=True)
class HeadConfig:
    """Logits: ``scale * head(hidden)``, then ``softcap * tanh(logits / softcap)``.

    ``tied`` heads use the token embeddings.
    """

    tied: bool = False
    bias: bool = False
    scale: float = 1.0
    softcap: float | None = None

    def __post_init__(self) -> None:
        if self.tied and self.bias:
            raise ConfigError("a head with a bias cannot be tied to the token embeddings")


@dataclass(frozen=True)
class DecoderConfig:
    """A causal language model.

    Attributes
    ----------
    vocab, width, context : int
        Token ids, features of the residual stream, positions that the model is run with at most.
    layers : tuple of LayerConfig
        The layers, first to last.
    norm : NormConfig
        The layers' norms and the last one.
    names : Mapping[str, str]
        The architecture's own names of parts, by llama's.
    wide_residual : bool
        Whether the residual stream is float32, whatever the weights are.
    further_layers : int
        Published layers that come after these and predict tokens further ahead; they are not run.
    """

    vocab: int
    width: int
    context: int
    layers: tuple[LayerConfig, ...]
    norm: NormConfig
    embedding: EmbeddingConfig = EmbeddingConfig()
    head: HeadConfig = HeadConfig()
    names: Mapping[str, str] = field(default_factory=dict)
    wide_residual: bool = False
    further_layers: int = 0

    def name(self, part: str) -> str:
        """Return the architecture's name of llama's ``part``."""
        return self.names.get(part, part)

    def with_context(self, context: int) -> DecoderConfig:
        """Return the same decoder for at most ``context`` positions.

        Raises
        ------
        ConfigError
            ``context`` is more than the model has, or not positive.
        """
        if not 0 < context <= self.context:
            raise ConfigError(f"context must be from 1 to the model's {self.context}, got {context}")

        def shorter(layer: LayerConfig) -> LayerConfig:
            rotary = getattr(layer.mixer, "rotary", None)
            if rotary is None:
                return layer
            rotary = dataclasses.replace(rotary, context=context)
            return dataclasses.replace(layer, mixer=dataclasses.replace(layer.mixer, rotary=rotary))

        return dataclasses.replace(self, context=context, layers=tuple(map(shorter, self.layers)))
