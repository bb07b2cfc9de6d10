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
    return Path(path).absolute().parent.name == DIRECTORY


def check(text: str, path: PurePath) -> list[Finding]:
    """All findings in a file's text, by line. Specs and shared code are no hooks: only their Lua is checked."""
    fault = syntax_fault(text)
    if fault is not None:
        line, reason = fault
        return [Finding(line, _column(text, line, reason), Severity.ERROR, reason)]
    found: list[Finding] = []
    event_types: tuple[str, ...] = ()
    if not is_spec(path) and not is_shared(path):
        found, event_types = _read(text, path)
    with suppress(RecursionError):  # nested deeper than can be followed: nothing more is known, then
        found += slips_in(text, event_types, is_spec=is_spec(path))
    return sorted(set(found))


def _read(text: str, path: PurePath) -> tuple[list[Finding], tuple[str, ...]]:
    """Why `hep hook add` would refuse the text, if it would, and its event types."""
    try:
        shared = shared_beside(Path(path))
        missing = [name for name in libraries_in(text) if name not in shared]
        if missing:
            # It may be in the database; what the hook's table holds cannot be told without it.
            note = f"{DIRECTORY}/{missing[0]}.lua is not beside the hook: what its table holds was not checked"
            return [Finding(1, 1, Severity.NOTE, note)], ()
        return [], read_definition(text, str(path), shared).event_types
    except HookRefused as refusal:
        return [_located(str(refusal), text, path)], ()


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
    if message.endswith("<eof>"):
        return len(line) + 1
    # What the message quotes, else its first word: the key that it is about.
    words = [quoted[1] or quoted[2] for quoted in _QUOTED.finditer(message)] + _WORD.findall(message)[:1]
    for word in words:
        found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)" if word.isalnum() else re.escape(word), line)
        if found:
            return found.start() + 1
    return len(line) - len(line.lstrip()) + 1
