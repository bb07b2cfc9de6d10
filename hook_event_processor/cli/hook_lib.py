"""`hep hook lib`: Lua code that hooks share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command, add_format, add_group
from hook_event_processor.cli.spans import count
from hook_event_processor.errors import HookRefused

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.cli.hook_file import LuaFile
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hook_changes import Change
    from hook_event_processor.store.hooks import KnownHook
    from hook_event_processor.store.libraries import Library

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
    command.add_argument("file", metavar="FILE", help="the Lua file; - reads standard input")
    command.add_argument("--name", help="the library's name, without lib. (default: the file name)")
    add_format(command)
    add_format(add_command(group, "list", list_libraries, "list all libraries", "hep hook lib list"))
    command = add_command(group, "show", show, "show a library with its text", "hep hook lib show slack --version 1")
    _add_name(command)
    command.add_argument("--version", type=count, metavar="N", help="an older text (default: the newest)")
    add_format(command)
    command = add_command(group, "versions", versions, "list the versions of a library", "hep hook lib versions slack")
    _add_name(command)
    add_format(command)
    command = add_command(group, "remove", remove, "remove a library with its versions", "hep hook lib remove slack")
    _add_name(command)
    command.add_argument("--force", action="store_true", help="also while hooks name it; their runs then fail")
    add_format(command)


def _add_name(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="the library's name, without lib.")


def add(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.hook_file import read_file
    from hook_event_processor.cli.output import document, line
    from hook_event_processor.store import hook_changes, hooks, libraries

    file = read_file(arguments.file)
    name = checked_name(arguments.name or file.stem)
    with session(settings) as connection, connection.transaction():
        hook_changes.lock(connection)
        change, refreshed = add_library(connection, name, file, settings)
        library = libraries.get(connection, name)
        users = hooks.using(connection, name)
    if arguments.format == "json":
        document({**library_document(library, users), "change": change, "refreshed": [hook.name for hook in refreshed]})
        return 0
    line(f"{change}: library {name}, version {library.version}{_modules_text(library)}")
    line(f'Hooks use it with require("lib.{name}").' if not users else f"used by {_names(users)}")
    for hook in refreshed:
        line(f"hook {hook.name} runs with it as version {hook.version}")
    return 0


def add_library(
    connection: Connection, name: str, file: LuaFile, settings: Settings, source: str | None = None
) -> tuple[Change, list[KnownHook]]:
    """Check and store a library, and let the hooks that name it run with it; returns those that changed.

    Within a transaction that holds the lock on hooks. Raises HookRefused.
    """
    from hook_event_processor.cli.hook_refresh import refresh_users
    from hook_event_processor.lua.loader import check_library
    from hook_event_processor.store import libraries

    others = {library.name: library.source_text for library in libraries.known(connection).values()}
    check_library(name, file.text, file.path, others)
    change = libraries.add(connection, name, file.text, file.path, source)
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


def list_libraries(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, line, local_time, table
    from hook_event_processor.store import hooks, libraries

    with session(settings) as connection:
        there = list(libraries.known(connection).values())
        users = {library.name: hooks.using(connection, library.name) for library in there}
    if arguments.format == "json":
        document([library_document(library, users[library.name]) for library in there])
    elif not there:
        line("No libraries.")
    else:
        rows = [
            (
                library.name,
                str(library.version),
                ", ".join(_modules(library)) or "-",
                _names(users[library.name]) or "-",
                local_time(library.updated_at),
                library.file_path,
            )
            for library in there
        ]
        headers = ("Name", "Version", "Modules", "Used By", "Updated", "File")
        table(headers, rows, right=("Version",), wrapped=("Modules", "Used By", "File"))
        line("1 library" if len(there) == 1 else f"{len(there):,} libraries")
    return 0


def show(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import block, document, fields, local_time
    from hook_event_processor.store import hooks, libraries

    with session(settings) as connection:
        library = libraries.get(connection, arguments.name)
        users = hooks.using(connection, library.name)
        number = arguments.version or library.version
        text = libraries.text_of(connection, library.name, number)
    if arguments.format == "json":
        document({**library_document(library, users), "shown_version": number, "source_text": text})
        return 0
    fields(
        {
            "Library": library.name,
            "Required As": f"lib.{library.name}",
            "Version": str(library.version),
            "Modules": ", ".join(_modules(library)) or None,
            "Used By": _names(users) or "no hook",
            "File": library.file_path or None,
            "Applied From": library.source,
            "Created": local_time(library.created_at),
            "Updated": local_time(library.updated_at),
        }
    )
    block(f"Version {number}:", text)
    return 0


def versions(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, iso_time, local_time, table
    from hook_event_processor.store import libraries

    with session(settings) as connection:
        library = libraries.get(connection, arguments.name)
        texts = libraries.versions(connection, library.id)
    if arguments.format == "json":
        document(
            [
                {
                    "version": t.version,
                    "sha256": t.sha256,
                    "file_path": t.file_path,
                    "created_at": iso_time(t.created_at),
                }
                for t in texts
            ]
        )
        return 0
    rows = [
        (
            f"{text.version}{' (newest)' * (text.version == library.version)}",
            local_time(text.created_at),
            text.sha256[:12],
            text.file_path or "-",
        )
        for text in texts
    ]
    table(("Version", "Added", "SHA-256", "File"), rows, wrapped=("File",))
    return 0


def remove(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import hook_changes, libraries

    with session(settings) as connection, connection.transaction():
        hook_changes.lock(connection)
        libraries.get(connection, arguments.name)
        if not arguments.force:
            refuse_in_use(connection, arguments.name)
        libraries.remove(connection, arguments.name)
    result(arguments.format, f"removed: library {arguments.name}", {"removed": arguments.name})
    return 0


def refuse_in_use(connection: Connection, name: str, leaving: Collection[str] = ()) -> None:
    """Raise HookRefused when a hook, or another library that is not leaving with it, names this library."""
    from hook_event_processor.lua.names import libraries_in
    from hook_event_processor.store import hooks, libraries

    known = libraries.known(connection)
    users = [f"the hook {hook.name}" for hook in hooks.using(connection, name)]
    users += [
        f"lib.{other}" for other in known if other not in leaving and name in libraries_in(known[other].source_text)
    ]
    if users:
        raise HookRefused(f"the library {name!r} is named by {', '.join(users)}: --force removes it all the same")


def library_document(library: Library, users: list[KnownHook]) -> dict[str, Any]:
    """A library for JSON, without its text."""
    from hook_event_processor.cli.output import iso_time

    return {
        "name": library.name,
        "version": library.version,
        "sha256": library.sha256,
        "modules": _modules(library),
        "used_by": [hook.name for hook in users],
        "file_path": library.file_path,
        "source": library.source,
        "created_at": iso_time(library.created_at),
        "updated_at": iso_time(library.updated_at),
    }


def _modules(library: Library) -> list[str]:
    from hook_event_processor.lua.names import names_in

    return list(names_in(library.source_text)[0])


def _modules_text(library: Library) -> str:
    modules = _modules(library)
    return f"; modules: {', '.join(modules)}" if modules else ""


def _names(users: list[KnownHook]) -> str:
    return ", ".join(hook.name for hook in users)
