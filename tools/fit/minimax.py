"""Minimax fits of linear models, with coefficients rounded to the working format.

A linear model is ``sum(c[j] * basis[j](x))``; its fit minimises the largest weighted distance
``weight(x) * |model(x) - target(x)|`` on an interval by Remez exchange in extended precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mpmath as mp  # pyright: ignore[reportMissingImports]
import numpy as np

mp.mp.dps = 50

Function = Callable[[mp.mpf], mp.mpf]


def chebyshev_grid(lo: mp.mpf, hi: mp.mpf, points: int) -> list[mp.mpf]:
    """Return `points` Chebyshev-spaced points inside (lo, hi)."""
    mid, half = (lo + hi) / 2, (hi - lo) / 2
    return [mid + half * mp.cos(mp.pi * (2 * k + 1) / (2 * points)) for k in range(points)][::-1]


def remez(
    target: Sequence[mp.mpf], basis: Sequence[Sequence[mp.mpf]], weight: Sequence[mp.mpf], rounds: int = 60
) -> tuple[list[mp.mpf], mp.mpf]:
    """Fit `basis`, grid values of each function, to `target`; return coefficients and largest error."""
    n, points = len(basis), len(target)
    chosen = [round((points - 1) * (1 - np.cos(np.pi * k / n)) / 2) for k in range(n + 1)]
    coefficients: list[mp.mpf] = []
    largest = mp.mpf(0)
    for _ in range(rounds):
        system = mp.matrix(n + 1, n + 1)
        right = mp.matrix(n + 1, 1)
        for row, k in enumerate(chosen):
            for j in range(n):
                system[row, j] = basis[j][k] * weight[k]
            system[row, n] = (-1) ** row
            right[row] = target[k] * weight[k]
        solution = mp.lu_solve(system, right)
        coefficients, level = [solution[j] for j in range(n)], abs(solution[n])
        errors = [
            weight[k] * (sum(coefficients[j] * basis[j][k] for j in range(n)) - target[k])
            for k in range(points)
        ]
        largest = max(abs(e) for e in errors)
        if largest <= level * (1 + mp.mpf(10) ** -6):
            break
        chosen = _exchange(errors, n + 1)
    return coefficients, largest


def _exchange(errors: Sequence[mp.mpf], count: int) -> list[int]:
    """Pick `count` points of alternating sign with the largest errors."""
    extrema: list[int] = []
    for k, e in enumerate(errors):
        if extrema and (errors[extrema[-1]] > 0) == (e > 0):
            if abs(e) > abs(errors[extrema[-1]]):
                extrema[-1] = k
        else:
            extrema.append(k)
    while len(extrema) > count:
        if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]):
            extrema.pop(0)
        else:
            extrema.pop()
    if len(extrema) < count:
        raise RuntimeError(f"only {len(extrema)} alternations where {count} are needed; take a denser grid")
    return extrema


def round_float32(c: mp.mpf) -> mp.mpf:
    return mp.mpf(float(np.float32(float(c))))


def round_float64(c: mp.mpf) -> mp.mpf:
    return mp.mpf(float(c))


def fit(
    target: Function,
    basis: Sequence[Function],
    weight: Function,
    lo: float,
    hi: float,
    rounding: Callable[[mp.mpf], mp.mpf] = round_float32,
    points: int = 400,
) -> tuple[list[float], float]:
    """Return rounded coefficients of the minimax fit and the largest weighted error they leave."""
    grid = chebyshev_grid(mp.mpf(lo), mp.mpf(hi), points)
    rest = [target(x) for x in grid]
    values = [[b(x) for x in grid] for b in basis]
    weights = [weight(x) for x in grid]
    exact, _ = remez(rest, values, weights)
    rounded = [rounding(c) for c in exact]
    errors = [
        weights[k] * (sum(c * v[k] for c, v in zip(rounded, values, strict=True)) - rest[k])
        for k in range(points)
    ]
    return [float(c) for c in rounded], float(max(abs(e) for e in errors))
