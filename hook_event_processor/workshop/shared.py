"""Shared code as it lies beside hooks, before it is in the database: lib/NAME.lua, required as lib.NAME."""

from __future__ import annotations

from pathlib import Path

from hook_event_processor.workshop.texts import read_text

DIRECTORY = "lib"


def shared_beside(path: Path) -> dict[str, str]:
    """Names and texts of the shared code in the directory of a hook's file. Raises HookRefused."""
    return {file.stem: read_text(file) for file in sorted((path.parent / DIRECTORY).glob("*.lua"))}
