"""Bad input to every row of the op tables: a typed error that names the op, what was wanted and what came.

Which dtypes the elementwise rows and reductions refuse is in their own files, beside those that they take.
"""

from __future__ import annotations

from typing import Any

import lamina.core as mx
import pytest
from core.table_rows import BINARY, LINALG, REDUCE, STRUCTURED, UNARY, Row, by_name


def is_alive() -> None:
    """After an error the library goes on."""
    assert (mx.ones(2) + 1).tolist() == [2, 2]


@pytest.mark.parametrize(**by_name(UNARY))
def test_unary(row: Row) -> None:
    f = getattr(mx, row.name)
    with pytest.raises(TypeError, match=rf"{row.name}\(\): argument 'a' wants .*array.*, got str"):
        f("x")
    with pytest.raises(TypeError, match=rf"{row.name}\(\) misses argument 'a'"):
        f()
    with pytest.raises(TypeError, match=rf"{row.name}\(\) takes|{row.name}\(\) .*at most .* got 4"):
        f(*[mx.ones(2)] * 4)
    with pytest.raises(TypeError, match=rf"{row.name}\(\) .*no argument 'out'"):
        f(mx.ones(2), out=1)
    is_alive()


@pytest.mark.parametrize(**by_name(BINARY))
def test_binary(row: Row) -> None:
    f, dtype = getattr(mx, row.name), mx.float32 if "float32" in row.dtypes else mx.int32
    with pytest.raises(ValueError, match=rf"\[{row.name}\] shapes \(2, 3\) and \(4,\) do not broadcast"):
        f(mx.zeros((2, 3), dtype), mx.zeros(4, dtype))
    with pytest.raises(ValueError, match=rf"\[{row.name}\] shapes \(0,\) and \(2,\) do not broadcast"):
        f(mx.zeros(0, dtype), mx.zeros(2, dtype))
    with pytest.raises(TypeError, match=rf"{row.name}\(\): argument 'b' wants scalar \| array, got str"):
        f(mx.zeros(2, dtype), "x")
    with pytest.raises(TypeError, match=rf"{row.name}\(\): argument 'a' wants scalar \| array, got None"):
        f(None, mx.zeros(2, dtype))
    with pytest.raises(TypeError, match=rf"{row.name}\(\) misses argument 'b'"):
        f(mx.zeros(2, dtype))
    is_alive()


@pytest.mark.parametrize(**by_name(REDUCE))
def test_reductions(row: Row) -> None:
    f = getattr(mx, row.name)
    with pytest.raises(TypeError, match=rf"{row.name}\(\): argument 'a' wants array, got list"):
        f([1, 2])
    with pytest.raises(TypeError, match=rf"{row.name}\(\): argument 'keepdims' wants bool, got str"):
        f(mx.ones(2), keepdims="x")
    with pytest.raises(
        ValueError, match=rf"\[{row.name}\] axis -3 is out of bounds for an array with 2 axes"
    ):
        f(mx.ones((2, 3)), axis=(0, -3))
    is_alive()


X, AT, HALF = mx.zeros((2, 3)), mx.array([0, 1]), mx.array([0.5])
Q = mx.zeros((1, 2, 3, 4))
W, S, B = mx.quantize(mx.ones((2, 64)), 64, 4)
ROWS = mx.ones((2, 3, 64))
WHOLE = Q.astype(mx.int32)


def rope(x: mx.array, dims: int = 2, base: float | None = 1.0, offset: Any = 0) -> mx.array:
    return mx.fast.rope(x, dims, traditional=True, base=base, scale=1.0, offset=offset)


def attend(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=1.0, **options)


ROW = Q[0, :, :1].swapaxes(0, 1)
POOL, ONE, TABLE = mx.zeros((4, 2, 3, 4)), mx.array([1]), mx.array([[0, 3]])
CODES, SCALES = mx.fast.quantize_kv(POOL)


def paged(
    q: mx.array = ROW,
    k: mx.array = POOL,
    v: mx.array = POOL,
    tables: mx.array = TABLE,
    ends: mx.array = ONE,
    lengths: mx.array = ONE,
    **options: Any,
) -> mx.array:
    out = mx.fast.paged_attention(q, k, v, tables, ends, lengths, scale=1.0, **options)
    mx.eval(out)
    return out


