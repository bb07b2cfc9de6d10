"""Libraries, the Lua code that hooks share as lib.NAME, and their versions."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from datetime import datetime

from psycopg import Connection
from psycopg.rows import class_row

from hook_event_processor.errors import NotFound
from hook_event_processor.store.hook_changes import Change, lock


@dataclass(frozen=True, slots=True)
class Library:
    """A library in its newest version. `source`: where `hep hook apply` took it from."""

    id: int
    name: str
    version: int
    file_path: str
    source: str | None
    created_at: datetime
    updated_at: datetime
    sha256: str
    source_text: str


@dataclass(frozen=True, slots=True)
class LibraryVersion:
    """One text that a library has had."""

    version: int
    sha256: str
    file_path: str
    created_at: datetime
    source_text: str


_LIBRARY = """
SELECT l.id, l.name, l.version, l.file_path, l.source, l.created_at, l.updated_at, v.sha256, v.source_text
FROM hook_libraries l JOIN hook_library_versions v ON v.library_id = l.id AND v.version = l.version
"""


def known(connection: Connection) -> dict[str, Library]:
    """All libraries in their newest versions, by name."""
    with connection.cursor(row_factory=class_row(Library)) as cursor:
        rows = cursor.execute(f"{_LIBRARY} ORDER BY l.name").fetchall()
    return {row.name: row for row in rows}


def get(connection: Connection, name: str) -> Library:
    """The library of that name. Raises NotFound, naming those with names like it."""
    there = known(connection)
    if name not in there:
        near = difflib.get_close_matches(name, there, n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ": 'hep hook lib list' lists them"
        raise NotFound(f"no library has the name {name!r}{hint}")
    return there[name]


def versions(connection: Connection, library_id: int) -> list[LibraryVersion]:
    """Every text that the library has had, newest first."""
    with connection.cursor(row_factory=class_row(LibraryVersion)) as cursor:
        return cursor.execute(
            "SELECT version, sha256, file_path, created_at, source_text FROM hook_library_versions"
            " WHERE library_id = %s ORDER BY version DESC",
            (library_id,),
        ).fetchall()


def texts_in_use(connection: Connection) -> dict[tuple[str, int], str]:
    """The texts of all libraries that enabled hooks run with, by name and version."""
    rows = connection.execute(
        """
        SELECT l.name, v.version, v.source_text
        -- No cast: what no command has written is no version, and must not fail the whole statement.
        FROM (SELECT DISTINCT pin.key AS name, pin.value AS version
              FROM hooks h
              CROSS JOIN LATERAL jsonb_each(CASE jsonb_typeof(h.libraries) WHEN 'object' THEN h.libraries END) AS pin
              WHERE h.enabled) AS used
        JOIN hook_libraries l ON l.name = used.name
        JOIN hook_library_versions v ON v.library_id = l.id AND to_jsonb(v.version) = used.version
        """
    ).fetchall()
    return {(name, version): text for name, version, text in rows}


def text_of(connection: Connection, name: str, version: int) -> str:
    """The text of one version. Raises NotFound."""
    row = connection.execute(
        "SELECT v.source_text FROM hook_libraries l JOIN hook_library_versions v ON v.library_id = l.id"
        " WHERE l.name = %s AND v.version = %s",
        (name, version),
    ).fetchone()
    if row is None:
        raise NotFound(f"the library {name!r} has no version {version}: 'hep hook lib versions {name}' lists them")
    return str(row[0])


def add(connection: Connection, name: str, text: str, file_path: str, source: str | None = None) -> Change:
    """Store a library, or a new version of it. Hooks run with it once they are added again."""
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    with connection.transaction():
        lock(connection)
        before = known(connection).get(name)
        if before and (before.sha256, before.file_path, before.source) == (sha256, file_path, source):
            return Change.UNCHANGED
        replaced = before is None or before.sha256 != sha256
        library_id, version = _write(connection, name, file_path, source, step=int(replaced))
        if not replaced:
            return Change.CHANGED
        connection.execute(
            "INSERT INTO hook_library_versions (library_id, version, source_text, sha256, file_path)"
            " VALUES (%s, %s, %s, %s, %s)",
            (library_id, version, text, sha256, file_path),
        )
    return Change.REPLACED if before else Change.ADDED


def _write(connection: Connection, name: str, file_path: str, source: str | None, step: int) -> tuple[int, int]:
    row = connection.execute(
        """
        INSERT INTO hook_libraries AS l (name, file_path, source, version)
        -- A name that comes back goes on counting: hooks' versions name the old texts by these numbers.
        -- Authors write them, and may write anything.
        SELECT %(name)s, %(file_path)s, %(source)s, 1 + coalesce(max(
            CASE WHEN jsonb_typeof(libraries->%(name)s) = 'number' AND libraries->>%(name)s ~ '^[0-9]{1,9}$'
                 THEN (libraries->>%(name)s)::integer END), 0)
        FROM hook_versions
        ON CONFLICT (name) DO UPDATE SET file_path = excluded.file_path, source = excluded.source,
            version = l.version + %(step)s, updated_at = now()
        RETURNING id, version
        """,
        {"name": name, "file_path": file_path, "source": source, "step": step},
    ).fetchone()
    assert row is not None  # noqa: S101 - RETURNING of one row
    return row[0], row[1]


def remove(connection: Connection, name: str) -> None:
    """Remove a library with its versions. Raises NotFound."""
    connection.execute("DELETE FROM hook_libraries WHERE id = %s", (get(connection, name).id,))
