"""`hep hook stubs`: let editors complete the library."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.names import some_name
from hook_event_processor.cli.parser import add_command, add_format

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings


def add_stubs_command(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "stubs",
        stubs,
        "write declarations of the library, so that editors complete it",
        "hep hook stubs hooks/",
        "For the Lua language server (LuaLS): writes DIR/.hep-stubs, anew each time, and DIR/.luarc.json,\n"
        "which names them; a .luarc.json that is there already is left alone. Write\n"
        "---@type hep.Hook above a hook's table to have its fields checked, too.",
    )
    command.add_argument(
        "directory", nargs="?", type=some_name, default=".", metavar="DIR", help="where the hooks are (default: here)"
    )
    add_format(command)


def stubs(arguments: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001 - every command is called so
    from hook_event_processor.cli.output import document, line
    from hook_event_processor.workshop.editor import DIRECTORY, SETTINGS, write_stubs

    directory = Path(arguments.directory)
    configured = write_stubs(directory)
    if arguments.format == "json":
        document({"stubs": str(directory / DIRECTORY), "configured": configured})
        return 0
    line(f"written: {directory / DIRECTORY}")
    if configured:
        line(f"{directory / SETTINGS} names them for the Lua language server")
    else:
        line(f'{directory / SETTINGS} is there already: add "{DIRECTORY}" to its "workspace.library"')
    return 0
