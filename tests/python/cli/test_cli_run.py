"""``lamina run`` and ``lamina.as_mlx``: scripts that say ``mlx``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = [sys.executable, "-m", "lamina", "run"]

TRAINS = """
import sys
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(2, 16), nn.Linear(16, 1)]

    def __call__(self, x):
        return self.layers[1](nn.relu(self.layers[0](x)))

mx.random.seed(0)
x = mx.random.uniform(shape=(64, 2))
y = x[:, :1] * x[:, 1:]
model, optimizer = Net(), optim.Adam(learning_rate=1e-2)
step = nn.value_and_grad(model, lambda m: mx.mean(mx.square(m(x) - y)))
first = None
for _ in range(100):
    loss, grads = step(model)
    optimizer.update(model, grads)
    mx.eval(model.parameters(), optimizer.state)
    first = loss.item() if first is None else first
print(len(tree_flatten(model.parameters())), loss.item() < first / 4, sys.argv[1:])
"""


def run(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run([*PROGRAM, *args], capture_output=True, text=True, check=False, cwd=cwd)


def script(tmp_path: Path, text: str, name: str = "script.py") -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_a_script_for_mlx_trains_a_network(tmp_path):
    done = run(script(tmp_path, TRAINS), "--epochs", "3", "-x")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "4 True ['--epochs', '3', '-x']\n"


def test_the_modules_are_the_very_same(tmp_path):
    text = """
import sys
import mlx, mlx.core, mlx.nn, mlx.optimizers, mlx.utils
import lamina, lamina.core, lamina.nn, lamina.optimizers, lamina.utils
import mlx.as_mlx
assert mlx is lamina and mlx.as_mlx is sys.modules["lamina.as_mlx"]
for name in ("core", "nn", "optimizers", "utils"):
    assert sys.modules["mlx." + name] is sys.modules["lamina." + name] is getattr(lamina, name), name
    assert sys.modules["lamina." + name].__spec__.name == "lamina." + name
from mlx.core import array
assert str(mlx.core.float32) == "mlx.core.float32"
assert array is lamina.core.array
import lamina.as_mlx
lamina.as_mlx.install()
assert sys.modules["mlx.core"] is lamina.core
try:
    import mlx.nothing_of_the_kind
except ModuleNotFoundError as e:
    print(e)
"""
    done = run(script(tmp_path, text))
    assert (
        done.stdout
        == "No module named 'mlx.nothing_of_the_kind': lamina has no 'lamina.nothing_of_the_kind'\n"
    ), done.stderr


def test_scripts_find_no_gpu(tmp_path):
    text = """
import mlx.core as mx
from mlx.core import metal
assert metal is mx.metal and not metal.is_available() and not mx.cuda.is_available()
mx.eval(mx.ones(1000))
assert metal.get_peak_memory() == mx.get_peak_memory() > 0
metal.clear_cache()
assert metal.get_cache_memory() == 0 and metal.device_info() == mx.device_info()
try:
    mx.metal.start_capture("trace.gputrace")
except NotImplementedError as e:
    print(e)
"""
    done = run(script(tmp_path, text))
    wanted = "[metal.start_capture] captures are not supported by the cpu backend: wanted Metal; "
    assert done.stdout == wanted + "mlx.core.profile() records kernels here\n", done.stderr


def test_another_mlx_is_not_replaced(tmp_path):
    text = "import sys, types\nsys.modules['mlx'] = types.ModuleType('mlx')\nimport lamina.as_mlx\n"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError: another 'mlx' is imported already" in done.stderr


def test_scripts_run_as_the_main_program(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "neighbour.py").write_text("value = 42\n")
    path = script(
        tmp_path,
        "import sys, neighbour\nprint(__name__, __file__ == sys.argv[0], neighbour.value)\n",
        "sub/s.py",
    )
    assert run(path).stdout == "__main__ True 42\n"
    assert run("sub/s.py", cwd=tmp_path).stdout == "__main__ True 42\n"


def test_modules(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "job.py").write_text(
        "import sys\nimport mlx.core as mx\nprint(__name__, sys.argv[1:], mx.array([2]).item())\n"
    )
    done = run("-m", "pkg.job", "--a", "-m", "b", cwd=tmp_path)
    assert done.stdout == "__main__ ['--a', '-m', 'b'] 2\n", done.stderr


def test_exit_codes_and_exceptions_pass_through(tmp_path):
    assert run(script(tmp_path, "raise SystemExit(7)")).returncode == 7
    stop = run(script(tmp_path, "import sys\nsys.exit('no luck')"))
    assert stop.returncode == 1
    assert stop.stderr == "no luck\n"
    failed = run(script(tmp_path, "import mlx.core as mx\nmx.ones((2, 3)) @ mx.ones((2, 3))"))
    assert failed.returncode == 1
    assert "Traceback" in failed.stderr
    assert "script.py" in failed.stderr
    assert "ValueError" in failed.stderr


def test_a_profile_of_a_script(tmp_path):
    text = "import sys\nimport mlx.core as mx\nmx.eval(mx.exp(mx.ones(3)) + 1)\nprint(sys.argv[1:])\n"
    path = script(tmp_path, text)
    for option in (["--profile", str(tmp_path / "a.json")], [f"--profile={tmp_path / 'a.json'}"]):
        done = run(*option, path, "--profile", "own")
        assert done.returncode == 0, done.stderr
        assert done.stdout == "['--profile', 'own']\n"
        assert "exp+add" in done.stderr
        trace = json.loads((tmp_path / "a.json").read_text())
        assert "exp+add" in [e["name"] for e in trace["traceEvents"]]
        (tmp_path / "a.json").unlink()


def test_a_profile_of_a_script_that_fails(tmp_path):
    text = "import sys\nimport mlx.core as mx\nmx.eval(mx.exp(mx.ones(3)))\nsys.exit(7)\n"
    done = run("--profile", str(tmp_path / "a.json"), script(tmp_path, text))
    assert done.returncode == 7
    assert "exp" in (tmp_path / "a.json").read_text()
    done = run("--profile", str(tmp_path / "no" / "a.json"), script(tmp_path, text))
    assert done.returncode == 2
    assert done.stderr == f"lamina run: error: no such folder for the profile: {tmp_path / 'no'}\n"
    assert run("--profile", str(tmp_path / "a.json")).returncode == 2
