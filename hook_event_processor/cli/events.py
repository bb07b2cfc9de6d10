"""`hep events`: publish events, look at them, run them again, remove them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.emit import add_emit_command
from hook_event_processor.cli.emit_unit import add_emit_unit_command
from hook_event_processor.cli.event_explain import add_explain_command
from hook_event_processor.cli.event_reports import add_report_commands
from hook_event_processor.cli.parser import add_command, add_format, add_group
from hook_event_processor.cli.spans import duration
from hook_event_processor.cli.tail import add_tail_command
from hook_event_processor.errors import HookEventProcessorError, UsageError

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    group = add_group(commands, "events", "publish, list, retry and remove events")
    add_emit_command(group)
    add_emit_unit_command(group)
    add_report_commands(group)
    add_explain_command(group)
    add_tail_command(group)
    command = add_command(
        group,
        "retry",
        retry,
        "run failed events again",
        "hep events retry --failed",
        "Their count of attempts and their errors are cleared; the executions stay.\n"
        "Hooks that have succeeded for an event do not run again for it.",
    )
    command.add_argument("id", nargs="?", metavar="ID", help="the event's id, or the beginning of it")
    command.add_argument("--failed", action="store_true", help="all events that are failed")
    add_format(command)
    command = add_command(group, "delete", delete, "remove an event with its executions", "hep events delete 019b2c3d")
    command.add_argument("id", metavar="ID", help="the event's id, or the beginning of it")
    add_format(command)
    command = add_command(
        group,
        "cleanup",
        cleanup,
        "remove old events with their executions",
        "hep events cleanup --older-than 720h",
        "Removes what was completed so long ago, in small steps; what is not finished stays.",
    )
    command.add_argument(
        "--older-than", type=duration, metavar="DURATION", help="30s, 10m, 720h, 7d and so on (default: RETENTION)"
    )
    command.add_argument("--failed", action="store_true", help="remove failed events of that age, too")
    add_format(command)


def retry(arguments: argparse.Namespace, settings: Settings) -> int:
    if (arguments.id is None) == (not arguments.failed):
        raise UsageError("give either the id of an event or --failed (see 'hep events retry --help')")
    return _retry_failed(arguments, settings) if arguments.failed else _retry_one(arguments, settings)


def _retry_failed(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import counted, result
    from hook_event_processor.store import events

    with session(settings) as connection:
        count = sum(events.retry_failed(connection))
    result(arguments.format, f"{counted(count, 'failed event')} will run again", {"retried": count})
    return 0


def _retry_one(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import event_ids, events

    with session(settings) as connection:
        event_id = event_ids.resolve(connection, arguments.id)
        if not events.retry(connection, event_id):
            state = events.get(connection, event_id).state
            raise HookEventProcessorError(f"the event {event_id} is {state}: only failed events can be retried")
    result(arguments.format, f"event {event_id} will run again", {"retried": 1, "id": event_id})
    return 0


def delete(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import counted, result
    from hook_event_processor.store import event_ids, retention

    with session(settings) as connection:
        event_id = event_ids.resolve(connection, arguments.id)
        gone, runs = retention.delete(connection, event_id)
    if not gone:
        raise HookEventProcessorError(f"the event {event_id} is being processed: wait until that has ended")
    text = f"removed: event {event_id} and {counted(runs, 'execution')}"
    result(arguments.format, text, {"id": event_id, "events": 1, "executions": runs})
    return 0


def cleanup(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import counted, result
    from hook_event_processor.cli.progress import fraction_bar
    from hook_event_processor.store import retention

    age = arguments.older_than if arguments.older_than is not None else settings.retention
    if age is None:
        result(arguments.format, "nothing is removed: RETENTION is off", {"events": 0, "executions": 0})
        return 0
    with session(settings) as connection, fraction_bar("Removing") as report:
        events, runs = retention.clean_up(connection, age, failed=arguments.failed, report=report)
    text = f"removed: {counted(events, 'event')} and {counted(runs, 'execution')}"
    result(arguments.format, text, {"events": events, "executions": runs})
    return 0
