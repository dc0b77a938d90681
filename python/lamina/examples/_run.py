"""The training loop of the examples: progress, checkpoints, Ctrl-C, pictures and the result."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import lamina.core as mx
import lamina.nn as nn
from lamina.examples._data import Batches
from lamina.examples._options import Options
from lamina.lm.errors import CheckpointError, LMError
from lamina.lm.io import load_tensors, replacing
from lamina.lm.train.checkpoint import restore
from lamina.lm.train.interrupt import interruptible
from lamina.optimizers import Optimizer
from lamina.utils import tree_flatten

CHECKPOINT = "checkpoint.safetensors"


class RunError(LMError):
    """A run cannot begin, or cannot go on."""


@dataclass
class Progress:
    """Where a run stands.

    Attributes
    ----------
    step : int
        Optimizer steps done.
    losses : list of float
        The training loss of each step.
    evaluations : list of dict
        What was measured on held-out data after each epoch.
    seconds : float
        Time in training steps and evaluations.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Result:
    """How a run ended: where it stands, whether Ctrl-C stopped it, and what else it has to show."""

    progress: Progress
    interrupted: bool
    extra: dict[str, Any] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


class Checkpoint:
    """The file in ``--out`` that holds weights, optimizer state, random state and progress of a run.

    Parameters
    ----------
    options : Options
        The run's options.
    model : Module
        The model; its parameters are saved and restored.
    optimizer : Optimizer
        Its state was laid out by ``init``; it is changed in place.
    data : str
        A hash of the training data.
    """

    def __init__(self, options: Options, model: nn.Module, optimizer: Optimizer, data: str) -> None:
        self.path = options.out / CHECKPOINT
        self._resume = options.resume
        self._settings = {**options.settings(), "data": data}
        self._model = model
        self._optimizer = optimizer

    def save(self, progress: Progress) -> None:
        """Write the file whole or not at all: under another name first, then renamed."""
        arrays = {f"model.{k}": v for k, v in tree_flatten(self._model.parameters())}
        arrays.update({f"optimizer.{k}": v for k, v in tree_flatten(self._optimizer.state)})
        arrays["random"] = mx.random.state[0]
        texts = {"progress": json.dumps(asdict(progress)), "settings": json.dumps(self._settings)}
        with replacing(self.path) as path:
            mx.save_safetensors(str(path), arrays, texts)

    def start(self) -> Progress:
        """Make the directory; with ``--resume`` put the file's state in place and return how far it is.

        Raises
        ------
        RunError
            There is a checkpoint and no ``--resume``, or the reverse; or the directory cannot be made.
        CheckpointError
            The file is damaged, or of a run with other settings or data.
        """
        if self._resume:
            return self._load()
        if self.path.exists():
            raise RunError(f"{self.path} is there already: go on with --resume, or choose another --out")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise RunError(f"--out wanted a directory, got {self.path.parent}: {e.strerror}") from e
        return Progress()

    def _load(self) -> Progress:
        if not self.path.exists():
            raise RunError(f"--resume wanted a checkpoint, got none at {self.path}")
        arrays, texts = load_tensors(self.path)
        try:
            progress, theirs = Progress(**json.loads(texts["progress"])), json.loads(texts["settings"])
            random = arrays["random"]
        except (KeyError, TypeError, ValueError) as e:
            raise CheckpointError(f"{self.path} is not a checkpoint of an example: {e!r}") from e
        for key in sorted(self._settings.keys() | theirs.keys()):
            if theirs.get(key) != self._settings.get(key):
                raise CheckpointError(
                    f"--resume wanted the run of {self.path} with {key} {theirs.get(key)!r}, "
                    f"got {self._settings.get(key)!r}"
                )
        restore(self.path, arrays, "model.", self._model.parameters(), self._model.update)
        restore(self.path, arrays, "optimizer.", self._optimizer.state, self._optimizer.state.update)
        mx.random.state[0] = random
        return progress


def train(
    options: Options,
    model: nn.Module,
    optimizer: Optimizer,
    step: Callable[..., mx.array],
    batches: Batches,
    evaluate: Callable[[], dict[str, float]],
) -> Result:
    """Call ``step`` for every batch of every epoch, evaluating and saving a checkpoint after each epoch.

    The first Ctrl-C ends the loop after the step at hand and saves a checkpoint; the second one interrupts.

    Parameters
    ----------
    options : Options
        The run's options.
    model : Module
        In training mode in steps, and in evaluation mode in ``evaluate``.
    optimizer : Optimizer
        Initialized by its ``init``.
    step : callable
        Takes a batch's arrays, updates model and optimizer in place and returns the loss.
    batches : Batches
        The training data.
    evaluate : callable
        Returns what to report of held-out data.

    Returns
    -------
    Result
        How it ended.

    Raises
    ------
    RunError, CheckpointError
        As :meth:`Checkpoint.start`; or a loss is not finite, or ``--epochs`` leaves nothing to do.
    """
    checkpoint = Checkpoint(options, model, optimizer, batches.digest())
    progress = checkpoint.start()
    total = options.epochs * len(batches)
    if progress.step >= total:
        raise RunError(
            f"--epochs wanted more than the {progress.step // len(batches)} done, got {options.epochs}"
        )
    bar = tqdm(total=total, initial=progress.step, unit="step", disable=None, file=sys.stderr)
    with interruptible() as stop, bar:
        while progress.step < total and not stop.is_set():
            began = time.perf_counter()
            loss = step(*batches[progress.step])
            mx.eval(loss, model.state, optimizer.state, mx.random.state)
            _record(options, progress, loss.item())
            bar.set_postfix(loss=f"{progress.losses[-1]:.4f}", refresh=False)
            bar.update()
            epoch_ends = progress.step % len(batches) == 0
            if epoch_ends:
                model.eval()
                progress.evaluations.append(evaluate())
                model.train()
            progress.seconds += time.perf_counter() - began
            if epoch_ends:
                bar.write(_line(options, progress, len(batches)), file=sys.stderr)
                checkpoint.save(progress)
        if stop.is_set():
            checkpoint.save(progress)
    model.eval()
    return Result(progress, progress.step < total, files=[checkpoint.path])


