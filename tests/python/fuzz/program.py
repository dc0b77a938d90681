"""Programs as plain data: leaves, instructions over a growing list of values, outputs, three sets of lengths.

An axis of a leaf is named by a letter, or is of length 1. Each set of lengths says how long the letters are,
so that one program runs at several sizes; instructions look at lengths through shapes only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import lamina.core as mx
import numpy as np

from . import instructions_more  # noqa: F401 - adds its rows
from .instructions import KINDS

INTEGERS = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5]


@dataclass(frozen=True)
class Leaf:
    """An input: a character for each axis ('1' is of length 1), dtype, layout, and whether it holds NaN."""

    axes: str
    dtype: str
    layout: str = "plain"
    special: bool = False


@dataclass(frozen=True)
class Step:
    """An instruction: its kind, the values that it reads, and numbers and names that are part of it."""

    kind: str
    inputs: tuple[int, ...]
    params: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Program:
    """What to run. `profile`: which checks hold (checks.py); `mapped`: the axis of each leaf's examples."""

    profile: str
    seed: int
    sizes: tuple[dict[str, int], ...]
    leaves: tuple[Leaf, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    mapped: tuple[int | None, ...]

    def text(self) -> str:
        return json.dumps(asdict(self))


def listed(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(listed(v) for v in value) if isinstance(value, list) else value


def parsed(text: str) -> Program:
    """A program from its text."""
    d = json.loads(text)
    return Program(
        d["profile"],
        d["seed"],
        tuple(d["sizes"]),
        tuple(Leaf(**leaf) for leaf in d["leaves"]),
        tuple(Step(s["kind"], listed(s["inputs"]), listed(s["params"])) for s in d["steps"]),
        listed(d["outputs"]),
        listed(d["mapped"]),
    )


def shape_of(leaf: Leaf, sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(1 if c == "1" else sizes[c] for c in leaf.axes)


def drawn_values(rng: np.random.Generator, leaf: Leaf, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of a leaf: floats of [-4, 4], small integers, with extremes where the leaf is special."""
    if leaf.dtype == "bool_":
        return rng.random(shape) < 0.5
    if leaf.dtype in INTEGERS:
        out = rng.integers(0 if leaf.dtype[0] == "u" else -9, 10, shape).astype(leaf.dtype)
        if leaf.special:
            info = np.iinfo(leaf.dtype)
            ends = np.array([info.min, info.max], leaf.dtype)
            out = np.where(rng.random(shape) < 0.3, ends[rng.integers(0, 2, shape)], out)
        return np.asarray(out)
    out = np.clip(rng.standard_normal(shape) * 1.5, -4, 4)
    if leaf.special:
        out = np.where(rng.random(shape) < 0.2, rng.choice(SPECIAL, shape), out)
    if leaf.dtype == "complex64":
        return (out + 1j * np.clip(rng.standard_normal(shape), -2, 2)).astype(np.complex64)
    return np.asarray(out).astype(np.float64 if leaf.dtype == "float64" else np.float32)


def laid_out(values: np.ndarray, dtype: str, layout: str) -> mx.array:
    """The values as an array of a layout; gaps of `stepped` ones hold numbers that would be noticed."""
    if not values.ndim or layout == "plain":
        return mx.array(values, getattr(mx, dtype))
    if layout == "transposed":
        return mx.transpose(mx.array(np.ascontiguousarray(values.T), getattr(mx, dtype)))
    if layout == "reversed":
        back = (slice(None, None, -1),) * values.ndim
        return mx.array(np.ascontiguousarray(values[back]), getattr(mx, dtype))[back]
    if layout == "broadcast" and values.shape[0]:
        return mx.broadcast_to(mx.array(np.ascontiguousarray(values[:1]), getattr(mx, dtype)), values.shape)
    big = np.full([2 * n + 3 for n in values.shape], 77).astype(values.dtype)
    at = tuple(slice(2, 2 + 2 * n, 2) for n in values.shape)
    big[at] = values
    return mx.array(big, getattr(mx, dtype))[at]


def arrays(program: Program, setting: int = 0, example: int = 0) -> list[mx.array]:
    """The leaves at one set of lengths; examples differ in their numbers only."""
    out = []
    for k, leaf in enumerate(program.leaves):
        rng = np.random.default_rng([program.seed, setting, example, k])
        values = drawn_values(rng, leaf, shape_of(leaf, program.sizes[setting]))
        out.append(laid_out(values, leaf.dtype, leaf.layout))
    return out


def apply(step: Step, values: Sequence[mx.array]) -> mx.array:
    """The value of one instruction."""
    return KINDS[step.kind].apply(*[values[i] for i in step.inputs], *step.params)


def run(program: Program, leaves: Sequence[mx.array], each: Any = None) -> list[mx.array]:
    """All values; `each` is called with every new one."""
    values = list(leaves)
    for step in program.steps:
        values.append(apply(step, values))
        if each is not None:
            each(values[-1])
    return values


def outputs(program: Program, *leaves: mx.array) -> list[mx.array]:
    """The program as a function of its leaves."""
    values = run(program, leaves)
    return [values[i] for i in program.outputs]


def live(program: Program) -> Program:
    """The program without instructions and leaves that no output needs."""
    wanted = set(program.outputs)
    count = len(program.leaves)
    for k in range(len(program.steps) - 1, -1, -1):
        if count + k in wanted:
            wanted |= set(program.steps[k].inputs)
    kept = [i for i in range(count + len(program.steps)) if i in wanted]
    at = {old: new for new, old in enumerate(kept)}
    return replace(
        program,
        leaves=tuple(program.leaves[i] for i in kept if i < count),
        mapped=tuple(program.mapped[i] for i in kept if i < count),
        steps=tuple(
            replace(program.steps[i - count], inputs=tuple(at[j] for j in program.steps[i - count].inputs))
            for i in kept
            if i >= count
        ),
        outputs=tuple(at[i] for i in program.outputs),
    )


def described(program: Program) -> str:
    """The program for a reader: one line for each value, with the shapes of the first set of lengths."""
    lines = [f"profile {program.profile}, seed {program.seed}, sizes {list(program.sizes)}"]
    values = run(program, arrays(program))
    for i, value in enumerate(values):
        what = f"{str(value.dtype).rpartition('.')[2]}{list(value.shape)}"
        if i < len(program.leaves):
            leaf = program.leaves[i]
            lines.append(
                f"v{i}: {what} = leaf '{leaf.axes}' {leaf.layout}{' special' if leaf.special else ''}"
            )
        else:
            step = program.steps[i - len(program.leaves)]
            names = ", ".join([f"v{j}" for j in step.inputs] + [repr(p) for p in step.params])
            lines.append(f"v{i}: {what} = {step.kind}({names})")
    lines.append("outputs " + ", ".join(f"v{i}" for i in program.outputs) + f", mapped {program.mapped}")
    return "\n".join(lines)
