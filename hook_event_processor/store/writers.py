"""Who is inserting events, and up to which seq nobody is any more."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

# Every transaction that has inserted an event holds this lock until it has
# ended, and become visible before; a prepared one has no process.
WRITERS = """
SELECT virtualtransaction, pid IS NULL FROM pg_locks
WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted AND relation = 'hook_events'::regclass
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Writer(NamedTuple):
    """A transaction that may have inserted events and has not ended."""

    id: str
    prepared: bool


class Inserts:
    """Which inserts are under way, as looks at the writers tell.

    Of a writer every seq is above the last one that was given when it was not there yet.
    """

    def __init__(self, floor: int = 0) -> None:
        """No insert is under way up to `floor`."""
        self.given = floor  # the last seq that had been given, at the last look
        self.settled = floor  # the seq up to which no insert is under way any more
        self._writers: dict[str, int] = {}  # each with a seq that is below all of its own

    def looked(self, given: int, writers: Collection[Writer]) -> int:
        """These are writing, and before that `given` was the last seq that had been given.

        Returns the seq behind which rows may have been committed since the last look.
        """
        here = {writer.id for writer in writers}
        late = min([self.given, *(seq for known, seq in self._writers.items() if known not in here)])
        # A transaction that is prepared goes on by another name, and may have been seen by both.
        self._writers = {
            writer.id: self._writers.get(writer.id, self.settled if writer.prepared else self.given)
            for writer in writers
        }
        self.settled = min([given, *self._writers.values()])
        self.given = given
        return late
