"""Hooks and their versions, as processors and operators read them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import orjson
from psycopg import Connection, Cursor
from psycopg.rows import RowMaker, class_row, dict_row

from hook_event_processor.errors import HookRefused, NotFound
from hook_event_processor.hook_limits import EVENT_TYPES_BYTES, STACK_CHARACTERS, TEXT_BYTES, TIMEOUT_SECONDS
from hook_event_processor.same_json import is_same
from hook_event_processor.store.json_text import bounded, short

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredHook:
    """A hook as processors load it. `source_text` is empty for a Python handler; times in seconds.

    `libraries` are the names and versions of the libraries that it runs with.
    They, `retry` and `params` are JSON text as it stands, for stored_object: one
    that Python cannot hold, or that is None as too large, must not keep the
    others from being read. So are `event_types` and `source_text` None as too
    large; of a stack that is too long there is one character too many.
    """

    id: int
    name: str
    kind: str
    event_types: list[str] | None
    stack: str | None
    priority: int
    timeout_seconds: float
    retry: str | None
    version: int
    source_text: str | None
    params: str | None
    libraries: str | None


def _text_of(column: str) -> str:
    # What hooks may have (lua/params.py) takes less in a row, and as text.
    return short(bounded(column, most_bytes="200000"), 1024 * 1024)


# In an array a text takes four times its bytes at the most, or less where it is compressed.
_EVENT_TYPES = f"""
CASE WHEN pg_column_size(h.event_types) <= {4 * EVENT_TYPES_BYTES}
      AND octet_length(h.event_types::text) <= {EVENT_TYPES_BYTES} THEN h.event_types END AS event_types
"""
_SOURCE_TEXT = f"""
CASE WHEN v.source_text IS NULL THEN ''
     WHEN octet_length(v.source_text) <= {TEXT_BYTES} THEN v.source_text END AS source_text
