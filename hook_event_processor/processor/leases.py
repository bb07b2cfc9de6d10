"""Leased events: their runs in worker slots, their heartbeat, and the recording of each run as it ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from uuid import UUID

import psycopg
from psycopg import Connection

from hook_event_processor.errors import StoreUnavailable
from hook_event_processor.event import GOOD, Outcome
from hook_event_processor.processor.attempt import Attempts
from hook_event_processor.processor.batch import Batch, ToLease
from hook_event_processor.processor.executor import Chunk, Executor
from hook_event_processor.processor.outage import Outage, reconnect_delay
from hook_event_processor.processor.recording import DATA_ERRORS
from hook_event_processor.processor.report import Report
from hook_event_processor.registry import Hook, Route
from hook_event_processor.run import ChunkResult
from hook_event_processor.store import ack, arrays, record
from hook_event_processor.store.ack import Failure
from hook_event_processor.store.claim import Claim, Row
from hook_event_processor.store.database import Database
from hook_event_processor.telemetry.watchdog import Progress

logger = logging.getLogger("HookEventProcessor")

_LAST_GOOD = 96 + GOOD
_TICK_SECONDS = 0.25
_MAX_RECORDED = 500  # runs in one transaction


@dataclass(eq=False, slots=True)
class LeasedEvent:
    """An event that runs here under a lease, stage after stage."""

    row: Row
    route: Route
    slots: int
    token: UUID
    stage: int = 0
    running: list[Chunk] = field(default_factory=list)
    failed: list[tuple[Hook, bytes]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that ended, to be recorded; `last` when the event is over with it."""

    event: LeasedEvent
    hook: Hook
    result: ChunkResult
    last: bool

    @property
    def good(self) -> bool:
        return self.result.codes[0] <= _LAST_GOOD


