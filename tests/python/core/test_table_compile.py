"""Every row of the op tables compiled, and exported and read again: the bits of the plain call.

Compiled functions are tried in every layout and for a second shape.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.table_cases import Kernel, normal
from core.table_gradients import GRADIENTS, Smooth
from core.table_kernels import KERNELS
from core.table_moves import MOVES, Move
from core.table_rows import BINARY, LAYOUTS, REDUCE, UNARY, Row, by_name, laid_out, of, operands, rng_of


def results(value: Any) -> list[np.ndarray]:
    return [np.asarray(v) for v in ([value] if isinstance(value, mx.array) else value)]


def same(got: Any, plain: list[np.ndarray]) -> bool:
    """Whether results have the same bits, dtypes and shapes."""
    again = results(got)
    return [(a.tobytes(), a.dtype, a.shape) for a in again] == [
        (p.tobytes(), p.dtype, p.shape) for p in plain
    ]


def check_exported(f: Callable[..., Any], xs: list[mx.array]) -> None:
    """The function written to a file and read again."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "f.lamina")
        mx.export_function(path, f, *xs)
        assert same(mx.import_function(path)(*xs), results(f(*xs)))


def check_compiled(f: Callable[..., Any], trials: list[list[np.ndarray]]) -> None:
    """One compiled function called with every trial in every layout, and twice: traced, then replayed."""
    compiled = mx.compile(f)
    for xs in trials:
        for i, layout in enumerate(LAYOUTS):
            arrays = [laid_out(x, LAYOUTS[(i + k) % 5] if k else layout)[0] for k, x in enumerate(xs)]
            plain = results(f(*arrays))
            for _ in range(2):
                assert same(compiled(*arrays), plain), layout
        check_exported(f, arrays)


def trials(row: Row, count: int) -> list[list[np.ndarray]]:
    dtypes = [t for t in ("float32", "int32", "bfloat16", "complex64") if t in row.dtypes]
    return [operands(row, t, count, shape) for t in dtypes for shape in ((3, 4), (5, 61))]


@pytest.mark.parametrize(**by_name(UNARY))
def test_unary(row: Row) -> None:
    check_compiled(getattr(mx, row.name), trials(row, 1))


@pytest.mark.parametrize(**by_name(BINARY))
def test_binary(row: Row) -> None:
    check_compiled(getattr(mx, row.name), trials(row, 2))


@pytest.mark.parametrize(**by_name(REDUCE))
def test_reductions(row: Row) -> None:
    for axis in (None, 0, -1):
        check_compiled(lambda a, x=axis: getattr(mx, row.name)(a, x), trials(row, 1))


MOVE_CASES = [(op, move) for op, moves in MOVES.items() for move in moves if move.label != "mask"]


@pytest.mark.parametrize(("op", "move"), MOVE_CASES, ids=[f"{op}-{m.label}" for op, m in MOVE_CASES])
def test_moves(op: str, move: Move) -> None:
    made = [normal(*shapes)(rng_of(op, move.label, shapes), "float32") for shapes in move.trials]
    check_compiled(move.ours, made)


KERNEL_CASES = [(op, kernel) for op, kernels in KERNELS.items() for kernel in kernels]


@pytest.mark.parametrize(("op", "kernel"), KERNEL_CASES, ids=[f"{op}-{k.label}" for op, k in KERNEL_CASES])
def test_kernels(op: str, kernel: Kernel) -> None:
    dtype = "float32" if "float32" in kernel.dtypes else kernel.dtypes[0]
    check_compiled(kernel.ours, [kernel.make(rng_of(op, kernel.label), dtype)])


GRADIENT_CASES = [(op, case) for op, cases in GRADIENTS.items() for case in cases]


@pytest.mark.parametrize(("op", "case"), GRADIENT_CASES, ids=[f"{op}-{c.label}" for op, c in GRADIENT_CASES])
def test_gradients(op: str, case: Smooth) -> None:
    def gradients(*xs: mx.array) -> list[mx.array]:
        out = case.f(*xs)
        return mx.vjp(case.f, list(xs), [mx.ones(out.shape, out.dtype)])[1]

    check_compiled(gradients, [case.operands()])


def test_shapes_that_depend_on_numbers_are_refused() -> None:
    x = of(np.arange(6, dtype=np.float32))
    for f in (lambda a: a[a > 1], mx.nonzero, lambda a: mx.where(a > 1)):
        with pytest.raises(ValueError, match=r"\[\w+\] .*(compile|traced|transform)"):
            mx.compile(f)(x)
