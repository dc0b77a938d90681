"""Write promotion.json, printing.json and random.json: what MLX gives for our own cases.

Run with an interpreter that has the ``mlx`` wheel: ``python tests/golden/make_core.py``. The files are
part of the repository, so that the tests need no ``mlx``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx

FOLDER = Path(__file__).parent

DTYPES = [
    "bool_",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "bfloat16",
    "complex64",
]
BINARY = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "floor_divide",
    "remainder",
    "power",
    "maximum",
    "minimum",
    "logaddexp",
    "arctan2",
    "equal",
    "less",
    "logical_and",
    "bitwise_and",
    "left_shift",
]
UNARY = [
    "negative",
    "abs",
    "sign",
    "square",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "exp",
    "log",
    "sin",
    "tanh",
    "erf",
    "sigmoid",
    "floor",
    "ceil",
    "round",
    "logical_not",
    "bitwise_invert",
    "isnan",
    "real",
    "imag",
    "conjugate",
]
REDUCTIONS = [
    "sum",
    "prod",
    "max",
    "min",
    "all",
    "any",
    "mean",
    "var",
    "logsumexp",
    "argmax",
    "cumsum",
    "cumprod",
    "cummax",
    "sort",
    "argsort",
    "softmax",
    "median",
]
SCALARS = {"bool": True, "int": 2, "float": 1.5, "complex": 1j}

PRINTED = """
mx.array(3)
mx.array(-0.0)
mx.array(True)
mx.array(1.5, mx.float16)
mx.array([], mx.float32)
mx.array([1, 2, 3])
mx.array([True, False])
mx.array([0.1, 1 / 3, 1e-5])
mx.array([1e6, 1e5, 999999.5])
mx.array([1e10, 123456.789])
mx.array([float("nan"), float("inf"), -float("inf")])
mx.array([1e-40, 1e-45])
mx.array([3.4028234663852886e38, -1e38])
mx.array([0.1, 1 / 3], mx.float16)
mx.array([0.1, 1 / 3], mx.bfloat16)
mx.array([0.1, 1 / 3], mx.float64)
mx.array([1 + 2j, -1 - 0.5j, 1j])
mx.array([complex("nan"), complex("inf"), complex("1-infj")])
mx.array([-128, 127], mx.int8)
mx.array([255, 65], mx.uint8)
mx.array([2**63 - 1, -(2**63)], mx.int64)
mx.array([[1, 2], [3, 4]])
mx.array([[1.5], [2.25]])
mx.arange(6)
mx.arange(7)
mx.arange(1000)
mx.arange(1001)
mx.arange(12).reshape(3, 4)
mx.arange(2002).reshape(2, 1001)
mx.arange(24).reshape(2, 3, 4)
mx.arange(3000).reshape(3, 10, 100)
mx.zeros((7, 7, 30))
mx.zeros((6, 200))
mx.zeros((1, 1, 1))
mx.zeros((1, 3, 4))
mx.zeros((2, 0))
mx.zeros((0, 2))
mx.zeros((2, 3, 0))
mx.arange(12).reshape(3, 4).T
mx.arange(10)[::-2]
mx.finfo(mx.float16)
mx.finfo(mx.bfloat16)
mx.finfo(mx.float32)
mx.finfo(mx.float64)
mx.iinfo(mx.int8)
mx.iinfo(mx.uint64)
mx.default_device()
mx.cpu
mx.floating
""".strip().split("\n")
PRECISIONS = (0, 1, 3, 10)
PRINTED_WITH_PRECISION = (
    "mx.array([0.1, 1 / 3, 12.5, 1e5, 0.05])",
    "mx.array(2.0)",
    "mx.array([1 + 2j, 1 / 3 - 0.5j])",
    "mx.array([1 / 3], mx.float16)",
    "mx.array([1, 2])",
)


KEYED = (
    "mx.random.split(mx.random.key(0), 3)",
    "mx.random.split(mx.random.key(2**40 + 7))",
    "mx.random.uniform(shape=(7,), key=mx.random.key(0))",
    "mx.random.uniform(-2, 5, (2, 3), key=mx.random.key(1))",
    "mx.random.uniform(shape=(5,), dtype=mx.float16, key=mx.random.key(2))",
    "mx.random.uniform(shape=(5,), dtype=mx.bfloat16, key=mx.random.key(2))",
    "mx.random.normal((7,), key=mx.random.key(0))",
    "mx.random.normal((2, 3), loc=1.0, scale=0.5, key=mx.random.key(3))",
    "mx.random.normal((5,), mx.float16, key=mx.random.key(4))",
    "mx.random.randint(0, 10, (9,), key=mx.random.key(0))",
    "mx.random.randint(-5, 5, (2, 4), mx.int64, key=mx.random.key(6))",
    "mx.random.bernoulli(0.3, (9,), key=mx.random.key(0))",
    "mx.random.truncated_normal(-1.0, 1.0, (7,), key=mx.random.key(0))",
    "mx.random.gumbel((7,), key=mx.random.key(0))",
    "mx.random.laplace((7,), key=mx.random.key(0))",
    "mx.random.laplace((4,), loc=1.0, scale=2.0, key=mx.random.key(9))",
    "mx.random.categorical(mx.arange(12).reshape(3, 4) / 4, key=mx.random.key(0))",
    "mx.random.categorical(mx.zeros((2, 5)), num_samples=3, key=mx.random.key(1))",
    "mx.random.permutation(9, key=mx.random.key(0))",
    "mx.random.permutation(mx.arange(6).reshape(3, 2), key=mx.random.key(5))",
)


def short(dtype: object) -> str:
    """'float32' of mlx.core.float32."""
    return str(dtype).rpartition(".")[2]


def dtype_or_error(call: Callable[[], mx.array]) -> str:
    """The dtype of what the call returns, or 'error'."""
    try:
        return short(call().dtype)
    except Exception:
        return "error"


def promotion() -> dict[str, object]:
    """Dtypes of results: by family and function a row of names for each left operand."""
    ones = [mx.ones((2,)).astype(getattr(mx, t)) for t in DTYPES]

    def row(name: str, left: mx.array, rights: list[object]) -> str:
        return " ".join(dtype_or_error(lambda right=r: getattr(mx, name)(left, right)) for r in rights)

    def single(name: str, **options: int) -> str:
        return " ".join(dtype_or_error(lambda a=a: getattr(mx, name)(a, **options)) for a in ones)

    scalars = list(SCALARS.values())
    return {
        "dtypes": DTYPES,
        "scalars": list(SCALARS),
        "binary": {f: [row(f, left, ones) for left in ones] for f in BINARY},
        "scalar": {f: [row(f, left, scalars) for left in ones] for f in BINARY},
        "unary": {f: single(f) for f in UNARY},
        "reduction": {f: single(f, axis=0) for f in REDUCTIONS},
    }


def printing() -> dict[str, list[list[object]]]:
    """Expressions and their repr, plain and with a precision."""
    names = {"mx": mx}
    plain = [[source, repr(eval(source, names))] for source in PRINTED]
    precise = []
    for precision in PRECISIONS:
        with mx.printoptions(precision=precision):
            precise += [[precision, source, repr(eval(source, names))] for source in PRINTED_WITH_PRECISION]
    return {"plain": plain, "precise": precise}


def random_numbers() -> list[dict[str, object]]:
    """Expressions with a key, and the values they give in row-major order."""
    cases = []
    for source in KEYED:
        value = eval(source, {"mx": mx})
        wide = value.astype(mx.float64) if mx.issubdtype(value.dtype, mx.floating) else value
        flat = wide.reshape(-1).tolist()
        cases.append({"source": source, "dtype": short(value.dtype), "shape": value.shape, "values": flat})
    return cases


def main() -> None:
    """Write the files."""
    for name, content in {
        "promotion": promotion(),
        "printing": printing(),
        "random": random_numbers(),
    }.items():
        text = json.dumps(content, indent=1, sort_keys=True)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
