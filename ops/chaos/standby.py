"""A primary and a streaming standby that can take its place."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg.conninfo import make_conninfo

from ops.chaos.cluster import Cluster

_ATTACHED_SECONDS = 30.0


class Pair:
    """Two servers, of which one at a time takes writes; all clients know both."""

    def __init__(self, place: Path) -> None:
        self.primary, self.standby = Cluster(place / "primary"), Cluster(place / "standby")

    @property
    def for_auditor(self) -> str:
        return self._of_both(self.primary.for_auditor)

    for_writer = for_processors = for_auditor

    @property
    def for_administrator(self) -> str:
        return self._of_both(self.primary.for_administrator)

    def _of_both(self, conninfo: str) -> str:
        hosts = f"{self.primary.sockets},{self.standby.sockets}"
        return make_conninfo(conninfo, host=hosts, port="5432,5432", target_session_attrs="read-write")

    def stop(self, mode: str = "kill") -> None:
        """The primary's end."""
        self.primary.stop(mode)

    def start(self) -> None:
        """What begins after that: the standby takes its place."""
        self.standby.promote()


@contextmanager
def pair(place: Path, *, synchronous: bool) -> Iterator[Pair]:
    """A primary with the product's role and database, and its standby; a synchronous one has every commit."""
    both = Pair(place)
    try:
        both.primary.initialise()
        both.primary.start()
        both.primary.create_database()
        both.standby.copy_of(both.primary)
        both.standby.start()
        _wait(lambda: both.primary.has_standby("async"))
        if synchronous:
            both.primary.set(synchronous_standby_names="*")
            _wait(lambda: both.primary.has_standby("sync"))
        yield both
    finally:
        both.primary.stop()
        both.standby.stop("immediate")


def _wait(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + _ATTACHED_SECONDS
    while not condition():
        assert time.monotonic() < ends, "the standby is not attached"
        time.sleep(0.05)
