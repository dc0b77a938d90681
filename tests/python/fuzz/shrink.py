"""Makes a failing program smaller, as long as the same check fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from .drawing import Known, known
from .program import Leaf, Program, Step, arrays, live, run

# Programs tried at most: enough for some hundred instructions.
MOST_TRIES = 1500


def knowledge(program: Program) -> list[Known]:
    """Shapes and dtype of every value."""
    runs = [run(program, arrays(program, k)) for k in range(len(program.sizes))]
    return [known(values) for values in zip(*runs, strict=True)]


def redirected(program: Program, old: int, new: int) -> Program:
    """The program where everything that reads value `old` reads `new`."""

    def at(i: int) -> int:
        return new if i == old else i

    steps = tuple(replace(s, inputs=tuple(at(i) for i in s.inputs)) for s in program.steps)
    return live(replace(program, steps=steps, outputs=tuple(at(i) for i in program.outputs)))


def as_leaf(program: Program, value: int, about: Known) -> Program | None:
    """The program where a value is an input, if lengths have letters for its shape."""
    axes = ""
    for k in range(about.ndim):
        lengths = [s[k] for s in about.shapes]
        letters = [c for c in "xyz" if [s[c] for s in program.sizes] == lengths]
        if not letters and lengths != [1] * len(lengths):
            return None
        axes += letters[0] if letters else "1"
    count = len(program.leaves)

    def moved(i: int) -> int:
        return count if i == value else i + (i >= count)

    steps = tuple(Step(s.kind, tuple(moved(i) for i in s.inputs), s.params) for s in program.steps)
    return live(
        replace(
            program,
            leaves=(*program.leaves, Leaf(axes, about.dtype)),
            mapped=(*program.mapped, 0),
            steps=steps,
            outputs=tuple(moved(i) for i in program.outputs),
        )
    )


def fewer_outputs(program: Program) -> Iterator[Program]:
    if len(program.outputs) > 1:
        for i in program.outputs:
            yield live(replace(program, outputs=(i,)))
        for i in program.outputs:
            yield live(replace(program, outputs=tuple(j for j in program.outputs if j != i)))


def fewer_steps(program: Program) -> Iterator[Program]:
    """Values replaced by an input or by an earlier value of the same shape and dtype."""
    about = knowledge(program)
    count = len(program.leaves)
    for i in range(count, len(about)):
        new = as_leaf(program, i, about[i])
        if new is not None and len(new.steps) < len(program.steps):
            yield new
    for i in range(len(about) - 1, count - 1, -1):
        same = [j for j in range(i) if about[j] == about[i]]
        for j in {same[0], same[-1]} if same else ():
            yield redirected(program, i, j)
    # The output alone, moved back: some operand of the last instruction is enough.
    for i in {
        j for k in program.outputs if k >= count for j in program.steps[k - count].inputs if j >= count
    }:
        yield live(replace(program, outputs=(i,)))


def simpler_leaves(program: Program) -> Iterator[Program]:
    for k, leaf in enumerate(program.leaves):
        options = [replace(leaf, layout="plain", special=False), replace(leaf, layout="plain")]
        options += [replace(leaf, special=False)]
        for new in options:
            if new != leaf:
                yield replace(program, leaves=(*program.leaves[:k], new, *program.leaves[k + 1 :]))
        for m in (0, None):
            if program.mapped[k] not in (0, None) or (m is None and program.mapped[k] == 0):
                mapped = (*program.mapped[:k], m, *program.mapped[k + 1 :])
                if any(a is not None for a in mapped):
                    yield replace(program, mapped=mapped)


def smaller_sizes(program: Program) -> Iterator[Program]:
    for k, sizes in enumerate(program.sizes):
        for c, n in sizes.items():
            for new in sorted({1, 2, 3, n // 2, n - 1}):
                if 0 < new < n:
                    lengths = (*program.sizes[:k], {**sizes, c: new}, *program.sizes[k + 1 :])
                    yield replace(program, sizes=lengths)


PASSES = (fewer_outputs, fewer_steps, simpler_leaves, smaller_sizes)


def shrunk(program: Program, fails: Callable[[Program], bool]) -> Program:
    """The smallest program found that still fails."""
    tries = 0
    progress = True
    while progress:
        progress = False
        for smaller in PASSES:
            again = True
            while again:
                again = False
                for candidate in smaller(program):
                    tries += 1
                    if tries > MOST_TRIES:
                        return program
                    if fails(candidate):
                        program, progress, again = candidate, True, True
                        break
    return program
