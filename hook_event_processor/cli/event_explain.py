"""`hep events explain`: why an event is where it is, and why each hook ran for it or did not."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command, add_format

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.cli.explained_route import ExplainedRoute
    from hook_event_processor.cli.explanation import Verdict
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.events import StoredEvent
    from hook_event_processor.store.executions import Execution
    from hook_event_processor.store.pauses import Pause
    from hook_event_processor.store.processors import Processor
    from hook_event_processor.store.standing import Standing


def add_explain_command(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "explain",
        explain,
        "tell why an event is where it is, and why each hook ran or did not",
        "hep events explain 019b2c3d",
        "Hooks are those of now: one that was added or changed since is told as such.",
    )
    command.add_argument("id", metavar="ID", help="the event's id, or the beginning of it")
    add_format(command)


def explain(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.explained_route import route_for
    from hook_event_processor.cli.explanation import verdicts
    from hook_event_processor.cli.suspicion import suspicion_line
    from hook_event_processor.store import event_ids, events, executions, hooks, pauses, processors
    from hook_event_processor.store.standing import ahead, standing
    from hook_event_processor.store.suspects import of_event

    with session(settings) as connection, connection.transaction():
        # One snapshot: what is told of the event and of its runs belongs together.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        event_id = event_ids.resolve(connection, arguments.id)
        event = events.get(connection, event_id)
        stands = standing(connection, event_id)
        running = processors.processors(connection)
        before = ahead(connection, event.priority, event.seq) if event.state == "pending" else 0
        known = hooks.known_hooks(connection)
        runs = executions.of_event(connection, event_id)
        found = route_for(connection, event, known, settings.max_payload_size)
        suspicion = suspicion_line(of_event(connection, event_id))
        paused = _pauses_of(connection, event)
        paused_hooks = pauses.paused_hooks(connection)
    why = _why(event, stands, running, before, paused, runs)
    why = "; ".join(filter(None, (why, suspicion)))
    when = _next_attempt(event, stands, running, paused)
    judged = verdicts(event, known, found, runs, when, paused_hooks, settings.policy)
    if arguments.format == "json":
        _print_document(event, why, found, judged)
    else:
        _print(event, why, found, judged, runs)
    return 0


def _pauses_of(connection: Connection, event: StoredEvent) -> list[Pause]:
    """The pauses that the event waits for, or will once a processor meets it."""
    from hook_event_processor.store import pauses

    waits_for = pauses.of_event(connection, event.id) if event.state == "paused" else []
    met = {pause.id for pause in waits_for}
    covering = (("all", ""), ("source", event.source))
    known = pauses.known(connection)
    return waits_for + [each for each in known if (each.scope, each.name) in covering and each.id not in met]


def _why(
    event: StoredEvent,
    stands: Standing,
    running: Sequence[Processor],
    before: int,
    paused: Sequence[Pause],
    runs: Sequence[Execution],
) -> str:
    """Why the event is in its state, in a sentence."""
    from hook_event_processor.cli.output import local_time

    if event.state == "completed":
        return f"{_why_completed(runs)}; acknowledged at {local_time(event.processed_at)}"
    if event.state == "failed":
        return (
            f"its attempts were used up at {local_time(event.failed_at)}, after {event.retry_count};"
            f" 'hep events retry {event.id}' makes it run again"
        )
    if event.state == "processing":
        return _why_leased(event, running)
    waits = _why_paused(paused) if paused or event.state == "paused" else _why_waiting(event, stands, before)
    return "; ".join(filter(None, (waits, _nobody_runs(running))))


def _why_completed(runs: Sequence[Execution]) -> str:
    if not runs:
        return "no hook ran for it"
    # By name, as a retry takes them: one that was removed and added again is the same.
    ended_well = {run.hook_name for run in runs if run.success}
    failed = list(dict.fromkeys(run.hook_name for run in runs if run.hook_name not in ended_well))
    if failed:
        return f"it was completed without {', '.join(failed)}, which failed"
    return "every hook that ran for it ended well"


def _why_leased(event: StoredEvent, running: Sequence[Processor]) -> str:
    from hook_event_processor.cli.output import age, local_time

    lease = f"leased by {event.claimed_by} until {local_time(event.available_at)}"
    holder = next((processor for processor in running if processor.node == event.claimed_by), None)
    if holder is None:
        return f"{lease}; that processor is not known to run: then another takes the event"
    if not holder.alive:
        return (
            f"{lease}; it was last heard of {age(holder.age_seconds)} ago: if it is gone, another takes the event then"
        )
    return f"{lease}, and longer while its hooks run"


def _why_waiting(event: StoredEvent, stands: Standing, before: int) -> str:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.output import local_time
    from hook_event_processor.store.standing import COUNT_LIMIT

    due = event.available_at is None or event.available_at <= stands.now
    at = local_time(event.available_at)
    if stands.leased:
        return f"the lease of {event.claimed_by} ended at {at} before its hooks had: another processor takes the event"
    if event.state == "retrying":
        return f"attempt {event.retry_count} failed; the next one {'has been due since' if due else 'is due at'} {at}"
    if event.state == "scheduled":
        return f"it is not to be processed before {at}"
    if stands.needs_slot:
        return "it waits for a free worker slot: it has hooks that act outside the database"
    if event.available_at is not None:
        return f"it has been due since {at}"
    many = "at least " if before >= COUNT_LIMIT else ""
    return f"it waits to be claimed; {many + counted(before, 'event') if before else 'nothing'} before it"


def _why_paused(paused: Sequence[Pause]) -> str:
    from hook_event_processor.cli.pause import pause_line

    if not paused:
        return "it is held: its available_at was set to infinity, and no pause is the reason"
    return "; ".join(f"it waits for the end of a pause: {pause_line(each)}" for each in paused)


def _nobody_runs(running: Sequence[Processor]) -> str:
    if any(processor.alive and processor.state == "running" for processor in running):
        return ""
    return "no processor is running: 'hep run', or systemctl start hook-event-processor, starts one"


def _next_attempt(event: StoredEvent, stands: Standing, running: Sequence[Processor], paused: Sequence[Pause]) -> str:
    """When the hooks that are still to run will, for an event that is not at its end."""
    from hook_event_processor.cli.output import local_time

    nobody = bool(_nobody_runs(running))
    if paused or event.state == "paused":
        return "once it is resumed"
    if event.available_at is not None and event.available_at > stands.now:
        return f"at {local_time(event.available_at)}" + ", if a processor runs then" * nobody
    return "once a processor runs" if nobody else "as soon as a processor has room for it"


def _print(
    event: StoredEvent, why: str, found: ExplainedRoute, judged: Sequence[Verdict], runs: Sequence[Execution]
) -> None:
    from hook_event_processor.cli.output import fields, line, table

    fields({"Event": str(event.id), "Type": event.type, "Stack": found.stack, "Status": event.state, "Why": why})
    line()
    if judged:
        rows = [(each.hook, each.kind, _text(each.priority), each.word, each.reason) for each in judged]
        table(("Hook", "Kind", "Priority", "Verdict", "Why"), rows, right=("Priority",), wrapped=("Hook", "Why"))
    else:
        line("There are no hooks.")
    if runs:
        line()
        _runs_table(runs)
    for each in judged:
        if each.word in ("will run", "running", "failed"):
            for need in each.needs:
                line(f"{each.hook}: {need}")


def _text(number: int | None) -> str:
    return "-" if number is None else str(number)


def _runs_table(runs: Sequence[Execution]) -> None:
    from hook_event_processor.cli.event_reports import first_line
    from hook_event_processor.cli.output import local_time, milliseconds, success, table

    headers = ("Attempt", "Hook", "Status", "Result", "Executed At", "Duration", "Error")
    rows = [
        (
            str(run.attempt),
            run.hook_name,
            success(run.success),
            run.result,
            local_time(run.executed_at),
            milliseconds(run.duration_ms),
            first_line(run.error),
        )
        for run in runs
    ]
    table(headers, rows, right=("Attempt", "Duration"), wrapped=("Hook", "Error"), title="Runs")


def _print_document(event: StoredEvent, why: str, found: ExplainedRoute, judged: Sequence[Verdict]) -> None:
    from hook_event_processor.cli.explanation import verdict_document
    from hook_event_processor.cli.output import document

    times: dict[str, datetime | None] = {
        name: getattr(event, name) for name in ("created_at", "available_at", "processed_at", "failed_at")
    }
    document(
        {
            "id": event.id,
            "type": event.type,
            "stack": found.stack,
            "state": event.state,
            "why": why,
            "attempts": event.retry_count,
            "claimed_by": event.claimed_by,
            **{name: _iso(moment) for name, moment in times.items()},
            "route": [[hook.name for hook in stage] for stage in found.route.stages],
            "hooks": [verdict_document(verdict) for verdict in judged],
        }
    )


def _iso(moment: datetime | None) -> str | None:
    from hook_event_processor.cli.output import iso_time

    return iso_time(moment)
