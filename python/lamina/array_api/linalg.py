"""The extension of the standard for linear algebra: over stacks of matrices in the last two axes."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, cast

import lamina.core as mx
from lamina.array_api._common import Array, as_array, positive_axis
from lamina.array_api._products import matmul, matrix_transpose, tensordot, vecdot
from lamina.array_api._statistical import sum as sum_of

__all__ = [
    "cholesky",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]


class EighResult(NamedTuple):
    eigenvalues: Array
    eigenvectors: Array


class QRResult(NamedTuple):
    Q: Array
    R: Array


class SlogdetResult(NamedTuple):
    sign: Array
    logabsdet: Array


class SVDResult(NamedTuple):
    U: Array
    S: Array
    Vh: Array


def cholesky(x: Array, /, *, upper: bool = False) -> Array:
    """The triangular root of positive definite matrices.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.cholesky(xp.asarray([[4.0]]))
    array([[2]], dtype=float32)
    """
    return mx.linalg.cholesky(x, upper)


def cross(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """The cross product of vectors of length 3 along an axis; the other axes broadcast.

    Raises
    ------
    ValueError
        An axis has another length.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.cross(xp.asarray([1, 0, 0]), xp.asarray([0, 1, 0]))
    array([0, 0, 1], dtype=int32)
    """
    ndim = max(x1.ndim, x2.ndim)
    at = positive_axis("cross", axis, ndim) - ndim
    if any(-at > x.ndim or x.shape[at] != 3 for x in (x1, x2)):
        raise ValueError(f"cross: wants axes of length 3, got shapes {x1.shape} and {x2.shape} along {axis}")
    return mx.linalg.cross(*mx.broadcast_arrays(x1, x2), axis=at)


def det(x: Array, /) -> Array:
    """The determinants.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.det(xp.asarray([[2.0, 0.0], [0.0, 3.0]]))
    array(6, dtype=float32)
    """
    return mx.linalg.det(x)


def diagonal(x: Array, /, *, offset: int = 0) -> Array:
    """The diagonals, `offset` above the main one.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.diagonal(xp.asarray([[1, 2], [3, 4]]))
    array([1, 4], dtype=int32)
    """
    return mx.diagonal(x, offset, -2, -1)


def eigh(x: Array, /) -> EighResult:
    """Eigenvalues, ascending, and eigenvectors of Hermitian matrices.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.eigh(xp.asarray([[3.0, 0.0], [0.0, 2.0]])).eigenvalues
    array([2, 3], dtype=float32)
    """
    return EighResult(*mx.linalg.eigh(x))


def eigvalsh(x: Array, /) -> Array:
    """Eigenvalues, ascending, of Hermitian matrices.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.eigvalsh(xp.asarray([[3.0, 0.0], [0.0, 2.0]]))
    array([2, 3], dtype=float32)
    """
    return mx.linalg.eigvalsh(x)


def inv(x: Array, /) -> Array:
    """The inverses.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.inv(xp.asarray([[2.0]]))
    array([[0.5]], dtype=float32)
    """
    return mx.linalg.inv(x)


def svdvals(x: Array, /) -> Array:
    """Singular values, descending.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.svdvals(xp.asarray([[0.0, 2.0], [1.0, 0.0]]))
    array([2, 1], dtype=float32)
    """
    return cast(Array, mx.linalg.svd(x, compute_uv=False))


def _adjoint(x: Array) -> Array:
    t = mx.swapaxes(x, -1, -2)
    return mx.conjugate(t) if x.dtype == mx.complex64 else t


def _thin_svd(x: Array) -> tuple[Array, Array, Array]:
    """With as many vectors as values; long sides are shortened by a QR decomposition first."""
    m, n = x.shape[-2:]
    if m == n or x.dtype == mx.complex64:
        k = min(m, n)
        u, s, vh = mx.linalg.svd(x)
        return u[..., :k], s, vh[..., :k, :]
    if m < n:
        u, s, vh = _thin_svd(mx.swapaxes(x, -1, -2))
        return mx.swapaxes(vh, -1, -2), s, mx.swapaxes(u, -1, -2)
    q, r = mx.linalg.qr(x)
    u, s, vh = mx.linalg.svd(r)
    return mx.matmul(q, u), s, vh


def svd(x: Array, /, *, full_matrices: bool = True) -> SVDResult:
    """The singular value decomposition ``U * S @ Vh``.

    Parameters
    ----------
    x : array, shape (..., M, N)
        The matrices.
    full_matrices : bool
        Whether U and Vh are square, or have as many vectors as there are values.

    Returns
    -------
    SVDResult
        U, S (descending) and Vh.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> [part.shape for part in xp.linalg.svd(xp.ones((5, 3)), full_matrices=False)]
    [(5, 3), (3,), (3, 3)]
    """
    return SVDResult(*(mx.linalg.svd(x) if full_matrices else _thin_svd(x)))


def matrix_rank(x: Array, /, *, rtol: float | Array | None = None) -> Array:
    """How many singular values exceed `rtol` times the largest.

    Parameters
    ----------
    x : array, shape (..., M, N)
        The matrices.
    rtol : float or array, optional
        The limit; by default eps times the longer side.

    Returns
    -------
    array
        The ranks, int64.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.matrix_rank(xp.ones((3, 3)))
    array(1, dtype=int64)
    """
    s = svdvals(x)
    limit = max(x.shape[-2:]) * mx.finfo(s.dtype).eps if rtol is None else rtol
    limit = mx.expand_dims(limit, -1) if isinstance(limit, mx.array) else limit
    return mx.sum(s > mx.max(s, -1, keepdims=True) * limit, -1).astype(mx.int64)


def pinv(x: Array, /, *, rtol: float | Array | None = None) -> Array:
    """The pseudo-inverses, singular values up to `rtol` times the largest counting as zero.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.pinv(xp.asarray([[2.0], [0.0]])).tolist()
    [[0.5, 0.0]]
    """
    if rtol is None and x.dtype != mx.complex64:
        return mx.linalg.pinv(x)
    u, s, vh = svd(x, full_matrices=False)
    limit = max(x.shape[-2:]) * mx.finfo(s.dtype).eps if rtol is None else rtol
    limit = mx.expand_dims(limit, -1) if isinstance(limit, mx.array) else limit
    counts = s > mx.max(s, -1, keepdims=True) * limit
    inverse = mx.where(counts, 1 / mx.where(counts, s, mx.ones_like(s)), mx.zeros_like(s))
    return mx.matmul(_adjoint(vh) * inverse[..., None, :], _adjoint(u))


def qr(x: Array, /, *, mode: Literal["reduced", "complete"] = "reduced") -> QRResult:
    """The QR decomposition.

    Parameters
    ----------
    x : array, shape (..., M, N)
        The matrices.
    mode : {"reduced", "complete"}
        Whether Q has min(M, N) columns or M.

    Returns
    -------
    QRResult
        Q with orthonormal columns and the triangular R.

    Raises
    ------
    ValueError
        There is no such mode.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> [part.shape for part in xp.linalg.qr(xp.ones((3, 2)), mode="complete")]
    [(3, 3), (3, 2)]
    """
    if mode not in ("reduced", "complete"):
        raise ValueError(f"qr: mode must be 'reduced' or 'complete', got {mode!r}")
    m, n = x.shape[-2:]
    if mode == "reduced" or m <= n:
        return QRResult(*mx.linalg.qr(x))
    # The columns of the identity behind those of x: their part of Q completes it.
    unit = mx.broadcast_to(mx.eye(m, dtype=x.dtype), (*x.shape[:-2], m, m))
    q, r = mx.linalg.qr(mx.concatenate([x, unit], -1))
    return QRResult(q, r[..., :n])


def slogdet(x: Array, /) -> SlogdetResult:
    """Signs of the determinants, and the logarithms of their magnitudes.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.slogdet(xp.asarray([[-1.0]])).sign
    array(-1, dtype=float32)
    """
    return SlogdetResult(*mx.linalg.slogdet(x))


def solve(x1: Array, x2: Array, /) -> Array:
    """The solutions of ``x1 @ x = x2``; `x2` is a vector where it has one axis, matrices otherwise.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.solve(xp.asarray([[2.0]]), xp.asarray([3.0]))
    array([1.5], dtype=float32)
    """
    return mx.linalg.solve(x1, x2)


def matrix_power(x: Array, n: int, /) -> Array:
    """The `n`-th power of square matrices; of the inverses where `n` is negative.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.matrix_power(xp.asarray([[2, 1], [0, 2]]), 3).tolist()
    [[8, 12], [0, 8]]
    """
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"matrix_power: wants square matrices, got shape {x.shape}")
    if n < 0:
        x, n = mx.linalg.inv(x), -n
    out = None
    while n:
        if n % 2:
            out = x if out is None else mx.matmul(out, x)
        n //= 2
        x = mx.matmul(x, x) if n else x
    return mx.broadcast_to(mx.eye(x.shape[-1], dtype=x.dtype), x.shape) if out is None else out


def outer(x1: Array, x2: Array, /) -> Array:
    """All products of an element of one vector and one of the other.

    Raises
    ------
    ValueError
        An argument has not exactly one axis.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.outer(xp.asarray([1, 2]), xp.asarray([3, 4])).tolist()
    [[3, 4], [6, 8]]
    """
    if x1.ndim != 1 or x2.ndim != 1:
        raise ValueError(f"outer: wants two vectors, got shapes {x1.shape} and {x2.shape}")
    return mx.outer(x1, x2)


def trace(x: Array, /, *, offset: int = 0, dtype: mx.Dtype | None = None) -> Array:
    """Sums of the diagonals, `offset` above the main one.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.trace(xp.asarray([[1, 2], [3, 4]]))
    array(5, dtype=int32)
    """
    return sum_of(diagonal(x, offset=offset), axis=-1, dtype=dtype)


def _power_norm(x: Array, ord: float, axis: int, keepdims: bool) -> Array:
    if ord == math.inf:
        return mx.max(x, axis, keepdims)
    if ord == -math.inf:
        return mx.min(x, axis, keepdims)
    if ord == 0:
        return mx.sum(x != 0, axis, keepdims).astype(x.dtype)
    if ord == 1:
        return mx.sum(x, axis, keepdims)
    if ord == 2:
        return mx.sqrt(mx.sum(x * x, axis, keepdims))
    return mx.power(mx.sum(mx.power(x, ord), axis, keepdims), as_array(1 / ord, x))


def vector_norm(
    x: Array, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, ord: float = 2
) -> Array:
    """The `ord`-norm over axes, taken together as one vector.

    Parameters
    ----------
    x : array
        The vectors.
    axis : int or tuple of int, optional
        The axes; all by default.
    keepdims : bool
        Whether the axes stay, with length 1.
    ord : float
        The power; infinities give the largest and smallest magnitude, 0 the number of non-zeros.

    Returns
    -------
    array
        The norms, real.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.vector_norm(xp.asarray([3.0, 4.0]))
    array(5, dtype=float32)
    """
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    over = [positive_axis("vector_norm", a, x.ndim) for a in axes]
    if len(set(over)) != len(over):
        raise ValueError(f"vector_norm: {axis} names an axis twice")
    rest = [a for a in range(x.ndim) if a not in over]
    size = math.prod(x.shape[a] for a in over)
    line = mx.abs(mx.transpose(x, rest + over)).reshape(*[x.shape[a] for a in rest], size)
    out = _power_norm(line, ord, -1, False)
    return mx.reshape(out, [1 if a in over else n for a, n in enumerate(x.shape)]) if keepdims else out


def matrix_norm(
    x: Array, /, *, keepdims: bool = False, ord: float | Literal["fro", "nuc"] | None = "fro"
) -> Array:
    """The norm of matrices.

    Parameters
    ----------
    x : array, shape (..., M, N)
        The matrices.
    keepdims : bool
        Whether the last two axes stay, with length 1.
    ord : {1, -1, 2, -2, inf, -inf, "fro", "nuc"}
        Largest or smallest column sum, singular value, row sum; root of the sum of squares; sum of singular
        values.

    Returns
    -------
    array
        The norms, real.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.linalg.matrix_norm(xp.asarray([[3.0, 4.0]]), ord=1)
    array(4, dtype=float32)
    """
    if x.ndim < 2:
        raise ValueError(f"matrix_norm: wants at least 2 axes, got shape {x.shape}")
    if ord in ("fro", None):
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    pick = mx.max if ord == "nuc" or (isinstance(ord, int | float) and ord > 0) else mx.min
    if ord in (2, -2, "nuc"):
        s = svdvals(x)
        out = mx.sum(s, -1) if ord == "nuc" else pick(s, -1)
    elif ord in (1, -1):
        out = pick(mx.sum(mx.abs(x), -2), -1)
    elif ord in (math.inf, -math.inf):
        out = pick(mx.sum(mx.abs(x), -1), -1)
    else:
        raise ValueError(f"matrix_norm: ord must be 1, -1, 2, -2, inf, -inf, 'fro' or 'nuc', got {ord!r}")
    return out[..., None, None] if keepdims else out
