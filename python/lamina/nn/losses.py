"""Loss functions.

Each takes ``reduction``, one of ``"none"`` (the losses one by one), ``"mean"`` and ``"sum"``.
"""

from __future__ import annotations

import math
from typing import Literal

import lamina.core as mx

__all__ = [
    "binary_cross_entropy",
    "cosine_similarity_loss",
    "cross_entropy",
    "gaussian_nll_loss",
    "hinge_loss",
    "huber_loss",
    "kl_div_loss",
    "l1_loss",
    "log_cosh_loss",
    "margin_ranking_loss",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
    "triplet_loss",
]

Reduction = Literal["none", "mean", "sum"]


def _reduce(loss: mx.array, reduction: str) -> mx.array:
    if reduction == "none":
        return loss
    if reduction == "mean":
        return mx.mean(loss)
    if reduction == "sum":
        return mx.sum(loss)
    raise ValueError(f"Invalid reduction {reduction!r}. Must be one of 'none', 'mean' and 'sum'.")


def _same_shape(name: str, **arrays: mx.array) -> None:
    (first, a), *others = arrays.items()
    for other, b in others:
        if a.shape != b.shape:
            raise ValueError(
                f"[{name}] the shapes of {first} and {other} must agree, got {a.shape} and {b.shape}"
            )


def _weighted(name: str, loss: mx.array, weights: mx.array | None) -> mx.array:
    if weights is None:
        return loss
    if weights.shape != loss.shape:
        raise ValueError(
            f"[{name}] the weights must have the shape of the losses, {loss.shape}, got {weights.shape}"
        )
    return loss * weights


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    axis = axis % len(shape) if shape else 0
    return (*shape[:axis], *shape[axis + 1 :])


def _pick(values: mx.array, classes: mx.array, axis: int) -> mx.array:
    return mx.take_along_axis(values, mx.expand_dims(classes, axis), axis).squeeze(axis)


