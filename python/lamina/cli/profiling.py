"""The option ``--profile FILE``: a Chrome trace of what a command ran, and a table of it on stderr."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

ROWS = 15


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--profile FILE`` to ``parser``."""
    parser.add_argument(
        "--profile",
        metavar="FILE",
        help="write a Chrome trace of all kernels and waits to FILE, and a table to stderr",
    )


@contextlib.contextmanager
def profiled(file: str | None) -> Iterator[None]:
    """Profile the block and write ``file``, also where the block raises; None profiles nothing.

    Raises
    ------
    FileNotFoundError
        Before the block runs, where ``file`` lies in a folder that does not exist.
    """
    if file is None:
        yield
        return
    place = Path(file).absolute()  # also where the block changes the working directory
    folder = Path(file).parent
    if not folder.is_dir():
        raise FileNotFoundError(2, "no such folder for the profile", str(folder))
    import lamina.core as mx

    profile = mx.profile()
    try:
        with profile:
            yield
    finally:
        profile.save(place)
        print(f"{profile.table(ROWS)}profile: {file}", file=sys.stderr)
