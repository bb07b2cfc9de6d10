"""Telling of runs once they are committed: counters, the hooks' own counts, the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from uuid import UUID

from hook_event_processor.event import GOOD, join_type, outcome_of
from hook_event_processor.processor.attempt import context_of
from hook_event_processor.processor.pace import Paces
from hook_event_processor.registry import UNKNOWN_HANDLER, Hook
from hook_event_processor.run import ChunkResult
from hook_event_processor.store.claim import Row
from hook_event_processor.telemetry.metrics import Metrics
from hook_event_processor.telemetry.runs import RunLog

_PG_EPOCH = 946_684_800  # 2000-01-01 in Unix seconds
_GOOD_CODES = bytes(range(97, 97 + GOOD))


class Report:
    """Where lanes and leases say what was recorded; may be used from any thread."""

    def __init__(self, metrics: Metrics, run_log: RunLog, paces: Paces) -> None:
        self.metrics = metrics
        self._run_log = run_log
        self._paces = paces
        self._lock = threading.Lock()
        self._run_counts: dict[int, int] = {}

    def runs(self, hook: Hook, rows: Sequence[Row], result: ChunkResult) -> None:
        """A hook ran for these rows, and the runs are recorded."""
        self._paces.of(hook.id, hook.version).note(result.durations)
        with self._lock:
            self._run_counts[hook.id] = self._run_counts.get(hook.id, 0) + len(rows)
        if hook.name == UNKNOWN_HANDLER:
            self.metrics.add(unrouted=len(rows))
        failures = len(result.codes.translate(None, _GOOD_CODES))
        may_log = {
            True: self._run_log.allowed(failures, True),
            False: self._run_log.allowed(len(rows) - failures, False),
        }
        if any(may_log.values()):
            self._log(hook, rows, result, may_log)

    def _log(self, hook: Hook, rows: Sequence[Row], result: ChunkResult, may_log: dict[bool, int]) -> None:
        for index, row in enumerate(rows):
            failed = result.codes[index] not in _GOOD_CODES
            if may_log[failed] == 0:
                continue
            may_log[failed] -= 1
            source, action, error = row.source.decode(), row.action.decode(), result.errors[index]
            self._run_log.run(
                event_id=UUID(bytes=row.id),
                event_type=join_type(source, action),
                source=source,
                action=action,
                hook=hook.name,
                outcome=outcome_of(result.codes[index]),
                duration_ms=result.durations[index] * 1000,
                error=(error or b"").decode(errors="replace") if failed else None,
                **context_of(row),
            )

    def latency(self, row: Row) -> None:
        """Note how long a claimed row had been ready, by the clocks of the writer and of this host."""
        ready = int.from_bytes(row.ready_at, "big", signed=True) / 1e6 + _PG_EPOCH
        self.metrics.latency(time.time() - ready)

    def take_run_counts(self) -> dict[int, int]:
        """Runs by hook id since the last call."""
        with self._lock:
            counts, self._run_counts = self._run_counts, {}
        return counts
