"""What holds for a program: the same results whichever way it runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lamina.core as mx
import numpy as np

from .drawing import short
from .instructions import KINDS
from .program import Program, arrays, outputs, run

EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
EXAMPLES = 2
# What an evaluation may raise; whatever else comes out of it is a finding.
TYPED = (ValueError, IndexError, TypeError, ArithmeticError, RuntimeError)


@dataclass(frozen=True)
class Finding:
    """A check that failed, at which output, and what differs."""

    check: str
    output: int
    message: str


@dataclass(frozen=True)
class Result:
    """The outputs of a run, or the error that it raised."""

    arrays: tuple[np.ndarray, ...] = ()
    error: str = ""


def evaluated(f: Callable[[], Any]) -> Result:
    """What the call gives. An error is a result too: every way to run a program must have it."""
    try:
        value = f()
        value = [value] if isinstance(value, mx.array) else list(value)
        mx.eval(value)
        return Result(tuple(np.asarray(v) for v in value))
    except TYPED as error:
        return Result(error=f"{type(error).__name__}: {error}")


def first_difference(got: np.ndarray, want: np.ndarray, allowed: Any) -> str:
    """Where two arrays are more than `allowed` apart: `None` wants the same bits, but for those of NaN."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"wanted {want.dtype}{want.shape}, got {got.dtype}{got.shape}"
    if got.tobytes() == want.tobytes():
        return ""
    with np.errstate(all="ignore"):
        off = (got != want) & ~((got != got) & (want != want))
        if got.dtype.name == "complex64":
            # Each part by itself: a part that is NaN may stand beside one that differs.
            parts = [first_difference(getattr(got, p), getattr(want, p), allowed) for p in ("real", "imag")]
            return parts[0] or parts[1]
        if allowed is None and got.dtype.kind != "b":
            zero = (got == 0) & (want == 0)
            off |= zero & (np.signbit(got.astype(np.float64)) != np.signbit(want.astype(np.float64)))
        elif allowed is not None and got.dtype.kind != "b":
            off &= ~(np.abs(got.astype(np.float64) - want.astype(np.float64)) <= allowed)
    if not off.any():
        return ""
    at = tuple(int(i[0]) for i in np.nonzero(off))
    values = f"wanted {want[at]!r}, got {got[at]!r}, allowed {allowed}"
    return f"{int(off.sum())} of {off.size} differ; at {at} {values}"


def differs(check: str, got: Result, want: Result, allowed: Sequence[Any] | None = None) -> Finding | None:
    if bool(got.error) != bool(want.error):
        return Finding(check, 0, f"wanted {want.error or 'results'}, got {got.error or 'results'}")
    if len(got.arrays) != len(want.arrays):
        return Finding(check, 0, f"wanted {len(want.arrays)} results, got {len(got.arrays)}")
    for k, (a, b) in enumerate(zip(got.arrays, want.arrays, strict=True)):
        message = first_difference(a, b, None if allowed is None else allowed[k])
        if message:
            return Finding(check, k, message)
    return None


@contextmanager
def backend(name: str) -> Iterator[None]:
    mx._set_backend(name)
    try:
        yield
    finally:
        mx._set_backend("cpu")


@dataclass(frozen=True)
class Plain:
    """What other runs are compared with: leaves and results at every set of lengths."""

    program: Program
    leaves: list[list[mx.array]]
    results: list[Result]

    def function(self, *leaves: mx.array) -> list[mx.array]:
        return outputs(self.program, *leaves)


def plain(program: Program) -> Plain:
    leaves = [arrays(program, k) for k in range(len(program.sizes))]
    # What made them would be in the first graph alone, and 16-bit values are rounded where tapes end.
    mx.eval(leaves)
    return Plain(program, leaves, [evaluated(lambda xs=xs: outputs(program, *xs)) for xs in leaves])


# ---- the same graph: the same bits, whatever the dtypes


def compiled(p: Plain, shapeless: bool = False) -> Finding | None:
    """At the first lengths, at others, and at the first again."""
    f = mx.compile(p.function, shapeless=shapeless)
    for k in (0, *range(len(p.leaves)), 0):
        name = f"compiled{' shapeless' if shapeless else ''}, lengths {k}"
        found = differs(name, evaluated(lambda k=k: f(*p.leaves[k])), p.results[k])
        if found:
            return found
    return None


