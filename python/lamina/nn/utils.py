"""Gradients, their averages and recomputation for functions of a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lamina.core as mx
from lamina.nn.layers._check import group_of_one
from lamina.nn.layers._entries import with_parameters
from lamina.nn.layers.base import Module

__all__ = ["average_gradients", "checkpoint", "value_and_grad"]


def _of_parameters(
    transform: Callable[..., Any], model: Module, fn: Callable[..., Any]
) -> Callable[..., Any]:
    """Return ``transform`` of ``fn`` as a function of the model's trainable parameters, called with those."""

    def of_parameters(parameters: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        # Tracers left in the model would keep the whole graph alive, and outlive an exception.
        with with_parameters(model, parameters):
            return fn(*args, **kwargs)

    transformed = transform(of_parameters)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return transformed(model.trainable_parameters(), *args, **kwargs)

    return wrapped


def value_and_grad(model: Module, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that computes ``fn`` and its gradient with respect to a model's trainable parameters.

    Parameters
    ----------
    model : Module
        The model that ``fn`` uses.
    fn : callable
        Returns a scalar array, or a tuple or list whose first entry is one.

    Returns
    -------
    callable
        Takes the arguments of ``fn`` and returns what it returns, and the gradients as a tree like that of
        ``model.trainable_parameters()``.

    Raises
    ------
    TypeError
        ``model`` is not a module.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> model = nn.Linear(2, 1, bias=False)
    >>> loss_and_grad = nn.value_and_grad(model, lambda x: model(x).sum())
    >>> _, grads = loss_and_grad(mx.array([[1.0, 2.0]]))
    >>> grads["weight"].tolist()
    [[1.0, 2.0]]
    """
    if not Module.is_module(model):
        raise TypeError(f"[value_and_grad] the model must be a Module, got {type(model).__name__}")
    wrapped = _of_parameters(mx.value_and_grad, model, fn)
    wrapped.__name__ = getattr(fn, "__name__", "value_and_grad")
    wrapped.__doc__ = fn.__doc__
    return wrapped


def checkpoint(module: Module, fn: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Return a function that calls a module, and that the backward pass recomputes instead of storing.

    Parameters
    ----------
    module : Module
        The module, whose trainable parameters take part in gradients.
    fn : callable, optional
        What to call; the module itself if not given.

    Returns
    -------
    callable
        Takes the arguments of ``fn``.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> from lamina.nn.utils import checkpoint
    >>> layer = nn.Linear(2, 3)
    >>> mx.array_equal(checkpoint(layer)(mx.ones((1, 2))), layer(mx.ones((1, 2)))).item()
    True
    """
    return _of_parameters(mx.checkpoint, module, module if fn is None else fn)


def average_gradients(
    gradients: Any,
    group: mx.distributed.Group | None = None,
    all_reduce_size: int = 32 * 1024**2,
    communication_stream: mx.Stream | None = None,
) -> Any:
    """Average gradients over the group; in a group of one the gradients themselves.

    Parameters
    ----------
    gradients : tree of arrays
        The gradients.
    group : mx.distributed.Group, optional
        The group; the global one if not given.
    all_reduce_size : int
        Bytes that larger groups would exchange at a time.
    communication_stream : Stream, optional
        Where larger groups would exchange them.

    Returns
    -------
    tree of arrays
        The averages.

    Raises
    ------
    NotImplementedError
        The group has more than one process.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> nn.average_gradients({"w": mx.array([1.0, 2.0])})
    {'w': array([1, 2], dtype=float32)}
    """
    group_of_one("average_gradients", group)
    return gradients
