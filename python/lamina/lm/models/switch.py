"""Linear layers of experts: each row of the input goes through the matrix that its index picks.

Shape letters: T tokens, N experts that a token chooses, I input and O output features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import lamina.core as mx
import lamina.nn as nn


class SwitchLinear(nn.Module):
    """``x @ weight[expert].T + bias[expert]`` with ``weight`` (experts, O, I) and ``bias`` (experts, O).

    Parameters
    ----------
    experts, input_dims, output_dims : int
        Sizes.
    bias : bool
        Whether there is a bias.

    Examples
    --------
    >>> import lamina.core as mx
    >>> layer = SwitchLinear(4, 8, 6, bias=True)
    >>> layer(mx.ones((3, 1, 8)), mx.array([0, 2, 2])).shape
    (3, 1, 6)
    """

    def __init__(self, experts: int, input_dims: int, output_dims: int, bias: bool = False) -> None:
        super().__init__()
        bound = 1 / math.sqrt(input_dims)
        self.weight = mx.random.uniform(low=-bound, high=bound, shape=(experts, output_dims, input_dims))
        if bias:
            self.bias = mx.zeros((experts, output_dims))

    def _extra_repr(self) -> str:
        experts, output_dims, input_dims = self.weight.shape
        return f"experts={experts}, input_dims={input_dims}, output_dims={output_dims}, bias={'bias' in self}"

    def __call__(self, x: mx.array, experts: mx.array) -> mx.array:
        """Map (..., M, I) to (..., M, O): each matrix of ``x`` by the expert of ``experts`` (...)."""
        # Picked before they are transposed: whole matrices are copied faster than columns.
        y = x @ self["weight"][experts].swapaxes(-1, -2)
        return y + self["bias"][experts][..., None, :] if "bias" in self else y

    def to_quantized(
        self, group_size: int | None = None, bits: int | None = None, mode: str = "affine"
    ) -> QuantizedSwitchLinear:
        """Return the layer with quantized weights; parameters as of ``nn.Linear.to_quantized``."""
        layer = QuantizedSwitchLinear.__new__(QuantizedSwitchLinear)
        nn.Module.__init__(layer)
        weight, scales, *biases = mx.quantize(self["weight"], group_size, bits, mode=mode)
        layer.weight, layer.scales = weight, scales
        if biases:
            layer.biases = biases[0]
        layer.mode = mode
        layer.bits = weight.shape[-1] * 32 // self["weight"].shape[-1]
        layer.group_size = self["weight"].shape[-1] // scales.shape[-1]
        layer.freeze()
        if "bias" in self:
            layer.bias = self["bias"]
        return layer


class QuantizedSwitchLinear(nn.Module):
    """:class:`SwitchLinear` with quantized weights; made by its ``to_quantized``."""

    group_size: int
    bits: int
    mode: str

    def _extra_repr(self) -> str:
        experts, output_dims, packed = self["weight"].shape
        return (
            f"experts={experts}, input_dims={packed * 32 // self.bits}, output_dims={output_dims}, "
            f"bias={'bias' in self}, group_size={self.group_size}, bits={self.bits}, mode={self.mode}"
        )

    def __call__(self, x: mx.array, experts: mx.array) -> mx.array:
        """Map (..., M, I) to (..., M, O): each matrix of ``x`` by the expert of ``experts`` (...)."""
        y = mx.gather_qmm(
            x,
            self["weight"],
            self["scales"],
            self.get("biases"),
            rhs_indices=experts,
            transpose=True,
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
        )
        return y + self["bias"][experts][..., None, :] if "bias" in self else y


@dataclass(frozen=True)
class Dispatch:
    """Rows gathered by expert: ``blocks`` (X, M) rows of the input, ``experts`` (X,) their expert.

    ``places`` (T, N) says where in the X * M rows each token's copies are.
    """

    blocks: mx.array
    experts: mx.array
    places: mx.array


def dispatch(chosen: mx.array, experts: int) -> Dispatch | None:
    """Group the rows of tokens by the expert they ``chosen`` (T, N) go to, in blocks of equal size.

    Sizes follow from shapes alone, so that nothing is evaluated: there are at most ``experts`` blocks that
    are not full. Rows of no token repeat the first one.

    Returns
    -------
    Dispatch or None
        None where tokens are so few that most experts would have a row at most.
    """
    tokens, picks = chosen.shape
    rows = tokens * picks
    if rows <= 2 * experts:
        return None
    size = 1 << max(1, round(math.log2(rows / experts)))
    blocks = rows // size + experts
    picked = chosen.reshape(-1, 1) == mx.arange(experts)
    rank = (mx.cumsum(picked.astype(mx.int32), axis=0) * picked).sum(axis=-1) - 1
    ends = mx.cumsum((picked.astype(mx.int32).sum(axis=0) + size - 1) // size)
    first = mx.concatenate([mx.zeros((1,), dtype=ends.dtype), ends[:-1]])
    places = first[chosen.reshape(-1)] * size + rank
    source = mx.zeros((blocks * size,), dtype=mx.int32)
    source[places] = mx.arange(rows, dtype=mx.int32) // picks
    of_block = (mx.arange(blocks)[:, None] >= ends).sum(axis=-1)
    return Dispatch(
        source.reshape(blocks, size), mx.minimum(of_block, experts - 1), places.reshape(tokens, picks)
    )


def through_experts(function: Any, x: mx.array, chosen: mx.array, experts: int) -> mx.array:
    """Run rows ``x`` (T, I) through the experts ``chosen`` (T, N); return (T, N, O).

    ``function`` maps matrices (..., M, I) and their experts (...) to (..., M, O), row by row.
    """
    grouped = dispatch(chosen, experts)
    if grouped is None:
        return function(x[:, None, None, :], chosen)[:, :, 0, :]
    y = function(x[grouped.blocks], grouped.experts)
    return y.reshape(-1, y.shape[-1])[grouped.places]
