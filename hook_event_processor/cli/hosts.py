"""`hep hosts`: the hosts whose daemons have registered."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command, add_format, subcommands

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hosts import KnownHost
    from hook_event_processor.store.watchers import Watcher

_LIST = "list"


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "hosts",
        help="list hosts with their watchers, and how they are",
        description="List hosts with their watchers, and how they are.\n\n'hep hosts' is short for 'hep hosts list'.\n"
        "A host registers when its watcher daemon starts, and is heard of every few seconds from then on.",
    )
    parser.default_command = _LIST
    group = subcommands(parser)
    command = add_command(group, _LIST, list_hosts, "list all hosts", "hep hosts")
    add_format(command)
    command = add_command(group, "show", show, "show a host with its watchers", "hep hosts show web-1")
    command.add_argument("name", metavar="NAME", help="the host's name")
    add_format(command)
    command = add_command(
        group,
        "forget",
        forget,
        "remove a host that is gone; its watchers stay",
        "hep hosts forget web-1",
        "A daemon that runs there registers it anew.",
    )
    command.add_argument("name", metavar="NAME", help="the host's name")
    add_format(command)


def list_hosts(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import age, document, line, table
    from hook_event_processor.store import hosts

    with session(settings) as connection:
        known = hosts.known(connection)
    if arguments.format == "json":
        document([_document(host) for host in known])
        return 0
    if not known:
        line("No hosts: one registers when its watcher daemon starts, by 'hep watcher run' or './ops/up'.")
        return 0
    rows = [
        (
            host.name,
            host.address or "-",
            host.version or "-",
            f"{age(host.age_seconds)} ago",
            host.status,
            _watchers(host),
            ", ".join(host.tags) or "-",
        )
        for host in known
    ]
    headers = ("Host", "Address", "Version", "Last Seen", "Status", "Watchers", "Tags")
    table(headers, rows, right=("Watchers",), wrapped=("Tags",))
    line(counted(len(known), "host"))
    return 0


def _watchers(host: KnownHost) -> str:
    disabled = host.watchers - host.enabled
    return f"{host.watchers}" + (f" ({disabled} disabled)" if disabled else "")


def show(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import age, document, fields, line, local_time
    from hook_event_processor.cli.watcher_reports import watcher_document
    from hook_event_processor.store import hosts, watchers

    with session(settings) as connection:
        host = hosts.get(connection, arguments.name)
        every = watchers.known(connection)
    of_host = [watcher for watcher in every if watcher.host == host.name]
    if arguments.format == "json":
        document({**_document(host), "watchers": [watcher_document(watcher) for watcher in of_host]})
        return 0
    fields(
        {
            "Host": host.name,
            "Address": host.address or None,
            "Tags": ", ".join(host.tags) or None,
            "Version": host.version or None,
            **{f"  {name}": str(value) for name, value in host.system_info.items()},
            "Status": host.status,
            "Registered": local_time(host.registered_at),
            "Last seen": f"{local_time(host.last_seen)}, {age(host.age_seconds)} ago",
            "Watchers": _watchers(host),
        }
    )
    if of_host:
        line()
        _show_watchers(of_host, every)
    return 0


def _show_watchers(of_host: list[Watcher], every: list[Watcher]) -> None:
    from hook_event_processor.cli.watcher_reports import short_ids, show_watchers

    show_watchers(of_host, short_ids(every), with_host=False)


def _document(host: KnownHost) -> dict[str, Any]:
    from hook_event_processor.cli.output import iso_time

    return {
        "name": host.name,
        "address": host.address,
        "tags": host.tags,
        "version": host.version,
        "system_info": host.system_info,
        "status": host.status,
        "registered_at": iso_time(host.registered_at),
        "last_seen": iso_time(host.last_seen),
        "age_seconds": round(host.age_seconds, 3),
        "watcher_count": host.watchers,
        "enabled_count": host.enabled,
    }


def forget(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import hosts

    with session(settings) as connection:
        hosts.remove(connection, arguments.name)
    result(arguments.format, f"forgotten: host {arguments.name}; its watchers are kept", {"forgotten": arguments.name})
    return 0
