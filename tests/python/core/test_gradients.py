"""Derivatives of every op against finite differences in float64, and vjp, jvp and vmap against each other."""

import lamina.core as mx
import numpy as np
import pytest

EPS = np.finfo(np.float64).eps
STEP = EPS ** (1 / 3)  # balances truncation and rounding of a central difference

AROUND_ZERO = ["negative", "square", "sin", "arctan", "arcsinh", "sigmoid"]
SMALL = ["exp", "expm1", "sinh", "cosh", "tanh", "erf"]
POSITIVE = ["rsqrt", "reciprocal", "log", "log2", "log10", "sqrt", "abs"]
UNIT = ["tan", "arcsin", "arccos", "arctanh", "erfinv"]
UNARY = {
    **dict.fromkeys([*AROUND_ZERO, "cos"], (-3, 3)),
    **dict.fromkeys(SMALL, (-2, 2)),
    **dict.fromkeys(POSITIVE, (0.3, 3)),
    **dict.fromkeys(UNIT, (-0.8, 0.8)),
    "log1p": (-0.5, 3),
    "arccosh": (1.3, 3),
}
BINARY = {
    **dict.fromkeys(["add", "subtract", "multiply", "maximum", "minimum", "logaddexp"], (-3, 3)),
    **dict.fromkeys(["divide", "arctan2", "remainder"], (0.4, 3)),
    "power": (0.4, 2),
}


def draw(rng, low, high, *shape):
    return rng.uniform(low, high, shape)


def check(fun, *args, smooth=1.0):
    """The gradient of sum(fun * weights) against central differences; jvp and vjp against each other."""
    rng = np.random.default_rng(1)
    arrays = [mx.array(a, dtype=mx.float64) for a in args]
    outs = fun(*arrays)
    weights = mx.array(rng.standard_normal(outs.shape), dtype=mx.float64)

    def loss(*xs):
        return (fun(*xs) * weights).sum()

    every = tuple(range(len(args)))
    found = mx.grad(loss, argnums=every)(*arrays)
    grads = [np.array(g) for g in (found if isinstance(found, tuple) else (found,))]
    for i, a in enumerate(args):
        a = np.asarray(a, np.float64)
        numeric = np.zeros_like(a)
        for at in np.ndindex(a.shape):
            h = STEP * max(1.0, abs(a[at]))
            sides = []
            for sign in (1, -1):
                moved = a.copy()
                moved[at] += sign * h
                xs = list(arrays)
                xs[i] = mx.array(moved, dtype=mx.float64)
                sides.append(loss(*xs).item())
            numeric[at] = (sides[0] - sides[1]) / (2 * h)
        scale = np.abs(numeric).max() + 1.0
        # Truncation and rounding of a central difference are both about eps^(2/3) of the function's scale.
        assert np.abs(grads[i] - numeric).max() <= smooth * 100 * EPS ** (2 / 3) * scale, (grads[i], numeric)
    tangents = [mx.array(rng.standard_normal(np.shape(a)), dtype=mx.float64) for a in args]
    products = mx.jvp(fun, arrays, tangents)[1][0]
    forward = (products * weights).sum().item()
    backward = sum(float((g * np.array(t)).sum()) for g, t in zip(grads, tangents, strict=True))
    norm = sum(float(np.abs(g * np.array(t)).sum()) for g, t in zip(grads, tangents, strict=True))
    assert abs(forward - backward) <= 1e4 * EPS * (1 + norm)


@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    rng = np.random.default_rng(0)
    check(getattr(mx, name), draw(rng, *UNARY[name], 5))


@pytest.mark.parametrize("name", BINARY)
def test_binary_with_broadcasting(name):
    rng = np.random.default_rng(0)
    check(getattr(mx, name), draw(rng, *BINARY[name], 3, 1), draw(rng, *BINARY[name], 4))


