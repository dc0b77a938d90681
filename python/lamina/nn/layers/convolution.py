"""Convolutions and transposed convolutions over 1, 2 and 3 spatial axes, channels last."""

from __future__ import annotations

import math
from typing import Any

import lamina.core as mx
from lamina.nn.layers._check import ints_per_axis, last_axis, positive_int
from lamina.nn.layers.base import Module

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

IntOrTuple = int | tuple


class _Convolution(Module):
    """What all share: ``weight`` of shape ``(out, *kernel, in / groups)`` and ``bias`` of ``(out,)``."""

    _axes: int

    def _make_parameters(
        self, in_channels: int, out_channels: int, kernel_size: IntOrTuple, groups: int, bias: bool
    ) -> None:
        name = type(self).__name__
        in_channels = positive_int(name, "in_channels", in_channels)
        out_channels = positive_int(name, "out_channels", out_channels)
        kernel = ints_per_axis(name, "kernel_size", kernel_size, self._axes, least=1)
        groups = positive_int(name, "groups", groups)
        for what, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"[{name}] groups must divide {what}, got {groups} and {channels}")
        shape = (out_channels, *kernel, in_channels // groups)
        bound = math.sqrt(1 / math.prod(shape[1:]))
        self.weight = mx.random.uniform(low=-bound, high=bound, shape=shape)
        if bias:
            self.bias = mx.zeros((out_channels,))

    def _per_axis(self, name: str, value: Any, least: int) -> Any:
        """A checked setting: a number with one axis, else a tuple with one number per axis."""
        numbers = ints_per_axis(type(self).__name__, name, value, self._axes, least)
        return numbers[0] if self._axes == 1 else numbers

    def _settings(self) -> str:
        raise NotImplementedError(f"{type(self).__name__} does not define _settings")

    def _extra_repr(self) -> str:
        out_channels, *kernel, in_channels = self.weight.shape
        in_channels *= getattr(self, "groups", 1)
        kernel_size = kernel[0] if self._axes == 1 else tuple(kernel)
        sizes = f"{in_channels}, {out_channels}, kernel_size={kernel_size}"
        return f"{sizes}, {self._settings()}, bias={'bias' in self}"

    def _checked(self, x: mx.array) -> mx.array:
        name = type(self).__name__
        if x.ndim != self._axes + 2:
            raise ValueError(f"[{name}] the input must have {self._axes + 2} axes, got shape {x.shape}")
        last_axis(name, x, self.weight.shape[-1] * getattr(self, "groups", 1))
        return x

    def _with_bias(self, y: mx.array) -> mx.array:
        return y + self["bias"] if "bias" in self else y


class _Conv(_Convolution):
    """A convolution with ``groups``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrTuple,
        stride: IntOrTuple = 1,
        padding: IntOrTuple = 0,
        dilation: IntOrTuple = 1,
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        self._make_parameters(in_channels, out_channels, kernel_size, groups, bias)
        self.padding = self._per_axis("padding", padding, least=0)
        self.stride = self._per_axis("stride", stride, least=1)
        checked = self._per_axis("dilation", dilation, least=1)
        self.dilation: Any = checked if self._axes == 1 else dilation
        self.groups = groups

    def _settings(self) -> str:
        return f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, groups={self.groups}"


class Conv1d(_Conv):
    """Convolution over sequences.

    Shapes: input ``(N, L, in_channels)``, output ``(N, L', out_channels)`` with ``L' = (L + 2 * padding -
    dilation * (kernel_size - 1) - 1) // stride + 1``; parameters ``weight`` of shape ``(out_channels,
    kernel_size, in_channels / groups)``, drawn uniformly from ``±1 / sqrt(kernel_size * in_channels /
    groups)``, and ``bias`` of shape ``(out_channels,)``, initially 0.

    Parameters
    ----------
    in_channels, out_channels : int
        Numbers of channels.
    kernel_size : int
        Length of the kernel.
    stride : int
        Step of the kernel.
    padding : int
        Zeros added at both ends.
    dilation : int
        Distance of the kernel's taps.
    groups : int
        Number of groups of channels that are convolved on their own; it divides both numbers of channels.
    bias : bool
        Whether to add a bias.

    Raises
    ------
    ValueError
        A setting is out of range, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.Conv1d(4, 8, kernel_size=3)(mx.ones((2, 10, 4))).shape
    (2, 8, 8)
    """

    _axes = 1

    def __call__(self, x: mx.array) -> mx.array:
        y = mx.conv1d(self._checked(x), self["weight"], self.stride, self.padding, self.dilation, self.groups)
        return self._with_bias(y)


class Conv2d(_Conv):
    """Convolution over images.

    Shapes: input ``(N, H, W, in_channels)``, output ``(N, H', W', out_channels)`` with sizes as for
    :class:`Conv1d`; parameters ``weight`` of shape ``(out_channels, *kernel_size, in_channels / groups)`` and
    ``bias`` of shape ``(out_channels,)``, initialized as there.

    Parameters
    ----------
    in_channels, out_channels : int
        Numbers of channels.
    kernel_size, stride, padding, dilation : int or (int, int)
        As for :class:`Conv1d`, along H and W.
    groups, bias
        As for :class:`Conv1d`.

    Raises
    ------
    ValueError
        A setting is out of range, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.Conv2d(3, 8, kernel_size=3, padding=1, stride=2)(mx.ones((2, 8, 8, 3))).shape
    (2, 4, 4, 8)
    """

    _axes = 2

    def __call__(self, x: mx.array) -> mx.array:
        y = mx.conv2d(self._checked(x), self["weight"], self.stride, self.padding, self.dilation, self.groups)
        return self._with_bias(y)


class Conv3d(_Convolution):
    """Convolution over volumes.

    Shapes: input ``(N, D, H, W, in_channels)``, output ``(N, D', H', W', out_channels)`` with sizes as for
    :class:`Conv1d`; parameters ``weight`` of shape ``(out_channels, *kernel_size, in_channels)`` and ``bias``
    of shape ``(out_channels,)``, initialized as there.

    Parameters
    ----------
    in_channels, out_channels : int
        Numbers of channels.
    kernel_size, stride, padding, dilation : int or (int, int, int)
        As for :class:`Conv1d`, along D, H and W.
    bias : bool
        Whether to add a bias.

    Raises
    ------
    ValueError
        A setting is out of range, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.Conv3d(2, 4, kernel_size=3)(mx.ones((1, 5, 5, 5, 2))).shape
    (1, 3, 3, 3, 4)
    """

    _axes = 3

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrTuple,
        stride: IntOrTuple = 1,
        padding: IntOrTuple = 0,
        dilation: IntOrTuple = 1,
        bias: bool = True,
    ):
        super().__init__()
        self._make_parameters(in_channels, out_channels, kernel_size, 1, bias)
        self.padding = self._per_axis("padding", padding, least=0)
        self.stride = self._per_axis("stride", stride, least=1)
        checked = self._per_axis("dilation", dilation, least=1)
        self.dilation: Any = checked if self._axes == 1 else dilation

    def _settings(self) -> str:
        return f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}"

    def __call__(self, x: mx.array) -> mx.array:
        y = mx.conv3d(self._checked(x), self["weight"], self.stride, self.padding, self.dilation)
        return self._with_bias(y)


class _ConvTranspose(_Convolution):
    """A transposed convolution with ``output_padding``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrTuple,
        stride: IntOrTuple = 1,
        padding: IntOrTuple = 0,
        dilation: IntOrTuple = 1,
        output_padding: IntOrTuple = 0,
        bias: bool = True,
    ):
        super().__init__()
        self._make_parameters(in_channels, out_channels, kernel_size, 1, bias)
        self.padding = self._per_axis("padding", padding, least=0)
        self.stride = self._per_axis("stride", stride, least=1)
        checked = self._per_axis("dilation", dilation, least=1)
        self.dilation: Any = checked if self._axes == 1 else dilation
        self.output_padding = self._per_axis("output_padding", output_padding, least=0)

    def _settings(self) -> str:
        return (
            f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"output_padding={self.output_padding}"
        )


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution over sequences: the map whose gradient is a convolution.

    Shapes: input ``(N, L, in_channels)``, output ``(N, L', out_channels)`` with ``L' = (L - 1) * stride - 2 *
    padding + dilation * (kernel_size - 1) + output_padding + 1``; parameters ``weight`` of shape
    ``(out_channels, kernel_size, in_channels)`` and ``bias`` of shape ``(out_channels,)``, initialized as for
    :class:`Conv1d`.

    Parameters
    ----------
    in_channels, out_channels : int
        Numbers of channels.
    kernel_size, stride, padding, dilation : int
        Those of the convolution.
    output_padding : int
        Added to the output's length.
    bias : bool
        Whether to add a bias.

    Raises
    ------
    ValueError
        A setting is out of range, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.ConvTranspose1d(4, 8, kernel_size=3, stride=2)(mx.ones((2, 5, 4))).shape
    (2, 11, 8)
    """

    _axes = 1

    def __call__(self, x: mx.array) -> mx.array:
        y = mx.conv_transpose1d(
            self._checked(x), self["weight"], self.stride, self.padding, self.dilation, self.output_padding
        )
        return self._with_bias(y)


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution over images.

    Shapes: input ``(N, H, W, in_channels)``, output ``(N, H', W', out_channels)`` with sizes as for
    :class:`ConvTranspose1d`; parameters ``weight`` of shape ``(out_channels, *kernel_size, in_channels)`` and
    ``bias`` of shape ``(out_channels,)``.

    Parameters
    ----------
    in_channels, out_channels : int
        Numbers of channels.
    kernel_size, stride, padding, dilation, output_padding : int or (int, int)
        As for :class:`ConvTranspose1d`, along H and W.
    bias : bool
        Whether to add a bias.

    Raises
    ------
    ValueError
        A setting is out of range, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.ConvTranspose2d(3, 8, kernel_size=2, stride=2)(mx.ones((2, 4, 4, 3))).shape
    (2, 8, 8, 8)
    """

    _axes = 2

    def __call__(self, x: mx.array) -> mx.array:
        y = mx.conv_transpose2d(
            self._checked(x), self["weight"], self.stride, self.padding, self.dilation, self.output_padding
        )
        return self._with_bias(y)


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution over volumes.

    Shapes: input ``(N, D, H, W, in_channels)``, output ``(N, D', H', W', out_channels)`` with sizes as for
    :class:`ConvTranspose1d`; parameters ``weight`` of shape ``(out_channels, *kernel_size, in_channels)`` and
    ``bias`` of shape ``(out_channels,)``.

    Parameters
    ----------
    in_channels, out_channels : int
        Numbers of channels.
    kernel_size, stride, padding, dilation, output_padding : int or (int, int, int)
        As for :class:`ConvTranspose1d`, along D, H and W.
    bias : bool
        Whether to add a bias.

    Raises
    ------
    ValueError
        A setting is out of range, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.ConvTranspose3d(2, 4, kernel_size=2, stride=2)(mx.ones((1, 2, 2, 2, 2))).shape
    (1, 4, 4, 4, 4)
    """

    _axes = 3

    def __call__(self, x: mx.array) -> mx.array:
        y = mx.conv_transpose3d(
            self._checked(x), self["weight"], self.stride, self.padding, self.dilation, self.output_padding
        )
        return self._with_bias(y)
