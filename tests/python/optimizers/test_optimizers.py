"""Optimizers against their update rules in float64, their state, and training."""

import lamina.core as mx
import numpy as np
import pytest
from lamina import nn, optimizers
from lamina.utils import tree_flatten, tree_map, tree_unflatten

EPS32 = float(np.finfo(np.float32).eps)
STEPS = 8


class Sgd:
    def __init__(self, lr, momentum=0.0, weight_decay=0.0, dampening=0.0, nesterov=False):
        self.lr, self.mu, self.wd, self.damp, self.nesterov = lr, momentum, weight_decay, dampening, nesterov
        self.v = 0.0

    def step(self, w, g, t):
        g = g + self.wd * w
        if self.mu == 0:
            return w - self.lr * g
        self.v = self.mu * self.v + (1 - self.damp) * g
        return w - self.lr * (g + self.mu * self.v if self.nesterov else self.v)


class RmsProp:
    def __init__(self, lr, alpha=0.99, eps=1e-8):
        self.lr, self.alpha, self.eps, self.v = lr, alpha, eps, 0.0

    def step(self, w, g, t):
        self.v = self.alpha * self.v + (1 - self.alpha) * g**2
        return w - self.lr * g / (np.sqrt(self.v) + self.eps)


class AdaGrad:
    def __init__(self, lr, eps=1e-8):
        self.lr, self.eps, self.v = lr, eps, 0.0

    def step(self, w, g, t):
        self.v = self.v + g**2
        return w - self.lr * g / (np.sqrt(self.v) + self.eps)


class AdaDelta:
    def __init__(self, lr, rho=0.9, eps=1e-6):
        self.lr, self.rho, self.eps, self.v, self.u = lr, rho, eps, 0.0, 0.0

    def step(self, w, g, t):
        self.v = self.rho * self.v + (1 - self.rho) * g**2
        d = np.sqrt(self.u + self.eps) / np.sqrt(self.v + self.eps) * g
        self.u = self.rho * self.u + (1 - self.rho) * d**2
        return w - self.lr * d


class AdamRule:
    def __init__(self, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, bias_correction=False):
        self.lr, self.betas, self.eps, self.wd, self.correct = lr, betas, eps, weight_decay, bias_correction
        self.m = self.v = 0.0

    def step(self, w, g, t):
        b1, b2 = self.betas
        self.m, self.v = b1 * self.m + (1 - b1) * g, b2 * self.v + (1 - b2) * g**2
        m, v = (self.m / (1 - b1**t), self.v / (1 - b2**t)) if self.correct else (self.m, self.v)
        return w * (1 - self.lr * self.wd) - self.lr * m / (np.sqrt(v) + self.eps)


class AdaMax:
    def __init__(self, lr, betas=(0.9, 0.999), eps=1e-8):
        self.lr, self.betas, self.eps, self.m, self.v = lr, betas, eps, 0.0, 0.0

    def step(self, w, g, t):
        b1, b2 = self.betas
        self.m, self.v = b1 * self.m + (1 - b1) * g, np.maximum(b2 * self.v, np.abs(g))
        return w - self.lr * self.m / (self.v + self.eps)


class LionRule:
    def __init__(self, lr, betas=(0.9, 0.99), weight_decay=0.0):
        self.lr, self.betas, self.wd, self.m = lr, betas, weight_decay, 0.0

    def step(self, w, g, t):
        b1, b2 = self.betas
        c = np.sign(b1 * self.m + (1 - b1) * g)
        self.m = b2 * self.m + (1 - b2) * g
        return w * (1 - self.lr * self.wd) - self.lr * c


class MuonRule:
    def __init__(self, lr, momentum=0.95, weight_decay=0.01, nesterov=True, ns_steps=5):
        self.lr, self.mu, self.wd, self.nesterov, self.steps, self.v = (
            lr,
            momentum,
            weight_decay,
            nesterov,
            ns_steps,
            0.0,
        )

    def step(self, w, g, t):
        g = g + self.wd * w
        self.v = self.mu * self.v + (1 - self.mu) * g
        u = (1 - self.mu) * g + self.mu * self.v if self.nesterov else self.v
        lr = self.lr
        if u.ndim > 1:
            lr = lr * np.sqrt(max(1, w.shape[-2] / w.shape[-1]))
            left, s, right = np.linalg.svd(u.reshape(len(u), -1), full_matrices=False)
            s = s / np.linalg.norm(s)
            for _ in range(self.steps):
                s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
            u = ((left * s) @ right).reshape(u.shape)
        return w - lr * u


