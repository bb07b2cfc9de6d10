"""Leased events: their runs in worker slots, their heartbeat, and the recording of each run as it ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from uuid import UUID

from psycopg import Connection

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
from hook_event_processor.store.database import PREPARE_AFTER, Database, one_line
from hook_event_processor.telemetry.watchdog import Progress

logger = logging.getLogger("HookEventProcessor")

_LAST_GOOD = 96 + GOOD
_TICK_SECONDS = 0.25
_LOCKED_SECONDS = 0.05
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


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """A run that ended, to be recorded; `last` when the event is over with it."""

    event: LeasedEvent
    hook: Hook
    result: ChunkResult
    last: bool


@dataclass(slots=True)
class Written:
    """What came of recording: events that somebody else has locked, those whose lease is lost, delays of retries."""

    locked: set[bytes] = field(default_factory=set)
    lost: set[bytes] = field(default_factory=set)
    delays: list[float] = field(default_factory=list)


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
        may_prepare: Callable[[], bool],
    ) -> None:
        self.slots = slots
        self._may_prepare = may_prepare
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
        # What a transaction held whose end is not known.
        self._in_doubt: Sequence[Finished] = ()
        self._stopping = self._over = False
        self._connection: Connection | None = None
        self._heartbeat_at = 0.0
        self._failures = self._outages = 0

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
        """Record what ends and keep the leases, until end()."""
        while not self._over:
            progress.mark()
            try:
                self._give_up_overdue()
                self._beat()
                self._record(self._take_finished())
                self._failures = 0
            except Exception as fault:
                self._lost(fault)
        if self._connection is not None:
            self._connection.close()

    def _take_finished(self) -> list[Finished]:
        with self._changed:
            if not self._finished and not self._over:
                self._changed.wait(_TICK_SECONDS)
            return self._finished[:_MAX_RECORDED]

    def _lost(self, fault: Exception) -> None:
        self._outage.notice(fault, "leased runs could not be recorded", self._connection, self._outages)
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._failures += 1
        self._report.metrics.add(errors=1)
        ends = monotonic() + reconnect_delay(self._failures)
        with self._changed:
            # Runs that end meanwhile notify, and are no reason to hurry.
            while not self._over and (left := ends - monotonic()) > 0:
                self._changed.wait(left)

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect("leases")
            self._connection.prepare_threshold = PREPARE_AFTER if self._may_prepare() else None
            arrays.register(self._connection)
            self._outages = self._outage.end()
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
        known = self._known(connection)
        self._in_doubt = finished
        written = Written()
        try:
            with connection.transaction():
                self._write(connection, finished, known, written)
        except DATA_ERRORS as fault:
            if connection.closed:
                raise
            logger.warning("leased runs could not be recorded at once, recording them one by one: %s", one_line(fault))
            written = Written()
            for one in finished:
                self._record_one(connection, one, known, written)
        self._in_doubt = ()
        self._forget(finished, written)

    def _known(self, connection: Connection) -> set[tuple[bytes, int]]:
        """What the transaction whose end is not known has recorded after all, as (event, hook)."""
        if not self._in_doubt:
            return set()
        runs = [(one.event.row.id, one.hook.id, one.event.row.attempt) for one in self._in_doubt]
        with connection.transaction():
            return record.recorded(connection, runs, self._node)

    def _record_one(
        self, connection: Connection, one: Finished, known: set[tuple[bytes, int]], written: Written
    ) -> None:
        try:
            with connection.transaction():
                self._write(connection, [one], known, written)
                return
        except DATA_ERRORS as fault:
            reason = f"the run could not be recorded: {fault.diag.message_primary or fault}"
        guilty = replace(one, result=ChunkResult.refused(Outcome.FAILED, reason, 1))
        one.event.failed.append((one.hook, reason.encode(errors="replace")))
        logger.error("event %s: %s", UUID(bytes=one.event.row.id), reason)
        try:
            with connection.transaction():
                self._write(connection, [guilty], known, written)
        except DATA_ERRORS:  # even the dead letter is refused
            with connection.transaction():
                self._write(connection, [guilty], known, written, tell=False)

    def _write(
        self,
        connection: Connection,
        finished: Sequence[Finished],
        known: set[tuple[bytes, int]],
        written: Written,
        *,
        tell: bool = True,
    ) -> None:
        """Write what is guarded by leases that are still ours, but for the runs that are `known`."""
        leases = list({one.event.row.id: one.event.token for one in finished}.items())
        held, locked = ack.held(connection, leases)
        runs = record.Runs()
        children: list[record.Child] = []
        for one in finished:
            row, result = one.event.row, one.result
            if row.id not in held or (row.id, one.hook.id) in known:
                continue
            runs.add(one.hook, [row.id], [row.attempt], result.codes, result.durations, result.outputs, result.errors)
            for dispatched in result.dispatched.get(0, ()):
                children.append(self._attempts.child(row, one.hook, dispatched))
        over = [one.event for one in finished if one.last and one.event.row.id in held]
        failures = [self._failure(event, children if tell else []) for event in over if event.failed]
        record.record(connection, runs, self._node, statement=record.BEGAN_EARLIER)
        record.dispatch(connection, children)
        ack.finished(connection, [event.row.id for event in over if not event.failed])
        ack.failed(connection, failures)
        written.locked |= locked
        written.lost |= {one.event.row.id for one in finished if (one.event.row.id, one.hook.id) not in known}
        written.lost -= held | locked
        written.delays += [failure.delay for failure in failures if failure.delay is not None]

    def _failure(self, event: LeasedEvent, children: list[record.Child]) -> Failure:
        failure = self._attempts.failure(event.row, event.failed, needs_slot=True)
        letter = self._attempts.dead_letter(event.row, failure, event.failed)
        if letter is not None:
            children.append(letter)
        return failure

    def _forget(self, finished: Sequence[Finished], written: Written) -> None:
        """The transaction is committed: free the slots, and tell."""
        over = [one for one in finished if one.event.row.id not in written.locked]
        freed = sum(one.event.slots for one in over if one.last)
        with self._changed:
            # What is locked is tried again after all others, its runs in the order in which they ended.
            rest = [one for one in self._finished if one not in over]
            waiting = [one for one in rest if one.event.row.id in written.locked]
            self._finished = [one for one in rest if one.event.row.id not in written.locked] + waiting
            for one in over:
                if one.last:
                    self._in_flight.pop(one.event.row.id, None)
            self._free += freed
            if waiting and not over:
                self._changed.wait(_LOCKED_SECONDS)
        if freed:
            self._slots_freed()
        if written.delays:
            self._due_in(min(written.delays))
        for one in over:
            self._tell(one, written)

    def _tell(self, one: Finished, written: Written) -> None:
        event = one.event
        if event.row.id in written.lost:
            logger.info("the lease of event %s was lost; %s is not recorded", UUID(bytes=event.row.id), one.hook.name)
            return
        self._report.runs(one.hook, [event.row], one.result)
        if one.last:
            self._count(event)

    def _count(self, event: LeasedEvent) -> None:
        if not event.failed:
            self._report.metrics.add(succeeded=1)
        elif self._attempts.exhausted(event.row, event.failed):
            self._report.metrics.add(failed=1)
        else:
            self._report.metrics.add(retried=1)

    def stop(self) -> None:
        """Lease nothing more; what runs goes on, and is recorded."""
        self._stopping = True

    def end(self) -> None:
        """Let run() return."""
        with self._changed:
            self._over = True
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
