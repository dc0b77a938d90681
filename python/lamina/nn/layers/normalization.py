"""Normalization layers."""

from __future__ import annotations

import math
from typing import Any

import lamina.core as mx
from lamina.nn.layers._check import last_axis, positive_int
from lamina.nn.layers.base import Module

__all__ = ["BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm"]


def _standardize(x: mx.array, axes: tuple[int, ...], eps: float) -> mx.array:
    mean = mx.mean(x, axis=axes, keepdims=True)
    variance = mx.var(x, axis=axes, keepdims=True)
    return (x - mean) * mx.rsqrt(variance + eps)


class _Affine(Module):
    """A norm whose result may be scaled by ``weight`` and shifted by ``bias`` along the last axis."""

    def _scale_and_shift(self, x: mx.array) -> mx.array:
        return self["weight"] * x + self["bias"] if "weight" in self else x


class RMSNorm(Module):
    """Divide by the root of the mean square over the last axis: ``x / sqrt(mean(x**2) + eps) * weight``.

    Shapes: input ``(..., dims)``, output the same; parameter ``weight`` of shape ``(dims,)``, initially 1.
    The mean is taken in float32 for 16-bit inputs.

    Parameters
    ----------
    dims : int
        Entries of the last axis.
    eps : float
        Added under the root.

    Raises
    ------
    ValueError
        ``dims`` is below 1, or an input's last axis does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> y = nn.RMSNorm(2)(mx.array([3.0, 4.0]))
    >>> [round(v, 3) for v in y.tolist()]
    [0.849, 1.131]
    """

    def __init__(self, dims: int, eps: float = 1e-5):
        super().__init__()
        self.weight = mx.ones((positive_int("RMSNorm", "dims", dims),))
        self.eps = eps

    def _extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"

    def __call__(self, x: mx.array) -> mx.array:
        return mx.fast.rms_norm(x, self["weight"], self.eps)


class LayerNorm(Module):
    """Subtract the mean and divide by the standard deviation over the last axis, then scale and shift.

    Computes ``(x - mean(x)) / sqrt(var(x) + eps) * weight + bias``.

    Shapes: input ``(..., dims)``, output the same; parameters ``weight`` (initially 1) and ``bias``
    (initially 0) of shape ``(dims,)``. Mean and variance are taken in float32 for 16-bit inputs.

    Parameters
    ----------
    dims : int
        Entries of the last axis.
    eps : float
        Added to the variance.
    affine : bool
        Whether to scale by ``weight``.
    bias : bool
        Whether to add ``bias``; without ``affine`` there is none either way.

    Raises
    ------
    ValueError
        ``dims`` is below 1, or an input's last axis does not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> y = nn.LayerNorm(2)(mx.array([3.0, 5.0]))
    >>> [round(v, 3) for v in y.tolist()]
    [-1.0, 1.0]
    """

    def __init__(self, dims: int, eps: float = 1e-5, affine: bool = True, bias: bool = True):
        super().__init__()
        dims = positive_int("LayerNorm", "dims", dims)
        if affine:
            self.weight = mx.ones((dims,))
            if bias:
                self.bias = mx.zeros((dims,))
        self.eps = eps
        self.dims = dims

    def _extra_repr(self) -> str:
        return f"{self.dims}, eps={self.eps}, affine={'weight' in self}"

    def __call__(self, x: mx.array) -> mx.array:
        if "weight" not in self:
            last_axis("LayerNorm", x, self.dims)
        return mx.fast.layer_norm(x, self.get("weight"), self.get("bias"), self.eps)


class InstanceNorm(_Affine):
    """Subtract the mean and divide by the standard deviation of each channel of each example.

    Shapes: input ``(N, ..., dims)`` with at least one axis between, output the same; with ``affine``,
    parameters ``weight`` (initially 1) and ``bias`` (initially 0) of shape ``(dims,)``.

    Parameters
    ----------
    dims : int
        Number of channels, the entries of the last axis.
    eps : float
        Added to the variance.
    affine : bool
        Whether to scale and shift.

    Raises
    ------
    ValueError
        ``dims`` is below 1, or an input has fewer than 3 axes or another number of channels.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.InstanceNorm(4)(mx.ones((2, 5, 5, 4))).shape
    (2, 5, 5, 4)
    """

    def __init__(self, dims: int, eps: float = 1e-5, affine: bool = False):
        super().__init__()
        dims = positive_int("InstanceNorm", "dims", dims)
        if affine:
            self.weight = mx.ones((dims,))
            self.bias = mx.zeros((dims,))
        self.dims = dims
        self.eps = eps

    def _extra_repr(self) -> str:
        return f"{self.dims}, eps={self.eps}, affine={'weight' in self}"

    def __call__(self, x: mx.array) -> mx.array:
        if x.ndim < 3:
            raise ValueError(
                f"[InstanceNorm] the input must have at least 3 axes (N, ..., C), got shape {x.shape}"
            )
        last_axis("InstanceNorm", x, self.dims)
        return self._scale_and_shift(_standardize(x, tuple(range(1, x.ndim - 1)), self.eps))


