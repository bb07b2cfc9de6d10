"""`hep pause` and `hep resume`: nothing is processed for a while, or nothing of a source, or by a hook."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.cli.spans import duration
from hook_event_processor.errors import NotFound, UsageError

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.settings import Settings
    from hook_event_processor.store.pauses import Pause

_MAX_NAME = 255


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        commands,
        "pause",
        pause,
        "keep events from being processed, for maintenance, or list what is paused",
        "hep pause --source deploy --for 30m --reason 'database move'",
        "--all: processors claim nothing. --source: its events wait. --hook: its part of events waits, while their"
        " other hooks run.\nRuns that are under way end. Nothing is lost and no attempt is counted. With --all"
        " events keep their places; what waited for a source or a hook goes on after 'hep resume' in its own order,"
        " beside new events, which may overtake it, and for a hook by that hook alone. Every processor knows it within"
        " a second, and after a restart.\nWhat is paused already keeps its reason and its end where no other is given."
        "\n\nWithout any of the three it lists what is paused.",
    )
    _add_scope(command)
    command.add_argument("--reason", metavar="TEXT", default="", help="why; 'hep status' and 'hep health' show it")
    command.add_argument(
        "--for", dest="lasts", type=duration, metavar="DURATION", help="30s, 10m, 7d: it ends by itself after that"
    )
    add_format(command)
    command = add_command(
        commands,
        "resume",
        resume,
        "end a pause: what waited is processed",
        "hep resume --source deploy",
        "--all ends the pause of everything; sources and hooks that are paused stay so.",
    )
    _add_scope(command)
    add_format(command)


def _add_scope(command: argparse.ArgumentParser) -> None:
    scope = command.add_mutually_exclusive_group()
    scope.add_argument("--all", action="store_true", help="everything")
    scope.add_argument("--source", metavar="SOURCE", help="events of this source, as the first part of a type")
    scope.add_argument("--hook", metavar="NAME", help="what this hook does, or this Python handler")


def _scope(arguments: argparse.Namespace) -> tuple[str, str] | None:
    """The scope and its name; None without one. Raises UsageError."""
    if arguments.all:
        return "all", ""
    for scope in ("source", "hook"):
        name = getattr(arguments, scope)
        if name is not None:
            if not 0 < len(name) <= _MAX_NAME or "\0" in name:
                raise UsageError(f"--{scope} takes a name of 1 to {_MAX_NAME} characters")
            return scope, name
    return None


def pause(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import note, result
    from hook_event_processor.store import audit, hooks, own_events, pauses

    scope = _scope(arguments)
    if scope is None and (arguments.reason or arguments.lasts is not None):
        raise UsageError("--reason and --for say how --all, --source or --hook is paused: name one of these")
    if arguments.lasts is not None and not arguments.lasts:
        raise UsageError("--for takes how long it is to last: 30s, 10m, 7d")
    if len(arguments.reason) > pauses.MAX_REASON:
        raise UsageError(f"--reason has {len(arguments.reason):,} characters: it takes {pauses.MAX_REASON}")
    with session(settings) as connection:
        if scope is None:
            _list(arguments.format, pauses.known(connection))
            return 0
        if scope[0] == "hook":
            hooks.get(connection, scope[1])
        with audit.because(connection, arguments.reason), connection.transaction():
            options = {"reason": arguments.reason, "paused_by": own_events.actor(), "lasts": arguments.lasts}
            made = pauses.pause(connection, *scope, **options)
    if scope[0] == "source" and (odd := _odd_source(scope[1])):
        note(f"note: {odd}")
    result(arguments.format, f"paused: {pause_line(made)}", pause_document(made))
    return 0


def _odd_source(name: str) -> str:
    """What to say of a source that was perhaps meant for a pattern, or for a whole type."""
    if any(character in name for character in "*?["):
        return f"--source takes no pattern: events wait whose source is {name} as it stands"
    source, dot, _ = name.partition(".")
    return (
        f"an event of the type {name} has the source {source}: 'hep pause --source {source}' pauses it" if dot else ""
    )


def _list(form: str, known: Sequence[Pause]) -> None:
    from hook_event_processor.cli.output import document, line, local_time, table

    if form == "json":
        document([pause_document(each) for each in known])
    elif not known:
        line("Nothing is paused.")
    else:
        headers = ("Paused", "Since", "By", "Until", "Events", "Reason")
        rows = [
            (each.subject, local_time(each.paused_at), each.paused_by, _until(each), _events(each), each.reason or "-")
            for each in known
        ]
        table(headers, rows, right=("Events",), wrapped=("Reason",))


def resume(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import pauses

    scope = _scope(arguments)
    if scope is None:
        raise UsageError("name what to resume: --all, --source SOURCE or --hook NAME; 'hep pause' lists what is paused")
    with session(settings) as connection:
        freed = _end(connection, *scope)
        left = pauses.known(connection)
    text = f"resumed: {pauses.subject(*scope)}"
    if freed:
        text += f"; {counted(freed, 'event')} let go"
    if left:
        text += f"; still paused: {', '.join(each.subject for each in left)}"
    document = {"scope": scope[0], "name": scope[1], "events": freed, "paused": [pause_document(each) for each in left]}
    result(arguments.format, text, document)
    return 0


def _end(connection: Connection, scope: str, name: str) -> int:
    """End a pause and let its events go; returns how many. Raises NotFound."""
    from hook_event_processor.store import pauses

    with connection.transaction():
        if not pauses.resume(connection, scope, name):
            missing = (
                "there is no pause of everything" if scope == "all" else f"{pauses.subject(scope, name)} is not paused"
            )
            raise NotFound(f"{missing}: 'hep pause' lists what is paused")
        # In one transaction: as far as these go, nothing that comes now is processed before them.
        freed = step = pauses.let_go(connection)
    while step:
        step = pauses.let_go(connection)
        freed += step
    return freed


def pause_line(paused: Pause) -> str:
    """A pause in a line."""
    from hook_event_processor.cli.output import local_time

    parts = [f"{paused.subject} since {local_time(paused.paused_at)} by {paused.paused_by}"]
    if paused.ends_at:
        parts.append(f"until {local_time(paused.ends_at)}")
    if paused.events:
        parts.append(f"{_events(paused)} event{'s' * (paused.events != 1)} wait{'s' * (paused.events == 1)}")
    if paused.reason:
        parts.append(paused.reason)
    return ", ".join(parts)


def _until(paused: Pause) -> str:
    from hook_event_processor.cli.output import local_time

    return local_time(paused.ends_at) if paused.ends_at else "resumed"


def _events(paused: Pause) -> str:
    from hook_event_processor.store.pauses import COUNT_LIMIT

    return f"{'at least ' if paused.events >= COUNT_LIMIT else ''}{paused.events:,}"


def pause_document(paused: Pause) -> dict[str, Any]:
    """A pause for JSON."""
    from hook_event_processor.cli.output import iso_time

    return {
        "scope": paused.scope,
        "name": paused.name,
        "reason": paused.reason,
        "paused_by": paused.paused_by,
        "paused_at": iso_time(paused.paused_at),
        "ends_at": iso_time(paused.ends_at),
        "events": paused.events,
    }
