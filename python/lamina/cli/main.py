"""The command line's frame: subcommands, errors and exit codes.

Exit codes: 0 done; 1 an error, named on stderr; 2 wrong usage; 130 stopped by Ctrl-C. Nothing heavy is
imported before a subcommand needs it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import lamina
from lamina.cli import (
    cache,
    chat,
    convert,
    doctor,
    embed,
    evaluate,
    generate,
    models,
    perplexity,
    pretrain,
    quantize,
    run,
)

_EXAMPLES = """examples:
  lamina generate "def read_lines(path):"
  lamina chat --model ./my-model
  lamina run script.py
  lamina doctor
"""
_COMMANDS = (
    generate,
    chat,
    cache,
    pretrain,
    quantize,
    convert,
    perplexity,
    evaluate,
    embed,
    models,
    run,
    doctor,
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all subcommands."""
    parser = argparse.ArgumentParser(
        prog="lamina",
        description="Lazy arrays and language models on plain CPUs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lamina {lamina.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return its exit code.

    Examples
    --------
    >>> main(["--version"])
    Traceback (most recent call last):
    SystemExit: 0
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["run"]:
        # A script's own options are not argparse's to read, and its errors are its own.
        return run.main(argv[1:])
    args = build_parser().parse_args(argv)
    try:
        return args.execute(args)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader went away; keep the interpreter's last flush from complaining about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if not is_users_error(error):
            raise
        print(f"lamina {args.command}: error: {error}", file=sys.stderr)
        return 1


def is_users_error(error: Exception) -> bool:
    """Return whether ``error`` is about the input (one line will do), not a fault of ours (a traceback)."""
    errors = sys.modules.get("lamina.lm.errors")
    if errors is not None and isinstance(error, errors.LMError):
        return True
    return isinstance(error, OSError) and error.filename is not None
