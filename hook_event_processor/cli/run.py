"""`hep run`: the processor in the foreground."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        commands,
        "run",
        run,
        "run a processor in the foreground",
        "hep --log-level debug run",
        "SIGTERM and Ctrl-C let the runs that are under way end; a second one leaves at once. Exit status 78: a"
        " setting is wrong or the database's schema is another program's; systemd does not try that again."
        " SIGHUP takes over what changed in the settings and can (see 'hep reload').",
    )
    command.set_defaults(settings_fault_status=os.EX_CONFIG)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Returns the processor's exit status."""
    from hook_event_processor.cli.connect import service_database
    from hook_event_processor.cli.reload import reader
    from hook_event_processor.service import serve

    return serve(settings, service_database(settings), reread=reader(arguments))
