"""`hep watcher create`, `enable`, `disable` and `delete`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.settings import Settings
    from hook_event_processor.store.watchers import Watcher


def create(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, line, told
    from hook_event_processor.cli.watcher_options import conditions_of, definition_of, options_of
    from hook_event_processor.cli.watcher_reports import hint_of, silence, target_of, watcher_document
    from hook_event_processor.store import hosts, watchers
    from hook_event_processor.watchers import kinds

    definition = definition_of(arguments, "new")
    new = watchers.NewWatcher(
        arguments.host or settings.host,
        definition.type,
        conditions_of(arguments),
        options_of(arguments, kinds.kind(definition.type)),
        arguments.interval,
        definition.name,
        definition.stack,
        not arguments.disabled,
    )
    with session(settings) as connection:
        with connection.transaction():
            watcher = watchers.add(connection, new)
            _tell(connection, "created", watcher)
        known = {host.name: host for host in hosts.known(connection)}.get(watcher.host)
    created = f"created: {_called(watcher)}"
    with told(created):
        if arguments.format == "json":
            document(watcher_document(watcher))
            return 0
        when = " or ".join(definition.conditions)
        line(created)
        line(f"{watcher.type}, {target_of(watcher)}, when {when}, every {definition.interval:g}s")
        if watcher.host == settings.host and (hint := hint_of(definition)):
            line(hint)
        if not watcher.enabled:
            line(f"It is disabled: 'hep watcher enable {watcher.id}' lets it look.")
        elif trouble := silence(watcher.host, known):
            line(trouble)
    return 0


def enable(arguments: argparse.Namespace, settings: Settings) -> int:
    return _set_enabled(arguments, settings, enabled=True)


def disable(arguments: argparse.Namespace, settings: Settings) -> int:
    return _set_enabled(arguments, settings, enabled=False)


def _set_enabled(arguments: argparse.Namespace, settings: Settings, *, enabled: bool) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.cli.watcher_reports import found
    from hook_event_processor.store import watchers

    word = "enabled" if enabled else "disabled"
    with session(settings) as connection, connection.transaction():
        watcher = found(connection, arguments.id, arguments.host)
        changed = watchers.set_enabled(connection, watcher, enabled)
        if changed:
            _tell(connection, word, watcher)
    text = f"{word}: {_called(watcher)}" if changed else f"{_called(watcher)} is {word} already"
    result(
        arguments.format, text, {"watcher": watcher.id, "host": watcher.host, "enabled": enabled, "changed": changed}
    )
    return 0


def delete(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.cli.watcher_reports import found
    from hook_event_processor.store import watchers

    with session(settings) as connection, connection.transaction():
        watcher = found(connection, arguments.id, arguments.host)
        watchers.remove(connection, watcher)
        _tell(connection, "deleted", watcher)
    result(arguments.format, f"deleted: {_called(watcher)}", {"deleted": watcher.id, "host": watcher.host})
    return 0


def _called(watcher: Watcher) -> str:
    return f"{watcher.id}{f' {watcher.name}' if watcher.name else ''} on {watcher.host}"


def _tell(connection: Connection, change: str, watcher: Watcher) -> None:
    from hook_event_processor.store import own_events
    from hook_event_processor.store.own_events import OwnEvent

    payload = {
        "watcher_id": watcher.id,
        "watcher_type": watcher.type,
        "host": watcher.host,
        "name": watcher.name or None,
        f"{change}_by": own_events.actor(),
    }
    own_events.tell(connection, OwnEvent(f"watcher.{change}", payload, ("watcher", watcher.id), watcher.stack))
