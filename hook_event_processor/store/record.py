"""Recording: what hooks' runs came to, and the events that they dispatched."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from psycopg import Connection

from hook_event_processor.event import GOOD, OUTCOMES
from hook_event_processor.store import arrays
from hook_event_processor.store.pipeline import Executes


class Executed(Protocol):
    """The hook that ran, as far as its executions name it."""

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...


@dataclass(slots=True)
class Runs:
    """Finished runs, one entry each in every list: what one INSERT writes.

    Ids have 16 bytes, codes are those of event.OUTCOMES, texts are UTF-8.
    `hooks` holds each hook once; `hook_numbers` count from 1.
    """

    hooks: list[Executed] = field(default_factory=list)
    event_ids: list[bytes] = field(default_factory=list)
    hook_numbers: list[int] = field(default_factory=list)
    codes: bytearray = field(default_factory=bytearray)
    outputs: list[bytes | None] = field(default_factory=list)
    errors: list[bytes | None] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.event_ids)

    def add(
        self,
        hook: Executed,
        event_ids: Sequence[bytes],
        attempts: Sequence[int],
        codes: bytes | bytearray,
        durations: Sequence[float],
        outputs: Sequence[bytes | None],
        errors: Sequence[bytes | None],
    ) -> None:
        """Add the runs of one hook; durations in seconds."""
        self.hooks.append(hook)
        self.hook_numbers += [len(self.hooks)] * len(event_ids)
        self.event_ids += event_ids
        self.attempts += attempts
        self.codes += codes
        self.durations += durations
        self.outputs += outputs
        self.errors += errors

    def only(self, event_ids: Container[bytes]) -> Runs:
        """The runs of these events."""
        by_hook: dict[int, list[int]] = {}
        for index, event_id in enumerate(self.event_ids):
            if event_id in event_ids:
                by_hook.setdefault(self.hook_numbers[index], []).append(index)
        part = Runs()
        for number, places in by_hook.items():
            part.add(
                self.hooks[number - 1],
                [self.event_ids[place] for place in places],
                [self.attempts[place] for place in places],
                bytes(self.codes[place] for place in places),
                [self.durations[place] for place in places],
                [self.outputs[place] for place in places],
                [self.errors[place] for place in places],
            )
        return part


@dataclass(frozen=True, slots=True)
class Child:
    """An event that a run, or the processor itself, dispatches: JSON texts as UTF-8, `delay` in seconds."""

    source: str
    action: str
    payload: bytes
    metadata: bytes
    priority: int = 5
    delay: float | None = None
    id: str | None = None


# Everything that is the same for all runs of a hook crosses once, as an array by hook.
EXECUTIONS = f"""
INSERT INTO event_hook_executions
    (event_id, hook_id, hook_name, success, output, error, duration_ms, executed_at, attempt, result, version, node)
SELECT run.event_id, (%(hook_ids)s::bigint[])[run.hook], (%(names)b)[run.hook], run.code < {97 + GOOD},
       run.output, run.error, run.micros / 1000.0::float8, %(begin)s, run.attempt,
       ('{{{",".join(OUTCOMES)}}}'::text[])[run.code - 96], (%(versions)s::int[])[run.hook], %(node)s
FROM unnest(%(events)b, %(hooks)s::smallint[], %(codes)s::smallint[], %(outputs)b, %(errors)b, %(micros)s::bigint[],
            %(attempts)s::smallint[]) AS run (event_id, hook, code, output, error, micros, attempt)
"""
# Runs inside the claim began with its transaction; the others say how long ago they began.
BEGAN_WITH_TRANSACTION = EXECUTIONS.replace("%(begin)s", "now()")
BEGAN_EARLIER = f"""
{EXECUTIONS.replace("%(begin)s", "clock_timestamp() - run.micros * interval '1 microsecond'")}
RETURNING event_id, hook_id, id
"""

WAIT_MS = 200  # for the end of a transaction that has inserted an event of the same id
CHILDREN = """
INSERT INTO hook_events (id, source, action, payload, metadata, priority, available_at)
SELECT coalesce(child.id, hook_uuidv7()), child.source, child.action, child.payload::jsonb, child.metadata::jsonb,
       child.priority, CASE WHEN child.delay > 0 THEN clock_timestamp() + child.delay * interval '1 second' END
FROM unnest(%s::uuid[], %b, %b, %b, %b, %s::smallint[], %s::float8[])
     AS child (id, source, action, payload, metadata, priority, delay)
ON CONFLICT (id) DO NOTHING
"""


def record(session: Executes, runs: Runs, node: str) -> None:
    """Insert the executions of runs that this transaction's claim had begun."""
    if not runs:
        return
    session.execute(BEGAN_WITH_TRANSACTION, parameters(runs, node))


Run = tuple[bytes, int]  # the event and the hook


def record_leased(connection: Connection, runs: Runs, node: str) -> dict[Run, int]:
    """Insert the executions of runs that have just ended; returns their ids, there for good once this is committed."""
    if not runs:
        return {}
    rows = connection.cursor(binary=True).execute(BEGAN_EARLIER, parameters(runs, node)).fetchall()
    return {(event_id, hook_id): execution_id for event_id, hook_id, execution_id in rows}


_RECORDED = """
SELECT event_id, hook_id FROM event_hook_executions
WHERE node = %s AND (event_id, hook_id, id) IN (SELECT * FROM unnest(%b, %s::bigint[], %s::bigint[]))
"""


def recorded(connection: Connection, executions: Mapping[Run, int], node: str) -> set[Run]:
    """Which runs have their execution, given its id.

    By nothing else is a run told from the others of its event and hook: attempts
    count from 1 again after a retry by hand, and one is repeated when its lease is lost.
    """
    event_ids, hook_ids = zip(*executions, strict=True)
    rows = connection.cursor(binary=True).execute(
        _RECORDED,
        (node, arrays.uuids(event_ids), arrays.integers(hook_ids), arrays.integers(executions.values())),
    )
    return {(row[0], row[1]) for row in rows.fetchall()}


def parameters(runs: Runs, node: str) -> dict[str, Any]:
    """What the statements take."""
    return {
        "hook_ids": arrays.integers(hook.id for hook in runs.hooks),
        "names": arrays.texts([hook.name.encode() for hook in runs.hooks]),
        "versions": arrays.integers(hook.version for hook in runs.hooks),
        "node": node,
        "events": arrays.uuids(runs.event_ids),
        "hooks": arrays.integers(runs.hook_numbers),
        "codes": arrays.integers(runs.codes),
        "outputs": arrays.texts(runs.outputs),
        "errors": arrays.texts(runs.errors),
        "micros": arrays.integers([int(seconds * 1e6) for seconds in runs.durations]),
        "attempts": arrays.integers(runs.attempts),
    }


def dispatch(session: Executes, children: Sequence[Child], wait_ms: int = WAIT_MS) -> None:
    """Insert the events; one whose id exists changes nothing.

    The end of somebody else's open transaction that has inserted one of the
    ids is waited for `wait_ms`; the error is LockNotAvailable then.
    """
    if not children:
        return
    if any(child.id is not None for child in children):
        session.execute(f"SET LOCAL lock_timeout = {wait_ms}")
    session.execute(
        CHILDREN,
        (
            [child.id for child in children],
            arrays.texts([child.source.encode() for child in children]),
            arrays.texts([child.action.encode() for child in children]),
            arrays.texts([child.payload for child in children]),
            arrays.texts([child.metadata for child in children]),
            [child.priority for child in children],
            # Lua has integers and floats; an array has one type.
            [None if child.delay is None else float(child.delay) for child in children],
        ),
    )