INDEX = mx.array([[0, 2], [1, 1]])
STRUCTURED = {
    "sum": lambda x: x.sum(axis=0),
    "sum all": lambda x: x.sum(),
    "mean": lambda x: x.mean(axis=-1, keepdims=True),
    "prod": lambda x: x.prod(axis=1),
    "max": lambda x: x.max(axis=1),
    "min": lambda x: x.min(axis=0),
    "var": lambda x: x.var(axis=1),
    "softmax": lambda x: mx.softmax(x, axis=-1),
    "logsumexp": lambda x: mx.logsumexp(x, axis=0),
    "transpose": lambda x: x.T * 2,
    "reshape": lambda x: x.reshape(-1) ** 2,
    "broadcast": lambda x: mx.broadcast_to(x[:, :1], (3, 4)) * x,
    "slice": lambda x: x[::-2, 1:3],
    "index": lambda x: x[INDEX, 1],
    "take": lambda x: mx.take(x, INDEX, axis=1),
    "take_along_axis": lambda x: mx.take_along_axis(x, mx.array([[0, 1, 1, 2]]), axis=0),
    "concatenate": lambda x: mx.concatenate([x, x * 2], axis=1),
    "stack": lambda x: mx.stack([x, mx.sin(x)]),
    "where": lambda x: mx.where(x > 1.0, x * x, mx.sin(x)),
    "sort": lambda x: mx.sort(x, axis=1),
    "cumsum": lambda x: mx.cumsum(x, axis=1),
    "cumsum reverse exclusive": lambda x: mx.cumsum(x, axis=0, reverse=True, inclusive=False),
    "cumprod": lambda x: mx.cumprod(x, axis=1),
    "cummax": lambda x: mx.cummax(x, axis=1),
    "logcumsumexp": lambda x: mx.logcumsumexp(x, axis=1),
    "matmul": lambda x: x @ x.T,
    "vector": lambda x: x @ x[0],
    "tril": lambda x: mx.tril(x),
    "at add": lambda x: x.at[mx.array([0, 0, 2])].add(mx.sin(x)),
    "assignment": lambda x: _assigned(x),
    "pad": lambda x: mx.pad(x, 1) ** 2,
    "checkpoint": lambda x: mx.checkpoint(lambda y: mx.sin(y) * y)(x),
    "compile": lambda x: mx.compile(lambda y: mx.sin(y) * y)(x),
}


def _assigned(x):
    y = x * 2
    y[1, ::2] = mx.exp(x[0, ::2])
    return y


@pytest.mark.parametrize("name", STRUCTURED)
def test_structured(name):
    check(STRUCTURED[name], np.random.default_rng(2).uniform(0.3, 2, (3, 4)))


