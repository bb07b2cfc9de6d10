"""A thread's own connection: made when it is first needed, given up when its work fails."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from psycopg import Connection

from hook_event_processor.processor.outage import Outage, reconnect_delay
from hook_event_processor.store.database import Database, cut


class OwnConnection:
    """One session at a time, of that role; its thread says when work came to something, and when to nothing."""

    def __init__(
        self,
        database: Database,
        outage: Outage,
        role: str,
        *,
        autocommit: bool = False,
        begin: Callable[[Connection], None],
    ) -> None:
        """`begin` readies each new connection; what it raises is the thread's to give to lost()."""
        self._database = database
        self._outage = outage
        self._role = role
        self._autocommit = autocommit
        self._begin = begin
        self._failures = self._outages = 0
        self.connection: Connection | None = None

    def connected(self) -> Connection:
        """The connection, a new one if need be. Raises as Database.connect and `begin` do."""
        if self.connection is None or self.connection.closed:
            tried_at = monotonic()
            self.connection = self._database.connect(self._role, autocommit=self._autocommit)
            self._begin(self.connection)
            self._outages = self._outage.end(tried_at)
        return self.connection

    def worked(self) -> None:
        """The next failure is the first again."""
        self._failures = 0

    def lost(self, fault: Exception, what: str) -> float:
        """Close it, and say what failed as Outage.notice does; returns seconds until the next attempt."""
        self.notice(fault, what)
        self.close()
        self._failures += 1
        return reconnect_delay(self._failures)

    def notice(self, fault: Exception, what: str) -> None:
        """Say what failed as Outage.notice does, and keep the session."""
        self._outage.notice(fault, what, self.connection, self._outages)

    def cut(self) -> None:
        """From another thread: end a wait for a server that no longer answers."""
        cut(self.connection)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None
