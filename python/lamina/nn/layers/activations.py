"""Activation functions, and the same as layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import lamina.core as mx
from lamina.nn.layers._check import last_axis, positive_int
from lamina.nn.layers.base import Module

_SELU_SCALE = 1.0507009873554805
_SELU_ALPHA = 1.6732632423543772


def sigmoid(x: mx.array) -> mx.array:
    """``1 / (1 + exp(-x))``."""
    return mx.sigmoid(x)


def tanh(x: mx.array) -> mx.array:
    """The hyperbolic tangent."""
    return mx.tanh(x)


def relu(x: mx.array) -> mx.array:
    """``max(x, 0)``; keeps integer dtypes."""
    return mx.maximum(x, 0)


def relu2(x: mx.array) -> mx.array:
    """``max(x, 0) ** 2``; keeps integer dtypes."""
    return mx.square(mx.maximum(x, 0))


def relu6(x: mx.array) -> mx.array:
    """``min(max(x, 0), 6)``."""
    return mx.minimum(mx.maximum(x, 0), 6.0)


def leaky_relu(x: mx.array, negative_slope: float = 0.01) -> mx.array:
    """``max(x, negative_slope * x)``."""
    return mx.maximum(negative_slope * x, x)


def prelu(x: mx.array, alpha: mx.array) -> mx.array:
    """``max(x, 0) + alpha * min(x, 0)``, where ``alpha`` may broadcast against the last axes of ``x``."""
    return mx.maximum(x, 0) + alpha * mx.minimum(x, 0)


def _not_positive(x: mx.array) -> mx.array:
    # For the exponential branch: no overflow where it is not taken, and the slope at 0 stays.
    return mx.where(x > 0, 0, x)


def elu(x: mx.array, alpha: float = 1.0) -> mx.array:
    """``x`` where positive, else ``alpha * (exp(x) - 1)``."""
    return mx.where(x > 0, x, alpha * mx.expm1(_not_positive(x)))


def celu(x: mx.array, alpha: float = 1.0) -> mx.array:
    """``max(x, 0) + alpha * (exp(min(x, 0) / alpha) - 1)``."""
    return mx.where(x > 0, x, alpha * mx.expm1(_not_positive(x) / alpha))


def selu(x: mx.array) -> mx.array:
    """``1.0507... * elu(x, 1.6732...)``, whose fixed constants keep mean 0 and variance 1."""
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


def silu(x: mx.array) -> mx.array:
    """``x * sigmoid(x)``, also known as swish."""
    return x * mx.sigmoid(x)


def gelu(x: mx.array) -> mx.array:
    """``x`` times the standard normal distribution function at ``x``."""
    return x * (1 + mx.erf(x / math.sqrt(2))) / 2


def gelu_approx(x: mx.array) -> mx.array:
    """GELU by tanh: ``0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``."""
    return 0.5 * x * (1 + mx.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))))


def gelu_fast_approx(x: mx.array) -> mx.array:
    """GELU by sigmoid: ``x * sigmoid(1.702 * x)``."""
    return x * mx.sigmoid(1.702 * x)


def mish(x: mx.array) -> mx.array:
    """``x * tanh(softplus(x))``."""
    return x * mx.tanh(softplus(x))


def hardswish(x: mx.array) -> mx.array:
    """``x * min(max(x + 3, 0), 6) / 6``."""
    return x * mx.minimum(mx.maximum(x + 3, 0), 6) / 6


def hard_tanh(x: mx.array, min_val: float = -1.0, max_val: float = 1.0) -> mx.array:
    """``min(max(x, min_val), max_val)``."""
    return mx.minimum(mx.maximum(x, min_val), max_val)


def hard_shrink(x: mx.array, lambd: float = 0.5) -> mx.array:
    """``x`` where ``abs(x) > lambd``, else 0."""
    return mx.where(mx.abs(x) <= lambd, 0, x)


def softshrink(x: mx.array, lambd: float = 0.5) -> mx.array:
    """``x`` moved towards 0 by ``lambd``, and 0 where ``abs(x) <= lambd``."""
    return mx.where(mx.abs(x) <= lambd, 0, x - mx.sign(x) * lambd)


def softplus(x: mx.array) -> mx.array:
    """``log(1 + exp(x))``, without overflow."""
    return mx.logaddexp(x, 0)


def softsign(x: mx.array) -> mx.array:
    """``x / (1 + abs(x))``."""
    return x / (1 + mx.abs(x))


def softmax(x: mx.array, axis: int = -1) -> mx.array:
    """``exp(x) / sum(exp(x))`` along ``axis``, without overflow."""
    return mx.softmax(x, axis=axis)


def softmin(x: mx.array, axis: int = -1) -> mx.array:
    """``softmax(-x)`` along ``axis``."""
    return mx.softmax(-x, axis=axis)


def log_softmax(x: mx.array, axis: int = -1) -> mx.array:
    """``x - log(sum(exp(x)))`` along ``axis``, without overflow."""
    # Shifted first: subtracting the log-sum of large inputs from them would cancel digits.
    shifted = x - mx.stop_gradient(mx.max(x, axis=axis, keepdims=True))
    return shifted - mx.log(mx.sum(mx.exp(shifted), axis=axis, keepdims=True))


def log_sigmoid(x: mx.array) -> mx.array:
    """``log(sigmoid(x))``, without underflow."""
    return -softplus(-x)


def step(x: mx.array, threshold: float = 0.0) -> mx.array:
    """1 where ``x >= threshold``, else 0; an int32 array."""
    return mx.where(x >= threshold, 1, 0)


def glu(x: mx.array, axis: int = -1) -> mx.array:
    """``a * sigmoid(b)`` for the halves ``a`` and ``b`` of ``x`` along ``axis``, whose size must be even."""
    a, b = mx.split(x, 2, axis=axis)
    return a * mx.sigmoid(b)


class _Elementwise(Module):
    """A layer that applies ``function``; the function's documentation becomes part of the layer's."""

    def __init_subclass__(cls, function: Callable[..., mx.array], **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

        def call(_: Module, x: mx.array) -> mx.array:
            return function(x)

        call.__name__ = "__call__"
        cls.__call__ = call
        cls.__doc__ = (
            f"The layer of :func:`{function.__name__}`: {function.__doc__}\n\n"
            "    Shapes: input any, output the same.\n\n"
            "    Examples\n    --------\n"
            "    >>> from lamina import core as mx, nn\n"
            f"    >>> nn.{cls.__name__}()(mx.array([-1.0, 2.0])).shape\n    (2,)\n    "
        )

    def __init__(self):
        super().__init__()


class Sigmoid(_Elementwise, function=sigmoid): ...


class Tanh(_Elementwise, function=tanh): ...


class ReLU(_Elementwise, function=relu): ...


class ReLU2(_Elementwise, function=relu2): ...


class ReLU6(_Elementwise, function=relu6): ...


class SELU(_Elementwise, function=selu): ...


class SiLU(_Elementwise, function=silu): ...


class Mish(_Elementwise, function=mish): ...


class Hardswish(_Elementwise, function=hardswish): ...


class HardTanh(_Elementwise, function=hard_tanh): ...


class Softplus(_Elementwise, function=softplus): ...


class Softsign(_Elementwise, function=softsign): ...


class Softmax(_Elementwise, function=softmax): ...


class Softmin(_Elementwise, function=softmin): ...


class LogSoftmax(_Elementwise, function=log_softmax): ...


class LogSigmoid(_Elementwise, function=log_sigmoid): ...


class LeakyReLU(Module):
    """The layer of :func:`leaky_relu`.

    Shapes: input any, output the same.

    Parameters
    ----------
    negative_slope : float
        Factor for negative entries.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.LeakyReLU(0.5)(mx.array([-1.0, 2.0])).tolist()
    [-0.5, 2.0]
    """

    def __init__(self, negative_slope=0.01):
        super().__init__()
        self._negative_slope = negative_slope

    def __call__(self, x: mx.array) -> mx.array:
        return leaky_relu(x, self._negative_slope)


class PReLU(Module):
    """The layer of :func:`prelu`, whose parameter ``weight`` of shape ``(num_parameters,)`` is learned.

    Shapes: input ``(..., C)``, output the same, where C is ``num_parameters`` or that is 1.

    Parameters
    ----------
    num_parameters : int
        1, or one for each entry of the last axis.
    init : float
        Initial value of the parameters.

    Raises
    ------
    ValueError
        ``num_parameters`` is below 1, or an input's last axis does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.PReLU()(mx.array([-1.0, 2.0])).tolist()
    [-0.25, 2.0]
    """

    def __init__(self, num_parameters=1, init=0.25):
        super().__init__()
        self.weight = mx.full([positive_int("PReLU", "num_parameters", num_parameters)], init)

    def __call__(self, x: mx.array) -> mx.array:
        if self.weight.size != 1:
            last_axis("PReLU", x, self.weight.size)
        return prelu(x, self.weight)


class ELU(Module):
    """The layer of :func:`elu`.

    Shapes: input any, output the same.

    Parameters
    ----------
    alpha : float
        Minus the limit for large negative entries.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.ELU()(mx.array([0.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, alpha=1.0):
        super().__init__()
        self._alpha = alpha

    def __call__(self, x: mx.array) -> mx.array:
        return elu(x, self._alpha)


class CELU(Module):
    """The layer of :func:`celu`.

    Shapes: input any, output the same.

    Parameters
    ----------
    alpha : float
        Minus the limit for large negative entries.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.CELU()(mx.array([0.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, alpha=1.0):
        super().__init__()
        self._alpha = alpha

    def __call__(self, x: mx.array) -> mx.array:
        return celu(x, self._alpha)


class GELU(Module):
    """The layer of :func:`gelu` or one of its approximations.

    Shapes: input any, output the same.

    Parameters
    ----------
    approx : {"none", "precise", "tanh", "fast"}
        ``"none"`` for :func:`gelu`, ``"precise"`` or ``"tanh"`` for :func:`gelu_approx`, ``"fast"`` for
        :func:`gelu_fast_approx`.

    Raises
    ------
    ValueError
        ``approx`` is none of these.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> round(nn.GELU()(mx.array([1.0])).item(), 4)
    0.8413
    """

    _FUNCTIONS: ClassVar = {
        "none": gelu,
        "precise": gelu_approx,
        "tanh": gelu_approx,
        "fast": gelu_fast_approx,
    }

    def __init__(self, approx="none"):
        super().__init__()
        if approx not in self._FUNCTIONS:
            raise ValueError(f"[GELU] approx must be one of {list(self._FUNCTIONS)}, got {approx!r}")
        self._approx = approx

    def __call__(self, x: mx.array) -> mx.array:
        return self._FUNCTIONS[self._approx](x)


class GLU(Module):
    """The layer of :func:`glu`.

    Shapes: input with an even size along ``axis``, output with half of it.

    Parameters
    ----------
    axis : int
        Along which to split.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.GLU()(mx.array([[4.0, 0.0]])).tolist()
    [[2.0]]
    """

    def __init__(self, axis: int = -1):
        super().__init__()
        self.axis = axis

    def __call__(self, x: mx.array) -> mx.array:
        return glu(x, axis=self.axis)


class HardShrink(Module):
    """The layer of :func:`hard_shrink`.

    Shapes: input any, output the same.

    Parameters
    ----------
    lambd : float
        Entries up to this magnitude become 0.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.HardShrink()(mx.array([0.5, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, lambd=0.5):
        super().__init__()
        self.lambd = lambd

    def __call__(self, x: mx.array) -> mx.array:
        return hard_shrink(x, self.lambd)


class Softshrink(Module):
    """The layer of :func:`softshrink`.

    Shapes: input any, output the same.

    Parameters
    ----------
    lambd : float
        How far entries move towards 0.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.Softshrink()(mx.array([0.5, 2.0])).tolist()
    [0.0, 1.5]
    """

    def __init__(self, lambd=0.5):
        super().__init__()
        self.lambd = lambd

    def __call__(self, x: mx.array) -> mx.array:
        return softshrink(x, self.lambd)


class Step(Module):
    """The layer of :func:`step`.

    Shapes: input any, output the same.

    Parameters
    ----------
    threshold : float
        The least entry that gives 1.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.Step(1.0)(mx.array([0.5, 2.0])).tolist()
    [0, 1]
    """

    def __init__(self, threshold: float = 0.0):
        super().__init__()
        self.threshold = threshold

    def __call__(self, x: mx.array) -> mx.array:
        return step(x, self.threshold)
