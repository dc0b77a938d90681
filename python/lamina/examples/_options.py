"""The command line of an example."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Options:
    """What a run was asked for.

    Attributes
    ----------
    name : str
        Name of the example.
    epochs : int
        Passes over the training data.
    batch : int
        Rows of data in an optimizer step.
    rate : float
        Learning rate.
    seed : int
        Seed of the weights, of the order of the data, and of random numbers in training.
    out : Path
        Directory for the checkpoint and the pictures.
    short, resume, json, plot : bool
        The switches.
    own : mapping of str
        Options that only this example has.
    """

    name: str
    epochs: int
    batch: int
    rate: float
    seed: int
    out: Path
    short: bool = False
    resume: bool = False
    json: bool = False
    plot: bool = True
    own: Mapping[str, Any] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be resumed; the number of epochs may grow."""
        same = {"example": self.name, "batch": self.batch, "rate": self.rate, "seed": self.seed}
        own = {k: str(v) if isinstance(v, Path) else v for k, v in self.own.items()}
        return {**same, "short": self.short, **own}


def at_least(low: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from ``low`` on, for argparse.

    Examples
    --------
    >>> at_least(1)("12")
    12
    """

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value < 2**63:
            raise argparse.ArgumentTypeError(f"wanted a whole number of at least {low}, got {text!r}")
        return value

    return read


def above_zero(text: str) -> float:
    """Read a finite number above 0, for argparse.

    Examples
    --------
    >>> above_zero("1e-3")
    0.001
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"wanted a number above 0, got {text!r}")
    return value


def text_options(length: int) -> dict[str, dict[str, Any]]:
    """The options of an example that learns text, ``length`` characters in a window unless asked otherwise.

    Examples
    --------
    >>> sorted(text_options(64))
    ['length', 'text']
    """
    return {
        "text": {"type": Path, "metavar": "FILE", "help": "text to learn (default: lamina's sources)"},
        "length": {
            "type": at_least(1),
            "default": length,
            "metavar": "N",
            "help": "characters in a window (%(default)s)",
        },
    }


def read_options(
    argv: Sequence[str] | None,
    name: str,
    about: str | None,
    *,
    epochs: int,
    short_epochs: int,
    batch: int,
    rate: float,
    own: Mapping[str, Mapping[str, Any]] | None = None,
) -> Options:
    """Read an example's command line; wrong arguments end the program with code 2, as argparse does it.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process if not given.
    name, about : str
        The example, and what ``--help`` says about it.
    epochs, batch, rate
        Defaults of the options of these names.
    short_epochs : int
        Default of ``--epochs`` where ``--short`` is given.
    own : mapping, optional
        Further options of this example: argparse's settings by name, without dashes.

    Returns
    -------
    Options
        What was asked for.

    Examples
    --------
    >>> options = read_options(["--short"], "mlp", "Digits.", epochs=9, short_epochs=2, batch=64, rate=1e-3)
    >>> options.epochs, options.batch, str(options.out)
    (2, 64, 'runs/mlp')
    """
    command = f"python -m lamina.examples.{name}"
    parser = argparse.ArgumentParser(
        prog=command,
        description=(about or "").strip(),
        epilog=f"examples:\n  {command}\n  {command} --seed 1 --out runs/{name}-1\n"
        f"  {command} --epochs {2 * epochs} --resume\n  {command} --short --json --no-plot",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--epochs",
        type=at_least(1),
        metavar="N",
        help=f"passes over the data ({epochs}; short: {short_epochs})",
    )
    add("--batch", type=at_least(1), default=batch, metavar="N", help="rows of data in a step (%(default)s)")
    add("--rate", type=above_zero, default=rate, metavar="X", help="learning rate (%(default)s)")
    add("--seed", type=at_least(0), default=0, metavar="N", help="seed of all that is random (%(default)s)")
    for option, settings in (own or {}).items():
        add(f"--{option}", **settings)
    add("--out", type=Path, default=Path("runs") / name, metavar="DIR", help="where files go (%(default)s)")
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    add("--short", action="store_true", help="a run of seconds: fewer epochs, less text")
    add("--json", action="store_true", help="print the result as one JSON object")
    add("--no-plot", dest="plot", action="store_false", help="write no pictures (they want matplotlib)")
    given = vars(parser.parse_args(argv))
    given["epochs"] = given["epochs"] or (short_epochs if given["short"] else epochs)
    taken = {option: given.pop(option.replace("-", "_")) for option in own or {}}
    return Options(name=name, own=taken, **given)
