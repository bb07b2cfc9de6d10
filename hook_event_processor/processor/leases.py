"""Leased events: their runs in worker slots, and their heartbeat until the last is recorded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from uuid import UUID

from hook_event_processor.event import GOOD, Outcome
from hook_event_processor.processor.attempt import Attempts
from hook_event_processor.processor.batch import Batch, ToLease
from hook_event_processor.processor.executor import Chunk, Executor
from hook_event_processor.processor.lease_recording import Finished, LeasedEvent, LeaseRecorder, Written
from hook_event_processor.processor.outage import Outage
from hook_event_processor.processor.own_connection import OwnConnection
from hook_event_processor.processor.report import Report
from hook_event_processor.run import ChunkResult
from hook_event_processor.store import ack, arrays
from hook_event_processor.store.claim import Claim
from hook_event_processor.store.database import PREPARE_AFTER, Database
from hook_event_processor.telemetry.watchdog import Progress

logger = logging.getLogger("HookEventProcessor")

_LAST_GOOD = 96 + GOOD
_TICK_SECONDS = 0.25
_LONG_RUNS_SECONDS = 0.5
_LOCKED_SECONDS = 0.05
_MAX_RECORDED = 500  # runs in one transaction


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
        recorder: LeaseRecorder | None = None,
    ) -> None:
        self.slots = slots
        self._may_prepare = may_prepare
        self._database = database
        self._executor = executor
        self._attempts = attempts
        self._report = report
        self._slots_freed = slots_freed
        self._due_in = due_in
        self._changed = threading.Condition()
        self._free = slots
        self._in_flight: dict[bytes, LeasedEvent] = {}
        self._finished: list[Finished] = []
        self._recorder = recorder or LeaseRecorder(node, attempts)
        self._stopping = self._over = False
        self._own = OwnConnection(database, outage, "leases", begin=arrays.register)
        self._heartbeat_at = self._long_runs_at = 0.0

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
            events = [self._new(item, batch) for item in batch.to_lease]
        for event in events:
            self._start_stage(event)

    def _new(self, item: ToLease, batch: Batch) -> LeasedEvent:
        event = LeasedEvent(item.row, item.route, item.slots, batch.token, batch.sure_until)
        self._in_flight[item.row.id] = event
        return event

    def _start_stage(self, event: LeasedEvent) -> None:
        event.running = [
            Chunk(
                hook,
                [event.row],
                lambda chunk: self._ended(event, chunk, chunk.result),
                lambda chunk: self._may_begin(event, chunk),
            )
            for hook in event.route.stages[event.stage]
        ]
        for chunk in list(event.running):
            self._executor.submit(chunk)

    def _may_begin(self, event: LeasedEvent, chunk: Chunk) -> bool:
        """Whether the lease is surely ours; else the chunk waits for a heartbeat, which may find that it is lost."""
        if ack.is_sure(event.sure_until):
            return True
        with self._changed:
            event.waiting.append(chunk)
            self._heartbeat_at = 0.0
            self._changed.notify()
        return False

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
            self._turn(progress)
        self._turn(progress)  # what has ended meanwhile must not be handed back, to run again
        self._own.close()

    def _turn(self, progress: Progress) -> None:
        progress.mark()
        try:
            self._see_to_long_runs()
            self._beat()
            self._record(self._take_finished())
            self._own.worked()
        except Exception as fault:
            self._lost(fault)

    def _take_finished(self) -> list[Finished]:
        with self._changed:
            if not self._finished and not self._over:
                self._changed.wait(_TICK_SECONDS)
            return self._finished[:_MAX_RECORDED]

    def _lost(self, fault: Exception) -> None:
        ends = monotonic() + self._own.lost(fault, "leased runs could not be recorded")
        self._report.metrics.add(errors=1)
        with self._changed:
            # Runs that end meanwhile notify, and are no reason to hurry.
            while not self._over and (left := ends - monotonic()) > 0:
                self._changed.wait(left)

    def _see_to_long_runs(self) -> None:
        """Let what computes for long give way; give up what is past its deadline, since nothing interrupts it."""
        now = monotonic()
        if now < self._long_runs_at:
            return
        self._long_runs_at = now + _LONG_RUNS_SECONDS
        self._executor.demote()
        with self._changed:
            running = [(event, chunk) for event in self._in_flight.values() for chunk in event.running]
            overdue = [(event, chunk) for event, chunk in running if self._executor.overdue(chunk, now)]
        for event, chunk in overdue:
            self._executor.abandon(chunk)
            reason = f"stuck: the run did not end within its {chunk.hook.timeout:g} s, and could not be interrupted"
            logger.error("%s is %s; its thread is given up", chunk.hook.name, reason)
            self._ended(event, chunk, ChunkResult.refused(Outcome.STUCK, reason, 1))

    def _beat(self) -> None:
        """Extend the leases of what runs here, in time; what waits for that begins, or is given up."""
        with self._changed:
            if monotonic() < self._heartbeat_at:
                return
            events = list(self._in_flight.values())
        sure_until = ack.lease_sure_until()
        held, locked = self._extended(events)
        with self._changed:
            if self._over:
                return  # it may have been handed back meanwhile
            for event in events:
                if event.row.id in held:
                    event.sure_until = sure_until
                elif event.row.id not in locked:
                    event.sure_until = 0.0
            waiting = [event for event in events if event.waiting and event.row.id not in locked]
            begin = [chunk for event in waiting if event.row.id in held for chunk in _taken(event.waiting)]
            freed = sum([self._give_up(event) for event in waiting if event.row.id not in held])
            wait = any(event.waiting for event in self._in_flight.values())
            self._heartbeat_at = monotonic() + (_TICK_SECONDS if wait else ack.HEARTBEAT_SECONDS)
        for chunk in begin:
            self._executor.submit(chunk)
        if freed:
            self._slots_freed()

    def _extended(self, events: Sequence[LeasedEvent]) -> tuple[set[bytes], set[bytes]]:
        """As ack.extended()."""
        if not events:
            return set(), set()
        connection = self._own.connected()
        connection.prepare_threshold = PREPARE_AFTER if self._may_prepare() else None
        told = ack.extended(connection, [(event.row.id, event.token) for event in events])
        connection.commit()
        return told

    def _give_up(self, event: LeasedEvent) -> int:
        """The lease is lost: what waits does not begin. Returns the slots that are free now."""
        if any(one.event is event for one in self._finished):
            return 0  # once the runs before are told
        for chunk in _taken(event.waiting):
            event.running.remove(chunk)
            logger.info("the lease of event %s was lost; %s does not run", UUID(bytes=event.row.id), chunk.hook.name)
        if event.running:
            return 0
        del self._in_flight[event.row.id]
        self._free += event.slots
        return event.slots

    def _record(self, finished: Sequence[Finished]) -> None:
        if finished:
            self._forget(finished, self._recorder.record(self._own.connected(), finished))

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
                if one.event.row.id in written.lost:
                    one.event.sure_until = 0.0
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
            self._report.metrics.add(succeeded=0 if event.route.pauses else 1)
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

    def cut(self) -> None:
        """From another thread: end a wait for a server that no longer answers."""
        self._own.cut()

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
            for event in self._in_flight.values():
                event.sure_until = 0.0  # others run it from now on
        if leases:
            with self._database.session("release") as connection:
                arrays.register(connection)
                ack.released(connection, leases)


def _taken(chunks: list[Chunk]) -> list[Chunk]:
    """All of them; none are left."""
    taken = chunks[:]
    chunks.clear()
    return taken
