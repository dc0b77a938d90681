"""Times of several functions, measured in turns."""

from __future__ import annotations

import contextlib
import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Run = Callable[[], Any]

SAMPLE_SECONDS = 0.002
"""A sample is at least this long: as many calls as it takes."""

SETTLE_SECONDS = 0.02
"""Pause before each turn, in which the threads of the peer before park instead of spinning."""

PATIENCE_SECONDS = 20.0
"""A row that has taken so long has enough samples once it has three of each."""

FEWEST = 3

SLOW_SECONDS = 2.0
"""A call that takes longer is timed once: whoever needs it is far from the others."""


@dataclass(frozen=True)
class Times:
    """Seconds of one call, one number for each sample, and the calls in one sample."""

    samples: tuple[float, ...]
    loops: int

    @property
    def best(self) -> float:
        """The least."""
        return min(self.samples)

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.samples)


def _seconds(run: Run, loops: int) -> float:
    """The time of so many calls."""
    again = itertools.repeat(None, loops)
    begin = time.perf_counter()
    for _ in again:
        run()
    return time.perf_counter() - begin


def loops_for(run: Run, sample_seconds: float) -> tuple[int, float]:
    """How many calls one sample needs, and the seconds of the last trial."""
    loops = 1
    while (seconds := _seconds(run, loops)) < sample_seconds:
        # Tenfold at most: a first short sample says little about how many it takes.
        loops = min(10 * loops, int(1.2 * loops * sample_seconds / max(seconds, 1e-9)) + 1)
    return loops, seconds


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector out of the samples."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def in_turns(
    runs: Mapping[str, Run],
    repeat: int,
    sample_seconds: float = SAMPLE_SECONDS,
    settle_seconds: float = SETTLE_SECONDS,
) -> dict[str, Times]:
    """Time the runs A B A B ..., each turn with a warm-up of its own.

    Parameters
    ----------
    runs : mapping
        The functions by name, all called before.
    repeat : int
        Samples of each; a row that takes longer than ``PATIENCE_SECONDS`` gets by with three, and a call that
        takes longer than ``SLOW_SECONDS`` with one.
    sample_seconds, settle_seconds : float
        The least length of a sample, and the pause before each turn.

    Returns
    -------
    dict of Times
        By name.
    """
    samples: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    with _no_collection():
        loops: dict[str, int] = {}
        for name, run in runs.items():
            loops[name], seconds = loops_for(run, sample_seconds)
            if seconds > SLOW_SECONDS:
                samples[name].append(seconds)
        quick = {name: run for name, run in runs.items() if not samples[name]}
        for turn in range(repeat):
            for name, run in quick.items():
                time.sleep(settle_seconds)
                _seconds(run, max(1, loops[name] // 10))
                samples[name].append(_seconds(run, loops[name]) / loops[name])
            if turn + 1 >= FEWEST and time.perf_counter() - begin > PATIENCE_SECONDS:
                break
    return {name: Times(tuple(samples[name]), loops[name]) for name in runs}
