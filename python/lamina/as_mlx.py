"""Makes ``mlx`` another name of ``lamina``: ``import lamina.as_mlx``, then ``import mlx.core as mx``.

After the import, ``mlx``, ``mlx.core``, ``mlx.nn``, ``mlx.optimizers``, ``mlx.utils`` and whatever is
imported below them are the very same module objects as their namesakes in ``lamina``. ``mlx.core.metal`` and
``mlx.core.cuda`` are there for scripts to ask whether they have such a GPU. Importing this module is the
request: it is the one module of the package that acts when imported.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_MODULES = ("core", "nn", "optimizers", "utils")
# What scripts of earlier MLX versions look for in mlx.core.metal instead of mlx.core.
_MOVED = (
    "clear_cache",
    "device_info",
    "get_active_memory",
    "get_cache_memory",
    "get_peak_memory",
    "reset_peak_memory",
    "set_cache_limit",
    "set_memory_limit",
    "set_wired_limit",
)


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


def _no_capture(*args: Any, **kwargs: Any) -> None:
    raise NotImplementedError(
        "[metal.start_capture] captures are not supported by the cpu backend: wanted Metal; "
        "mlx.core.profile() records kernels here"
    )


def _name_gpus(core: ModuleType) -> None:
    """Add the modules that say which GPUs are there: none."""
    if hasattr(core, "metal"):
        return
    for name in ("metal", "cuda"):
        module = ModuleType(f"{core.__name__}.{name}", f"Not there: ``{name}.is_available()`` is False.")
        module.__dict__["is_available"] = lambda: False
        setattr(core, name, module)
    core.metal.__dict__.update({name: getattr(core, name) for name in _MOVED})
    core.metal.__dict__.update(start_capture=_no_capture, stop_capture=_no_capture)


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
    _name_gpus(modules["mlx.core"])
    # Under the alias a dtype prints as mlx.core.float32, as scripts that read such text expect.
    modules["mlx.core"]._set_display_name("mlx.core")


install()
