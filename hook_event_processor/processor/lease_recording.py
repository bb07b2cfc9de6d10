"""Recording leased runs as they end, guarded by leases that may be lost."""

from __future__ import annotations

import logging
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from psycopg import Connection, errors

from hook_event_processor.event import Outcome
from hook_event_processor.processor.attempt import Attempts
from hook_event_processor.processor.batch import held_for
from hook_event_processor.processor.executor import Chunk
from hook_event_processor.processor.recording import DATA_ERRORS
from hook_event_processor.registry import Hook, Route
from hook_event_processor.run import ChunkResult
from hook_event_processor.store import ack, pauses, record
from hook_event_processor.store.ack import Failure
from hook_event_processor.store.claim import Row
from hook_event_processor.store.database import one_line
from hook_event_processor.store.record import Child, Run

logger = logging.getLogger("HookEventProcessor")

# For an id, by a run alone: many may have to, one by one, and leases must be extended in time.
_WAIT_MS = 10


class _Awaited(Exception):
    """Somebody else's open transaction has inserted an event of an id that is dispatched."""


@dataclass(eq=False, slots=True)
class LeasedEvent:
    """An event that runs here under a lease, stage after stage."""

    row: Row
    route: Route
    slots: int
    token: UUID
    sure_until: float  # see ack.is_sure()
    stage: int = 0
    running: list[Chunk] = field(default_factory=list)
    waiting: list[Chunk] = field(default_factory=list)  # those of them that may not begin before the next heartbeat
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
    """What came of recording: events that wait for somebody else, those whose lease is lost, delays of retries.

    They wait for the lock of their row, or for an id that one of their runs has dispatched.
    """

    locked: set[bytes] = field(default_factory=set)
    lost: set[bytes] = field(default_factory=set)
    delays: list[float] = field(default_factory=list)


