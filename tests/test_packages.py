"""What the wheel takes along: nothing of the package may be missing from the list in pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# They lie beside the package in a checkout.
BESIDE = {"hook_event_processor.sql", "hook_event_processor.systemd"}


def test_every_package_goes_into_the_wheel() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    files = [file for kind in ("*.py", "*.lua", "*.toml") for file in (ROOT / "hook_event_processor").rglob(kind)]
    there = {".".join(file.parent.relative_to(ROOT).parts) for file in files}
    assert there - listed == set()
    assert listed - there == BESIDE