"""


def held(column: str, value: T | None) -> T:
    """What a column holds. Raises ValueError for None, which stands for what is too large."""
    if value is None:
        raise ValueError(f"{column} is too large")
    return value


def stored_object(column: str, text: str | None) -> dict[str, Any]:
    """The object that a column of JSON holds. Raises ValueError when it holds none, or one that is not to be held."""
    given = held(column, text)
    try:
        value = orjson.loads(given)
    except orjson.JSONDecodeError as fault:
        raise ValueError(f"{column} cannot be read: {fault.msg}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{column} is {given[:80]}: it takes an object")
    return value


def timeout_fault(seconds: float) -> str | None:
    """What is wrong with a timeout, if anything is: to PostgreSQL NaN and infinity are numbers, too."""
    low, high = TIMEOUT_SECONDS
    return None if low <= seconds <= high else f"timeout_seconds is {seconds:g}: it takes {low:g} to {high:g}"


def revision(connection: Connection) -> int:
    """The number that grows with every change of what runs."""
    row = connection.execute("SELECT revision FROM hook_registry").fetchone()
    return int(row[0]) if row else 0


def enabled(connection: Connection) -> list[StoredHook]:
    """Every enabled hook in its current version, in the order in which they run."""
    with connection.cursor(row_factory=class_row(StoredHook)) as cursor:
        return cursor.execute(
            f"""
            SELECT h.id, h.name, h.kind, {_EVENT_TYPES}, left(h.stack, {STACK_CHARACTERS + 1}) AS stack, h.priority,
                   h.timeout_seconds, {_text_of("h.retry")} AS retry, h.version, {_SOURCE_TEXT},
                   {_text_of("h.params")} AS params, {_text_of("h.libraries")} AS libraries
            FROM hooks h
            LEFT JOIN hook_versions v ON v.hook_id = h.id AND v.version = h.version
            WHERE h.enabled
            ORDER BY h.priority, h.name
            """
        ).fetchall()


@dataclass(frozen=True, slots=True)
class KnownHook:
    """A hook as operators see it.

    `params` were set over `param_defaults`, `overrides` over what its text
    says; `libraries` are the names and versions of its libraries. `fault` says
    what was written past the commands and makes no sense; the other fields are without it.
    """

    id: int
    name: str
    kind: str
    description: str
    event_types: list[str]
    stack: str | None
    priority: int
    timeout_seconds: float
    retry: Mapping[str, Any]
    enabled: bool
    version: int
    file_path: str
    created_at: datetime
    updated_at: datetime
    last_run: datetime | None
    run_count: int
    modules: list[str]
    params: Mapping[str, Any]
    param_defaults: Mapping[str, Any]
    libraries: Mapping[str, int]
    overrides: Mapping[str, Any]
    source: str | None
    fault: str | None


_OBJECTS = ("retry", "params", "param_defaults", "libraries", "overrides")
_VERSION_OBJECTS = ("params", "libraries")
# The columns of a KnownHook, for known_row.
KNOWN = f"""
id, name, kind, description, event_types, stack, priority, timeout_seconds, enabled, version, file_path,
created_at, updated_at, last_run, run_count, modules, source,
{", ".join(f"{_text_of(name)} AS {name}" for name in _OBJECTS)}
"""


def known_row(cursor: Cursor[Any]) -> RowMaker[KnownHook]:
    """Rows of KNOWN as KnownHook; a psycopg row factory."""
    named = dict_row(cursor)

    def known(values: Sequence[Any]) -> KnownHook:
        row = named(values)
        faults = []
        for column in ("event_types", "modules"):
            texts = [text for text in row[column] if isinstance(text, str)]
            if len(texts) < len(row[column]):
                faults.append(f"{column} holds what is no text")
            row[column] = texts
        if fault := timeout_fault(row["timeout_seconds"]):
            faults.append(fault)
        faults += _read_objects(row, _OBJECTS)
        return KnownHook(**row, fault="; ".join(faults) or None)

    return known


def _read_objects(row: dict[str, Any], columns: Sequence[str]) -> list[str]:
    """Read these columns of a row in place, one that makes no sense or is too large as empty. Returns the faults."""
    faults = []
    for column in columns:
        try:
            row[column] = stored_object(column, row[column])
        except ValueError as fault:
            faults.append(str(fault))
            row[column] = {}
    return faults


@dataclass(frozen=True, slots=True)
class HookVersion:
    """One text that a hook has had, and the params and libraries (names and versions) that it ran with.

    `fault` says what of them makes no sense, and is empty here.
    """

    version: int
    sha256: str
    file_path: str
    created_at: datetime
    source_text: str
    modules: list[str]
    params: Mapping[str, Any]
    libraries: Mapping[str, int]
    reason: str
    fault: str | None


_VERSION = f"""
version, sha256, file_path, created_at, source_text, modules, reason,
{", ".join(f"{_text_of(name)} AS {name}" for name in _VERSION_OBJECTS)}
"""


def _version_row(cursor: Cursor[Any]) -> RowMaker[HookVersion]:
    """Rows of _VERSION as HookVersion; a psycopg row factory."""
    named = dict_row(cursor)

    def version(values: Sequence[Any]) -> HookVersion:
        row = named(values)
        faults = _read_objects(row, _VERSION_OBJECTS)
        return HookVersion(**row, fault="; ".join(faults) or None)

    return version


def using(connection: Connection, library: str) -> list[KnownHook]:
    """The hooks that run with this library, by name."""
    with connection.cursor(row_factory=known_row) as cursor:
        return cursor.execute(f"SELECT {KNOWN} FROM hooks WHERE libraries ? %s ORDER BY name", (library,)).fetchall()


def known_hooks(connection: Connection, stack: str | None = None) -> list[KnownHook]:
    """All hooks by name, or those of one stack."""
    with connection.cursor(row_factory=known_row) as cursor:
        return cursor.execute(
            f"SELECT {KNOWN} FROM hooks WHERE %(stack)s::text IS NULL OR stack = %(stack)s ORDER BY name",
            {"stack": stack},
        ).fetchall()


def get(connection: Connection, name: str) -> KnownHook:
    """The hook of that name. Raises NotFound, naming hooks with names like it."""
    known = find(connection, name)
    if known is None:
        names = [row[0] for row in connection.execute("SELECT name FROM hooks ORDER BY name")]
        near = difflib.get_close_matches(name, names, n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ": 'hep hook list' lists them"
        raise NotFound(f"no hook has the name {name!r}{hint}")
    return known


def version_of(connection: Connection, hook: KnownHook, number: int) -> HookVersion:
    """One version of a hook. Raises NotFound, and HookRefused for one that makes no sense."""
    for version in versions(connection, hook.id):
        if version.version == number:
            if version.fault:
                raise HookRefused(f"version {number} of the hook {hook.name} makes no sense: {version.fault}")
            return version
    raise NotFound(f"the hook {hook.name!r} has no version {number}: 'hep hook versions {hook.name}' lists them")


def versions(connection: Connection, hook_id: int) -> list[HookVersion]:
    """Every text that the hook has had, newest first."""
    with connection.cursor(row_factory=_version_row) as cursor:
        return cursor.execute(
            f"SELECT {_VERSION} FROM hook_versions WHERE hook_id = %s ORDER BY version DESC", (hook_id,)
        ).fetchall()


def is_current(
    connection: Connection, hook: KnownHook, source_text: str, params: Mapping[str, Any], libraries: Mapping[str, int]
) -> bool:
    """Whether the hook's current version has this text, these params and these libraries."""
    with connection.cursor(row_factory=_version_row) as cursor:
        current = cursor.execute(
            f"SELECT {_VERSION} FROM hook_versions WHERE hook_id = %s AND version = %s", (hook.id, hook.version)
        ).fetchone()
    if current is None or current.fault:
        return False
    # By the text: the hash is what whoever wrote the row says.
    return (current.source_text, current.libraries) == (source_text, libraries) and is_same(current.params, params)


def find(connection: Connection, name: str) -> KnownHook | None:
    """The hook of that name, if there is one."""
    with connection.cursor(row_factory=known_row) as cursor:
        return cursor.execute(f"SELECT {KNOWN} FROM hooks WHERE name = %s", (name,)).fetchone()
