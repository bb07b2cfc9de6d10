"""A hook's file with the options that override it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hook_event_processor.errors import HookRefused, UsageError

if TYPE_CHECKING:
    from hook_event_processor.lua.loader import Definition
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hooks import NewHook

_T = TypeVar("_T")
_LONGEST_NAME = 200
_PRIORITIES = range(-(2**31), 2**31)


def read_hook(arguments: argparse.Namespace, settings: Settings) -> tuple[NewHook, Definition]:
    """The hook that `hep hook add` is to store. Raises HookRefused, PatternRefused or UsageError."""
    from hook_event_processor.lua.loader import read_definition
    from hook_event_processor.registry import parse_pattern
    from hook_event_processor.store.hooks import NewHook

    text, path = _read(arguments.file)
    definition = read_definition(text, path)
    for pattern in arguments.event or ():
        parse_pattern(pattern)
    event_types = arguments.event or definition.event_types
    if not event_types:
        raise HookRefused(f"{path}: the hook names no event_type: add one to its table, or give --event")
    if arguments.priority is not None and arguments.priority not in _PRIORITIES:
        raise UsageError(f"--priority is {arguments.priority}: it takes a number of 32 bits; lower runs first")
    hook = NewHook(
        name=_checked_name(arguments.name or definition.name or _stem(arguments.file)),
        description=_first(arguments.description, definition.description),
        event_types=tuple(event_types),
        stack=_first(arguments.stack, definition.stack) or None,
        priority=_first(arguments.priority, definition.priority),
        timeout_seconds=_first(definition.timeout_seconds, settings.hook_timeout),
        retry=definition.retry,
        source_text=text,
        file_path=path,
        disabled=arguments.disabled,
    )
    return hook, definition


def _read(file: str) -> tuple[str, str]:
    """The text, and the path to remember; NUL and size are the loader's to refuse."""
    try:
        if file == "-":
            return sys.stdin.buffer.read().decode(), "standard input"
        path = Path(file).absolute()
        return path.read_text(encoding="utf-8"), str(path)
    except UnicodeDecodeError as fault:
        raise HookRefused(f"{file} is not a Lua source file: byte {fault.start} is not UTF-8") from None
    except OSError as fault:
        raise HookRefused(f"{file} cannot be read: {fault.strerror}") from None


def _stem(file: str) -> str:
    if file == "-":
        raise HookRefused("the hook has no name: add one to its table, or give --name")
    return Path(file).stem


def _checked_name(name: str) -> str:
    if len(name) > _LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise HookRefused(
            f"{name[:80]!r} is no name for a hook: it takes at most {_LONGEST_NAME} printable characters,"
            " none of them a space at either end"
        )
    return name


def _first(given: _T | None, otherwise: _T) -> _T:
    return otherwise if given is None else given
