"""Derivatives of functions of complex arrays: Fourier transforms, indexing, products, decompositions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import lamina.core as mx
import numpy as np
import pytest
from core.table_rows import EPS, of, rng_of

Shape = tuple[int, ...]
fft, linalg = mx.fft, mx.linalg
PICK = mx.array([2, 0, 2])


def complex_of(*shape: int) -> np.ndarray:
    rng = rng_of("complex", shape)
    return (rng.uniform(0.5, 1.5, shape) + 1j * rng.uniform(0.5, 1.5, shape)).astype(np.complex64)


def real_of(*shape: int) -> np.ndarray:
    return rng_of("real", shape).uniform(0.5, 1.5, shape).astype(np.float32)


def direction(x: np.ndarray, seed: str) -> np.ndarray:
    rng = rng_of(seed, x.shape)
    t = rng.standard_normal(x.shape)
    return (t + 1j * rng.standard_normal(x.shape) if np.iscomplexobj(x) else t).astype(x.dtype)


def check_complex(f: Callable[..., mx.array], xs: list[np.ndarray]) -> None:
    """jvp against differences along a direction; vjp as its adjoint for the real inner product."""
    h, eps = 2.0**-8, EPS["float32"]
    steps = [direction(x, "step") for x in xs]
    arrays = [of(x) for x in xs]
    out = np.asarray(f(*arrays))
    forward = np.asarray(mx.jvp(f, arrays, [of(t) for t in steps])[1][0])

    def slope(by: float) -> np.ndarray:
        ends = [
            np.asarray(f(*[of((x + s * by * t).astype(x.dtype)) for x, t in zip(xs, steps, strict=True)]))
            for s in (1, -1)
        ]
        return (ends[0].astype(np.complex128) - ends[1]) / (2 * by)

    near, wide = slope(h), slope(2 * h)
    bound = np.abs(near - wide) + 64 * eps * (np.abs(out).max(initial=0) + 1) / h
    assert (np.abs(forward - near) <= bound).all(), (forward, near, bound)
    weights = direction(out, "weights")
    backward = [np.asarray(g) for g in mx.vjp(f, arrays, [of(weights)])[1]]
    for g, x in zip(backward, xs, strict=True):
        assert g.dtype == x.dtype
        assert g.shape == x.shape
    there = (np.conj(weights) * forward).real.sum()
    back = sum((np.conj(g) * t).real.sum() for g, t in zip(backward, steps, strict=True))
    size = np.abs(weights * forward).sum() + 1
    size += sum(np.abs(g * t).sum() for g, t in zip(backward, steps, strict=True))
    assert abs(there - back) <= 256 * eps * size


def gradient_of(f: Callable[..., mx.array]) -> Callable[..., mx.array]:
    def gradients(*xs: mx.array) -> mx.array:
        out = f(*xs)
        weights = mx.full(out.shape, 1 + 0.5j if out.dtype == mx.complex64 else 1.0, dtype=out.dtype)
        found = mx.vjp(f, list(xs), [weights])[1]
        return mx.concatenate([g.reshape(-1).astype(mx.complex64) for g in found])

    return gradients


Case = tuple[Callable[..., mx.array], list[np.ndarray]]


def transform(name: str, *args: Any, **options: Any) -> Callable[[mx.array], mx.array]:
    # A product, so that the second derivative is not zero.
    return lambda a: getattr(fft, name)(a * a, *args, **options)


def spectra() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for name in ("fft", "ifft", "rfft", "irfft"):
        draw = real_of if name == "rfft" else complex_of
        for n, norm in itertools.product((1, 2, 5, 6, 17, 64), ("backward", "ortho", "forward")):
            if (name, n) != ("irfft", 1):
                cases[f"{name} {n} {norm}"] = transform(name, norm=norm), [draw(2, n)]
        for n in (4, 9):
            cases[f"{name} cut or padded to {n}"] = transform(name, n, 0), [draw(6, 2)]
    for name in ("fft", "ifft"):
        cases[f"{name} of real numbers"] = transform(name), [real_of(3, 6)]
    for name in ("fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn", "rfftn", "irfftn"):
        x = real_of(2, 3, 4) if name[0] == "r" else complex_of(2, 3, 4)
        cases[name] = transform(name), [x]
        cases[f"{name} of other lengths"] = transform(name, (5, 3), (0, 1)), [x]
    cases["shifts"] = lambda a: fft.fftshift(a) * fft.ifftshift(a), [complex_of(5)]
    cases["stft"] = lambda a: fft.stft(a * a, 8, 2)[0], [real_of(20)]
    cases["istft"] = lambda a: fft.istft(a * a, 8, 2)[0], [complex_of(5, 10)]
    return cases


def hermitian(a: mx.array) -> mx.array:
    return a + mx.conjugate(a.T) + mx.diag(mx.array([0.0, 9.0, 25.0]))


def structured() -> dict[str, Case]:
    pair = [complex_of(3, 2), complex_of(3, 2) * 1.5]
    cases: dict[str, Case] = {
        "matmul": (mx.matmul, [complex_of(2, 3), complex_of(3, 2)]),
        "matmul with real": (lambda a, b: a @ b, [complex_of(2, 3), real_of(3, 2)]),
        "index": (lambda a: a[PICK] ** 2, [complex_of(3, 2)]),
        "take_along_axis": (lambda a: mx.take_along_axis(a, PICK, 0) ** 2, [complex_of(3)]),
        "put_along_axis": (
            lambda a, b: mx.put_along_axis(a, PICK[:2], b, 0) ** 2,
            [complex_of(3), complex_of(2)],
        ),
        "as_strided": (lambda a: mx.as_strided(a, (3, 2), (1, 2)) ** 2, [complex_of(6)]),
        "cumsum": (lambda a: mx.cumsum(a, 0) ** 2, [complex_of(4)]),
        "prod": (lambda a: mx.prod(a, axis=0), [complex_of(4, 2)]),
        "sum": (lambda a: mx.sum(a * a, axis=0), [complex_of(4, 2)]),
        "sort": (lambda a: mx.sort(a, 0) ** 2, [complex_of(4)]),
        "max": (lambda a: mx.max(a, 0) ** 2, [complex_of(4, 2)]),
        "where": (lambda a, b: mx.where(mx.real(a) > 1, a * b, b * b), pair),
        "conv1d": (lambda a, b: mx.conv1d(a, b, 1, 1), [complex_of(1, 5, 2), complex_of(2, 3, 2)]),
        "einsum": (lambda a, b: mx.einsum("ij,kj->ik", a, b), pair),
        "gather_mm": (
            lambda a, b: mx.gather_mm(a, b, mx.array([0, 1, 1]), mx.array([1, 0, 1])),
            [complex_of(2, 2, 3), complex_of(2, 3, 2)],
        ),
        "segmented_mm": (
            lambda a, b: mx.segmented_mm(a, b, mx.array([[0, 2], [1, 3]])),
            [pair[0].T.copy(), pair[1]],
        ),
        "real to a complex power": (lambda a, b: a**b, [real_of(4), complex_of(4)]),
        "real and complex": (lambda a, b: a * b + b / a, [real_of(4), complex_of(4)]),
        "astype": (lambda a: a.astype(mx.complex64) ** 2, [real_of(4)]),
        "logsumexp": (mx.logsumexp, [complex_of(4)]),
        "norm": (linalg.norm, [complex_of(3, 3)]),
        "norm of columns": (lambda a: linalg.norm(a, 1, axis=0), [complex_of(3, 3)]),
        "eigvalsh": (lambda a: linalg.eigvalsh(hermitian(a)), [complex_of(3, 3)]),
        "eigh": (lambda a: mx.abs(linalg.eigh(hermitian(a))[1]), [complex_of(3, 3)]),
    }
    for how in ("add", "subtract", "multiply", "divide"):
        cases[f"at {how}"] = (lambda a, b, h=how: getattr(a.at[PICK], h)(b) ** 2), pair
    for reverse, inclusive in itertools.product((False, True), (False, True)):
        options = {"reverse": reverse, "inclusive": inclusive}
        cases[f"cumprod {options}"] = (lambda a, o=options: mx.cumprod(a, 0, **o)), [complex_of(4)]
    for reverse in (False, True):
        cases[f"logcumsumexp {reverse}"] = (
            (lambda a, r=reverse: mx.logcumsumexp(a, 0, reverse=r)),
            [complex_of(5)],
        )
    return cases


# Singular vectors of complex matrices have no gradient, so that their values have no second one.
ONCE: dict[str, Case] = {
    "singular values": (lambda a: linalg.svd(a, compute_uv=False), [complex_of(3, 3)]),
    "nuclear norm": (lambda a: linalg.norm(a, "nuc"), [complex_of(2, 3)]),
}
CASES = spectra() | structured()


@pytest.mark.parametrize("name", [*CASES, *ONCE])
def test_first(name: str) -> None:
    check_complex(*(CASES | ONCE)[name])


def test_singular_vectors_say_that_they_have_none() -> None:
    a = of(complex_of(2, 2))
    with pytest.raises(NotImplementedError, match="no gradient of singular vectors of complex matrices"):
        mx.grad(lambda x: mx.abs(linalg.svd(x)[0]).sum())(a)


@pytest.mark.parametrize("name", CASES)
def test_second(name: str) -> None:
    f, xs = CASES[name]
    check_complex(gradient_of(f), xs)
