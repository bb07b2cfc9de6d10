"""Recording a verdict in the claim's transaction, so that nothing in one event can keep the others from it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import cast
from uuid import UUID

import psycopg
from psycopg import errors

from hook_event_processor.event import Outcome, code_of
from hook_event_processor.processor.attempt import Attempts
from hook_event_processor.processor.batch import Batch, Verdict
from hook_event_processor.registry import Hook
from hook_event_processor.run import storable
from hook_event_processor.store import ack, pauses, record
from hook_event_processor.store.claim import Row
from hook_event_processor.store.database import one_line
from hook_event_processor.store.pipeline import Pipeline

logger = logging.getLogger("HookEventProcessor")
_FAILED = code_of(Outcome.FAILED)

# What the data of one event can cause, in somebody's trigger too; everything else is the database's own trouble.
DATA_ERRORS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.InternalError,
    psycopg.NotSupportedError,
    psycopg.ProgrammingError,
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,
)
# What somebody has deferred until the commit, a constraint trigger say, would refuse all that is in it.
_CHECK_NOW = "SET CONSTRAINTS ALL IMMEDIATE"


class Recorder:
    """Writes verdicts in one session, as one processor (`node`)."""

    def __init__(self, pipeline: Pipeline, node: str, attempts: Attempts) -> None:
        self._pipeline = pipeline
        self._connection = pipeline.connection
        self._node = node
        self._attempts = attempts

    def commit(self, batch: Batch, verdict: Verdict) -> Verdict:
        """Write and commit; returns the verdict as it was written.

        Behind a savepoint: when the data of one event is refused, the batch
        is halved until that event stands alone and gets the failure. No hook
        runs again for it. While somebody else's open transaction has an id
        that is dispatched, whatever dispatches by ids runs again, in slots:
        there it waits without the others.
        """
        try:
            return self._commit(batch, verdict)
        except errors.LockNotAvailable as fault:
            with_ids = {parent for parent, child in verdict.children if child.id is not None}
            if not with_ids:
                raise
            logger.info("what dispatches events by an id is left to slots: %s", one_line(fault))
            self._connection.execute("ROLLBACK TO SAVEPOINT record")
            rest = verdict.part([row for row in batch.pure_rows if row.id not in with_ids])
            rest.to_park = verdict.to_park + [row for row in batch.pure_rows if row.id in with_ids]
            rest.to_postpone = verdict.to_postpone
            return self._commit(batch, rest)

    def _commit(self, batch: Batch, verdict: Verdict) -> Verdict:
        try:
            with self._pipeline as pipeline:
                pipeline.execute("SAVEPOINT record")
                self._write(verdict)
                self._settle(batch, verdict)
                pipeline.execute(_CHECK_NOW)
                pipeline.execute("COMMIT")
        except DATA_ERRORS as fault:
            if self._connection.closed:
                raise
            logger.warning("a batch could not be recorded at once, recording it in parts: %s", one_line(fault))
            self._connection.execute("ROLLBACK TO SAVEPOINT record")
            parts = self._in_parts(batch.pure_rows, verdict)
            parts.to_park, parts.to_postpone = verdict.to_park, verdict.to_postpone
            verdict = parts
            with self._pipeline as pipeline:
                self._settle(batch, verdict)
                pipeline.execute("COMMIT")
        return verdict

    def _write(self, verdict: Verdict) -> None:
        pipeline = self._pipeline
        ack.processed(pipeline, [row.ctid for row in verdict.done])
        record.record(pipeline, verdict.runs, self._node)
        record.dispatch(pipeline, [child for _, child in verdict.children])
        ack.failed(pipeline, verdict.failures)
        pauses.hold(pipeline, verdict.to_hold)

    def _settle(self, batch: Batch, verdict: Verdict) -> None:
        """What cannot fail for a reason that lies in an event."""
        pipeline = self._pipeline
        ack.parked(pipeline, [row.id for row in batch.to_park + verdict.to_park])
        ack.postponed(pipeline, [row.id for row in verdict.to_postpone])
        pauses.hold(pipeline, batch.to_hold)
        ack.leased(pipeline, [item.row.id for item in batch.to_lease], batch.token, self._node)

    def _in_parts(self, rows: Sequence[Row], verdict: Verdict) -> Verdict:
        part = verdict.part(rows)
        try:
            self._write_apart(part)
            return part
        except DATA_ERRORS as fault:
            if self._connection.closed:
                raise
            if len(rows) <= 1:
                return self._write_guilty(rows[0], part, fault)
        middle = len(rows) // 2
        whole = self._in_parts(rows[:middle], verdict)
        whole.add(self._in_parts(rows[middle:], verdict))
        return whole

    def _write_guilty(self, row: Row, part: Verdict, fault: psycopg.Error) -> Verdict:
        part = self._guilty(row, part, fault)
        try:
            self._write_apart(part)
        except DATA_ERRORS:
            part.children = []  # even the dead letter is refused
            self._write_apart(part)
        return part

    def _write_apart(self, part: Verdict) -> None:
        with self._connection.transaction(), self._pipeline as pipeline:
            self._write(part)
            pipeline.execute(_CHECK_NOW)

    def _guilty(self, row: Row, part: Verdict, fault: psycopg.Error) -> Verdict:
        reason = storable(f"the run could not be recorded: {fault.diag.message_primary or fault}".encode())
        runs = replace(
            part.runs,
            codes=bytearray([_FAILED]) * len(part.runs),
            outputs=[None] * len(part.runs),
            errors=[reason] * len(part.runs),
        )
        hooks = [(cast(Hook, hook), reason) for hook in part.runs.hooks]
        failure = self._attempts.failure(row, hooks, needs_slot=False)
        letter = self._attempts.dead_letter(row, failure, hooks)
        logger.error("event %s: %s", UUID(bytes=row.id), reason.decode())
        return Verdict(runs=runs, failures=[failure], children=[(row.id, letter)] if letter else [])
