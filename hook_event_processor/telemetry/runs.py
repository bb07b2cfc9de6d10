"""The log of runs: a line for each while they are few, a count while they are many."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from uuid import UUID

from hook_event_processor.telemetry.journal import fields

_ERROR_SHOWN = 4_000  # characters; event_hook_executions has all of it
_SUMMARY_SECONDS = 1.0


class RunLog:
    """Logs runs of hooks, successes as INFO and failures as WARNING, each at a limited rate of their own.

    A burst of `burst` lines passes, then `rate` lines a second. That is well
    below what journald itself accepts from a service (10,000 lines in 30 s),
    so that no other line is dropped for the sake of these. May be called from
    any thread.
    """

    def __init__(
        self,
        logger: logging.Logger,
        rate: float = 100.0,
        burst: int = 200,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._clock = clock
        now = clock()
        self._successes = Bucket(rate, burst, now)
        self._failures = Bucket(rate, burst, now)

    def allows(self, failed: bool) -> bool:
        """Whether one run may be logged; a run that may not is counted. Ask once for each run, before run()."""
        return self.allowed(1, failed) == 1

    def allowed(self, runs: int, failed: bool) -> int:
        """How many of so many runs may be logged one by one; the others are counted."""
        if not self._logger.isEnabledFor(logging.WARNING if failed else logging.INFO):
            return 0
        with self._lock:
            taken = (self._failures if failed else self._successes).take(runs, self._clock())
        if taken < runs:
            self.summarize()
        return taken

    def run(
        self,
        *,
        event_id: UUID | str,
        event_type: str,
        source: str,
        action: str,
        hook: str,
        outcome: str,
        duration_ms: float,
        error: str | None = None,
        correlation_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
    ) -> None:
        """Log one run, as a failure when it has an error."""
        text = f"{hook}: {outcome} after {duration_ms:.2f} ms, event {event_type} {event_id}"
        if error is not None:
            text += f"\n{error[:_ERROR_SHOWN]}"
        extra = fields(
            event_id=event_id,
            hook=hook,
            source=source,
            action=action,
            outcome=outcome,
            correlation_id=correlation_id,
            agent_id=agent_id,
            session_id=session_id,
            duration_ms=duration_ms,
        )
        self._logger.log(logging.INFO if error is None else logging.WARNING, "%s", text, extra=extra)

    def summarize(self) -> None:
        """Say how many runs were left out, if that began a second ago or more; call it every second or so."""
        self._report(self._clock() - _SUMMARY_SECONDS)

    def close(self) -> None:
        """Say how many runs were left out since that was last said."""
        self._report(self._clock())

    def _report(self, since: float) -> None:
        with self._lock:
            successes = self._successes.left_out_since(since)
            failures = self._failures.left_out_since(since)
        if successes:
            self._logger.info("runs not logged one by one: %d more; event_hook_executions has them", successes)
        if failures:
            self._logger.warning("failed runs not logged one by one: %d more; event_hook_executions has them", failures)


class Bucket:
    """A token bucket, and a count of those who found it empty."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._filled_at = now
        self._left_out = 0
        self._left_out_from = now

    def take(self, wanted: int, now: float) -> int:
        """How many of so many there are tokens for; the others are counted."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        taken = min(wanted, int(self._tokens))
        self._tokens -= taken
        if taken < wanted and not self._left_out:
            self._left_out_from = now
        self._left_out += wanted - taken
        return taken

    def left_out_since(self, moment: float) -> int:
        """The count, which starts anew; 0 if its first came after `moment`."""
        if self._left_out_from > moment:
            return 0
        left_out, self._left_out = self._left_out, 0
        return left_out
