"""`hep reload`: hand the settings of this environment to the processor of the same unit."""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command
from hook_event_processor.errors import UsageError

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        commands,
        "reload",
        reload,
        "have the running processor take over changed settings (ExecReload= of the unit)",
        "systemctl reload hook-event-processor",
        "systemd runs it with the unit's environment files read anew. A wrong setting fails here, with exit status\n"
        "78, and changes nothing. LOG_LEVEL and what hooks may use (HOOK_EXEC, HOOK_HTTP_ALLOW, HOOK_HTTP_DENY,\n"
        "HOOK_FILE_ROOTS, HOOK_ENV, HOOK_SECRETS, HOOK_POLICY) are taken over; the log names what takes a restart.\n"
        "SIGHUP alone has the processor read its .env and HOOK_POLICY again; what was reloaded last stays.",
    )
    command.set_defaults(settings_fault_status=os.EX_CONFIG)


def reader(arguments: argparse.Namespace) -> Callable[[], Settings]:
    """What a service asks for its settings when it is to take them over; --log-level still wins."""
    from hook_event_processor.handover import Reader

    anew = Reader()

    def reread() -> Settings:
        read = anew.read()
        return dataclasses.replace(read, log_level=arguments.log_level) if arguments.log_level else read

    return reread


def reload(_: argparse.Namespace, __: Settings) -> int:
    """The settings have been read by now, so they are right."""
    from hook_event_processor.handover import hand_over

    process, directory = os.environ.get("MAINPID", ""), os.environ.get("RUNTIME_DIRECTORY")
    if not process.isdecimal() or not directory:
        raise UsageError("this is for systemd to run: use 'systemctl reload hook-event-processor'")
    hand_over(os.environ, Path(directory))
    os.kill(int(process), signal.SIGHUP)
    return 0
