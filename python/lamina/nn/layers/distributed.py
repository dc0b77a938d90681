"""Layers whose parameters are spread over a group of processes: in this build a group of one.

In a group of one a layer holds all of its parameters, and what it would exchange with others is its own: each
layer computes what its plain counterpart does. Larger groups are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import lamina.core as mx
from lamina.nn.layers._check import group_of_one, positive_int
from lamina.nn.layers.base import Module
from lamina.nn.layers.linear import Linear
from lamina.nn.layers.quantized import QuantizedLinear
from lamina.utils import tree_flatten, tree_map

__all__ = [
    "AllToShardedLinear",
    "FullyShardedModule",
    "QuantizedAllToShardedLinear",
    "QuantizedShardedToAllLinear",
    "ShardedToAllLinear",
    "fully_shard",
    "shard_inplace",
    "shard_linear",
    "sum_gradients",
]

_SHARDINGS = ("all-to-sharded", "sharded-to-all")
Segments = int | Sequence[int | float]
_Layer = TypeVar("_Layer", bound="_Sharded")
_Packed = TypeVar("_Packed", bound="_QuantizedSharded")


def _check_segments(where: str, axis_length: int, segments: Segments) -> None:
    """Segments say how a fused weight would be cut: into equal parts, or at these places."""
    if isinstance(segments, int):
        if segments < 1 or axis_length % segments:
            raise ValueError(f"{where}: {segments} segments do not divide an axis of length {axis_length}")
        return
    cuts = [round(s * axis_length) if isinstance(s, float) else s for s in segments]
    if cuts != sorted(cuts) or any(not 0 <= c <= axis_length for c in cuts):
        raise ValueError(f"{where}: segments must ascend within {axis_length}, got {list(segments)}")


def _check_sharding(where: str, sharding: str) -> None:
    if sharding not in _SHARDINGS:
        raise ValueError(f"{where}: sharding must be one of {', '.join(_SHARDINGS)}, got {sharding!r}")


class _Sharded(Module):
    """What the sharded linear layers share: a weight, a bias, and the group."""

    # The axis of the weight that a larger group would share out.
    _axis = 0

    def __init__(
        self, input_dims: int, output_dims: int, bias: bool = True, group: mx.distributed.Group | None = None
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.group = group_of_one(name, group)
        plain = Linear(
            positive_int(name, "input_dims", input_dims), positive_int(name, "output_dims", output_dims), bias
        )
        self.weight = plain.weight
        if bias:
            self.bias = plain.bias

    def _extra_repr(self) -> str:
        output_dims, input_dims = self.weight.shape
        return f"input_dims={input_dims}, output_dims={output_dims}, bias={'bias' in self}"

    def __call__(self, x: mx.array) -> mx.array:
        if "bias" in self:
            return mx.addmm(self["bias"], x, self["weight"].T)
        return x @ self["weight"].T

    @classmethod
    def from_linear(
        cls: type[_Layer],
        linear_layer: Module,
        *,
        segments: Segments = 1,
        group: mx.distributed.Group | None = None,
    ) -> _Layer:
        """Take over the parameters of a linear layer.

        Parameters
        ----------
        linear_layer : Linear
            The layer to start from.
        segments : int or list
            How many parts a fused weight has, or where they begin; each would be shared out by itself.
        group : mx.distributed.Group, optional
            The group; the global one if not given.

        Returns
        -------
        AllToShardedLinear or ShardedToAllLinear
            The new layer.

        Raises
        ------
        TypeError
            The layer has no weight.
        ValueError
            The segments do not fit.

        Examples
        --------
        >>> from lamina import nn
        >>> nn.AllToShardedLinear.from_linear(nn.Linear(4, 6), segments=3)
        AllToShardedLinear(input_dims=4, output_dims=6, bias=True)
        """
        layer = cls.__new__(cls)
        Module.__init__(layer)
        layer.group = group_of_one(cls.__name__, group)
        if "weight" not in linear_layer:
            raise TypeError(f"{cls.__name__}: wants a linear layer, got {type(linear_layer).__name__}")
        _check_segments(cls.__name__, linear_layer.weight.shape[cls._axis], segments)
        layer.weight = linear_layer.weight
        if "bias" in linear_layer:
            layer.bias = linear_layer.bias
        return layer


class AllToShardedLinear(_Sharded):
    """:class:`Linear` whose outputs are spread over the group; in a group of one the layer itself.

    Shapes: input ``(..., input_dims)``, output ``(..., output_dims)``; parameters as those of
    :class:`Linear`.

    Parameters
    ----------
    input_dims : int
        Entries of the input's last axis.
    output_dims : int
        Entries of the output's last axis.
    bias : bool
        Whether to add a bias.
    group : mx.distributed.Group, optional
        The group; the global one if not given.

    Raises
    ------
    NotImplementedError
        The group has more than one process.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.AllToShardedLinear(4, 2)(mx.ones((3, 4))).shape
    (3, 2)
    """


class ShardedToAllLinear(_Sharded):
    """:class:`Linear` whose inputs are spread over the group; in a group of one the layer itself.

    Shapes: input ``(..., input_dims)``, output ``(..., output_dims)``; parameters as those of
    :class:`Linear`.

    Parameters
    ----------
    input_dims : int
        Entries of the input's last axis.
    output_dims : int
        Entries of the output's last axis.
    bias : bool
        Whether to add a bias.
    group : mx.distributed.Group, optional
        The group; the global one if not given.

    Raises
    ------
    NotImplementedError
        The group has more than one process.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.ShardedToAllLinear(4, 2, bias=False)(mx.ones((3, 4))).shape
    (3, 2)
    """

    _axis = 1


class _QuantizedSharded(QuantizedLinear):
    """What the sharded quantized layers share."""

    _axis = 0

    def __init__(
        self,
        input_dims: int,
        output_dims: int,
        bias: bool = True,
        group_size: int = 64,
        bits: int = 4,
        mode: str = "affine",
        group: mx.distributed.Group | None = None,
    ) -> None:
        one = group_of_one(type(self).__name__, group)
        super().__init__(input_dims, output_dims, bias, group_size, bits, mode)
        self.group = one

    def unfreeze(self, *args: Any, **kwargs: Any) -> Module:
        """Unfreeze what lies below; the layer's own parameters are packed and stay frozen.

        Parameters
        ----------
        *args, **kwargs
            As for :meth:`Module.unfreeze`.

        Returns
        -------
        Module
            The layer.

        Examples
        --------
        >>> from lamina import nn
        >>> nn.QuantizedAllToShardedLinear(64, 8).unfreeze().trainable_parameters()
        {}
        """
        super().unfreeze(*args, **kwargs)
        self.freeze(recurse=False)
        return self

    @classmethod
    def from_quantized_linear(
        cls: type[_Packed],
        quantized_linear_layer: Module,
        *,
        segments: Segments = 1,
        group: mx.distributed.Group | None = None,
    ) -> _Packed:
        """Take over the packed parameters of a quantized linear layer.

        Parameters
        ----------
        quantized_linear_layer : QuantizedLinear
            The layer to start from.
        segments : int or list
            How many parts a fused weight has, or where they begin; each would be shared out by itself.
        group : mx.distributed.Group, optional
            The group; the global one if not given.

        Returns
        -------
        QuantizedAllToShardedLinear or QuantizedShardedToAllLinear
            The new layer, frozen.

        Raises
        ------
        TypeError
            The layer is not quantized.
        ValueError
            The segments do not fit.

        Examples
        --------
        >>> from lamina import nn
        >>> plain = nn.QuantizedLinear(64, 8, bits=8)
        >>> nn.QuantizedShardedToAllLinear.from_quantized_linear(plain).bits
        8
        """
        layer = cls.__new__(cls)
        Module.__init__(layer)
        layer.group = group_of_one(cls.__name__, group)
        if not isinstance(quantized_linear_layer, QuantizedLinear):
            got = type(quantized_linear_layer).__name__
            raise TypeError(f"{cls.__name__}: wants a QuantizedLinear, got {got}")
        source = quantized_linear_layer
        length = source.weight.shape[0] if cls._axis == 0 else source._unpacked_dims()
        _check_segments(cls.__name__, length, segments)
        layer._set_format(source.group_size, source.bits, source.mode)
        for name in ("weight", "scales", "biases", "bias"):
            if name in source:
                setattr(layer, name, source[name])
        layer.freeze()
        return layer


class QuantizedAllToShardedLinear(_QuantizedSharded):
    """:class:`QuantizedLinear` whose outputs are spread over the group; in a group of one the layer itself.

    Shapes and parameters: as those of :class:`QuantizedLinear`. A layer is frozen and stays so.

    Parameters
    ----------
    input_dims, output_dims, bias, group_size, bits, mode
        As for :class:`QuantizedLinear`.
    group : mx.distributed.Group, optional
        The group; the global one if not given.

    Raises
    ------
    NotImplementedError
        The group has more than one process.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.QuantizedAllToShardedLinear(64, 8)(mx.ones((2, 64))).shape
    (2, 8)
    """


class QuantizedShardedToAllLinear(_QuantizedSharded):
    """:class:`QuantizedLinear` whose inputs are spread over the group; in a group of one the layer itself.

    Shapes and parameters: as those of :class:`QuantizedLinear`. A layer is frozen and stays so.

    Parameters
    ----------
    input_dims, output_dims, bias, group_size, bits, mode
        As for :class:`QuantizedLinear`.
    group : mx.distributed.Group, optional
        The group; the global one if not given.

    Raises
    ------
    NotImplementedError
        The group has more than one process.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.QuantizedShardedToAllLinear(64, 8, bits=8)(mx.ones((2, 64))).shape
    (2, 8)
    """

    _axis = 1


class FullyShardedModule(Module):
    """A module whose parameters are spread over the group and put together for each call.

    In a group of one the module holds all of its parameters; with ``compute_dtype`` they are converted for
    the length of a call, while gradients and updates are those of the stored ones.

    Shapes: those of the module.

    Parameters
    ----------
    module : Module
        The module.
    group : mx.distributed.Group, optional
        The group; the global one if not given.
    compute_dtype : mx.Dtype, optional
        Dtype of the floating parameters in a call.

    Raises
    ------
    TypeError
        The argument is no module.
    NotImplementedError
        The group has more than one process.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> half = nn.FullyShardedModule(nn.Linear(4, 2), compute_dtype=mx.float16)
    >>> half(mx.ones((3, 4), mx.float16)).dtype
    lamina.core.float16
    """

    def __init__(
        self,
        module: Module,
        group: mx.distributed.Group | None = None,
        compute_dtype: mx.Dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(module, Module):
            raise TypeError(f"FullyShardedModule: wants a Module, got {type(module).__name__}")
        self._group = group_of_one("FullyShardedModule", group)
        self._compute_dtype = compute_dtype
        self.module = module

    def _extra_repr(self) -> str:
        return f"num_sharded_params={len(tree_flatten(self.module.parameters()))}"

    def _run(self, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call with parameters of the compute dtype, and put the stored ones back."""
        dtype = self._compute_dtype
        if dtype is None:
            return call(*args, **kwargs)
        stored = self.module.parameters()
        self.module.update(
            tree_map(lambda p: p.astype(dtype) if mx.issubdtype(p.dtype, mx.floating) else p, stored)
        )
        try:
            return call(*args, **kwargs)
        finally:
            self.module.update(stored)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self.module, args, kwargs)

    def as_linear(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module's ``as_linear``, as embeddings have it.

        Parameters
        ----------
        *args, **kwargs
            Its arguments.

        Returns
        -------
        array
            Its result.

        Examples
        --------
        >>> from lamina import core as mx, nn
        >>> nn.FullyShardedModule(nn.Embedding(10, 4)).as_linear(mx.ones((2, 4))).shape
        (2, 10)
        """
        return self._run(self.module.as_linear, args, kwargs)


def fully_shard(
    module: Module, *, group: mx.distributed.Group | None = None, compute_dtype: mx.Dtype | None = None
) -> Module:
    """Spread a module's parameters over the group; in a group of one the module itself is returned.

    Parameters
    ----------
    module : Module
        The module.
    group : mx.distributed.Group, optional
        The group; the global one if not given.
    compute_dtype : mx.Dtype, optional
        As for :class:`FullyShardedModule`; without effect in a group of one.

    Returns
    -------
    Module
        The module.

    Raises
    ------
    TypeError
        The argument is no module.
    NotImplementedError
        The group has more than one process.

    Examples
    --------
    >>> from lamina import nn
    >>> layer = nn.Linear(4, 2)
    >>> nn.fully_shard(layer) is layer
    True
    """
    if not isinstance(module, Module):
        raise TypeError(f"fully_shard: wants a Module, got {type(module).__name__}")
    group_of_one("fully_shard", group)
    return module


def sum_gradients(group: mx.distributed.Group | None = None) -> Callable[[mx.array], mx.array]:
    """Return a function that passes its argument on and sums the gradients of a group.

    In a group of one that is the identity.

    Parameters
    ----------
    group : mx.distributed.Group, optional
        The group; the global one if not given.

    Returns
    -------
    callable
        Takes an array of any shape and dtype, and returns it.

    Raises
    ------
    NotImplementedError
        The group has more than one process.

    Examples
    --------
    >>> from lamina import core as mx
    >>> from lamina.nn.layers.distributed import sum_gradients
    >>> sum_gradients(mx.distributed.init())(mx.array([1.0, 2.0]))
    array([1, 2], dtype=float32)
    """
    group_of_one("sum_gradients", group)
    return lambda x: x


def shard_linear(
    module: Module,
    sharding: str,
    *,
    segments: Segments = 1,
    group: mx.distributed.Group | None = None,
) -> Module:
    """Return the sharded counterpart of a linear layer, quantized or not.

    Parameters
    ----------
    module : Linear or QuantizedLinear
        The layer.
    sharding : {"all-to-sharded", "sharded-to-all"}
        Whether outputs or inputs would be spread.
    segments : int or list
        As for :meth:`AllToShardedLinear.from_linear`.
    group : mx.distributed.Group, optional
        The group; the global one if not given.

    Returns
    -------
    Module
        The new layer.

    Raises
    ------
    ValueError
        There is no such sharding, or the segments do not fit.

    Examples
    --------
    >>> from lamina import nn
    >>> from lamina.nn.layers.distributed import shard_linear
    >>> shard_linear(nn.Linear(4, 6), "sharded-to-all")
    ShardedToAllLinear(input_dims=4, output_dims=6, bias=True)
    """
    _check_sharding("shard_linear", sharding)
    outputs = sharding == _SHARDINGS[0]
    if isinstance(module, QuantizedLinear):
        packed = QuantizedAllToShardedLinear if outputs else QuantizedShardedToAllLinear
        return packed.from_quantized_linear(module, segments=segments, group=group)
    plain = AllToShardedLinear if outputs else ShardedToAllLinear
    return plain.from_linear(module, segments=segments, group=group)


def shard_inplace(
    module: Module,
    sharding: str | Callable[[str, mx.array], Any],
    *,
    segments: Segments = 1,
    group: mx.distributed.Group | None = None,
) -> None:
    """Replace a module's parameters by this process's share; in a group of one they are that share.

    Parameters
    ----------
    module : Module
        The module.
    sharding : str or callable
        As for :func:`shard_linear`, or a function of a parameter's path and value that gives its axis.
    segments : int or list
        As for :meth:`AllToShardedLinear.from_linear`.
    group : mx.distributed.Group, optional
        The group; the global one if not given.

    Raises
    ------
    TypeError
        The argument is no module.
    ValueError
        There is no such sharding.

    Examples
    --------
    >>> from lamina import nn
    >>> from lamina.nn.layers.distributed import shard_inplace
    >>> shard_inplace(nn.Linear(4, 6), "sharded-to-all")
    """
    if not isinstance(module, Module):
        raise TypeError(f"shard_inplace: wants a Module, got {type(module).__name__}")
    if not callable(sharding):
        _check_sharding("shard_inplace", sharding)
    group_of_one("shard_inplace", group)