def _record(options: Options, progress: Progress, loss: float) -> None:
    if not math.isfinite(loss):
        raise RunError(
            f"the loss of step {progress.step + 1} is {loss}; the last checkpoint is of the last whole epoch "
            f"or Ctrl-C: try a --rate below {options.rate}"
        )
    progress.step += 1
    progress.losses.append(loss)


def _line(options: Options, progress: Progress, steps: int) -> str:
    epoch = len(progress.evaluations)
    mean = sum(progress.losses[-steps:]) / steps
    measured = ", ".join(f"{k} {v:.4g}" for k, v in progress.evaluations[-1].items())
    return f"epoch {epoch}/{options.epochs}: loss {mean:.4f}; held out: {measured}"


def accuracy(model: Callable[[mx.array], mx.array], images: np.ndarray, labels: np.ndarray) -> float:
    """Return the percentage of images whose largest logit is that of their label.

    Examples
    --------
    >>> accuracy(lambda x: x, np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0]))
    75.0
    """
    right = mx.argmax(model(mx.array(images)), axis=-1) == mx.array(labels)
    return 100 * right.sum().item() / len(labels)


def mean_loss(loss: Callable[[mx.array], mx.array], rows: np.ndarray, size: int) -> float:
    """Return the mean of ``loss`` over all rows, computed in batches of at most ``size``.

    Examples
    --------
    >>> mean_loss(mx.mean, np.arange(10, dtype=np.float32), size=4)
    4.5
    """
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    return sum(loss(mx.array(part)).item() * len(part) for part in parts) / len(rows)


def draw_curve(path: Path, progress: Progress) -> None:
    """Draw the losses, and their running mean over a twenty-fifth of the steps, as a PNG."""
    from matplotlib.figure import Figure

    losses = np.array(progress.losses)
    window = max(1, len(losses) // 25)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axis = figure.add_subplot()
    axis.plot(np.arange(1, len(losses) + 1), losses, color="#b8c4d6", linewidth=0.6, label="each step")
    axis.plot(np.arange(window, len(losses) + 1), smooth, color="#1f4e8c", label=f"mean of {window} steps")
    axis.set_xlabel("step")
    axis.set_ylabel("training loss")
    axis.legend(frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def draw_images(path: Path, rows: Sequence[np.ndarray]) -> None:
    """Draw rows of images (N, 8, 8), values in 0..1, as a PNG: black on white, each pixel 6 wide and high."""
    from matplotlib import image

    apart = [np.pad(row, ((0, 0), (1, 1), (1, 1))) for row in rows]
    grid = np.concatenate([np.concatenate(list(row), axis=1) for row in apart])
    with replacing(path) as temporary:
        image.imsave(temporary, np.kron(1 - grid, np.ones((6, 6))), cmap="gray", vmin=0, vmax=1, format="png")


def run(options: Options, train_it: Callable[[Options], Result]) -> int:
    """Train, draw the curve, print the result; return the exit code.

    Parameters
    ----------
    options : Options
        The run's options.
    train_it : callable
        The example.

    Returns
    -------
    int
        0; 1 after an error, which is printed; 130 where Ctrl-C stopped the run.
    """
    try:
        if options.plot and importlib.util.find_spec("matplotlib") is None:
            raise RunError("pictures want matplotlib: pip install matplotlib, or give --no-plot")
        result = train_it(options)
    except LMError as e:
        print(f"{options.name}: error: {e}", file=sys.stderr)
        return 1
    if options.plot:
        curve = options.out / "loss.png"
        draw_curve(curve, result.progress)
        result.files.append(curve)
    _print(options, result)
    return 130 if result.interrupted else 0


def _print(options: Options, result: Result) -> None:
    files = [str(path) for path in result.files]
    if options.json:
        whole = {
            "example": options.name,
            "seed": options.seed,
            "epochs": options.epochs,
            **asdict(result.progress),
        }
        print(json.dumps({**whole, "interrupted": result.interrupted, **result.extra, "files": files}))
        return
    for name, value in result.extra.items():
        print(f"{name}:\n{value}\n")
    print(f"{result.progress.step} steps in {result.progress.seconds:.1f} s; wrote {', '.join(files)}")
    if result.interrupted:
        print(f"interrupted: --resume goes on after step {result.progress.step}", file=sys.stderr)
