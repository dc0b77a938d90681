"""Training text as windows of token ids, in an order that a seed and a cursor determine."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lamina.lm.errors import DataError
from lamina.lm.tokenizer import Tokenizer

TEXT_SUFFIXES = (
    ".txt",
    ".md",
    ".rst",
    ".py",
    ".json",
    ".csv",
    ".html",
    ".c",
    ".h",
    ".cc",
    ".cpp",
    ".js",
    ".ts",
    ".tex",
)


def read_documents(paths: Iterable[str | Path]) -> list[str]:
    """Read text files, one document each, in sorted order; a directory gives the text files below it.

    Raises
    ------
    DataError
        A path is missing, is not UTF-8 text, or no document has any text.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.suffix in TEXT_SUFFIXES and p.is_file())
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"no such file or directory: {path}")
    documents = []
    for file in files:
        try:
            documents.append(file.read_text(encoding="utf-8"))
        except UnicodeDecodeError as e:
            raise DataError(f"{file} is not UTF-8 text: {e.reason} at byte {e.start}") from e
    documents = [d for d in documents if d]
    if not documents:
        raise DataError(f"no text found in {', '.join(map(str, paths)) or 'an empty list of paths'}")
    return documents


def encode_documents(tokenizer: Tokenizer, documents: Sequence[str], separator: int) -> list[np.ndarray]:
    """Return the ids (int32) of each document, the separator first."""
    ids = tokenizer.encode_batch(documents)
    return [np.asarray([separator, *doc], dtype=np.int32) for doc in ids]


@dataclass(frozen=True)
class Cursor:
    """The next window to read: the pass over the data and the place in its order, both from 0."""

    epoch: int = 0
    position: int = 0


class PackedWindows:
    """Documents packed end to end and cut into windows, in a new order and at a new cut on every pass.

    On pass ``e`` the documents are shuffled, concatenated, cut from a random start into windows of ``length
    + 1`` ids that overlap by one (so that every id is predicted once), and the windows are shuffled: all by
    ``(seed, e)`` alone. The ids beyond the last whole window wait for the next pass.

    Parameters
    ----------
    documents : sequence of ndarray
        Token ids of each document, separator included.
    length : int
        Tokens that a window predicts.
    seed : int
        Seed of every order.

    Raises
    ------
    DataError
        The documents together hold fewer than ``2 * length + 1`` ids.
    """

    def __init__(self, documents: Sequence[np.ndarray], length: int, seed: int) -> None:
        if length < 1:
            raise DataError(f"the window length must be at least 1, got {length}")
        self.documents = list(documents)
        self.length = length
        self.seed = seed
        self.tokens = sum(len(d) for d in self.documents)
        if self.tokens < 2 * length + 1:
            raise DataError(
                f"the text is too short: {self.tokens} tokens, "
                f"but windows of {length} want at least {2 * length + 1}"
            )
        self._epoch = -1
        self._windows = np.empty((0, length + 1), dtype=np.int32)

    def epoch(self, number: int) -> np.ndarray:
        """Return the windows (N, length + 1) of one pass, in their order."""
        if number != self._epoch:
            rng = random.Random(f"{self.seed}/{number}")
            order = list(range(len(self.documents)))
            rng.shuffle(order)
            stream = np.concatenate([self.documents[i] for i in order])[rng.randrange(self.length) :]
            count = (len(stream) - 1) // self.length
            overlapping = np.lib.stride_tricks.sliding_window_view(stream, self.length + 1)[:: self.length]
            picks = list(range(count))
            rng.shuffle(picks)
            self._windows = overlapping[picks]
            self._epoch = number
        return self._windows

    def batch(self, cursor: Cursor, size: int) -> tuple[np.ndarray, Cursor]:
        """Return ``size`` windows (size, length + 1) from ``cursor`` on, and the cursor after them."""
        parts, missing = [], size
        while missing:
            windows = self.epoch(cursor.epoch)
            part = windows[cursor.position : cursor.position + missing]
            parts.append(part)
            missing -= len(part)
            cursor = Cursor(cursor.epoch, cursor.position + len(part))
            if cursor.position >= len(windows):
                cursor = Cursor(cursor.epoch + 1, 0)
        return np.concatenate(parts), cursor
