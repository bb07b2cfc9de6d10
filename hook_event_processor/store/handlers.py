"""The rows of Python handlers: code that processors register, beside the Lua hooks that people add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import Connection


@dataclass(frozen=True, slots=True)
class HandlerRow:
    """What a handler's row says: its patterns are written source/action."""

    name: str
    event_types: list[str]
    description: str


_KNOWN = "SELECT name, event_types, description FROM hooks WHERE kind = 'python'"
# A Lua hook of that name keeps it; the handler then has no row, and does not run.
_REGISTER = """
INSERT INTO hooks (name, kind, event_types, description) VALUES (%s, 'python', %s, %s)
ON CONFLICT (name) DO UPDATE SET event_types = excluded.event_types, description = excluded.description
WHERE hooks.kind = 'python'
"""


def register(connection: Connection, handlers: Sequence[HandlerRow]) -> None:
    """Write the rows that are new or changed; others are not touched, and no processor reloads for them."""
    known = {row[0]: HandlerRow(*row) for row in connection.execute(_KNOWN).fetchall()}
    for handler in handlers:
        if known.get(handler.name) != handler:
            connection.execute(_REGISTER, (handler.name, handler.event_types, handler.description))


_COUNT = """
UPDATE hooks h SET run_count = h.run_count + ran.count, last_run = greatest(h.last_run, clock_timestamp())
FROM unnest(%s::bigint[], %s::bigint[]) AS ran (hook_id, count)
WHERE h.id = ran.hook_id
"""


def count_runs(connection: Connection, runs: dict[int, int]) -> None:
    """Add runs, by hook id, to the hooks' own counts."""
    connection.execute(_COUNT, (list(runs), list(runs.values())))
