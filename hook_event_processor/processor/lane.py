"""A lane: one connection that claims, has hooks run, and records, round after round."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

from psycopg import Connection

from hook_event_processor.processor.attempt import Attempts
from hook_event_processor.processor.batch import Batch, Sorter, Verdict, judge
from hook_event_processor.processor.executor import Chunk, Executor
from hook_event_processor.processor.leases import Leases
from hook_event_processor.processor.lookout import Lookout
from hook_event_processor.processor.outage import Outage, reconnect_delay
from hook_event_processor.processor.pace import Paces, Stride
from hook_event_processor.processor.quarantine.quarantine import Picked, Quarantine
from hook_event_processor.processor.recording import Recorder
from hook_event_processor.processor.report import Report
from hook_event_processor.registry import Registry
from hook_event_processor.settings import Settings
from hook_event_processor.store import arrays, suspects
from hook_event_processor.store.claim import CAREFUL_SECONDS, Claim, Claims
from hook_event_processor.store.database import Database, cut
from hook_event_processor.store.frontier import Frontier
from hook_event_processor.store.pauses import HELD_IN_VAIN_SECONDS
from hook_event_processor.store.pipeline import Pipeline
from hook_event_processor.telemetry.watchdog import Progress

# A claim waits no longer than this for its runs: what goes on is left to a lease.
HOLD_SECONDS = 0.7
# Past its expected end a run may compute for this long before the others stop waiting for it.
PATIENCE_SECONDS = 0.1
# A round that waits this long has another lane look for what is new.
_ALONE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Parts:
    """What lanes share."""

    settings: Settings
    database: Database
    node: str
    registry: Callable[[], Registry]
    executor: Executor
    leases: Leases
    quarantine: Quarantine
    lookout: Lookout
    attempts: Attempts
    paces: Paces
    report: Report
    outage: Outage
    frontier: Frontier


class Latch:
    """Counts chunks down, on the threads that ran them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._zero = threading.Event()

    def count_down(self, _: Chunk) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0:
                self._zero.set()

    def wait(self, seconds: float) -> bool:
        return self._zero.wait(seconds)


class _Session(NamedTuple):
    """What a lane has for as long as its connection lasts."""

    pipeline: Pipeline
    claims: Claims
    recorder: Recorder


