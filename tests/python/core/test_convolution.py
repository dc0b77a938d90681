"""Convolutions against loops over windows in float64 NumPy: values, gradients, batching, errors."""

from __future__ import annotations

import itertools
from typing import Any

import lamina.core as mx
import ml_dtypes
import numpy as np
import pytest
from core.core_cases import layouts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

DTYPES: dict[str, Any] = {
    "float16": (mx.float16, np.float16),
    "bfloat16": (mx.bfloat16, ml_dtypes.bfloat16),
    "float32": (mx.float32, np.float32),
    "float64": (mx.float64, np.float64),
    "complex64": (mx.complex64, np.complex64),
}
EPS = {
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
    "float32": 2.0**-23,
    "float64": 2.0**-52,
    "complex64": 2.0**-23,
}


def spread(x: np.ndarray, lo: Any, hi: Any, dilation: Any) -> np.ndarray:
    """Zeros between the elements of the spatial axes and around them; negative padding crops."""
    for axis, (before, behind, step) in enumerate(zip(lo, hi, dilation, strict=True), start=1):
        length = x.shape[axis]
        dilated = np.zeros((*x.shape[:axis], max(0, (length - 1) * step + 1), *x.shape[axis + 1 :]), x.dtype)
        dilated[(slice(None),) * axis + (slice(None, None, step),)] = x
        widths = [(0, 0)] * x.ndim
        widths[axis] = (max(before, 0), max(behind, 0))
        x = np.pad(dilated, widths)
        x = x[(slice(None),) * axis + (slice(max(-before, 0), x.shape[axis] - max(-behind, 0)),)]
    return x


def direct(x, w, stride, lo, hi, kernel_dilation, input_dilation, groups=1, flip=False) -> np.ndarray:
    """Every output on its own: the sum over the window that starts at its place."""
    axes = x.ndim - 2
    x = spread(x, lo, hi, input_dilation)
    w = np.flip(w, tuple(range(1, axes + 1))) if flip else w
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape[1:-1], kernel_dilation, strict=True)]
    lengths = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:-1], reach, stride, strict=True)]
    y = np.zeros((x.shape[0], *lengths, w.shape[0]), np.result_type(x, w))
    ins, outs = w.shape[-1], w.shape[0] // groups
    inner = list(range(1, axes + 2))
    for at in np.ndindex(*lengths):
        window = x[
            (
                slice(None),
                *(
                    slice(i * s, i * s + r, d)
                    for i, s, r, d in zip(at, stride, reach, kernel_dilation, strict=True)
                ),
            )
        ]
        for g in range(groups):
            y[(slice(None), *at, slice(g * outs, (g + 1) * outs))] = np.tensordot(
                window[..., g * ins : (g + 1) * ins], w[g * outs : (g + 1) * outs], (inner, inner)
            )
    return y


def transposed(x, w, stride, padding, dilation, output_padding, groups=1) -> np.ndarray:
    """Every input on its own: added to the outputs under the kernel that it starts."""
    axes = x.ndim - 2
    full = [
        (n - 1) * s + (k - 1) * d + 1 + max(o, 0)
        for n, s, k, d, o in zip(x.shape[1:-1], stride, w.shape[1:-1], dilation, output_padding, strict=True)
    ]
    y = np.zeros((x.shape[0], *full, w.shape[0]), np.result_type(x, w))
    ins, outs = w.shape[-1], w.shape[0] // groups
    for at in np.ndindex(*x.shape[1 : axes + 1]):
        for tap in np.ndindex(*w.shape[1:-1]):
            to = tuple(i * s + t * d for i, s, t, d in zip(at, stride, tap, dilation, strict=True))
            for g in range(groups):
                some = w[(slice(g * outs, (g + 1) * outs), *tap)]
                y[(slice(None), *to, slice(g * outs, (g + 1) * outs))] += (
                    x[(slice(None), *at, slice(g * ins, (g + 1) * ins))] @ some.T
                )
    for axis, (p, o, n) in enumerate(zip(padding, output_padding, full, strict=True), start=1):
        y = y.take(range(p, n - max(o, 0) + o - p), axis)
    return y


