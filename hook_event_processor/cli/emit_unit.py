"""`hep events emit-unit`: an event about a systemd unit that has ended, for OnFailure= and OnSuccess=."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.cli.spans import count, duration
from hook_event_processor.errors import HookEventProcessorError, UsageError

if TYPE_CHECKING:
    from types import FrameType

    from hook_event_processor.event import NewEvent
    from hook_event_processor.settings import Settings

_COMPONENT = "hook-emit"
_LINES = 20
_MOST_LINES = 200
_LONGEST_PAUSE_SECONDS = 15.0


def add_emit_unit_command(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "emit-unit",
        emit_unit,
        "publish what became of a systemd unit (ExecStart= of hook-emit@.service)",
        "hep events emit-unit service.failed:backup.service",
        "A unit that is to be told of says so itself:\n"
        "    OnFailure=hook-emit@service.failed:%n.service\n"
        "The event's data has service, new_status, result, code, exit_status or signal, invocation_id, host, and\n"
        "lines, the last of its journal. While the database is away it tries again; in the end the event is left in\n"
        "the journal as an error, in the field EVENT, as a line for 'hep events emit --jsonl'.",
    )
    command.add_argument("what", metavar="TYPE:UNIT", help="the event's type, and the unit that it is about")
    command.add_argument(
        "--lines", type=count, default=_LINES, metavar="N", help=f"lines of the unit's journal (default {_LINES})"
    )
    command.add_argument(
        "--for",
        dest="patience",
        type=duration,
        default=timedelta(0),
        metavar="DURATION",
        help="how long to try while the database is away (default: once)",
    )
    add_format(command)
    command.set_defaults(without_settings=_keep)


def emit_unit(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.output import result
    from hook_event_processor.event import join_type

    event = _asked_for(arguments, settings.log_level)
    try:
        with _ended_by_sigterm():
            _publish(event, settings, arguments.patience)
    except Exception as fault:
        _leave_in_journal(event, fault)
        raise
    result(
        arguments.format,
        f"published: {join_type(event.source, event.action)} {event.id}",
        {"id": event.id, "new": True},
    )
    return 0


def _keep(arguments: argparse.Namespace, fault: HookEventProcessorError) -> None:
    """Nothing can be published with settings that are wrong; what happened is not lost over it."""
    _leave_in_journal(_asked_for(arguments, "INFO"), fault)


def _asked_for(arguments: argparse.Namespace, log_level: str) -> NewEvent:
    from hook_event_processor.telemetry import journal

    event_type, separator, unit = arguments.what.partition(":")
    if not separator or not event_type:
        raise UsageError(f"{arguments.what!r} is not TYPE:UNIT, such as service.failed:backup.service")
    if arguments.lines > _MOST_LINES:
        raise UsageError(f"--lines is {arguments.lines}: at most {_MOST_LINES} are taken")
    if journal.stderr_is_the_journal():
        journal.set_up(log_level, _COMPONENT)
    return _event(event_type, unit, arguments.lines)


def _event(event_type: str, unit: str, lines: int) -> NewEvent:
    from uuid import UUID

    from hook_event_processor.cli.unit_report import check_name, ending, last_lines
    from hook_event_processor.event import NewEvent, split_type
    from hook_event_processor.store.uuid7 import NewIds

    at = datetime.now(UTC)
    ended = ending(check_name(unit), os.environ)
    source, action = split_type(event_type)
    return NewEvent(
        source,
        action,
        {**ended.data(last_lines(ended, lines)), "host": os.uname().nodename},
        resource="service",
        resource_id=unit,
        occurred_at=at,
        id=UUID(next(NewIds())),  # one for all tries: it is published once
    )


def _publish(event: NewEvent, settings: Settings, patience: timedelta) -> None:
    """Publish it; try again while the database is away, or cannot take it. Raises HookEventProcessorError."""
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

    from hook_event_processor.cli.connect import database_fault, session
    from hook_event_processor.store.database import may_pass
    from hook_event_processor.store.insert import Publisher

    tries = Retrying(
        retry=retry_if_exception(may_pass),
        stop=stop_after_delay(patience),
        wait=wait_random_exponential(multiplier=0.5, min=0.2, max=_LONGEST_PAUSE_SECONDS),
        reraise=True,
    )

    def publish() -> None:
        with session(settings) as connection:
            Publisher(connection, component=_COMPONENT, max_payload_size=settings.max_payload_size).publish_event(event)

    try:
        tries(publish)
    except HookEventProcessorError:
        raise
    except Exception as fault:
        said = database_fault(fault)
        if said is None:
            raise
        raise said from None


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM, at the machine's shutdown say, ends the trying."""

    def end(_: int, __: FrameType | None) -> None:
        raise HookEventProcessorError("told to stop before the event could be published")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave_in_journal(event: NewEvent, fault: Exception) -> None:
    """Write the event where it can be published from later; its id is in it, so that this cannot happen twice."""
    import logging

    import orjson

    from hook_event_processor.event import join_type
    from hook_event_processor.telemetry import journal

    event_type = join_type(event.source, event.action)
    line = orjson.dumps(
        {
            "id": str(event.id),
            "type": event_type,
            "data": event.payload,
            "resource": event.resource,
            "resource_id": event.resource_id,
            "occurred_at": event.occurred_at,
        }
    ).decode()
    text = f"{event_type} about {event.resource_id} could not be published ({fault}): it is kept here, in EVENT"
    if journal.stderr_is_the_journal():
        fields = {"EVENT_ID": str(event.id), "SOURCE": event.source, "ACTION": event.action, "EVENT": line}
        logging.getLogger("EmitUnit").error("%s", text, extra={"journal": fields})
    else:
        from hook_event_processor.cli.output import note

        note(f"not published: {line}")
