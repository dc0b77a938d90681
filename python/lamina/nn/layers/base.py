"""The module: a dict whose arrays, modules, lists and dicts form a tree of parameters."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from typing import Any

import lamina.core as mx
from lamina.nn.layers._entries import check_weights, is_array, replace_entries, set_entry
from lamina.utils import tree_flatten

__all__ = ["Module"]

Filter = Callable[["Module", str, Any], bool]


class Module(dict):
    """A part of a model that holds parameters and further modules.

    A module is a ``dict``: assigning an attribute that is an array, a module, a dict, a list or a tuple
    stores it under the attribute's name, and anything else stays a plain attribute. What is stored forms a
    tree. Its arrays are the parameters, except under names that start with an underscore. Assigning a new
    array to a parameter is how a model changes; nothing needs registering.

    Examples
    --------
    >>> from lamina import core as mx, nn
    >>> class Scale(nn.Module):
    ...     def __init__(self, dims):
    ...         super().__init__()
    ...         self.weight = mx.ones((dims,))
    ...
    ...     def __call__(self, x):
    ...         return x * self.weight
    >>> scale = Scale(3)
    >>> list(scale.parameters())
    ['weight']
    >>> scale(mx.array([1.0, 2.0, 3.0])).tolist()
    [1.0, 2.0, 3.0]
    """

    __call__: Callable

    def __init__(self):
        self._no_grad: set[str] = set()
        self._training = True

    @property
    def training(self) -> bool:
        """Whether the module is in training mode; :meth:`train` and :meth:`eval` set it."""
        return self._training

    @property
    def state(self) -> Module:
        """The module itself, as state for ``mx.compile``: it includes arrays that are no parameters."""
        return self

    def __getattr__(self, key: str) -> Any:
        # Reached only where the ordinary look-up found nothing.
        if key in self:
            return self[key]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {key!r}")

    def __setattr__(self, key: str, value: Any) -> None:
        if isinstance(value, (mx.array, dict, list, tuple)):
            if isinstance(getattr(type(self), key, None), property):
                super().__setattr__(key, value)
                return
            self.__dict__.pop(key, None)
            self[key] = value
        else:
            super().__setattr__(key, value)
            self.pop(key, None)

    def __delattr__(self, key: str) -> None:
        if key in self:
            del self[key]
        else:
            super().__delattr__(key)

    def _extra_repr(self) -> str:
        return ""

    def __repr__(self) -> str:
        children = tree_flatten(self.children(), is_leaf=Module.is_module)
        head = f"{type(self).__name__}({self._extra_repr()}"
        lines = [
            textwrap.indent(f"({name}): {child!r}", "  ")
            for name, child in children
            if Module.is_module(child)
        ]
        return "\n".join([head, *lines, ")"]) if lines else head + ")"

    def load_weights(
        self, file_or_weights: str | os.PathLike | list[tuple[str, mx.array]], strict: bool = True
    ) -> Module:
        """Set parameters from a file or from a list of names and arrays.

        Parameters
        ----------
        file_or_weights : path or list of (str, array)
            A ``.npz`` or ``.safetensors`` file, or the weights themselves.
        strict : bool
            Whether the weights must be exactly the module's parameters, in names and shapes. If false,
            weights that are not in the module are passed over and shapes may change.

        Returns
        -------
        Module
            The module itself.

        Raises
        ------
        ValueError
            A weight is no array; or, with ``strict``, names are missing or not in the module, or a weight is
            of another shape; or the file is of no known format or damaged. The module is then unchanged.

        Examples
        --------
        >>> from lamina import core as mx, nn
        >>> layer = nn.Linear(2, 1)
        >>> layer = layer.load_weights([("weight", mx.ones((1, 2))), ("bias", mx.zeros((1,)))])
        >>> layer(mx.array([[3.0, 4.0]])).tolist()
        [[7.0]]
        """
        weights: Any = file_or_weights
        if isinstance(file_or_weights, (str, os.PathLike)):
            weights = mx.load(os.fspath(file_or_weights))
        weights = dict(weights)
        for name, value in weights.items():
            if not is_array(value):
                raise ValueError(f"Expected mx.array but received {type(value)} for parameter {name}")
        if strict:
            check_weights(weights, tree_flatten(self.parameters(), destination={}))
        for name, value in weights.items():
            set_entry(self, name, value)
        return self

    def save_weights(self, file: str | os.PathLike) -> None:
        """Write all parameters to a file.

        Parameters
        ----------
        file : path
            Where to; the ending ``.npz`` or ``.safetensors`` decides the format.

        Raises
        ------
        ValueError
            The ending is another one.

        Examples
        --------
        >>> import os, tempfile
        >>> from lamina import nn
        >>> layer = nn.Linear(2, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "layer.safetensors")
        ...     layer.save_weights(path)
        ...     _ = nn.Linear(2, 1).load_weights(path)
        """
        path = os.fspath(file)
        parameters: dict[str, Any] = tree_flatten(self.parameters(), destination={})
        if path.endswith(".npz"):
            mx.savez(path, **parameters)
        elif path.endswith(".safetensors"):
            mx.save_safetensors(path, parameters)
        else:
            raise ValueError(f"[save_weights] the file must end in .npz or .safetensors, got {path!r}")

    @staticmethod
    def is_module(value: Any) -> bool:
        """Whether ``value`` is a module."""
        return isinstance(value, Module)

    @staticmethod
    def valid_child_filter(module: Module, key: str, value: Any) -> bool:
        """Whether an entry may hold modules: it is a dict (such as a module) or a list."""
        return isinstance(value, (dict, list))

    @staticmethod
    def valid_parameter_filter(module: Module, key: str, value: Any) -> bool:
        """Whether an entry is or holds parameters: an array, dict or list whose name has no leading ``_``."""
        return isinstance(value, (dict, list, mx.array)) and not key.startswith("_")

    @staticmethod
    def trainable_parameter_filter(module: Module, key: str, value: Any) -> bool:
        """Whether an entry is or holds parameters that are not frozen."""
        return Module.valid_parameter_filter(module, key, value) and key not in module._no_grad

    def filter_and_map(
        self, filter_fn: Filter, map_fn: Callable[[Any], Any] | None = None, is_leaf_fn: Filter | None = None
    ) -> dict[str, Any]:
        """Walk the tree, keep the entries that pass a filter and apply a function to the leaves.

        Parameters
        ----------
        filter_fn : callable
            ``filter_fn(module, key, value)`` says whether to keep an entry. Inside dicts and lists, ``key``
            is the path from the module, and an entry that does not pass leaves ``{}`` in its place.
        map_fn : callable, optional
            Applied to each leaf; the identity if not given.
        is_leaf_fn : callable, optional
            ``is_leaf_fn(module, key, value)`` says where to stop; by default at all but modules, dicts and
            lists.

        Returns
        -------
        dict
            The tree.

        Raises
        ------
        RuntimeError
            An entry that passes the filter is neither a leaf nor a container.

        Examples
        --------
        >>> from lamina import nn
        >>> nn.Linear(2, 3).filter_and_map(nn.Module.valid_parameter_filter, lambda x: x.shape)
        {'weight': (3, 2), 'bias': (3,)}
        """
        map_fn = map_fn or (lambda x: x)
        is_leaf_fn = is_leaf_fn or (lambda _, __, value: not isinstance(value, (dict, list)))
        return _walk(self, filter_fn, map_fn, is_leaf_fn)

    def parameters(self) -> dict[str, Any]:
        """All parameters of the module and the modules in it, as a tree of dicts and lists of arrays."""
        return self.filter_and_map(self.valid_parameter_filter)

    def trainable_parameters(self) -> dict[str, Any]:
        """The parameters that are not frozen, as a tree; frozen ones are left out."""
        return self.filter_and_map(self.trainable_parameter_filter)

    def children(self) -> dict[str, Any]:
        """The modules directly in this one, as a tree."""
        return self.filter_and_map(
            self.valid_child_filter, is_leaf_fn=lambda _, __, value: Module.is_module(value)
        )

    def leaf_modules(self) -> dict[str, Any]:
        """The modules that contain no other module, as a tree."""

        def is_leaf_module(_: Module, __: str, value: Any) -> bool:
            return Module.is_module(value) and not _direct_modules(value)

        return self.filter_and_map(self.valid_child_filter, is_leaf_fn=is_leaf_module)

    def update(self, parameters: dict[str, Any], strict: bool = True) -> Module:  # type: ignore[override]
        """Replace parameters by those in a tree that may hold only some of them; shapes are not checked.

        Parameters
        ----------
        parameters : tree of arrays
            The new values, as from :meth:`parameters`; ``{}`` in place of an entry leaves it as it is.
        strict : bool
            Whether an entry that does not fit the module is an error; it is passed over otherwise.

        Returns
        -------
        Module
            The module itself.

        Raises
        ------
        ValueError
            With ``strict``, an entry is not in the module or of another kind than the one it replaces.

        Examples
        --------
        >>> from lamina import core as mx, nn
        >>> layer = nn.Linear(2, 1).update({"bias": mx.array([5.0])})
        >>> layer.bias.tolist()
        [5.0]
        """
        replace_entries(self, parameters, None, strict, "parameter", is_array)
        return self

    def update_modules(self, modules: dict[str, Any], strict: bool = True) -> Module:
        """Replace modules inside this one by those in a tree that may hold only some of them.

        Parameters
        ----------
        modules : tree of modules
            The new modules, as from :meth:`leaf_modules`.
        strict : bool
            Whether an entry that does not fit the module is an error; it is passed over otherwise.

        Returns
        -------
        Module
            The module itself.

        Raises
        ------
        ValueError
            With ``strict``, an entry is not in the module or does not stand for a module.

        Examples
        --------
        >>> from lamina import nn
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> model.update_modules({"layers": [{}, nn.GELU()]})
        Sequential(
          (layers.0): Linear(input_dims=2, output_dims=2, bias=True)
          (layers.1): GELU()
        )
        """
        replace_entries(self, modules, None, strict, "sub-module", Module.is_module)
        return self

    def apply(self, map_fn: Callable[[mx.array], mx.array], filter_fn: Filter | None = None) -> Module:
        """Replace every parameter ``p`` that passes the filter by ``map_fn(p)``.

        Parameters
        ----------
        map_fn : callable
            From the old array to the new one.
        filter_fn : callable, optional
            ``filter_fn(module, key, value)``; all parameters if not given.

        Returns
        -------
        Module
            The module itself.

        Examples
        --------
        >>> from lamina import core as mx, nn
        >>> nn.Linear(2, 1).apply(mx.ones_like).weight.tolist()
        [[1.0, 1.0]]
        """
        return self.update(self.filter_and_map(filter_fn or Module.valid_parameter_filter, map_fn))

    def apply_to_modules(self, apply_fn: Callable[[str, Module], Any]) -> Module:
        """Call ``apply_fn(path, module)`` for this module, whose path is ``""``, and all modules in it."""
        for path, module in self.named_modules():
            apply_fn(path, module)
        return self

    def modules(self) -> list[Module]:
        """This module and all modules in it, at any depth."""
        return [module for _, module in self.named_modules()]

    def named_modules(self) -> list[tuple[str, Module]]:
        """This module and all modules in it with their paths, this one first under ``""``."""
        found: list[tuple[str, Module]] = []
        pending: list[tuple[str, Module]] = [("", self)]
        while pending:
            path, module = pending.pop()
            found.append((path, module))
            prefix = f".{path}" if path else ""
            pending.extend(_direct_modules(module, prefix))
        return found

    def freeze(
        self, *, recurse: bool = True, keys: str | list[str] | None = None, strict: bool = False
    ) -> Module:
        """Take parameters out of the trainable ones.

        Parameters
        ----------
        recurse : bool
            Whether to freeze in all modules inside as well.
        keys : str or list of str, optional
            Names of the parameters to freeze, such as ``"bias"``; all if not given.
        strict : bool
            Whether a name that none of the modules has is an error.

        Returns
        -------
        Module
            The module itself.

        Raises
        ------
        KeyError
            With ``strict``, no module has one of ``keys``.

        Examples
        --------
        >>> from lamina import nn
        >>> list(nn.Linear(2, 3).freeze(keys="bias").trainable_parameters())
        ['weight']
        """
        names = _checked_names(self, keys, recurse, strict)
        for _, module in _direct_modules(self) if recurse else []:
            module.freeze(keys=keys)
        if names is None:
            own = self.filter_and_map(
                lambda m, k, v: not Module.is_module(v) and Module.valid_parameter_filter(m, k, v)
            )
            self._no_grad.update(name for name, _ in tree_flatten(own))
        else:
            self._no_grad.update(names)
        return self

    def unfreeze(
        self, *, recurse: bool = True, keys: str | list[str] | None = None, strict: bool = False
    ) -> Module:
        """Put parameters back among the trainable ones; the arguments are those of :meth:`freeze`.

        Examples
        --------
        >>> from lamina import nn
        >>> list(nn.Linear(2, 3).freeze().unfreeze(keys="bias").trainable_parameters())
        ['bias']
        """
        names = _checked_names(self, keys, recurse, strict)
        for _, module in _direct_modules(self) if recurse else []:
            module.unfreeze(keys=keys)
        if names is None:
            self._no_grad.clear()
        else:
            self._no_grad.difference_update(names)
        return self

    def train(self, mode: bool = True) -> Module:
        """Set training mode here and in all modules inside; dropout and batch norm depend on it."""
        for module in self.modules():
            module._set_training_mode(mode)
        return self

    def eval(self) -> Module:
        """Set evaluation mode here and in all modules inside: ``train(False)``."""
        return self.train(False)

    def _set_training_mode(self, mode: bool) -> None:
        self._training = mode

    def set_dtype(
        self,
        dtype: mx.Dtype,
        predicate: Callable[[mx.Dtype], bool] | None = lambda x: mx.issubdtype(x, mx.floating),
    ) -> None:
        """Convert the parameters to a dtype.

        Parameters
        ----------
        dtype : Dtype
            The new dtype.
        predicate : callable, optional
            Which dtypes to convert: the floating ones by default, all if ``None``.

        Examples
        --------
        >>> from lamina import core as mx, nn
        >>> layer = nn.Linear(2, 1)
        >>> layer.set_dtype(mx.bfloat16)
        >>> layer.weight.dtype == mx.bfloat16
        True
        """
        self.apply(lambda x: x.astype(dtype) if predicate is None or predicate(x.dtype) else x)


def _direct_modules(module: Module, prefix: str = "") -> list[tuple[str, Module]]:
    entries = tree_flatten(module.children(), prefix=prefix, is_leaf=Module.is_module)
    return [(path, child) for path, child in entries if Module.is_module(child)]


def _checked_names(
    module: Module, keys: str | list[str] | None, recurse: bool, strict: bool
) -> list[str] | None:
    """``keys`` as a list; with ``strict``, an error unless one of the modules concerned has each of them."""
    if keys is None:
        return None
    names = [keys] if isinstance(keys, str) else list(keys)
    if strict:
        concerned = module.modules() if recurse else [module]
        for name in names:
            if not any(name in m for m in concerned):
                known = sorted({key for m in concerned for key in m})
                raise KeyError(f"{type(module).__name__} has no member {name!r}; the members are {known}")
    return names


def _walk(module: Module, keep: Filter, map_fn: Callable[[Any], Any], is_leaf: Filter) -> dict[str, Any]:
    """The kept entries of one module; see Module.filter_and_map."""

    def visit(key: str, value: Any) -> Any:
        if is_leaf(module, key, value):
            return map_fn(value)
        if isinstance(value, Module):
            return _walk(value, keep, map_fn, is_leaf)
        if isinstance(value, dict):
            return {k: inner(f"{key}.{k}", v) for k, v in value.items()}
        if isinstance(value, list):
            return [inner(f"{key}.{i}", v) for i, v in enumerate(value)]
        raise RuntimeError(
            f"[filter_and_map] {key!r} of {type(module).__name__} is no leaf: {type(value).__name__}"
        )

    def inner(key: str, value: Any) -> Any:
        return visit(key, value) if keep(module, key, value) else {}

    return {key: visit(key, value) for key, value in module.items() if keep(module, key, value)}
