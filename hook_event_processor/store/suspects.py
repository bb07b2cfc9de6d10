"""Suspects: events that were running as a processor died, and what became of them in processes of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from hook_event_processor.store import arrays
from hook_event_processor.store.arrays import UuidArray
from hook_event_processor.store.claim import Row, most_bytes, read_rows, selected_with_care
from hook_event_processor.store.pipeline import Pipeline

# A hook runs apart altogether for so long after the last of several of its
# events has ended a process; of one alone, only that event does.
APART_SECONDS = 600
SEVERAL = 2
DIED = "the process died while this ran"
KILLED = "its process was killed"
NO_CELL = "no cell could be had to run this in"


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of claimed events that are not fresh: (event, hook) pairs with a success, and the suspects.

    Suspects come with the number of processes of their own that they have ended.
    """

    succeeded: set[tuple[bytes, int]]
    suspects: Mapping[bytes, int]


NO_PAST = Past(set(), {})

# One journey for all. A lease that ran out without a word leaves a suspicion,
# too: whoever held it has died, or been frozen or cut off.
_PAST = """
SELECT event_id, hook_id, 0 FROM event_hook_executions WHERE event_id = ANY(%(ids)b) AND success
UNION ALL
SELECT event_id, NULL, deaths FROM hook_suspects WHERE event_id = ANY(%(ids)b)
UNION ALL
SELECT id, NULL, 0 FROM hook_events WHERE id = ANY(%(ids)b) AND lease_token IS NOT NULL
"""


def past(pipeline: Pipeline, ids: UuidArray) -> Past:
    """To be read after the rows are locked: whoever recorded a run, or a suspicion, held them then."""
    succeeded: set[tuple[bytes, int]] = set()
    suspects: dict[bytes, int] = {}
    for event_id, hook_id, deaths in pipeline.run(_PAST, {"ids": ids}):
        if hook_id is None:
            suspects[event_id] = max(deaths, suspects.get(event_id, 0))
        else:
            succeeded.add((event_id, hook_id))
    return Past(succeeded, suspects)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """An event that was running as a processor died: the hook, and whether it had a process of its own."""

    event_id: bytes
    hook_id: int
    hook_name: str
    version: int
    apart: bool


_OPEN = "id = ANY(%(ids)b) AND NOT processed AND failed_at IS NULL"
# Under somebody else's lease it runs already: should that one die, too, its lease says so.
_FREE = "(lease_token IS NULL OR claimed_by = %(node)s OR available_at <= statement_timestamp())"
_UNFINISHED = f"SELECT id FROM hook_events WHERE {_OPEN} AND {_FREE}"
_TO_ADOPT = selected_with_care(
    f"SELECT *, ctid FROM hook_events WHERE {_OPEN} AND {_FREE} ORDER BY id FOR UPDATE SKIP LOCKED"
)
_COUNT = """
UPDATE hook_events e SET
    retry_count = least(e.retry_count + 1, 10),
    processing_errors = array_append(e.processing_errors, died.error),
    available_at = clock_timestamp(), needs_slot = TRUE, lease_token = NULL
FROM unnest(%b, %b) AS died (id, error) WHERE e.id = died.id
"""
_DEFER = """
UPDATE hook_events SET available_at = clock_timestamp() + %s * interval '1 second', needs_slot = TRUE,
       lease_token = NULL
WHERE id = ANY(%b)
"""
_SUSPECT = """
INSERT INTO hook_suspects (event_id, hook_id, version, node, deaths, died_at)
SELECT event_id, hook_id, version, %s, apart::int, CASE WHEN apart THEN clock_timestamp() END
FROM unnest(%b, %s::bigint[], %s::int[], %s::boolean[]) AS died (event_id, hook_id, version, apart)
ON CONFLICT (event_id) DO UPDATE SET
    hook_id = excluded.hook_id, version = excluded.version, node = excluded.node,
    deaths = hook_suspects.deaths + excluded.deaths, died_at = coalesce(excluded.died_at, hook_suspects.died_at)
"""


@dataclass(frozen=True, slots=True)
class Adopted:
    """Rows of the new suspects, locked, their attempt that died counted; and events that others have locked now."""

    rows: Sequence[Row]
    locked: frozenset[bytes]


