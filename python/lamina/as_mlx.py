"""Makes ``mlx`` another name of ``lamina``: ``import lamina.as_mlx``, then ``import mlx.core as mx``.

After the import, ``mlx``, ``mlx.core``, ``mlx.nn``, ``mlx.optimizers``, ``mlx.utils`` and whatever is
imported below them are the very same module objects as their namesakes in ``lamina``. Importing this module
is the request: it is the one module of the package that acts when imported.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

_MODULES = ("core", "nn", "optimizers", "utils")


def _target(name: str) -> str:
    return "lamina" + name.removeprefix("mlx")


class _AliasLoader(importlib.abc.Loader):
    """Answers the import of an ``mlx`` name with the ``lamina`` module."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(_target(spec.name))
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has put the alias's spec on the module: give it back its own.
        module.__spec__ = self._own_spec


class _AliasFinder(importlib.abc.MetaPathFinder):
    """Finds ``mlx`` and everything below it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "mlx" and not name.startswith("mlx."):
            return None
        if importlib.util.find_spec(_target(name)) is None:
            raise ModuleNotFoundError(f"No module named {name!r}: lamina has no {_target(name)!r}", name=name)
        return importlib.machinery.ModuleSpec(name, _AliasLoader())


def install() -> None:
    """Register the aliases; calling it again changes nothing.

    Raises
    ------
    ImportError
        Another package named ``mlx`` has been imported already.
    """
    package = importlib.import_module("lamina")
    if sys.modules.get("mlx", package) is not package:
        raise ImportError(
            f"another 'mlx' is imported already, from {getattr(sys.modules['mlx'], '__file__', None)}: "
            "import lamina.as_mlx before anything that imports mlx"
        )
    modules = {f"mlx.{name}": importlib.import_module(f"lamina.{name}") for name in _MODULES}
    sys.modules.update({"mlx": package, **modules})
    if not any(isinstance(f, _AliasFinder) for f in sys.meta_path):
        sys.meta_path.insert(0, _AliasFinder())
    # Under the alias a dtype prints as mlx.core.float32, as scripts that read such text expect.
    modules["mlx.core"]._set_display_name("mlx.core")


install()
