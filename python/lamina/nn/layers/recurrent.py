"""Recurrent layers: RNN, GRU and LSTM."""

from __future__ import annotations

import math
from collections.abc import Callable

import lamina.core as mx
from lamina.nn.layers._check import last_axis, positive_int
from lamina.nn.layers.activations import tanh
from lamina.nn.layers.base import Module

__all__ = ["GRU", "LSTM", "RNN"]


class _Recurrent(Module):
    """What the layers share: sizes, uniform weights within ``±1 / sqrt(hidden_size)``, the input's part."""

    hidden_size: int

    def _set_sizes(self, input_size: int, hidden_size: int) -> float:
        """Set and check the sizes and return the bound of the initial weights."""
        name = type(self).__name__
        positive_int(name, "input_size", input_size)
        self.hidden_size = positive_int(name, "hidden_size", hidden_size)
        return 1.0 / math.sqrt(hidden_size)

    def _inputs(self, x: mx.array, weight: mx.array, bias: mx.array | None) -> mx.array:
        """The input's part of all steps at once: ``x @ weight.T + bias``."""
        if x.ndim < 2:
            raise ValueError(
                f"[{type(self).__name__}] the input must have at least 2 axes, got shape {x.shape}"
            )
        last_axis(type(self).__name__, x, weight.shape[-1])
        return x @ weight.T if bias is None else mx.addmm(bias, x, weight.T)

    def _stacked(self, states: list[mx.array], x: mx.array) -> mx.array:
        """The states of all steps as one array; with no steps, an empty one."""
        if not states:
            return mx.zeros((*x.shape[:-2], 0, self.hidden_size), dtype=x.dtype)
        return mx.stack(states, axis=-2)


class RNN(_Recurrent):
    """Elman's recurrent layer: ``h = nonlinearity(x @ Wxh.T + h @ Whh.T + bias)``, step by step.

    Shapes: input ``(..., L, input_size)``, hidden state ``(..., hidden_size)``, output ``(..., L,
    hidden_size)``, the hidden states of all steps; parameters ``Wxh`` of shape ``(hidden_size, input_size)``,
    ``Whh`` of ``(hidden_size, hidden_size)`` and ``bias`` of ``(hidden_size,)``.

    Parameters
    ----------
    input_size : int
        Entries of the input's last axis.
    hidden_size : int
        Entries of the hidden state.
    bias : bool
        Whether to add a bias.
    nonlinearity : callable, optional
        The activation; ``tanh`` if not given.

    Raises
    ------
    ValueError
        A size is below 1, ``nonlinearity`` is not callable, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.RNN(3, 4)(mx.ones((2, 5, 3))).shape
    (2, 5, 4)
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: Callable | None = None
    ):
        super().__init__()
        bound = self._set_sizes(input_size, hidden_size)
        if nonlinearity is not None and not callable(nonlinearity):
            raise ValueError(f"[RNN] nonlinearity must be callable, got {nonlinearity!r}")
        self.nonlinearity = tanh if nonlinearity is None else nonlinearity
        self.Wxh = mx.random.uniform(low=-bound, high=bound, shape=(hidden_size, input_size))
        self.Whh = mx.random.uniform(low=-bound, high=bound, shape=(hidden_size, hidden_size))
        self.bias = mx.random.uniform(low=-bound, high=bound, shape=(hidden_size,)) if bias else None

    def _extra_repr(self) -> str:
        return (
            f"input_dims={self.Wxh.shape[1]}, hidden_size={self.hidden_size}, "
            f"nonlinearity={self.nonlinearity}, bias={self.bias is not None}"
        )

    def __call__(self, x: mx.array, hidden: mx.array | None = None) -> mx.array:
        inputs = self._inputs(x, self.Wxh, self.bias)
        states = []
        for step in range(x.shape[-2]):
            total = inputs[..., step, :]
            if hidden is not None:
                total = mx.addmm(total, hidden, self.Whh.T)
            hidden = self.nonlinearity(total)
            states.append(hidden)
        return self._stacked(states, x)


class GRU(_Recurrent):
    """Gated recurrent unit.

    With gates ``r`` and ``z``, step by step: ``r = sigmoid(xr + h @ Whr.T)``, ``z = sigmoid(xz + h @
    Whz.T)``, ``n = tanh(xn + r * (h @ Whn.T + bhn))`` and ``h = (1 - z) * n + z * h``, where ``xr``, ``xz``
    and ``xn`` are the thirds of ``x @ Wx.T + b``.

    Shapes: input ``(..., L, input_size)``, hidden state ``(..., hidden_size)``, output ``(..., L,
    hidden_size)``, the hidden states of all steps; parameters ``Wx`` of shape ``(3 * hidden_size,
    input_size)``, ``Wh`` of ``(3 * hidden_size, hidden_size)``, ``b`` of ``(3 * hidden_size,)`` and ``bhn``
    of ``(hidden_size,)``.

    Parameters
    ----------
    input_size : int
        Entries of the input's last axis.
    hidden_size : int
        Entries of the hidden state.
    bias : bool
        Whether to add the biases.

    Raises
    ------
    ValueError
        A size is below 1, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.GRU(3, 4)(mx.ones((2, 5, 3))).shape
    (2, 5, 4)
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True):
        super().__init__()
        bound = self._set_sizes(input_size, hidden_size)
        self.Wx = mx.random.uniform(low=-bound, high=bound, shape=(3 * hidden_size, input_size))
        self.Wh = mx.random.uniform(low=-bound, high=bound, shape=(3 * hidden_size, hidden_size))
        self.b = mx.random.uniform(low=-bound, high=bound, shape=(3 * hidden_size,)) if bias else None
        self.bhn = mx.random.uniform(low=-bound, high=bound, shape=(hidden_size,)) if bias else None

    def _extra_repr(self) -> str:
        return f"input_dims={self.Wx.shape[1]}, hidden_size={self.hidden_size}, bias={self.b is not None}"

    def __call__(self, x: mx.array, hidden: mx.array | None = None) -> mx.array:
        inputs = self._inputs(x, self.Wx, self.b)
        thirds = [self.hidden_size, 2 * self.hidden_size]
        states = []
        for step in range(x.shape[-2]):
            if hidden is None:
                hidden = mx.zeros((*x.shape[:-2], self.hidden_size), dtype=inputs.dtype)
            xr, xz, xn = mx.split(inputs[..., step, :], thirds, axis=-1)
            hr, hz, hn = mx.split(hidden @ self.Wh.T, thirds, axis=-1)
            if self.bhn is not None:
                hn = hn + self.bhn
            r, z = mx.sigmoid(xr + hr), mx.sigmoid(xz + hz)
            hidden = (1 - z) * mx.tanh(xn + r * hn) + z * hidden
            states.append(hidden)
        return self._stacked(states, x)