class AdaFactor:
    def __init__(self, lr=None, clip=1.0, beta_1=None, weight_decay=0.0, scale=True, warmup=False):
        self.lr, self.clip, self.b1, self.wd, self.scale, self.warmup = (
            lr,
            clip,
            beta_1,
            weight_decay,
            scale,
            warmup,
        )
        self.row = self.column = self.full = self.m = 0.0

    def step(self, w, g, t):
        rms = lambda x: np.sqrt((x**2).mean())  # noqa: E731
        lr = self.lr if self.lr else min(1e-6 * t if self.warmup else 1e-2, 1 / np.sqrt(t))
        lr = lr * max(1e-3, rms(w)) if self.scale else lr
        b2, square = 1 - t**-0.8, g**2 + 1e-30
        if g.ndim > 1:
            self.row = b2 * self.row + (1 - b2) * square.mean(-1)
            self.column = b2 * self.column + (1 - b2) * square.mean(-2)
            relative = self.row / self.row.mean(-1, keepdims=True)
            u = g / np.sqrt(relative[..., None] * self.column[..., None, :])
        else:
            self.full = b2 * self.full + (1 - b2) * square
            u = g / np.sqrt(self.full)
        u = lr * u / max(1, rms(u) / self.clip)
        if self.b1 is not None:
            self.m = self.b1 * self.m + (1 - self.b1) * u
            u = self.m
        return w * (1 - self.wd * lr) - u


CASES = [
    (optimizers.SGD, {"learning_rate": 0.125}, lambda: Sgd(0.125)),
    (optimizers.SGD, {"learning_rate": 0.125, "momentum": 0.75}, lambda: Sgd(0.125, 0.75)),
    (
        optimizers.SGD,
        {"learning_rate": 0.125, "momentum": 0.75, "weight_decay": 0.25, "dampening": 0.5},
        lambda: Sgd(0.125, 0.75, 0.25, 0.5),
    ),
    (
        optimizers.SGD,
        {"learning_rate": 0.125, "momentum": 0.75, "nesterov": True},
        lambda: Sgd(0.125, 0.75, nesterov=True),
    ),
    (optimizers.RMSprop, {"learning_rate": 0.125}, lambda: RmsProp(0.125)),
    (
        optimizers.RMSprop,
        {"learning_rate": 0.125, "alpha": 0.5, "eps": 0.1},
        lambda: RmsProp(0.125, 0.5, 0.1),
    ),
    (optimizers.Adagrad, {"learning_rate": 0.125}, lambda: AdaGrad(0.125)),
    (optimizers.AdaDelta, {"learning_rate": 0.125}, lambda: AdaDelta(0.125)),
    (optimizers.AdaDelta, {"learning_rate": 1.0, "rho": 0.5, "eps": 0.1}, lambda: AdaDelta(1.0, 0.5, 0.1)),
    (optimizers.Adam, {"learning_rate": 0.125}, lambda: AdamRule(0.125)),
    (
        optimizers.Adam,
        {"learning_rate": 0.125, "bias_correction": True},
        lambda: AdamRule(0.125, bias_correction=True),
    ),
    (
        optimizers.Adam,
        {"learning_rate": 0.125, "betas": [0.5, 0.75], "eps": 0.1},
        lambda: AdamRule(0.125, (0.5, 0.75), 0.1),
    ),
    (optimizers.AdamW, {"learning_rate": 0.125}, lambda: AdamRule(0.125, weight_decay=0.01)),
    (
        optimizers.AdamW,
        {"learning_rate": 0.125, "weight_decay": 0.5, "bias_correction": True},
        lambda: AdamRule(0.125, weight_decay=0.5, bias_correction=True),
    ),
    (optimizers.Adamax, {"learning_rate": 0.125}, lambda: AdaMax(0.125)),
    (optimizers.Lion, {"learning_rate": 0.125}, lambda: LionRule(0.125)),
    (
        optimizers.Lion,
        {"learning_rate": 0.125, "betas": [0.5, 0.75], "weight_decay": 0.5},
        lambda: LionRule(0.125, (0.5, 0.75), 0.5),
    ),
    (optimizers.Muon, {"learning_rate": 0.125}, lambda: MuonRule(0.125)),
    (
        optimizers.Muon,
        {"learning_rate": 0.125, "momentum": 0.5, "weight_decay": 0.0, "nesterov": False, "ns_steps": 2},
        lambda: MuonRule(0.125, 0.5, 0.0, False, 2),
    ),
    (optimizers.Adafactor, {}, lambda: AdaFactor()),
    (optimizers.Adafactor, {"learning_rate": 0.125, "relative_step": False}, lambda: AdaFactor(0.125)),
    (
        optimizers.Adafactor,
        {
            "warmup_init": True,
            "beta_1": 0.5,
            "clip_threshold": 0.5,
            "weight_decay": 0.25,
            "scale_parameter": False,
        },
        lambda: AdaFactor(None, 0.5, 0.5, 0.25, False, True),
    ),
]
IDS = [f"{kind.__name__} {sorted(options)}" for kind, options, _ in CASES]
SHAPES = {"bias": (5,), "layers": [{"weight": (4, 6)}, {"tall": (7, 3)}, {"kernel": (4, 3, 2)}], "scalar": ()}