def adopt(connection: Connection, node: str, suspicions: Sequence[Suspicion], max_payload: int) -> Adopted:
    """Make suspects of what was running as `node` died, and is not done; within a transaction of the caller's."""
    ids = arrays.uuids(list({one.event_id for one in suspicions}))
    values = {"ids": ids, "node": node, "most_bytes": most_bytes(max_payload)}
    rows = read_rows(connection.cursor(binary=True).execute(_TO_ADOPT, values))
    held = {row.id for row in rows}
    unfinished = connection.cursor(binary=True).execute(_UNFINISHED, values).fetchall()
    locked = frozenset(row[0] for row in unfinished) - held
    done = past(Pipeline(connection), arrays.uuids(list(held))).succeeded
    dead = [one for one in suspicions if one.event_id in held and (one.event_id, one.hook_id) not in done]
    _count(connection, dead)
    suspect(connection, {one.event_id: one for one in dead}.values(), node)
    known = {one.event_id for one in dead}
    # Those first that have died least often: whoever is killed again and again must not hit the same ones.
    new = sorted((row for row in rows if row.id in known), key=lambda row: row.attempt)
    return Adopted([row._replace(attempt=row.attempt + 1) for row in new], locked)


def _count(connection: Connection, dead: Iterable[Suspicion]) -> None:
    errors: dict[bytes, list[str]] = {}
    for one in dead:
        errors.setdefault(one.event_id, []).append(f"{one.hook_name}: {DIED}")
    if errors:
        texts = arrays.texts(["; ".join(lines).encode() for lines in errors.values()])
        connection.execute(_COUNT, (arrays.uuids(list(errors)), texts))


def suspect(connection: Connection, suspicions: Iterable[Suspicion], node: str) -> None:
    """Remember each; what ran apart has ended a process of its own. One for each event."""
    if one_each := list(suspicions):
        connection.execute(
            _SUSPECT,
            (
                node,
                arrays.uuids([one.event_id for one in one_each]),
                [one.hook_id for one in one_each],
                [one.version for one in one_each],
                [one.apart for one in one_each],
            ),
        )


def defer(connection: Connection, event_ids: Sequence[bytes], seconds: float) -> None:
    """The events, locked by this transaction, are to be claimed again so much later; their attempt does not count."""
    if event_ids:
        connection.execute(_DEFER, (seconds, arrays.uuids(event_ids)))


def clear(connection: Connection, event_ids: Sequence[bytes]) -> None:
    """These have run, alone in a process, and it lives."""
    if event_ids:
        connection.execute("DELETE FROM hook_suspects WHERE event_id = ANY(%b)", (arrays.uuids(event_ids),))


_DEADLY = f"""
SELECT s.hook_id FROM hook_suspects s JOIN hooks h ON h.id = s.hook_id AND h.version = s.version
WHERE s.died_at > now() - interval '{APART_SECONDS} s'
GROUP BY s.hook_id HAVING count(*) >= {SEVERAL}
"""


def deadly_hooks(connection: Connection) -> frozenset[int]:
    """Hooks several of whose events have lately ended a process each, with the text that they have now."""
    return frozenset(row[0] for row in connection.execute(_DEADLY).fetchall())


def hook_names(connection: Connection, hook_ids: Iterable[int]) -> dict[int, str]:
    """What hooks of these ids are called."""
    return dict(connection.execute("SELECT id, name FROM hooks WHERE id = ANY(%s)", (list(hook_ids),)).fetchall())


_SWEEP = """
DELETE FROM hook_suspects WHERE event_id IN (
    SELECT event_id FROM hook_suspects s
    WHERE NOT EXISTS (SELECT FROM hook_events e WHERE e.id = s.event_id AND NOT e.processed)
    ORDER BY suspected_at LIMIT 1000)
"""


def sweep(connection: Connection) -> None:
    """Remove those whose event is done, or gone: some at a time."""
    connection.execute(_SWEEP)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A suspect as it stands."""

    event_id: UUID
    hook_name: str
    node: str
    deaths: int
    died_at: datetime | None


_OF_EVENT = """
SELECT s.event_id, coalesce(h.name, s.hook_id::text) AS hook_name, s.node, s.deaths, s.died_at
FROM hook_suspects s LEFT JOIN hooks h ON h.id = s.hook_id WHERE s.event_id = %s
"""


def of_event(connection: Connection, event_id: UUID) -> Suspect | None:
    """What is suspected of an event."""
    with connection.cursor(row_factory=class_row(Suspect)) as cursor:
        return cursor.execute(_OF_EVENT, (event_id,)).fetchone()


@dataclass(frozen=True, slots=True)
class Counts:
    """Suspects that have still to run, events that have ended a process, and names of the hooks that run apart."""

    waiting: int
    deadly: int
    hooks: tuple[str, ...]


_COUNTS = f"""
SELECT count(*) FILTER (WHERE e.failed_at IS NULL), count(*) FILTER (WHERE s.deaths > 0),
       ARRAY(SELECT name FROM hooks WHERE id IN ({_DEADLY}) ORDER BY name)
FROM hook_suspects s JOIN hook_events e ON e.id = s.event_id AND NOT e.processed
"""


def counts(connection: Connection) -> Counts:
    """How many there are."""
    waiting, deadly, hooks = connection.execute(_COUNTS).fetchone() or (0, 0, [])
    return Counts(waiting, deadly, tuple(hooks))