def cross_entropy(
    logits: mx.array,
    targets: mx.array,
    weights: mx.array | None = None,
    axis: int = -1,
    label_smoothing: float = 0.0,
    reduction: Reduction = "none",
) -> mx.array:
    """Cross entropy between a distribution given by unnormalized log-probabilities and the true one.

    Parameters
    ----------
    logits : array
        Unnormalized log-probabilities of the classes along ``axis``.
    targets : array
        Class numbers, in the shape of ``logits`` without ``axis``; or probabilities in the shape of
        ``logits``.
    weights : array, optional
        Factors of the losses, in their shape.
    axis : int
        The axis of the classes.
    label_smoothing : float
        How much of the true distribution is replaced by the uniform one, in ``[0, 1)``.
    reduction : {"none", "mean", "sum"}
        What to do with the losses; the mean is over their number, not their weights.

    Returns
    -------
    array
        The losses, in the shape of ``logits`` without ``axis``, or a scalar.

    Raises
    ------
    ValueError
        Shapes do not fit, or ``label_smoothing`` is out of range.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> losses = nn.losses.cross_entropy(mx.array([[2.0, -1.0], [-1.0, 2.0]]), mx.array([0, 1]))
    >>> [round(v, 4) for v in losses.tolist()]
    [0.0486, 0.0486]
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"[cross_entropy] label_smoothing must be in [0, 1), got {label_smoothing}")
    as_probabilities = targets.ndim == logits.ndim
    wanted = tuple(logits.shape) if as_probabilities else _without(logits.shape, axis)
    if tuple(targets.shape) != wanted:
        raise ValueError(
            f"[cross_entropy] targets of shape {targets.shape} do not fit logits of shape {logits.shape}, "
            f"axis {axis}"
        )
    if not as_probabilities and not mx.issubdtype(targets.dtype, mx.integer):
        raise ValueError(f"[cross_entropy] class numbers must be of an integer dtype, got {targets.dtype}")
    # Everything relative to the largest logit, to keep digits, and by reductions only: nothing of the
    # size of the logits needs to be stored.
    top = mx.stop_gradient(mx.max(logits, axis=axis, keepdims=True))
    log_sum = mx.log(mx.sum(mx.exp(logits - top), axis=axis))
    if as_probabilities:
        total = mx.sum(targets, axis=axis)
        loss = log_sum * total - mx.sum((logits - top) * targets, axis=axis)
    else:
        loss = log_sum - (_pick(logits, targets, axis) - top.squeeze(axis))
    if label_smoothing > 0:
        to_uniform = log_sum - mx.mean(logits - top, axis=axis)
        loss = (1 - label_smoothing) * loss + label_smoothing * to_uniform
    return _reduce(_weighted("cross_entropy", loss, weights), reduction)


def binary_cross_entropy(
    inputs: mx.array,
    targets: mx.array,
    weights: mx.array | None = None,
    with_logits: bool = True,
    reduction: Reduction = "mean",
) -> mx.array:
    """Cross entropy between two-way distributions, each given by one number.

    Parameters
    ----------
    inputs : array
        Log-odds of the true class, or its probabilities if not ``with_logits``.
    targets : array
        True probabilities, in the shape of ``inputs``.
    weights : array, optional
        Factors of the losses, in their shape.
    with_logits : bool
        Whether ``inputs`` are log-odds.
    reduction : {"none", "mean", "sum"}
        What to do with the losses.

    Returns
    -------
    array
        The losses, in the shape of ``inputs``, or a scalar. Logarithms of probabilities are at least -100.

    Raises
    ------
    ValueError
        Shapes do not agree.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> round(nn.losses.binary_cross_entropy(mx.array([0.0, 0.0]), mx.array([0, 1])).item(), 4)
    0.6931
    """
    _same_shape("binary_cross_entropy", inputs=inputs, targets=targets)
    if with_logits:
        loss = mx.logaddexp(0.0, inputs) - inputs * targets
    else:
        log_true = mx.maximum(mx.log(inputs), -100)
        log_false = mx.maximum(mx.log1p(-inputs), -100)
        loss = -(targets * log_true + (1 - targets) * log_false)
    return _reduce(_weighted("binary_cross_entropy", loss, weights), reduction)


def l1_loss(predictions: mx.array, targets: mx.array, reduction: Reduction = "mean") -> mx.array:
    """Absolute difference, ``abs(predictions - targets)``.

    Parameters
    ----------
    predictions, targets : array
        Of one shape.
    reduction : {"none", "mean", "sum"}
        What to do with the losses.

    Returns
    -------
    array
        The losses, in the shape of ``predictions``, or a scalar.

    Raises
    ------
    ValueError
        Shapes do not agree.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.losses.l1_loss(mx.array([1.0, 2.0]), mx.array([2.0, 4.0])).item()
    1.5
    """
    _same_shape("l1_loss", predictions=predictions, targets=targets)
    return _reduce(mx.abs(predictions - targets), reduction)


def mse_loss(predictions: mx.array, targets: mx.array, reduction: Reduction = "mean") -> mx.array:
    """Squared difference, ``(predictions - targets) ** 2``; parameters and errors as for :func:`l1_loss`.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.losses.mse_loss(mx.array([1.0, 2.0]), mx.array([2.0, 4.0])).item()
    2.5
    """
    _same_shape("mse_loss", predictions=predictions, targets=targets)
    return _reduce(mx.square(predictions - targets), reduction)


def nll_loss(inputs: mx.array, targets: mx.array, axis: int = -1, reduction: Reduction = "none") -> mx.array:
    """Negative log-likelihood of classes, given log-probabilities.

    Parameters
    ----------
    inputs : array
        Log-probabilities of the classes along ``axis``.
    targets : array
        Class numbers, in the shape of ``inputs`` without ``axis``.
    axis : int
        The axis of the classes.
    reduction : {"none", "mean", "sum"}
        What to do with the losses.

    Returns
    -------
    array
        The losses, in the shape of ``targets``, or a scalar.

    Raises
    ------
    ValueError
        Shapes do not fit.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.losses.nll_loss(mx.array([[-0.5, -1.0]]), mx.array([1])).tolist()
    [1.0]
    """
    if tuple(targets.shape) != _without(inputs.shape, axis):
        raise ValueError(
            f"[nll_loss] targets of shape {targets.shape} do not fit inputs of shape {inputs.shape}, "
            f"axis {axis}"
        )
    return _reduce(-_pick(inputs, targets, axis), reduction)


def gaussian_nll_loss(
    inputs: mx.array,
    targets: mx.array,
    vars: mx.array,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Reduction = "mean",
) -> mx.array:
    """Negative log-likelihood of numbers, given the means and variances of normal distributions.

    Parameters
    ----------
    inputs : array
        The means.
    targets : array
        The numbers, in the shape of ``inputs``.
    vars : array
        The variances, in the shape of ``inputs``.
    full : bool
        Whether to add the constant ``log(2 * pi) / 2``.
    eps : float
        The least variance.
    reduction : {"none", "mean", "sum"}
        What to do with the losses.

    Returns
    -------
    array
        The losses, in the shape of ``inputs``, or a scalar.

    Raises
    ------
    ValueError
        Shapes do not agree.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.losses.gaussian_nll_loss(mx.array([1.0]), mx.array([3.0]), mx.array([1.0])).item()
    2.0
    """
    _same_shape("gaussian_nll_loss", inputs=inputs, targets=targets, vars=vars)
    variances = mx.maximum(vars, eps)
    loss = 0.5 * (mx.log(variances) + mx.square(targets - inputs) / variances)
    return _reduce(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


def kl_div_loss(
    inputs: mx.array, targets: mx.array, axis: int = -1, reduction: Reduction = "none"
) -> mx.array:
    """Kullback-Leibler divergence, ``sum(exp(targets) * (targets - inputs))`` along ``axis``.

    Parameters
    ----------
    inputs : array
        Log-probabilities of the model.
    targets : array
        True log-probabilities, of a shape that broadcasts with that of ``inputs``.
    axis : int
        The axis of the classes.
    reduction : {"none", "mean", "sum"}
        What to do with the losses.

    Returns
    -------
    array
        The losses, in the shape of ``inputs`` without ``axis``, or a scalar.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> p = mx.log(mx.array([[0.25, 0.75]]))
    >>> nn.losses.kl_div_loss(p, p).tolist()
    [0.0]
    """
    return _reduce(mx.sum(mx.exp(targets) * (targets - inputs), axis=axis), reduction)


def smooth_l1_loss(
    predictions: mx.array, targets: mx.array, beta: float = 1.0, reduction: Reduction = "mean"
) -> mx.array:
    """``d**2 / (2 * beta)`` where the absolute difference ``d`` is below ``beta``, else ``d - beta / 2``.

    Parameters
    ----------
    predictions, targets : array
        Of one shape.
    beta : float
        Where the parts meet; 0 gives :func:`l1_loss`.
    reduction : {"none", "mean", "sum"}
        What to do with the losses.

    Returns
    -------
    array
        The losses, in the shape of ``predictions``, or a scalar.

    Raises
    ------
    ValueError
        Shapes do not agree, or ``beta`` is negative.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.losses.smooth_l1_loss(mx.array([1.0, 2.0]), mx.array([2.0, 4.0]), reduction="none").tolist()
    [0.5, 1.5]
    """
    _same_shape("smooth_l1_loss", predictions=predictions, targets=targets)
    if beta < 0:
        raise ValueError(f"[smooth_l1_loss] beta must be at least 0, got {beta}")
    difference = mx.abs(predictions - targets)
    if beta == 0:
        return _reduce(difference, reduction)
    loss = mx.where(difference < beta, 0.5 * mx.square(difference) / beta, difference - 0.5 * beta)
    return _reduce(loss, reduction)


def triplet_loss(
    anchors: mx.array,
    positives: mx.array,
    negatives: mx.array,
    axis: int = -1,
    p: int = 2,
    margin: float = 1.0,
    eps: float = 1e-6,
    reduction: Reduction = "none",
) -> mx.array:
    """``max(distance(anchors, positives) - distance(anchors, negatives) + margin, 0)``.

    Parameters
    ----------
    anchors, positives, negatives : array
        Vectors along ``axis``, of shapes that broadcast.
    axis : int
        The axis of the vectors.
    p : int
        Degree of the distance ``(sum(abs(a - b)**p) + eps) ** (1 / p)``.
    margin : float
        How much farther the negatives should be.
    eps : float
        Keeps the gradient finite at distance 0.
    reduction : {"none", "mean", "sum"}
        What to do with the losses.

    Returns
    -------
    array
        The losses, in the shape of the inputs without ``axis``, or a scalar.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> a, b, c = mx.array([0.0, 0.0]), mx.array([0.0, 3.0]), mx.array([4.0, 0.0])
    >>> round(nn.losses.triplet_loss(a, b, c, margin=1.5).item(), 4)
    0.5
    """

    def distance(a: mx.array, b: mx.array) -> mx.array:
        return mx.power(mx.sum(mx.power(mx.abs(a - b), p), axis=axis) + eps, 1.0 / p)

    return _reduce(
        mx.maximum(distance(anchors, positives) - distance(anchors, negatives) + margin, 0), reduction
    )


def hinge_loss(inputs: mx.array, targets: mx.array, reduction: Reduction = "none") -> mx.array:
    """``max(1 - inputs * targets, 0)`` for targets of -1 and 1.

    Parameters
    ----------
    inputs, targets : array
        Of shapes that broadcast.
    reduction : {"none", "mean", "sum"}
        What to do with the losses.

    Returns
    -------
    array
        The losses, in the shape of ``inputs``, or a scalar.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.losses.hinge_loss(mx.array([0.5, 2.0]), mx.array([1, 1])).tolist()
    [0.5, 0.0]
    """
    return _reduce(mx.maximum(1 - inputs * targets, 0), reduction)


def huber_loss(
    inputs: mx.array, targets: mx.array, delta: float = 1.0, reduction: Reduction = "none"
) -> mx.array:
    """``d**2 / 2`` where the absolute difference ``d`` is up to ``delta``, else ``delta * (d - delta / 2)``.

    Parameters
    ----------
    inputs, targets : array
        Of shapes that broadcast.
    delta : float
        Where the parts meet.
    reduction : {"none", "mean", "sum"}
        What to do with the losses.

    Returns
    -------
    array
        The losses, in the shape of ``inputs``, or a scalar.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.losses.huber_loss(mx.array([1.0, 2.0]), mx.array([2.0, 4.0])).tolist()
    [0.5, 1.5]
    """
    difference = mx.abs(inputs - targets)
    loss = mx.where(difference <= delta, 0.5 * mx.square(difference), delta * (difference - 0.5 * delta))
    return _reduce(loss, reduction)


def log_cosh_loss(inputs: mx.array, targets: mx.array, reduction: Reduction = "none") -> mx.array:
    """``log(cosh(inputs - targets))``, without overflow.

    Parameters
    ----------
    inputs, targets : array
        Of shapes that broadcast.
    reduction : {"none", "mean", "sum"}
        What to do with the losses.

    Returns
    -------
    array
        The losses, in the shape of ``inputs``, or a scalar.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> round(nn.losses.log_cosh_loss(mx.array(1.0), mx.array(0.0)).item(), 4)
    0.4338
    """
    errors = inputs - targets
    return _reduce(mx.logaddexp(errors, -errors) - math.log(2), reduction)


def cosine_similarity_loss(
    x1: mx.array, x2: mx.array, axis: int = 1, eps: float = 1e-8, reduction: Reduction = "none"
) -> mx.array:
    """Cosine of the angle between vectors, ``sum(x1 * x2) / max(norm(x1) * norm(x2), eps)``.

    Parameters
    ----------
    x1, x2 : array
        Vectors along ``axis``, of shapes that broadcast.
    axis : int
        The axis of the vectors.
    eps : float
        The least denominator.
    reduction : {"none", "mean", "sum"}
        What to do with the cosines.

    Returns
    -------
    array
        The cosines, in the shape of the inputs without ``axis``, or a scalar.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.losses.cosine_similarity_loss(mx.array([[1.0, 0.0]]), mx.array([[0.0, 2.0]])).tolist()
    [0.0]
    """

    def norm(x: mx.array) -> mx.array:
        return mx.sqrt(mx.sum(mx.square(x), axis=axis))

    return _reduce(mx.sum(x1 * x2, axis=axis) / mx.maximum(norm(x1) * norm(x2), eps), reduction)


def margin_ranking_loss(
    inputs1: mx.array,
    inputs2: mx.array,
    targets: mx.array,
    margin: float = 0.0,
    reduction: Reduction = "none",
) -> mx.array:
    """``max(-targets * (inputs1 - inputs2) + margin, 0)``, where targets of 1 want the first to rank higher.

    Parameters
    ----------
    inputs1, inputs2, targets : array
        Of one shape; the targets are -1 or 1.
    margin : float
        How far apart the inputs should be.
    reduction : {"none", "mean", "sum"}
        What to do with the losses.

    Returns
    -------
    array
        The losses, in the shape of the inputs, or a scalar.

    Raises
    ------
    ValueError
        Shapes do not agree.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.losses.margin_ranking_loss(mx.array([1.0]), mx.array([3.0]), mx.array([1]), margin=0.5).tolist()
    [2.5]
    """
    _same_shape("margin_ranking_loss", inputs1=inputs1, inputs2=inputs2, targets=targets)
    return _reduce(mx.maximum(margin - targets * (inputs1 - inputs2), 0), reduction)
