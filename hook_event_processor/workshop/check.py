"""Checking hooks without running them for an event: what would be refused, and what is likely a slip."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePath

from hook_event_processor.errors import HookEventProcessorError, HookRefused
from hook_event_processor.lua.loader import read_definition
from hook_event_processor.lua.names import libraries_in
from hook_event_processor.workshop.findings import Finding, Severity
from hook_event_processor.workshop.shared import DIRECTORY, shared_beside
from hook_event_processor.workshop.slips import slips_in
from hook_event_processor.workshop.syntax import syntax_fault
from hook_event_processor.workshop.texts import is_hidden

_AT_LINE = re.compile(r"[^:]*:(\d+): (.*)", re.DOTALL)
_QUOTED = re.compile(r"'([^']+)'|near (\S+)")
_ANYTHING = """
local anything = setmetatable({}, {})
local metatable = getmetatable(anything)
metatable.__index = function() return anything end
metatable.__call = function() return anything end
return anything
"""
_WORD = re.compile(r"\w+")


def lua_files(paths: Sequence[str]) -> Iterator[Path]:
    """The files that are named, and all *.lua below the directories that are, in order.

    Hidden files and directories are left out. Raises HookEventProcessorError for what is not there.
    """
    for name in paths:
        path = Path(name)
        if path.is_dir():
            yield from (found for found in sorted(path.rglob("*.lua")) if not is_hidden(found.relative_to(path)))
        elif path.exists():
            yield path
        else:
            raise HookEventProcessorError(f"{name} cannot be read: there is no such file or directory")


def is_spec(path: PurePath) -> bool:
    """Whether a file holds the tests of the hook beside it."""
    return path.stem.endswith("_spec")


def is_shared(path: PurePath) -> bool:
    """Whether a file is shared code, by the directory that it lies in."""
    return path.parent.name == DIRECTORY


def check(text: str, path: PurePath) -> list[Finding]:
    """All findings in a file's text, by line. Specs and shared code are no hooks: only their Lua is checked."""
    fault = syntax_fault(text)
    if fault is not None:
        line, reason = fault
        return [Finding(line, _column(text, line, reason), Severity.ERROR, reason)]
    found: list[Finding] = []
    event_types: tuple[str, ...] = ()
    if not is_spec(path) and not is_shared(path):
        try:
            event_types = read_definition(text, str(path), _libraries(text, Path(path))).event_types
        except HookRefused as refusal:
            found.append(_located(str(refusal), text, path))
    with suppress(RecursionError):  # nested deeper than can be followed: nothing more is known, then
        found += slips_in(text, event_types, is_spec=is_spec(path))
    return sorted(set(found))


def _libraries(text: str, path: Path) -> dict[str, str]:
    """The shared code beside the file. What is not there may be in the database: anything can be asked of it."""
    return {**dict.fromkeys(libraries_in(text), _ANYTHING), **shared_beside(path)}


def _located(reason: str, text: str, path: PurePath) -> Finding:
    """A refusal, which begins with a file and mostly a line, as a finding."""
    located = _AT_LINE.match(reason.removeprefix(str(path)))
    if located is None:
        return Finding(1, 1, Severity.ERROR, reason.removeprefix(f"{path}: "))
    line, message = int(located[1]), located[2]
    return Finding(line, _column(text, line, message), Severity.ERROR, message)


def _column(text: str, number: int, message: str) -> int:
    """Where in the line what the message is about stands, as far as can be told."""
    lines = text.split("\n")
    line = lines[number - 1] if number <= len(lines) else ""
    for quoted in _QUOTED.finditer(message):
        at = line.find(quoted[1] or quoted[2])
        if at >= 0:
            return at + 1
    # Without a quoted word, the first one of the message: the key that it is about.
    first = _WORD.match(message)
    at = line.find(first[0]) if first else -1
    return at + 1 if at >= 0 else len(line) - len(line.lstrip()) + 1
