"""explain and export_to_svg: steps, reasons, traces, and drawings in which nothing is missing or overlaps."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from typing import Any

import lamina.core as mx
import numpy as np
import pytest

SVG = "{http://www.w3.org/2000/svg}"


def layer(x: mx.array, w: mx.array, scale: float = 2.0) -> mx.array:
    return mx.softmax(mx.sin(x @ w) * scale, axis=-1)


def args(rows: int = 5) -> tuple[mx.array, mx.array]:
    out = mx.zeros((rows, 32)), mx.zeros((32, 16))
    mx.eval(out)
    return out


def reasons(e: mx.Explanation) -> set[tuple[str, str, str]]:
    return {(e.values[u["producer"]]["op"], e.values[u["consumer"]]["op"], u["reason"]) for u in e.unfused}


def test_steps_of_a_plain_function() -> None:
    e = mx.explain(layer, *args())
    assert [s["kind"] for s in e.steps] == ["kernel", "tape"]
    assert e.steps[1]["ops"] == ["sin", "multiply", "max", "subtract", "exp", "sum", "reciprocal", "multiply"]
    assert e.steps[0]["flops"] == 2 * 5 * 32 * 16
    assert e.steps[0]["bytes_read"] == 4 * (5 * 32 + 32 * 16)
    assert e.steps[1]["bytes_written"] == 4 * 5 * 16
    assert reasons(e) == {("matmul", "sin", "producer is a kernel: matmul, and the tape works on rows")}
    inputs = {v["name"]: v["shape"] for v in e.values if v["source"] == "input"}
    assert inputs == {"x": (5, 32), "w": (32, 16)}
    assert e.traces == []


def test_nothing_is_evaluated_and_nothing_changes() -> None:
    lazy = mx.exp(mx.zeros(4))
    mx.random.seed(3)
    before = mx.random.state[0].tolist()
    mx.explain(lambda x: x + mx.random.normal(x.shape), lazy)
    assert mx.random.state[0].tolist() == before
    with pytest.raises(ValueError, match="no value yet"):
        mx.explain(lambda x: x * x.item(), mx.array(1.0))
    assert lazy.tolist() == [1, 1, 1, 1]


def test_the_plan_is_that_of_an_evaluation() -> None:
    """After one evaluation the plan is known, whatever the sizes, and not for another structure."""

    def f(x: mx.array) -> mx.array:
        return mx.erf(x * 3.25).sum(-1) - mx.sin(x[..., 0])

    x = mx.ones((4, 6))
    mx.eval(x)
    assert not mx.explain(f, x).plan_known
    mx.eval(f(x))
    assert mx.explain(f, x).plan_known
    assert mx.explain(f, mx.ones((9, 7))).plan_known
    assert not mx.explain(f, mx.ones((1, 7))).plan_known
    assert not mx.explain(f, x.astype(mx.float16)).plan_known


@pytest.mark.parametrize("transform", [mx.grad, mx.value_and_grad, mx.vmap, mx.checkpoint])
def test_transforms(transform: Any) -> None:
    f = (lambda x: mx.exp(x).sum()) if transform is not mx.vmap else mx.exp
    for g in (transform(f), mx.compile(transform(f)), transform(mx.compile(f))):
        e = mx.explain(g, mx.zeros((3, 4)))
        assert any("exp" in s["ops"] for s in e.steps)


def test_traces_and_their_reasons() -> None:

    def own(x: mx.array, w: mx.array, scale: float = 2.0) -> mx.array:
        """A function that no other test plans."""
        return mx.logsumexp(mx.arctan(x @ w) * scale, axis=-1)

    c = mx.compile(own)
    assert str(mx.explain(c)) == "own\ncompiled: 0 traces, 0 calls, 0 replays; 0 plans for 0 evaluations"
    _, w = args()
    calls: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        (args(5), {}, "first call"),
        (args(7), {}, "shape of x: (5, 32) -> (7, 32)"),
        (args(7), {"scale": 3.0}, "new: scale 3.0"),
        (args(7), {"scale": 4.0}, "constant scale: 3.0 -> 4.0"),
        ((args(7)[0].astype(mx.float16), w), {"scale": 4.0}, "dtype of x: float32 -> float16"),
    ]
    for positional, named, _ in calls:
        mx.eval(positional)
        for _ in range(2):
            mx.eval(c(*positional, **named))
    e = mx.explain(c)
    assert [t["why"] for t in e.traces] == [[why] for _, _, why in calls]
    assert [t["calls"] for t in e.traces] == [2] * 5
    assert [t["evaluations"] for t in e.traces] == [2] * 5
    # Other sizes and other numbers need no plan; another dtype does.
    assert [t["plans"] for t in e.traces] == [1, 0, 0, 0, 1]
    assert e.plans == 2
    assert e.steps == []
    assert "10 calls, 5 replays; 2 plans for 10 evaluations" in str(e)


def test_structure_and_captured_state_as_reasons() -> None:
    state = {"w": mx.zeros(3), "n": 1}
    c = mx.compile(lambda tree: tree[0] + state["w"], inputs=state)
    c([mx.zeros(3)])
    c([mx.zeros(3), mx.zeros(3)])
    c((mx.zeros(3),))
    state["n"] = 2
    c((mx.zeros(3),))
    state["w"] = mx.zeros((2, 3))
    c((mx.zeros(3),))
    assert [t["why"] for t in mx.explain(c).traces] == [
        ["first call"],
        ["structure of tree: list of 1 -> list of 2", "new: tree[1] float32 (3,)"],
        ["structure of tree: list of 1 -> tuple of 1"],
        ["constant inputs['n']: 1 -> 2"],
        ["shape of inputs['w']: (3,) -> (2, 3)"],
    ]


def test_a_compiled_call() -> None:
    c = mx.compile(layer)
    x, w = args()
    e = mx.explain(c, x, w)
    assert "this call would trace: first call" in str(e)
    assert mx.explain(c).traces == [], "a look keeps no trace"
    y = c(x, w)
    assert mx.explain(c, x, w).traces[0]["calls"] == 1
    assert "this call would replay trace 1" in str(mx.explain(c, x, w))
    assert e.steps == mx.explain(c, x, w).steps
    mx.eval(y)
    assert mx.explain(c, x, w).plan_known
    assert "shape of x: (5, 32) -> (6, 32)" in str(mx.explain(c, *args(6)))


def test_a_look_at_a_call_with_captured_state() -> None:
    state = [mx.array(1.0)]

    def step(x: mx.array) -> mx.array:
        state[0] = state[0] + x
        return state[0] * 2

    c = mx.compile(step, inputs=state, outputs=state)
    e = mx.explain(c, mx.array(1.0))
    assert state[0].item() == 1
    assert {v["name"] for v in e.values if v["source"] == "input"} == {"x", "inputs[0]"}
    assert c(mx.array(1.0)).item() == 4


def test_constants_of_a_trace_are_computed_once() -> None:
    """So that the first evaluation has the structure of all others."""
    c = mx.compile(lambda x: mx.arcsinh(x) * mx.cos(mx.arange(4) / 10) + mx.exp(mx.zeros(4)))
    x = mx.ones((2, 4))
    mx.eval(x)
    steps = mx.explain(c, x).steps
    for _ in range(3):
        mx.eval(c(x))
    trace = mx.explain(c).traces[0]
    assert (trace["plans"], trace["evaluations"]) == (1, 3)
    assert mx.explain(c, x).steps == steps
    assert [s["ops"] for s in steps] == [["arcsinh", "multiply", "add"]]


def test_shapeless_functions_trace_once_and_plan_once() -> None:
    c = mx.compile(lambda x: mx.rsqrt((x * x).mean(-1, keepdims=True)) * mx.arctanh(x), shapeless=True)
    for shape in [(3, 4), (5, 6), (2, 9)]:
        x = mx.ones(shape)
        mx.eval(x)
        mx.eval(c(x))
    (trace,) = mx.explain(c).traces
    assert (trace["calls"], trace["plans"], trace["evaluations"]) == (3, 1, 3)


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="wants a callable, got int"):
        mx.explain(3)
    with pytest.raises(ValueError, match="call explain with arguments"):
        mx.explain(mx.compile(layer)).to_svg()
    assert mx.explain(mx.compile(layer))._repr_svg_() is None
    with pytest.raises(TypeError, match="want arrays, got int"):
        mx.export_to_svg(io.StringIO(), 3)


def test_dictionaries_are_json() -> None:
    c = mx.compile(layer)
    mx.eval(c(*args()))
    whole = mx.explain(c, *args()).to_dict()
    assert json.loads(json.dumps(whole))["steps"][0]["ops"] == ["matmul"]
    assert set(whole) == {
        "name", "values", "steps", "unfused", "outputs", "plan_known", "backend", "traces", "plans"
    }  # fmt: skip


Rectangle = tuple[float, float, float, float]


def rectangle(group: ET.Element) -> Rectangle:
    rect = group.find(f"{SVG}rect")
    assert rect is not None
    x, y, width, height = (float(rect.attrib[k]) for k in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def inside(a: Rectangle, b: Rectangle) -> bool:
    return a[0] >= b[0] and a[1] >= b[1] and a[2] <= b[2] and a[3] <= b[3]


def attention(x: mx.array, w: list[mx.array]) -> mx.array:
    q, k, v = (x @ p for p in w[:3])
    h = mx.fast.scaled_dot_product_attention(q[None, None], k[None, None], v[None, None], scale=0.25)
    h = mx.fast.rms_norm(x + h[0, 0] @ w[3], None, 1e-6)
    return (mx.softmax(h, -1) * mx.sin(h) + x[::-1]).sum()


SQUARES = [mx.ones((16, 16)) for _ in range(4)]
DRAWINGS = {
    "one op": lambda: mx.explain(mx.exp, mx.zeros(3)),
    "an input": lambda: mx.explain(lambda x: x, mx.zeros(3)),
    "a layer": lambda: mx.explain(layer, *args()),
    "attention": lambda: mx.explain(attention, mx.ones((8, 16)), SQUARES),
    "its gradient": lambda: mx.explain(mx.grad(attention), mx.ones((8, 16)), SQUARES),
    "several results": lambda: mx.explain(lambda x: mx.linalg.qr(x, stream=mx.cpu), mx.ones((3, 3))),
    "names to escape": lambda: mx.explain(lambda d: d["<a>&\"'é"] + 1, {"<a>&\"'é": mx.ones(3)}),
    "a long chain": lambda: mx.explain(lambda x: sum(mx.exp(x * i) for i in range(300)), mx.ones(3)),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings(name: str) -> None:
    e = DRAWINGS[name]()
    values, steps = e.values, e.steps
    root = ET.fromstring(e.to_svg())
    assert e._repr_svg_() == e.to_svg()
    groups = {int(g.attrib["data-value"]): g for g in root.iter(f"{SVG}g") if "data-value" in g.attrib}
    scalars = {
        i for i, v in enumerate(values) if v["source"] == "constant" and v["name"]
    }  # in the labels of their consumers
    seen_through = {i for i, v in enumerate(values) if v["source"] == "computed" and v["step"] is None}
    assert set(groups) == set(range(len(values))) - scalars - seen_through
    boxes = {i: rectangle(g) for i, g in groups.items()}
    for i, a in boxes.items():
        assert not any(overlap(a, b) for j, b in boxes.items() if j < i)
        assert values[i]["source"] == groups[i].attrib["data-source"]
        assert values[i]["result"] == ("data-result" in groups[i].attrib)
    regions = {
        int(g.attrib["data-region"]): rectangle(g) for g in root.iter(f"{SVG}g") if "data-region" in g.attrib
    }
    tapes = {i + 1 for i, s in enumerate(steps) if s["kind"] in ("tape", "kernel with epilogue")}
    assert set(regions) == tapes
    for number, region in regions.items():
        assert not any(overlap(region, b) for other, b in regions.items() if other < number)
        for i, box in boxes.items():
            member = values[i]["step"] == number - 1
            assert inside(box, region) if member else not overlap(box, region)
    edges = {p.attrib["data-edge"] for p in root.iter(f"{SVG}path") if "data-edge" in p.attrib}
    assert edges == {f"{p} {i}" for i in groups for p in values[i]["inputs"] if p in groups}
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(inside(b, (0, 0, width, height)) for b in (*boxes.values(), *regions.values()))


def test_export_to_svg(tmp_path: Any) -> None:
    x = mx.ones((3, 3))
    text = io.StringIO()
    y = mx.exp(x) @ x
    mx.export_to_svg(text, y, x=x)
    names = {t.text for t in ET.fromstring(text.getvalue()).iter(f"{SVG}text")}
    assert {"x: broadcast_to(1)", "exp", "matmul", "float32 (3, 3)"} <= names
    mx.export_to_svg(str(tmp_path / "a.svg"), y, x=x)
    mx.export_to_svg(tmp_path / "b.svg", y, x=x)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["a.svg", "b.svg"]
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == text.getvalue()
    with pytest.raises(OSError, match="no_such_folder"):
        mx.export_to_svg(tmp_path / "no_such_folder" / "a.svg", y)
    with pytest.raises(TypeError, match="export_to_svg"):
        mx.export_to_svg(3, y)
    assert np.asarray(y).shape == (3, 3)


def test_a_tree_that_holds_itself_is_a_recursion_error() -> None:
    endless: list[object] = []
    endless.append(endless)
    for _ in range(3):
        with pytest.raises(RecursionError):
            mx.explain(mx.compile(lambda x: x), endless)
    assert mx.explain(lambda x: mx.exp(x) + 1, mx.ones(3)).steps


def test_several_streams_are_refused() -> None:
    side = mx.new_stream(mx.cpu)
    with pytest.raises(ValueError, match=r"\[explain\] wants a graph on one stream"):
        mx.explain(lambda x: mx.exp(mx.sin(x, stream=side)), mx.ones(3))