class Leases:
    """Runs leased events in `workers` slots, and records them on a connection of its own."""

    def __init__(
        self,
        database: Database,
        node: str,
        slots: int,
        executor: Executor,
        attempts: Attempts,
        report: Report,
        outage: Outage,
        *,
        slots_freed: Callable[[], None],
        due_in: Callable[[float], None],
    ) -> None:
        self._database = database
        self._node = node
        self._executor = executor
        self._attempts = attempts
        self._report = report
        self._outage = outage
        self._slots_freed = slots_freed
        self._due_in = due_in
        self._changed = threading.Condition()
        self._free = slots
        self._in_flight: dict[bytes, LeasedEvent] = {}
        self._finished: list[Finished] = []
        self._stopping = False
        self._connection: Connection | None = None
        self._heartbeat_at = 0.0
        self._failures = 0

    def reserve(self) -> int:
        """Take all free slots for one claim; what it does not use is given back."""
        with self._changed:
            free, self._free = self._free, 0
            return 0 if self._stopping else free

    def give_back(self, slots: int) -> None:
        with self._changed:
            self._free += slots

    def keep_out(self, claim: Claim) -> None:
        """Drop from the claim what still runs here though its lease ran out; the heartbeat renews the lease."""
        with self._changed:
            claim.due = [row for row in claim.due if row.id not in self._in_flight]
            claim.for_slots = [row for row in claim.for_slots if row.id not in self._in_flight]

    def start(self, batch: Batch) -> None:
        """Run the events that the batch has leased; their slots are taken already."""
        with self._changed:
            events = [self._new(item, batch.token) for item in batch.to_lease]
        for event in events:
            self._start_stage(event)

    def _new(self, item: ToLease, token: UUID) -> LeasedEvent:
        event = LeasedEvent(item.row, item.route, item.slots, token)
        self._in_flight[item.row.id] = event
        return event

    def _start_stage(self, event: LeasedEvent) -> None:
        event.running = [
            Chunk(hook, [event.row], lambda chunk: self._ended(event, chunk, chunk.result))
            for hook in event.route.stages[event.stage]
        ]
        for chunk in list(event.running):
            self._executor.submit(chunk)

    def _ended(self, event: LeasedEvent, chunk: Chunk, result: ChunkResult | None) -> None:
        """A run of this event ended: record it, and begin the next stage when it was the stage's last."""
        assert result is not None  # noqa: S101 - it has ended
        with self._changed:
            if chunk not in event.running:
                return  # given up meanwhile: what it returns is dropped
            event.running.remove(chunk)
            if result.codes[0] > _LAST_GOOD:
                event.failed.append((chunk.hook, result.errors[0] or b""))
            stage_over = not event.running
            last = stage_over and event.stage + 1 == len(event.route.stages)
            self._finished.append(Finished(event, chunk.hook, result, last))
            self._changed.notify()
        if stage_over and not last:
            event.stage += 1
            self._start_stage(event)

    def run(self, progress: Progress) -> None:
        """Record what ends and keep the leases, until stop() and everything is recorded."""
        while self._work_left():
            progress.mark()
            try:
                self._give_up_overdue()
                self._beat()
                self._record(self._take_finished())
                self._failures = 0
            except (psycopg.OperationalError, psycopg.InterfaceError, StoreUnavailable) as fault:
                self._lost(fault)
            except Exception:
                logger.exception("leased runs could not be recorded, trying again")
                self._lost(None)
        if self._connection is not None:
            self._connection.close()

    def _work_left(self) -> bool:
        with self._changed:
            return not self._stopping or bool(self._finished) or bool(self._in_flight)

    def _take_finished(self) -> list[Finished]:
        with self._changed:
            if not self._finished and not self._stopping:
                self._changed.wait(_TICK_SECONDS)
            return self._finished[:_MAX_RECORDED]

    def _lost(self, fault: Exception | None) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._failures += 1
        self._report.metrics.add(errors=1)
        if fault is not None:
            self._outage.begin(str(fault))
        with self._changed:
            self._changed.wait(reconnect_delay(self._failures))

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect("leases")
            arrays.register(self._connection)
            self._outage.end()
        return self._connection

    def _give_up_overdue(self) -> None:
        """A run that did not end at its deadline is stuck where nothing can interrupt it: it has failed."""
        now = monotonic()
        with self._changed:
            overdue = [(e, c) for e in self._in_flight.values() for c in e.running if c.overdue(now)]
        for event, chunk in overdue:
            self._executor.abandon(chunk)
            reason = f"stuck: the run did not end within its {chunk.hook.timeout:g} s, and could not be interrupted"
            logger.error("%s is %s; its thread is given up", chunk.hook.name, reason)
            self._ended(event, chunk, ChunkResult.refused(Outcome.STUCK, reason, 1))

    def _beat(self) -> None:
        """Extend the leases of what runs here, in time."""
        if monotonic() < self._heartbeat_at:
            return
        with self._changed:
            leases = [(event.row.id, event.token) for event in self._in_flight.values()]
        if leases:
            connection = self._connected()
            ack.extended(connection, leases)
            connection.commit()
        self._heartbeat_at = monotonic() + ack.HEARTBEAT_SECONDS

    def _record(self, finished: Sequence[Finished]) -> None:
        if not finished:
            return
        connection = self._connected()
        try:
            with connection.transaction():
                lost = self._write(connection, finished)
        except DATA_ERRORS as fault:
            logger.warning("leased runs could not be recorded at once, recording them one by one: %s", fault)
            lost = set()
            for one in finished:
                lost |= self._record_one(connection, one)
        self._forget(finished, lost)

    def _record_one(self, connection: Connection, one: Finished) -> set[bytes]:
        try:
            with connection.transaction():
                return self._write(connection, [one])
        except DATA_ERRORS as fault:
            reason = f"the run could not be recorded: {fault.diag.message_primary or fault}"
            guilty = ChunkResult.refused(Outcome.FAILED, reason, 1)
            one.event.failed.append((one.hook, reason.encode()))
            with connection.transaction():
                return self._write(connection, [Finished(one.event, one.hook, guilty, one.last)])

    def _write(self, connection: Connection, finished: Sequence[Finished]) -> set[bytes]:
        """Write what is guarded by leases that are still ours; returns the events whose leases are lost."""
        leases = list({one.event.row.id: one.event.token for one in finished}.items())
        held = ack.held(connection, leases)
        ours = [one for one in finished if one.event.row.id in held]
        runs = record.Runs()
        children: list[record.Child] = []
        for one in ours:
            row, result = one.event.row, one.result
            runs.add(one.hook, [row.id], [row.attempt], result.codes, result.durations, result.outputs, result.errors)
            for dispatched in result.dispatched.get(0, ()):
                children.append(self._attempts.child(row, one.hook, dispatched))
        over = [one.event for one in ours if one.last]
        failures = [self._failure(event, children) for event in over if event.failed]
        record.record(connection, runs, self._node, statement=record.BEGAN_EARLIER)
        record.dispatch(connection, children)
        ack.finished(connection, [event.row.id for event in over if not event.failed])
        ack.failed(connection, failures)
        return {event_id for event_id, _ in leases} - held

    def _failure(self, event: LeasedEvent, children: list[record.Child]) -> Failure:
        failure = self._attempts.failure(event.row, event.failed, needs_slot=True)
        letter = self._attempts.dead_letter(event.row, failure, event.failed)
        if letter is not None:
            children.append(letter)
        if failure.delay is not None:
            self._due_in(failure.delay)
        return failure

    def _forget(self, finished: Sequence[Finished], lost: set[bytes]) -> None:
        """The transaction is committed: free the slots, and tell."""
        freed = 0
        with self._changed:
            del self._finished[: len(finished)]
            for one in finished:
                if one.last:
                    self._in_flight.pop(one.event.row.id, None)
                    self._free += one.event.slots
                    freed += one.event.slots
        if freed:
            self._slots_freed()
        for one in finished:
            if one.event.row.id in lost:
                logger.info(
                    "the lease of event %s was lost; %s is not recorded", UUID(bytes=one.event.row.id), one.hook.name
                )
                continue
            self._report.runs(one.hook, [one.event.row], one.result)
            if one.last:
                self._count(one.event)

    def _count(self, event: LeasedEvent) -> None:
        if not event.failed:
            self._report.metrics.add(succeeded=1)
        elif self._attempts.exhausted(event.row, event.failed):
            self._report.metrics.add(failed=1)
        else:
            self._report.metrics.add(retried=1)

    def stop(self) -> None:
        """Lease nothing more; run() returns when what runs is recorded."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits to be recorded."""
        with self._changed:
            return not self._in_flight and not self._finished

    @property
    def free(self) -> int:
        """Worker slots that nothing takes."""
        return self._free

    @property
    def leased(self) -> int:
        """Events under a lease of this processor."""
        return len(self._in_flight)

    def release(self) -> None:
        """Hand back what still runs; the process is about to exit."""
        with self._changed:
            leases = [(event.row.id, event.token) for event in self._in_flight.values()]
        if leases:
            with self._database.session("release") as connection:
                ack.released(connection, leases)