class LSTM(_Recurrent):
    """Long short-term memory.

    With gates from the quarters of ``x @ Wx.T + h @ Wh.T + bias``, step by step: ``i = sigmoid(.)``, ``f =
    sigmoid(.)``, ``g = tanh(.)``, ``o = sigmoid(.)``, ``c = f * c + i * g`` and ``h = o * tanh(c)``.

    Shapes: input ``(..., L, input_size)``, hidden and cell state ``(..., hidden_size)``, output two arrays of
    ``(..., L, hidden_size)``, the hidden and the cell states of all steps; parameters ``Wx`` of shape ``(4 *
    hidden_size, input_size)``, ``Wh`` of ``(4 * hidden_size, hidden_size)`` and ``bias`` of ``(4 *
    hidden_size,)``.

    Parameters
    ----------
    input_size : int
        Entries of the input's last axis.
    hidden_size : int
        Entries of each state.
    bias : bool
        Whether to add a bias.

    Raises
    ------
    ValueError
        A size is below 1, or an input's shape does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> hidden, cell = nn.LSTM(3, 4)(mx.ones((2, 5, 3)))
    >>> hidden.shape, cell.shape
    ((2, 5, 4), (2, 5, 4))
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True):
        super().__init__()
        bound = self._set_sizes(input_size, hidden_size)
        self.Wx = mx.random.uniform(low=-bound, high=bound, shape=(4 * hidden_size, input_size))
        self.Wh = mx.random.uniform(low=-bound, high=bound, shape=(4 * hidden_size, hidden_size))
        self.bias = mx.random.uniform(low=-bound, high=bound, shape=(4 * hidden_size,)) if bias else None

    def _extra_repr(self) -> str:
        return f"input_dims={self.Wx.shape[1]}, hidden_size={self.hidden_size}, bias={self.bias is not None}"

    def __call__(
        self, x: mx.array, hidden: mx.array | None = None, cell: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        inputs = self._inputs(x, self.Wx, self.bias)
        hiddens, cells = [], []
        for step in range(x.shape[-2]):
            total = inputs[..., step, :]
            if hidden is not None:
                total = mx.addmm(total, hidden, self.Wh.T)
            i, f, g, o = mx.split(total, 4, axis=-1)
            fresh = mx.sigmoid(i) * mx.tanh(g)
            cell = fresh if cell is None else mx.sigmoid(f) * cell + fresh
            hidden = mx.sigmoid(o) * mx.tanh(cell)
            hiddens.append(hidden)
            cells.append(cell)
        return self._stacked(hiddens, x), self._stacked(cells, x)
