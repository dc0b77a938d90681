"""Random graphs: fused against one op at a time and the reference backend, and compiled against plain."""

from contextlib import contextmanager

import lamina.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

UNARY = [mx.negative, mx.abs, mx.square, mx.sin, mx.tanh, mx.sigmoid, mx.erf, mx.floor, mx.exp]
BINARY = [mx.add, mx.subtract, mx.multiply, mx.maximum, mx.minimum]
REDUCE = [mx.sum, mx.max, mx.min, mx.mean]


@contextmanager
def backend(name):
    mx._set_backend(name)
    try:
        yield
    finally:
        mx._set_backend("cpu")


@st.composite
def programs(draw):
    """Instructions (kind, op index, operand choices) over a growing list of values."""
    rows = draw(st.integers(1, 9))
    columns = draw(st.sampled_from([1, 2, 3, 7, 16, 33, 130, 1030, 2100]))
    count = draw(st.integers(1, 25))
    steps = [
        (
            draw(st.sampled_from("uubbbrcstv")),
            draw(st.integers(0, 99)),
            draw(st.integers(0, 999)),
            draw(st.integers(0, 999)),
        )
        for _ in range(count)
    ]
    return rows, columns, steps, draw(st.integers(0, 2**32 - 1))


def run(program, leaves):
    rows, columns, steps, _ = program
    values = list(leaves)
    for kind, op, i, j in steps:
        x, y = values[i % len(values)], values[j % len(values)]
        if kind == "u":
            values.append(mx.clip(UNARY[op % len(UNARY)](x), -4.0, 4.0))
        elif kind == "b":
            values.append(mx.clip(BINARY[op % len(BINARY)](x, y), -4.0, 4.0))
        elif kind == "r":
            axis = (-1, 0, None)[op % 3] if x.ndim else None
            values.append(mx.clip(REDUCE[i % len(REDUCE)](x, axis=axis, keepdims=True), -4.0, 4.0))
        elif kind == "c":
            values.append(
                x.astype([mx.float16, mx.bfloat16, mx.int32, mx.float64][op % 4]).astype(mx.float32)
            )
        elif kind == "s":
            values.append(mx.where(x > y, x * 0.5, y))
        elif kind == "t" and x.shape == (rows, columns):
            values.append(mx.transpose(mx.transpose(x) + 0.25))
        elif kind == "v" and x.shape == (rows, columns):
            values.append(x[::-1, ::-1] + y)
    return values[len(leaves) :] or values


def leaves_of(program):
    rows, columns, _, seed = program
    rng = np.random.default_rng(seed)
    return [
        mx.array(rng.standard_normal((rows, columns)).astype(np.float32)),
        mx.array(rng.standard_normal((columns,)).astype(np.float32)),
        mx.array(rng.standard_normal((rows, 1)).astype(np.float32)),
        mx.array(np.float32(rng.standard_normal())),
    ]


def close(a, b, terms):
    eps = float(mx.finfo(b.dtype).eps)
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    off = np.abs(a - b) > 64 * terms * eps * (1 + np.abs(b))
    return not off.any(), off


SETTINGS = settings(max_examples=150, suppress_health_check=list(HealthCheck))


def smooth(program):
    """Without the instructions that turn rounding into steps."""
    rows, columns, steps, seed = program
    kept = [
        s for s in steps if s[0] not in "cs" and not (s[0] == "u" and UNARY[s[1] % len(UNARY)] is mx.floor)
    ]
    return rows, columns, kept, seed


@SETTINGS
@given(programs())
def test_fused_equals_reference(program):
    """In float32, and in float64, where the bound of a long program still says something."""
    program = smooth(program)
    growth = 4.0 ** min(len(program[2]), 6)
    for dtype in (mx.float32, mx.float64):
        leaves = [x.astype(dtype) for x in leaves_of(program)]
        fused = run(program, leaves)
        mx.eval(fused)
        with backend("reference"):
            expected = run(program, leaves)
            mx.eval(expected)
        for ours, theirs in zip(fused, expected, strict=True):
            assert ours.shape == theirs.shape
            assert ours.dtype == theirs.dtype
            good, off = close(ours, theirs, growth * max(1, program[1]) ** 0.5)
            assert good, np.argwhere(off)[:3]


@SETTINGS
@given(programs())
def test_fused_equals_one_op_at_a_time_bit_by_bit(program):
    """Evaluating after every instruction stores what a tape keeps in its slots: the same bits."""
    leaves = leaves_of(program)
    fused = run(program, leaves)
    mx.eval(fused[-1])
    rows, columns, steps, seed = program
    stepwise = list(leaves)
    for step in steps:
        before = len(stepwise)
        stepwise += (
            run((rows, columns, [step], seed), stepwise)[-1:]
            if _appends(step, stepwise, rows, columns)
            else []
        )
        mx.eval(stepwise[before:])
    one = stepwise[len(leaves) :] or stepwise
    assert np.array_equal(np.asarray(fused[-1]), np.asarray(one[-1]), equal_nan=True)


def _appends(step, values, rows, columns):
    kind, _, i, _ = step
    return kind not in "tv" or values[i % len(values)].shape == (rows, columns)


@SETTINGS
@given(programs())
def test_compiled_equals_plain(program):
    leaves = leaves_of(program)
    plain = run(program, leaves)
    mx.eval(plain)
    compiled = mx.compile(lambda *xs: run(program, list(xs)))
    for _ in range(2):
        again = compiled(*leaves)
        mx.eval(again)
        for a, b in zip(plain, again, strict=True):
            assert np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)


