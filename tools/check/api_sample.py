"""Write a program that names everything public, for pyright to say what the stubs leave out.

Run as ``python tools/check/api_sample.py FOLDER``, with the package installed; then ``pyright -p FOLDER``.
Every module has a file of its own, in strict mode: a name without a type is an error, too.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODULES = [
    "lamina.core",
    "lamina.core.fast",
    "lamina.core.fft",
    "lamina.core.linalg",
    "lamina.core.random",
    "lamina.core.distributed",
    "lamina.nn",
    "lamina.nn.init",
    "lamina.nn.losses",
    "lamina.nn.layers.distributed",
    "lamina.optimizers",
    "lamina.utils",
    "lamina.array_api",
    "lamina.array_api.fft",
    "lamina.array_api.linalg",
]
# Attributes that every class has; deleting an element exists to say that it cannot be done.
COMMON = set(dir(type("Plain", (), {}))) | {"__annotations__", "__abstractmethods__", "__delitem__"}


def named(name: str) -> tuple[Any, str]:
    """The module, or the namespace inside lamina.core, and how it is imported."""
    owner, _, last = name.rpartition(".")
    if owner == "lamina.core":
        return getattr(importlib.import_module(owner), last), f"from {owner} import {last} as module"
    return importlib.import_module(name), f"import {name} as module"


def public(module: Any) -> list[str]:
    """Names that the module offers; what it imported for itself is none of them."""
    names = getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]
    return sorted(n for n in names if not isinstance(getattr(module, n), ModuleType))


def members(kind: type) -> list[str]:
    """Methods, operators and properties that the class itself defines."""
    return sorted(
        n
        for n in vars(kind)
        if n not in COMMON and (not n.startswith("_") or (n.startswith("__") and callable(getattr(kind, n))))
    )


def sample(name: str) -> str:
    """The text of the program for one module."""
    module, line = named(name)
    lines = [f'"""Every public name of {name}."""', "", "# pyright: strict, reportPrivateUsage=false", ""]
    lines += ["from typing import Any", "", line, "", "names: list[Any] = ["]
    for n in public(module):
        lines.append(f"    module.{n},")
        value = getattr(module, n)
        # Methods of layers may take and give anything: their classes are checked by themselves.
        if inspect.isclass(value) and name.startswith("lamina.core"):
            lines += [f"    module.{n}.{m}," for m in members(value)]
    return "\n".join([*lines, "]", ""])


def main() -> int:
    """Write the programs, and the settings of pyright for them."""
    if len(sys.argv) != 2:
        print("usage: api_sample.py FOLDER", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.py"):
        old.unlink()
    for name in MODULES:
        (folder / f"{name.replace('.', '_')}.py").write_text(sample(name), encoding="utf-8")
    settings = {
        "include": ["."],
        "pythonVersion": "3.10",
        "venvPath": str(ROOT),
        "venv": ".venv",
        "extraPaths": [str(ROOT / "python")],
        "stubPath": str(ROOT / "build" / "typings"),
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