def test_products_with_zeros():
    x = np.array([[2.0, 0.0, 3.0, 4.0], [0.0, 5.0, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
    check(lambda a: a.prod(axis=1), x)
    check(lambda a: mx.cumprod(a, axis=1), x)
    check(lambda a: mx.cumprod(a, axis=1, reverse=True, inclusive=False), x)


def test_matrices():
    rng = np.random.default_rng(3)
    check(lambda a, b: a @ b, rng.standard_normal((2, 3, 4)), rng.standard_normal((4, 2)))
    check(lambda c, a, b: mx.addmm(c, a, b, 0.5, 2.0), rng.standard_normal(2), rng.standard_normal((3, 4)),
          rng.standard_normal((4, 2)))  # fmt: skip


@pytest.mark.parametrize("name", ["exp", "tanh", "sin", "log", "sigmoid"])
def test_second_derivatives(name):
    f = getattr(mx, name)
    first = mx.grad(lambda x: f(x).sum())
    check(lambda x: first(x), np.random.default_rng(4).uniform(0.5, 2, 4), smooth=4)


def test_vmap_of_grad_equals_a_loop():
    rng = np.random.default_rng(5)
    x = mx.array(rng.standard_normal((5, 3)), dtype=mx.float64)
    f = mx.grad(lambda v: (mx.softmax(v, axis=-1) * mx.sin(v)).sum())
    together = np.array(mx.vmap(f)(x))
    one_by_one = np.stack([np.array(f(row)) for row in x])
    assert np.abs(together - one_by_one).max() <= 16 * EPS


def test_attention_gradients_match_the_plain_form():
    rng = np.random.default_rng(6)
    q, k, v = (mx.array(rng.standard_normal((2, h, 5, 8)).astype(np.float32)) for h in (4, 2, 2))
    weights = mx.array(rng.standard_normal((2, 4, 5, 8)).astype(np.float32))

    def fast(q, k, v):
        return (mx.fast.scaled_dot_product_attention(q, k, v, scale=0.3, mask="causal") * weights).sum()

    def plain(q, k, v):
        k, v = (mx.repeat(a, 2, axis=1) for a in (k, v))
        scores = (q @ mx.swapaxes(k, -1, -2)) * 0.3
        scores = mx.where(mx.tril(mx.ones((5, 5))) > 0, scores, -mx.inf)
        return ((mx.softmax(scores, axis=-1) @ v) * weights).sum()

    for ours, theirs in zip(
        mx.grad(fast, (0, 1, 2))(q, k, v), mx.grad(plain, (0, 1, 2))(q, k, v), strict=True
    ):
        a, b = np.array(ours), np.array(theirs)
        assert np.abs(a - b).max() <= 64 * np.finfo(np.float32).eps * np.abs(b).max()


def test_quantized_matmul_gradients():
    rng = np.random.default_rng(7)
    w, s, b = mx.quantize(mx.array(rng.standard_normal((6, 64)).astype(np.float32)), group_size=32, bits=4)
    x = mx.array(rng.standard_normal((3, 64)).astype(np.float32))
    weights = mx.array(rng.standard_normal((3, 6)).astype(np.float32))

    def quantized(x, s, b):
        return (mx.quantized_matmul(x, w, s, b, group_size=32, bits=4) * weights).sum()

    def dense(x, s, b):
        return ((x @ mx.dequantize(w, s, b, group_size=32, bits=4).T) * weights).sum()

    for ours, theirs in zip(
        mx.grad(quantized, (0, 1, 2))(x, s, b), mx.grad(dense, (0, 1, 2))(x, s, b), strict=True
    ):
        a, e = np.array(ours), np.array(theirs)
        assert np.abs(a - e).max() <= 64 * np.finfo(np.float32).eps * (1 + np.abs(e).max())


def test_custom_function():
    @mx.custom_function
    def f(x):
        return mx.sin(x)

    @f.vjp
    def f_vjp(primals, cotangents, outputs):
        return cotangents * 7

    assert mx.grad(lambda x: f(x).sum())(mx.array([0.0, 1.0])).tolist() == [7.0, 7.0]


def test_errors():
    with pytest.raises(ValueError, match=r"first output must be a 0-d array, got \(2,\)"):
        mx.grad(lambda x: x)(mx.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="floating arrays, got dtype int32"):
        mx.grad(lambda x: x.sum())(mx.array([1, 2]))
    with pytest.raises(ValueError, match="output 0 has shape"):
        mx.vjp(mx.sin, [mx.array([1.0, 2.0])], [mx.array(1.0)])
    with pytest.raises(ValueError, match="length"):
        mx.vmap(lambda x, y: x + y)(mx.ones(3), mx.ones(4))


def test_an_exception_of_the_function_passes_through():
    class MineError(Exception):
        pass

    def f(x):
        raise MineError("here")

    for transform in (mx.grad, mx.value_and_grad, mx.vmap, mx.compile, mx.checkpoint):
        with pytest.raises(MineError, match="here"):
            transform(f)(mx.array([1.0]))
    assert mx.grad(lambda x: x.sum())(mx.array([1.0])).item() == 1.0


def test_custom_function_takes_its_function_by_name():
    assert mx.custom_function(f=mx.square)(mx.array(3.0)).item() == 9


def test_ties_of_many_16_bit_updates_share_the_gradient():
    n = 3000
    index, updates = mx.zeros((n,), mx.int32), mx.zeros((n,), mx.bfloat16)
    g = mx.grad(lambda u: mx.zeros((1,), mx.bfloat16).at[index].maximum(u).astype(mx.float32).sum())(updates)
    total = float(np.asarray(g.astype(mx.float32), np.float64).sum())
    # One share goes to the element itself; each is rounded to bfloat16.
    assert abs(total - n / (n + 1)) <= 2.0**-7
