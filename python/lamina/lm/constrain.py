"""Answers that must look as asked for: by a JSON schema, a regular expression or a grammar."""

from __future__ import annotations

from typing import Protocol

import lamina.core as mx


class Constraint(Protocol):
    """Says before each token which ones may come."""

    @property
    def finished(self) -> bool:
        """Whether nothing may follow."""
        ...

    def mask(self) -> mx.array:
        """Return which tokens may come next, (V,) of booleans."""
        ...

    def accept(self, token: int) -> None:
        """Take the next token."""
        ...
