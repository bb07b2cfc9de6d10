"""Which events: the options that `hep events list`, `retry` and `tail` share."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hook_event_processor.cli.names import pattern
from hook_event_processor.cli.spans import since

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.store.events import Filter

_STATUSES = ("pending", "processing", "completed", "failed", "scheduled", "retrying", "paused")


def add_filter(command: argparse.ArgumentParser) -> None:
    command.add_argument("--type", type=pattern, metavar="PATTERN", help="event type, glob (task.*) or ~regex")
    command.add_argument("--source", help="first part of the type")
    command.add_argument("--stack", help="stack of the event")
    command.add_argument("--agent", help="agent_id of the event")
    command.add_argument("--session", help="session_id of the event")
    command.add_argument("--correlation", help="correlation_id of the event")


def add_state_filter(command: argparse.ArgumentParser) -> None:
    command.add_argument("--status", choices=_STATUSES, help="scheduled, retrying and paused are kinds of pending")
    add_since(command)


def add_since(command: argparse.ArgumentParser) -> None:
    command.add_argument("--since", type=since, metavar="WHEN", help="created since: 10m, 7d, or 2025-10-06T14:23:45Z")


def read_filter(arguments: argparse.Namespace, connection: Connection) -> Filter:
    """The filter that the options say, the kinds of events as they are now."""
    kinds = None if arguments.type is None else _kinds(arguments.type, connection)
    return dataclasses.replace(read_lasting_filter(arguments), kinds=kinds)


def read_lasting_filter(arguments: argparse.Namespace) -> Filter:
    """The filter that the options say but for --type, which kinds of events to come may match."""
    from hook_event_processor.store.events import Filter

    return Filter(
        source=arguments.source,
        status=getattr(arguments, "status", None),
        stack=arguments.stack,
        agent=arguments.agent,
        session=arguments.session,
        correlation=arguments.correlation,
        since=getattr(arguments, "since", None),
    )


def _kinds(text: str, connection: Connection) -> list[tuple[str, str]]:
    """The (source, action) pairs that a pattern matches, so that the database needs no patterns of its own."""
    from hook_event_processor.registry import is_literal, parse_pattern
    from hook_event_processor.store.events import kinds

    pattern = parse_pattern(text)
    candidates = _readings(text) if is_literal(text) else kinds(connection)
    return [kind for kind in candidates if pattern.matches(*kind)]


def _readings(text: str) -> Iterator[tuple[str, str]]:
    """Every way in which a literal type can lie in the two columns: a source may hold dots."""
    yield text, ""
    for position, character in enumerate(text):
        if character in "./":
            yield text[:position], text[position + 1 :]
