"""Hooks and their versions, as processors and operators read them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

from hook_event_processor.errors import NotFound


@dataclass(frozen=True, slots=True)
class StoredHook:
    """A hook as processors load it. `source_text` is empty for a Python handler; times in seconds.

    `libraries` are the names and versions of the libraries that it runs with.
    """

    id: int
    name: str
    kind: str
    event_types: list[str]
    stack: str | None
    priority: int
    timeout_seconds: float
    retry: Mapping[str, Any]
    version: int
    source_text: str
    params: Mapping[str, Any]
    libraries: Mapping[str, int]


def revision(connection: Connection) -> int:
    """The number that grows with every change of what runs."""
    row = connection.execute("SELECT revision FROM hook_registry").fetchone()
    return int(row[0]) if row else 0


def enabled(connection: Connection) -> list[StoredHook]:
    """Every enabled hook in its current version, in the order in which they run."""
    with connection.cursor(row_factory=class_row(StoredHook)) as cursor:
        return cursor.execute(
            """
            SELECT h.id, h.name, h.kind, h.event_types, h.stack, h.priority, h.timeout_seconds, h.retry, h.version,
                   coalesce(v.source_text, '') AS source_text, h.params, h.libraries
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
    says; `libraries` are the names and versions of its libraries.
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


@dataclass(frozen=True, slots=True)
class HookVersion:
    """One text that a hook has had, and the params and libraries (names and versions) that it ran with."""

    version: int
    sha256: str
    file_path: str
    created_at: datetime
    source_text: str
    modules: list[str]
    params: Mapping[str, Any]
    libraries: Mapping[str, int]
    reason: str


def using(connection: Connection, library: str) -> list[KnownHook]:
    """The hooks that run with this library, by name."""
    with connection.cursor(row_factory=class_row(KnownHook)) as cursor:
        return cursor.execute(f"SELECT {KNOWN} FROM hooks WHERE libraries ? %s ORDER BY name", (library,)).fetchall()


def known_hooks(connection: Connection, stack: str | None = None) -> list[KnownHook]:
    """All hooks by name, or those of one stack."""
    with connection.cursor(row_factory=class_row(KnownHook)) as cursor:
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
    """One version of a hook. Raises NotFound."""
    for version in versions(connection, hook.id):
        if version.version == number:
            return version
    raise NotFound(f"the hook {hook.name!r} has no version {number}: 'hep hook versions {hook.name}' lists them")


def versions(connection: Connection, hook_id: int) -> list[HookVersion]:
    """Every text that the hook has had, newest first."""
    with connection.cursor(row_factory=class_row(HookVersion)) as cursor:
        return cursor.execute(
            "SELECT version, sha256, file_path, created_at, source_text, modules, params, libraries, reason"
            " FROM hook_versions WHERE hook_id = %s ORDER BY version DESC",
            (hook_id,),
        ).fetchall()


# The columns of a KnownHook.
KNOWN = """
id, name, kind, description, event_types, stack, priority, timeout_seconds, retry, enabled, version, file_path,
created_at, updated_at, last_run, run_count, modules, params, param_defaults, libraries,
overrides, source
"""


def find(connection: Connection, name: str) -> KnownHook | None:
    """The hook of that name, if there is one."""
    with connection.cursor(row_factory=class_row(KnownHook)) as cursor:
        return cursor.execute(f"SELECT {KNOWN} FROM hooks WHERE name = %s", (name,)).fetchone()