@pytest.mark.parametrize("columns", [1, 5, 130, 2100, 70_000])
@pytest.mark.parametrize(
    "shape", [(2, 1, 1), (1, 3, 1), (3, 1), (1, 1, 1), (1,), (), (2, 3, 1), (1, 2, 1, 1)]
)
def test_operands_that_broadcast_among_rows(shape, columns):
    """Arithmetic on the results of row reductions with operands of fewer rows."""
    rng = np.random.default_rng(columns)
    x, b = rng.standard_normal((2, 3, columns)), rng.standard_normal(shape)

    def f(a, c):
        m = a.sum(-1, keepdims=True) * c
        return (a - m) * c, m * a.max(-1, keepdims=True) + c

    got = f(mx.array(x, mx.float64), mx.array(b, mx.float64))
    mx.eval(got)
    size = columns * np.finfo(np.float64).eps * (1 + np.abs(x).sum(-1).max()) * (1 + np.abs(b).max()) ** 2
    for ours, theirs in zip(got, f(x, b), strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(np.asarray(ours) - theirs).max() <= 4 * size * (1 + np.abs(x).max())


AXES = [(-1,), (-2, -1), (0, 1, 2), (0,), (1,), (0, 2)]
CASTS = [mx.float16, mx.bfloat16, mx.int32, mx.float64]


@st.composite
def cubes(draw, widths):
    """Programs over three axes, whose leaves broadcast along any of them."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.sampled_from(widths)))
    leaves = [shape]
    for _ in range(draw(st.integers(1, 5))):
        kept = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
        leaves.append(
            tuple(n if k else 1 for n, k in zip(shape, kept, strict=True))[draw(st.integers(0, 3)) :]
        )
    number = st.integers(0, 999)
    steps = draw(
        st.lists(st.tuples(st.sampled_from("uubbbbrrcsv"), number, number, number), min_size=1, max_size=25)
    )
    return shape, leaves, steps, draw(st.integers(0, 2**32 - 1))


def one_step(step, values, shape):
    """The value that an instruction appends."""
    kind, op, i, j = step
    x, y = values[i % len(values)], values[j % len(values)]
    if kind == "u":
        return mx.clip(UNARY[op % len(UNARY)](x), -4.0, 4.0)
    if kind == "r" and x.ndim == 3:
        return mx.clip(REDUCE[op % len(REDUCE)](x, axis=AXES[j % len(AXES)], keepdims=True), -4.0, 4.0)
    if kind == "c":
        return x.astype(CASTS[op % len(CASTS)]).astype(mx.float32)
    if kind == "s":
        return mx.where(x > y, x * 0.5, y)
    if kind == "v":
        return mx.transpose(mx.broadcast_to(x, shape)[::-1], (0, 2, 1))[:, :, ::-1].transpose(0, 2, 1) + y
    return mx.clip(BINARY[op % len(BINARY)](x, y), -4.0, 4.0)


def cube_values(program):
    """The program's values evaluated together, evaluated one by one, and two of them evaluated alone."""
    shape, shapes, steps, seed = program
    rng = np.random.default_rng(seed)
    leaves = [mx.array(rng.standard_normal(s).astype(np.float32)) for s in shapes]
    fused, stepwise, alone = list(leaves), list(leaves), list(leaves)
    for step in steps:
        fused.append(one_step(step, fused, shape))
        alone.append(one_step(step, alone, shape))
        stepwise.append(one_step(step, stepwise, shape))
        mx.eval(stepwise)
    mx.eval(fused)
    mx.eval(alone[-1], alone[len(alone) // 2])
    return fused, stepwise, alone


@settings(SETTINGS, max_examples=400)
@given(cubes([1, 2, 7, 33, 130, 1030, 2100]))
def test_fused_cubes_equal_one_op_at_a_time_bit_by_bit(program):
    """The order of a sum follows from the length of the row, whatever is fused with it."""
    for fused, stepwise, alone in zip(*cube_values(program), strict=True):
        assert fused.shape == stepwise.shape
        assert np.array_equal(np.asarray(fused), np.asarray(stepwise), equal_nan=True)
        assert np.array_equal(np.asarray(alone), np.asarray(stepwise), equal_nan=True)


@pytest.mark.parametrize("columns", [500, 1024, 1025, 5000, 60_000, 65_535, 65_536, 65_537, 98_304, 200_001])
def test_sums_do_not_depend_on_what_is_fused_with_them(columns):
    """Beside few values and many, of 4 bytes and of 8, before a reduction and after one."""
    rng = np.random.default_rng(columns)
    x = mx.array(rng.standard_normal((3, columns)).astype(np.float32))
    functions = (mx.sum, mx.mean, mx.var, lambda a, **how: mx.prod(a * 0.015625 + 1.0, **how))
    alone = [np.asarray(f(x, axis=-1, keepdims=True)) for f in functions]
    assert all(np.all(v != 0) for v in alone)
    crowd = [mx.sin(x * k) for k in range(1, 15)]
    wide = mx.exp(x.astype(mx.float64))
    total, mean, spread, product = (f(x, axis=-1, keepdims=True) for f in functions)
    centred = (x - mean) / (1 + mx.abs(total)) * wide + sum(crowd)
    mx.eval(total, mean, spread, product, centred, *crowd[::3])
    for got, want in zip((total, mean, spread, product), alone, strict=True):
        assert np.asarray(got).tobytes() == want.tobytes()