def write(rows: mx.array, slots: mx.array, pool: mx.array = POOL) -> None:
    mx.eval(mx.fast.cache_write(pool, rows, slots))


def assign(value: Any) -> None:
    x = mx.zeros((2, 3))
    x[0:1] = value


HALVES = "float32, float16 or bfloat16"
SDPA = r"\[scaled_dot_product_attention\]"
# By row: a call, the type of its error, and its text.
ERRORS: dict[str, list[tuple[Any, type[Exception], str]]] = {
    "Data": [
        (lambda: mx.array("x"), TypeError, "argument 'val' wants a number, nested lists, .*, got str"),
        (lambda: mx.array([[1], [1, 2]]), ValueError, "one length: level 1 has 1 and 2"),
    ],
    "Scalar": [
        (lambda: mx.full((2, -1), 1), ValueError, r"\[full\] lengths .* negative, got shape \(2, -1\)"),
        (lambda: mx.full(2, "x"), TypeError, r"argument 'vals' wants scalar \| array, got str"),
        (lambda: mx.zeros(2, mx.int8) + 300, ValueError, "300 is out of range for int8"),
    ],
    "Identity": [(lambda: mx.vjp(mx.sin, [X], [AT]), ValueError, r"shape \(2, 3\), its cotangent \(2,\)")],
    "CustomOutput": [(lambda: mx.custom_function(3), TypeError, "'fun' wants a callable, got int")],
    "StopGradient": [(lambda: mx.stop_gradient("x"), TypeError, "argument 'a' wants .*, got str")],
    "Call": [
        (lambda: mx.compile(mx.sin, shapeless=True, whole=True), ValueError, "shapeless or whole, not both"),
        (lambda: mx.compile(lambda a: a @ a, whole=True)(X), ValueError, r"\[matmul\] .*\(2, 3\)"),
    ],
    "Depends": [(lambda: mx.depends("x", X), TypeError, "got str")],
    "Broadcast": [
        (lambda: mx.broadcast_to(X, (2, 4)), ValueError, r"\(2, 3\) does not broadcast to \(2, 4\)"),
        (lambda: mx.broadcast_to(X, (3,)), ValueError, r"\(2, 3\) does not broadcast to \(3,\)"),
    ],
    "Transpose": [
        (lambda: mx.transpose(X, (0,)), ValueError, r"\[transpose\] wants each of 2 axes once, got \(0,\)"),
        (lambda: mx.swapaxes(X, 0, 2), ValueError, r"\[swapaxes\] axis 2 is out of bounds .* 2 axes"),
        (lambda: mx.moveaxis(X, 0, 5), ValueError, r"\[moveaxis\] axis 5 is out of bounds .* 2 axes"),
    ],
    "ExpandDims": [
        (lambda: mx.expand_dims(X, 4), ValueError, r"\[expand_dims\] axis 4 is out of bounds .* 3 axes"),
        (lambda: mx.expand_dims(X, (0, 0)), ValueError, r"axes \(0, 0\) name an axis twice"),
    ],
    "Squeeze": [(lambda: mx.squeeze(X, 0), ValueError, r"axis 0 of shape \(2, 3\) has not length 1")],
    "Reshape": [
        (lambda: mx.reshape(X, (4,)), ValueError, r"6 elements of shape \(2, 3\) into \(4,\)"),
        (lambda: mx.reshape(X, (-1, -1)), ValueError, r"at most one length may be -1.* got \(-1, -1\)"),
        (lambda: mx.reshape(X, (-1, 4)), ValueError, r"6 elements of shape \(2, 3\) into \(-1, 4\)"),
    ],
    "Slice": [
        (lambda: X[0, 0, 0], IndexError, "the array has 2 axes, 3 are indexed"),
        (lambda: X[5], IndexError, "index 5 is out of bounds for axis 0 of length 2"),
        (lambda: X["a"], IndexError, r"wanted integers, slices, .* arrays, got str"),
        (lambda: X[::0], ValueError, "slice step cannot be zero"),
        (lambda: mx.slice(X, AT, (0,), (1,)), ValueError, r"each of 1 axes, got int32 of shape \(2,\)"),
    ],
    "AsStrided": [
        (lambda: mx.as_strided(X, (7,), (1,)), ValueError, r"shape \(7,\) .* leaves an array of 6 elements"),
        (lambda: mx.as_strided(X, (2,), (1, 1)), ValueError, r"as many strides .*, got \(1, 1\) and \(2,\)"),
        (lambda: mx.as_strided(X, (2,), (-1,)), ValueError, r"strides \(-1,\) .* leaves an array of 6"),
    ],
    "ViewAs": [
        (lambda: mx.view(X, mx.float64), ValueError, "3 float32 elements does not divide into float64"),
        (lambda: mx.view(mx.array(1.0), mx.int8), ValueError, "0-d float32 array .* int8"),
        (lambda: mx.view(X, "int8"), TypeError, r"view\(\): argument 'dtype' wants Dtype, got str"),
    ],
    "Cast": [(lambda: X.astype(int), TypeError, r"astype\(\): argument 'dtype' wants Dtype, got type")],
    "Contiguous": [(lambda: mx.contiguous([1]), TypeError, "argument 'a' wants array, got list")],
    "Arange": [
        (lambda: mx.arange(0, 1, 0), ValueError, "step must not be 0"),
        (lambda: mx.arange(0.0, float("inf")), ValueError, "wants finite start and stop .*, got 0, inf, 1"),
        (lambda: mx.arange("x"), TypeError, r"argument 'start' wants None \| int \| float, got str"),
    ],
    "Concatenate": [
        (lambda: mx.concatenate([X, Q]), ValueError, r"\(2, 3\) and \(1, 2, 3, 4\) differ outside axis 0"),
        (lambda: mx.concatenate([X, X], 2), ValueError, r"\[concatenate\] axis 2 is out of bounds"),
        (lambda: mx.concatenate([]), ValueError, "at least one array, got none"),
        (lambda: mx.concatenate([X, "x"]), TypeError, "got str"),
    ],
    "SliceUpdate": [
        (lambda: assign(mx.zeros((2, 2))), ValueError, r"\(2, 2\) does not broadcast to .* \(1, 3\)"),
        (lambda: mx.slice_update(X, mx.zeros((3, 3)), AT, (0, 1)), ValueError, "3 does not fit axis 0 .* 2"),
        (lambda: mx.slice_update(X, X, HALF, (0,)), ValueError, r"integer start .* float32 of shape \(1,\)"),
    ],
    "Gather": [
        (lambda: X[HALF], IndexError, "must be integers or booleans, got float32"),
        (lambda: mx.eval(X[mx.array([2])]), IndexError, "index 2 is out of bounds for axis 0 of length 2"),
        (lambda: mx.take(X, HALF), ValueError, r"\[take\] indices must be integers, got float32"),
        (lambda: mx.eval(mx.take(X, AT - 4, axis=1)), IndexError, "index -4 is out of bounds for axis 1"),
        (lambda: X[AT, mx.array([0, 1, 2])], IndexError, r"shapes \(2,\), \(3,\) do not broadcast"),
    ],
    "GatherAxis": [
        (lambda: mx.take_along_axis(X, AT, 0), ValueError, r"as many axes, got shapes \(2, 3\) and \(2,\)"),
        (lambda: mx.take_along_axis(X, X, 0), ValueError, "indices must be integers, got float32"),
        (lambda: mx.eval(mx.take_along_axis(X, AT[None, :1] + 2, 0)), IndexError, "index 2 .* axis 0 .* 2"),
    ],
    "Scatter": [
        (lambda: X.at[AT].add(mx.zeros((3, 3))), ValueError, r"\(3, 3\) does not broadcast to .* \(2, 3\)"),
        (lambda: X.at[HALF].add(1), IndexError, "must be integers or booleans, got float32"),
        (lambda: mx.eval(X.at[AT + 1].add(1)), IndexError, r"\[scatter\] index 2 is out of bounds"),
        (lambda: X.at[0].add("x"), TypeError, "value must be a number, an array or .*, got str"),
    ],
    "ScatterAxis": [
        (lambda: mx.put_along_axis(X, AT, X, 0), ValueError, r"as many axes, got shapes \(2, 3\) and \(2,\)"),
        (lambda: mx.put_along_axis(X, X, X, 0), ValueError, "indices must be integers, got float32"),
        (lambda: mx.eval(mx.put_along_axis(X, AT[None, :1] + 5, HALF, 0)), IndexError, "index 5 .* length 2"),
    ],
    "Matmul": [
        (lambda: X @ X, ValueError, r"\[matmul\] inner dimensions differ: \(2, 3\) and \(2, 3\)"),
        (lambda: mx.matmul(X, mx.array(1.0)), ValueError, r"at least 1 axis .* \(2, 3\) and \(\)"),
        (lambda: mx.zeros((2, 1, 3)) @ mx.zeros((3, 3, 1)), ValueError,
         r"\[matmul\] batches of \(2, 1, 3\) and \(3, 3, 1\) do not broadcast"),
        (lambda: mx.addmm(mx.zeros(5), X, X.T), ValueError, r"\[addmm\] c of shape \(5,\) does not"),
    ],
    "SegmentedMatmul": [
        (lambda: mx.segmented_mm(X[None], X, AT), ValueError, r"two matrices, got shapes \(1, 2, 3\) and"),
        (lambda: mx.segmented_mm(X, X, AT), ValueError, r"inner dimensions differ: \(2, 3\) and \(2, 3\)"),
        (lambda: mx.segmented_mm(X, X.T, HALF), ValueError, "segments must be integers, got float32"),
        (lambda: mx.segmented_mm(X, X.T, AT[:1]), ValueError, r"must have shape \(..., 2\), got \(1,\)"),
        (lambda: mx.segmented_mm(AT[None], AT[:, None], AT), ValueError, "inexact .*, got int32 and int32"),
        (lambda: mx.eval(mx.segmented_mm(X, X.T, AT + 3)), IndexError, "index 4 is out of bounds"),
        (lambda: mx.eval(mx.segmented_mm(X, X.T, AT - 1)), IndexError, "index -1 is out of bounds"),
    ],
    "GatherMatmul": [
        (lambda: mx.gather_mm(X, X[None], rhs_indices=AT), ValueError, "inner dimensions differ"),
        (lambda: mx.gather_mm(X, X.T[None], rhs_indices=HALF), ValueError, "rhs_indices must be integers"),
        (lambda: mx.gather_mm(mx.zeros((3, 2, 3)), X.T[None], rhs_indices=mx.array([0, 0])), ValueError,
         r"\[gather_mm\] shapes \(3,\) and \(2,\) do not broadcast"),
        (lambda: mx.eval(mx.gather_mm(X, X.T[None], rhs_indices=AT + 9)), IndexError,
         r"\[gather_mm\] index \d+ is out of bounds for axis 0 of length 1"),
    ],
    "Convolution": [
        (lambda: mx.conv1d(X, X), ValueError, r"\[conv1d\] wants an input of 3 axes .*, got shape \(2, 3\)"),
        (lambda: mx.conv1d(X[None], mx.zeros((1, 1, 2))), ValueError, "wants 3 input channels in the weight"),
        (lambda: mx.conv1d(X[None], mx.zeros((1, 3, 3))), ValueError,
         r"\[conv1d\] wants an input no shorter than the kernel: .* is 2 long with its padding"),
    ],
    "ArgReduce": [
        (lambda: mx.argmax(X, 2), ValueError, r"\[argmax\] axis 2 is out of bounds"),
        (lambda: mx.argmin(mx.zeros((2, 0)), 1), ValueError, r"\[argmin\] axis 1 of shape \(2, 0\) is empty"),
        (lambda: mx.argmax(X, (0, 1)), TypeError, r"argument 'axis' wants None \| int, got tuple"),
    ],
    "Sort": [(lambda: mx.sort(X, 2), ValueError, r"\[sort\] axis 2 is out of bounds .* 2 axes")],
    "ArgSort": [
        (lambda: mx.argsort(X, -3), ValueError, r"\[argsort\] axis -3 is out of bounds .* 2 axes"),
        (lambda: mx.argpartition(X, 9), ValueError, "kth 9 is out of bounds for an axis of length 3"),
    ],
    "Scan": [
        (lambda name=name: getattr(mx, name)(X, 2), ValueError, rf"\[{name}\] axis 2 is out of bounds")
        for name in ("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")
    ],
    "RandomBits": [
        (lambda: mx.random.split(AT), ValueError, r"a key must be uint32 of shape \(2,\), got int32"),
        (lambda: mx.random.uniform(key=X), ValueError, r"uint32 of shape \(2,\), got float32 .* \(2, 3\)"),
        (lambda: mx.random.split(mx.random.key(0), -1), ValueError, "num must not be negative, got -1"),
        (lambda: mx.random.uniform(shape=(-1,)), ValueError, r"not be negative, got shape \(-1,\)"),
    ],
    "AffineQuantize": [
        (lambda: mx.quantize(mx.ones((2, 64)), 64, 7), ValueError, "64 with 7 bits .* bits 2 to 6"),
        (lambda: mx.quantize(mx.ones((2, 65))), ValueError, r"\(2, 65\) is not a multiple of group_size 64"),
        (lambda: mx.quantize(mx.ones(64)), ValueError, r"at least 2 axes, got shape \(64,\)"),
        (lambda: mx.quantize(mx.ones((2, 64), mx.int32)), ValueError, f"wants {HALVES}, got int32"),
        (lambda: mx.quantize(mx.ones((2, 64), mx.float64)), ValueError, f"wants {HALVES}, got float64"),
    ],
    "AffineDequantize": [
        (lambda: mx.dequantize(W.astype(mx.int32), S, B), ValueError, "w must be uint32 words, got int32"),
        (lambda: mx.dequantize(W, S.astype(mx.float16), B), ValueError, f"{HALVES}, got float16 and float32"),
        (lambda: mx.dequantize(W, S, B[:1]), ValueError, r"biases of \(2, 1\), got \(2, 1\) and \(1, 1\)"),
    ],
    "QuantizedMatmul": [
        (lambda: mx.quantized_matmul(X, W, S, B), ValueError, r"dimensions differ: x \(2, 3\) .* 2 by 64"),
        (lambda: mx.quantized_matmul(AT, W, S, B), ValueError, f"x must be {HALVES}, got int32"),
        (lambda: mx.quantized_matmul(mx.array(1.0), W, S, B), ValueError, r"at least 1 axis, got shape \(\)"),
    ],
    "GatherQuantizedMatmul": [
        (lambda: mx.gather_qmm(X, W[None], S[None], B[None], rhs_indices=AT), ValueError,
         r"dimensions differ: x \(2, 3\) .* 2 by 64"),
        (lambda: mx.gather_qmm(ROWS, W[None], S[None], B[None], rhs_indices=HALF), ValueError,
         "rhs_indices must be integers, got float32"),
        (lambda: mx.gather_qmm(ROWS, W[None], S[None], B[None], rhs_indices=AT, activations="int4"),
         ValueError, "activations must be 'float' or 'int8', got 'int4'"),
        (lambda: mx.eval(mx.gather_qmm(ROWS, W[None], S[None], B[None], rhs_indices=AT + 9)), IndexError,
         r"\[gather_qmm\] index \d+ is out of bounds for axis 0 of length 1"),
    ],
    "Rope": [
        (lambda: rope(X), ValueError, r"at least 3 axes .* got shape \(2, 3\)"),
        (lambda: rope(Q, dims=3), ValueError, "even, positive and at most the last axis 4, got 3"),
        (lambda: rope(WHOLE), ValueError, "wants a floating dtype, got int32"),
        (lambda: rope(Q, base=None), ValueError, "wants base or freqs, neither came"),
        (lambda: rope(Q, offset=AT), ValueError, r"one for each of 1 batches, got int32 of shape \(2,\)"),
    ],
    "Attention": [
        (lambda: attend(Q, Q, Q[:, :, :1]), ValueError, SDPA + r" .* values \(1, 2, 1, 4\) do not fit"),
        (lambda: attend(X, X, X), ValueError, SDPA + r" wants 4 axes .*, got \(2, 3\), "),
        (lambda: attend(WHOLE, WHOLE, WHOLE), ValueError, f"{SDPA} wants a floating dtype, got int32"),
        (lambda: attend(Q, Q, Q, mask=mx.zeros((7, 7))), ValueError,
         SDPA + r" a mask of \(7, 7\) does not broadcast to the scores' \(1, 2, 3, 3\)"),
        (lambda: attend(Q, Q, Q, mask=WHOLE), ValueError, SDPA + " mask must be bool or .*, got int32"),
        (lambda: attend(Q, Q, Q, sinks=HALF), ValueError, SDPA + r" sinks .* \(2,\), got \(1,\)"),
    ],
    "PagedAttention": [
        (lambda: paged(X), ValueError, r"queries must be .* \(T, H, D\), got float32 of shape \(2, 3\)"),
        (lambda: paged(WHOLE[0]), ValueError, "queries must be float32, .* got int32"),
        (lambda: paged(k=X), ValueError, r"key_pool must have 4 axes .*, got shape \(2, 3\)"),
        (lambda: paged(v=POOL.astype(mx.int32)), ValueError, "value_pool must be float32, .*, got int32"),
        (lambda: paged(k=CODES), ValueError, "key_pool of int8 wants scales, got None"),
        (lambda: paged(key_scales=SCALES), ValueError, "key_pool of float32 takes no scales, got an array"),
        (lambda: paged(k=CODES, key_scales=SCALES[:1]), ValueError,
         r"\(4, 2, 3, 4\) wants float16 scales of shape \(4, 2, 3, 1\), got float16 of shape \(1, 2, 3, 1\)"),
        (lambda: paged(v=POOL[1:]), ValueError, r"value_pool \(3, 2, 3, 4\) do not fit"),
        (lambda: paged(k=POOL[..., 1:]), ValueError, r"key_pool \(4, 2, 3, 3\) .* do not fit"),
        (lambda: paged(tables=ONE), ValueError, r"tables must be int32 of shape \(B, N\), .* \(1,\)"),
        (lambda: paged(ends=AT), ValueError, r"query_ends must be int32 of shape \(1,\), got .* \(2,\)"),
        (lambda: paged(lengths=HALF), ValueError, r"lengths must be int32 of shape \(1,\), got float32"),
        (lambda: paged(window=0), ValueError, "window must be at least 1, got 0"),
        (lambda: paged(softcap=0.0), ValueError, "softcap must be positive, got 0"),
        (lambda: paged(sinks=ONE), ValueError, r"sinks must have shape \(2,\), got \(1,\)"),
        (lambda: paged(sinks=AT), ValueError, "sinks must be floating, got int32"),
        (lambda: paged(ends=ONE + 1), ValueError, r"query_ends\[0\] is 2, wanted a number from 0 to 1"),
        (lambda: paged(lengths=ONE - 1), ValueError, r"lengths\[0\] is 0, wanted from 1 new .* to the 6"),
        (lambda: paged(lengths=ONE + 6), ValueError, r"lengths\[0\] is 7, wanted from 1 new .* to the 6"),
        (lambda: paged(tables=TABLE + 4), IndexError, r"tables\[0, 0\] is 4, the pool has 4 blocks"),
        (lambda: paged(tables=-TABLE, lengths=ONE + 3), IndexError, r"tables\[0, 1\] is -3, the pool"),
    ],
    "CacheWrite": [
        (lambda: write(X, ONE, X), ValueError, r"pool must have 4 axes .*, got shape \(2, 3\)"),
        (lambda: write(X, ONE), ValueError, r"rows must have shape \(T, 2, 4\) .*, got \(2, 3\)"),
        (lambda: write(ROW.astype(mx.int32), ONE), ValueError, "rows of int32 .* pool of float32"),
        (lambda: write(ROW, AT), ValueError, r"slots must be int32 of shape \(1,\)"),
        (lambda: write(ROW, ONE + 11), IndexError, r"slots\[0\] is 12, .* 12 slots"),
        (lambda: write(ROW, ONE - 3), IndexError, r"slots\[0\] is -2, .* 12 slots"),
    ],
    "QuantizeKv": [
        (lambda: mx.fast.quantize_kv(WHOLE), ValueError, "rows must be float32, .*, got int32"),
        (lambda: mx.fast.quantize_kv(X, bits=3), ValueError, "bits must be 8 or 4, got 3"),
        (lambda: mx.fast.quantize_kv(X, bits=4), ValueError, "rows of 4 bits have an even length, got 3"),
    ],
}  # fmt: skip
# Rows that no call of the user's reaches with arguments of its own.
INTERNAL = {"Placeholder", "Output", "AttentionBackward"}


def test_every_structured_row_has_a_case() -> None:
    assert sorted(r.op for r in STRUCTURED) == sorted([*ERRORS, *INTERNAL, *LINALG])


CASES = [(op, *case) for op, cases in ERRORS.items() for case in cases]


@pytest.mark.parametrize(("op", "call", "kind", "text"), CASES, ids=[f"{c[0]}-{c[3]}" for c in CASES])
def test_structured(op: str, call: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        call()
    is_alive()
