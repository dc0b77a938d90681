"""Every function on random views of its operands: what it gives for contiguous copies of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.table_rows import rng_of
from parity import surface_composed, surface_more  # noqa: F401 - add their rows
from parity.__main__ import drawn
from parity.calls import Call, Operand, Outcome, Value, built, invoked, taken
from parity.compare import unequal
from parity.surface import SPECS

Step = tuple[np.ndarray, Callable[[mx.array], mx.array]]
POISON = {"b": True, "i": 77, "u": 200, "f": np.nan, "c": np.nan}


def transposed(x: np.ndarray, rng: np.random.Generator) -> Step:
    order = rng.permutation(x.ndim)
    return x.transpose(np.argsort(order)), lambda a: mx.transpose(a, order.tolist())


def reversed_along(x: np.ndarray, rng: np.random.Generator) -> Step:
    cut = tuple(slice(None, None, -1 if rng.random() < 0.5 else 1) for _ in x.shape)
    return x[cut], lambda a: a[cut]


def cut_out(x: np.ndarray, rng: np.random.Generator) -> Step:
    """Every so many elements of a larger array, whose others poison what they reach."""
    steps = rng.integers(1, 4, x.ndim)
    starts = rng.integers(0, 3, x.ndim)
    cut = tuple(slice(int(b), int(b + n * s), int(s)) for b, n, s in zip(starts, x.shape, steps, strict=True))
    larger = np.full(
        [int(b + n * s + rng.integers(0, 2)) for b, n, s in zip(starts, x.shape, steps, strict=True)],
        POISON[x.dtype.kind],
        x.dtype,
    )
    larger[cut] = x
    return larger, lambda a: a[cut]


def without_axis(x: np.ndarray, rng: np.random.Generator) -> Step:
    at = int(rng.integers(0, x.ndim + 1))
    return np.expand_dims(x, at), lambda a: mx.squeeze(a, at)


def with_axis(x: np.ndarray, _: np.random.Generator) -> Step:
    if 1 not in x.shape:
        return x, lambda a: a
    at = x.shape.index(1)
    return np.squeeze(x, at), lambda a: mx.expand_dims(a, at)


def reshaped(x: np.ndarray, _: np.random.Generator) -> Step:
    shape = x.shape
    return np.ascontiguousarray(x).reshape(-1), lambda a: mx.reshape(a, shape)


def broadcast(x: np.ndarray, _: np.random.Generator) -> Step:
    """Axes along which all elements are equal, with a stride of 0."""
    same = [n > 1 and bool((x == x.take([0], i)).all()) for i, n in enumerate(x.shape)]
    shape = x.shape
    small = x[tuple(slice(0, 1) if s else slice(None) for s in same)]
    return small, lambda a: mx.broadcast_to(a, shape)


STEPS = [transposed, reversed_along, cut_out, cut_out, without_axis, with_axis, reshaped, broadcast]


def random_view(operand: Operand, rng: np.random.Generator) -> mx.array:
    """An array of the operand's values behind some view functions, drawn from the last to the first."""
    x, steps = operand.values, []
    for _ in range(int(rng.integers(1, 5))):
        x, step = STEPS[int(rng.integers(len(STEPS)))](x, rng)
        steps.append(step)
    out = built(mx, Operand(x, operand.dtype))
    for step in reversed(steps):
        out = step(out)
    assert out.shape == operand.values.shape
    return out


def replaced(value: Any, make: Callable[[Operand], Any]) -> Any:
    if isinstance(value, Operand):
        return make(value)
    if isinstance(value, dict):
        return {k: replaced(v, make) for k, v in value.items()}
    return type(value)(replaced(v, make) for v in value) if isinstance(value, (list, tuple)) else value


def constant_along_first(operand: Operand) -> Operand:
    """Now and then an operand that can be broadcast."""
    if operand.view != "broadcast" or not operand.values.size:
        return operand
    return replace(operand, values=np.broadcast_to(operand.values[:1], operand.values.shape).copy())


def result_of(call: Call, make: Callable[[Operand], mx.array]) -> Outcome:
    # Arguments first: what they raise is no result.
    args, kwargs = (replaced(v, make) for v in (list(call.args), call.kwargs))
    named = {k: getattr(mx, str(v)) if type(v).__name__ == "Name" else v for k, v in kwargs.items()}
    plain = [getattr(mx, str(v)) if type(v).__name__ == "Name" else v for v in args]
    try:
        with np.errstate(all="ignore"):
            return Outcome(tuple(taken(mx, invoked(mx, call.name, plain, named))))
    except Exception as error:
        return Outcome(error=(type(error).__name__,), message=str(error))


def check(name: str, number: int) -> None:
    spec, call = drawn(77, number, [name])
    call = Call(call.name, tuple(replaced(list(call.args), constant_along_first)), call.kwargs)
    rng = rng_of("random views", name, number)
    wanted = result_of(call, lambda operand: built(mx, replace(operand, view="plain")))
    got = result_of(call, lambda operand: random_view(operand, rng))
    assert got.error == wanted.error, f"{call}: {got.message}; {wanted.message}"
    assert len(got.results) == len(wanted.results)
    # Sums may be added in another order where memory lies in another order; nothing else may differ.
    exact = spec if spec.how != "ulp" or spec.bound > 16 else replace(spec, how="exact")
    for mine, other in zip(got.results, wanted.results, strict=True):
        assert not (found := unequal(exact, call, mine, other)), f"{call}: {found}"
        assert isinstance(mine, Value) == isinstance(other, Value)


@pytest.mark.parametrize("name", [n for n in SPECS if ":" not in n])
def test_a_function_of_views(name: str) -> None:
    for number in range(10):
        check(name, number)


@pytest.mark.parametrize("how", surface_composed.TRANSFORMS)
def test_transforms_of_views(how: str) -> None:
    for name in surface_composed.SMOOTH:
        check(f"{how}:{name}", 0)


def test_writes_into_views() -> None:
    """A view that is written to holds the update, and what it was a view of does not."""
    for number in range(200):
        rng = rng_of("writes", number)
        x = rng.standard_normal(rng.integers(1, 9, rng.integers(1, 4))).astype(np.float32)
        a = random_view(Operand(x, "float32"), rng)
        base = mx.array(a)
        cut = tuple(
            slice(int(rng.integers(0, n)), None, int(rng.integers(1, 3)))
            if rng.random() < 0.7
            else int(rng.integers(-n, n))
            for n in x.shape
        )
        update = rng.standard_normal(x[cut].shape).astype(np.float32)
        want = x.copy()
        want[cut] = update
        a[cut] = random_view(Operand(update, "float32"), rng)
        np.testing.assert_array_equal(np.asarray(a), want)
        np.testing.assert_array_equal(np.asarray(base), x)
