"""`hep events emit`: publish one event, or a file of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from hook_event_processor.cli.names import some_name
from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.cli.spans import duration, priority
from hook_event_processor.errors import EventRefused, HookEventProcessorError, UsageError

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from psycopg import Connection

    from hook_event_processor.event import NewEvent
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.insert import Publisher

_COMPONENT = "hep"
# So much is read before the transaction begins: a slow pipe must not hold one open.
_READ_AHEAD_EVENTS = 50_000
_READ_AHEAD_BYTES = 64 * 1024 * 1024
_OF_ONE_EVENT = ("resource", "resource_id", "stack", "priority", "delay", "id", "metadata", "json")


def add_emit_command(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "emit",
        emit,
        "publish an event, or a file of events",
        'hep events emit task.failed \'{"name": "deploy"}\' --stack production\n'
        "         hep events emit --jsonl events.jsonl",
        "A file holds one JSON object a line: type (or source and action), data (or payload),\n"
        "resource, resource_id, stack, priority, delay, occurred_at, id, metadata.\n"
        "It is published whole or not at all. An id that is there already changes nothing.\n"
        "A delay counts from when publishing begins.",
    )
    command.add_argument("type", nargs="?", metavar="TYPE", help="source.action, such as task.failed")
    command.add_argument("json", nargs="?", metavar="JSON", help="the payload, a JSON object; - reads standard input")
    command.add_argument("--jsonl", metavar="FILE", help="publish a file of events; - reads standard input")
    command.add_argument("--resource", type=some_name, help="kind of the thing that the event is about")
    command.add_argument("--resource-id", type=some_name, help="which thing it is about")
    command.add_argument("--stack", type=some_name, help="stack that it belongs to")
    command.add_argument("--priority", type=priority, metavar="N", help="1 (first) to 10 (last), default 5")
    command.add_argument("--delay", type=duration, metavar="DURATION", help="not to be processed before: 30s, 10m, 2h")
    command.add_argument("--id", type=_uuid, metavar="UUID", help="its id; publishing an id again changes nothing")
    command.add_argument("--metadata", metavar="JSON", help="its metadata, a JSON object")
    command.add_argument(
        "--strict",
        action="store_true",
        help="refuse types that 'hep catalog' does not have, and payloads it does not fit",
    )
    add_format(command)


def _uuid(text: str) -> UUID:
    from uuid import UUID

    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a UUID") from None


def emit(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.jsonl is not None:
        for name in ("type", *_OF_ONE_EVENT):
            if getattr(arguments, name) is not None:
                option = name.upper() if name in ("type", "json") else f"--{name.replace('_', '-')}"
                raise UsageError(f"--jsonl takes no {option}: each line of the file says it for its event")
        return _emit_file(arguments, settings)
    if arguments.type is None:
        raise UsageError("give the event's TYPE, or --jsonl FILE (see 'hep events emit --help')")
    return _emit_one(arguments, settings)


def _publisher(connection: Connection, settings: Settings, *, strict: bool) -> Publisher:
    from hook_event_processor.store.insert import Publisher

    return Publisher(connection, component=_COMPONENT, max_payload_size=settings.max_payload_size, strict=strict)


def _emit_one(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.event_lines import json_object
    from hook_event_processor.cli.output import result
    from hook_event_processor.cli.type_note import note_unknown
    from hook_event_processor.event import join_type

    try:
        payload = sys.stdin.buffer.read() if arguments.json == "-" else arguments.json
        fields: dict[str, Any] = {
            "type": arguments.type,
            "data": json_object("the payload", payload) if payload is not None else {},
            "metadata": json_object("--metadata", arguments.metadata) if arguments.metadata is not None else {},
        }
    except EventRefused as refusal:
        raise UsageError(str(refusal)) from None
    for name in ("resource", "resource_id", "stack", "priority", "delay", "id"):
        if getattr(arguments, name) is not None:
            fields[name] = getattr(arguments, name)
    with session(settings) as connection:
        event = _event(fields, connection)
        published = _publisher(connection, settings, strict=arguments.strict).publish_event(event)
        note_unknown(connection, [join_type(event.source, event.action)])
    text = (
        f"published: {arguments.type} {published.id}"
        if published.is_new
        else f"nothing published: the event {published.id} is there already"
    )
    result(arguments.format, text, {"id": published.id, "new": published.is_new})
    return 0


def _event(fields: dict[str, Any], connection: Connection) -> NewEvent:
    from hook_event_processor.cli.event_lines import new_event

    now = _server_time(connection) if "delay" in fields else None
    try:
        return new_event(fields, now)
    except EventRefused as refusal:
        raise UsageError(str(refusal)) from None


def _server_time(connection: Connection) -> datetime:
    """A delay is counted on the clock that processors compare it with."""
    from hook_event_processor.store.times import server_time

    return server_time(connection)


def _emit_file(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.cli.progress import reading_bar
    from hook_event_processor.cli.type_note import SeenTypes, note_unknown

    with ExitStack() as opened:
        stream = opened.enter_context(_open(arguments.jsonl))
        connection = opened.enter_context(session(settings))
        lines = opened.enter_context(reading_bar("Publishing", stream))
        reading = _Reading(partial(_server_time, connection))
        seen = SeenTypes()
        publisher = _publisher(connection, settings, strict=arguments.strict)
        try:
            count = publisher.publish_many(seen.watched(reading.events(lines)))
        except EventRefused as refusal:
            file = "standard input" if arguments.jsonl == "-" else arguments.jsonl
            raise EventRefused(f"{file}, line {reading.line}: {refusal}; nothing was published") from None
        note_unknown(connection, seen.types)
    known = reading.count - count
    text = f"published: {counted(count, 'event')}" + (f"; {known:,} were there already" if known else "")
    result(arguments.format, text, {"published": count, "known": known})
    return 0


def _open(file: str) -> IO[bytes]:
    if file == "-":
        return open(sys.stdin.fileno(), "rb", closefd=False)
    try:
        return open(file, "rb")
    except OSError as fault:
        raise HookEventProcessorError(f"{file} cannot be read: {fault.strerror}") from None


class _Reading:
    """Reads events line by line; `line` is the number of the one that was last given out, or refused."""

    def __init__(self, server_time: Callable[[], datetime]) -> None:
        self._server_time = server_time
        self._now = server_time()
        self.line = 0
        self.count = 0

    def events(self, lines: Iterator[bytes]) -> Iterator[NewEvent]:
        """Every event, the first of them read before the first is given out: delays count from then."""
        parsed = self._parsed(lines)
        ahead: list[tuple[int, NewEvent]] = []
        size = 0
        for number, event, length in parsed:
            ahead.append((number, event))
            size += length
            if len(ahead) >= _READ_AHEAD_EVENTS or size >= _READ_AHEAD_BYTES:
                break
        read_for = self._server_time() - self._now
        self._now += read_for
        for number, event in ahead:
            self.line = number
            yield replace(event, available_at=event.available_at + read_for) if event.available_at else event
        ahead.clear()
        for number, event, _ in parsed:
            self.line = number
            yield event

    def _parsed(self, lines: Iterator[bytes]) -> Iterator[tuple[int, NewEvent, int]]:
        """Number, event and size in bytes of each line that is not empty. Raises EventRefused."""
        from hook_event_processor.cli.event_lines import parse_line

        for number, text in enumerate(lines, 1):
            if text.isspace():
                continue
            try:
                event = parse_line(text, self._now)
            except EventRefused:
                self.line = number
                raise
            self.count += 1
            yield number, event, len(text)
