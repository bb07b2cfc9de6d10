"""Which part of a long backlog a processor reads, so that several do not come upon each other's rows."""

from __future__ import annotations

from collections.abc import Collection

SLICE_SEQS = 1_024  # a claim or so


class Slices:
    """Each lane of all processors has a place among them, and every so many seqs are one lane's, in turn.

    A processor reads those of its own lanes. Which these are is known by the
    server's process ids, looked at now and then: for a moment processors may
    differ about it, and two of them read a slice, or none does.
    """

    def __init__(self) -> None:
        self._own: dict[str, int] = {}
        self._share: tuple[int, tuple[int, ...]] | None = None

    def joined(self, lane: str, pid: int) -> None:
        """A lane of this processor has the session of that process now."""
        self._own[lane] = pid

    def seen(self, pids: Collection[int]) -> None:
        """These processes have the sessions of all lanes."""
        own = frozenset(self._own.values())
        places = tuple(place for place, pid in enumerate(sorted(pids)) if pid in own)
        self._share = (len(pids), places) if 0 < len(places) < len(pids) else None

    @property
    def share(self) -> tuple[int, tuple[int, ...]] | None:
        """How many slices there are in turn, and which of them to read; None: all, since nobody else is known."""
        return self._share
