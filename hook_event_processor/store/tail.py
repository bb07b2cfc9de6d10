"""Following events as they arrive."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from hook_event_processor.store import waiting
from hook_event_processor.store.events import LISTED, Filter, ListedEvent, last_seq, newest
from hook_event_processor.store.writers import WRITERS, Inserts, Writer

_MOST = 1_000  # events of one reading
_MOST_FOUND = 100_000
_MOST_SEEN = 100_000  # a transaction that runs for hours must not fill the memory
_FAR = 1_000_000  # seqs before the start, below which nothing is looked for

# No index has all events in the order of seq. BRIN reads some more than lies
# between two seqs, and far more where a table is new or was much deleted from:
# many are found at once, and then read by their ids.
FIND = """
SELECT e.seq, e.id FROM hook_events e WHERE e.seq > %(after)s AND e.seq <= %(upto)s AND {condition}
ORDER BY e.seq LIMIT %(limit)s
"""
# LIMIT: each by the index, also where nobody knows yet how long the table is.
READ = f"""
SELECT v.* FROM unnest(%(ids)s::uuid[]) AS found(id)
CROSS JOIN LATERAL (SELECT {LISTED} FROM events v WHERE v.id = found.id LIMIT 1) AS v
ORDER BY v.seq
"""
_THERE = "SELECT seq FROM hook_events WHERE seq > %s AND seq <= %s ORDER BY seq DESC LIMIT %s"


class Tail:
    """Gives each event once that becomes visible after the start, also those of transactions that commit late.

    It goes through the table from sweep to sweep, each from where something
    may have been committed since the last one. An event is passed over only if
    100,000 of higher seqs were there before its transaction ended, or its seq
    lies a million before the start; one whose writer chose a seq that lies
    ahead is given once the others are there. `connection` is in autocommit.
    """

    def __init__(self, connection: Connection, wanted: Filter) -> None:
        self._connection = connection
        self._condition, self._values = wanted.condition()
        given = last_seq(connection)
        # Nothing up to the floor is looked for; what was found above it, or was there before, is seen.
        self._floor = min(max(waiting.floor(connection), given - _FAR), given)
        self._seen: set[int] = set()
        self._found: list[UUID] = []
        self._inserts = Inserts(self._floor)
        self._look()
        self._position = self._inserts.given
        there = connection.execute(_THERE, (self._inserts.settled, self._position, _MOST_SEEN + 1))
        self._see(row[0] for row in there)

    @property
    def is_behind(self) -> bool:
        """Whether there may be more to read at once."""
        return bool(self._found) or self._position < self._inserts.given

    def latest(self, wanted: Filter, limit: int) -> list[ListedEvent]:
        """The newest events so far, oldest first, to begin with; they are not given again."""
        rows = newest(self._connection, wanted, limit)[::-1]
        self._see(row.seq for row in rows)
        return rows

    def read(self) -> list[ListedEvent]:
        """Up to 1,000 events that became visible since the last sweep, by seq; none: this one found no more."""
        if not self.is_behind:
            self._look()
        rows: list[ListedEvent] = []
        while not rows and self.is_behind:
            if not self._found:
                self._find()
            ids, self._found = self._found[:_MOST], self._found[_MOST:]
            with self._connection.cursor(row_factory=class_row(ListedEvent)) as cursor:
                rows = cursor.execute(READ, {"ids": ids}).fetchall() if ids else []
        return rows

    def _look(self) -> None:
        """Begin a sweep; where nothing can have been committed since the last one, it is at its end."""
        # In this order: whoever writes then, and did not before, has its seqs from after the first.
        given = last_seq(self._connection)
        writers = [Writer(*row) for row in self._connection.execute(WRITERS)]
        late = self._inserts.looked(given, writers)
        self._position, self._width = max(late, self._floor), _MOST_FOUND
        self._raise_floor(min(late, self._inserts.settled))

    def _find(self) -> None:
        upto = min(self._position + self._width, self._inserts.given)
        values = {**self._values, "after": self._position, "upto": upto, "limit": _MOST_FOUND}
        rows = self._connection.execute(FIND.format(condition=self._condition), values, binary=True).fetchall()
        self._position = rows[-1][0] if len(rows) == _MOST_FOUND else upto
        # Numbers that no row has, or none that is wanted, are passed ever faster.
        self._width = _MOST_FOUND if rows else 2 * self._width
        new = [(seq, event_id) for seq, event_id in rows if seq not in self._seen]
        self._found = [event_id for _, event_id in new]
        self._see(seq for seq, _ in new)

    def _see(self, seqs: Iterable[int]) -> None:
        # No later sweep begins below what is settled at this one.
        self._seen.update(seq for seq in seqs if seq > self._inserts.settled)
        if len(self._seen) > _MOST_SEEN:
            self._raise_floor(min(sorted(self._seen)[-_MOST_SEEN - 1], self._position))

    def _raise_floor(self, seq: int) -> None:
        if seq > self._floor:
            self._floor = seq
            self._seen = {seen for seen in self._seen if seen > seq}
