"""Starters: hooks to begin with, each with its spec, written under a name of the author's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from hook_event_processor.errors import HookEventProcessorError, UsageError
from hook_event_processor.workshop.spec import SUFFIX

_PLACE = "__NAME__"  # where a starter has the hook's name
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Starter:
    """A hook to begin with; `summary` is the first line of its text."""

    name: str
    text: str
    spec: str

    @property
    def summary(self) -> str:
        return self.text.partition("\n")[0].removeprefix("-- ")


@cache
def starters() -> tuple[Starter, ...]:
    """All of them, by name."""
    folder = files("hook_event_processor.workshop") / "templates"
    texts = {
        path.name.removesuffix(".lua"): path.read_text() for path in folder.iterdir() if path.name.endswith(".lua")
    }
    names = sorted(name for name in texts if not name.endswith(SUFFIX))
    return tuple(Starter(name, texts[name], texts[f"{name}{SUFFIX}"]) for name in names)


def write_starter(starter: Starter, name: str, directory: Path) -> tuple[Path, Path]:
    """Write the hook and its spec; returns both paths.

    Raises UsageError for what is no name, HookEventProcessorError when a
    file is there already (nothing is written, then) or cannot be written.
    """
    if not _NAME.fullmatch(name) or name.endswith((".lua", SUFFIX)):
        raise UsageError(f"{name!r} is no name for a hook's file: it takes letters, digits and _.-, without .lua")
    paths = directory / f"{name}.lua", directory / f"{name}{SUFFIX}.lua"
    for path in paths:
        if path.exists():
            raise HookEventProcessorError(f"{path} is there already: choose another name, or another --dir")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, (starter.text, starter.spec), strict=True):
            with path.open("x", encoding="utf-8") as file:
                file.write(text.replace(_PLACE, name))
    except OSError as fault:
        raise HookEventProcessorError(f"{fault.filename or directory} cannot be written: {fault.strerror}") from None
    return paths
