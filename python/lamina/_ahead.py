"""Tokenizers that are read while modules are imported: files of 150,000 tokens take a third of a second."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

_pending: dict[str, _Reading] = {}


class _Reading:
    """One file, read by a thread of its own."""

    def __init__(self, path: str) -> None:
        self.result: Any = None
        self.error: Exception | None = None
        self._path = path
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        from tokenizers import Tokenizer

        try:
            self.result = Tokenizer.from_file(self._path)
        except Exception as error:  # raised where the result is wanted
            self.error = error


def begin_tokenizer(path: Path) -> None:
    """Begin to read the ``tokenizer.json`` at ``path``, if there is one."""
    key = str(path.resolve())
    if path.is_file() and key not in _pending:
        _pending[key] = _Reading(str(path))


def read_tokenizer(path: Path) -> Any:
    """Return the tokenizer of a ``tokenizer.json``, from where it has been begun if it has.

    Raises
    ------
    Exception
        The file is not a tokenizer.
    """
    from tokenizers import Tokenizer

    reading = _pending.pop(str(path.resolve()), None)
    if reading is None:
        return Tokenizer.from_file(str(path))
    reading.thread.join()
    if reading.error is not None:
        raise reading.error
    return reading.result
