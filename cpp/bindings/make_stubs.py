"""Write core.pyi, the type stub of lamina.core, from the built module.

Run by the build as ``make_stubs.py MODULE_FILE STUB_FILE``. Every function, method and property tells its own
signature; the operators of ``array``, which are slots of its type, are listed here.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import textwrap
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

HEADER = '''"""{doc}"""

# Generated from the module by the build: do not edit.

import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, overload

import numpy

P = ParamSpec("P")
R = TypeVar("R")

class DLPackCompatible(Protocol):
    """An object of the DLPack protocol."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, Any]: ...

scalar: TypeAlias = bool | int | float | complex
file: TypeAlias = BinaryIO
StreamOrDevice: TypeAlias = Stream | ThreadLocalStream | Device | DeviceType | None
_Operand: TypeAlias = array | scalar | numpy.ndarray | numpy.generic
'''

BINARY = (
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "and",
    "or",
    "xor",
    "lshift",
    "rshift",
)
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
UNARY = ("neg", "pos", "abs", "invert")
CONVERSIONS = {"bool": "bool", "int": "int", "float": "float", "index": "int", "len": "int", "hash": "int"}

OTHER_SLOTS = {
    "custom_function": [
        "def __call__(self, *args: Any, **kwargs: Any) -> Any: ...",
        "def vjp(self, f: Callable[..., Any], /) -> custom_function: ...",
        "def jvp(self, f: Callable[..., Any], /) -> custom_function: ...",
        "def vmap(self, f: Callable[..., Any], /) -> custom_function: ...",
    ],
    "array": [
        "def __getitem__(self, index: Any, /) -> array: ...",
        "def __setitem__(self, index: Any, value: Any, /) -> None: ...",
        "def __iter__(self) -> Iterator[array]: ...",
        "def __contains__(self, value: Any, /) -> bool: ...",
        "def __divmod__(self, other: _Operand, /) -> tuple[array, array]: ...",
        "def __rdivmod__(self, other: _Operand, /) -> tuple[array, array]: ...",
        "def __buffer__(self, flags: int, /) -> memoryview: ...",
    ],
    "ArrayIterator": [
        "def __iter__(self) -> Iterator[array]: ...",
        "def __next__(self) -> array: ...",
    ],
}

# Functions whose result depends on which arguments there are.
ONE_OR_MORE = (
    "(a: array, /, *, stream: StreamOrDevice = None) -> array",
    "(*arys: array, stream: StreamOrDevice = None) -> list[array]",
)
OVERLOADS = {
    "where": (
        "(condition: scalar | array, /) -> tuple[array, ...]",
        "(condition: scalar | array, x: scalar | array, y: scalar | array, /, *, "
        "stream: StreamOrDevice = None) -> array",
    ),
    "load": (
        "(file: file | str | pathlib.Path, /, format: str | None = None, "
        "return_metadata: Literal[False] = False, *, stream: StreamOrDevice = None) -> Any",
        "(file: file | str | pathlib.Path, /, format: str | None = None, *, return_metadata: Literal[True], "
        "stream: StreamOrDevice = None) -> tuple[dict[str, array], dict[str, Any]]",
    ),
    "atleast_1d": ONE_OR_MORE,
    "atleast_2d": ONE_OR_MORE,
    "atleast_3d": ONE_OR_MORE,
}


# Types that signatures leave open, for readers, and what type checkers want of them.
BARE = (
    (r"\bCallable(?!\[)", "Callable[..., Any]"),
    (r"\bSequence(?!\[)", "Sequence[Any]"),
    (r"\bdict(?!\[)", "dict[Any, Any]"),
    (r"\btuple(?!\[)", "tuple[Any, ...]"),
    (r"\blist(?!\[)", "list[Any]"),
    (r"\*args(?!:)", "*args: Any"),
    (r"\*\*kwargs(?!:)", "**kwargs: Any"),
)


def load(path: str) -> ModuleType:
    """Import the module file under its own name."""
    spec = importlib.util.spec_from_file_location("lamina.core", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def quoted(doc: str, indent: str) -> str:
    """A docstring as source text."""
    text = doc.strip().replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    lines = [line and indent + line for line in text.split("\n")]
    return f'{indent}"""' + "\n".join(lines).lstrip() + ("\n" + indent if len(lines) > 1 else "") + '"""\n'


def defined(name: str, signature: str, doc: str, indent: str, decorator: str = "") -> str:
    """One ``def`` with its docstring; ``signature`` is the text that the binding was made from."""
    rest = signature[signature.index("(") :]
    if not re.search(r"\) -> [^()]*(\(.*)?$", rest):
        rest += " -> None"
    for bare, full in BARE:
        rest = re.sub(bare, full, rest)
    # Defaults that are names of the module (dtypes) need no value in a stub.
    rest = re.sub(r"= ([a-z]+\d+)", "= ...", rest)
    body = quoted(doc, indent + "    ") if doc else f"{indent}    ...\n"
    lead = f"{indent}{decorator}\n" if decorator else ""
    return f"{lead}{indent}def {name}{rest}:\n{body}"


def operators() -> list[str]:
    """The operators of ``array``."""
    out = [
        f"def __{n}__(self, other: _Operand, /) -> array: ..."
        for op in BINARY
        for n in (op, f"r{op}", f"i{op}")
    ]
    for op in COMPARISONS:
        override = "  # type: ignore[override]" if op in ("eq", "ne") else ""
        out.append(f"def __{op}__(self, other: Any, /) -> array: ...{override}")
    out += [f"def __{op}__(self) -> array: ..." for op in UNARY]
    out += [f"def __{op}__(self) -> {result}: ..." for op, result in CONVERSIONS.items()]
    return out


def class_text(module: ModuleType, name: str, functions: list[Any], properties: list[Any]) -> str:
    """The stub of one class."""
    cls = getattr(module, name)
    parts = [f"class {name}:\n"]
    doc = (cls.__doc__ or "").strip()
    if doc:
        parts.append(quoted(doc, "    "))
    slots = OTHER_SLOTS.get(name, []) + (operators() if name == "array" else [])
    parts += [f"    {line}\n" for line in slots]
    for prop, kind, text in properties:
        if text:
            parts.append(f"    @property\n    def {prop}(self) -> {kind}:\n{quoted(text, '        ')}")
        else:
            parts.append(f"    {prop}: {kind}\n")
    for member, signature, text in functions:
        if member == "__init__":
            inner = signature[signature.index("(") + 1 :].split(") -> ")[0].removesuffix(")")
            parts.append(f"    def __init__(self, {inner}) -> None: ...\n")
        elif member not in {"__getitem__"} or name != "array":
            parts.append(defined(member, signature, text, "    "))
    if len(parts) == 1:
        parts.append("    ...\n")
    return "".join(parts)


def value_type(value: object) -> str:
    """The annotation of a constant."""
    if isinstance(value, list):
        return "list[array]"
    return "None" if value is None else type(value).__name__.rpartition(".")[2]


def stub(module: ModuleType) -> str:
    """The text of the stub file."""
    functions: dict[str, list[Any]] = defaultdict(list)
    for scope, name, signature, doc, _ in module._list_functions():
        functions[scope].append((name, signature, doc))
    properties: dict[str, list[Any]] = defaultdict(list)
    for scope, name, kind, doc in module._list_properties():
        properties[scope].append((name, kind, doc))
    parts = [HEADER.format(doc=module.__doc__)]
    members = sorted(vars(module).items())
    for name, value in members:
        if isinstance(value, type) and not name.startswith("_Transform"):
            parts.append(class_text(module, name, functions[name], properties[name]))
    for name, value in members:
        known = isinstance(value, (type, ModuleType)) or callable(value)
        if not known and not name.startswith("__"):
            parts.append(f"{name}: {value_type(value)}\n")
    parts.append("__version__: str\n")
    for name, signature, doc in functions["lamina.core"]:
        variants = OVERLOADS.get(name)
        if variants is None:
            parts.append(defined(name, signature, doc, ""))
        else:
            parts += [defined(name, name + v, doc, "", "@overload") for v in variants]
    for name, value in members:
        if isinstance(value, ModuleType):
            parts.append(submodule_text(f"lamina.core.{name}", value, functions, properties))
    return "\n".join(parts)


def submodule_text(
    scope: str, module: ModuleType, functions: dict[str, list[Any]], properties: dict[str, list[Any]]
) -> str:
    """A submodule as a class of static functions, which is how one stub file can show it."""
    name = scope.rpartition(".")[2]
    parts = [f"class {name}:\n", quoted(module.__doc__ or name, "    ")]
    for member, value in sorted(vars(module).items()):
        if isinstance(value, type):
            inner = f"{scope}.{member}"
            text = class_text(module, member, functions[inner], properties[inner])
            # Inside its own class a nested name is not in scope.
            text = text.replace(f"-> {member}:", f"-> {name}.{member}:")
            parts.append(textwrap.indent(text, "    "))
        elif not member.startswith("__") and not callable(value):
            parts.append(f"    {member}: {value_type(value)}\n")
    parts += [defined(n, s, d, "    ", "@staticmethod") for n, s, d in functions[scope]]
    return "".join(parts)


def main(arguments: list[str]) -> int:
    """Write the stub of a module file."""
    if len(arguments) != 2:
        print("make_stubs.py wants MODULE_FILE and STUB_FILE", file=sys.stderr)
        return 2
    target = Path(arguments[1])
    target.write_text(stub(load(arguments[0])), encoding="utf-8")
    # A folder of stubs hides the package of that name from type checkers unless it stands for all of it.
    if not (target.parent / "__init__.py").exists():
        (target.parent / "__init__.pyi").write_text("__version__: str\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
