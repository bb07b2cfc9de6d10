"""The one statement that removes events with their executions, and what it may remove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from psycopg import Connection


class Place(NamedTuple):
    """Where a row lies, and by which rule it goes: its ctid is its own for as long as nobody changes it.

    `xmin` is for REMOVE_WRITTEN: which transaction has written it.
    """

    ctid: str
    id: UUID
    rule: str
    xmin: str = ""


@dataclass(frozen=True, slots=True)
class Gone:
    """What was removed: the ids of events, and how many executions."""

    events: frozenset[UUID]
    executions: int


# Rows that somebody holds stay for the next time; those that were changed since they were read have another ctid.
TAKEN = """
WITH taken AS MATERIALIZED (
    SELECT ctid FROM hook_events
    WHERE ctid = ANY(%(places)s::tid[]) AND id = ANY(%(ids)s::uuid[]) AND (processed OR failed_at IS NOT NULL)
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM hook_events WHERE ctid = ANY(ARRAY(SELECT ctid FROM taken)) RETURNING {events}
), runs AS (
    DELETE FROM event_hook_executions WHERE event_id = ANY(ARRAY(SELECT id FROM gone)) RETURNING {executions}
)
"""
REMOVE = f"""{TAKEN.format(events="id", executions="1")}
SELECT (SELECT array_agg(id) FROM gone), (SELECT count(*) FROM runs)
"""
# For what was read long ago: a row that was changed twice may lie at its ctid again once VACUUM has freed that, but has
# another xmin. The role hook_retention may not read xmin; without a file it need not.
REMOVE_WRITTEN = REMOVE.replace(
    "FOR UPDATE", "AND (id, xmin::text) IN (SELECT * FROM unnest(%(ids)s::uuid[], %(xmins)s::text[])) FOR UPDATE"
)


def values(places: Sequence[Place]) -> dict[str, list[str] | list[UUID]]:
    """The parameters of TAKEN and REMOVE_WRITTEN."""
    return {
        "places": [place.ctid for place in places],
        "ids": [place.id for place in places],
        "xmins": [place.xmin for place in places],
    }


def remove(connection: Connection, places: Sequence[Place], statement: str = REMOVE) -> Gone:
    """Remove these events, where they still lie and have ended; `statement` returns ids and a count as REMOVE does."""
    row = connection.execute(statement, values(places)).fetchone()
    return Gone(frozenset(row[0] or ()), int(row[1])) if row else Gone(frozenset(), 0)
