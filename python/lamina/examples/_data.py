"""The data of the examples: scikit-learn's digits, text, and batches in an order that a seed decides."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

import lamina
import lamina.core as mx
from lamina.lm.errors import DataError

HELD_OUT = 360  # of the 1,797 digits
SPLIT_SEED = 20  # the same digits are held out in every run


class Digits(NamedTuple):
    """Images (N, 8, 8, 1) of float32 in 0..1, and the digits (N,) of int32 that they show."""

    images: np.ndarray
    labels: np.ndarray


def load_digits() -> tuple[Digits, Digits]:
    """Return scikit-learn's handwritten digits, which come with that package: for training, and held out.

    Raises
    ------
    DataError
        scikit-learn is not installed.

    Examples
    --------
    >>> train, held_out = load_digits()
    >>> train.images.shape, held_out.labels.shape
    ((1437, 8, 8, 1), (360,))
    """
    try:
        from sklearn import datasets
    except ImportError as e:
        raise DataError(
            f"the digits come with scikit-learn, which does not load ({e}): pip install scikit-learn"
        ) from e
    pixels, labels = datasets.load_digits(return_X_y=True)
    images = (np.asarray(pixels) / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    held_out, train = order[:HELD_OUT], order[HELD_OUT:]
    labels = np.asarray(labels, np.int32)
    return Digits(images[train], labels[train]), Digits(images[held_out], labels[held_out])


class Text(NamedTuple):
    """Characters as numbers: windows (N, L + 1) to train on and held out, int32, and the alphabet."""

    train: np.ndarray
    held_out: np.ndarray
    alphabet: str

    def encode(self, text: str) -> list[int]:
        """Return the numbers of characters; all must be in the alphabet."""
        return [self.alphabet.index(c) for c in text]

    def decode(self, ids: list[int]) -> str:
        """Return the characters of numbers."""
        return "".join(self.alphabet[i] for i in ids)


def load_text(path: Path | None, length: int, short: bool = False) -> Text:
    """Read text and cut it into windows; the last tenth is held out.

    Parameters
    ----------
    path : Path, optional
        A text file; the sources of lamina's own layers and optimizers if not given.
    length : int
        Characters that a window predicts; windows overlap by one, so that each is predicted once.
    short : bool
        Take the first 60,000 characters only.

    Returns
    -------
    Text
        The windows.

    Raises
    ------
    DataError
        The file cannot be read, is not UTF-8, or is too short.

    Examples
    --------
    >>> text = load_text(None, length=64, short=True)
    >>> text.train.shape, text.decode(text.encode("def"))
    ((843, 65), 'def')
    """
    package = Path(lamina.__file__).parent
    files = [path] if path else sorted(p for d in ("nn", "optimizers") for p in (package / d).rglob("*.py"))
    try:
        text = "\n".join(p.read_text(encoding="utf-8") for p in files)
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"--text wanted a file of UTF-8 text, got {path}: {e}") from e
    text = text[:60_000] if short else text
    if len(text) < 20 * (length + 1):
        raise DataError(f"--text wanted at least {20 * (length + 1)} characters, got {len(text)} in {path}")
    alphabet = "".join(sorted(set(text)))
    place = {c: i for i, c in enumerate(alphabet)}
    ids = np.array([place[c] for c in text], np.int32)
    cut = len(ids) * 9 // 10
    train, held_out = (
        np.lib.stride_tricks.sliding_window_view(part, length + 1)[::length]
        for part in (ids[:cut], ids[cut:])
    )
    return Text(train, held_out, alphabet)


class Batches:
    """Batches of rows, in an order that depends on the seed and the epoch alone.

    ``batches[step]`` is what step ``step`` sees, counted from 0 over all epochs, and ``len(batches)`` the
    number of steps in an epoch. So the step is all that a checkpoint needs to keep. Rows that fill no batch
    at an epoch's end are left out of that epoch.

    Parameters
    ----------
    *columns : ndarray
        Arrays with the same number of rows.
    size : int
        Rows in a batch.
    seed : int
        Seed of the order.

    Raises
    ------
    DataError
        There are fewer rows than a batch wants.

    Examples
    --------
    >>> batches = Batches(np.arange(10), size=4, seed=0)
    >>> len(batches), [rows.size for (rows,) in (batches[0], batches[7])]
    (2, [4, 4])
    """

    def __init__(self, *columns: np.ndarray, size: int, seed: int) -> None:
        if size > len(columns[0]):
            raise DataError(f"--batch wanted at most the {len(columns[0])} rows of data, got {size}")
        self._columns = columns
        self._size = size
        self._seed = seed
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def __len__(self) -> int:
        return len(self._columns[0]) // self._size

    def __getitem__(self, step: int) -> tuple[mx.array, ...]:
        epoch, place = divmod(step, len(self))
        if epoch != self._order[0]:
            rng = np.random.default_rng([self._seed, epoch])
            self._order = (epoch, rng.permutation(len(self._columns[0])))
        rows = self._order[1][place * self._size : (place + 1) * self._size]
        return tuple(mx.array(column[rows]) for column in self._columns)

    def digest(self) -> str:
        """Return a hash of the data, by which a checkpoint knows it again."""
        digest = hashlib.sha256()
        for column in self._columns:
            digest.update(f"{column.dtype}{column.shape}".encode() + np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()[:16]
