"""The training examples learn, go on exactly where they stopped, and name what is wrong with arguments."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lamina
import lamina.core as mx
import lamina.nn as nn
import lamina.optimizers as optim
import numpy as np
import pytest
from lamina.examples import _data, _options, _run, transformer
from lamina.lm.errors import DataError
from lamina.utils import tree_flatten

NAMES = ["mlp", "conv", "vae", "lstm", "transformer"]
PAGE = Path(__file__).parents[3] / "docs" / "examples.md"
Start = Callable[..., tuple[int, str, str]]


@pytest.fixture
def start(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Start:
    """Run an example in this process, files below ``tmp_path``; return exit code, stdout and stderr."""

    def run(name: str, *arguments: object, out: str = "run") -> tuple[int, str, str]:
        main = importlib.import_module(f"lamina.examples.{name}").main
        capfd.readouterr()
        try:
            code = main([*map(str, arguments), "--out", str(tmp_path / out)])
        except SystemExit as e:
            code = int(e.code or 0)
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def result(start: Start) -> Callable[..., dict[str, Any]]:
    """Run an example without pictures; return its JSON."""

    def run(name: str, *arguments: object, out: str = "run", code: int = 0) -> dict[str, Any]:
        got, stdout, stderr = start(name, *arguments, "--json", "--no-plot", out=out)
        assert got == code, stderr
        return json.loads(stdout)

    return run


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


# --- learning --------------------------------------------------------------------------------------------


def unigram_entropy(length: int) -> float:
    """Nats per held-out character of the best guess that looks at no other character."""
    text = _data.load_text(None, length, short=True)
    counts = np.bincount(text.train[:, 1:].ravel(), minlength=len(text.alphabet)) + 1.0
    return float(-np.log(counts / counts.sum())[text.held_out[:, 1:]].mean())


def pixel_variance() -> float:
    """Mean squared error of reconstructing every held-out digit by the mean training digit."""
    train, held_out = _data.load_digits()
    return float(np.square(held_out.images - train.images.mean(axis=0)).mean())


# name, factor by which the loss falls at least, what is measured, its bound (a function), sign of the bound
LEARNS = [
    ("mlp", 0.2, "accuracy", lambda: 90.0, 1),
    ("conv", 0.1, "accuracy", lambda: 96.0, 1),
    ("vae", 0.7, "reconstruction_error", lambda: 0.6 * pixel_variance(), -1),
    ("lstm", 0.6, "loss", lambda: 0.85 * unigram_entropy(64), -1),
    ("transformer", 0.7, "loss", lambda: 0.95 * unigram_entropy(96), -1),
]


@pytest.mark.parametrize(("name", "factor", "measure", "bound", "sign"), LEARNS, ids=[c[0] for c in LEARNS])
def test_short_run_learns(
    name: str,
    factor: float,
    measure: str,
    bound: Callable[[], float],
    sign: int,
    start: Start,
    tmp_path: Path,
) -> None:
    code, stdout, stderr = start(name, "--short", "--json")
    assert code == 0, stderr
    got = json.loads(stdout)
    losses, evaluations = got["losses"], got["evaluations"]
    assert (got["example"], got["seed"], got["interrupted"]) == (name, 0, False)
    assert len(losses) == got["step"]
    assert len(evaluations) == got["epochs"] == stderr.count("held out")
    assert mean(losses[-8:]) < factor * losses[0]
    assert sign * evaluations[-1][measure] > sign * bound()
    pictures = ["loss.png", "samples.png"] if name == "vae" else ["loss.png"]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted(
        ["checkpoint.safetensors", *pictures]
    )
    assert sorted(got["files"]) == sorted(str(p) for p in (tmp_path / "run").iterdir())
    assert len(got.get("sample", "")) == (208 if name in ("lstm", "transformer") else 0)


def test_conv_reaches_98_percent(result: Callable[..., dict[str, Any]]) -> None:
    """The issue's target, from another seed than the short run's; all three are in the documentation."""
    assert result("conv", "--seed", 1)["evaluations"][-1]["accuracy"] >= 98


def test_words_for_people(start: Start, tmp_path: Path) -> None:
    code, stdout, stderr = start("mlp", "--short", "--epochs", 1)
    assert code == 0
    assert re.fullmatch(
        r"44 steps in [\d.]+ s; wrote \S+/checkpoint.safetensors, \S+/loss.png\n", stdout.replace("\\", "/")
    )
    assert re.search(r"epoch 1/1: loss [\d.]+; held out: accuracy [\d.]+\n", stderr)
    from matplotlib import image

    picture = image.imread(tmp_path / "run" / "loss.png")
    assert picture.shape == (440, 770, 4)
    assert len(np.unique(picture.reshape(-1, 4), axis=0)) > 2


def test_vae_draws_digits(start: Start, tmp_path: Path) -> None:
    from matplotlib import image

    assert start("vae", "--epochs", 1)[0] == 0
    picture = image.imread(tmp_path / "run" / "samples.png")[..., 0]
    assert picture.shape == (10 * 60, 16 * 60)
    images = 1 - picture[3::6, 3::6].reshape(10, 10, 16, 10)[:, 1:9, :, 1:9].transpose(0, 2, 1, 3)
    _, held_out = _data.load_digits()
    # The first row is the data, to a step of 8-bit grey.
    np.testing.assert_allclose(images[0], held_out.images[:16, :, :, 0], rtol=0, atol=1 / 255)
    assert np.abs(images[1] - images[0]).mean() < np.abs(images[1] - images[0][::-1]).mean()
    assert images[2:].std(axis=(0, 1)).max() > 0.1


# --- checkpoints -----------------------------------------------------------------------------------------


@pytest.fixture
def small_text(tmp_path: Path) -> Path:
    """8,000 characters: 28 steps in an epoch of 16 windows of 16."""
    path = tmp_path / "small.txt"
    source = (Path(lamina.__file__).parent / "nn" / "losses.py").read_text(encoding="utf-8")
    path.write_text(source[:8000], encoding="utf-8")
    return path


def interrupt_at(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Send Ctrl-C to this process just before each of these steps."""
    plain = _data.Batches.__getitem__

    def get(self: _data.Batches, step: int) -> tuple[mx.array, ...]:
        if step in steps:
            signal.raise_signal(signal.SIGINT)
        return plain(self, step)

    monkeypatch.setattr(_data.Batches, "__getitem__", get)


