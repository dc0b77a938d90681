"""Linear layers of experts: each row of the input goes through the matrix that its index picks.

Shape letters: M rows of an input, I input and O output features.
"""

from __future__ import annotations

import math

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
        y = mx.gather_mm(x, self["weight"].swapaxes(-1, -2), rhs_indices=experts)
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
    activations: str = "float"  # as in ``mx.gather_qmm``

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
            activations=self.activations,
        )
        return y + self["bias"][experts][..., None, :] if "bias" in self else y
