"""Makes programs: number `n` of a seed is the same everywhere."""

from __future__ import annotations

from typing import Any

import lamina.core as mx

from .drawing import INTEGERS, MOST_ELEMENTS, Draw, known
from .instructions import KINDS
from .program import Leaf, Program, Step, apply, shape_of

PROFILES = "aaabbees"
LAYOUTS = ["plain", "plain", "plain", "transposed", "reversed", "stepped", "broadcast"]
SHORT = [1, 2, 3, 4, 5, 7]
# Around vectors, tiles of 128 to 1024 elements, and folds of 1024.
LONG = [8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 130, 256, 257]
VERY_LONG = [1023, 1024, 1025, 1030, 2100]
# What an instruction may raise while it is drawn: the program goes on without it.
REFUSED = (ValueError, TypeError, IndexError, OverflowError, NotImplementedError)


def drawn_sizes(d: Draw) -> tuple[dict[str, int], ...]:
    """Three sets of lengths; one axis of the first may be long."""
    sizes = [{c: d.of(SHORT) for c in "xyz"} for _ in range(3)]
    long = d.rng.random()
    if long < 0.3:
        sizes[0][d.of("xyz")] = d.of(LONG) if long > 0.06 else d.of(VERY_LONG)
    if d.chance(0.2):
        sizes[1][d.of("xyz")] = d.of(LONG)
    if d.chance(0.3):
        sizes[2] = {**sizes[0], d.of("xyz"): d.of(SHORT)}
    return tuple(sizes)


def drawn_leaf(d: Draw, sizes: tuple[dict[str, int], ...]) -> Leaf:
    axes = "".join(c if d.chance(0.7) else "1" for c in "xyz")[d.of([0, 0, 1, 1, 1, 2, 3]) :]
    leaf = Leaf(axes, d.dtype(), d.of(LAYOUTS), d.profile == "a" and d.chance(0.2))
    elements = [mx.zeros(shape_of(leaf, s)).size for s in sizes]
    return leaf if max(elements) <= MOST_ELEMENTS else Leaf(axes[1:], leaf.dtype)


def depth(d: Draw, most: int) -> int:
    """Mostly some ten instructions, now and then hundreds."""
    return min(most, int(d.rng.geometric(1 / d.of([6, 15, 15, 40, 150]))))


def drawn_step(d: Draw, names: list[str], weights: list[float]) -> Step | None:
    name = names[int(d.rng.choice(len(names), p=weights))]
    drawn = KINDS[name].draw(d)
    return None if drawn is None else Step(name, tuple(drawn[0]), tuple(drawn[1]))


def grow(d: Draw, values: list[list[mx.array]], step: Step) -> bool:
    """Appends the instruction's value at every set of lengths, if it has one of bearable size."""
    try:
        new = [apply(step, [v[k] for v in values]) for k in range(len(values[0]))]
    except REFUSED:
        return False
    # What a kind gives at no length is of no use, nor what has more axes than others take.
    if max(a.size for a in new) > MOST_ELEMENTS or new[0].ndim > 5 or len({a.ndim for a in new}) > 1:
        return False
    values.append(new)
    d.values.append(known(new))
    return True


def made(seed: int, number: int, most: int = 300, profile: str = "") -> Program:
    """Program `number` of a seed, with at most that many instructions."""
    d = Draw([seed, number])
    d.profile = profile or d.of(PROFILES)
    sizes = drawn_sizes(d)
    leaves = [drawn_leaf(d, sizes) for _ in range(d.number(1, 5))]
    if d.profile != "s" and d.chance(0.7):
        leaves.append(Leaf("", "int32") if d.chance(0.2) else Leaf(d.of("xyz"), d.of(INTEGERS)))
    values = [[mx.zeros(shape_of(leaf, s), getattr(mx, leaf.dtype)) for s in sizes] for leaf in leaves]
    d.values = [known(v) for v in values]
    names = [k.name for k in KINDS.values() if d.profile in k.profiles]
    total = sum(KINDS[n].weight for n in names)
    weights = [KINDS[n].weight / total for n in names]
    steps: list[Step] = []
    tries = wanted = depth(d, most)
    while len(steps) < wanted and tries < 5 * wanted + 20:
        tries += 1
        step = drawn_step(d, names, weights)
        if step and grow(d, values, step):
            steps.append(step)
    return finished(d, sizes, leaves, steps)


def finished(d: Draw, sizes: Any, leaves: list[Leaf], steps: list[Step]) -> Program:
    """The outputs: what nothing reads, and some others; and the axes of examples."""
    read = {i for s in steps for i in s.inputs}
    count = len(leaves) + len(steps)
    first = len(leaves) if steps else 0
    ends = [i for i in range(first, count) if i not in read]
    outputs = sorted({*ends, *[d.number(first, count - 1) for _ in range(d.number(0, 2))]})
    mapped: list[int | None] = [None if d.chance(0.25) else d.number(0, len(leaf.axes)) for leaf in leaves]
    if all(m is None for m in mapped):
        mapped[0] = 0
    return Program(
        d.profile, d.number(0, 2**31), sizes, tuple(leaves), tuple(steps), tuple(outputs), tuple(mapped)
    )
