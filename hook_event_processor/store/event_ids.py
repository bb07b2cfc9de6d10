"""Shortened ids of events: any prefix that stands for one event alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from uuid import UUID

from psycopg import Connection

from hook_event_processor.errors import Ambiguous, NotFound

SHORTEST_PREFIX = 8  # characters


def short_ids(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, str]:
    """The shortest prefix of each id, from 8 characters, that no other event's id begins with."""
    # The neighbours in the order of ids share the longest prefixes.
    rows = connection.execute(
        """
        SELECT wanted.id,
               (SELECT e.id FROM hook_events e WHERE e.id < wanted.id ORDER BY e.id DESC LIMIT 1),
               (SELECT e.id FROM hook_events e WHERE e.id > wanted.id ORDER BY e.id LIMIT 1)
        FROM unnest(%s::uuid[]) AS wanted(id)
        """,
        (list(ids),),
    )
    return {row[0]: _shortest_prefix(row[0], row[1:]) for row in rows}


def _shortest_prefix(event_id: UUID, neighbours: Sequence[UUID | None]) -> str:
    text = str(event_id)
    length = SHORTEST_PREFIX
    for neighbour in neighbours:
        while neighbour is not None and str(neighbour)[:length] == text[:length]:
            length += 1
    # A prefix that ends with the dash looks cut off.
    return text[: length + 1] if text[length - 1] == "-" else text[:length]


def resolve(connection: Connection, prefix: str) -> UUID:
    """The id that `prefix` stands for, with or without dashes. Raises NotFound or Ambiguous."""
    digits = prefix.replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
        raise NotFound(f"{prefix!r} is not an event id: ids are written in hexadecimal, such as 019b2c3d-5a70")
    found = connection.execute(
        "SELECT id FROM hook_events WHERE id BETWEEN %s AND %s ORDER BY id LIMIT 3",
        (UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))),
    ).fetchall()
    if not found:
        raise NotFound(f"no event has the id {prefix}" + ("" if len(digits) == 32 else "..."))
    if len(found) > 1:
        names = ", ".join(str(row[0]) for row in found[:2])
        raise Ambiguous(f"the id {prefix} is short for more than one event: {names}{', ...' if found[2:] else ''}")
    event_id: UUID = found[0][0]
    return event_id