class LeaseRecorder:
    """Writes finished runs as one processor, `node`."""

    def __init__(self, node: str, attempts: Attempts) -> None:
        self._node = node
        self._attempts = attempts
        # Of runs in transactions whose end is not known: the ids of their executions.
        self._in_doubt: dict[Run, int] = {}

    def record(self, connection: Connection, finished: Sequence[Finished]) -> Written:
        """Record the runs in one transaction; one by one when one has to wait, or its data is refused.

        Raises as psycopg does when the connection is lost. What a transaction
        held that was lost at its commit is looked up before it is written again.
        """
        written = Written()
        try:
            with connection.transaction():
                self._write(connection, finished, written)
        except DATA_ERRORS as fault:
            if connection.closed:
                raise
            logger.warning("leased runs could not be recorded at once, recording them one by one: %s", one_line(fault))
            written = Written()
            self._one_by_one(connection, finished, written)
        except _Awaited:
            apart = _ids(finished)
            written = self.record(connection, [one for one in finished if one.event.row.id not in apart])
            self._one_by_one(connection, [one for one in finished if one.event.row.id in apart], written)
        for one in finished:
            if one.event.row.id not in written.locked:
                self._in_doubt.pop((one.event.row.id, one.hook.id), None)
        return written

    def _one_by_one(self, connection: Connection, finished: Sequence[Finished], written: Written) -> None:
        ids = _ids(finished)
        awaited: set[str] = set()
        for one in finished:
            event_id = one.event.row.id
            if not awaited.isdisjoint(ids.get(event_id, ())):
                written.locked.add(event_id)
            if event_id in written.locked:
                continue  # its runs are recorded in their order
            try:
                self._record_one(connection, one, written)
            except _Awaited:
                awaited |= ids.get(event_id, set())
                written.locked.add(event_id)

    def _record_one(self, connection: Connection, one: Finished, written: Written) -> None:
        try:
            with connection.transaction():
                self._write(connection, [one], written)
                return
        except DATA_ERRORS as fault:
            reason = f"the run could not be recorded: {fault.diag.message_primary or fault}"
        failure = (one.hook, reason.encode(errors="replace"))
        one.event.failed.append(failure)
        try:
            self._write_guilty(connection, replace(one, result=ChunkResult.refused(Outcome.FAILED, reason, 1)), written)
        except BaseException:
            # It was not the run's data, or that is not known yet: the run is recorded as it ended, later.
            one.event.failed.remove(failure)
            raise
        logger.error("event %s: %s", UUID(bytes=one.event.row.id), reason)

    def _write_guilty(self, connection: Connection, guilty: Finished, written: Written) -> None:
        try:
            with connection.transaction():
                self._write(connection, [guilty], written)
        except DATA_ERRORS:  # even the dead letter is refused
            with connection.transaction():
                self._write(connection, [guilty], written, tell=False)

    def _write(
        self,
        connection: Connection,
        finished: Sequence[Finished],
        written: Written,
        *,
        tell: bool = True,
    ) -> None:
        """Write what is guarded by leases that are still ours, but for the runs that are recorded after all."""
        leases = list({one.event.row.id: one.event.token for one in finished}.items())
        held, locked = ack.held(connection, leases)
        known = self._known(connection, finished, locked)
        runs = record.Runs()
        children: list[Child] = []
        for one in finished:
            row, result = one.event.row, one.result
            if row.id not in held or (row.id, one.hook.id) in known:
                continue
            runs.add(one.hook, [row.id], [row.attempt], result.codes, result.durations, result.outputs, result.errors)
            for dispatched in result.dispatched.get(0, ()):
                children.append(self._attempts.child(row, one.hook, dispatched))
            children += [child for _, child in self._attempts.own_events([row], one.hook, result)]
        over = [one.event for one in finished if one.last and one.event.row.id in held]
        failures = [self._failure(event, children if tell else []) for event in over if event.failed]
        self._in_doubt |= record.record_leased(connection, runs, self._node)
        self._dispatch(connection, children, _WAIT_MS if len(finished) == 1 else record.WAIT_MS)
        done = [event for event in over if not event.failed]
        ack.finished(connection, [event.row.id for event in done if not event.route.pauses])
        paused = [held_for(event.row, event.route) for event in done if event.route.pauses]
        pauses.hold(connection, paused)
        ack.failed(connection, failures)
        written.locked |= locked
        written.lost |= {one.event.row.id for one in finished if (one.event.row.id, one.hook.id) not in known}
        written.lost -= held | locked
        written.delays += [failure.delay for failure in failures if failure.delay is not None]
        written.delays += [pauses.HELD_IN_VAIN_SECONDS] if paused else []  # if the pause has ended meanwhile

    def _dispatch(self, connection: Connection, children: Sequence[Child], wait_ms: int) -> None:
        try:
            record.dispatch(connection, children, wait_ms)
        except errors.LockNotAvailable as fault:
            if any(child.id is not None for child in children):
                raise _Awaited from fault
            raise

    def _known(self, connection: Connection, finished: Sequence[Finished], locked: Container[bytes]) -> set[Run]:
        """Which of the runs in doubt are recorded after all.

        Asked with their events locked: a transaction of ours that the server
        has still to end has them locked itself, and they stay in doubt.
        """
        runs = [(one.event.row.id, one.hook.id) for one in finished if one.event.row.id not in locked]
        doubtful = {run: self._in_doubt[run] for run in runs if run in self._in_doubt}
        return record.recorded(connection, doubtful, self._node) if doubtful else set()

    def _failure(self, event: LeasedEvent, children: list[Child]) -> Failure:
        failure = self._attempts.failure(event.row, event.failed, needs_slot=True)
        letter = self._attempts.dead_letter(event.row, failure, event.failed)
        if letter is not None:
            children.append(letter)
        return failure


def _ids(finished: Sequence[Finished]) -> dict[bytes, set[str]]:
    """By events that insert others by an id: the ids that their runs have dispatched."""
    ids: dict[bytes, set[str]] = {}
    for one in finished:
        dispatched = {event.id for event in one.result.dispatched.get(0, ()) if event.id is not None}
        if dispatched or one.result.accessed:  # of which an event tells, by an id that is the processor's affair
            ids.setdefault(one.event.row.id, set()).update(dispatched)
    return ids
