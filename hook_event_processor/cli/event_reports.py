"""`hep events list | get | show`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.event_filter import add_filter, add_state_filter, read_filter
from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.cli.spans import count

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.events import ListedEvent, StoredEvent
    from hook_event_processor.store.executions import Execution

_LONGEST_TEXT = 20_000  # characters of a payload on the screen


def add_report_commands(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group, "list", list_events, "list the newest events", "hep events list --type 'task.*' --status failed"
    )
    add_filter(command)
    add_state_filter(command)
    command.add_argument("--limit", type=count, default=50, metavar="N", help="so many events (default 50)")
    add_format(command)
    for name, summary, form in (
        ("get", "print all about an event as JSON", "json"),
        ("show", "show an event with the runs of its hooks and their errors", "table"),
    ):
        command = add_command(group, name, show, summary, f"hep events {name} 019b2c3d")
        command.add_argument("id", metavar="ID", help="the event's id, or the beginning of it")
        command.add_argument("--output", action="store_true", help="print what each run logged (JSON always has it)")
        add_format(command, form)


def list_events(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, line
    from hook_event_processor.cli.type_note import note_slips_in_patterns
    from hook_event_processor.store import events
    from hook_event_processor.store.event_ids import short_ids

    with session(settings) as connection:
        listed = events.newest(connection, read_filter(arguments, connection), arguments.limit)
        short = short_ids(connection, [event.id for event in listed])
        if not listed and arguments.type is not None:
            note_slips_in_patterns(connection, [arguments.type])
    if arguments.format == "json":
        document([listed_document(event) for event in listed])
    elif listed:
        _events_table(listed, short)
    else:
        line("No events.")
    return 0


def _events_table(listed: list[ListedEvent], short: dict[Any, str]) -> None:
    from hook_event_processor.cli.output import local_time, table

    headers = ("ID", "Type", "Status", "Created", "Processed", "Failures", "Resource", "Error")
    rows = [
        (
            short[event.id],
            event.type,
            event.state,
            local_time(event.created_at),
            local_time(event.processed_at),
            str(event.retry_count or ""),
            resource(event),
            first_line(event.error),
        )
        for event in listed
    ]
    shown = [i for i, name in enumerate(headers) if name not in _OFTEN_EMPTY or any(row[i] for row in rows)]
    table(
        [headers[i] for i in shown],
        [[row[i] for i in shown] for row in rows],
        right=("Failures",),
        wrapped=("Type", "Resource", "Error"),
    )


_OFTEN_EMPTY = ("Failures", "Resource", "Error")  # a column without anything in it is left out


def resource(event: ListedEvent | StoredEvent) -> str:
    return "/".join(filter(None, (event.resource, event.resource_id)))


def first_line(text: str | None) -> str:
    """The line of an error that a list has room for."""
    kept = (text or "").strip().split("\n", 1)[0]
    return kept if len(kept) <= 80 else f"{kept[:79]}…"


def listed_document(event: ListedEvent) -> dict[str, Any]:
    """An event of a list for JSON."""
    from hook_event_processor.cli.output import iso_time

    times = {name: iso_time(getattr(event, name)) for name in ("created_at", "processed_at")}
    return {**dataclasses.asdict(event), **times}


def show(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document
    from hook_event_processor.store import event_ids, events, executions

    with session(settings) as connection:
        event_id = event_ids.resolve(connection, arguments.id)
        event = events.get(connection, event_id)
        runs = executions.of_event(connection, event_id)
    if arguments.format == "json":
        document(_event_document(event, runs))
    else:
        _show(event, runs, with_output=arguments.output)
    return 0


def _event_document(event: StoredEvent, runs: list[Execution]) -> dict[str, Any]:
    from hook_event_processor.cli.hook_reports import execution_document
    from hook_event_processor.cli.output import iso_time, json_text

    times = ("timestamp", "created_at", "available_at", "processed_at", "failed_at")
    return {
        **dataclasses.asdict(event),
        **{name: iso_time(getattr(event, name)) for name in times},
        "data": json_text(event.data),
        "metadata": json_text(event.metadata),
        "executions": [execution_document(run) for run in runs],
    }


def _show(event: StoredEvent, runs: list[Execution], *, with_output: bool) -> None:
    from hook_event_processor.cli.output import block, line

    _show_event(event)
    line()
    if runs:
        _executions_table(runs)
    else:
        line("No hook has run for it.")
    for run in runs:
        which = f"Hook: {run.hook_name}" + (f" (attempt {run.attempt})" if run.attempt > 1 else "")
        if run.error:
            block(which, "Error:", run.error)
        if with_output and run.output:
            block(which, "Output:", run.output)
    if not any(run.error for run in runs) and event.processing_errors:
        block("Errors:", "\n".join(event.processing_errors))
    block("Data:", _readable(event.data))


def _show_event(event: StoredEvent) -> None:
    from hook_event_processor.cli.output import fields, local_time

    due = event.available_at if event.state in ("scheduled", "retrying", "processing") else None
    fields(
        {
            "Event": str(event.id),
            "Type": event.type,
            "Status": event.state,
            "Created": local_time(event.created_at),
            "Occurred": local_time(event.timestamp) if event.timestamp != event.created_at else None,
            "Processed": local_time(event.processed_at) if event.processed_at else None,
            "Failed": local_time(event.failed_at) if event.failed_at else None,
            "Lease ends" if event.state == "processing" else "Due": local_time(due) if due else None,
            "Claimed by": event.claimed_by if event.state == "processing" else None,
            "Resource": resource(event) or None,
            "Stack": event.stack,
            "Priority": str(event.priority) if event.priority != 5 else None,
            "Failed attempts": str(event.retry_count) if event.retry_count else None,
            "Correlation": event.correlation_id,
            "Agent": event.agent_id,
            "Session": event.session_id,
        }
    )


def _executions_table(runs: list[Execution]) -> None:
    from hook_event_processor.cli.output import local_time, milliseconds, success, table

    rows = [
        (
            run.hook_name,
            success(run.success),
            milliseconds(run.duration_ms),
            local_time(run.executed_at),
            str(run.attempt),
            run.result,
        )
        for run in runs
    ]
    headers = ("Hook Name", "Status", "Duration", "Executed At", "Attempt", "Result")
    table(headers, rows, right=("Duration", "Attempt"), wrapped=("Hook Name",), title="Hook Executions")


def _readable(text: str) -> str:
    """JSON with its structure on lines; as it is where Python cannot hold it, and cut where it is long."""
    from hook_event_processor.cli.event_lines import finite

    try:
        indented = json.dumps(json.loads(text, parse_float=finite), indent=2, ensure_ascii=False)
    except (RecursionError, ValueError):
        indented = text
    if len(indented) > _LONGEST_TEXT:
        return f"{text[:_LONGEST_TEXT]}\n... ({len(text):,} characters; 'hep events get' prints all)"
    return indented