def trees(seed):
    generator = np.random.default_rng(seed)
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    return tree_map(
        lambda shape: generator.standard_normal(shape).astype(np.float32), SHAPES, is_leaf=is_shape
    )


def as_arrays(tree, dtype=mx.float32):
    return tree_map(lambda x: mx.array(x).astype(dtype), tree)


@pytest.mark.parametrize(("kind", "options", "rule"), CASES, ids=IDS)
def test_steps_follow_the_rule(kind, options, rule):
    optimizer, parameters = kind(**options), as_arrays(trees(0))
    expected = {path: value.astype(np.float64) for path, value in tree_flatten(trees(0))}
    rules = {path: rule() for path in expected}
    for t in range(1, STEPS + 1):
        gradients = trees(t)
        parameters = optimizer.apply_gradients(as_arrays(gradients), parameters)
        for path, gradient in tree_flatten(gradients):
            expected[path] = rules[path].step(expected[path], gradient.astype(np.float64), t)
    assert optimizer.step.item() == STEPS
    for path, value in tree_flatten(parameters):
        got, want = np.array(value), expected[path]
        assert got.dtype == np.float32
        assert got.shape == want.shape
        # A few roundings per step, of the parameter and of an update of about its size.
        bound = 64 * STEPS * EPS32 * (1 + np.abs(want).max())
        assert np.abs(got - want).max() <= bound, (path, np.abs(got - want).max() / bound)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("kind", "options", "rule"), CASES, ids=IDS)
def test_16_bit_parameters(kind, options, rule, dtype):
    dtype = getattr(mx, dtype)
    optimizer, parameters = kind(**options), as_arrays(trees(0), dtype)
    optimizer.init(parameters)
    kinds = {path: x.dtype for path, x in tree_flatten(optimizer.state)}
    expected = {
        path: np.array(value.astype(mx.float32)).astype("d") for path, value in tree_flatten(parameters)
    }
    gradients = as_arrays(trees(1), dtype)
    parameters = optimizer.apply_gradients(gradients, parameters)
    eps = 2**-10 if dtype == mx.float16 else 2**-7
    for (path, value), (_, gradient) in zip(tree_flatten(parameters), tree_flatten(gradients), strict=True):
        assert value.dtype == dtype
        wide = np.array(gradient.astype(mx.float32)).astype("d")
        want = rule().step(expected[path], wide, 1)
        assert np.abs(np.array(value.astype(mx.float32)) - want).max() <= 2 * eps * (1 + np.abs(want).max())
    assert {path: x.dtype for path, x in tree_flatten(optimizer.state)} == kinds


