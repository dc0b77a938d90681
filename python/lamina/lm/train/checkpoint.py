"""Training checkpoints: one file with everything that a run needs to go on exactly.

Initial weights come from the seed, and every data order from the seed and the pass; so the state of all
randomness is the seed (in the settings) and the data cursor.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lamina.core as mx
import lamina.optimizers as optim
from lamina.lm.errors import CheckpointError
from lamina.lm.io import load_tensors, replacing
from lamina.lm.models import Llama
from lamina.lm.train.data import Cursor
from lamina.utils import tree_flatten, tree_unflatten

_NAME = re.compile(r"checkpoint-(\d{8})\.safetensors")


@dataclass
class History:
    """What a run has measured: per-step losses (nats per token) and validations ``(step, bits per byte)``."""

    losses: list[float] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class RunState:
    """Where a run stands: steps done, next window to read, and its history."""

    step: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    history: History = field(default_factory=History)


def save_checkpoint(
    directory: Path,
    model: Llama,
    optimizer: optim.Optimizer,
    state: RunState,
    fingerprint: dict[str, Any],
    keep: int = 2,
) -> Path:
    """Write ``checkpoint-<step>.safetensors`` whole or not at all; drop all but the ``keep`` newest."""
    arrays = {f"model.{k}": v for k, v in tree_flatten(model.parameters())}
    arrays.update({f"optimizer.{k}": v for k, v in tree_flatten(optimizer.state)})
    meta = {"state": json.dumps(dataclasses.asdict(state)), "fingerprint": json.dumps(fingerprint)}
    path = directory / f"checkpoint-{state.step:08d}.safetensors"
    with replacing(path) as tmp:
        mx.save_safetensors(str(tmp), arrays, meta)
    for old in list_checkpoints(directory)[:-keep]:
        old.unlink()
    return path


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints in ``directory``, oldest first."""
    return sorted(p for p in directory.glob("checkpoint-*.safetensors") if _NAME.fullmatch(p.name))


def load_checkpoint(
    path: Path, model: Llama, optimizer: optim.Optimizer, fingerprint: dict[str, Any]
) -> RunState:
    """Put the checkpoint at ``path`` into ``model`` and ``optimizer`` and return where the run stood.

    Raises
    ------
    CheckpointError
        The file is corrupt, is no training checkpoint, or belongs to a run with other settings, model or
        text.
    """
    arrays, meta = load_tensors(path)
    try:
        saved = json.loads(meta["state"])
        theirs = json.loads(meta["fingerprint"])
        history = History(
            **{**saved["history"], "validations": [tuple(v) for v in saved["history"]["validations"]]}
        )
        state = RunState(saved["step"], Cursor(**saved["cursor"]), history)
    except (KeyError, TypeError, ValueError) as e:
        raise CheckpointError(f"{path} is not a training checkpoint: {e!r}") from e
    differing = sorted(k for k in fingerprint.keys() | theirs.keys() if fingerprint.get(k) != theirs.get(k))
    if differing:
        shown = "; ".join(f"{k}: {theirs.get(k)!r} there, {fingerprint.get(k)!r} here" for k in differing)
        raise CheckpointError(f"{path} belongs to another run, so it cannot be resumed: {shown}")
    restore(path, arrays, "model.", model.parameters(), model.update)
    restore(path, arrays, "optimizer.", optimizer.state, optimizer.state.update)
    return state


def restore(path: Path, arrays: dict[str, mx.array], prefix: str, wanted: Any, put: Any) -> None:
    """Call ``put`` with the tree of the arrays under ``prefix``, which must be like those of ``wanted``."""
    own = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
    for name, old in tree_flatten(wanted):
        if name not in own or tuple(own[name].shape) != tuple(old.shape) or own[name].dtype != old.dtype:
            got = f"{tuple(own[name].shape)} {own[name].dtype}" if name in own else "nothing"
            raise CheckpointError(
                f"{path}: '{prefix}{name}' wants {tuple(old.shape)} {old.dtype}, the file has {got}"
            )
    put(tree_unflatten(list(own.items())))
