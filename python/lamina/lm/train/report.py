"""What a run shows and leaves behind: progress bar, log lines, and the loss curve as JSON and PNG."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from lamina.lm.io import replacing
from lamina.lm.train.checkpoint import History
from lamina.lm.train.config import TrainConfig


class Progress:
    """A live bar on a terminal; a line every ``log_every`` steps in ``train.log``, and on other stderrs.

    Parameters
    ----------
    log : Path
        File that lines are appended to.
    config : TrainConfig
        Gives the number of steps and the interval of lines.
    start : int
        Steps done before.
    quiet : bool
        Show nothing; the log file is written all the same.
    """

    def __init__(self, log: Path, config: TrainConfig, start: int, quiet: bool = False) -> None:
        self._log = log
        self._config = config
        self._echo = not quiet
        self._bar: Any = None
        self._since = (time.perf_counter(), start)
        if self._echo and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=config.steps, initial=start, unit="step", dynamic_ncols=True, file=sys.stderr
            )

    def step(self, step: int, loss: float, norm: float, lr: float) -> None:
        """Note that ``step`` steps are done, the last one with this loss, gradient norm and learning rate."""
        at, done = self._since
        now = time.perf_counter()
        rate = (step - done) * self._config.tokens_per_step / max(now - at, 1e-9)
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.4f}", tok_s=f"{rate:.0f}", refresh=False)
            self._bar.update(1)
        if step % self._config.log_every == 0 or step == self._config.steps:
            self.line(
                f"step {step}/{self._config.steps} loss {loss:.4f} grad {norm:.3f} "
                f"lr {lr:.3e} tokens/s {rate:.0f}"
            )
            self._since = (now, step)

    def line(self, text: str) -> None:
        """Append ``text`` to the log, and show it where there is no bar."""
        with self._log.open("a", encoding="utf-8") as f:
            f.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        if self._bar is None and self._echo:
            print(text, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Log ``text`` and show it in any case but quiet, above the bar where there is one."""
        self.line(text)
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)

    def restart_clock(self, step: int) -> None:
        """Leave the time since the last line (a validation, say) out of tokens/s."""
        self._since = (time.perf_counter(), step)

    def close(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


def write_curve(directory: Path, history: History, config: TrainConfig, png: bool = True) -> None:
    """Write losses and held-out bits per byte as ``curve.json`` and, with ``png``, ``curve.png``."""
    curve = {
        "tokens_per_step": config.tokens_per_step,
        "loss_nats_per_token": history.losses,
        "held_out_bits_per_byte": [{"step": s, "bits_per_byte": b} for s, b in history.validations],
        "train_seconds": round(history.seconds, 1),
    }
    with replacing(directory / "curve.json") as tmp:
        tmp.write_text(json.dumps(curve) + "\n", encoding="utf-8")
    if png:
        with replacing(directory / "curve.png") as tmp:
            _draw(tmp, history)


def _draw(path: Path, history: History) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    losses = history.losses
    window = max(1, len(losses) // 100)
    smooth = [
        sum(losses[i : i + window]) / len(losses[i : i + window]) for i in range(0, len(losses), window)
    ]
    fig, axis = plt.subplots(figsize=(7, 4), dpi=110)
    axis.plot(range(1, len(losses) + 1), losses, color="#b8c4d6", linewidth=0.6, label="training loss")
    middle = [min(i * window + window / 2, len(losses)) for i in range(len(smooth))]
    axis.plot(middle, smooth, color="#1f4e8c", linewidth=1.5, label=f"mean of {window} steps")
    axis.set_xlabel("step")
    axis.set_ylabel("loss (nats per token)")
    handles, labels = axis.get_legend_handles_labels()
    if history.validations:
        right = axis.twinx()
        steps, bits = zip(*history.validations, strict=True)
        right.plot(
            steps, bits, "o-", color="#c4512d", markersize=3, linewidth=1, label="held-out bits per byte"
        )
        right.set_ylabel("bits per byte")
        handles, labels = handles + right.get_lines(), [*labels, "held-out bits per byte"]
    axis.legend(handles, labels, loc="upper right", frameon=False)
    fig.tight_layout()
    fig.savefig(path, format="png")
    plt.close(fig)
