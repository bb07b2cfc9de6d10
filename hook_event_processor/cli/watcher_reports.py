"""`hep watcher list` and `get`: watchers as they are stored, and how they do."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hook_event_processor.errors import Ambiguous, HookEventProcessorError, NotFound, UsageError

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hosts import KnownHost
    from hook_event_processor.store.watchers import Watcher
    from hook_event_processor.watchers.check import Definition

_WORD = "watcher-"  # every id begins with it
_LEAST_DIGITS = 10  # of an id: the second in which it was made


def list_watchers(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, line
    from hook_event_processor.store import hosts, watchers

    if arguments.all and arguments.host is not None:
        raise UsageError("give either HOST or --all, which is every host")
    host = None if arguments.all else arguments.host or settings.host
    with session(settings) as connection:
        every = watchers.known(connection)
        known_hosts = {known.name: known for known in hosts.known(connection)}
    types = tuple(dict.fromkeys(arguments.type or ()))
    wanted = [watcher for watcher in every if not types or watcher.type in types]
    shown = [watcher for watcher in wanted if host in (None, watcher.host)]
    if arguments.format == "json":
        document([watcher_document(watcher) for watcher in shown])
        return 0
    show_watchers(shown, short_ids(every), with_host=host is None)
    if not shown:
        _tell_none(host, types, len(wanted))
    for name in sorted({watcher.host for watcher in shown if watcher.enabled}):
        if trouble := silence(name, known_hosts.get(name)):
            line(trouble)
    return 0


def show_watchers(shown: Sequence[Watcher], ids: Mapping[str, str], *, with_host: bool) -> None:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.output import line, local_time, table

    if not shown:
        return
    with_name = any(watcher.name for watcher in shown)
    with_error = any(error_of(watcher) for watcher in shown)
    headers = (
        "ID",
        *("Host",) * with_host,
        *("Name",) * with_name,
        *("Type", "Path/Target", "When", "Interval", "Status", "Last Check", "Last Event"),
        *("Last Error",) * with_error,
    )
    rows = [
        (
            ids[watcher.id],
            *(watcher.host,) * with_host,
            *(watcher.name or "-",) * with_name,
            watcher.type,
            target_of(watcher),
            ", ".join(conditions_of(watcher)),
            interval_of(watcher),
            status_of(watcher),
            local_time(watcher.last_check),
            local_time(watcher.last_event),
            *(error_of(watcher) or "-",) * with_error,
        )
        for watcher in shown
    ]
    table(headers, rows, wrapped=("Path/Target", "When", "Name", "Last Error"), plain=("Path/Target", "When", "Name"))
    line(counted(len(shown), "watcher"))


def _tell_none(host: str | None, types: Sequence[str], others: int) -> None:
    """Why there is no table: which watchers there are none of, and how many such ones other hosts have."""
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.output import line

    of_types = f" of type {' or '.join(types)}" if types else ""
    option = f" --type {','.join(types)}" if types else ""
    command = f"hep watcher list --all{option}"
    elsewhere = f"; '{command}' shows {counted(others, 'watcher')} of other hosts" if others else ""
    line(f"No watchers{of_types}{f' on {host}' if host else ''}{elsewhere}.")


def silence(name: str, host: KnownHost | None) -> str | None:
    """Why nothing is watched on a host; None where its daemon is heard of."""
    from hook_event_processor.cli.output import age

    if host is None:
        return f"Nothing watches on {name} yet: 'hep up' starts the daemon where it runs, else 'hep watcher run' does."
    if host.status == "connected":
        return None
    return f"Nothing watches on {name}: its daemon was last heard of {age(host.age_seconds)} ago ({host.status})."


def get(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, fields, line, local_time
    from hook_event_processor.store import hosts

    with session(settings) as connection:
        watcher = found(connection, arguments.id, arguments.host)
        known_hosts = {known.name: known for known in hosts.known(connection)}
    if arguments.format == "json":
        document(watcher_document(watcher))
        return 0
    fields(
        {
            "ID": watcher.id,
            "Host": watcher.host,
            "Name": watcher.name or None,
            "Type": watcher.type,
            "Path/Target": target_of(watcher),
            "When": ", ".join(conditions_of(watcher)),
            "Events": ", ".join(event_types_of(watcher)) or None,
            "Options": _written(watcher) or None,
            "Interval": interval_of(watcher),
            "Stack": watcher.stack,
            "Status": status_of(watcher),
            "Created": local_time(watcher.created_at),
            "Last check": local_time(watcher.last_check),
            "Last event": local_time(watcher.last_event),
            "Last error": error_of(watcher),
        }
    )
    definition = _definition(watcher)
    if watcher.host == settings.host and not isinstance(definition, str) and (hint := hint_of(definition)):
        line(hint)
    if watcher.enabled and (trouble := silence(watcher.host, known_hosts.get(watcher.host))):
        line(trouble)
    return 0


def found(connection: Connection, first: str, second: str | None) -> Watcher:
    """The watcher that is meant by ID, by ID and HOST, or by HOST and ID. Raises NotFound or Ambiguous."""
    from hook_event_processor.store import watchers

    if second is None:
        return watchers.get(connection, first)
    meant = []
    for name, host in ((first, second), (second, first)):
        try:
            meant.append(watchers.get(connection, name, host))
        except NotFound:
            continue
    if len(meant) > 1:
        raise Ambiguous(f"{first!r} and {second!r} can be host and watcher either way: give the watcher's id alone")
    if not meant:
        raise _missing(connection, first, second)
    return meant[0]


def _missing(connection: Connection, first: str, second: str) -> HookEventProcessorError:
    """What to say of two words that name no watcher: the hosts and watchers that there are tell which is the host."""
    from hook_event_processor.store import hosts, watchers

    every = watchers.known(connection)
    there = {host.name for host in hosts.known(connection)} | {watcher.host for watcher in every}
    named = [word.startswith(_WORD) or any(word == watcher.name for watcher in every) for word in (first, second)]
    if all(named) and there.isdisjoint((first, second)):
        return UsageError(f"{first!r} and {second!r} are two watchers: name one at a time")
    host_first = (first in there, named[1]) > (second in there, named[0])
    name, host = (second, first) if host_first else (first, second)
    return NotFound(f"there is no watcher {name!r} on {host}: 'hep watcher list {host}' lists what there is")


def short_ids(every: Sequence[Watcher]) -> dict[str, str]:
    """The shortest beginning of each id that stands for no other one's."""
    ids = sorted(watcher.id for watcher in every)
    short = {}
    for before, identifier, after in zip(["", *ids], ids, [*ids[1:], ""], strict=False):
        least = max(_shared(identifier, before), _shared(identifier, after)) + 1
        short[identifier] = identifier[: max(least, len(_WORD) + _LEAST_DIGITS)]
    return short


