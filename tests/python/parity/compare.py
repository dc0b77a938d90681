"""What two outcomes of one call differ in, and which differences are meant."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .calls import Call, Outcome, Value, operands
from .canonical import CANONICAL
from .surface import Spec

EPS = {
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
    "float32": 2.0**-23,
    "float64": 2.0**-52,
    "complex64": 2.0**-23,
}
TINY = {
    "float16": 2.0**-14,
    "bfloat16": 2.0**-126,
    "float32": 2.0**-126,
    "float64": 2.0**-1022,
    "complex64": 2.0**-126,
}


@dataclass(frozen=True)
class Difference:
    """One call with unequal outcomes: `kind` is error, crash, dtype, shape, nan or value."""

    call: Call
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.call}: {self.detail}"


@dataclass(frozen=True)
class Accepted:
    """A difference that is meant, by function, kind and text; `reason` is a title in docs/differences.md."""

    function: str
    kind: str
    text: str
    reason: str

    def covers(self, difference: Difference) -> bool:
        """Rows of a function cover its transforms too."""
        whole = difference.call.name
        return (
            any(re.fullmatch(self.function, name) for name in (whole, whole.rpartition(":")[2]))
            and re.fullmatch(self.kind, difference.kind) is not None
            and re.search(self.text, str(difference)) is not None
        )


def accepted() -> list[Accepted]:
    """The list beside this file."""
    return [
        Accepted(**row)
        for row in json.loads(Path(__file__).with_name("accepted.json").read_text(encoding="utf-8"))
    ]


def difference(spec: Spec, call: Call, ours: Outcome, theirs: Outcome) -> Difference | None:
    """The first thing that differs; None where the outcomes agree."""
    if ours.error or theirs.error:
        if ours.error and theirs.error and theirs.error[0] in ours.error:
            return None
        kind = "crash" if {"crash", "hang"} & {*ours.error, *theirs.error} else "error"
        return Difference(call, kind, f"ours {shown(ours)}, theirs {shown(theirs)}")
    if len(ours.results) != len(theirs.results):
        return Difference(
            call, "shape", f"ours has {len(ours.results)} results, theirs {len(theirs.results)}"
        )
    settle = CANONICAL.get(call.name, lambda _, results: results)
    for mine, other in zip(settle(call, ours.results), settle(call, theirs.results), strict=True):
        found = unequal(spec, call, mine, other)
        if found:
            return Difference(call, *found)
    return None


def shown(outcome: Outcome) -> str:
    """An outcome in a few words."""
    if outcome.error:
        return f"{outcome.error[0]} ({outcome.message.splitlines()[0][:90] if outcome.message else ''})"
    return ", ".join(
        f"{v.dtype}{list(v.values.shape)}" if isinstance(v, Value) else str(v)[:40] for v in outcome.results
    )


def unequal(spec: Spec, call: Call, ours: Any, theirs: Any) -> tuple[str, str] | None:
    """The kind of a difference between two results and its words."""
    if isinstance(ours, np.ndarray):
        return None if np.array_equal(ours, theirs) else ("value", f"ours {ours!r}, theirs {theirs!r}"[:200])
    if not isinstance(ours, Value) or not isinstance(theirs, Value):
        same = repr(ours) == repr(theirs)
        return None if same else ("value", f"ours {ours!r}, theirs {theirs!r}"[:200])
    if ours.dtype != theirs.dtype:
        return "dtype", f"ours {ours.dtype}, theirs {theirs.dtype}"
    if ours.values.shape != theirs.values.shape:
        return "shape", f"ours {list(ours.values.shape)}, theirs {list(theirs.values.shape)}"
    if spec.how == "kind":
        return None
    a, b = ours.values, theirs.values
    if ours.dtype == "complex64":
        a, b = (np.ascontiguousarray(v).reshape(-1).view(np.float32) for v in (a, b))
    bad = a != b
    kind = "value"
    if ours.dtype in EPS:
        with np.errstate(invalid="ignore"):
            a, b = a.astype(np.float64), b.astype(np.float64)
        if (np.isnan(a) != np.isnan(b)).any():
            bad, kind = np.isnan(a) != np.isnan(b), "nan"
        else:
            with np.errstate(invalid="ignore", over="ignore"):
                off = np.where((a == b) | np.isnan(a), 0, np.abs(a - b))
                bad = ~(off <= allowed(spec, call, ours.dtype, b))
    if not bad.any():
        return None
    at = tuple(int(i[0]) for i in np.nonzero(bad)) if bad.ndim else ()
    return kind, f"{int(bad.sum())} of {bad.size} wrong, at {at} ours {a[at]!r}, theirs {b[at]!r}"


def allowed(spec: Spec, call: Call, dtype: str, want: np.ndarray) -> Any:
    """How far off each element may be."""
    if spec.how == "exact":
        return 0.0
    eps = EPS[dtype]
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.where(np.isfinite(want), np.abs(want), 0)
    if spec.how == "ulp":
        whole = size if dtype != "complex64" else np.max(size.reshape(-1, 2), 1, initial=0).repeat(2)
        return spec.bound * eps * np.maximum(whole, TINY[dtype])
    # A sum of n products of the operands: n roundings of the largest that each can be.
    terms, reach = 1, 1.0
    for x in operands(list(call.args)):
        v = np.abs(x.values.astype(np.complex128))
        v = v[np.isfinite(v)]
        terms = max(terms, x.values.size)
        reach *= max(1.0, float(v.max(initial=0)))
        eps = max(eps, EPS.get(x.dtype, 0.0) if dtype != "float64" else 0.0)
    return spec.bound * eps * np.maximum(np.max(size, initial=0), reach * min(terms, 64))
