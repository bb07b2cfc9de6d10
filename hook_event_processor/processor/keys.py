"""The two advisory keys: the first elects the lookout, and while the second is held inserts notify."""

from __future__ import annotations

from psycopg import Connection

from hook_event_processor.store import watch

# While an insert is in flight, nobody is notified of what it inserts: naps stay
# short as long as lanes find something after them, and double while they do not.
_NAP_SECONDS, _LONGEST_NAP_SECONDS = 0.002, 0.25


class Keys:
    """What a session holds of them, and when to try again for what it does not."""

    def __init__(self, poll_interval: float) -> None:
        self._poll_interval = poll_interval
        self.forget()

    def forget(self) -> None:
        """The session is gone, and its keys are free."""
        self.is_lookout = self.holding = False  # the first; both
        self.retry_at = 0.0
        self._nap = _NAP_SECONDS
        self._found = False

    def found(self) -> None:
        """From any thread: a lane has found work."""
        self._found = True

    def take(self, connection: Connection, table: str, now: float) -> None:
        """Try for the first, and as its holder for the second."""
        self.is_lookout = self.is_lookout or watch.try_key(connection, table, 1)
        if not self.is_lookout:
            self.retry_at = now + self._poll_interval
            return
        self.holding = watch.try_key(connection, table, 2)
        if self.holding:
            self._nap = _NAP_SECONDS
        else:
            self._nap = _NAP_SECONDS if self._found else min(self._nap * 2, _LONGEST_NAP_SECONDS)
            self._found = False
            self.retry_at = now + self._nap

    def let_go(self, connection: Connection) -> None:
        """Give both back: inserts need not notify."""
        if self.is_lookout:
            watch.release_keys(connection)
        self.is_lookout = self.holding = False
        self.retry_at = 0.0
