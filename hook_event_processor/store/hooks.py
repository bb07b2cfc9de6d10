"""Hooks and their versions."""

from __future__ import annotations

import difflib
import enum
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from hook_event_processor.errors import HookRefused, NotFound


@dataclass(frozen=True, slots=True)
class StoredHook:
    """A hook as processors load it. `source_text` is empty for a Python handler; times in seconds."""

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
                   coalesce(v.source_text, '') AS source_text
            FROM hooks h
            LEFT JOIN hook_versions v ON v.hook_id = h.id AND v.version = h.version
            WHERE h.enabled
            ORDER BY h.priority, h.name
            """
        ).fetchall()


@dataclass(frozen=True, slots=True)
class NewHook:
    """A Lua hook to be stored. Times in seconds; `disabled` None keeps what is (enabled, for a new one)."""

    name: str
    description: str
    event_types: Sequence[str]
    stack: str | None
    priority: int
    timeout_seconds: float
    retry: Mapping[str, Any]
    source_text: str
    file_path: str
    disabled: bool | None = None


@dataclass(frozen=True, slots=True)
class KnownHook:
    """A hook as operators see it."""

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


@dataclass(frozen=True, slots=True)
class HookVersion:
    """One text that a hook has had."""

    version: int
    sha256: str
    file_path: str
    created_at: datetime
    source_text: str


class Change(enum.StrEnum):
    """What adding a hook did."""

    ADDED = "added"
    REPLACED = "replaced"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


def add(connection: Connection, hook: NewHook) -> tuple[Change, KnownHook]:
    """Store a hook, or a new version of the one that has its name.

    The same text as the current one's adds no version. Raises HookRefused
    when a Python handler has the name.
    """
    sha256 = hashlib.sha256(hook.source_text.encode()).hexdigest()
    with connection.transaction():
        # Two who add the same name at once take turns.
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtext(current_schema() || '.hooks'), hashtext(%s))", (hook.name,)
        )
        known = _find(connection, hook.name)
        if known is None:
            change, known = Change.ADDED, _insert(connection, hook)
        elif known.kind != "lua":
            raise HookRefused(f"a Python handler has the name {hook.name!r}: choose another name")
        else:
            change, known = _replace(connection, known, hook, sha256)
        if change in (Change.ADDED, Change.REPLACED):
            connection.execute(
                "INSERT INTO hook_versions (hook_id, version, source_text, sha256, file_path)"
                " VALUES (%s, %s, %s, %s, %s)",
                (known.id, known.version, hook.source_text, sha256, hook.file_path),
            )
    return change, known


def _insert(connection: Connection, hook: NewHook) -> KnownHook:
    values = {**_values(hook), "retry": Jsonb(hook.retry), "enabled": not hook.disabled}
    return _one(
        connection,
        f"""
        INSERT INTO hooks (name, description, event_types, stack, priority, timeout_seconds, retry, enabled, file_path)
        VALUES (%(name)s, %(description)s, %(event_types)s, %(stack)s, %(priority)s, %(timeout_seconds)s, %(retry)s,
                %(enabled)s, %(file_path)s)
        RETURNING {_KNOWN}
        """,
        values,
    )


def _replace(connection: Connection, known: KnownHook, hook: NewHook, sha256: str) -> tuple[Change, KnownHook]:
    newest = connection.execute(
        "SELECT max(version), max(sha256) FILTER (WHERE version = %s) FROM hook_versions WHERE hook_id = %s",
        (known.version, known.id),
    ).fetchone()
    replaced = newest is None or newest[1] != sha256
    version = (newest[0] or 0) + 1 if newest and replaced else known.version
    enabled = known.enabled if hook.disabled is None else not hook.disabled
    values = {**_values(hook), "enabled": enabled, "version": version}
    if all(getattr(known, name) == values[name] for name in _COMPARED):
        return Change.UNCHANGED, known
    changed = _one(
        connection,
        f"""
        UPDATE hooks SET description = %(description)s, event_types = %(event_types)s, stack = %(stack)s,
            priority = %(priority)s, timeout_seconds = %(timeout_seconds)s, retry = %(retry)s, enabled = %(enabled)s,
            version = %(version)s, file_path = %(file_path)s, updated_at = now()
        WHERE name = %(name)s RETURNING {_KNOWN}
        """,
        {**values, "retry": Jsonb(hook.retry)},
    )
    return (Change.REPLACED if replaced else Change.CHANGED), changed


def known_hooks(connection: Connection, stack: str | None = None) -> list[KnownHook]:
    """All hooks by name, or those of one stack."""
    with connection.cursor(row_factory=class_row(KnownHook)) as cursor:
        return cursor.execute(
            f"SELECT {_KNOWN} FROM hooks WHERE %(stack)s::text IS NULL OR stack = %(stack)s ORDER BY name",
            {"stack": stack},
        ).fetchall()


def get(connection: Connection, name: str) -> KnownHook:
    """The hook of that name. Raises NotFound, naming hooks with names like it."""
    known = _find(connection, name)
    if known is None:
        names = [row[0] for row in connection.execute("SELECT name FROM hooks ORDER BY name")]
        near = difflib.get_close_matches(name, names, n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ": 'hep hook list' lists them"
        raise NotFound(f"no hook has the name {name!r}{hint}")
    return known


def set_enabled(connection: Connection, name: str, enabled: bool) -> bool:
    """Enable or disable a hook; False when it is so already. Raises NotFound."""
    hook = get(connection, name)
    if hook.enabled == enabled:
        return False  # an UPDATE, even of no row, would make every processor reload
    connection.execute("UPDATE hooks SET enabled = %s, updated_at = now() WHERE id = %s", (enabled, hook.id))
    return True


def remove(connection: Connection, name: str) -> KnownHook:
    """Remove a hook with its versions; its executions stay. Raises NotFound."""
    hook = get(connection, name)
    connection.execute("DELETE FROM hooks WHERE id = %s", (hook.id,))
    return hook


def versions(connection: Connection, hook_id: int) -> list[HookVersion]:
    """Every text that the hook has had, newest first."""
    with connection.cursor(row_factory=class_row(HookVersion)) as cursor:
        return cursor.execute(
            "SELECT version, sha256, file_path, created_at, source_text FROM hook_versions"
            " WHERE hook_id = %s ORDER BY version DESC",
            (hook_id,),
        ).fetchall()


_KNOWN = """
id, name, kind, description, event_types, stack, priority, timeout_seconds, retry, enabled, version, file_path,
created_at, updated_at, last_run, run_count
"""
_COMPARED = (
    *("description", "event_types", "stack", "priority", "timeout_seconds", "retry", "enabled", "version"),
    "file_path",
)


def _values(hook: NewHook) -> dict[str, Any]:
    return {
        "name": hook.name,
        "description": hook.description,
        "event_types": list(hook.event_types),
        "stack": hook.stack,
        "priority": hook.priority,
        "timeout_seconds": hook.timeout_seconds,
        "retry": dict(hook.retry),
        "file_path": hook.file_path,
    }


def _find(connection: Connection, name: str) -> KnownHook | None:
    with connection.cursor(row_factory=class_row(KnownHook)) as cursor:
        return cursor.execute(f"SELECT {_KNOWN} FROM hooks WHERE name = %s", (name,)).fetchone()


def _one(connection: Connection, statement: str, values: Mapping[str, Any]) -> KnownHook:
    with connection.cursor(row_factory=class_row(KnownHook)) as cursor:
        row = cursor.execute(statement, values).fetchone()
    assert row is not None  # noqa: S101 - RETURNING of one row
    return row
