"""Rows of the surface: products, indexing, linear algebra, transforms, random numbers, fast functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from .calls import Operand
from .drawing import DTYPES, FLOATS, INTEGERS, Draw, rounded
from .surface import SMALL_FLOATS, Arguments, add

# ---- products


def matrices(d: Draw) -> Arguments:
    m, k, n = (d.of([1, 2, 3, 5, 8, 17, 0]) for _ in range(3))
    batch = d.of([(), (), (2,), (3, 1)])
    dtypes = [d.dtype(FLOATS)] if d.chance(0.7) else DTYPES
    a = d.array((k,) if d.chance(0.15) else (*batch, m, k), dtypes, special=False)
    k = k + 1 if d.fault() else k
    return [a, d.array((k,) if d.chance(0.15) else (*d.of([(), batch]), k, n), dtypes, special=False)], {}


def plus_product(d: Draw) -> Arguments:
    (a, b), _ = matrices(d)
    c = d.array(
        d.of([(), (1,), (a.values.shape[-2] if a.values.ndim > 1 else 1, b.values.shape[-1])]),
        [a.dtype],
        special=False,
    )
    return [c, a, b], d.of([{}, {"alpha": 0.5, "beta": 2.0}])


def pairs(d: Draw, last: bool = True) -> Arguments:
    a = d.array(low=1, special=False)
    shape = a.values.shape if last else d.shape(1)
    return [a, d.array(shape, special=False)], {}


def contraction(d: Draw) -> Arguments:
    i, j, k = (d.number(1, 4) for _ in range(3))
    cases: list[tuple[str, list[tuple[int, ...]]]] = [
        ("ij,jk->ik", [(i, j), (j, k)]),
        ("ij->ji", [(i, j)]),
        ("ii->i", [(i, i)]),
        ("i,j->ij", [(i,), (j,)]),
        ("ij,jk,k", [(i, j), (j, k), (k,)]),
        ("...i,i->...", [(j, k, i), (i,)]),
        ("ij->", [(i, j)]),
        ("ij,j->x", [(i, j), (j,)]),
    ]
    spec, shapes = d.of(cases)
    dtype = [d.dtype(FLOATS)]
    return [spec, *[d.array(s, dtype, special=False) for s in shapes]], {}


def convolve(d: Draw) -> Arguments:
    lines = [d.array((d.number(1, n),), FLOATS, special=False) for n in (9, 5)]
    return lines, {"mode": d.of(["full", "same", "valid", "no"])}


def convolved(d: Draw, axes: int) -> Arguments:
    groups, per, out = d.of([1, 1, 2]), d.number(1, 3), d.number(1, 2)
    dtype = [d.dtype(SMALL_FLOATS)]
    x = d.array((d.number(1, 2), *[d.number(3, 7)] * axes, groups * per + d.fault()), dtype, special=False)
    w = d.array((groups * out, *[d.number(1, 3)] * axes, per), dtype, special=False)
    return [x, w], {
        "stride": d.number(1, 2),
        "padding": d.number(0, 2),
        "dilation": d.number(1, 2),
        "groups": groups,
    }


def transposed_convolved(d: Draw, axes: int) -> Arguments:
    args, kwargs = convolved(d, axes)
    return args, {**kwargs, "groups": 1}


add("matmul array.__matmul__", matrices, "norm", 4)
add("addmm", plus_product, "norm", 8)
add("inner vecdot", pairs, "norm", 4)
add("outer kron", lambda d: pairs(d, last=False), "ulp")
add("tensordot", lambda d: ([d.array((2, 3, 4), special=False), d.array((3, 4, 2), special=False)],
                            {"axes": d.of([0, 1, 2, [[1, 2], [0, 1]], [[0], [2]]])}), "norm", 4)  # fmt: skip
add("einsum", contraction, "norm", 8)
add("einsum_path", contraction, "exact")
add("conv1d", lambda d: convolved(d, 1), "norm", 4)
add("conv2d", lambda d: convolved(d, 2), "norm", 4)
add("conv3d", lambda d: convolved(d, 3), "norm", 4)
add("conv_transpose1d", lambda d: transposed_convolved(d, 1), "norm", 4)
add("conv_transpose2d", lambda d: transposed_convolved(d, 2), "norm", 4)
add("convolve", convolve, "norm", 4)
add("hadamard_transform", lambda d: ([d.array((2, d.of([1, 2, 8, 12, 20, 7])), SMALL_FLOATS, special=False)],
                                     d.of([{}, {"scale": 0.5}])), "norm", 8)  # fmt: skip

# ---- indexing


def indices(d: Draw, shape: tuple[int, ...], n: int) -> Operand:
    """Whole numbers within [-n, n), as an array."""
    dtype = d.of(INTEGERS)
    low = 0 if dtype[0] == "u" else -n
    return Operand(d.rng.integers(low, n, shape).astype(dtype) if n else np.zeros(shape, dtype), dtype)


def index_parts(d: Draw, shape: tuple[int, ...]) -> Any:
    """An index expression of ints, slices, None, an ellipsis and integer arrays."""
    parts: list[Any] = []
    lengths = d.of([(), (2,), (2, 3)])
    for n in shape[: d.number(0, len(shape))]:
        kind = d.number(0, 3)
        if kind == 0 and n:
            parts.append(d.number(-n, n - 1))
        elif kind == 1 and n:
            parts.append(indices(d, lengths, n))
        else:
            step = d.of([None, 1, 2, -1, -2])
            start, stop = (d.of([None, d.number(-n - 1, n + 1)]) for _ in range(2))
            parts.append(slice(start, stop, step))
        if d.chance(0.1):
            parts.append(None)
    if d.chance(0.2):
        parts.insert(d.number(0, len(parts)), ...)
    if d.fault():
        parts += [0] * (len(shape) + 1)
    return parts[0] if len(parts) == 1 and d.chance(0.7) else tuple(parts)


def read(d: Draw) -> Arguments:
    a = d.array(low=1)
    return [a, index_parts(d, a.values.shape)], {}


def written(d: Draw) -> Arguments:
    """A scalar, or an update of the shape that the index has in NumPy."""
    a = d.array(low=1, special=False)
    index = index_parts(d, a.values.shape)
    try:
        items = index if isinstance(index, tuple) else (index,)
        plain: Any = tuple(p.values.astype(int) if isinstance(p, Operand) else p for p in items)
        shape = np.empty(a.values.shape)[plain].shape
    except IndexError:
        shape = ()
    value = d.of([d.of([0, 1, 3, 0.5, True]), d.array(d.partner(shape), [a.dtype], special=False)])
    return [a, index, value], {}


def distinct(d: Draw) -> Arguments:
    """A write without indices that repeat: the order of repeated writes is free."""
    args, kwargs = written(d)
    while any(isinstance(p, Operand) for p in (args[1] if isinstance(args[1], tuple) else (args[1],))):
        args, kwargs = written(d)
    return args, kwargs


def taken_along(d: Draw) -> Arguments:
    a = d.array(low=1)
    axis = d.axis(a.values.ndim)
    shape = list(a.values.shape)
    at = axis if -len(shape) <= axis < len(shape) else 0
    n, shape[at] = shape[at], d.number(0, 3) if shape[at] else 0
    return [a, indices(d, tuple(shape), n)], {"axis": axis}


def put_along(d: Draw) -> Arguments:
    """Indices that do not repeat along the axis."""
    a = d.array(low=1)
    axis = d.number(0, a.values.ndim - 1)
    n = a.values.shape[axis]
    order = np.argsort(d.rng.random(a.values.shape), axis=axis).astype(np.int32)
    some = np.take(order, np.arange(d.number(0, n)), axis=axis)
    return [a, Operand(some, "int32"), d.array(some.shape, [a.dtype])], {"axis": axis}


def taken(d: Draw) -> Arguments:
    a = d.array(low=1)
    if d.chance(0.3):
        return [a, indices(d, (3,), a.values.size)], {}
    axis = d.axis(a.values.ndim)
    n = a.values.shape[axis] if -a.values.ndim <= axis < a.values.ndim else 1
    return [a, indices(d, d.shape(0, 2), n)], {"axis": axis}


def windows(d: Draw) -> Arguments:
    a = d.array((4, 5))
    return [a, Operand(np.array([d.number(0, 1), d.number(0, 2)], np.int32), "int32"), (0, 1), (3, 3)], {}


def found(d: Draw) -> Arguments:
    a = d.array((d.number(0, 9),), ["float32", "int32", "float16"], special=False)
    return [Operand(np.sort(a.values), a.dtype), d.array(dtypes=[a.dtype], special=False)], d.of(
        [{}, {"side": "right"}, {"side": "no"}]
    )


add("array.__getitem__", read, "exact")
add("setitem", distinct, "exact")
add("at.add at.subtract at.multiply at.maximum at.minimum", written, "norm", 8)
add("at.divide", distinct, "ulp")
add("take", taken, "exact")
add("take_along_axis", taken_along, "exact")
add("put_along_axis", put_along, "exact")
add("slice", windows, "exact")
add(
    "slice_update",
    lambda d: ([(w := windows(d)[0])[0], d.array((3, 3), [w[0].dtype]), w[1], (0, 1)], {}),
    "exact",
)
add("searchsorted", found, "exact")
add("array.item array.tolist", lambda d: ([d.array(d.of([(), (1,), (2, 2), (0,)]))], {}), "exact")
add(
    "array.__len__ array.__int__ array.__float__ array.__bool__ array.__neg__ array.__invert__",
    lambda d: ([d.array(d.of([(), (1,), (3,)]))], {}),
)

# ---- linear algebra


def square(d: Draw, symmetric: bool = False) -> list[Operand]:
    n = d.of([1, 2, 3, 5, 8])
    shape = (*d.of([(), (), (2,)]), n, n + d.fault())
    dtype = d.of(["float32", "float32", "float64", "float16", "int32", "complex64"])
    x = d.rng.standard_normal(shape)
    if symmetric and shape[-1] == n:
        x = x @ np.swapaxes(x, -1, -2)
    # Well conditioned, so that two good answers are close to each other.
    x = x + 2 * n * np.eye(n, shape[-1])
    return [Operand(x.astype(dtype), dtype)]


def general(d: Draw) -> list[Operand]:
    dtype = d.of(["float32", "float32", "float64", "float16"])
    return [
        Operand(
            d.rng.standard_normal((*d.of([(), (2,)]), d.number(1, 6), d.number(1, 6))).astype(dtype), dtype
        )
    ]


def solved(d: Draw) -> Arguments:
    (a,) = square(d)
    n = a.values.shape[-2]
    return [a, d.array(d.of([(n,), (*a.values.shape[:-2], n, 3), (n + 1, 2)]), [a.dtype], special=False)], {}


def normed(d: Draw) -> Arguments:
    a = d.array(d.shape(1, 3), ["float32", "float16", "complex64", "int32"], special=False)
    return [a], {
        **d.of([{}, {"ord": d.of([1, 2, 0, -1, 3, float("inf"), "fro", "nuc"])}]),
        **d.of([{}, {"axis": d.axis(a.values.ndim)}]),
        **d.of([{}, {"keepdims": True}]),
    }


add("linalg.inv linalg.pinv linalg.det linalg.slogdet", lambda d: (square(d), {}), "norm", 512)
add(
    "linalg.cholesky linalg.cholesky_inv",
    lambda d: (square(d, True), d.of([{}, {"upper": True}])),
    "norm",
    512,
)
add("linalg.eigvalsh", lambda d: (square(d, True), d.of([{}, {"UPLO": "U"}, {"UPLO": "no"}])), "norm", 512)
add("linalg.eigh", lambda d: (square(d, True), {}), "norm", 512)
add("linalg.eig linalg.eigvals linalg.lu linalg.lu_factor", lambda d: (square(d), {}), "norm", 512)
add("linalg.qr", lambda d: (general(d), {}), "norm", 64)
add("linalg.svd", lambda d: (general(d), d.of([{}, {"compute_uv": False}])), "norm", 64)
add("linalg.tri_inv", lambda d: (square(d), d.of([{}, {"upper": True}])), "norm", 512)
add("linalg.solve", solved, "norm", 512)
add("linalg.solve_triangular", lambda d: (solved(d)[0], d.of([{}, {"upper": True}])), "norm", 512)
add(
    "linalg.cross",
    lambda d: ([d.array((2, d.of([2, 3, 3, 4])), special=False), d.array((2, 3), special=False)], {}),
    "norm",
    4,
)
add("linalg.norm", normed, "norm", 64)

# ---- transforms


def signal(d: Draw, complex_only: bool = False) -> Arguments:
    a = d.array(
        d.shape(1, 3),
        ["complex64"] if complex_only else ["float32", "complex64", "int32", "float16"],
        special=False,
    )
    return [a], {
        **d.of([{}, {"n": d.number(1, 9)}]),
        **d.of([{}, {"axis": d.axis(a.values.ndim)}]),
        **d.of([{}, {"norm": d.of(["ortho", "forward", "no"])}]),
    }


def signals(d: Draw) -> Arguments:
    a = d.array(d.shape(2, 3), ["float32", "complex64", "int32"], special=False)
    return [a], d.of([{}, {"axes": (0, 1)}, {"s": (3, 4), "axes": (-2, -1)}, {"s": (2, 2)}, {"axes": (0, 5)}])


add("fft.fft fft.ifft fft.rfft fft.irfft", signal, "norm", 16)
add("fft.fft2 fft.ifft2 fft.rfft2 fft.irfft2 fft.fftn fft.ifftn fft.rfftn fft.irfftn", signals, "norm", 16)
add(
    "fft.fftshift fft.ifftshift",
    lambda d: ([a := d.array(low=1)], d.of([{}, {"axes": d.axis(a.values.ndim)}])),
    "exact",
)
add("fft.fftfreq fft.rfftfreq", lambda d: ([d.number(0, 9)], d.of([{}, {"d": 0.5}])), "ulp")

# ---- random numbers: every call with a key of its own


def key(d: Draw) -> Operand:
    return Operand(d.rng.integers(0, 2**32, 2, np.uint32), "uint32")


def floats(d: Draw) -> dict[str, Any]:
    return {"key": key(d), **d.of([{}, {"dtype": d.dtype_name(SMALL_FLOATS)}])}


def whole(d: Draw) -> Arguments:
    options = {"shape": d.shape(), "key": key(d), **d.of([{}, {"dtype": d.dtype_name(INTEGERS)}])}
    return [d.of([0, -5, 3]), d.of([10, 4, 1000])], options


def several(d: Draw) -> Arguments:
    mean, covariance = (Operand(v.astype(np.float32), "float32") for v in (np.zeros(2), np.eye(2)))
    return [mean, covariance], {"shape": d.shape(0, 2), "key": key(d)}


add("random.key", lambda d: ([d.of([0, 1, 7, 2**31, 2**40, 2**63, -1, 1.5])], {}), "exact")
add("random.split", lambda d: ([key(d), *d.of([[], [3], [7], [1], [0]])], {}), "exact")
add("random.uniform", lambda d: (d.of([[], [0, 2], [-1.5, 3.0]]), {"shape": d.shape(), **floats(d)}), "exact")
add("random.randint", whole, "exact")
add(
    "random.bernoulli",
    lambda d: (
        [d.of([0.5, 0.1, d.array((3,), ["float32"], special=False)])],
        {"shape": (4, 3), "key": key(d)},
    ),
    "exact",
)
add("random.permutation", lambda d: ([d.of([d.number(0, 40), d.array(low=1)])], {"key": key(d)}), "exact")
add("random.categorical", lambda d: ([d.array((3, d.number(1, 9)), ["float32"], special=False)],
    {"key": key(d), **d.of([{}, {"num_samples": 5}, {"shape": (4, 3)}, {"axis": 0}])}), "exact")  # fmt: skip
add(
    "random.normal random.laplace",
    lambda d: ([], {"shape": d.shape(), **floats(d), **d.of([{}, {"loc": 1.0, "scale": 2.0}])}),
    "norm",
    4,
)
add("random.gumbel", lambda d: ([], {"shape": d.shape(), **floats(d)}), "norm", 4)
add(
    "random.truncated_normal",
    lambda d: (d.of([[-1, 1], [0.0, 2.0]]), {"shape": d.shape(), **floats(d)}),
    "norm",
    8,
)
# The signs of its singular vectors are free, and the numbers with them.
add("random.multivariate_normal", several, "kind")

# ---- fast functions and quantization


def normalized(d: Draw, bias: bool) -> Arguments:
    dtype = d.dtype(SMALL_FLOATS)
    x = d.array((*d.shape(1, 2), n := d.number(1, 40)), [dtype], special=False)
    weights = [d.of([None, d.array((n + d.fault(),), [dtype], special=False)]) for _ in range(1 + bias)]
    return [x, *weights, 1e-5], {}


def attended(d: Draw) -> Arguments:
    dtype = [d.dtype(SMALL_FLOATS)]
    B, H, K, L, S, D = (
        d.number(1, 2),
        d.of([2, 4]),
        d.of([1, 2]),
        d.number(1, 5),
        d.number(5, 9),
        d.of([8, 16, 64]),
    )
    q, k, v = (d.array((B, h, n, D + d.fault()), dtype, special=False) for h, n in ((H, L), (K, S), (K, S)))
    return [q, k, v], {
        "scale": D**-0.5,
        **d.of([{}, {"mask": "causal"}, {"mask": d.array((L, S), ["bool_"])}, {"mask": "no"}]),
    }


def rotated(d: Draw) -> Arguments:
    x = d.array((d.number(1, 2), d.number(1, 2), d.number(1, 5), 8), SMALL_FLOATS, special=False)
    return [x, d.of([8, 4, 6])], {
        "traditional": d.chance(0.5),
        "base": 10000.0,
        "scale": d.of([1.0, 0.5]),
        "offset": d.of([0, 3]),
    }


def quantized(d: Draw) -> Arguments:
    w = d.array((d.number(1, 3), d.of([64, 128, 100])), SMALL_FLOATS, special=False)
    if d.chance(0.5):
        return [w], {"mode": d.of(["mxfp4", "mxfp8", "nvfp4", "no"])}
    return [w], {"group_size": d.of([32, 64, 128, 7]), "bits": d.of([2, 3, 4, 5, 6, 8, 7])}


def small_floats(d: Draw, batch: tuple[int, ...] = ()) -> tuple[list[Operand], str]:
    """Codes and scales of 128 columns in a mode without biases, the scales near 1."""
    mode = d.of(["mxfp4", "mxfp8", "nvfp4"])
    rows, words = d.number(1, 5), 32 if mode == "mxfp8" else 16
    codes = d.rng.integers(0, 2**32, (*batch, rows, words), np.uint32)
    if mode == "mxfp8":
        codes &= np.uint32(0x3F3F3F3F)  # no NaN and no numbers of hundreds
    low, high = (0x28, 0x48) if mode == "nvfp4" else (120, 132)
    scales = d.rng.integers(low, high, (*batch, rows, 8 if mode == "nvfp4" else 4)).astype(np.uint8)
    return [Operand(codes, "uint32"), Operand(scales, "uint8")], mode


def dequantized(d: Draw) -> Arguments:
    if d.chance(0.4):
        parts, mode = small_floats(d)
        return parts, {"mode": mode}
    bits, group = d.of([2, 4, 8, 3, 6, 5]), d.of([32, 64, 128])
    rows, dtype = d.number(1, 5), [d.dtype(SMALL_FLOATS)]
    codes = d.rng.integers(0, 2**32, (rows, 128 * bits // 32), np.uint32)
    edges = [d.array((rows, 128 // group + d.fault()), dtype, special=False) for _ in range(2)]
    return [Operand(codes, "uint32"), *edges], {"group_size": group, "bits": bits}


def quantized_product(d: Draw) -> Arguments:
    parts, kwargs = dequantized(d)
    dtypes = SMALL_FLOATS if "mode" in kwargs else [parts[1].dtype]
    x = d.array((d.number(1, 4), 128 + d.fault()), dtypes, special=False)
    return [x, *parts], {**kwargs, "transpose": True}


SIDES = [("lhs", 2), ("rhs", 3)]


def several_quantized_products(d: Draw) -> Arguments:
    parts, mode = small_floats(d, (3,))
    x = d.array((2, d.number(1, 3), 128 + d.fault()), SMALL_FLOATS, special=False)
    # MLX reads indices of other widths as if they were 32 bits wide.
    picks = {f"{side}_indices": Operand(d.rng.integers(0, n, 4, np.uint32), "uint32") for side, n in SIDES}
    return [x, *parts], {**picks, "mode": mode}


def masked(d: Draw) -> Arguments:
    m, k, n, block = d.number(1, 70), d.number(1, 70), d.number(1, 70), d.of([32, 64])
    dtype = ["float32"]
    kind = ["bool_"] if d.chance(0.5) else dtype

    def mask(rows: int, columns: int) -> Operand | None:
        blocks = (-(-rows // block) + d.fault(), -(-columns // block))
        return d.array(blocks, kind, special=False) if d.chance(0.6) else None

    factors = [d.array((m, k), dtype, special=False), d.array((k, n), dtype, special=False)]
    masks = {"mask_out": mask(m, n), "mask_lhs": mask(m, k), "mask_rhs": mask(k, n)}
    return [*factors, block], {name: v for name, v in masks.items() if v is not None}


def segmented(d: Draw) -> Arguments:
    m, k, n = (d.number(1, 9) for _ in range(3))
    dtype = [d.of(["float32", "float64"])]
    edges = np.sort(d.rng.integers(0, k, (d.number(1, 4), 2), np.uint32, endpoint=True), -1)
    factors = [d.array((m, k), dtype, special=False), d.array((k, n), dtype, special=False)]
    return [*factors, Operand(edges, "uint32")], {}


def gated(d: Draw) -> Arguments:
    b, t, hk, dk, dv = (d.number(1, 2), d.number(1, 5), d.number(1, 2), 32, d.of([32, 64]))
    hv = hk * d.of([1, 2])
    k = d.rng.standard_normal((b, t, hk, dk))
    unit = Operand(rounded(k / np.linalg.norm(k, axis=-1, keepdims=True), "float32"), "float32")
    rates = [Operand(rounded(d.rng.uniform(0.3, 1, (b, t, hv)), "float32"), "float32") for _ in range(2)]
    floats = ["float32"]
    shapes = ((b, t, hk, dk), (b, t, hv, dv))
    q, v = (d.array(shape, floats, special=False) for shape in shapes)
    return [q, unit, v, *rates], {}


def framed(d: Draw) -> Arguments:
    n = d.of([8, 15, 16])
    x = d.array((*d.of([(), (2,)]), d.number(20, 60)), ["float32", "complex64"], special=False)
    window = d.of([{}, {"window": d.array((n,), ["float32"], special=False)}])
    pads = {"pad_mode": d.of(["reflect", "constant", "edge"])} if d.chance(0.6) else {"center": False}
    return [x, n], {
        "hop_length": d.number(1, n),
        "norm": d.of(["backward", "ortho", "forward"]),
        **window,
        **pads,
    }


def unframed(d: Draw) -> Arguments:
    n = d.of([8, 16])
    spectrum = d.array((n // 2 + 1, d.number(3, 6)), ["complex64"], special=False)
    return [spectrum, n], {"hop_length": n // 4, "norm": d.of(["backward", "ortho", "forward"])}


def several_products(d: Draw) -> Arguments:
    """Matrices of two stacks, chosen by indices."""
    dtype = [d.dtype(SMALL_FLOATS)]
    stacks = [d.array(shape, dtype, special=False) for shape in ((2, 3, 4), (3, 4, 5 + d.fault()))]
    return stacks, {"lhs_indices": indices(d, (4,), 2), "rhs_indices": indices(d, (4,), 3)}


def generally_convolved(d: Draw) -> Arguments:
    args, _ = convolved(d, 2)
    return args, {"padding": d.number(0, 2), "flip": d.chance(0.5)}


def crossed(d: Draw) -> Arguments:
    targets = Operand(d.rng.integers(0, 9, (3,)).astype(np.int32), "int32")
    return [d.array((3, 9), SMALL_FLOATS, special=False), targets], {}


add("dequantize", dequantized, "norm", 4)
add("quantized_matmul", quantized_product, "norm", 16)
add("gather_qmm", several_quantized_products, "norm", 16)
add("block_masked_mm", masked, "norm", 16)
add("segmented_mm", segmented, "norm", 16)
add("fast.gated_delta_update", gated, "norm", 512)
add("fft.stft", framed, "norm", 16)
add("fft.istft", unframed, "norm", 64)
add("gather_mm", several_products, "norm", 8)
add("fast.cross_entropy", crossed, "norm", 16)
add("conv_general", generally_convolved, "norm", 4)
add("conv_transpose3d", lambda d: transposed_convolved(d, 3), "norm", 4)
add(
    "unique", lambda d: ([d.array(special=False, dtypes=["int32", "float32", "bool_"])], {"size": 4}), "exact"
)
add("matrix_norm", lambda d: (general(d), d.of([{}, {"ord": "nuc"}, {"ord": 1}, {"ord": "fro"}])), "norm", 64)
add("fast.rms_norm", lambda d: normalized(d, False), "norm", 16)
add("fast.layer_norm", lambda d: normalized(d, True), "norm", 32)
add("fast.scaled_dot_product_attention", attended, "norm", 32)
add("fast.rope", rotated, "norm", 16)
add("quantize", quantized, "exact")
