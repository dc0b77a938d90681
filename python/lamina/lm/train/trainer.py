"""The training loop: resumes exactly, validates, writes checkpoints, and stops cleanly on Ctrl-C."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import lamina.core as mx
from lamina.lm.errors import CheckpointError, LMError
from lamina.lm.models import Llama
from lamina.lm.tokenizer import Tokenizer
from lamina.lm.train.checkpoint import RunState, list_checkpoints, load_checkpoint, save_checkpoint
from lamina.lm.train.config import TrainConfig
from lamina.lm.train.data import PackedWindows
from lamina.lm.train.evaluate import bits_per_byte, cut_documents
from lamina.lm.train.interrupt import interruptible
from lamina.lm.train.report import Progress, write_curve
from lamina.lm.train.step import init_weights, make_optimizer, make_step


class DivergenceError(LMError, ArithmeticError):
    """The loss or the gradient is no longer finite; the last checkpoint is from before that."""


@dataclass(frozen=True)
class Result:
    """How a run ended: its state, and whether Ctrl-C stopped it before the last step."""

    state: RunState
    interrupted: bool


class Trainer:
    """One training run in one directory.

    Parameters
    ----------
    model : Llama
        Trained in place. Its weights are set from the seed unless the run is resumed.
    tokenizer : Tokenizer
        Used for validation.
    documents : sequence of ndarray
        Token ids of each training document, the separator first.
    config : TrainConfig
        The settings.
    directory : Path
        Receives checkpoints, ``train.log`` and the curve.
    held_out : sequence of str
        Documents to validate on; none for no validation.
    separator : int
        The id between documents.
    quiet : bool
        Show no progress.
    """

    def __init__(
        self,
        model: Llama,
        tokenizer: Tokenizer,
        documents: Sequence[np.ndarray],
        config: TrainConfig,
        directory: str | Path,
        held_out: Sequence[str] = (),
        separator: int = 0,
        quiet: bool = False,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.windows = PackedWindows(documents, config.length, config.seed)
        self.config = config
        self.directory = Path(directory)
        self.held_out = cut_documents(held_out, config.validate_chars)
        self.separator = separator
        self.quiet = quiet
        digest = hashlib.sha256()
        for document in documents:
            digest.update(np.int64(len(document)).tobytes() + document.tobytes())
        self.fingerprint = {
            **config.fingerprint(),
            "model": model.config.to_dict(),
            "data": digest.hexdigest(),
        }

    def run(self, resume: bool = False, stop_after: int | None = None) -> Result:
        """Train to ``config.steps``, or until ``stop_after`` steps are done, or Ctrl-C.

        Parameters
        ----------
        resume : bool
            Go on from the newest checkpoint in the directory; without one, or without this, start afresh.
        stop_after : int, optional
            Stop (with a checkpoint) once this many steps are done in all.

        Raises
        ------
        CheckpointError
            The directory holds another run's checkpoints, or, without ``resume``, any.
        DivergenceError
            The loss or gradient norm is not finite.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        optimizer = make_optimizer(self.model, self.config)
        existing = list_checkpoints(self.directory)
        state = RunState()
        if existing and not resume:
            raise CheckpointError(
                f"{self.directory} holds {existing[-1].name}: resume that run or choose another directory"
            )
        init_weights(self.model, self.config.seed)
        if existing:
            state = load_checkpoint(existing[-1], self.model, optimizer, self.fingerprint)
        mx.eval(self.model.parameters(), optimizer.state)
        progress = Progress(self.directory / "train.log", self.config, state.step, self.quiet)
        if state.step:
            progress.note(f"resumed at step {state.step}")
        target = min(self.config.steps, stop_after or self.config.steps)
        try:
            with interruptible() as interrupted:
                self._loop(state, optimizer, progress, target, interrupted)
        finally:
            progress.close()
        write_curve(self.directory, state.history, self.config, png=False)
        return Result(state, interrupted.is_set() and state.step < target)

    def _loop(
        self, state: RunState, optimizer, progress: Progress, target: int, interrupted: threading.Event
    ) -> None:
        config, history = self.config, state.history
        step = make_step(self.model, optimizer, config)
        began, before = time.perf_counter(), history.seconds
        saved = state.step
        while state.step < target and not interrupted.is_set():
            batches, cursor = [], state.cursor
            for _ in range(config.accumulate):
                windows, cursor = self.windows.batch(cursor, config.batch)
                batches.append(mx.array(windows))
            lr = config.learning_rate(state.step)
            loss, norm = step(batches, lr)
            mx.eval(loss, norm, self.model.parameters(), optimizer.state)
            if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
                raise DivergenceError(
                    f"step {state.step + 1}: the loss is {loss.item()} and the gradient norm {norm.item()}; "
                    f"the last checkpoint is of step {saved}: lower the learning rate from {config.lr}"
                )
            state.step, state.cursor = state.step + 1, cursor
            history.losses.append(loss.item())
            history.seconds = before + time.perf_counter() - began
            progress.step(state.step, loss.item(), norm.item(), lr)
            if self._due(state.step, config.validate_every) and self.held_out:
                self._validate(state, progress)
                progress.restart_clock(state.step)
            if self._due(state.step, config.checkpoint_every):
                saved = self._save(state, optimizer)
                progress.restart_clock(state.step)
        if saved != state.step:
            self._save(state, optimizer)
        if interrupted.is_set():
            progress.note(f"interrupted: saved a checkpoint at step {state.step}")

    def _due(self, step: int, every: int) -> bool:
        return every > 0 and (step % every == 0 or step == self.config.steps)

    def _validate(self, state: RunState, progress: Progress) -> None:
        context = self.model.config.max_position_embeddings
        bits = bits_per_byte(self.model, self.tokenizer, self.held_out, self.separator, stride=context)
        state.history.validations.append((state.step, bits))
        progress.note(f"step {state.step}: held-out bits per byte {bits:.4f}")

    def _save(self, state: RunState, optimizer) -> int:
        save_checkpoint(self.directory, self.model, optimizer, state, self.fingerprint)
        return state.step
