"""What a processor does every few seconds: writing of itself and of silent hosts, firing schedules, sweeping."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from psycopg import Connection, errors

from hook_event_processor.processor import fleet
from hook_event_processor.processor.degraded import Degraded
from hook_event_processor.processor.firing import Firing
from hook_event_processor.processor.outage import Outage
from hook_event_processor.processor.own_connection import OwnConnection
from hook_event_processor.processor.report import Report
from hook_event_processor.processor.resumption import Resumption
from hook_event_processor.settings import Settings
from hook_event_processor.store import handlers, own_events, processors, state, waiting
from hook_event_processor.store.database import Database
from hook_event_processor.store.frontier import Frontier
from hook_event_processor.telemetry.watchdog import Progress

logger = logging.getLogger("HookEventProcessor")

_INTERVAL_SECONDS = fleet.HEARTBEAT_SECONDS
_FLEET_SECONDS = 10.0
_PATROL_ROWS, _PATROL_SECONDS = 5_000, 60.0  # at a time; between two questions whether it is time for one
_LAST_TRIES, _LAST_PAUSE_SECONDS = 20, 0.05  # to count runs at the end: another processor may be counting its own
_SWEEP_SECONDS = 60.0  # between two removals of keys of state that have expired; nobody sees them meanwhile


class Housekeeping:
    """Writes on a connection of its own, so that nothing waits for it."""

    def __init__(
        self,
        database: Database,
        report: Report,
        outage: Outage,
        describe: Callable[[], Mapping[str, Any]],
        frontier: Frontier,
        settings: Settings,
    ) -> None:
        """`describe` gives the processor's row, as store.processors.say takes it."""
        self._settings = settings
        self._report = report
        self._outage = outage
        self._describe = describe
        self._frontier = frontier
        self._stopping = threading.Event()
        self._bell = threading.Event()
        self.resumption = Resumption(self.hurry)
        self.firing = Firing(self.hurry, settings.max_payload_size)
        self._own = OwnConnection(database, outage, "housekeeping", autocommit=True, begin=self._begin)
        self._run_counts: dict[int, int] = {}
        self._ascent = waiting.Ascent()
        self._patrol = waiting.Patrol()
        self._patrol_at = 0.0
        self._sweep_at = self._fleet_at = 0.0
        self._degraded = Degraded()
        self._said = False
        self._oldest_at: float | None = None
        self.adopt: Callable[[Connection], None] = lambda _: None  # what processors that died have left
        self.backlog: int | None = None  # of the whole database, as it was a few seconds ago, up to COUNT_LIMIT

    def run(self, progress: Progress) -> None:
        """Write every few seconds until stop()."""
        while not self._stopping.is_set():
            progress.mark()
            began_at = time.monotonic()
            try:
                connection = self._own.connected()
                rises = self._raise_floor(connection, progress)
                self.write(counted=not self._ascent.is_far)
                self._see_to_the_rest(connection, progress)
                self._own.worked()
                # It is there, though it may refuse another thread's session.
                self._outage.end(began_at)
                wait = 0.0 if rises else self.firing.due_in(self.resumption.due_in(_INTERVAL_SECONDS))
            except Exception as fault:
                wait = self._own.lost(fault, "the processor's row could not be written")
            progress.mark()
            self._bell.wait(wait)
            self._bell.clear()

    def stop(self) -> None:
        self._stopping.set()
        self._bell.set()

    def hurry(self) -> None:
        """From any thread: write soon."""
        self._bell.set()

    def cut(self) -> None:
        """From another thread: end a wait for a server that no longer answers."""
        self._own.cut()

    def write_stopped(self) -> None:
        """Write the last time, when nothing else of the processor runs any more."""
        self.write(state="stopped")
        for _ in range(_LAST_TRIES):
            self._count_runs(self._own.connected())
            if not self._run_counts:
                break
            time.sleep(_LAST_PAUSE_SECONDS)
        self._own.close()

    def _begin(self, connection: Connection) -> None:
        own_events.attach(connection, self._settings, "processor")
        processors.forget(connection)
        self._frontier.forget()  # this server may have given less than the one before
        self._ascent.look(connection)
        self.firing.news()  # and may have other schedules
        self._fleet_at = time.monotonic() + fleet.GRACE_SECONDS

    def write(self, *, counted: bool = True, **changed: str) -> None:
        """Write once. Raises as psycopg and Database.connect do.

        What waits is not `counted` while a long history may lie before it.
        """
        connection = self._own.connected()
        row = {**self._describe(), **changed}
        if self._degraded.is_told:
            row["health"] = {**row["health"], processors.TOLD: True}
        processors.say(connection, row, anew=not self._said)
        self._said = True
        self._degraded.tell(connection, row)
        if counted:
            self.backlog = processors.waiting(connection, self._frontier.lowest)
            self._measure(connection)

    def _raise_floor(self, connection: Connection, progress: Progress) -> bool:
        """Whether there is more of it to do."""
        ends = time.monotonic() + _INTERVAL_SECONDS
        try:
            while self._ascent.step(connection, self._frontier.settled):
                progress.mark()
                if time.monotonic() >= ends:
                    return True
        except errors.LockNotAvailable as refusal:
            self._own.notice(refusal, "the floor is not raised")
        return False

    def _see_to_the_rest(self, connection: Connection, progress: Progress) -> None:
        """What neither a right that the role lacks for one of them nor somebody's lock must keep from the others."""
        for step, failed in (
            (self.resumption.step, "pauses do not end"),
            (self._see_to_patrol, "the history is not looked through"),
            (self._see_to_hosts, "silent hosts are not told"),
            (self.adopt, "what died processors were running is not known"),
            (self._sweep, "expired state is not removed"),
            (self.firing.step, "schedules do not fire"),
            (self._count_runs, "runs are not counted"),
        ):
            progress.mark()
            try:
                step(connection)
            except (errors.InsufficientPrivilege, errors.LockNotAvailable) as refusal:
                self._own.notice(refusal, failed)

    def _see_to_patrol(self, connection: Connection) -> None:
        now = time.monotonic()
        if now >= self._patrol_at:
            found = self._patrol.step(connection, _PATROL_ROWS)
            if found:
                logger.warning("%d events waited where no claim looks for them, and are due now", found)
            self._patrol_at = now + (0.0 if self._patrol.under_way else _PATROL_SECONDS)

    def _measure(self, connection: Connection) -> None:
        """How long the oldest event has waited that a claim would take now."""
        oldest = processors.oldest_waiting(connection, self._frontier.lowest) if self.backlog else None
        self._oldest_at = None if oldest is None else time.monotonic() - oldest

    @property
    def waiting_seconds(self) -> float | None:
        """How long the oldest event has been ready that needs no worker slot, if it still is."""
        oldest_at = self._oldest_at
        return None if oldest_at is None else time.monotonic() - oldest_at

    def _see_to_hosts(self, connection: Connection) -> None:
        now = time.monotonic()
        if now >= self._fleet_at:
            self._fleet_at = now + _FLEET_SECONDS
            fleet.tell(connection)

    def _count_runs(self, connection: Connection) -> None:
        """What cannot be counted is kept for the next time."""
        for hook_id, count in self._report.take_run_counts().items():
            self._run_counts[hook_id] = self._run_counts.get(hook_id, 0) + count
        if self._run_counts:
            self._run_counts = handlers.count_runs(connection, self._run_counts)

    def _sweep(self, connection: Connection) -> None:
        now = time.monotonic()
        if now >= self._sweep_at:
            more = state.remove_expired(connection)
            self._sweep_at = now + (0.0 if more else _SWEEP_SECONDS)
