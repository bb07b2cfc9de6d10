"""`hep events tail`: events as they arrive."""

from __future__ import annotations

import argparse
import contextlib
import select
import sys
import time
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.event_filter import add_filter, read_filter, read_lasting_filter
from hook_event_processor.cli.event_reports import first_line, listed_document, resource
from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.cli.spans import count

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.settings import Settings
    from hook_event_processor.store.events import ListedEvent

_PAUSE_SECONDS = 0.5


def add_tail_command(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "tail",
        tail,
        "print events as they arrive, until Ctrl-C",
        "hep events tail --type 'task.*'",
        "JSON is one document a line.",
    )
    add_filter(command)
    command.add_argument("--limit", type=count, metavar="N", help="begin with the last N events (default: none)")
    add_format(command)


def tail(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.registry import parse_pattern
    from hook_event_processor.store.tail import Tail

    pattern = parse_pattern("*" if arguments.type is None else arguments.type)
    try:
        with session(settings) as connection:
            following = Tail(connection, read_lasting_filter(arguments))
            if arguments.limit:
                latest = following.latest(read_filter(arguments, connection), arguments.limit)
                _print(connection, latest, arguments.format)
            while True:
                arrived = following.read()
                matching = [event for event in arrived if pattern.matches(event.source, event.action)]
                _print(connection, matching, arguments.format)
                if not following.is_behind:
                    _pause()
    except KeyboardInterrupt:
        return 0


def _pause() -> None:
    """Wait a little. Raises BrokenPipeError when nobody reads any more, be there something to print or not."""
    output = select.poll()
    with contextlib.suppress(OSError, ValueError):  # a test's standard output has no descriptor
        output.register(sys.stdout.fileno(), select.POLLERR)
    if output.poll(0):
        raise BrokenPipeError
    time.sleep(_PAUSE_SECONDS)


def _print(connection: Connection, arrived: list[ListedEvent], form: str) -> None:
    from hook_event_processor.cli.output import document_line, flush, line, local_time
    from hook_event_processor.store.event_ids import short_ids

    if form == "json":
        for event in arrived:
            document_line(listed_document(event))
    elif arrived:
        short = short_ids(connection, [event.id for event in arrived])
        for event in arrived:
            words = (
                local_time(event.created_at),
                short[event.id],
                f"{event.state:10}",
                event.type,
                resource(event),
                first_line(event.error),
            )
            line(" ".join(filter(None, words)))
    flush()
