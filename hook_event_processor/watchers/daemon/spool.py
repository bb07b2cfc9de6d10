"""Events on their way: kept on disk until the database has them, in order, up to a limit."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hook_event_processor.settings import Settings

_ANY = ""  # the type of events that every daemon of the host sends
# When room is made, so that not every further event has to make some again.
_PART_DROPPED = 100

TABLES = """
CREATE TABLE IF NOT EXISTS spool (seq INTEGER PRIMARY KEY, type TEXT NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS spool_total (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1), rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
    dropped INTEGER NOT NULL);
INSERT OR IGNORE INTO spool_total VALUES (1, 0, 0, 0);
"""


@dataclass(frozen=True, slots=True)
class SpooledEvent:
    """An event as it lies on disk: `body` is JSON of what the database gets. `type` is its watcher's."""

    id: str
    body: bytes
    type: str = _ANY


@dataclass(frozen=True, slots=True)
class Limits:
    """What the spool may hold, and which events give way when it is full."""

    rows: int = 100_000
    bytes: int = 200 * 1024 * 1024
    drops_oldest: bool = True

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(settings.spool_max_events, settings.spool_max_size, settings.spool_policy == "drop_oldest")


@dataclass(frozen=True, slots=True)
class Total:
    """Events that lie in the spool, what their bodies take, and how many were given up since that was last told."""

    rows: int
    bytes: int
    dropped: int


def total(connection: sqlite3.Connection) -> Total:
    return Total(*connection.execute("SELECT rows, bytes, dropped FROM spool_total").fetchone())


def append(connection: sqlite3.Connection, events: Sequence[SpooledEvent], limits: Limits) -> int:
    """Add events within the caller's transaction; returns how many were given up, these or older ones."""
    size = sum(len(event.body) for event in events)
    held = total(connection)
    dropped = 0
    if held.rows + len(events) > limits.rows or held.bytes + size > limits.bytes:
        if limits.drops_oldest:
            dropped = _drop_oldest(connection, held, len(events), size, limits)
            held = total(connection)
        kept = _fitting(events, held, limits)
        dropped += len(events) - len(kept)
        events, size = kept, sum(len(event.body) for event in kept)
    connection.executemany(
        "INSERT INTO spool (type, id, body) VALUES (?, ?, ?)", [(event.type, event.id, event.body) for event in events]
    )
    _count(connection, len(events), size, dropped)
    return dropped


def tell_dropped(connection: sqlite3.Connection, event_of: Callable[[int], SpooledEvent]) -> None:
    """Add, whatever the limits, the event that tells of those given up, if there are; they are told with it.

    `event_of` makes it of how many there are, within the caller's transaction: another daemon may tell of them, too.
    """
    dropped = total(connection).dropped
    if not dropped:
        return
    event = event_of(dropped)
    connection.execute("INSERT INTO spool (type, id, body) VALUES (?, ?, ?)", (event.type, event.id, event.body))
    _count(connection, 1, len(event.body), -dropped)


def first(connection: sqlite3.Connection, types: Sequence[str], limit: int) -> list[tuple[int, str, bytes]]:
    """The oldest events of these types and of any: number, id and body of each."""
    return connection.execute(
        f"SELECT seq, id, body FROM spool WHERE type IN ({_marks((_ANY, *types))}) ORDER BY seq LIMIT ?",
        (_ANY, *types, limit),
    ).fetchall()


def remove(connection: sqlite3.Connection, sent: Sequence[tuple[int, str]]) -> None:
    """Remove events that the database has, by number and id, within the caller's transaction.

    The number alone is another event's when the spool was emptied meanwhile.
    What was given up while it was on its way has arrived: it no longer counts as given up.
    """
    numbers, ids = zip(*sent, strict=True)
    where = f"WHERE seq IN ({_marks(numbers)}) AND id IN ({_marks(ids)})"
    rows, size = connection.execute(
        f"SELECT count(*), coalesce(sum(length(body)), 0) FROM spool {where}", (*numbers, *ids)
    ).fetchone()
    connection.execute(f"DELETE FROM spool {where}", (*numbers, *ids))
    # Of one that any daemon sends, another may have said so before.
    given_up = min(len(sent) - rows, total(connection).dropped)
    _count(connection, -rows, -size, -given_up)


def other_types(connection: sqlite3.Connection, types: Sequence[str]) -> list[str]:
    """The types of events that are not to be sent by the daemon of these types."""
    if total(connection).rows == 0:
        return []
    own = (_ANY, *types)
    found = connection.execute(f"SELECT DISTINCT type FROM spool WHERE type NOT IN ({_marks(own)})", own)
    return [row[0] for row in found]


def release(connection: sqlite3.Connection, type_name: str) -> None:
    """Let every daemon send the events of a type."""
    connection.execute("UPDATE spool SET type = ? WHERE type = ?", (_ANY, type_name))


def _drop_oldest(connection: sqlite3.Connection, held: Total, rows: int, size: int, limits: Limits) -> int:
    """Make room for so many rows and bytes, and some more."""
    excess_rows = held.rows + rows - limits.rows + limits.rows // _PART_DROPPED
    excess_bytes = held.bytes + size - limits.bytes + limits.bytes // _PART_DROPPED
    last, count, freed = 0, 0, 0
    for seq, length in connection.execute("SELECT seq, length(body) FROM spool ORDER BY seq"):
        if count >= excess_rows and freed >= excess_bytes:
            break
        last, count, freed = seq, count + 1, freed + length
    connection.execute("DELETE FROM spool WHERE seq <= ?", (last,))
    _count(connection, -count, -freed, 0)
    return count


def _fitting(events: Sequence[SpooledEvent], held: Total, limits: Limits) -> Sequence[SpooledEvent]:
    """Those that there is room for: the newest or the oldest, as the limits say."""
    kept, rows, size = [], held.rows, held.bytes
    for event in reversed(events) if limits.drops_oldest else events:
        rows, size = rows + 1, size + len(event.body)
        if rows > limits.rows or size > limits.bytes:
            break
        kept.append(event)
    return kept[::-1] if limits.drops_oldest else kept


def _count(connection: sqlite3.Connection, rows: int, size: int, dropped: int) -> None:
    connection.execute(
        "UPDATE spool_total SET rows = rows + ?, bytes = bytes + ?, dropped = dropped + ?", (rows, size, dropped)
    )


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