@pytest.mark.parametrize("name", NAMES)
def test_resumed_run_is_the_uninterrupted_one(
    name: str,
    result: Callable[..., dict[str, Any]],
    small_text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = ["--text", small_text, "--length", 16, "--batch", 16] if name in ("lstm", "transformer") else []
    arguments = ["--epochs", 2, "--seed", 5, *text]
    whole = result(name, *arguments, out="whole")
    steps = len(whole["losses"])
    first, second = 3, steps // 2 + 4
    interrupt_at(monkeypatch, {first, second})
    for more, done in ([], first + 1), (["--resume"], second + 1):
        part = result(name, *arguments, *more, out="parts", code=130)
        assert part["interrupted"]
        assert part["losses"] == whole["losses"][:done]
    last = result(name, *arguments, "--resume", out="parts")
    assert last["losses"] == whole["losses"]
    assert last["evaluations"] == whole["evaluations"]
    assert last.get("sample") == whole.get("sample")
    a, b = (mx.load(str(tmp_path / out / "checkpoint.safetensors")) for out in ("whole", "parts"))
    assert a.keys() == b.keys()
    assert all(np.array(a[k]).tobytes() == np.array(b[k]).tobytes() for k in a)


def test_seeds_differ(result: Callable[..., dict[str, Any]]) -> None:
    one, other, again = (
        result("mlp", "--epochs", 1, "--seed", seed, out=f"{i}") for i, seed in enumerate((1, 2, 1))
    )
    assert one["losses"] == again["losses"] != other["losses"]


def test_ctrl_c_of_a_program(tmp_path: Path) -> None:
    """A program that gets the signal saves a checkpoint and ends with 130; it can be resumed."""
    command = [sys.executable, "-m", "lamina.examples.mlp", "--no-plot", "--out", str(tmp_path)]
    with subprocess.Popen(
        [*command, "--epochs", "1000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stderr is not None
        assert "epoch 1/1000000" in program.stderr.readline()
        program.send_signal(signal.SIGINT)
        rest = program.stderr.read()
        assert program.wait() == 130
    found = re.search(r"interrupted: --resume goes on after step (\d+)\n$", rest)
    assert found, rest
    step = int(found[1])
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    done = subprocess.run(
        [*command, "--resume", "--json", "--epochs", str(step // 44 + 1)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["step"] == (step // 44 + 1) * 44


# --- what is wrong ---------------------------------------------------------------------------------------

BAD_FLAGS = [
    ("mlp", ["--epochs", "0"], "argument --epochs: wanted a whole number of at least 1, got '0'"),
    ("conv", ["--epochs", "1.5"], "argument --epochs: wanted a whole number of at least 1, got '1.5'"),
    ("conv", ["--seed", "-1"], "argument --seed: wanted a whole number of at least 0, got '-1'"),
    ("conv", ["--seed", str(2**63)], "argument --seed: wanted a whole number of at least 0"),
    ("vae", ["--batch", "many"], "argument --batch: wanted a whole number of at least 1, got 'many'"),
    ("vae", ["--latent", "0"], "argument --latent: wanted a whole number of at least 1, got '0'"),
    ("lstm", ["--rate", "nan"], "argument --rate: wanted a number above 0, got 'nan'"),
    ("lstm", ["--clip", "-2"], "argument --clip: wanted a number above 0, got '-2'"),
    ("mlp", ["--dtype", "int8"], "argument --dtype: invalid choice: 'int8'"),
    (
        "transformer",
        ["--accumulate", "0"],
        "argument --accumulate: wanted a whole number of at least 1, got '0'",
    ),
    ("transformer", ["--latent", "3"], "unrecognized arguments: --latent 3"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), BAD_FLAGS)
def test_bad_flags(name: str, arguments: list[str], message: str, start: Start) -> None:
    code, stdout, stderr = start(name, *arguments)
    assert (code, stdout) == (2, "")
    assert f"python -m lamina.examples.{name}: error: {message}" in stderr


REFUSED = [
    ("mlp", ["--batch", "2000"], "--batch wanted at most the 1437 rows of data, got 2000"),
    (
        "transformer",
        ["--accumulate", "5"],
        "--accumulate wanted a number that divides the batch of 32, got 5",
    ),
    ("lstm", ["--text", "no-such-file"], "--text wanted a file of UTF-8 text, got no-such-file: "),
    ("lstm", ["--length", "20000"], "--text wanted at least 400020 characters, got "),
    ("conv", ["--resume"], "--resume wanted a checkpoint, got none at "),
    (
        "mlp",
        ["--rate", "1e30", "--dtype", "float32"],
        "is nan; the last checkpoint is of the last whole epoch or Ctrl-C: try",
    ),
]


@pytest.mark.parametrize(("name", "arguments", "message"), REFUSED)
def test_refused(name: str, arguments: list[str], message: str, start: Start) -> None:
    code, stdout, stderr = start(name, *arguments)
    assert (code, stdout) == (1, "")
    assert stderr.startswith(f"{name}: error: ")
    assert message in stderr


def test_text_that_is_none(start: Start, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff" * 9000)
    code, _, stderr = start("lstm", "--text", tmp_path / "bytes")
    assert code == 1
    assert "--text wanted a file of UTF-8 text, got " in stderr


def test_checkpoint_of_another_run(start: Start, tmp_path: Path) -> None:
    quick = ["--epochs", 1, "--no-plot"]
    assert start("mlp", *quick)[0] == 0
    path = tmp_path / "run" / "checkpoint.safetensors"
    cases = [
        ("mlp", quick, f"{path} is there already: go on with --resume, or choose another --out"),
        ("mlp", [*quick, "--resume"], "--epochs wanted more than the 1 done, got 1"),
        (
            "mlp",
            ["--epochs", 2, "--resume", "--seed", 3],
            f"--resume wanted the run of {path} with seed 0, got 3",
        ),
        ("vae", ["--resume"], f"--resume wanted the run of {path} with batch 32, got 64"),
    ]
    kept = path.read_bytes()
    for name, arguments, message in cases:
        code, stdout, stderr = start(name, *arguments)
        assert (code, stdout, stderr) == (1, "", f"{name}: error: {message}\n")
    assert path.read_bytes() == kept
    path.write_bytes(kept[:-5])
    code, _, stderr = start("mlp", "--epochs", 2, "--resume")
    assert code == 1
    assert "is truncated or corrupt" in stderr
    mx.save_safetensors(str(path), {"a": mx.ones(3)})
    code, _, stderr = start("mlp", "--epochs", 2, "--resume")
    assert code == 1
    assert "is not a checkpoint of an example: KeyError('progress')" in stderr


def test_out_that_is_a_file(start: Start, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    code, _, stderr = start("mlp", "--no-plot")
    assert (code, stderr) == (
        1,
        f"mlp: error: --out wanted a directory, got {tmp_path / 'run'}: File exists\n",
    )
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("matplotlib", "pictures want matplotlib: pip install matplotlib, or give --no-plot"),
        ("sklearn", "the digits come with scikit-learn, which does not load"),
    ],
)
def test_missing_package(
    module: str, message: str, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, _, stderr = start("mlp")
    assert code == 1
    assert stderr.startswith(f"mlp: error: {message}")
    assert not (tmp_path / "run").exists()


# --- parts -----------------------------------------------------------------------------------------------


def test_split_is_a_partition_of_the_digits() -> None:
    from sklearn import datasets

    pixels, labels = datasets.load_digits(return_X_y=True)
    rows = [
        np.concatenate([d.images.reshape(-1, 64) * 16, d.labels[:, None]], axis=1)
        for d in _data.load_digits()
    ]
    whole = np.concatenate([pixels, labels[:, None]], axis=1)
    got = np.concatenate(rows)
    assert len(rows[1]) == 360
    assert sorted(map(tuple, got)) == sorted(map(tuple, whole.astype(np.float32)))


def test_batches_see_each_row_once() -> None:
    batches = _data.Batches(np.arange(12), np.arange(12) + 100, size=4, seed=1)
    epochs = [[batches[epoch * 3 + i] for i in range(3)] for epoch in (0, 1)]
    orders = [np.concatenate([np.array(rows) for rows, _ in epoch]) for epoch in epochs]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert orders[0].tolist() != orders[1].tolist()
    assert all((np.array(b) == np.array(a) + 100).all() for epoch in epochs for a, b in epoch)
    assert _data.Batches(np.arange(12), size=4, seed=1)[4][0].tolist() == np.array(epochs[1][1][0]).tolist()
    with pytest.raises(DataError, match="--batch wanted at most the 12 rows of data, got 13"):
        _data.Batches(np.arange(12), size=13, seed=1)


def test_accumulation_and_checkpointing_change_nothing() -> None:
    """One step of gradient descent with the batch whole, in parts, and with kept activations."""
    windows = mx.random.randint(0, 30, (8, 17), key=mx.random.key(3))
    outcomes = []
    for parts, recompute in ((1, False), (1, True), (2, True), (8, False)):
        mx.random.seed(0)
        model = transformer.CharTransformer(30, 16, recompute)
        optimizer = optim.SGD(1.0)
        optimizer.init(model.trainable_parameters())
        loss = transformer.make_step(model, optimizer, parts)(windows)
        outcomes.append((loss.item(), dict(tree_flatten(model.parameters()))))
    # Sums of 128 terms in other orders, through a chain of about 50 ops.
    bound = 50 * np.sqrt(128) * np.finfo(np.float32).eps
    for loss, parameters in outcomes[1:]:
        assert abs(loss - outcomes[0][0]) <= bound * outcomes[0][0]
        for name, value in parameters.items():
            wanted = np.array(outcomes[0][1][name])
            error = np.linalg.norm(np.array(value) - wanted)
            assert error <= bound * np.linalg.norm(wanted) + bound, name


def test_accumulation_and_checkpointing_save_memory() -> None:
    """Parts hold a part of the activations; of three layers, one is there at a time beside three inputs."""
    windows = mx.random.randint(0, 30, (32, 97), key=mx.random.key(3))

    def peak_bytes(parts: int, recompute: bool) -> int:
        model = transformer.CharTransformer(30, 96, recompute)
        optimizer = optim.SGD(1.0)
        optimizer.init(model.trainable_parameters())
        step = transformer.make_step(model, optimizer, parts)
        mx.eval(step(windows), model.state, optimizer.state)
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(step(windows), model.state, optimizer.state)
        return mx.get_peak_memory() - before

    whole = peak_bytes(1, False)
    assert peak_bytes(1, True) < whole / 2
    assert peak_bytes(4, False) < whole / 3
    assert peak_bytes(4, True) < whole / 6


def test_mlp_computes_in_bfloat16_and_keeps_float32(
    result: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    half, whole = (result("mlp", "--epochs", 1, "--dtype", d, out=d) for d in ("bfloat16", "float32"))
    # Three layers that each round inputs, weights and outputs to 8 bits.
    assert 0 < abs(half["losses"][0] - whole["losses"][0]) <= 9 * 2**-8 * whole["losses"][0]
    arrays = mx.load(str(tmp_path / "bfloat16" / "checkpoint.safetensors"))
    weight = arrays["model.layers.1.weight"]
    assert {a.dtype for k, a in arrays.items() if k.startswith("model.") or k.endswith((".m", ".v"))} == {
        mx.float32
    }
    assert mx.any(weight != weight.astype(mx.bfloat16).astype(mx.float32)).item()


@pytest.mark.parametrize("name", NAMES)
def test_help(name: str, start: Start) -> None:
    code, stdout, _ = start(name, "--help")
    assert code == 0
    assert f"examples:\n  python -m lamina.examples.{name}\n" in stdout
    for flag in (
        "--epochs",
        "--seed",
        "--json",
        "--short",
        "--resume",
        "--out",
        "--no-plot",
        "--batch",
        "--rate",
    ):
        assert flag in stdout


def test_list_of_examples() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lamina.examples"], capture_output=True, text=True, check=True
    )
    assert re.findall(r"^``(\w+)``", done.stdout, re.MULTILINE) == NAMES


def test_commands_of_the_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of the page is one that the example takes, and each example is there."""
    commands = re.findall(
        r"^python -m lamina\.examples\.(\w+)(.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {name for name, _ in commands} == set(NAMES)
    for name, arguments in commands:
        module = importlib.import_module(f"lamina.examples.{name}")
        taken: list[_options.Options] = []
        monkeypatch.setattr(module, "run", lambda options, _, taken=taken: taken.append(options) or 0)
        assert module.main(shlex.split(arguments)) == 0
        assert taken[0].name == name


@pytest.mark.parametrize("module", [_data, _options, _run], ids=lambda m: m.__name__)
def test_docstrings(module: Any) -> None:
    import doctest

    done = doctest.testmod(module)
    assert done.attempted > 0
    assert done.failed == 0


@pytest.mark.parametrize("name", NAMES)
def test_models_are_documented(name: str) -> None:
    module = importlib.import_module(f"lamina.examples.{name}")
    own = [v for v in vars(module).values() if getattr(v, "__module__", "") == module.__name__]
    assert any(isinstance(v, type) and issubclass(v, nn.Module) for v in own)
    assert all(v.__doc__ for v in own if callable(v))
