"""Following events as they arrive."""

from __future__ import annotations

from psycopg import Connection
from psycopg.rows import class_row

from hook_event_processor.store.events import LISTED, Filter, ListedEvent, last_seq

_MOST = 1_000  # events of one reading
_MOST_SEEN = 100_000  # a transaction that runs for hours must not fill the memory


class Tail:
    """Gives each new event once, also those of transactions that commit late."""

    def __init__(self, connection: Connection, wanted: Filter) -> None:
        self._connection = connection
        self._condition, self._values = wanted.condition()
        # Every event up to the floor has been read, or was there before.
        self._floor = last_seq(connection)
        self._seen: set[int] = set()
        # (seq, transaction): once no transaction before it is running, nothing up to seq can still appear.
        self._marks: list[tuple[int, int]] = []

    def read(self) -> list[ListedEvent]:
        """The events that became visible since the last reading, oldest first."""
        oldest_running = self._number("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        with self._connection.cursor(row_factory=class_row(ListedEvent)) as cursor:
            values = {**self._values, "floor": self._floor, "seen": list(self._seen), "limit": _MOST}
            rows = cursor.execute(_NEWER.format(condition=self._condition), values).fetchall()
        self._seen.update(row.seq for row in rows)
        if len(rows) < _MOST:
            self._raise_floor(oldest_running)
        return rows

    def _raise_floor(self, oldest_running: int) -> None:
        while self._marks and (self._marks[0][1] <= oldest_running or len(self._seen) > _MOST_SEEN):
            self._floor = self._marks.pop(0)[0]
            self._seen = {seq for seq in self._seen if seq > self._floor}
        last = last_seq(self._connection)
        if last > (self._marks[-1][0] if self._marks else self._floor):
            # Writers get their transaction's number before any seq (the trigger
            # hook_events_wake sees to it), so this one is greater than those of
            # all seqs so far. A snapshot's xmax would not do: it is only one
            # past the last transaction that ended.
            self._marks.append((last, self._number("SELECT pg_current_xact_id()::text::bigint")))

    def _number(self, statement: str) -> int:
        row = self._connection.execute(statement).fetchone()
        return int(row[0]) if row else 0


_NEWER = f"""
SELECT {LISTED} FROM hook_events e JOIN events v USING (id)
WHERE e.seq > %(floor)s AND e.seq <> ALL (%(seen)s::bigint[]) AND {{condition}}
ORDER BY e.seq LIMIT %(limit)s
"""
