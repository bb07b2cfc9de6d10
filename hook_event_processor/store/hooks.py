"""Hooks and their versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row


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
