"""Linear maps: Identity, Linear and Bilinear."""

from __future__ import annotations

import math
from typing import Any

import lamina.core as mx
from lamina.nn.layers._check import positive_int
from lamina.nn.layers.base import Module

__all__ = ["Bilinear", "Identity", "Linear"]


class Identity(Module):
    """Return the input; any arguments to the constructor are ignored, so that it can stand for any layer.

    Shapes: input any, output the same.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.Identity(3, bias=False)(mx.array([1.0])).tolist()
    [1.0]
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __call__(self, x: mx.array) -> mx.array:
        return x


class Linear(Module):
    """The affine map ``x @ weight.T + bias``.

    Shapes: input ``(..., input_dims)``, output ``(..., output_dims)``; parameters ``weight`` of shape
    ``(output_dims, input_dims)`` and, with ``bias``, ``bias`` of shape ``(output_dims,)``, both drawn
    uniformly from ``±1 / sqrt(input_dims)``.

    Parameters
    ----------
    input_dims : int
        Entries of the input's last axis.
    output_dims : int
        Entries of the output's last axis.
    bias : bool
        Whether to add a bias.

    Raises
    ------
    ValueError
        A size is below 1, or an input's last axis does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.Linear(4, 2)(mx.ones((3, 4))).shape
    (3, 2)
    """

    def __init__(self, input_dims: int, output_dims: int, bias: bool = True) -> None:
        super().__init__()
        input_dims = positive_int("Linear", "input_dims", input_dims)
        output_dims = positive_int("Linear", "output_dims", output_dims)
        bound = 1.0 / math.sqrt(input_dims)
        self.weight = mx.random.uniform(low=-bound, high=bound, shape=(output_dims, input_dims))
        if bias:
            self.bias = mx.random.uniform(low=-bound, high=bound, shape=(output_dims,))

    def _extra_repr(self) -> str:
        output_dims, input_dims = self.weight.shape
        return f"input_dims={input_dims}, output_dims={output_dims}, bias={'bias' in self}"

    def __call__(self, x: mx.array) -> mx.array:
        if "bias" in self:
            return mx.addmm(self["bias"], x, self["weight"].T)
        return x @ self["weight"].T

    def to_quantized(
        self,
        group_size: int | None = None,
        bits: int | None = None,
        mode: str = "affine",
        quantize_input: bool = False,
    ) -> Module:
        """Return the layer with quantized weights.

        Parameters
        ----------
        group_size, bits : int, optional
            Weights per scale and bits per weight; the mode's defaults if not given.
        mode : str
            How to quantize; see ``mx.quantize``.
        quantize_input : bool
            Whether to quantize the input too, as :class:`QQLinear` does for the modes ``nvfp4`` and
            ``mxfp8``.

        Returns
        -------
        QuantizedLinear or QQLinear
            The new layer.

        Raises
        ------
        ValueError
            The mode does not exist or does not allow for quantized inputs, or ``input_dims`` is no multiple
            of the group size.

        Examples
        --------
        >>> from lamina import nn
        >>> nn.Linear(64, 8).to_quantized(bits=8)
        QuantizedLinear(input_dims=64, output_dims=8, bias=True, group_size=64, bits=8, mode=affine)
        """
        from lamina.nn.layers.quantized import QQLinear, QuantizedLinear

        if not quantize_input:
            return QuantizedLinear.from_linear(self, group_size, bits, mode)
        if mode not in ("nvfp4", "mxfp8"):
            raise ValueError(
                f"Quantized activations are only supported for 'nvfp4' and 'mxfp8' modes, got {mode!r}."
            )
        return QQLinear.from_linear(self, group_size, bits, mode)


class Bilinear(Module):
    """The bilinear map ``y[o] = sum over i and j of x1[i] * weight[o, j, i] * x2[j] + bias[o]``.

    Shapes: inputs ``(..., input1_dims)`` and ``(..., input2_dims)``, output ``(..., output_dims)``;
    parameters ``weight`` of shape ``(output_dims, input2_dims, input1_dims)`` and ``bias`` of shape
    ``(output_dims,)``, both drawn uniformly from ``±1 / sqrt(input1_dims)``.

    Parameters
    ----------
    input1_dims, input2_dims : int
        Entries of the inputs' last axes.
    output_dims : int
        Entries of the output's last axis.
    bias : bool
        Whether to add a bias.

    Raises
    ------
    ValueError
        A size is below 1, or the inputs' shapes do not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.Bilinear(3, 4, 5)(mx.ones((2, 3)), mx.ones((2, 4))).shape
    (2, 5)
    """

    def __init__(self, input1_dims: int, input2_dims: int, output_dims: int, bias: bool = True) -> None:
        super().__init__()
        input1_dims = positive_int("Bilinear", "input1_dims", input1_dims)
        input2_dims = positive_int("Bilinear", "input2_dims", input2_dims)
        output_dims = positive_int("Bilinear", "output_dims", output_dims)
        bound = 1.0 / math.sqrt(input1_dims)
        self.weight = mx.random.uniform(low=-bound, high=bound, shape=(output_dims, input2_dims, input1_dims))
        if bias:
            self.bias = mx.random.uniform(low=-bound, high=bound, shape=(output_dims,))

    def _extra_repr(self) -> str:
        output_dims, input2_dims, input1_dims = self.weight.shape
        dims = f"input1_dims={input1_dims}, input2_dims={input2_dims}, output_dims={output_dims}"
        return f"{dims}, bias={'bias' in self}"

    def __call__(self, x1: mx.array, x2: mx.array) -> mx.array:
        output_dims, input2_dims, input1_dims = self.weight.shape
        rows = self.weight.reshape(output_dims * input2_dims, input1_dims)
        by_output = (x1 @ rows.T).reshape(*x1.shape[:-1], output_dims, input2_dims)
        y = (by_output @ x2[..., None])[..., 0]
        return y + self.bias if "bias" in self else y
