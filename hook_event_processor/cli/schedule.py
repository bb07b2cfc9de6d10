"""`hep schedule`: events at times, by cron expressions or every so often."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.audit import add_reason
from hook_event_processor.cli.names import some_name
from hook_event_processor.cli.parser import add_command, add_format, add_group
from hook_event_processor.cli.spans import duration, priority
from hook_event_processor.errors import EventRefused, ScheduleRefused, UsageError

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.schedules import NewSchedule, Schedule
    from hook_event_processor.timing import Timing

_SHOWN_TIMES = 5


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    group = add_group(commands, "schedule", "publish events at times, as cron starts programs")
    _add_set(group)
    command = add_command(
        group, "list", list_schedules, "list the schedules, and when they fire next", "hep schedule list"
    )
    add_format(command)
    for name, run, summary, changes in (
        ("show", show, "show a schedule, and the times that come", False),
        ("enable", enable, "let a schedule fire again, from its next time on", True),
        ("disable", disable, "keep a schedule, but do not fire it", True),
        ("remove", remove, "remove a schedule; its events stay", True),
        ("run", run_now, "publish a schedule's event now, beside its times", True),
    ):
        command = add_command(group, name, run, summary, f"hep schedule {name} nightly")
        command.add_argument("name", metavar="NAME", help="the schedule's name")
        if changes:
            add_reason(command)
        add_format(command)


def _add_set(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "set",
        set_schedule,
        "make a schedule, or change it",
        "hep schedule set nightly backup.due '{\"keep\": 7}' --cron '30 4 * * *' --timezone Europe/Berlin",
        "At its times a processor, whichever comes first, publishes an event of the type TYPE, once. Its payload is\n"
        "JSON with the fields of schedule.triggered: schedule_name, schedule_id, expected_time and so on.\n"
        "--cron takes five fields (minute, hour, day of month, month, day of week) or @hourly, @daily, @weekly,"
        " @monthly, @yearly. When clocks are changed, an expression with a fixed minute and hour fires once, as"
        " Debian's cron has it; others fire by the hours as they pass.\n"
        "--every 15m fires at 00:00, 00:15 and so on: at multiples of it since 1970, in UTC.\n"
        "No processor was there for more than a minute: schedule.missed tells of it, and the schedule fires once for\n"
        "all times that it missed, or not at all with --if-missed skip.\n"
        "Of a schedule that is there, what is not given stays as it is.",
    )
    command.add_argument("name", metavar="NAME", help="the schedule's name")
    command.add_argument("type", nargs="?", metavar="TYPE", help="type of its events (default schedule.triggered)")
    command.add_argument("json", nargs="?", metavar="JSON", help="their payload, a JSON object; - reads standard input")
    times = command.add_mutually_exclusive_group()
    times.add_argument("--cron", metavar="EXPRESSION", help="such as '30 4 * * 1-5' or @daily")
    times.add_argument("--every", type=duration, metavar="DURATION", help="30s, 15m, 2h, 7d")
    command.add_argument(
        "--timezone", type=some_name, metavar="ZONE", help="that --cron is read in: UTC (default), Europe/Berlin, ..."
    )
    command.add_argument("--stack", type=some_name, help="stack of its events")
    command.add_argument("--priority", type=priority, metavar="N", help="1 (first) to 10 (last), default 5")
    command.add_argument(
        "--if-missed", choices=("run", "skip"), help="run (default): one event for all that was missed; skip: none"
    )
    add_reason(command)
    add_format(command)


def set_schedule(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.cli.type_note import note_unknown
    from hook_event_processor.event import join_type, split_type
    from hook_event_processor.store import audit, schedule_changes, schedules

    with session(settings) as connection:
        wanted = _wanted(arguments, schedules.find(connection, arguments.name))
        with audit.because(connection, arguments.reason):
            done, schedule = schedule_changes.put(connection, wanted, settings.max_payload_size)
        note_unknown(connection, [join_type(*split_type(schedule.event_type))])
    text = f"{done}: schedule {schedule.name}, {schedule.when}, {schedule.event_type}; next {_next(schedule)}"
    result(arguments.format, text, {"done": done, **_document(schedule)})
    return 0


def _wanted(arguments: argparse.Namespace, before: Schedule | None) -> NewSchedule:
    """What the schedule is to be: what is given, then what is, then the defaults. Raises UsageError."""
    from hook_event_processor.cli.event_lines import json_object
    from hook_event_processor.store.schedules import NewSchedule

    given: dict[str, Any] = {
        "event_type": arguments.type,
        "stack": arguments.stack,
        "priority": arguments.priority,
        "if_missed": arguments.if_missed,
    }
    if before is not None:
        given = {name: getattr(before, name) if value is None else value for name, value in given.items()}
        given["payload"] = before.payload
        if before.payload is None and arguments.json is None:
            raise UsageError(f"the payload of the schedule {before.name} cannot be published: give it another")
    try:
        if arguments.json is not None:
            text = sys.stdin.buffer.read() if arguments.json == "-" else arguments.json
            given["payload"] = json_object("the payload", text)
        fields = {name: value for name, value in given.items() if value is not None}
        return NewSchedule(arguments.name, _timing(arguments, before), **fields)
    except (EventRefused, ScheduleRefused) as refusal:
        raise UsageError(str(refusal)) from None


def _timing(arguments: argparse.Namespace, before: Schedule | None) -> Timing:
    """Raises UsageError or ScheduleRefused."""
    from hook_event_processor.timing import Timing

    every = arguments.every.total_seconds() if arguments.every is not None else None
    cron, timezone = arguments.cron, arguments.timezone
    if before is not None and cron is None and every is None:
        cron, every = before.cron, before.every_seconds
    if every is not None:
        if timezone is not None:
            raise UsageError("--timezone goes with --cron: --every counts in UTC")
        return Timing(every=every)
    if cron is None:
        raise UsageError(f"there is no schedule {arguments.name!r} yet: say with --cron or --every when it fires")
    return Timing(cron=cron, timezone=timezone or (before.timezone if before is not None else "UTC"))


def list_schedules(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, line, local_time, table
    from hook_event_processor.store import schedules

    with session(settings) as connection:
        known = schedules.known(connection)
    if arguments.format == "json":
        document([_document(schedule) for schedule in known])
    elif not known:
        line("No schedules.")
    else:
        rows = [(one.name, one.when, one.event_type, _next(one), local_time(one.last_at), _state(one)) for one in known]
        table(("Name", "When", "Type", "Next", "Last", "State"), rows, wrapped=("Name", "When", "Type"))
        line(counted(len(known), "schedule"))
    return 0


def show(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import block, document, fields, local_time
    from hook_event_processor.store import schedules
    from hook_event_processor.store.times import server_time

    with session(settings) as connection:
        schedule = schedules.get(connection, arguments.name)
        times = schedule.times(server_time(connection), _SHOWN_TIMES)
    if arguments.format == "json":
        document({**_document(schedule), "next_times": [_iso(time) for time in times]})
        return 0
    fields(
        {
            "Name": schedule.name,
            "When": schedule.when,
            "Type": schedule.event_type,
            "Payload": _payload(schedule) if schedule.payload else None,
            "Stack": schedule.stack,
            "Priority": str(schedule.priority),
            "If missed": schedule.if_missed,
            "State": _state(schedule),
            "Error": schedule.error,
            "Created": local_time(schedule.created_at),
            "Changed": local_time(schedule.updated_at),
            "Last": local_time(schedule.last_at),
        }
    )
    if times:
        block("Next:", "\n".join(map(local_time, times)))
    return 0


def enable(arguments: argparse.Namespace, settings: Settings) -> int:
    return _set_enabled(arguments, settings, enabled=True)


def disable(arguments: argparse.Namespace, settings: Settings) -> int:
    return _set_enabled(arguments, settings, enabled=False)


def _set_enabled(arguments: argparse.Namespace, settings: Settings, *, enabled: bool) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import audit, schedule_changes

    with session(settings) as connection, audit.because(connection, arguments.reason):
        changed = schedule_changes.set_enabled(connection, arguments.name, enabled)
    word = "enabled" if enabled else "disabled"
    text = f"{word}: schedule {arguments.name}" if changed else f"unchanged: schedule {arguments.name} is {word}"
    result(arguments.format, text, {"schedule": arguments.name, "enabled": enabled, "changed": changed})
    return 0


def remove(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import audit, schedule_changes

    with session(settings) as connection, audit.because(connection, arguments.reason):
        schedule_changes.remove(connection, arguments.name)
    result(arguments.format, f"removed: schedule {arguments.name}", {"removed": arguments.name})
    return 0


def run_now(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import audit, schedule_changes
    from hook_event_processor.store.insert import Publisher

    with session(settings) as connection, audit.because(connection, arguments.reason):
        publisher = Publisher(connection, component="hep", max_payload_size=settings.max_payload_size)
        event_type, published = schedule_changes.run(connection, arguments.name, publisher)
    text = f"published: {event_type} {published.id}"
    result(arguments.format, text, {"schedule": arguments.name, "type": event_type, "id": published.id})
    return 0


def _state(schedule: Schedule) -> str:
    if not schedule.enabled:
        return "disabled"
    return "failing" if schedule.error else "enabled"


def _next(schedule: Schedule) -> str:
    from hook_event_processor.cli.output import local_time

    return local_time(schedule.next_at if schedule.enabled else None)


def _payload(schedule: Schedule) -> str | None:
    from hook_event_processor.store.stored_json import encoded

    return None if schedule.payload is None else encoded("payload", schedule.payload).decode()


def _iso(moment: Any) -> str | None:
    from hook_event_processor.cli.output import iso_time

    return iso_time(moment)


def _document(schedule: Schedule) -> dict[str, Any]:
    from hook_event_processor.cli.output import json_text

    payload = _payload(schedule)
    return {
        "name": schedule.name,
        "cron": schedule.cron,
        "every_seconds": schedule.every_seconds,
        "timezone": schedule.timezone if schedule.cron else None,
        "type": schedule.event_type,
        "payload": None if payload is None else json_text(payload),
        "stack": schedule.stack,
        "priority": schedule.priority,
        "if_missed": schedule.if_missed,
        "enabled": schedule.enabled,
        "error": schedule.error,
        "next_at": _iso(schedule.next_at),
        "last_at": _iso(schedule.last_at),
        "created_at": _iso(schedule.created_at),
        "updated_at": _iso(schedule.updated_at),
    }