def test_zero_gradients_in_16_bits_do_not_divide_by_zero():
    for kind in (optimizers.Adam, optimizers.AdamW, optimizers.RMSprop, optimizers.Adagrad):
        w = kind(learning_rate=0.1).apply_gradients(
            {"w": mx.zeros((2,), dtype=mx.float16)}, {"w": mx.zeros((2,), dtype=mx.float16)}
        )["w"]
        assert w.tolist() == [0.0, 0.0], kind


STATES = {
    optimizers.SGD: ["v"],
    optimizers.RMSprop: ["v"],
    optimizers.Adagrad: ["v"],
    optimizers.AdaDelta: ["u", "v"],
    optimizers.Adam: ["m", "v"],
    optimizers.AdamW: ["m", "v"],
    optimizers.Adamax: ["m", "v"],
    optimizers.Lion: ["m"],
    optimizers.Muon: ["v"],
}


@pytest.mark.parametrize("kind", STATES)
def test_state_layout(kind):
    optimizer = kind(learning_rate=0.5)
    assert sorted(optimizer.state) == ["learning_rate", "step"]
    assert optimizer.step.dtype == mx.uint64
    assert optimizer.learning_rate.dtype == mx.float32
    parameters = as_arrays(trees(0))
    optimizer.init(parameters)
    for path, value in tree_flatten(parameters):
        for name in STATES[kind]:
            state = dict(tree_flatten(optimizer.state))[f"{path}.{name}"]
            assert state.shape == value.shape
            assert not mx.any(state).item()
    count = 2 + len(STATES[kind]) * len(tree_flatten(parameters))
    assert len(tree_flatten(optimizer.state)) == count


def test_adafactor_state_layout():
    optimizer = optimizers.Adafactor(beta_1=0.9)
    optimizer.init(as_arrays({"w": np.ones((2, 3, 4)), "b": np.ones(3)}))
    assert sorted(optimizer.state) == ["b", "step", "w"]
    assert {k: v.shape for k, v in optimizer.state["w"].items()} == {
        "exp_avg_sq_row": (2, 3),
        "exp_avg_sq_col": (2, 4),
        "exp_avg": (2, 3, 4),
    }
    assert sorted(optimizer.state["b"]) == ["exp_avg", "exp_avg_sq"]


@pytest.mark.parametrize(("kind", "options", "rule"), CASES, ids=IDS)
def test_saved_state_continues_exactly(kind, options, rule, tmp_path):
    def run(optimizer, parameters, steps):
        for t in steps:
            parameters = optimizer.apply_gradients(as_arrays(trees(t)), parameters)
        return parameters

    straight = run(kind(**options), as_arrays(trees(0)), range(1, 7))
    first = kind(**options)
    half = run(first, as_arrays(trees(0)), range(1, 4))
    path = str(tmp_path / "state.safetensors")
    mx.save_safetensors(path, tree_flatten(first.state, destination={}))
    second = kind(**options)
    second.state = tree_unflatten(mx.load(path))
    resumed = run(second, half, range(4, 7))
    for (name, a), (_, b) in zip(tree_flatten(straight), tree_flatten(resumed), strict=True):
        assert mx.array_equal(a, b).item(), name


@pytest.mark.parametrize("put", ["set", "update"])
def test_a_state_from_a_file_lacks_the_entries_of_layers_without_parameters(put):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.MaxPool1d(2)
            self.blocks = [{"act": nn.ReLU()}, nn.Linear(2, 2), nn.ReLU(), {"inner": [nn.GELU()]}]

    gradients = tree_map(mx.ones_like, Model().trainable_parameters())
    models, steps = [Model(), Model()], [optimizers.Adam(0.1), optimizers.Adam(0.1)]
    models[1].update(models[0].parameters())
    for optimizer, model in zip(steps, models, strict=True):
        optimizer.update(model, gradients)
    loaded = tree_unflatten(tree_flatten(steps[0].state))
    assert "pool" not in loaded
    assert len(loaded["blocks"]) == 2
    if put == "set":
        steps[0].state = loaded
    else:
        steps[0].state.update(loaded)
        steps[0].state.pop("pool", None)
    for optimizer, model in zip(steps, models, strict=True):
        optimizer.update(model, gradients)
    assert steps[0].step.item() == 2
    for (name, a), (_, b) in zip(*(tree_flatten(m.parameters()) for m in models), strict=True):
        assert mx.array_equal(a, b).item(), name