class GroupNorm(_Affine):
    """Subtract the mean and divide by the standard deviation of each group of channels of each example.

    Shapes: input ``(N, ..., dims)``, output the same; with ``affine``, parameters ``weight`` (initially 1)
    and ``bias`` (initially 0) of shape ``(dims,)``.

    Parameters
    ----------
    num_groups : int
        Number of groups; it divides ``dims``.
    dims : int
        Number of channels, the entries of the last axis.
    eps : float
        Added to the variance.
    affine : bool
        Whether to scale and shift.
    pytorch_compatible : bool
        Whether a group is a run of neighbouring channels, as in PyTorch. Otherwise group ``g`` holds the
        channels ``g, g + num_groups, g + 2 * num_groups, ...``.

    Raises
    ------
    ValueError
        ``num_groups`` does not divide ``dims``, or an input has one axis only or another number of channels.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.GroupNorm(2, 8, pytorch_compatible=True)(mx.ones((2, 5, 5, 8))).shape
    (2, 5, 5, 8)
    """

    def __init__(
        self,
        num_groups: int,
        dims: int,
        eps: float = 1e-5,
        affine: bool = True,
        pytorch_compatible: bool = False,
    ):
        super().__init__()
        num_groups = positive_int("GroupNorm", "num_groups", num_groups)
        dims = positive_int("GroupNorm", "dims", dims)
        if dims % num_groups:
            raise ValueError(
                f"[GroupNorm] num_groups must divide dims, got {num_groups} groups and {dims} dims"
            )
        if affine:
            self.bias = mx.zeros((dims,))
            self.weight = mx.ones((dims,))
        self.num_groups = num_groups
        self.dims = dims
        self.eps = eps
        self.pytorch_compatible = pytorch_compatible

    def _extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.dims}, eps={self.eps}, affine={'weight' in self}, "
            f"pytorch_compatible={self.pytorch_compatible}"
        )

    def __call__(self, x: mx.array) -> mx.array:
        if x.ndim < 2:
            raise ValueError(
                f"[GroupNorm] the input must have at least 2 axes (N, ..., C), got shape {x.shape}"
            )
        last_axis("GroupNorm", x, self.dims)
        per_group = self.dims // self.num_groups
        split = (self.num_groups, per_group) if self.pytorch_compatible else (per_group, self.num_groups)
        grouped = x.reshape(x.shape[0], -1, *split)
        axes = (1, 3) if self.pytorch_compatible else (1, 2)
        return self._scale_and_shift(_standardize(grouped, axes, self.eps).reshape(x.shape))


class BatchNorm(_Affine):
    """Subtract the mean and divide by the standard deviation of each channel over the whole batch.

    In training the batch's own mean and variance are used, and the running ones follow them as ``running = (1
    - momentum) * running + momentum * batch``, where the variance is the unbiased one. In evaluation the
    running ones are used.

    Shapes: input ``(N, C)``, ``(N, L, C)`` or ``(N, H, W, C)``, output the same; with ``affine``, parameters
    ``weight`` (initially 1) and ``bias`` (initially 0) of shape ``(C,)``; with ``track_running_stats``,
    ``running_mean`` and ``running_var`` of that shape, which are never trainable.

    Parameters
    ----------
    num_features : int
        The number of channels C.
    eps : float
        Added to the variance.
    momentum : float
        Weight of the new batch in the running statistics.
    affine : bool
        Whether to scale and shift.
    track_running_stats : bool
        Whether to keep running statistics; without them, evaluation uses the batch's own too.

    Raises
    ------
    ValueError
        ``num_features`` is below 1; or an input has not 2 to 4 axes, or another number of channels, or, in
        training, one value per channel only.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> norm = nn.BatchNorm(1)
    >>> y = norm(mx.array([[1.0], [2.0], [6.0]]))
    >>> round(norm.running_mean.item(), 3), round(norm.running_var.item(), 3)
    (0.3, 1.6)
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        super().__init__()
        num_features = positive_int("BatchNorm", "num_features", num_features)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.track_running_stats = track_running_stats
        if affine:
            self.weight = mx.ones((num_features,))
            self.bias = mx.zeros((num_features,))
        if track_running_stats:
            self.running_mean = mx.zeros((num_features,))
            self.running_var = mx.ones((num_features,))
            self._freeze_statistics()

    def _freeze_statistics(self) -> None:
        if self.track_running_stats:
            self.freeze(keys=["running_mean", "running_var"], recurse=False)

    def unfreeze(self, *args: Any, **kwargs: Any) -> Module:
        """Unfreeze as :meth:`Module.unfreeze` does; the running statistics stay frozen."""
        super().unfreeze(*args, **kwargs)
        self._freeze_statistics()
        return self

    def _extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={'weight' in self}, "
            f"track_running_stats={self.track_running_stats}"
        )

    def _follow(self, mean: mx.array, variance: mx.array, shape: tuple[int, ...]) -> None:
        """Move the running statistics towards those of a batch of this shape."""
        count = math.prod(shape[:-1])
        if count < 2:
            raise ValueError(f"[BatchNorm] training needs more than one value per channel, got shape {shape}")
        keep, take = 1 - self.momentum, self.momentum
        self.running_mean = keep * self.running_mean + take * mean
        self.running_var = keep * self.running_var + take * (count / (count - 1)) * variance

    def __call__(self, x: mx.array) -> mx.array:
        if not 2 <= x.ndim <= 4:
            raise ValueError(f"[BatchNorm] the input must have 2, 3 or 4 axes, got shape {x.shape}")
        last_axis("BatchNorm", x, self.num_features)
        if self.training or not self.track_running_stats:
            axes = tuple(range(x.ndim - 1))
            mean = mx.mean(x, axis=axes)
            centred = x - mean
            variance = mx.mean(mx.square(centred), axis=axes)
            if self.training and self.track_running_stats:
                self._follow(mean, variance, x.shape)
        else:
            centred, variance = x - self.running_mean, self.running_var
        # One factor for each channel: its gradient is one sum over the batch, not two.
        scale = mx.rsqrt(variance + self.eps)
        if "weight" not in self:
            return centred * scale
        return centred * (scale * self["weight"]) + self["bias"]
