"""The event types that people added to the catalog, and those that hooks name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb


@dataclass(frozen=True, slots=True)
class AddedType:
    """A type that was added, with the JSON Schema of its payload ({} allows any)."""

    type: str
    description: str
    schema: Any
    created_at: datetime
    updated_at: datetime


_COLUMNS = "type, description, schema, created_at, updated_at"
_ADD = """
INSERT INTO event_types AS known (type, description, schema) VALUES (%(type)s, %(description)s, %(schema)s)
ON CONFLICT (type) DO UPDATE SET description = excluded.description, schema = excluded.schema, updated_at = now()
WHERE (known.description, known.schema) IS DISTINCT FROM (excluded.description, excluded.schema)
RETURNING xmax = 0
"""


def all_types(connection: Connection) -> list[AddedType]:
    """Every type that was added, by name."""
    with connection.cursor(row_factory=class_row(AddedType)) as cursor:
        return cursor.execute(f"SELECT {_COLUMNS} FROM event_types ORDER BY type").fetchall()


def patterns_of_hooks(connection: Connection) -> set[str]:
    """Every pattern that a hook has, whether it is enabled or not."""
    rows = connection.execute(
        "SELECT DISTINCT pattern FROM hooks, unnest(event_types) AS pattern WHERE pattern IS NOT NULL"
    ).fetchall()
    return {row[0] for row in rows}


def find(connection: Connection, event_type: str) -> AddedType | None:
    """The type of that name, if it was added: locked until the transaction's end."""
    with connection.cursor(row_factory=class_row(AddedType)) as cursor:
        found = f"SELECT {_COLUMNS} FROM event_types WHERE type = %s FOR UPDATE"
        return cursor.execute(found, (event_type,)).fetchone()


def add(connection: Connection, event_type: str, description: str, schema: Any) -> str:
    """Store a type, or what is new about it; returns added, changed or unchanged."""
    values = {"type": event_type, "description": description, "schema": Jsonb(schema)}
    row = connection.execute(_ADD, values).fetchone()
    if row is None:
        return "unchanged"
    return "added" if row[0] else "changed"


def remove(connection: Connection, event_type: str) -> bool:
    """Remove a type that was added; False when there is none of that name."""
    return connection.execute("DELETE FROM event_types WHERE type = %s", (event_type,)).rowcount == 1
