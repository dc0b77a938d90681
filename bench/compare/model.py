"""What a job, its inputs, its expected result and a peer are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

EPS = {"float32": 2.0**-24, "float64": 2.0**-53, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Unit roundoff: the largest relative error of rounding once."""


class Unsupported(Exception):  # noqa: N818 - a finding about a peer, not a failure of the run
    """A peer has no way to do a job."""


class Mismatch(Exception):  # noqa: N818
    """A result is not what the job expects."""


@dataclass(frozen=True)
class Input:
    """One operand of a job.

    Attributes
    ----------
    values : numpy.ndarray
        The numbers, exactly representable in ``dtype``.
    dtype : str
        What the peers get them as: a dtype's name, or ``"index"`` for each peer's usual index dtype.
    """

    values: np.ndarray
    dtype: str


@dataclass(frozen=True)
class Expected:
    """One output of a job in float64, with the absolute error that each element may have.

    ``dtype`` is the dtype the output must have; None leaves it to the peer (indices).
    """

    values: np.ndarray
    bound: np.ndarray | float
    dtype: str | None = "float32"


@dataclass(frozen=True)
class Limit:
    """The longest time that our run may take: ``seconds``, over our best time of the row ``above``."""

    seconds: float
    above: str | None = None


Outputs = Sequence[np.ndarray]
Check = Callable[[Outputs], None]


@dataclass(frozen=True)
class Job:
    """A piece of work that every peer does in its own way.

    Attributes
    ----------
    name : str
        ``group/what/size``; the first parts group rows.
    inputs : callable
        Makes the operands from a seeded generator.
    run : callable
        ``run(ops, *arrays)``: the work in terms of a peer's :class:`~bench.compare.peers.base.Ops`. Returns
        one array or a tuple of them.
    expected : callable
        The outputs for these operands: a list of :class:`Expected`, or a function that checks the outputs
        itself where no single result is right (random numbers).
    target : float, optional
        The ratio of our best time to the best peer's that the project wants.
    limit : Limit, optional
        The longest time of ours that the project wants.
    bytes : int
        Bytes read and written at least, each once; 0 where that says nothing.
    flops : int
        Floating-point operations at least; 0 where that says nothing.
    prepare : callable, optional
        ``prepare(ops, *arrays)``: what the work gets instead of the operands, made once and not timed (a
        library's own layout of weights).
    traceable : bool
        False where ``run`` does something different each time, so that a peer must not record and replay it.
    """

    name: str
    inputs: Callable[[np.random.Generator], list[Input]]
    run: Callable[..., Any]
    expected: Callable[[Sequence[np.ndarray]], Sequence[Expected] | Check]
    target: float | None = None
    bytes: int = 0
    flops: int = 0
    prepare: Callable[..., Sequence[Any]] | None = None
    traceable: bool = True
    limit: Limit | None = None


class Peer(Protocol):
    """An array library behind one interface; add one in ``bench/compare/peers``."""

    name: str

    def available(self) -> str | None:
        """None where the library can be used here, else the reason why not. Imports it."""
        ...

    def version(self) -> str:
        """The library's version."""
        ...

    def threads(self) -> int | None:
        """The threads its kernels use now; None where the library does not tell."""
        ...

    def make(self, job: Job, inputs: Sequence[Input]) -> Callable[[], Any]:
        """A function that does the job to the end, values in memory; raises :class:`Unsupported`."""
        ...

    def to_numpy(self, result: Any) -> Outputs:
        """The outputs of such a function as NumPy arrays; dtypes NumPy lacks become float32."""
        ...

    def dtype_names(self, result: Any) -> Sequence[str]:
        """The dtypes' names of its outputs."""
        ...


@dataclass(frozen=True)
class Sizes:
    """Lengths of the jobs' arrays; ``tiny`` shrinks them all, for tests.

    Attributes
    ----------
    llc_bytes : int
        Size of the machine's last-level cache.
    names : tuple of str
        Which sizes the rows of op families have: of ``1k``, ``1m``, ``8m`` and ``llc``.
    """

    llc_bytes: int
    names: tuple[str, ...] = ("1k", "1m", "8m", "llc")
    tiny: bool = False
    known: tuple[str, ...] = field(default=("1k", "1m", "8m", "llc"), init=False)

    def length(self, n: int) -> int:
        """The length to use for a line of ``n`` elements."""
        return min(n, 1024) if self.tiny else n

    def side(self, n: int) -> int:
        """The length to use for one side of a matrix; stays a multiple of 64 where ``n`` is one."""
        return min(n, 64) if self.tiny else n

    def families(self) -> list[tuple[str, int]]:
        """Names and element counts of the sizes asked for; float32 arrays of ``llc`` are twice the cache."""
        # 2**24 at most: sorted operands are distinct whole numbers, exact in float32.
        large = max(1 << 24, 1 << (2 * self.llc_bytes // 4 - 1).bit_length())
        counts = {"1k": 1 << 10, "1m": 1 << 20, "8m": 1 << 23, "llc": large}
        return [(name, self.length(counts[name])) for name in self.names]


def check_outputs(got: Outputs, dtypes: Sequence[str], expected: Sequence[Expected]) -> None:
    """Raise :class:`Mismatch` where an output has another shape or dtype or is off by more than its bound.

    Examples
    --------
    >>> check_outputs([np.ones(2)], ["float32"], [Expected(np.ones(2), 1e-6)])
    """
    if len(got) != len(expected):
        raise Mismatch(f"wanted {len(expected)} outputs, got {len(got)}")
    for i, (g, dtype, e) in enumerate(zip(got, dtypes, expected, strict=True)):
        which = f"output {i}: " if len(expected) > 1 else ""
        if g.shape != e.values.shape:
            raise Mismatch(f"{which}wanted shape {e.values.shape}, got {g.shape}")
        if e.dtype is not None and dtype != e.dtype:
            raise Mismatch(f"{which}wanted dtype {e.dtype}, got {dtype}")
        with np.errstate(invalid="ignore"):  # inf - inf
            off = np.abs(g - e.values)
        bad = ~((off <= e.bound) | (g == e.values) | (np.isnan(g) & np.isnan(e.values)))
        if bad.any():
            # A NaN in either array is worse than any distance.
            excess = np.where(bad, np.nan_to_num(off - e.bound, nan=np.inf), -np.inf)
            at = np.unravel_index(int(np.argmax(excess)), excess.shape)
            place = tuple(int(k) for k in at)
            bound = float(np.broadcast_to(e.bound, off.shape)[at])
            raise Mismatch(
                f"{which}{int(bad.sum())} of {bad.size} elements off; at {place} wanted "
                f"{e.values[at].item()!r} within {bound:.3g}, got {g[at].item()!r}"
            )
