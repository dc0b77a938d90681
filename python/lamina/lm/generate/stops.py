"""Texts that end an answer, wherever tokens begin and end."""

from __future__ import annotations

from collections.abc import Sequence

from lamina.lm.errors import LMError


class StopStrings:
    """Lets text through piece by piece, up to the first of the texts that end it.

    What may be the beginning of such a text is held back until it is known.

    Parameters
    ----------
    stops : sequence of str
        The texts; none of them empty.

    Attributes
    ----------
    found : str or None
        The text that ended it; it and what follows are not let through.

    Raises
    ------
    LMError
        One of the texts is empty, or not a text.

    Examples
    --------
    >>> stops = StopStrings(["END"])
    >>> [stops.add(piece) for piece in ("one E", "NT two EN", "D three")], stops.found
    (['one ', 'ENT two ', ''], 'END')
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if isinstance(stops, str):
            raise LMError(f"stop must be a list of texts, got the text {stops!r}")
        for stop in stops:
            if not isinstance(stop, str) or not stop:
                raise LMError(f"a stop text must not be empty, got {stop!r}")
        self._stops = tuple(stops)
        self._longest = max((len(s) for s in self._stops), default=0)
        self._held = ""
        self.found: str | None = None

    def add(self, text: str) -> str:
        """Take more text; return what can be let through."""
        if self.found is not None:
            return ""
        held = self._held + text
        places = [(at, stop) for stop in self._stops if (at := held.find(stop)) >= 0]
        if places:
            # Of stops at one place the longest says most.
            at, self.found = min(places, key=lambda p: (p[0], -len(p[1])))
            self._held = ""
            return held[:at]
        keep = self._beginning(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def finish(self) -> str:
        """Return the text held back, once no more will come."""
        held, self._held = self._held, ""
        return held

    def _beginning(self, text: str) -> int:
        """Return the length of the longest end of ``text`` that begins a stop."""
        for size in range(min(len(text), self._longest - 1), 0, -1):
            end = text[-size:]
            if any(stop.startswith(end) for stop in self._stops):
                return size
        return 0