def exact(a: np.ndarray) -> np.ndarray:
    return a.astype(np.complex128 if np.iscomplexobj(a) else np.float64)


def draw(rng: np.random.Generator, shape: Any, name: str) -> tuple[mx.array, np.ndarray]:
    """Normal numbers of a dtype, and exactly the same in double precision."""
    values = rng.standard_normal(shape)
    if name == "complex64":
        values = values + 1j * rng.standard_normal(shape)
    rounded = values.astype(DTYPES[name][1])
    return mx.array(rounded, dtype=DTYPES[name][0]), exact(rounded)


def assert_close(got: mx.array, want: np.ndarray, size: np.ndarray, terms: int, name: str) -> None:
    """Sums of `terms` products of total size `size`, then one rounding to the dtype."""
    assert got.shape == want.shape
    assert got.dtype == DTYPES[name][0]
    wide = got if name in ("float64", "complex64") else got.astype(mx.float32)
    eps = 2.0**-52 if name == "float64" else 2.0**-23
    bound = (terms + 8) * eps * size + EPS[name] * np.abs(want) + (2.0**-24 if name == "float16" else 0)
    off = np.abs(exact(np.array(wide)) - want)
    assert (off <= bound).all(), f"off by {off.max()}"


def random_settings(rng: np.random.Generator, axes: int) -> dict[str, Any]:
    """Parameters of conv_general, and shapes they fit."""
    while True:
        groups = int(rng.choice([1, 1, 2, 3]))
        ins, outs = (int(v) for v in rng.choice([1, 2, 5, 18], 2))
        s = {
            "x": (int(rng.integers(1, 4)), *(int(v) for v in rng.integers(1, 9, axes)), ins * groups),
            "w": (outs * groups, *(int(v) for v in rng.integers(1, 4, axes)), ins),
            "stride": tuple(int(v) for v in rng.integers(1, 4, axes)),
            "lo": tuple(int(v) for v in rng.integers(-2, 4, axes)),
            "hi": tuple(int(v) for v in rng.integers(-2, 4, axes)),
            "kernel_dilation": tuple(int(v) for v in rng.integers(1, 4, axes)),
            "input_dilation": tuple(int(v) for v in rng.integers(1, 4, axes)),
            "groups": groups,
            "flip": bool(rng.integers(2)),
        }
        if fits(s):
            return s


def fits(s: dict[str, Any]) -> bool:
    spare = [
        (n - 1) * i + 1 + lo + hi - (k - 1) * d - 1
        for n, k, i, d, lo, hi in zip(
            s["x"][1:-1],
            s["w"][1:-1],
            s["input_dilation"],
            s["kernel_dilation"],
            s["lo"],
            s["hi"],
            strict=True,
        )
    ]
    return min(spare) >= 0


def general(x: mx.array, w: mx.array, s: dict[str, Any]) -> mx.array:
    return mx.conv_general(
        x,
        w,
        stride=s["stride"],
        padding=(s["lo"], s["hi"]),
        kernel_dilation=s["kernel_dilation"],
        input_dilation=s["input_dilation"],
        groups=s["groups"],
        flip=s["flip"],
    )


def reference(x: np.ndarray, w: np.ndarray, s: dict[str, Any]) -> np.ndarray:
    names = ["stride", "lo", "hi", "kernel_dilation", "input_dilation", "groups", "flip"]
    return direct(x, w, *(s[n] for n in names))


