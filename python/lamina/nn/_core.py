"""Functions of the core that this version may not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lamina.core as mx


def core_function(name: str) -> Callable[..., Any]:
    """Return ``mx.<name>``.

    Raises
    ------
    NotImplementedError
        The core of this version has no such function.
    """
    found: Any = getattr(mx, name, None)
    if found is None:
        raise NotImplementedError(f"[nn] this version of lamina.core has no {name}")
    return found
