"""Markdown on a terminal while it is still being written."""

from __future__ import annotations

from typing import Any


def whole_blocks(text: str) -> int:
    """Return how much of ``text`` is Markdown blocks that are done: up to the last blank line outside code.

    Examples
    --------
    >>> whole_blocks("one\\n\\ntwo")
    5
    >>> whole_blocks("```\\na\\n\\nb")
    0
    """
    done = at = 0
    fence: str | None = None
    for line in text.splitlines(keepends=True):
        at += len(line)
        mark = line.lstrip()[:3]
        if fence is None and mark in ("```", "~~~"):
            fence = mark
        elif fence is not None and mark == fence:
            fence = None
        elif fence is None and line.endswith("\n") and not line.strip():
            done = at
    return done


class MarkdownStream:
    """Prints Markdown as it comes: blocks that are done for good, the last one anew with every piece.

    Parameters
    ----------
    console : rich.console.Console
        Where to print.
    """

    def __init__(self, console: Any) -> None:
        from rich.live import Live

        self._console = console
        self._text = ""
        self._live = Live(console=console, transient=True, refresh_per_second=12, auto_refresh=False)
        self._live.start()

    def add(self, piece: str) -> None:
        """Print more text."""
        from rich.markdown import Markdown

        self._text += piece
        done = whole_blocks(self._text)
        if done:
            self._live.update("", refresh=True)
            self._console.print(Markdown(self._text[:done]))
            self._text = self._text[done:]
        # What does not fit on the screen cannot be taken back: the end of a long block shows while it grows.
        lines = self._text.splitlines()[-max(1, self._console.height - 2) :]
        self._live.update(Markdown("\n".join(lines)), refresh=True)

    def finish(self) -> None:
        """Print the rest."""
        from rich.markdown import Markdown

        self._live.update("", refresh=True)
        self._live.stop()
        if self._text.strip():
            self._console.print(Markdown(self._text))
        self._text = ""
