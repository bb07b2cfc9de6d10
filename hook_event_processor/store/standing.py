"""Where an unfinished event stands: what it waits for, and behind how many."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from hook_event_processor.errors import NotFound
from hook_event_processor.event import DEFAULT_PRIORITY
from hook_event_processor.store import waiting

# A count ends here: it must stay quick on a table of any size.
COUNT_LIMIT = 10_000
_LAST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Standing:
    """What the view `events` does not tell. `leased` also of a lease that has ended and that nobody took."""

    needs_slot: bool
    leased: bool
    now: datetime


def standing(connection: Connection, event_id: UUID) -> Standing:
    """How the event stands by the database's clock. Raises NotFound."""
    with connection.cursor(row_factory=class_row(Standing)) as cursor:
        found = cursor.execute(
            "SELECT needs_slot, lease_token IS NOT NULL AS leased, clock_timestamp() AS now"
            " FROM hook_events WHERE id = %s",
            (event_id,),
        ).fetchone()
    if found is None:
        raise NotFound(f"no event has the id {event_id}")
    return found


_AHEAD = f"""
SELECT least(%(limit)s,
    (SELECT count(*) FROM (SELECT FROM hook_events WHERE {waiting.FRESH}
        AND seq > {waiting.FLOOR} AND seq < %(default_until)s LIMIT %(limit)s) AS few)
    + (SELECT count(*) FROM (SELECT FROM hook_events WHERE {waiting.PRIORITIZED}
        AND (priority, seq) < (%(priority)s, %(seq)s) LIMIT %(limit)s) AS few))
"""


def ahead(connection: Connection, priority: int, seq: int) -> int:
    """How many fresh events come before a fresh one of this priority and seq; counts up to COUNT_LIMIT."""
    # Those of the default priority have an index of their own: all of it, a part, or nothing.
    until = {-1: 0, 0: seq, 1: _LAST}[(priority > DEFAULT_PRIORITY) - (priority < DEFAULT_PRIORITY)]
    values = {"limit": COUNT_LIMIT, "default_until": until, "priority": priority, "seq": seq}
    row = connection.execute(_AHEAD, values).fetchone()
    return int(row[0]) if row else 0