def test_init_keeps_what_is_there_and_adds_the_rest():
    optimizer = optimizers.Adam(learning_rate=0.5)
    one, two = (
        {"a": mx.ones((2,)), "l": [mx.ones((1,))]},
        {"a": mx.ones((2,)), "l": [mx.ones((1,)), mx.ones((3,))]},
    )
    optimizer.apply_gradients(one, one)
    with pytest.raises(IndexError, match="1 entries where the first has entry 1"):
        optimizer.apply_gradients(two, two)
    moments = optimizer.state["a"]["m"]
    optimizer.init(two)
    assert optimizer.state["a"]["m"] is moments
    assert mx.all(moments > 0).item()
    assert optimizer.state["l"][1]["v"].shape == (3,)
    optimizer.apply_gradients(two, two)


def test_update_changes_the_model_where_there_are_gradients():
    model = nn.Linear(2, 3)
    weight, bias = model.weight, model.bias
    optimizers.SGD(learning_rate=0.5).update(model, {"bias": mx.ones((3,))})
    assert model.weight is weight
    assert mx.array_equal(model.bias, bias - 0.5).item()


def test_learning_rates():
    optimizer = optimizers.SGD(learning_rate=1)
    assert optimizer.learning_rate.dtype == mx.float32
    assert optimizer.learning_rate.item() == 1
    optimizer.learning_rate = 0.25
    assert optimizer.apply_gradients({"w": mx.ones((1,))}, {"w": mx.ones((1,))})["w"].item() == 0.75

    scheduled = optimizers.SGD(learning_rate=lambda step: 1.0 / (step + 1))
    seen, w = [scheduled.learning_rate.item()], mx.array([0.0])
    for _ in range(3):
        w = scheduled.apply_gradients({"w": mx.array([1.0])}, {"w": w})["w"]
        seen.append(scheduled.learning_rate.item())
    assert seen == pytest.approx([1, 1, 1 / 2, 1 / 3])
    assert w.item() == pytest.approx(-(1 + 1 / 2 + 1 / 3))


