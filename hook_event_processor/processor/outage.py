"""Losing the database and finding it again: said once each, whoever notices first."""

from __future__ import annotations

import logging
import threading
from time import monotonic

import psycopg
from psycopg import Connection, errors
from tenacity import wait_exponential_jitter

from hook_event_processor.errors import StoreUnavailable
from hook_event_processor.retry import wait_after
from hook_event_processor.store.database import one_line

logger = logging.getLogger("HookEventProcessor")
_WAIT = wait_exponential_jitter(multiplier=0.25, max=5.0, jitter=0.25)
# What no program of ours is at fault for: a full disk, a server that was made read-only, rights that were not granted.
_OF_THE_SERVER = (psycopg.OperationalError, errors.ReadOnlySqlTransaction, errors.InsufficientPrivilege)
_AGAIN_SECONDS = 60.0  # until the same is said again


class Outage:
    """Whether the database is away, as the processor's threads have found it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None
        self._begun = 0
        self._began_at = 0.0
        self._said: dict[str, tuple[str, float]] = {}  # by what came to nothing: why, and when that was said

    @property
    def seconds(self) -> float | None:
        """How long the database has been away; None when it is there."""
        since = self._since
        return None if since is None else monotonic() - since

    def begin(self, reason: str) -> None:
        """A thread could not reach it."""
        with self._lock:
            if self._since is None:
                self._since = self._began_at = monotonic()
                self._begun += 1
                logger.warning("the database is away, trying again: %s", reason)

    def end(self, tried_at: float) -> int:
        """A thread has reached it, which it began to try at that moment (monotonic).

        Returns how many outages had begun before that, for notice(): a session
        that is older than an outage is one of those that it may have taken.
        """
        with self._lock:
            if tried_at < self._began_at:
                return self._begun - 1
            if self._since is not None:
                logger.info("the database is back after %.1f s", monotonic() - self._since)
                self._since = None
            return self._begun

    def notice(self, fault: Exception, what: str, connection: Connection | None, begun: int) -> None:
        """A thread's work came to nothing over `fault`: say `what`, or that the database is away.

        `begun` is what end() returned when the thread connected: a connection
        that an outage took tells nothing new, be that outage over or not.
        """
        if isinstance(fault, StoreUnavailable):
            self.begin(str(fault))
        elif connection is not None and connection.closed and isinstance(fault, psycopg.Error):
            if begun == self._begun:
                self.begin(one_line(fault))
        elif isinstance(fault, _OF_THE_SERVER):
            if self._is_news(what, one_line(fault)):
                logger.warning("%s, trying again: %s", what, one_line(fault))
        else:
            logger.error("%s, trying again", what, exc_info=fault)

    def _is_news(self, what: str, why: str) -> bool:
        with self._lock:
            before, said_at = self._said.get(what, ("", 0.0))
            if why == before and monotonic() - said_at < _AGAIN_SECONDS:
                return False
            self._said[what] = why, monotonic()
            return True


def reconnect_delay(attempt: int) -> float:
    """Seconds to wait after this failed attempt (from 1) to connect."""
    return wait_after(_WAIT, attempt)