def exported(p: Plain, shapeless: bool = False) -> Finding | None:
    """Written to a file and read again; a file may refuse lengths other than it was made with."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "f.lamina")
        try:
            mx.export_function(path, p.function, *p.leaves[0], shapeless=shapeless)
        except TYPED as error:
            wanted = p.results[0].error
            return None if wanted else Finding("exported", 0, f"{type(error).__name__}: {error}")
        f = mx.import_function(path)
        for k in range(len(p.leaves) if shapeless else 1):
            got = evaluated(lambda k=k: f(*p.leaves[k]))
            if k and "no function of" in got.error:
                continue
            found = differs(f"exported{' shapeless' if shapeless else ''}, lengths {k}", got, p.results[k])
            if found:
                return found
    return None


def gradients(p: Plain) -> Finding | None:
    """vjp and jvp, plain against compiled at several lengths."""
    at = [k for k, leaf in enumerate(p.program.leaves) if "float" in leaf.dtype]
    values = run(p.program, p.leaves[0])
    outs = [i for i in p.program.outputs if "float" in short(values[i].dtype)]
    if not at or not outs:
        return None

    def f(leaves: Sequence[mx.array], *xs: mx.array) -> list[mx.array]:
        full = list(leaves)
        for k, x in zip(at, xs, strict=True):
            full[k] = x
        all_values = run(p.program, full)
        return [all_values[i] for i in outs]

    def backward(*leaves: mx.array) -> list[mx.array]:
        g = lambda *xs: f(leaves, *xs)  # noqa: E731
        xs = [leaves[k] for k in at]
        return mx.vjp(g, xs, [mx.ones(y.shape, y.dtype) for y in g(*xs)])[1]

    def forward(*leaves: mx.array) -> list[mx.array]:
        xs = [leaves[k] for k in at]
        return mx.jvp(lambda *ys: f(leaves, *ys), xs, [mx.ones(x.shape, x.dtype) for x in xs])[1]

    for name, function in (("vjp", backward), ("jvp", forward)):
        for shapeless in (False, True):
            g = mx.compile(function, shapeless=shapeless)
            for k in (0, 1, 0) if shapeless else (0, 0):
                want = evaluated(lambda k=k, h=function: h(*p.leaves[k]))
                got = evaluated(lambda k=k, g=g: g(*p.leaves[k]))
                found = differs(f"{name} compiled{' shapeless' if shapeless else ''}, lengths {k}", got, want)
                if found:
                    return found
    return None


# ---- other graphs: the same bits without 16-bit floats, and within a bound where that follows


def sixteen(p: Plain) -> bool:
    """Whether 16-bit floats are held, which a fused region keeps in 32 bits."""
    values = run(p.program, p.leaves[0])
    return any(v.dtype in (mx.float16, mx.bfloat16) for v in values)


def bounds(p: Plain, leaves: Sequence[mx.array]) -> list[float] | None:
    """How far an output of a program of profile s may be off: the roundings on the longest way to it."""
    if p.program.profile != "s":
        return None
    values = run(p.program, leaves)
    errors = [0.0] * len(leaves)
    for step, out in zip(p.program.steps, values[len(leaves) :], strict=True):
        kind, x = KINDS[step.kind], values[step.inputs[0]]
        # What an instruction holds inside may have the dtype of any operand.
        eps = max(EPS[short(v.dtype)] for v in (out, *[values[i] for i in step.inputs]))
        over = x.size / max(1, out.size) if step.kind == "smooth_reduce" else (x.shape[-1] if x.ndim else 1)
        # Sums of 16-bit floats are taken in 32 bits. Half a unit of 4 for each rounding.
        rounding = 2 * (kind.cost * eps + kind.per_element * over * min(eps, EPS["float32"]))
        errors.append(max(errors[i] for i in step.inputs) + rounding)
    # Both sides may be as far off.
    return [2 * errors[i] for i in p.program.outputs]


def stepwise(p: Plain) -> Finding | None:
    """One instruction at a time, and one output alone."""
    allowed = bounds(p, p.leaves[0])
    if allowed is None and sixteen(p):
        return None
    allowed = allowed if sixteen(p) else None

    def one_by_one() -> list[mx.array]:
        values = run(p.program, p.leaves[0], each=mx.eval)
        return [values[i] for i in p.program.outputs]

    found = differs("one instruction at a time", evaluated(one_by_one), p.results[0], allowed)
    if found or p.results[0].error:
        return found
    for k in {0, len(p.program.outputs) - 1}:
        got = evaluated(lambda k=k: p.function(*p.leaves[0])[k])
        want = Result(p.results[0].arrays[k : k + 1])
        found = differs("one output alone", got, want, allowed and allowed[k : k + 1])
        if found:
            return Finding(found.check, k, found.message)
    return None


def reference(p: Plain) -> Finding | None:
    if p.program.profile not in "es":
        return None
    with backend("reference"):
        got = evaluated(lambda: p.function(*p.leaves[0]))
    return differs("reference backend", got, p.results[0], bounds(p, p.leaves[0]))


def vmapped(p: Plain) -> Finding | None:
    """A batch of examples against a loop over them; in profile a, which has no bound, shapes and errors."""
    mapped = p.program.mapped
    examples = [arrays(p.program, 0, i) for i in range(EXAMPLES)]
    for k, axis in enumerate(mapped):
        if axis is None:
            for e in examples:
                e[k] = examples[0][k]
    batch = [
        examples[0][k] if axis is None else mx.stack([e[k] for e in examples], axis=axis)
        for k, axis in enumerate(mapped)
    ]
    got = evaluated(lambda: mx.vmap(p.function, in_axes=mapped)(*batch))
    for i, example in enumerate(examples):
        want = evaluated(lambda e=example: p.function(*e))
        one = got if got.error else Result(tuple(a[i] for a in got.arrays))
        if p.program.profile == "a":
            one, want = (Result(tuple(np.zeros_like(a) for a in r.arrays), r.error) for r in (one, want))
        found = differs(f"vmapped, example {i}", one, want, bounds(p, example))
        if found:
            return found
    return None


CHECKS: dict[str, Callable[[Plain], Finding | None]] = {
    "compiled": compiled,
    "compiled shapeless": lambda p: compiled(p, shapeless=True),
    "exported": exported,
    "exported shapeless": lambda p: exported(p, shapeless=True),
    "stepwise": stepwise,
    "reference": reference,
    "vmapped": vmapped,
    "gradients": gradients,
}


def check(program: Program, names: Sequence[str] = tuple(CHECKS)) -> tuple[str, Finding] | None:
    """The first of the checks that fails, and how."""
    p = plain(program)
    for name in names:
        found = CHECKS[name](p)
        if found:
            return name, found
    return None