def _shared(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return next((index for index, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(other))


def watcher_document(watcher: Watcher) -> dict[str, Any]:
    from hook_event_processor.cli.output import iso_time

    return {
        "id": watcher.id,
        "host": watcher.host,
        "name": watcher.name or None,
        "type": watcher.type,
        "target": target_of(watcher),
        "conditions": conditions_of(watcher),
        "event_types": event_types_of(watcher),
        "options": watcher.config.options,
        "interval_seconds": _interval(watcher),
        "stack": watcher.stack,
        "enabled": watcher.enabled,
        "status": status_of(watcher),
        "created_at": iso_time(watcher.created_at),
        "updated_at": iso_time(watcher.updated_at),
        "last_check": iso_time(watcher.last_check),
        "last_event": iso_time(watcher.last_event),
        "last_error": error_of(watcher),
    }


def target_of(watcher: Watcher) -> str:
    from hook_event_processor.watchers import kinds

    definition = _definition(watcher)
    if isinstance(definition, str):
        return ", ".join(f"{name}: {text}" for name, text in watcher.config.options.items()) or "-"
    return kinds.kind(watcher.type).target(definition) or "-"


def conditions_of(watcher: Watcher) -> list[str]:
    definition = _definition(watcher)
    return list(watcher.config.conditions if isinstance(definition, str) else definition.conditions)


def event_types_of(watcher: Watcher) -> list[str]:
    """The types of events that the watcher's conditions stand for."""
    from hook_event_processor.watchers import kinds

    definition = _definition(watcher)
    if isinstance(definition, str):
        return []
    return kinds.kind(watcher.type).event_types(definition)


def _written(watcher: Watcher) -> str:
    """The watcher's options as `hep watcher create` takes them."""
    from hook_event_processor.watchers import kinds

    flags = set()
    if watcher.type in kinds.NAMES:
        flags = {name for name, option in kinds.kind(watcher.type).options.items() if option.flag}
    written = []
    for name, text in watcher.config.options.items():
        option = f"--{name.replace('_', '-')}"
        written.append(option if name in flags and text == "true" else f"{option} {shlex.quote(text)}")
    return " ".join(written)


def hint_of(definition: Definition) -> str:
    """What whoever makes such a watcher of this host should know of how things are here; empty for nothing."""
    from hook_event_processor.watchers import kinds
    from hook_event_processor.watchers.check import CheckFailed

    try:
        return kinds.kind(definition.type).hint(definition)
    except CheckFailed:
        return ""  # the watcher itself tells of it


def interval_of(watcher: Watcher) -> str:
    seconds = _interval(watcher)
    return f"{seconds:g}s" if seconds is not None else "-"


def _interval(watcher: Watcher) -> float | None:
    definition = _definition(watcher)
    return watcher.config.interval if isinstance(definition, str) else definition.interval


def status_of(watcher: Watcher) -> str:
    if not watcher.enabled:
        return "disabled"
    return "failing" if error_of(watcher) else "active"


def error_of(watcher: Watcher) -> str | None:
    """Why it cannot look, or will never be able to."""
    definition = _definition(watcher)
    return definition if isinstance(definition, str) else watcher.last_error


def _definition(watcher: Watcher) -> Definition | str:
    """The definition, or why there is none."""
    from hook_event_processor.watchers import kinds
    from hook_event_processor.watchers.check import WatcherRefused

    try:
        return kinds.read_row(watcher)
    except WatcherRefused as fault:
        return str(fault)
