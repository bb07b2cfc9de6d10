"""Trying a hook on one event: by default dry, so that what it would do outside is told instead of done."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hook_event_processor.event import Outcome, outcome_of
from hook_event_processor.lua.door import Library, Services
from hook_event_processor.lua.program import Program
from hook_event_processor.lua.runtime import Runtime
from hook_event_processor.run import ChunkResult, Dispatched
from hook_event_processor.settings import Settings
from hook_event_processor.store.database import Database
from hook_event_processor.workshop.apart import run_apart
from hook_event_processor.workshop.trial_event import TrialEvent

_GOOD = (Outcome.CONTINUE, Outcome.FILTERED)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it; `shown` tells what was only pretended. The duration is in seconds, memory in bytes."""

    outcome: Outcome
    output: str
    error: str | None
    dispatched: Sequence[Dispatched]
    duration: float
    memory: int
    shown: Sequence[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.outcome in _GOOD


def try_hook(
    program: Program,
    event: TrialEvent,
    settings: Settings,
    timeout: float,
    *,
    database: Database | None = None,
    live: bool = False,
) -> Trial:
    """Run the hook for the event, within its limits; `timeout` is in seconds.

    What it dispatches is returned, never inserted. `database` is what state
    and secrets are read from, and with `live` written to. Ctrl-C ends the run.
    """
    shown: list[str] = []
    library = Library(Services(settings, database), show=None if live else shown.append)
    runtime = _TrialRuntime(settings.hook_memory, settings.max_payload_size, library=library)
    try:
        result = run_apart(lambda cancelled: runtime.run(program, timeout, [event.row()], cancelled), timeout)
    except TimeoutError:
        result = ChunkResult.refused(Outcome.STUCK, "the run does not end, and cannot be interrupted", 1)
    return Trial(
        outcome=outcome_of(result.codes[0]),
        output=(result.outputs[0] or b"").decode(),
        error=result.errors[0].decode() if result.errors[0] is not None else None,
        dispatched=result.dispatched.get(0, []),
        duration=result.durations[0],
        memory=runtime.taken,
        shown=shown,
    )


class _TrialRuntime(Runtime):
    """A runtime that notes how much memory a run takes: at its end, and whenever it calls the library."""

    _most = 0

    def run(
        self, program: Program, timeout: float, events: Sequence[Sequence[Any]], cancelled: threading.Event
    ) -> ChunkResult:
        self._lua.gccollect()  # what it took to begin is not the run's
        self._before = self._most = self.memory_used
        return super().run(program, timeout, events, cancelled)

    def confine(self, confined: bool) -> None:
        self._most = max(self._most, self.memory_used)
        super().confine(confined)

    @property
    def taken(self) -> int:
        """Bytes that the last run took, at most."""
        return self._most - self._before