def test_own_optimizer():
    class Signs(optimizers.Optimizer):
        def __init__(self):
            super().__init__(schedulers={"size": lambda step: mx.array(2.0) ** step})
            self.state["size"] = mx.array(1.0)

        def init_single(self, parameter, state):
            state["count"] = mx.array(0)

        def apply_single(self, gradient, parameter, state):
            state["count"] = state["count"] + 1
            return parameter - self.state["size"] * mx.sign(gradient)

    optimizer, w = Signs(), {"w": mx.array([5.0])}
    for _ in range(3):
        w = optimizer.apply_gradients({"w": mx.array([0.1])}, w)
    assert w["w"].item() == 5 - 1 - 2 - 4
    assert optimizer.state["w"]["count"].item() == 3
    for method, arguments in (("init_single", 2), ("apply_single", 3)):
        with pytest.raises(NotImplementedError, match=f"Optimizer does not define {method}"):
            getattr(optimizers.Optimizer(), method)(*[mx.zeros((1,))] * arguments)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: optimizers.SGD(0.1, nesterov=True), ValueError, "requires a momentum .* got momentum=0.0"),
        (lambda: optimizers.SGD(0.1, 0.9, dampening=0.1, nesterov=True), ValueError, "dampening=0.1"),
        (lambda: optimizers.Adam(0.1, betas=[0.9, 1.0]), ValueError, r"\[Adam\] betas .* got \[0.9, 1.0\]"),
        (lambda: optimizers.AdamW(0.1, betas=[0.9]), ValueError, r"\[AdamW\] betas must be two numbers"),
        (lambda: optimizers.Lion(0.1, betas=[-1, 0.5]), ValueError, r"\[Lion\] betas"),
        (lambda: optimizers.Adamax(0.1, eps=-1), ValueError, r"\[Adamax\] eps must be at least 0, got -1"),
        (
            lambda: optimizers.RMSprop(0.1, alpha=-1),
            ValueError,
            r"\[RMSprop\] alpha must be at least 0, got -1",
        ),
        (lambda: optimizers.Adagrad(0.1, eps=float("nan")), ValueError, r"\[Adagrad\] eps .* got nan"),
        (
            lambda: optimizers.AdaDelta(0.1, rho=-1),
            ValueError,
            r"\[AdaDelta\] rho must be at least 0, got -1",
        ),
        (
            lambda: optimizers.Muon(0.1, ns_steps=-1),
            ValueError,
            r"\[Muon\] ns_steps must be at least 0, got -1",
        ),
        (lambda: optimizers.Adafactor(relative_step=False), ValueError, "learning_rate is needed, got None"),
        (
            lambda: optimizers.SGD(0.1).init({"step": mx.ones((1,))}),
            ValueError,
            r"\[SGD\] the state uses 'step'",
        ),
    ],
)
def test_argument_errors(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_tree_errors():
    ones = {"w": mx.ones((2,))}
    with pytest.raises(KeyError, match="no entry 'w'"):
        optimizers.Adam(0.1).apply_gradients(ones, {})
    with pytest.raises(ValueError, match=r"\[Adam\] gradient and parameter .* \(3,\) and \(2,\)"):
        optimizers.Adam(0.1).apply_gradients({"w": mx.ones((3,))}, ones)
    with pytest.raises(KeyError, match="no entry 'u'"):
        optimizers.Adam(0.1).update(nn.Linear(1, 1), {"u": mx.ones((1,))})


TRAINERS = [
    optimizers.SGD(0.05, momentum=0.9),
    optimizers.RMSprop(0.01),
    optimizers.Adagrad(0.1),
    optimizers.AdaDelta(1.0),
    optimizers.Adam(0.01),
    optimizers.AdamW(0.01, bias_correction=True),
    optimizers.Adamax(0.02),
    optimizers.Lion(0.003),
    optimizers.Muon(0.02, weight_decay=0.0),
    optimizers.Adafactor(0.02, relative_step=False, scale_parameter=False),
]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("optimizer", TRAINERS, ids=lambda o: type(o).__name__)
def test_training_reduces_the_loss(optimizer, compiled):
    mx.random.seed(1)
    generator = np.random.default_rng(1)
    x = mx.array(generator.uniform(-1, 1, (64, 2)).astype(np.float32))
    y = mx.sin(3 * x[:, :1]) * x[:, 1:]
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer.state = type(optimizer)(learning_rate=optimizer.learning_rate).state
    loss_and_grad = nn.value_and_grad(model, lambda a, b: nn.losses.mse_loss(model(a), b))

    def step(a, b):
        loss, grads = loss_and_grad(a, b)
        optimizer.update(model, grads)
        return loss

    if compiled:
        optimizer.init(model.trainable_parameters())
        state = [model.state, optimizer.state]
        step = mx.compile(step, inputs=state, outputs=state)
    losses = []
    for _ in range(150):
        losses.append(step(x, y).item())
        mx.eval(model.parameters(), optimizer.state)
    assert losses[-1] < 0.25 * losses[0], (losses[0], losses[-1])
    assert optimizer.step.item() == 150


def test_compiled_training_equals_plain():
    def run(compiled):
        mx.random.seed(2)
        model, optimizer = nn.Linear(3, 2), optimizers.AdamW(optimizers.linear_schedule(0.0, 0.1, 5))
        optimizer.init(model.trainable_parameters())
        loss_and_grad = nn.value_and_grad(model, lambda a: mx.square(model(a)).sum())
        state = [model.state, optimizer.state]

        def step(a):
            loss, grads = loss_and_grad(a)
            grads, norm = optimizers.clip_grad_norm(grads, 1.0)
            optimizer.update(model, grads)
            return loss, norm

        call = mx.compile(step, inputs=state, outputs=state) if compiled else step
        x = mx.array(np.random.default_rng(2).standard_normal((4, 3)).astype(np.float32))
        results = [[v.item() for v in call(x)] for _ in range(8)]
        return results, np.array(model.weight)

    (plain, weight), (compiled, compiled_weight) = run(False), run(True)
    np.testing.assert_allclose(compiled, plain, rtol=64 * EPS32)
    np.testing.assert_allclose(compiled_weight, weight, rtol=0, atol=64 * EPS32)
