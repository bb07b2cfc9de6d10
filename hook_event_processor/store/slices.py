"""Which part of a long backlog a processor reads, so that several do not come upon each other's rows."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

SLICE_SEQS = 16_384  # some claims of a lane


class Slice(NamedTuple):
    """What to read next: behind one seq, up to another."""

    behind: int
    upto: int


class Slices:
    """Each lane of all processors has a place among them, and every so many seqs are one lane's, in turn.

    A processor reads those of its own lanes. Which these are is known by the
    server's process ids, looked at now and then: for a moment processors may
    differ about it, and two of them read a slice, or none does.
    """

    def __init__(self) -> None:
        self._own: dict[str, int] = {}
        self._count = 0
        self._places: tuple[int, ...] = ()

    def joined(self, lane: str, pid: int) -> None:
        """A lane of this processor has the session of that process now."""
        self._own[lane] = pid

    def seen(self, pids: Collection[int]) -> None:
        """These processes have the sessions of all lanes."""
        own = frozenset(self._own.values())
        self._count, self._places = len(pids), tuple(n for n, pid in enumerate(sorted(pids)) if pid in own)

    def behind(self, seq: int) -> Slice | None:
        """What of its own is next behind a seq; None: all of it is, since nobody else is known."""
        count, places = self._count, self._places
        if not 0 < len(places) < count:
            return None
        number = (seq + 1) // SLICE_SEQS
        ahead = min((place - number) % count for place in places)
        begin = (number + ahead) * SLICE_SEQS
        return Slice(max(seq, begin - 1), begin + SLICE_SEQS - 1)
