"""Running hooks without a database: events as a claim reads them, and a hook's chunk run to its end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hook_event_processor.event import Outcome, outcome_of
from hook_event_processor.lua.door import Library, Services
from hook_event_processor.lua.loader import program
from hook_event_processor.lua.runtime import Runtime
from hook_event_processor.policy import Grants, Policy
from hook_event_processor.run import ChunkResult
from hook_event_processor.settings import Settings
from hook_event_processor.store.claim import Row
from hook_event_processor.store.database import Database

MEMORY = 32 * 1024 * 1024
MAX_PAYLOAD = 100_000
EVENT_ID = "00010203-0405-0607-0809-0a0b0c0d0e0f"
# Beyond its timeout: what one uninterruptible call may take, on a busy machine.
_PATIENCE_SECONDS = float(os.environ.get("HOOK_TEST_PATIENCE_SECONDS", "20"))


def event(payload: str = "{}", metadata: str = "{}", **columns: Any) -> list[Any]:
    """The values of a claimed event; columns may name any other of them, `microseconds` (since 2000) too."""
    values: Mapping[str, Any] = {
        "source": "task",
        "action": "failed",
        "resource": "task",
        "resource_id": "build",
        "microseconds": 0,
        "attempt": 1,
        "priority": 5,
    } | columns
    names = [values[name].encode() for name in ("source", "action", "resource", "resource_id")]
    at = values["microseconds"].to_bytes(8, "big", signed=True)
    texts = [payload.encode(), metadata.encode()]
    return [bytes(range(16)), *names, at, *texts, values["attempt"], values["priority"]]


def row(values: Sequence[Any] | None = None) -> Row:
    """A claimed row with these values of an event; what hooks do not see of it is None."""
    names = Row._fields
    return Row(**(dict.fromkeys(names) | dict(zip(names, values or event(), strict=False))))


def library(database: Database | None = None, show: Callable[[str], None] | None = None, **grants: Any) -> Library:
    """The library as a processor has it, with these grants for every hook; dry with `show`."""
    settings = Settings(home=Path("/nonexistent"), conninfo=None, policy=Policy(Grants(**grants)))
    return Library(Services(settings, database), show)


def runtime(memory: int = MEMORY, library: Library | None = None) -> Runtime:
    return Runtime(memory, MAX_PAYLOAD, library=library)


def run(
    text: str,
    *events: Sequence[Any],
    timeout: float = 5.0,
    within: Runtime | None = None,
    name: str = "hook",
    stack: str | None = None,
) -> ChunkResult:
    """Run the hook for the events (one, if none is given). Fails the test when the run does not end."""
    results: list[ChunkResult] = []
    lua = within or runtime()

    def work() -> None:
        results.append(lua.run(program(text, name, stack), timeout, events or [event()], threading.Event()))

    # A thread of its own: what no check interrupts must not hold up the tests.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout + _PATIENCE_SECONDS)
    if thread.is_alive():
        pytest.fail("the run does not end")
    assert results, "the run ended without a result"
    return results[0]


def execute(body: str, *events: Sequence[Any], **options: Any) -> ChunkResult:
    """Run a hook whose `execute(event)` has this body."""
    return run(f"local hook = {{}}\nfunction hook.execute(event)\n{body}\nend\nreturn hook", *events, **options)


def outcomes(result: ChunkResult) -> list[Outcome]:
    return [outcome_of(code) for code in result.codes]


def output(result: ChunkResult) -> str:
    """What the only run printed; fails the test when the run failed."""
    assert outcomes(result) == [Outcome.CONTINUE], result.errors
    return (result.outputs[0] or b"").decode()


def error(result: ChunkResult) -> str:
    """The only run's error."""
    assert result.errors[0] is not None, result
    return result.errors[0].decode()
