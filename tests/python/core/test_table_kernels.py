"""Every structured row of the op tables that computes, against NumPy, in its dtypes and five layouts."""

from __future__ import annotations

import lamina.core as mx
import numpy as np
import pytest
from core.core_cases import NUMPY_DTYPES
from core.table_cases import Kernel
from core.table_kernels import KERNELS
from core.table_rows import EPS, LAYOUTS, laid_out, report, rng_of

CASES = [(op, kernel) for op, kernels in KERNELS.items() for kernel in kernels]


@pytest.mark.parametrize(("op", "kernel"), CASES, ids=[f"{op}-{k.label}" for op, k in CASES])
def test_kernels(op: str, kernel: Kernel) -> None:
    for dtype in kernel.dtypes:
        xs = kernel.make(rng_of(op, kernel.label, dtype), dtype)
        for i, layout in enumerate(LAYOUTS):
            for step in (0, 1) if len(xs) > 1 else (0,):
                laid = [laid_out(x, LAYOUTS[(i + step * k) % 5]) for k, x in enumerate(xs)]
                twins = [pick(x) for (_, pick), x in zip(laid, xs, strict=True)]
                check(f"{dtype}, {layout}", kernel, dtype, [a for a, _ in laid], twins)


def check(label: str, kernel: Kernel, dtype: str, arrays: list[mx.array], xs: list[np.ndarray]) -> None:
    got = kernel.ours(*arrays)
    got = [got] if isinstance(got, mx.array) else list(got)
    results, wanted = kernel.results(dtype), kernel.theirs(dtype, *xs)
    assert len(got) == len(wanted) == len(results)
    for out, result, (want, bound) in zip(got, results, wanted, strict=True):
        y = np.asarray(out)
        assert y.dtype == NUMPY_DTYPES[result], label
        assert y.shape == want.shape, label
        with np.errstate(all="ignore"):
            rounded = want.astype(y.dtype)
            bad = (y != rounded) & ~(np.isnan(y) & np.isnan(rounded))
            if result in EPS:
                bad &= ~((np.abs(y.astype(want.dtype) - want) <= bound) & np.isfinite(rounded))
        assert not bad.any(), report(label, bad, y, want, [])
