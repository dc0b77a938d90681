"""BERT, as an encoder of texts.

Shape letters: B batch, L positions, H heads, D head dim, E embedding.
"""

from __future__ import annotations

import re

import lamina.core as mx
import lamina.nn as nn
from lamina.lm.config.encoder import EncoderConfig
from lamina.lm.models.mlp import ACTIVATIONS

# Parts that serve pre-training tasks, and the buffer of position numbers.
_UNUSED = re.compile(r"^(cls|pooler)\.|^embeddings\.(position_ids|token_type_ids)$")


class _Embeddings(nn.Module):
    """Token, position and segment embeddings, normed; all tokens are of the first segment."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, config.layer_norm_eps)

    def __call__(self, tokens: mx.array) -> mx.array:
        segment = self.token_type_embeddings(mx.zeros((1,), dtype=mx.int32))
        positions = self.position_embeddings(mx.arange(tokens.shape[1]))
        return self.LayerNorm(self.word_embeddings(tokens) + positions + segment)


class _Output(nn.Module):
    """A linear layer whose result is added to the stream and normed."""

    def __init__(self, hidden: int, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def __call__(self, x: mx.array, stream: mx.array) -> mx.array:
        return self.LayerNorm(self.dense(x) + stream)


class _Attention(nn.Module):
    """Attention to all positions that ``mask`` lets through."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def __call__(self, x: mx.array, mask: mx.array | None) -> mx.array:
        config = self.config
        shape = (*x.shape[:2], config.num_attention_heads, config.head_dim)
        queries, keys, values = (
            layer(x).reshape(shape).transpose(0, 2, 1, 3) for layer in (self.query, self.key, self.value)
        )
        out = mx.fast.scaled_dot_product_attention(
            queries, keys, values, scale=config.head_dim**-0.5, mask=mask
        )
        return out.transpose(0, 2, 1, 3).reshape(x.shape)


class _AttentionBlock(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        # The published name is no keyword argument of Python's.
        self["self"] = _Attention(config)
        self.output = _Output(config.hidden_size, config)

    def __call__(self, x: mx.array, mask: mx.array | None) -> mx.array:
        return self.output(self["self"](x, mask), x)


class _Intermediate(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self._act = ACTIVATIONS[config.activation]

    def __call__(self, x: mx.array) -> mx.array:
        return self._act(self.dense(x))


class _Layer(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = _AttentionBlock(config)
        self.intermediate = _Intermediate(config)
        self.output = _Output(config.intermediate_size, config)

    def __call__(self, x: mx.array, mask: mx.array | None) -> mx.array:
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)


class _Stack(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layer = [_Layer(config) for _ in range(config.num_hidden_layers)]

    def __call__(self, x: mx.array, mask: mx.array | None) -> mx.array:
        for layer in self.layer:
            x = layer(x, mask)
        return x


class Encoder(nn.Module):
    """BERT without its heads.

    Parameters
    ----------
    config : EncoderConfig
        What to build; weights are random.

    Examples
    --------
    >>> import lamina.core as mx
    >>> model = Encoder(EncoderConfig(99, 32, 2, 4, 64))
    >>> tokens = mx.array([[5, 6, 7], [8, 9, 0]])
    >>> model.encode(tokens, mx.array([3, 2])).shape, model.embed(tokens, mx.array([3, 2])).shape
    ((2, 3, 32), (2, 32))
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = _Stack(config)

    def encode(self, tokens: mx.array, lengths: mx.array | None = None) -> mx.array:
        """Return the hidden states (B, L, E) of ``tokens`` (B, L).

        Parameters
        ----------
        tokens : array (B, L)
            Ids, any from a text's end on.
        lengths : array (B,), optional
            Tokens of each text, at least 1; all L by default. Positions from there on are not attended to.

        Returns
        -------
        array (B, L, E)
            Hidden states; those after a text's end mean nothing.
        """
        mask = None if lengths is None else self._inside(tokens, lengths)[:, None, None, :]
        return self.encoder(self.embeddings(tokens), mask)

    def embed(self, tokens: mx.array, lengths: mx.array | None = None) -> mx.array:
        """Return one vector for each text, (B, E) float32; parameters as of :meth:`encode`."""
        pooling, hidden = self.config.pooling, self.encode(tokens, lengths).astype(mx.float32)
        if pooling.mode == "cls":
            out = hidden[:, 0]
        else:
            if lengths is None:
                lengths = mx.full((tokens.shape[0],), tokens.shape[1])
            inside = self._inside(tokens, lengths)[..., None]
            if pooling.mode == "max":
                out = mx.where(inside, hidden, -mx.inf).max(axis=1)
            else:
                out = mx.where(inside, hidden, 0.0).sum(axis=1) / lengths[:, None]
        if not pooling.normalize:
            return out
        return out / mx.maximum(mx.linalg.norm(out, axis=-1, keepdims=True), 1e-12)

    @staticmethod
    def _inside(tokens: mx.array, lengths: mx.array) -> mx.array:
        return mx.arange(tokens.shape[1]) < lengths[:, None]

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        """Return published ``weights`` under the names of this model's parameters, without those unused."""
        weights = {k.removeprefix("bert."): v for k, v in weights.items()}
        weights = {k: v for k, v in weights.items() if not _UNUSED.search(k)}
        return {re.sub(r"LayerNorm\.(gamma|beta)$", _newer_name, k): v for k, v in weights.items()}


def _newer_name(match: re.Match[str]) -> str:
    return "LayerNorm.weight" if match[1] == "gamma" else "LayerNorm.bias"
