"""`hep watcher`: what hosts watch, and the daemon that watches."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.names import some_name
from hook_event_processor.cli.parser import add_command, add_format, add_group, suggest
from hook_event_processor.cli.watcher_changes import create, delete, disable, enable
from hook_event_processor.cli.watcher_options import add_definition, type_names, watcher_types
from hook_event_processor.cli.watcher_reports import get, list_watchers
from hook_event_processor.cli.watcher_trial import test

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    _add_group(add_group(commands, "watcher", "turn what happens on hosts into events"), "hep watcher")
    agent = add_group(commands, "agent", "hosts with watchers, as 'hep watcher' in other words")
    _add_group(add_group(agent, "watcher", "turn what happens on hosts into events"), "hep agent watcher")


def _add_group(group: argparse._SubParsersAction[Any], called: str) -> None:
    _add_create(group, called)
    _add_list(group, called)
    for name, run, summary in (
        ("get", get, "show a watcher with its options, and how it does"),
        ("enable", enable, "let a watcher look again"),
        ("disable", disable, "keep a watcher, but do not look"),
        ("delete", delete, "delete a watcher; its events stay"),
    ):
        command = add_command(group, name, run, summary, f"{called} {name} watcher-1759942165")
        command.add_argument("id", metavar="ID", help="the watcher's id, the beginning of one, or its name")
        command.add_argument(
            "host", nargs="?", type=some_name, metavar="HOST", help="its host, where names or ids do not tell"
        )
        if name == "delete":
            command.add_argument("-f", "--force", action="store_true", help="taken, and needless: nothing is asked")
        add_format(command)
    _add_test(group, called)
    _add_run(group, called)


def _add_create(group: argparse._SubParsersAction[Any], called: str) -> None:
    command = add_command(
        group,
        "create",
        create,
        "create a watcher; its host begins to look within a second",
        f"{called} create --type file --path /etc/hosts --when changed --check-hash --interval 10s",
    )
    command.add_argument(
        "host", nargs="?", type=some_name, metavar="HOST", help="the host that watches (default: this one)"
    )
    add_definition(command, required=True)
    command.add_argument("--stack", type=some_name, help="the stack of its events")
    command.add_argument("--disabled", action="store_true", help="keep it, but do not look yet")
    add_format(command)


def _add_list(group: argparse._SubParsersAction[Any], called: str) -> None:
    command = add_command(
        group, "list", list_watchers, "list the watchers of a host, or of all", f"{called} list web-1 --type file"
    )
    command.add_argument("host", nargs="?", type=some_name, metavar="HOST", help="the host (default: this one)")
    command.add_argument("--all", action="store_true", help="of every host")
    _add_types(command, "only watchers of these types, separated by commas")
    add_format(command)


def _add_test(group: argparse._SubParsersAction[Any], called: str) -> None:
    command = add_command(
        group,
        "test",
        test,
        "look once, here and now, and print what comes of it",
        f"{called} test --type port --port 8080 --interval 1s --wait",
        "Of a watcher that is stored, or of one that --type and its options make; that needs no database.\n"
        "No event is published. A first look only takes note of how things are: events tell what is\n"
        "different at later ones. --wait looks again after the interval, and prints the events.",
    )
    command.add_argument("id", nargs="?", metavar="ID", help="the watcher's id, the beginning of one, or its name")
    command.add_argument(
        "host", nargs="?", type=some_name, metavar="HOST", help="its host, where names or ids do not tell"
    )
    add_definition(command, required=False)
    command.add_argument(
        "--wait", action="store_true", help="look again after the interval, which --interval can change"
    )
    add_format(command)


def _add_run(group: argparse._SubParsersAction[Any], called: str) -> None:
    command = add_command(
        group,
        "run",
        run,
        "watch this host in the foreground",
        f"{called} run --type file,log",
        "One daemon a host and type watches; a second one waits until the first has ended. SIGTERM and Ctrl-C\n"
        "end it. Exit status 78: a setting is wrong, or the database's schema is another program's and\n"
        "there is no copy of the watchers to go on with.",
    )
    _add_types(command, "only these types, separated by commas (default: all)")
    command.set_defaults(settings_fault_status=os.EX_CONFIG)


def _add_types(command: argparse.ArgumentParser, text: str) -> None:
    types = command.add_argument("-t", "--type", action="extend", type=watcher_types, metavar="TYPE", help=text)
    suggest(types, type_names)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Returns the daemon's exit status."""
    from hook_event_processor.cli.beside import end_with_parent
    from hook_event_processor.cli.connect import service_database
    from hook_event_processor.cli.reload import reader
    from hook_event_processor.watchers.daemon.daemon import serve

    if not end_with_parent():
        return 0
    return serve(settings, service_database(settings), tuple(dict.fromkeys(arguments.type or ())), reader(arguments))
