"""The base of all optimizers, and one that joins several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lamina.core as mx
from lamina.nn.layers.base import Module
from lamina.utils import tree_flatten, tree_map, tree_merge, tree_unflatten

__all__ = ["MultiOptimizer", "Optimizer"]

Schedule = Callable[[mx.array], mx.array]
_RESERVED = ("step", "learning_rate")


class Optimizer:
    """Turn gradients into new parameters, keeping state between steps.

    A subclass defines ``init_single(parameter, state)``, which puts a parameter's initial state into a dict,
    and ``apply_single(gradient, parameter, state)``, which returns the new parameter and updates the dict.
    The ``state`` is a tree: ``step``, the scheduled values such as ``learning_rate``, and the parameters'
    dicts at the parameters' places. It may be passed to ``mx.compile``, saved, and set again.

    Parameters
    ----------
    schedulers : dict of str to callable, optional
        Values of the state that are set anew before each step, as functions of the step's number.

    Examples
    --------
    >>> from lamina import core as mx, nn, optimizers
    >>> model = nn.Linear(2, 1, bias=False)
    >>> optimizer = optimizers.SGD(learning_rate=0.5)
    >>> model.weight = mx.zeros((1, 2))
    >>> optimizer.update(model, {"weight": mx.array([[1.0, 2.0]])})
    >>> model.weight.tolist()
    [[-0.5, -1.0]]
    """

    def __init__(self, schedulers=None):
        self._initialized = False
        self._state: dict[str, Any] = {"step": mx.array(0, mx.uint64)}
        self._schedulers = dict(schedulers or {})

    def update(self, model: Module, gradients: dict[str, Any]) -> None:
        """Replace a model's parameters by the next ones.

        Parameters
        ----------
        model : Module
            The model.
        gradients : tree of arrays
            Gradients, as from ``nn.value_and_grad``; the tree may hold only some of the model's parameters.

        Raises
        ------
        KeyError, IndexError
            The model or the state lacks one of the entries.
        """
        model.update(self.apply_gradients(gradients, model))

    def init(self, parameters: dict[str, Any]) -> None:
        """Prepare the state for parameters; state that is there already is kept.

        :meth:`update` does this on its first call. Call it to have the state before, as for ``mx.compile``,
        or after parameters have been added or unfrozen.

        Parameters
        ----------
        parameters : tree of arrays
            The parameters, as from ``model.trainable_parameters()``.

        Raises
        ------
        ValueError
            A parameter at the top is called ``step`` or ``learning_rate``, which the state uses.

        Examples
        --------
        >>> from lamina import core as mx, nn, optimizers
        >>> optimizer = optimizers.Adam(learning_rate=1e-3)
        >>> optimizer.init(nn.Linear(2, 1).trainable_parameters())
        >>> sorted(optimizer.state), sorted(optimizer.state["weight"])
        (['bias', 'learning_rate', 'step', 'weight'], ['m', 'v'])
        """
        for name in _RESERVED:
            if name in parameters:
                raise ValueError(
                    f"[{type(self).__name__}] the state uses {name!r}, so no parameter may be called that"
                )
        self._state = self._grow(parameters, self._state)
        self._initialized = True

    def _grow(self, parameters: Any, state: Any) -> Any:
        """The state with entries for all parameters; what it holds already stays."""
        if isinstance(parameters, dict):
            grown = state if isinstance(state, dict) else {}
            for key, value in parameters.items():
                grown[key] = self._grow(value, grown.get(key))
            return grown
        if isinstance(parameters, (list, tuple)):
            old = list(state) if isinstance(state, (list, tuple)) else []
            old += [None] * (len(parameters) - len(old))
            grown_items = [self._grow(value, old[i]) for i, value in enumerate(parameters)]
            return type(parameters)([*grown_items, *old[len(parameters) :]])
        state = state or {}
        if not state:
            self.init_single(parameters, state)
        return state

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        """Put the initial state of one parameter into ``state``; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} does not define init_single")

    def apply_gradients(self, gradients: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the next parameters.

        Parameters
        ----------
        gradients : tree of arrays
            The gradients.
        parameters : tree of arrays
            The parameters; the tree may hold more than that of the gradients.

        Returns
        -------
        tree of arrays
            The next parameters, in a tree like that of the gradients.

        Raises
        ------
        KeyError, IndexError
            ``parameters`` or the state lacks one of the entries.
        """
        if not self._initialized:
            self.init(gradients)
        _put_back_empty(gradients, self.state)
        for name, scheduler in self._schedulers.items():
            self.state[name] = scheduler(self.step)
        self.state["step"] = self.step + 1
        return tree_map(self.apply_single, gradients, parameters, self.state)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]) -> mx.array:
        """Return one parameter's next value and update its ``state``; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} does not define apply_single")

    @property
    def state(self) -> dict[str, Any]:
        """The state tree; setting it continues from a saved one."""
        return self._state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._initialized = False
        self._state = state

    @property
    def step(self) -> mx.array:
        """Number of steps done, a uint64 scalar."""
        return self.state["step"]

    @property
    def learning_rate(self) -> mx.array:
        """The learning rate of the last step, a scalar array; setting it to a number overrides that."""
        return self.state["learning_rate"]

    @learning_rate.setter
    def learning_rate(self, learning_rate: float | mx.array) -> None:
        self.state["learning_rate"] = _as_rate(learning_rate)

    def _maybe_schedule(self, name: str, value: float | Schedule) -> None:
        """Keep ``value`` in the state under ``name``, as a schedule if it is a function."""
        if callable(value):
            self._schedulers[name] = value
            self.state[name] = _as_rate(value(self.step))
        else:
            self.state[name] = _as_rate(value)

    def _rate(self, dtype: mx.Dtype) -> mx.array:
        return self.learning_rate.astype(dtype)


def _put_back_empty(tree: Any, state: Any) -> None:
    """Give ``state`` the entries of layers without parameters, which flattening it has lost."""
    if isinstance(tree, dict) and isinstance(state, dict):
        entries: Any = tree.items()
    elif isinstance(tree, (list, tuple)) and isinstance(state, list):
        entries = enumerate(tree)
    else:
        return
    for key, below in entries:
        if not isinstance(below, (dict, list, tuple)):
            continue
        there = state.get(key) if isinstance(state, dict) else state[key] if key < len(state) else None
        if there:
            _put_back_empty(below, there)
        elif not tree_flatten(below):
            empty = tree_map(lambda x: x, below)
            if isinstance(state, dict) or key < len(state):
                state[key] = empty
            elif key == len(state):
                state.append(empty)


def _as_rate(value: float | mx.array) -> mx.array:
    if isinstance(value, mx.array):
        return value if mx.issubdtype(value.dtype, mx.floating) else value.astype(mx.float32)
    return mx.array(value, mx.float32)


class MultiOptimizer(Optimizer):
    """Several optimizers, each for a part of the parameters.

    Parameters
    ----------
    optimizers : list of Optimizer
        The optimizers.
    filters : list of callable
        One for each optimizer but the last: ``filter(path, parameter)`` says whether the optimizer takes a
        parameter. The first one that does so gets it; the last optimizer gets the rest.

    Raises
    ------
    ValueError
        There are not one fewer filters than optimizers.

    Examples
    --------
    >>> from lamina import core as mx, nn, optimizers
    >>> model = nn.Linear(2, 1)
    >>> matrices, others = optimizers.Muon(learning_rate=0.02), optimizers.AdamW(learning_rate=1e-3)
    >>> optimizer = optimizers.MultiOptimizer([matrices, others], [lambda path, x: x.ndim == 2])
    >>> optimizer.init(model.trainable_parameters())
    >>> "weight" in matrices.state, "bias" in others.state
    (True, True)
    """

    def __init__(self, optimizers, filters: list = []):  # noqa: B006 - the default is only read
        super().__init__()
        self._state = {}
        if len(filters) != len(optimizers) - 1:
            raise ValueError(
                "[MultiOptimizer] every optimizer but the last needs a filter, got "
                f"{len(optimizers)} optimizers and {len(filters)} filters"
            )
        self.optimizers = list(optimizers)
        self.filters = [*filters, lambda path, parameter: True]

    def _split(self, gradients: dict[str, Any]) -> list[Any]:
        parts: list[list[tuple[str, Any]]] = [[] for _ in self.optimizers]
        for path, leaf in tree_flatten(gradients):
            taken = next(i for i, takes in enumerate(self.filters) if takes(path, leaf))
            parts[taken].append((path, leaf))
        return [tree_unflatten(part) if part else {} for part in parts]

    def init(self, parameters: dict[str, Any]) -> None:
        for optimizer, part in zip(self.optimizers, self._split(parameters), strict=True):
            optimizer.init(part)
        self._initialized = True

    def apply_gradients(self, gradients: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for optimizer, part in zip(self.optimizers, self._split(gradients), strict=True):
            merged = tree_merge(merged, optimizer.apply_gradients(part, parameters))
        return merged

    @property
    def state(self) -> dict[str, Any]:
        return {"states": [optimizer.state for optimizer in self.optimizers]}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        states = state.get("states")
        if not isinstance(states, (list, tuple)) or len(states) != len(self.optimizers):
            raise ValueError(
                f"[MultiOptimizer] the state must hold {len(self.optimizers)} 'states', got {list(state)}"
            )
        for optimizer, part in zip(self.optimizers, states, strict=True):
            optimizer.state = part

    @property
    def step(self) -> mx.array:
        return self.optimizers[0].step

    @property
    def learning_rate(self) -> mx.array:
        return self.optimizers[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: float | mx.array) -> None:
        for optimizer in self.optimizers:
            optimizer.learning_rate = learning_rate
