"""``lamina run``: run a script that was written for MLX."""

from __future__ import annotations

import argparse
import importlib.util
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from lamina.cli import profiling

_EXAMPLES = """examples:
  lamina run train.py --epochs 3
  lamina run -m my_package.train --epochs 3
  lamina run --profile trace.json train.py
"""


def _fill(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    profiling.add_option(parser)
    parser.add_argument("-m", dest="module", metavar="MODULE", help="run a module instead of a file")
    parser.add_argument("target", nargs="?", metavar="FILE", help="script to run")
    parser.add_argument("args", nargs="*", metavar="ARG", help="the script's own arguments")
    return parser


def add_parser(commands: Any) -> None:
    """Add the subcommand to ``commands`` (for its help; :func:`main` reads the arguments)."""
    _fill(
        commands.add_parser(
            "run",
            help="run a script that says 'import mlx.core as mx'",
            description=_DESCRIPTION,
            epilog=_EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )


_DESCRIPTION = (
    "Run a Python script or module with mlx as another name of lamina. Exceptions and exit code pass through."
)


def _parser() -> argparse.ArgumentParser:
    return _fill(
        argparse.ArgumentParser(
            prog="lamina run",
            description=_DESCRIPTION,
            epilog=_EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )


def _take_profile(argv: list[str]) -> tuple[str | None, list[str]]:
    """The file of a ``--profile`` in front of the target, and what follows it."""
    if argv[:1] == ["--profile"] and len(argv) >= 2:
        return argv[1], argv[2:]
    if argv and argv[0].startswith("--profile="):
        return argv[0].removeprefix("--profile="), argv[1:]
    return None, argv


def _missing(module: str | None, path: str) -> str | None:
    """Say what there is not; None where there is something to run."""
    if module is None:
        if Path(path).is_dir() and not (Path(path) / "__main__.py").is_file():
            return f"no __main__.py in the folder {path}"
        return None if Path(path).exists() else f"no such file: {path}"
    # Only the first part: to look for others imports it, and what goes wrong there is the script's affair.
    top = module.partition(".")[0]
    return None if importlib.util.find_spec(top) is not None else f"no module named {top}"


def main(argv: list[str]) -> int:
    """Run ``[--profile FILE] FILE ARGS...`` or ``-m MODULE ARGS...`` as the main program.

    All after the target is its own.

    Returns
    -------
    int
        0; a script that exits with another code raises ``SystemExit``, as it does under ``python``.
    """
    trace, argv = _take_profile(argv)
    head = argv[:1]
    if head == ["-m"] and len(argv) >= 2:
        module, arguments = argv[1], argv[2:]
    elif head and not head[0].startswith("-"):
        module, arguments = None, argv[1:]
    else:
        parser = _parser()
        parser.parse_args(head)  # --help leaves here, and so does an option that does not exist
        parser.error("wanted a FILE, or -m MODULE")
    import lamina.as_mlx  # noqa: F401

    if module is not None:
        sys.path.insert(0, os.getcwd())
    if missing := _missing(module, argv[0]):
        print(f"lamina run: error: {missing}", file=sys.stderr)
        return 2
    if trace is not None and not Path(trace).parent.is_dir():
        print(f"lamina run: error: no such folder for the profile: {Path(trace).parent}", file=sys.stderr)
        return 2
    with profiling.profiled(trace):
        if module is not None:
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(argv[0]).resolve().parent))
            sys.argv = [argv[0], *arguments]
            runpy.run_path(argv[0], run_name="__main__")
    return 0
