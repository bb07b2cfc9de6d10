"""Trying a hook on one event: by default dry, so that what it would do outside is told instead of done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hook_event_processor.event import Outcome, outcome_of
from hook_event_processor.lua.door import Library, Services
from hook_event_processor.lua.runtime import Program, Runtime
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
    runtime = Runtime(settings.hook_memory, settings.max_payload_size, library=library)
    before = runtime.memory_used
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
        memory=max(0, runtime.memory_used - before),
        shown=shown,
    )
