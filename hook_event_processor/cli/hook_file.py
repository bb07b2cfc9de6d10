"""A hook's file with what is said over it: options, or what the database remembers of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hook_event_processor.errors import HookRefused, UsageError
from hook_event_processor.hook_limits import NAME_CHARACTERS
from hook_event_processor.workshop.texts import decoded, read_text

if TYPE_CHECKING:
    from hook_event_processor.lua.loader import Definition
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hook_changes import NewHook
    from hook_event_processor.store.hooks import KnownHook
    from hook_event_processor.store.libraries import Library

_T = TypeVar("_T")
PRIORITIES = range(-(2**31), 2**31)
_OVERRIDES = ("name", "event_types", "stack", "priority", "description")


@dataclass(frozen=True, slots=True)
class LuaFile:
    """A Lua text, the path to remember, and the name that it gives what it holds (empty: none)."""

    text: str
    path: str
    stem: str


@dataclass(frozen=True, slots=True)
class LibraryText:
    """One version of a library that a hook may name."""

    version: int
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """What is said over a hook's file.

    `overrides` may have name, event_types, stack ('' for none), priority and
    description; `texts` are parameters as --set writes them, `params` as values.
    """

    name: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    disabled: bool | None = None
    source: str | None = None
    reason: str = ""


def read_hook(arguments: argparse.Namespace, settings: Settings) -> tuple[NewHook, Definition]:
    """The hook that `hep hook add` is to store, without libraries. Raises HookRefused or UsageError."""
    return hook_of(read_file(arguments.file), said_by(arguments), {}, settings)


def said_by(arguments: argparse.Namespace) -> Said:
    """What the options of `hep hook add` say. Raises UsageError."""
    from hook_event_processor.lua.params import parse_set

    if arguments.priority is not None and arguments.priority not in PRIORITIES:
        raise UsageError(f"--priority is {arguments.priority}: it takes a number of 32 bits; lower runs first")
    given = (arguments.name, arguments.event or None, arguments.stack, arguments.priority, arguments.description)
    return Said(
        name=arguments.name,
        overrides={name: value for name, value in zip(_OVERRIDES, given, strict=True) if value is not None},
        texts=parse_set(arguments.set or []),
        disabled=arguments.disabled,
    )


def said_of(hook: KnownHook, reason: str = "") -> Said:
    """What was said over the file of a hook that is stored."""
    return Said(hook.name, hook.overrides, params=hook.params, source=hook.source, reason=reason)


def newest_texts(libraries: Mapping[str, Library]) -> dict[str, LibraryText]:
    """All libraries in their newest versions."""
    return {name: LibraryText(library.version, library.source_text) for name, library in libraries.items()}


def hook_of(
    file: LuaFile, said: Said, shared: Mapping[str, LibraryText], settings: Settings
) -> tuple[NewHook, Definition]:
    """The hook that a file makes with what is said over it. Raises HookRefused."""
    from hook_event_processor.lua.loader import read_definition
    from hook_event_processor.store.hook_changes import NewHook

    definition = read_definition(file.text, file.path, {name: code.text for name, code in shared.items()})
    over = said.overrides
    event_types = over.get("event_types") or definition.event_types
    if not event_types:
        raise HookRefused(f"{file.path}: the hook names no event_type: add one to its table, or give --event")
    hook = NewHook(
        name=_checked_name(said.name or definition.name or file.stem),
        description=over.get("description", definition.description),
        event_types=tuple(event_types),
        stack=over.get("stack", definition.stack) or None,
        priority=over.get("priority", definition.priority),
        timeout_seconds=_first(definition.timeout_seconds, settings.hook_timeout),
        retry=definition.retry,
        source_text=file.text,
        file_path=file.path,
        disabled=said.disabled,
        modules=definition.modules,
        libraries={name: shared[name].version for name in definition.libraries},
        params=_params(file, said, definition),
        param_defaults=definition.params,
        overrides=over,
        source=said.source,
        reason=said.reason,
    )
    return hook, definition


def _params(file: LuaFile, said: Said, definition: Definition) -> dict[str, Any]:
    from hook_event_processor.lua.params import check, values_of

    try:
        return check(definition.params, {**said.params, **values_of(definition.params, said.texts)})
    except HookRefused as refusal:
        raise HookRefused(f"{file.path}: {refusal}") from None


def read_file(file: str) -> LuaFile:
    """Read a file, or standard input for `-`. Raises HookRefused; its size is the loader's to refuse."""
    if file == "-":
        return LuaFile(decoded(sys.stdin.buffer.read(), "standard input"), "standard input", "")
    path = Path(file)
    return LuaFile(read_text(path), str(path.absolute()), path.stem)


def _checked_name(name: str) -> str:
    if not name:
        raise HookRefused("the hook has no name: add one to its table, or give --name")
    if len(name) > NAME_CHARACTERS or not name.isprintable() or name != name.strip():
        raise HookRefused(
            f"{name[:80]!r} is no name for a hook: it takes at most {NAME_CHARACTERS} printable characters,"
            " none of them a space at either end"
        )
    return name


def _first(given: _T | None, otherwise: _T) -> _T:
    return otherwise if given is None else given
