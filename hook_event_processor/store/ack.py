"""Acknowledging: the states that a claimed event leaves its claim or its lease in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import CLOCK_BOOTTIME, clock_gettime
from uuid import UUID

from psycopg import Connection

from hook_event_processor.store import arrays
from hook_event_processor.store.pipeline import Executes

# Rows of a processor that froze or died return when their lease ends: within
# ten seconds, with what it takes to notice.
LEASE_SECONDS = 9.0
HEARTBEAT_SECONDS = 3.0
# A run begins no later than this after its lease was given or extended: how long it takes to begin is not known.
_SURE_SECONDS = LEASE_SECONDS - 1.0

# By row address: a locked row stays where it is, and needs no index to be found.
# Of a fresh row of the default priority no index entry changes either.
PROCESSED = """
UPDATE hook_events SET processed = TRUE, processed_at = greatest(clock_timestamp(), created_at),
       dequeued = priority <> 5 OR available_at IS NOT NULL
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

# The ids are a condition of their own: planned for an empty table, a join would read all of the primary key.
FAILED = f"""
UPDATE hook_events e SET {_FAILURE}
FROM unnest(%(ids)b, %(errors)b, %(delays)s::float8[], %(slots)s::boolean[]) AS failure (id, error, delay, needs_slot)
WHERE e.id = failure.id AND e.id = ANY(%(ids)b)
"""

_LEASED_ROWS = """
SELECT id FROM hook_events
WHERE NOT processed AND (id, lease_token) IN (SELECT * FROM unnest(%b, %s::uuid[]))
"""
# Waits for nobody: one locked row must not keep the others from being recorded.
HELD = f"{_LEASED_ROWS} ORDER BY id FOR NO KEY UPDATE SKIP LOCKED"

FINISHED = """
UPDATE hook_events SET processed = TRUE, processed_at = greatest(clock_timestamp(), created_at), dequeued = TRUE,
       lease_token = NULL
WHERE id = ANY(%b)
"""

EXTENDED = f"""
UPDATE hook_events SET available_at = clock_timestamp() + interval '{LEASE_SECONDS} seconds'
WHERE id IN ({HELD})
RETURNING id
"""

RELEASED = f"""
UPDATE hook_events SET available_at = clock_timestamp(), lease_token = NULL
WHERE id IN ({HELD})
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt at an event: `delay` in seconds until the next, None when there is none."""

    event_id: bytes
    error: str
    delay: float | None
    needs_slot: bool


def processed(session: Executes, ctids: Sequence[bytes]) -> None:
    """The events, locked by this transaction, are done."""
    if ctids:
        session.execute(PROCESSED, (arrays.tids(ctids),))


def failed(session: Executes, failures: Sequence[Failure]) -> None:
    """The events, locked by this transaction, have failed once more."""
    if failures:
        session.execute(
            FAILED,
            {
                "ids": arrays.uuids([failure.event_id for failure in failures]),
                "errors": arrays.texts([failure.error.encode() for failure in failures]),
                "delays": [failure.delay for failure in failures],
                "slots": [failure.needs_slot for failure in failures],
            },
        )


def parked(session: Executes, event_ids: Sequence[bytes]) -> None:
    """The events, locked by this transaction, wait for a worker slot; their attempt does not count."""
    if event_ids:
        session.execute(PARKED, (arrays.uuids(event_ids),))


def postponed(session: Executes, event_ids: Sequence[bytes]) -> None:
    """The events, locked by this transaction, did not run after all; their attempt does not count."""
    if event_ids:
        session.execute(POSTPONED, (arrays.uuids(event_ids),))


def leased(session: Executes, event_ids: Sequence[bytes], token: UUID, node: str) -> None:
    """The events, locked by this transaction, belong to `node` until their lease ends."""
    if event_ids:
        session.execute(LEASED, (token, node, arrays.uuids(event_ids)))


Lease = tuple[bytes, UUID]


def held(connection: Connection, leases: Sequence[Lease]) -> tuple[set[bytes], set[bytes]]:
    """Lock the events of these leases; a lost lease is a normal result.

    Returns the events that are held, and those that somebody else has locked:
    their leases may last, or be lost with the other's commit.
    """
    return _held(connection, HELD, leases)


def _held(connection: Connection, statement: str, leases: Sequence[Lease]) -> tuple[set[bytes], set[bytes]]:
    held = _event_ids(connection, statement, leases)
    rest = [lease for lease in leases if lease[0] not in held]
    return held, _event_ids(connection, _LEASED_ROWS, rest) if rest else set()


def _event_ids(connection: Connection, statement: str, leases: Sequence[Lease]) -> set[bytes]:
    return {row[0] for row in connection.cursor(binary=True).execute(statement, _leases(leases)).fetchall()}


def finished(connection: Connection, event_ids: Sequence[bytes]) -> None:
    """The leased events, locked by held(), are done."""
    if event_ids:
        connection.execute(FINISHED, (arrays.uuids(event_ids),))


def extended(connection: Connection, leases: Sequence[Lease]) -> tuple[set[bytes], set[bytes]]:
    """The leases that are held last LEASE_SECONDS from now; the others stay as they are. Returns what held() does."""
    return _held(connection, EXTENDED, leases)


def lease_sure_until() -> float:
    """Until when a run may begin under a lease that is given, or extended, after this call; see is_sure()."""
    return clock_gettime(CLOCK_BOOTTIME) + _SURE_SECONDS


def is_sure(until: float) -> bool:
    """Whether such a lease is surely held still, unless the database's clock was set; the host may have slept."""
    return clock_gettime(CLOCK_BOOTTIME) < until


def released(connection: Connection, leases: Sequence[Lease]) -> None:
    """The events are free again at once, but for those that somebody else has locked: their leases end."""
    if leases:
        connection.execute(RELEASED, _leases(leases))


def _leases(leases: Sequence[Lease]) -> tuple[arrays.UuidArray, list[UUID]]:
    return arrays.uuids([event_id for event_id, _ in leases]), [token for _, token in leases]