def check_values(rng: np.random.Generator, s: dict[str, Any], name: str) -> None:
    (x, x64), (w, w64) = draw(rng, s["x"], name), draw(rng, s["w"], name)
    size = reference(np.abs(x64), np.abs(w64), s)
    terms = int(np.prod(s["w"][1:])) * (2 if name == "complex64" else 1)
    assert_close(general(x, w, s), reference(x64, w64, s), size, terms, name)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", DTYPES)
def test_values(name, axes):
    rng = np.random.default_rng([axes, list(DTYPES).index(name)])
    for _ in range(12):
        check_values(rng, random_settings(rng, axes), name)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from(list(DTYPES)))
def test_any_parameters(seed, axes, name):
    rng = np.random.default_rng(seed)
    check_values(rng, random_settings(rng, axes), name)


@pytest.mark.parametrize(
    ("x", "w", "groups"),
    [
        ((2, 30, 30, 24), (24, 3, 3, 1), 24),
        ((2, 20, 20, 48), (96, 3, 3, 1), 48),
        ((1, 28, 28, 3), (64, 7, 7, 3), 1),
        ((3, 15, 15, 40), (33, 1, 1, 40), 1),
        ((1, 400, 1), (1, 33, 1), 1),
        ((1, 9, 9, 300), (20, 3, 3, 300), 1),
    ],
    ids=["depthwise", "multiplier", "first layer", "pointwise", "signal", "deep"],
)
def test_common_layers(x, w, groups):
    axes = len(x) - 2
    s = {"x": x, "w": w, "groups": groups, "flip": False, "kernel_dilation": (1,) * axes}
    s |= {"lo": tuple(k // 2 for k in w[1:-1]), "hi": tuple(k // 2 for k in w[1:-1])}
    for stride, input_dilation in [(1, 1), (2, 1), (1, 2)]:
        s |= {"stride": (stride,) * axes, "input_dilation": (input_dilation,) * axes}
        check_values(np.random.default_rng(9), s, "float32")


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_plain_functions(axes):
    rng = np.random.default_rng(axes)
    (x, x64), (w, w64) = (
        draw(rng, (*(2, 7, 6, 5)[: axes + 1], 4), "float64"),
        draw(rng, (*(6, 2, 3, 2)[: axes + 1], 2), "float64"),
    )
    f = getattr(mx, f"conv{axes}d")
    ones = (1,) * axes
    for stride, padding, dilation in itertools.product([1, 2], [0, 2, -1], [1, 2]):
        if padding < 0 and dilation > 1:
            continue
        many = (
            tuple(v * stride for v in ones),
            tuple(v * padding for v in ones),
            tuple(v * dilation for v in ones),
        )
        want = direct(x64, w64, many[0], many[1], many[1], many[2], ones, 2)
        size = direct(np.abs(x64), np.abs(w64), many[0], many[1], many[1], many[2], ones, 2)
        assert_close(f(x, w, stride, padding, dilation, 2), want, size, 36, "float64")
        if axes > 1:
            assert_close(
                f(x, w, stride=many[0], padding=list(many[1]), dilation=many[2], groups=2),
                want,
                size,
                36,
                "float64",
            )


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_functions(axes, groups):
    rng = np.random.default_rng([axes, groups])
    f = getattr(mx, f"conv_transpose{axes}d")
    for _ in range(12):
        stride, dilation = ([int(v) for v in rng.integers(1, 4, axes)] for _ in range(2))
        padding, extra = (
            [int(v) for v in rng.integers(0, 2, axes)],
            [int(v) for v in rng.integers(-1, 3, axes)],
        )
        x, x64 = draw(rng, (2, *(int(v) for v in rng.integers(3, 6, axes)), 3 * groups), "float64")
        w, w64 = draw(rng, (4 * groups, *(int(v) for v in rng.integers(2, 4, axes)), 3), "float64")
        want = transposed(x64, w64, stride, padding, dilation, extra, groups)
        size = transposed(np.abs(x64), np.abs(w64), stride, padding, dilation, extra, groups)
        if axes == 1:
            got = f(x, w, stride[0], padding[0], dilation[0], extra[0], groups)
        else:
            got = f(x, w, tuple(stride), padding, dilation, output_padding=extra, groups=groups)
        assert_close(got, want, size, 81, "float64")


def test_layouts():
    rng = np.random.default_rng(7)
    values = rng.standard_normal((6, 5)).astype(np.float32)
    _, w64 = draw(rng, (3, 2, 1), "float32")
    for a, twin in layouts(values).values():
        x = a.reshape(1, -1, 1)
        for view, want_x in [
            (x, twin.reshape(1, -1, 1)),
            (a[None].swapaxes(1, 2)[..., :1], twin[None].swapaxes(1, 2)[..., :1]),
        ]:
            s = {
                "stride": (1,),
                "lo": (1,),
                "hi": (0,),
                "kernel_dilation": (1,),
                "input_dilation": (1,),
                "groups": 1,
                "flip": True,
            }
            flipped = mx.array(w64[::-1].astype(np.float32))[::-1]
            size = reference(np.abs(exact(want_x)), np.abs(w64), s)
            assert_close(general(view, flipped, s), reference(exact(want_x), w64, s), size, 2, "float32")


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", ["float32", "float64", "complex64"])
def test_convolve(name, mode):
    rng = np.random.default_rng(8)
    for n, m in [(1, 1), (5, 3), (3, 5), (5, 4), (4, 5), (4, 4), (100, 1), (3000, 65)]:
        (a, a64), (v, v64) = draw(rng, n, name), draw(rng, m, name)
        size = np.convolve(np.abs(a64), np.abs(v64), mode)
        assert_close(mx.convolve(a, v, mode), np.convolve(a64, v64, mode), size, 2 * min(n, m), name)
    assert mx.convolve(mx.array([1.0, 2.0]), mx.array([1.0, 1.0])).tolist() == [1, 3, 2]


def test_dtypes_promote():
    x, w = mx.ones((1, 4, 2)), mx.ones((3, 2, 2))
    assert mx.conv1d(x.astype(mx.float16), w).dtype == mx.float32
    assert mx.conv1d(x.astype(mx.float16), w.astype(mx.bfloat16)).dtype == mx.float32
    assert mx.conv1d(x, w.astype(mx.complex64)).dtype == mx.complex64
    assert mx.conv1d(x.astype(mx.bfloat16), w.astype(mx.bfloat16)).dtype == mx.bfloat16


def test_one_entry_stands_for_all_axes():
    x, w = mx.random.normal((1, 8, 9, 2)), mx.random.normal((3, 3, 2, 2))
    want = mx.conv_general(x, w, stride=2, padding=([1, 1], [2, 2]), kernel_dilation=2, input_dilation=[3, 3])
    got = mx.conv_general(x, w, stride=[2], padding=((1,), (2,)), kernel_dilation=(2,), input_dilation=3)
    assert mx.array_equal(got, want)
    assert mx.array_equal(mx.conv_general(x, w, [], [], [], []), mx.conv2d(x, w))


def test_empty():
    assert mx.conv1d(mx.zeros((0, 5, 2)), mx.zeros((3, 2, 2))).shape == (0, 4, 3)
    assert mx.conv1d(mx.zeros((2, 5, 2)), mx.zeros((0, 2, 2))).shape == (2, 4, 0)
    assert mx.conv1d(mx.zeros((2, 5, 0)), mx.zeros((3, 2, 0))).tolist() == np.zeros((2, 4, 3)).tolist()
    assert (
        mx.conv1d(mx.zeros((2, 0, 2)), mx.zeros((3, 2, 2)), padding=1).tolist()
        == np.zeros((2, 1, 3)).tolist()
    )
    grads = mx.grad(lambda x, w: mx.conv1d(x, w, padding=1).sum(), (0, 1))(
        mx.zeros((2, 0, 2)), mx.ones((3, 2, 2))
    )
    assert [g.shape for g in grads] == [(2, 0, 2), (3, 2, 2)]
    assert mx.abs(grads[1]).sum().item() == 0


# ---- derivatives ----


def numeric(f: Any, at: list[np.ndarray], which: int) -> np.ndarray:
    """Central differences; exact for functions linear in each operand, up to rounding."""
    grad = np.zeros_like(at[which])
    for i in np.ndindex(*grad.shape):
        ends = []
        for h in (0.5, -0.5):
            moved = [a.copy() for a in at]
            moved[which][i] += h
            ends.append(float(f(*moved)))
        grad[i] = ends[0] - ends[1]
    return grad


def small_settings(rng: np.random.Generator, axes: int) -> dict[str, Any]:
    while True:
        s = random_settings(rng, axes)
        if np.prod(s["x"]) <= 150 and np.prod(s["w"]) <= 150:
            return s


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_gradients(axes):
    rng = np.random.default_rng([11, axes])
    for _ in range(5):
        s = small_settings(rng, axes)
        (x, x64), (w, w64) = draw(rng, s["x"], "float64"), draw(rng, s["w"], "float64")
        shape = reference(x64, w64, s).shape
        c, c64 = draw(rng, shape, "float64")
        got = mx.grad(lambda x, w, s=s, c=c: (general(x, w, s) * c).sum(), (0, 1))(x, w)
        size = 2.0**-52 * np.prod(shape) * np.prod(s["w"]) * 64
        for i in range(2):
            want = numeric(lambda x, w, s=s, c64=c64: (reference(x, w, s) * c64).sum(), [x64, w64], i)
            assert got[i].shape == want.shape
            assert np.abs(np.array(got[i]) - want).max() <= size


def test_gradient_of_complex_inputs():
    """For a loss |y|^2 the gradient is 2 y times the conjugate of the other operand."""
    rng = np.random.default_rng(12)
    (x, x64), (w, w64) = draw(rng, (2, 6, 4), "complex64"), draw(rng, (4, 3, 2), "complex64")
    s = {
        "stride": (1,),
        "lo": (1,),
        "hi": (0,),
        "kernel_dilation": (1,),
        "input_dilation": (1,),
        "groups": 2,
        "flip": False,
    }

    def loss(x, w):
        y = general(x, w, s)
        return (mx.real(y) ** 2 + mx.imag(y) ** 2).sum()

    got = mx.grad(loss, (0, 1))(x, w)

    def reference_loss(parts, other, first):
        z = parts[..., 0] + 1j * parts[..., 1]
        y = reference(z, other, s) if first else reference(other, z, s)
        return (np.abs(y) ** 2).sum()

    for i, (one, other) in enumerate([(x64, w64), (w64, x64)]):
        parts = np.stack([one.real, one.imag], -1)
        want = numeric(lambda p, i=i, other=other: reference_loss(p, other, i == 0), [parts], 0)
        want = want[..., 0] + 1j * want[..., 1]
        assert np.abs(np.array(got[i]) - want).max() <= 2.0**-23 * 64 * np.abs(want).max()


def test_second_derivatives():
    rng = np.random.default_rng(13)
    s = {
        "stride": (2,),
        "lo": (1,),
        "hi": (2,),
        "kernel_dilation": (2,),
        "input_dilation": (1,),
        "groups": 2,
        "flip": True,
    }
    (x, x64), (w, w64) = draw(rng, (2, 7, 4), "float64"), draw(rng, (6, 2, 2), "float64")
    u, v = draw(rng, x.shape, "float64")[0], draw(rng, w.shape, "float64")[0]

    def first(x, w):
        gx, gw = mx.grad(lambda x, w: (mx.sin(general(x, w, s))).sum(), (0, 1))(x, w)
        return (gx * u).sum() + (gw * v).sum()

    got = mx.grad(first, (0, 1))(x, w)
    h = 1e-5  # truncation about h^2, rounding about eps / h of sums of a few hundred terms
    for i in range(2):
        want = np.zeros(got[i].shape)
        for at in np.ndindex(*want.shape):
            ends = []
            for step in (h, -h):
                moved = [x64.copy(), w64.copy()]
                moved[i][at] += step
                ends.append(first(*(mx.array(a, dtype=mx.float64) for a in moved)).item())
            want[at] = (ends[0] - ends[1]) / (2 * h)
        assert np.abs(np.array(got[i]) - want).max() <= 1e-7 * max(1, np.abs(want).max())


@pytest.mark.parametrize("operands", [(True, False), (False, True), (True, True)])
def test_forward_derivatives(operands):
    rng = np.random.default_rng(14)
    s = random_settings(rng, 2)
    (x, x64), (w, w64) = draw(rng, s["x"], "float64"), draw(rng, s["w"], "float64")
    (dx, dx64), (dw, dw64) = draw(rng, s["x"], "float64"), draw(rng, s["w"], "float64")
    primals, tangents = [], []
    for used, a, d in zip(operands, (x, w), (dx, dw), strict=True):
        primals += [a] * used
        tangents += [d] * used

    def f(*moved):
        rest = iter(moved)
        return general(next(rest) if operands[0] else x, next(rest) if operands[1] else w, s)

    values, derivatives = mx.jvp(f, primals, tangents)
    size = reference(np.abs(x64), np.abs(w64), s)
    assert_close(values[0], reference(x64, w64, s), size, 81, "float64")
    want = operands[0] * reference(dx64, w64, s) + operands[1] * reference(x64, dw64, s)
    size = reference(np.abs(dx64), np.abs(w64), s) + reference(np.abs(x64), np.abs(dw64), s)
    assert_close(derivatives[0], want, size, 162, "float64")


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("in_axes", [(0, None), (None, 0), (0, 0), (2, 1), (None, -1)])
def test_vmap_equals_a_loop(in_axes, axes):
    rng = np.random.default_rng([15, axes])
    for _ in range(3):
        s = small_settings(rng, axes)
        operands = []
        for at, shape in zip(in_axes, (s["x"], s["w"]), strict=True):
            full = list(shape)
            if at is not None:
                full.insert(at if at >= 0 else len(shape), 3)
            operands.append(draw(rng, full, "float64")[0])
        f = lambda x, w, s=s: general(x, w, s)  # noqa: E731
        got = mx.vmap(f, in_axes)(*operands)
        one = [
            f(*(a if at is None else mx.take(a, i, axis=at) for a, at in zip(operands, in_axes, strict=True)))
            for i in range(3)
        ]
        assert got.shape == (3, *one[0].shape)
        size = 2.0**-52 * np.prod(s["w"][1:]) * 64
        assert np.abs(np.array(got) - np.array(mx.stack(one))).max() <= size


def test_vmap_of_gradients():
    rng = np.random.default_rng(16)
    x, w = draw(rng, (3, 2, 6, 4), "float64")[0], draw(rng, (3, 4, 3, 2), "float64")[0]
    f = mx.grad(lambda x, w: mx.sin(mx.conv1d(x, w, groups=2)).sum(), (0, 1))
    together = mx.vmap(f)(x, w)
    for i in range(3):
        for got, want in zip(together, f(x[i], w[i]), strict=True):
            assert np.abs(np.array(got[i]) - np.array(want)).max() <= 2.0**-52 * 256


def test_long_sums_are_cut():
    """A million equal products: summed one after the other in float32 they would be off by a hundredth."""
    n, value = 1_000_000, np.float32(0.1)
    got = np.array(mx.convolve(mx.full((n + 40,), value), mx.ones((n,)), mode="valid"))
    want = n * float(value)
    np.testing.assert_allclose(got, want, rtol=0, atol=(n / 256 + 256) * 2.0**-24 * want)
