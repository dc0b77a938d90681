"""The jobs: the project's speed targets, and every family of array ops by size."""

from __future__ import annotations

from fnmatch import fnmatchcase

from bench.compare.jobs import families, kernels, layers, products, targets, training
from bench.compare.model import Job, Sizes


def all_jobs(sizes: Sizes) -> list[Job]:
    """Every job for these sizes, in the order of the report."""
    made = [*targets.jobs(sizes), *kernels.jobs(sizes), *training.jobs(sizes), *products.jobs(sizes)]
    return [*made, *layers.jobs(sizes), *families.jobs(sizes)]


def select(jobs: list[Job], patterns: list[str]) -> list[Job]:
    """The jobs whose name matches a pattern, or lies below one; raises ValueError for a pattern without any.

    Examples
    --------
    >>> names = [j.name for j in select(all_jobs(Sizes(1 << 25)), ["reduce/sum_all", "sort/*/1k"])]
    >>> names[0], names[-1]
    ('sort/line/1k', 'reduce/sum_all/llc')
    """
    chosen: set[str] = set()
    for pattern in patterns:
        found = {j.name for j in jobs if fnmatchcase(j.name, pattern) or fnmatchcase(j.name, f"{pattern}/*")}
        if not found:
            raise ValueError(f"no job matches {pattern!r}; --list shows them all")
        chosen |= found
    # A row that is judged by another one's time brings it along.
    chosen |= {j.limit.above for j in jobs if j.name in chosen and j.limit and j.limit.above}
    return [j for j in jobs if j.name in chosen]