class Lane:
    """Claims and runs until it is stopped."""

    def __init__(self, name: str, parts: Parts) -> None:
        self._name = name
        self._parts = parts
        self._connection: Connection | None = None
        self._session: _Session | None = None
        self._failures = self._outages = 0
        self._stride = Stride(parts.settings.batch_size)
        # When a round last ended well, and since when one is under way or is tried again and again.
        self.claimed_at = monotonic()
        self.trying_since: float | None = None

    def cut(self) -> None:
        """From another thread: end a wait for a server that no longer answers."""
        cut(self._connection)

    def run(self, progress: Progress) -> None:
        """Round after round, until the lookout says that it is over; each marks the progress."""
        self._progress = progress
        lookout = self._parts.lookout
        while not lookout.stopping:
            self._progress.mark()
            if not self._try_round():
                lookout.idle(self._progress)
        self._close()

    def _try_round(self) -> bool:
        """One round; whether another should follow at once."""
        self.trying_since = self.trying_since or monotonic()
        try:
            again = self._round()
        except Exception as fault:
            self._lost(fault)
            return True
        self._failures = 0
        self.claimed_at, self.trying_since = monotonic(), None
        return again

    def _lost(self, fault: Exception) -> None:
        """The connection is gone, or its state unknown: what it had claimed is rolled back."""
        self._parts.outage.notice(fault, "a round failed; its events are free again", self._connection, self._outages)
        self._close()
        self._parts.frontier.forget()
        self._failures += 1
        self._parts.report.metrics.add(errors=1)
        self._progress.mark()
        self._parts.lookout.pause(reconnect_delay(self._failures))

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._session = None

    def _connected(self) -> _Session:
        if self._session is None:
            parts = self._parts
            tried_at = monotonic()
            self._connection = parts.database.connect(self._name)
            arrays.register(self._connection)
            self._outages = parts.outage.end(tried_at)
            parts.frontier.slices.joined(self._name, self._connection.info.backend_pid)
            self._progress.mark()
            pipeline = Pipeline(self._connection, may_prepare=lambda: parts.lookout.may_prepare)
            careful_until = monotonic() + CAREFUL_SECONDS if self._failures else 0.0
            self._session = _Session(
                pipeline,
                Claims(pipeline, parts.frontier, parts.settings.max_payload_size, careful_until),
                Recorder(pipeline, parts.node, parts.attempts),
            )
        return self._session

    def _round(self) -> bool:
        if self._parts.registry().pauses.everything:
            return False
        pipeline, claims, recorder = self._connected()
        parts = self._parts
        slots = parts.leases.reserve()
        leased = 0
        try:
            parts.lookout.claiming()
            claim = claims.take(self._stride.limit, slots, monotonic())
            # An event of ours whose lease ran out is still running here: it only needs its lease back.
            parts.leases.keep_out(claim)
            parts.quarantine.leases.keep_out(claim)
            if not claim.rows:
                pipeline.run("ROLLBACK")
                return claim.again
            parts.lookout.found()
            size = sum([len(row.payload or b"") + len(row.metadata) for row in claim.rows])
            self._stride.claimed(len(claim.rows), size)
            if claim.again:
                parts.lookout.help()
            batch, picked = self._sort(claim, slots, pipeline)
            parts.quarantine.write(pipeline.connection, picked)
            leased = sum(item.slots for item in batch.to_lease)
            chunks = self._run(batch)
            verdict = recorder.commit(batch, judge(batch, *chunks, parts.attempts))
        except BaseException:
            leased = 0
            raise
        finally:
            parts.leases.give_back(slots - leased)
        parts.leases.start(batch)
        parts.quarantine.start(picked)
        self._tell(claim, batch, verdict, chunks[0])
        return claim.again

    def _sort(self, claim: Claim, slots: int, pipeline: Pipeline) -> tuple[Batch, Picked]:
        """What runs here, and what runs in cells."""
        parts = self._parts
        past = suspects.NO_PAST
        seasoned = claim.due + claim.for_slots
        if seasoned:
            past = suspects.past(pipeline, arrays.uuids([row.id for row in seasoned]))
        sorter = Sorter(parts.registry(), parts.paces, parts.leases.slots)
        picked = parts.quarantine.pick(claim, past, sorter)
        return sorter.sort(picked.rest, past.succeeded, slots), picked

    def _run(self, batch: Batch) -> tuple[list[Chunk], list[Chunk], list[Chunk]]:
        """Run what is pure; returns the chunks that finished, those that overran, and those that never began."""
        chunks: list[Chunk] = []
        sizes = [(hook, rows, self._parts.paces.of(hook.id, hook.version).chunk) for hook, rows in batch.pure]
        latch = Latch(sum(-(-len(rows) // size) for _, rows, size in sizes))
        for hook, rows, size in sizes:
            for start in range(0, len(rows), size):
                chunks.append(Chunk(hook, rows[start : start + size], latch.count_down))
        for chunk in chunks:
            self._parts.executor.submit(chunk)
        moved = len(batch.to_lease) + len(batch.to_park) + len(batch.to_hold)
        if not chunks:
            self._stride.moved(len(batch.pure_rows) + moved)
        else:
            began = monotonic()
            self._wait(latch, chunks)
            runs = sum(len(chunk.rows) for chunk in chunks)
            ended = sum(len(chunk.rows) for chunk in chunks if chunk.result is not None)
            self._stride.ran(len(batch.pure_rows) * ended / runs + moved, monotonic() - began)
        finished = [chunk for chunk in chunks if chunk.result is not None]
        if len(finished) == len(chunks):
            return finished, [], []
        return self._give_up(chunks)

    def _give_up(self, chunks: list[Chunk]) -> tuple[list[Chunk], list[Chunk], list[Chunk]]:
        finished: list[Chunk] = []
        overran: list[Chunk] = []
        unbegun: list[Chunk] = []
        for chunk in chunks:
            if chunk.result is not None:
                finished.append(chunk)
                continue
            (overran if chunk.began is not None else unbegun).append(chunk)
            self._parts.executor.abandon(chunk)
            if chunk.began is not None:
                self._parts.paces.of(chunk.hook.id, chunk.hook.version).overran()
        return finished, overran, unbegun

    def _wait(self, latch: Latch, chunks: list[Chunk]) -> None:
        """Wait for the chunks as long as it is worth it for the others."""
        ends = monotonic() + HOLD_SECONDS
        if latch.wait(_ALONE_SECONDS):
            return
        self._parts.lookout.help()
        while not latch.wait(_ALONE_SECONDS):
            self._progress.mark()
            if monotonic() >= ends or all(self._has_overrun(chunk) for chunk in chunks if chunk.result is None):
                return

    def _has_overrun(self, chunk: Chunk) -> bool:
        """Whether the chunk has computed for longer than it is waited for: on a busy machine time passes without it."""
        pace = self._parts.paces.of(chunk.hook.id, chunk.hook.version)
        most = (pace.seconds or 0.0) * len(chunk.rows) + PATIENCE_SECONDS
        if chunk.began is None or monotonic() - chunk.began <= most:
            return False
        return self._parts.executor.cpu_seconds(chunk) > most

    def _tell(self, claim: Claim, batch: Batch, verdict: Verdict, finished: list[Chunk]) -> None:
        report = self._parts.report
        report.latency(claim.rows[0])
        dead = sum(1 for failure in verdict.failures if failure.delay is None)
        report.metrics.add(succeeded=len(verdict.done), failed=dead, retried=len(verdict.failures) - dead)
        for chunk in finished:
            assert chunk.result is not None  # noqa: S101 - it has finished
            report.runs(chunk.hook, chunk.rows, chunk.result)
        delays = [failure.delay for failure in verdict.failures if failure.delay is not None]
        if (claim.more_for_slots and batch.to_lease) or batch.to_park or verdict.to_park or verdict.to_postpone:
            delays.append(0.0)
        if batch.to_hold or verdict.to_hold:
            delays.append(HELD_IN_VAIN_SECONDS)  # if the pause has ended meanwhile
        if delays:
            self._parts.lookout.due_in(min(delays))
