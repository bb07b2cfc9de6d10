"""`hep events`: publish events, look at them, run them again, remove them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.audit import add_reason
from hook_event_processor.cli.cleanup import add_cleanup_commands
from hook_event_processor.cli.emit import add_emit_command
from hook_event_processor.cli.emit_unit import add_emit_unit_command
from hook_event_processor.cli.event_explain import add_explain_command
from hook_event_processor.cli.event_reports import add_report_commands
from hook_event_processor.cli.event_retry import add_retry_command
from hook_event_processor.cli.parser import add_command, add_format, add_group
from hook_event_processor.cli.tail import add_tail_command
from hook_event_processor.errors import HookEventProcessorError

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    group = add_group(commands, "events", "publish, list, retry and remove events")
    add_emit_command(group)
    add_emit_unit_command(group)
    add_report_commands(group)
    add_explain_command(group)
    add_tail_command(group)
    add_retry_command(group)
    command = add_command(group, "delete", delete, "remove an event with its executions", "hep events delete 019b2c3d")
    command.add_argument("id", metavar="ID", help="the event's id, or the beginning of it")
    add_reason(command)
    add_format(command)
    add_cleanup_commands(group)


def delete(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import audit, event_ids, retention

    with session(settings) as connection, audit.because(connection, arguments.reason):
        event_id = event_ids.resolve(connection, arguments.id)
        gone, runs = retention.delete(connection, event_id)
    if not gone:
        raise HookEventProcessorError(f"the event {event_id} is being processed: wait until that has ended")
    text = f"removed: event {event_id} and {counted(runs, 'execution')}"
    result(arguments.format, text, {"id": event_id, "events": 1, "executions": runs})
    return 0
