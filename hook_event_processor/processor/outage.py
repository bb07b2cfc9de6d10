"""Losing the database and finding it again: said once each, whoever notices first."""

from __future__ import annotations

import logging
import threading
from time import monotonic

from tenacity import RetryCallState, Retrying, wait_exponential_jitter

logger = logging.getLogger("HookEventProcessor")
_WAIT = wait_exponential_jitter(initial=0.25, max=5.0, jitter=0.25)


class Outage:
    """Whether the database is away, as the processor's threads have found it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None

    @property
    def seconds(self) -> float | None:
        """How long the database has been away; None when it is there."""
        since = self._since
        return None if since is None else monotonic() - since

    def begin(self, reason: str) -> None:
        """A thread could not reach it."""
        with self._lock:
            if self._since is None:
                self._since = monotonic()
                logger.warning("the database is away, trying again: %s", reason)

    def end(self) -> None:
        """A thread has reached it."""
        with self._lock:
            if self._since is not None:
                logger.info("the database is back after %.1f s", monotonic() - self._since)
                self._since = None


def reconnect_delay(attempt: int) -> float:
    """Seconds to wait after this failed attempt (from 1) to connect."""
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt
    return float(_WAIT(state))
