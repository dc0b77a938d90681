"""What of a result is determined where parts of it are free: signs of factors, the order of equal elements.

Each function takes a call and its results, and gives numbers that every right answer shares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .calls import Call, Operand, Value

Results = tuple[Any, ...]


def values_of(results: Results) -> list[np.ndarray]:
    """The arrays among the results, in a dtype that holds their products."""
    return [
        v.values.astype(np.complex128 if v.values.dtype.kind == "c" else np.float64)
        for v in results
        if isinstance(v, Value)
    ]


def numbers(results: Results, *arrays: np.ndarray) -> Results:
    """The kinds of the results as they are, and arrays as numbers in their place."""
    kinds = [f"{v.dtype}{list(v.values.shape)}" if isinstance(v, Value) else v for v in results]
    narrow = "float64" if any(isinstance(v, Value) and v.dtype == "float64" for v in results) else "float32"
    out = []
    for a in arrays:
        kind = "complex64" if a.dtype.kind == "c" else narrow
        out.append(Value(kind, a.astype(kind)))
    return (*kinds, *out)


def adjoint(a: np.ndarray) -> np.ndarray:
    return np.conj(np.swapaxes(a, -1, -2))


def of_qr(_: Call, results: Results) -> Results:
    q, r = values_of(results)
    return numbers(results, q @ r, adjoint(q) @ q, np.abs(r))


def of_svd(_: Call, results: Results) -> Results:
    parts = values_of(results)
    if len(parts) == 1:
        return results
    u, s, vt = parts
    k = s.shape[-1]
    product = (u[..., :k] * s[..., None, :]) @ vt[..., :k, :]
    return numbers(results, s, product, adjoint(u) @ u, vt @ adjoint(vt))


def of_eigh(_: Call, results: Results) -> Results:
    w, v = values_of(results)
    return numbers(results, w, (v * w[..., None, :]) @ adjoint(v), adjoint(v) @ v)


def ordered(w: np.ndarray) -> np.ndarray:
    """The order of eigenvalues by real part; those of a pair, which share it, by imaginary part."""
    return np.lexsort((w.imag, np.round(w.real, 3)), axis=-1)


def of_eigvals(_: Call, results: Results) -> Results:
    (w,) = values_of(results)
    return numbers(results, np.take_along_axis(w, ordered(w), -1))


def of_eig(call: Call, results: Results) -> Results:
    w, v = values_of(results)
    a = matrix_of(call)
    return numbers(
        results,
        np.take_along_axis(w, ordered(w), -1),
        a @ v - v * w[..., None, :],
        np.linalg.norm(v, axis=-2),
    )


def matrix_of(call: Call) -> np.ndarray:
    """The first operand of the call."""
    operand = call.args[0]
    assert isinstance(operand, Operand)
    return operand.values


def axis_of(call: Call, position: int) -> int | None:
    axis = call.kwargs.get("axis", call.args[position] if len(call.args) > position else -1)
    assert axis is None or isinstance(axis, int)
    return axis


def along(call: Call, position: int) -> tuple[np.ndarray, int]:
    """The operand and the axis of an order; None flattens."""
    a, axis = matrix_of(call), axis_of(call, position)
    return (a.reshape(-1), 0) if axis is None else (a, axis)


def elements(call: Call, results: Results, position: int) -> np.ndarray:
    """What the indices of a result pick from the operand, along its axis."""
    (index,) = values_of(results)
    a, axis = along(call, position)
    return np.take_along_axis(a, index.astype(np.int64), axis)


def of_argsort(call: Call, results: Results) -> Results:
    return (*numbers(results), elements(call, results, 1))


def parted(a: np.ndarray, k: int, axis: int) -> list[np.ndarray]:
    """Both sides of a partition, in order."""
    k += a.shape[axis] if k < 0 else 0
    low, middle, high = np.split(a, [k, k + 1], axis)
    return [np.sort(low, axis), middle, np.sort(high, axis)]


def of_partition(call: Call, results: Results) -> Results:
    _, axis = along(call, 2)
    (a,) = (v.values for v in results if isinstance(v, Value))
    return (*numbers(results), *parted(a, call.args[1], axis))


def of_argpartition(call: Call, results: Results) -> Results:
    _, axis = along(call, 2)
    return (*numbers(results), *parted(elements(call, results, 2), call.args[1], axis))


def of_topk(call: Call, results: Results) -> Results:
    _, axis = along(call, 2)
    (a,) = (v.values for v in results if isinstance(v, Value))
    return (*numbers(results), np.sort(a, axis))


CANONICAL: dict[str, Callable[[Call, Results], Results]] = {
    "argsort": of_argsort,
    "partition": of_partition,
    "argpartition": of_argpartition,
    "topk": of_topk,
    "linalg.qr": of_qr,
    "linalg.svd": of_svd,
    "linalg.eigh": of_eigh,
    "linalg.eig": of_eig,
    "linalg.eigvals": of_eigvals,
}
