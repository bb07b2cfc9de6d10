"""Acknowledging: the states that a claimed event leaves its claim or its lease in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg import Connection

from hook_event_processor.store import arrays

# Rows of a processor that froze or died return when their lease ends.
LEASE_SECONDS = 10.0
HEARTBEAT_SECONDS = 3.0

# By row address: a locked row stays where it is, and needs no index to be found.
PROCESSED = """
UPDATE hook_events SET processed = TRUE, processed_at = greatest(clock_timestamp(), created_at)
WHERE ctid = ANY(%b)
"""

PARKED = """
UPDATE hook_events SET available_at = clock_timestamp(), needs_slot = TRUE, lease_token = NULL
WHERE id = ANY(%b)
"""

POSTPONED = """
UPDATE hook_events SET available_at = clock_timestamp(), lease_token = NULL
WHERE id = ANY(%b)
"""

LEASED = f"""
UPDATE hook_events SET lease_token = %s, claimed_by = %s, needs_slot = TRUE,
       available_at = clock_timestamp() + interval '{LEASE_SECONDS} seconds'
WHERE id = ANY(%b)
"""

_FAILURE = """
retry_count = least(e.retry_count + 1, 10),
processing_errors = array_append(e.processing_errors, failure.error),
available_at = CASE WHEN failure.delay IS NOT NULL THEN clock_timestamp() + failure.delay * interval '1 second' END,
failed_at = CASE WHEN failure.delay IS NULL THEN clock_timestamp() END,
needs_slot = failure.needs_slot,
lease_token = NULL
"""

FAILED = f"""
UPDATE hook_events e SET {_FAILURE}
FROM unnest(%b, %b, %s::float8[], %s::boolean[]) AS failure (id, error, delay, needs_slot)
WHERE e.id = failure.id
"""

# Locks first, in one order, and waits for a claim that is being committed:
# whoever takes an expired lease changes its token in that commit.
HELD = """
SELECT id FROM hook_events
WHERE NOT processed AND (id, lease_token) IN (SELECT * FROM unnest(%b, %s::uuid[]))
ORDER BY id FOR NO KEY UPDATE
"""

FINISHED = """
UPDATE hook_events SET processed = TRUE, processed_at = greatest(clock_timestamp(), created_at), lease_token = NULL
WHERE id = ANY(%b)
"""

EXTENDED = f"""
UPDATE hook_events SET available_at = clock_timestamp() + interval '{LEASE_SECONDS} seconds'
WHERE id IN (
    SELECT id FROM hook_events
    WHERE NOT processed AND (id, lease_token) IN (SELECT * FROM unnest(%b, %s::uuid[]))
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
"""

RELEASED = """
UPDATE hook_events SET available_at = clock_timestamp(), lease_token = NULL
WHERE NOT processed AND (id, lease_token) IN (SELECT * FROM unnest(%b, %s::uuid[]))
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt at an event: `delay` in seconds until the next, None when there is none."""

    event_id: bytes
    error: str
    delay: float | None
    needs_slot: bool


def processed(connection: Connection, ctids: Sequence[bytes], *, prepare: bool = True) -> None:
    """The events, locked by this transaction, are done."""
    if ctids:
        connection.execute(PROCESSED, (arrays.tids(ctids),), prepare=prepare)


def failed(connection: Connection, failures: Sequence[Failure]) -> None:
    """The events, locked by this transaction, have failed once more."""
    if failures:
        connection.execute(
            FAILED,
            (
                arrays.uuids([failure.event_id for failure in failures]),
                arrays.texts([failure.error.encode() for failure in failures]),
                [failure.delay for failure in failures],
                [failure.needs_slot for failure in failures],
            ),
        )


def parked(connection: Connection, event_ids: Sequence[bytes]) -> None:
    """The events, locked by this transaction, wait for a worker slot; their attempt does not count."""
    if event_ids:
        connection.execute(PARKED, (arrays.uuids(event_ids),))


def postponed(connection: Connection, event_ids: Sequence[bytes]) -> None:
    """The events, locked by this transaction, did not run after all; their attempt does not count."""
    if event_ids:
        connection.execute(POSTPONED, (arrays.uuids(event_ids),))


def leased(connection: Connection, event_ids: Sequence[bytes], token: UUID, node: str) -> None:
    """The events, locked by this transaction, belong to `node` until their lease ends."""
    if event_ids:
        connection.execute(LEASED, (token, node, arrays.uuids(event_ids)))


Lease = tuple[bytes, UUID]


def held(connection: Connection, leases: Sequence[Lease]) -> set[bytes]:
    """Lock the events of these leases that nobody else has taken; a lost lease is a normal result."""
    rows = connection.cursor(binary=True).execute(HELD, _leases(leases)).fetchall()
    return {row[0] for row in rows}


def finished(connection: Connection, event_ids: Sequence[bytes]) -> None:
    """The leased events, locked by held(), are done."""
    if event_ids:
        connection.execute(FINISHED, (arrays.uuids(event_ids),))


def extended(connection: Connection, leases: Sequence[Lease]) -> None:
    """The leases last LEASE_SECONDS from now; those that are lost, or being recorded, stay as they are."""
    if leases:
        connection.execute(EXTENDED, _leases(leases))


def released(connection: Connection, leases: Sequence[Lease]) -> None:
    """The events are free again at once."""
    if leases:
        connection.execute(RELEASED, _leases(leases))


def _leases(leases: Sequence[Lease]) -> tuple[arrays.UuidArray, list[UUID]]:
    return arrays.uuids([event_id for event_id, _ in leases]), [token for _, token in leases]
