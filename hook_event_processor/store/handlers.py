"""The rows of Python handlers: code that processors register, beside the Lua hooks that people add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


# Somebody who is changing a hook may take hours over it: its runs are counted later.
_COUNT = """
WITH ran AS (
    SELECT * FROM unnest(%s::bigint[], %s::bigint[]) AS ran (hook_id, count)
), free AS (
    SELECT h.id, ran.count FROM ran JOIN hooks h ON h.id = ran.hook_id FOR NO KEY UPDATE OF h SKIP LOCKED
), counted AS (
    UPDATE hooks h SET run_count = h.run_count + free.count, last_run = greatest(h.last_run, clock_timestamp())
    FROM free WHERE h.id = free.id
)
SELECT h.id FROM ran JOIN hooks h ON h.id = ran.hook_id WHERE h.id NOT IN (SELECT id FROM free)
"""


def count_runs(connection: Connection, runs: Mapping[int, int]) -> dict[int, int]:
    """Add runs, by hook id, to the hooks' own counts; returns those of hooks that somebody has locked."""
    locked = connection.execute(_COUNT, (list(runs), list(runs.values()))).fetchall()
    return {hook_id: runs[hook_id] for (hook_id,) in locked}
