"""The lock files pin everything the .in files ask for, each with hashes, and agree with each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).resolve().parents[3] / "requirements"
NAMES = ["build", "run", "test", "check", "bench", "e2e", "mlx_lm", "weights"]


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()


def entries(name: str) -> list[str]:
    """The entries of a lock file, each with its hashes on one line."""
    text = (REQUIREMENTS / f"{name}.lock").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def pins(name: str) -> set[tuple[str, str, str]]:
    """Name, version and marker of each entry of a lock file."""
    found = set()
    for entry in entries(name):
        match = re.match(r"(?P<name>[\w.-]+)==(?P<version>\S+)(?: ; (?P<marker>.*?))?\s+--hash", entry)
        assert match, f"{name}.lock: not a pinned, hashed requirement: {entry[:80]}"
        found.add((canonical(match["name"]), match["version"], match["marker"] or ""))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_is_pinned_and_hashed(name: str) -> None:
    assert pins(name)
    for entry in entries(name):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}(\s|$)", entry)


@pytest.mark.parametrize("name", NAMES)
def test_lock_holds_what_is_wanted(name: str) -> None:
    wanted = {
        canonical(re.split(r"[<>=!~ ]", line)[0])
        for line in (REQUIREMENTS / f"{name}.in").read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert wanted <= {pinned for pinned, _, _ in pins(name)}


@pytest.mark.parametrize("name", NAMES)
def test_no_index_is_named(name: str) -> None:
    for suffix in ("in", "lock"):
        text = (REQUIREMENTS / f"{name}.{suffix}").read_text()
        assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", text)


def test_locks_agree() -> None:
    """One environment takes all of them: under one marker a distribution has one version."""
    versions: dict[tuple[str, str], set[str]] = {}
    for name in NAMES:
        for distribution, version, marker in pins(name):
            versions.setdefault((distribution, marker), set()).add(version)
    assert {key: found for key, found in versions.items() if len(found) > 1} == {}
