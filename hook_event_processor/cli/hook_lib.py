"""`hep hook lib`: Lua code that hooks share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.hook_lib_reports import add_library_reports, add_name
from hook_event_processor.cli.names import some_name
from hook_event_processor.cli.parser import add_command, add_format, add_group
from hook_event_processor.errors import HookRefused

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.cli.hook_file import LuaFile
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hook_changes import Change
    from hook_event_processor.store.hooks import KnownHook

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")


def add_lib_commands(hook_group: argparse._SubParsersAction[Any]) -> None:
    group = add_group(hook_group, "lib", 'share Lua code between hooks: require("lib.NAME")')
    command = add_command(
        group,
        "add",
        add,
        "add a library from a Lua file, or replace the text of the one that has its name",
        "hep hook lib add slack.lua",
        'Hooks that name it with require("lib.NAME") get a new version each and run with the new text at once.',
    )
    command.add_argument("file", type=some_name, metavar="FILE", help="the Lua file; - reads standard input")
    command.add_argument("--name", type=some_name, help="the library's name, without lib. (default: the file name)")
    add_format(command)
    add_library_reports(group)
    command = add_command(group, "remove", remove, "remove a library with its versions", "hep hook lib remove slack")
    add_name(command)
    command.add_argument("--force", action="store_true", help="also while hooks name it; their runs then fail")
    add_format(command)


def add(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.hook_file import read_file
    from hook_event_processor.cli.hook_lib_reports import library_document, modules_text, names
    from hook_event_processor.cli.output import document, line, told
    from hook_event_processor.store import hook_changes, hooks, libraries

    file = read_file(arguments.file)
    name = checked_name(arguments.name or file.stem)
    with session(settings) as connection, connection.transaction():
        hook_changes.lock(connection)
        change, refreshed = add_library(connection, name, file, settings)
        library = libraries.get(connection, name)
        users = hooks.using(connection, name)
    text = f"{change}: library {name}, version {library.version}{modules_text(library)}"
    with told(text):
        if arguments.format == "json":
            said = {"change": change, "refreshed": [hook.name for hook in refreshed]}
            document({**library_document(library, users), **said})
            return 0
        line(text)
        line(f'Hooks use it with require("lib.{name}").' if not users else f"used by {names(users)}")
        for hook in refreshed:
            line(f"hook {hook.name} runs with it as version {hook.version}")
    return 0


def add_library(connection: Connection, name: str, file: LuaFile, settings: Settings) -> tuple[Change, list[KnownHook]]:
    """Check and store a library, and let the hooks that name it run with it; returns those that changed.

    Within a transaction that holds the lock on hooks. Raises HookRefused.
    """
    from hook_event_processor.cli.hook_refresh import refresh_users
    from hook_event_processor.lua.loader import check_library
    from hook_event_processor.store import libraries

    others = {library.name: library.source_text for library in libraries.known(connection).values()}
    check_library(name, file.text, file.path, others)
    change = libraries.add(connection, name, file.text, file.path)
    return change, refresh_users(connection, name, settings)


def checked_name(name: str) -> str:
    """The name, if a library can have it. Raises HookRefused."""
    if not name:
        raise HookRefused("the library has no name: give --name")
    if not _NAME.fullmatch(name):
        raise HookRefused(
            f"{name[:80]!r} is no name for a library: it takes letters, digits, _ and -, at most 100,"
            " and does not begin with a digit"
        )
    return name


def remove(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import hook_changes, libraries

    with session(settings) as connection, connection.transaction():
        hook_changes.lock(connection)
        libraries.get(connection, arguments.name)
        if not arguments.force:
            refuse_in_use(connection, arguments.name, "--force removes it all the same")
        libraries.remove(connection, arguments.name)
    result(arguments.format, f"removed: library {arguments.name}", {"removed": arguments.name})
    return 0


def refuse_in_use(connection: Connection, name: str, way_out: str, leaving: Collection[str] = ()) -> None:
    """Raise HookRefused when a hook, or another library that is not leaving with it, names this library.

    `way_out` says what to do then.
    """
    from hook_event_processor.lua.names import libraries_in
    from hook_event_processor.store import hooks, libraries

    known = libraries.known(connection)
    users = [f"the hook {hook.name}" for hook in hooks.using(connection, name)]
    users += [
        f"lib.{other}" for other in known if other not in leaving and name in libraries_in(known[other].source_text)
    ]
    if users:
        raise HookRefused(f"the library {name!r} is named by {', '.join(users)}: {way_out}")
