"""Causal language models: one decoder that runs what a :class:`DecoderConfig` describes.

Shape letters: B batch, L new positions, E embedding, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.cache import Caches, HybridSpec, LayerSpec, SequenceCache, make_caches
from lamina.lm.config import Config, DecoderConfig, LayerConfig
from lamina.lm.config.spec import (
    AttentionConfig,
    Mamba2Config,
    MambaConfig,
    MLAConfig,
    MLPConfig,
    MoEConfig,
    RecurrentConfig,
)
from lamina.lm.models.attention import Attention
from lamina.lm.models.mamba import Mamba
from lamina.lm.models.mamba2 import Mamba2
from lamina.lm.models.mla import LatentAttention
from lamina.lm.models.mlp import MLP
from lamina.lm.models.moe import MoE
from lamina.lm.models.norms import make_norm
from lamina.lm.models.recurrent import Recurrent
from lamina.lm.models.weights import sanitize

# What runs each kind of part; the class's ``part`` is llama's name of it.
_PARTS: dict[type, type] = {
    AttentionConfig: Attention,
    MLAConfig: LatentAttention,
    MambaConfig: Mamba,
    Mamba2Config: Mamba2,
    RecurrentConfig: Recurrent,
    MLPConfig: MLP,
    MoEConfig: MoE,
}


class DecoderLayer(nn.Module):
    """A mixer over positions and an MLP over features, each added to the residual stream."""

    def __init__(self, config: LayerConfig, decoder: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self._mixer = self._add(config.mixer, decoder)
        self._beside = None if config.beside is None else self._add(config.beside, decoder)
        self._mlp = None if config.mlp is None else self._add(config.mlp, decoder)
        self._wide = decoder.wide_residual
        norms = config.norms
        for name in (norms.before_mixer, norms.after_mixer, norms.before_mlp, norms.after_mlp):
            if name is not None:
                setattr(self, name, make_norm(decoder.norm, decoder.width))

    def _add(self, config: Any, decoder: DecoderConfig) -> str:
        kind = _PARTS[type(config)]
        name = decoder.name(kind.part)
        setattr(self, name, kind(config, decoder))
        return name

    def __call__(self, x: mx.array, cache: Any = None) -> mx.array:
        """Map (B, L, E) to (B, L, E); ``cache`` holds the positions before."""
        norms = self.config.norms
        normed = self._norm(norms.before_mixer, x)
        mixed = self._norm(norms.after_mixer, self._mix(normed, cache))
        if self._mlp is None:
            return self._add_to(x, mixed)
        if self.config.parallel:
            own = normed if norms.before_mlp is None else self._norm(norms.before_mlp, x)
            return self._add_to(x, mixed + self._norm(norms.after_mlp, self[self._mlp](own)))
        x = self._add_to(x, mixed)
        return self._add_to(x, self._norm(norms.after_mlp, self[self._mlp](self._norm(norms.before_mlp, x))))

    def _mix(self, x: mx.array, cache: Any) -> mx.array:
        if self._beside is None:
            return self[self._mixer](x, cache)
        attention, state = (None, None) if cache is None else (cache.attention, cache.state)
        return self[self._mixer](x, attention) + self[self._beside](x, state)

    def _norm(self, name: str | None, x: mx.array) -> mx.array:
        if name is None:
            return x
        return self[name](x.astype(self[name]["weight"].dtype) if self._wide else x)

    def cache_spec(self) -> LayerSpec:
        """Return what the layer caches."""
        spec = self[self._mixer].cache_spec()
        return spec if self._beside is None else HybridSpec(spec, self[self._beside].cache_spec())

    def _add_to(self, x: mx.array, branch: mx.array) -> mx.array:
        scale = self.config.residual_scale
        return x + (branch if scale == 1 else branch * scale)


class DecoderBody(nn.Module):
    """Token ids to hidden states: embedding, decoder layers, final norm."""

    def __init__(self, spec: DecoderConfig) -> None:
        super().__init__()
        self.spec = spec
        self._embed, self._positions, self._layers, self._norm = (
            spec.name(p) for p in ("embed_tokens", "embed_positions", "layers", "norm")
        )
        setattr(self, self._embed, nn.Embedding(spec.vocab, spec.width))
        if spec.embedding.positions:
            setattr(self, self._positions, nn.Embedding(spec.embedding.positions, spec.width))
        setattr(self, self._layers, [DecoderLayer(layer, spec) for layer in spec.layers])
        setattr(self, self._norm, make_norm(spec.norm, spec.width))

    @property
    def embedding(self) -> Any:
        """The table of token embeddings."""
        return self[self._embed]

    @property
    def decoder_layers(self) -> list[DecoderLayer]:
        """The layers, first to last."""
        return self[self._layers]

    def __call__(self, tokens: mx.array, cache: Caches | None = None) -> mx.array:
        """Return the hidden states (B, L, E) of ``tokens`` (B, L)."""
        embedding = self.spec.embedding
        x = self[self._embed](tokens)
        if "scales" in self[self._embed] and self[self._embed].mode != "affine":
            # Tables of float modes give bfloat16, which holds their numbers whatever the model computes in.
            x = x.astype(self[self._norm]["weight"].dtype)
        if embedding.scale != 1:
            x = x * embedding.scale
        if embedding.positions:
            length = tokens.shape[1]
            where = mx.arange(length) if cache is None else cache[0].positions(length)
            x = x + self[self._positions](where)
        if self.spec.wide_residual:
            x = x.astype(mx.float32)
        for i, layer in enumerate(self[self._layers]):
            x = layer(x, None if cache is None else cache[i])
        norm = self[self._norm]
        return norm(x.astype(norm["weight"].dtype) if self.spec.wide_residual else x)


class Decoder(nn.Module):
    """A causal language model.

    ``model(tokens, cache)`` takes ids (B, L) and returns logits (B, L, V). The two halves, :meth:`hidden` and
    :meth:`head`, let a caller ask for the logits of chosen positions only.

    Parameters
    ----------
    config : LlamaConfig or ModelConfig
        What to build; weights are random.

    Examples
    --------
    >>> import lamina.core as mx
    >>> from lamina.lm import LlamaConfig
    >>> model = Decoder(LlamaConfig(64, 1, 4, 128, 100))
    >>> model(mx.array([[1, 2, 3]])).shape
    (1, 3, 100)
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        spec = config.spec
        self._body, self._head = spec.name("model"), spec.name("lm_head")
        setattr(self, self._body, DecoderBody(spec))
        if not spec.head.tied:
            setattr(self, self._head, nn.Linear(spec.width, spec.vocab, bias=spec.head.bias))

    @property
    def body(self) -> DecoderBody:
        """The model without its head."""
        return self[self._body]

    def __call__(self, tokens: mx.array, cache: Caches | None = None) -> mx.array:
        """Return the logits (B, L, V) of ``tokens`` (B, L)."""
        return self.head(self.hidden(tokens, cache))

    def hidden(self, tokens: mx.array, cache: Caches | None = None) -> mx.array:
        """Return the normed hidden states (B, L, E) of ``tokens`` (B, L), which follow those cached."""
        return self[self._body](tokens, cache)

    def head(self, hidden: mx.array) -> mx.array:
        """Return the logits (..., V) of hidden states (..., E)."""
        head = self.config.spec.head
        logits = self.body.embedding.as_linear(hidden) if head.tied else self[self._head](hidden)
        if head.scale != 1:
            logits = logits * head.scale
        return logits if head.softcap is None else mx.tanh(logits / head.softcap) * head.softcap

    def cache_specs(self) -> list[LayerSpec]:
        """Return what each layer caches, in the order that ``cache`` lists them."""
        return [layer.cache_spec() for layer in self.body.decoder_layers]

    def make_cache(self, capacity: int = 0) -> list[SequenceCache]:
        """Return one empty cache per layer, with room for ``capacity`` positions from the first update on."""
        return make_caches(self.cache_specs(), capacity)

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        """Return published ``weights`` under the names and in the layouts of this model's parameters.

        Parameters
        ----------
        weights : dict of str to array
            Tensors as Hugging Face or mlx-community publish them, or as this package saves them.

        Returns
        -------
        dict of str to array
            New names, same tensors as far as their layouts allow. What the model does not use at inference
            is left out; what is not understood is kept under its name, for the caller to refuse.
        """
        return sanitize(weights, self.config.spec)
