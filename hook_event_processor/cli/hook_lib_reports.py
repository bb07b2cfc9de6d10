"""`hep hook lib list | show | versions`: which libraries there are, and who runs with them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.cli.spans import count

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hooks import KnownHook
    from hook_event_processor.store.libraries import Library


def add_library_reports(group: argparse._SubParsersAction[Any]) -> None:
    add_format(add_command(group, "list", list_libraries, "list all libraries", "hep hook lib list"))
    command = add_command(group, "show", show, "show a library with its text", "hep hook lib show slack --version 1")
    add_name(command)
    command.add_argument("--version", type=count, metavar="N", help="an older text (default: the newest)")
    add_format(command)
    command = add_command(group, "versions", versions, "list the versions of a library", "hep hook lib versions slack")
    add_name(command)
    add_format(command)


def add_name(command: argparse.ArgumentParser) -> None:
    """The name of a library as the argument of a command."""
    command.add_argument("name", metavar="NAME", help="the library's name, without lib.")


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
                names(users[library.name]) or "-",
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
            "Used By": names(users) or "no hook",
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


def modules_text(library: Library) -> str:
    """What a library requires, to stand behind its version."""
    modules = _modules(library)
    return f"; modules: {', '.join(modules)}" if modules else ""


def names(users: list[KnownHook]) -> str:
    """The hooks that run with a library."""
    return ", ".join(hook.name for hook in users)
